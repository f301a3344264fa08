"""What a problem and a prior make of each other: the static part of a model, and warnings."""

from __future__ import annotations

from skhier.kernels.records import FactorSpec, ModelSpec
from skhier.priors import PriorChoice
from skhier.statistics.problem import Problem

__all__ = ["model_spec"]


def model_spec(
    problem: Problem, choice: PriorChoice, correlated: bool, noncentered: bool
) -> ModelSpec:
    """The static part of the model."""
    return ModelSpec(
        n_features=len(problem.units.x_mean),
        factors=tuple(
            FactorSpec(varying, tuple(at for at, _ in blocks))
            for varying, blocks in zip(problem.slopes, choice.group_scale, strict=True)
        ),
        plan=problem.plan,
        correlated=correlated,
        noncentered=noncentered,
        intercept_at_mean=choice.intercept_at_mean,
        coef_blocks=tuple(at for at, _ in choice.coef),
    )
