"""Engines for responses without sufficient statistics: quadrature of one factor, or every effect.

Of one grouping factor, or none, the group effects are integrated out numerically
(:mod:`skhier.kernels.rows.quadrature`) and theta, which holds the coefficients and the response's
own parameters too, is sampled by importance or, where weights fail, by NUTS. Several factors are
sampled with all their effects by NUTS, and so is one factor whose integrals are not exact enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from skhier.inference.importance import steadied
from skhier.inference.options import EngineOptions
from skhier.inference.quadrature_engine import TooCoarse, modes_of, refine, sample_theta
from skhier.inference.results import EngineResult, with_finite_numbers
from skhier.inference.row_joint import run_joint_rows
from skhier.inference.row_theta import RowTheta
from skhier.inference.statement import numbers_of_model
from skhier.kernels.records import ModelSpec
from skhier.priors import PriorChoice
from skhier.statistics.problem import Problem
from skhier.statistics.records import Units
from skhier.statistics.rows import arrange_rows, merge_equal_rows
from skhier.utils.budget import USUAL, RowBudget
from skhier.utils.training import Training

__all__ = ["MOST_EFFECTS", "engine_rows", "integrates_effects", "run_rows"]

MOST_EFFECTS = 3  # of a level, whose product rule is small enough


def integrates_effects(n_slopes: Sequence[int]) -> bool:
    """Whether quadrature integrates the effects out: ``n_slopes`` of each factor vary."""
    return len(n_slopes) == 0 or (len(n_slopes) == 1 and n_slopes[0] < MOST_EFFECTS)


def run_rows(
    problem: Problem,
    training: Training | None,
    choice: PriorChoice,
    fixed: dict[str, float],
    spec: ModelSpec,
    options: EngineOptions,
    seed: int,
    inference: str,
) -> EngineResult:
    """Sample a model of rows.

    Parameters
    ----------
    problem : Problem
        In units in which the response can be stated.
    training : Training or None
        The rows, in the user's units; None: statistics are all there is, and an error.
    choice : PriorChoice
    fixed : dict of str to float
        Own parameters of the response that are known.
    spec : ModelSpec
    options : EngineOptions
    seed : int
    inference : {"auto", "marginal", "nuts"}

    Raises
    ------
    RuntimeError
        No such device, no valid starting point, or a draw or moment that is not finite.
    ValueError
        ``inference="marginal"`` of several factors, of levels that have their own noise, or of more
        effects than quadrature can bear; no rows.
    """
    from skhier.inference import runtime

    sampled = not integrates_effects([len(factor.slopes) for factor in spec.factors])
    if inference == "marginal" and spec.noise_by is not None:
        raise ValueError(
            "inference='marginal' integrates the levels' noises of a normal response with one "
            "grouping factor. Use inference='auto' or 'nuts', which samples them."
        )
    if inference == "marginal" and sampled:
        raise ValueError(
            f"inference='marginal' integrates effects of one factor, at most {MOST_EFFECTS} a "
            f"level, for response={spec.response.name!r}. Use inference='auto' or 'nuts', which "
            "samples them."
        )
    if training is None:
        raise ValueError(
            "noise_by with several grouping factors needs the rows, not their statistics alone: "
            "call fit with them."
        )
    device = runtime.find_device(options.device)
    rows = engine_rows(problem.units, training, budget=options.budget.rows)
    model = numbers_of_model(problem.units, choice, options.eta, fixed)
    result = None
    if inference != "nuts" and not sampled and spec.noise_by is None:
        only_if_exact = inference == "auto"

        def work(check):
            with runtime.precisely_on(device):
                how = options, device, seed, check, only_if_exact
                return _sample_theta(rows, problem, model, spec, *how)

        with suppress(TooCoarse):
            (result,) = runtime.run_side_by_side([work])
    if result is None:
        result = run_joint_rows(rows, problem, model, spec, options, device, seed)
    constant = spec.response.log_normaliser(training.y, training.weights)
    constant -= training.weights.sum() * np.log(problem.units.y_scale)
    return with_finite_numbers(
        result._replace(log_evidence=result.log_evidence + float(np.sum(constant)))
    )


def engine_rows(
    units: Units, training: Training, merge: bool = True, budget: RowBudget = USUAL.rows
) -> tuple[Any, ...]:
    """X with the constant last, codes, y, weights and offset in internal units.

    ``merge``: equal rows as one, and none without weight.
    """
    offset = np.zeros(len(training.y)) if training.side is None else training.side
    rows = training.x, training.codes, training.y, training.weights, offset
    if merge:
        rows = merge_equal_rows(*rows, budget)
    x, codes, y, weights, offset = rows
    x = np.column_stack([(x - units.x_mean) / units.x_scale, np.ones(len(x))])
    y = (y - units.y_mean) / units.y_scale
    return x, codes, y, weights, offset / units.y_scale


def _sample_theta(
    rows, problem, model, spec, options, device, seed, check, only_if_exact
) -> EngineResult:
    from skhier.inference import runtime

    rng = np.random.default_rng(seed)
    x, codes, y, weights, offset = rows
    codes = codes[:, 0] if codes.shape[1] else np.zeros(len(y), int)
    n_levels = len(problem.stats.factors[0].zy[0]) if spec.factors else 1
    how = options.budget.rows, runtime.is_cpu(device)
    blocks, _ = arrange_rows(x, codes, y, weights, offset, n_levels, *how)
    few = options.budget.quadrature
    n_nodes = _first_nodes(max(len(y), weights.sum() / few.repeated_rows) / n_levels, spec)
    theta = RowTheta(spec, blocks, n_levels, model, n_nodes, check, device, options.budget)
    modes = steadied(modes_of(theta, theta.starts(), rng))
    theta.follow(modes.normals()[0])
    gap = refine(theta, modes, few.most_nodes, seed)
    n_points, most = options.budget.engine.few_points, few.most_nodes
    context = problem, options, rng, seed
    return sample_theta(theta, modes, n_points, most, *context, gap, only_if_exact)


def _first_nodes(rows_of_a_level: float, spec) -> int:
    """Nodes a dimension to begin with: the more rows, the nearer to normal a level's effects."""
    if not spec.factors:
        return 1
    return 3 if rows_of_a_level >= 25 else 5 if rows_of_a_level >= 8 else 7
