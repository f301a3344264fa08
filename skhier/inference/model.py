"""What a problem and a prior make of each other: the static part of a model, and warnings."""

from __future__ import annotations

import numpy as np

from skhier.kernels.records import FactorSpec, ModelSpec
from skhier.priors import PriorChoice
from skhier.statistics.problem import Problem
from skhier.utils.design import Design

__all__ = ["model_spec", "origin_warnings"]

FAR = 3.0  # sds from the data to X = 0, beyond which a prior there says little of the data


def origin_warnings(design: Design, problem: Problem, choice: PriorChoice) -> list[str]:
    """Varying slopes that a prior at X = 0, far from the rows, ties to the varying intercept."""
    scales = problem.scales
    varies = np.diag(problem.stats.xx)[:-1] > 0
    far = varies & (np.abs(scales.x_mean) > FAR * scales.x_sd)
    columns = {
        j
        for factor, at_mean in zip(design.factors, choice.group_at_mean, strict=True)
        for j in factor.slopes
        if far[j] and not at_mean
    }
    if not columns:
        return []
    shown = [
        f"{design.feature_names[j]!r} (mean {scales.x_mean[j]:.6g}, sd {scales.x_sd[j]:.3g})"
        for j in sorted(columns)[:5]
    ]
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    return [
        "The prior of the group effects' scales speaks of the intercepts at X = 0, and X = 0 is "
        f"far from the data of {', '.join(shown)}{more}: a slope that varies moves the intercepts "
        "there by far more than the prior allows, so that it shrinks the slopes towards the "
        "population's. Centre these columns (subtract their mean), or use priors that sit at the "
        "mean of X: prior=None, or numbers in Prior(group_scale=...)."
    ]


def model_spec(
    problem: Problem, choice: PriorChoice, correlated: bool, noncentered: bool
) -> ModelSpec:
    """The static part of the model."""
    return ModelSpec(
        n_features=len(problem.units.x_mean),
        factors=tuple(
            FactorSpec(varying, tuple(at for at, _ in blocks), at_mean)
            for varying, blocks, at_mean in zip(
                problem.slopes, choice.group_scale, choice.group_at_mean, strict=True
            )
        ),
        plan=problem.plan,
        correlated=correlated,
        noncentered=noncentered,
        intercept_at_mean=choice.intercept_at_mean,
        coef_blocks=tuple(at for at, _ in choice.coef),
    )
