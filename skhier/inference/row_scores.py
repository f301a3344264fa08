"""Rows of fit left out, and densities of them, where a response has no sufficient statistics."""

from __future__ import annotations

import numpy as np

from skhier.inference.row_engines import engine_rows
from skhier.kernels.records import Population
from skhier.responses.base import Response
from skhier.statistics.records import Units
from skhier.statistics.rows import arrange_rows
from skhier.utils.budget import USUAL, ScoreBudget
from skhier.utils.training import Training

__all__ = ["leave_rows_out"]


def leave_rows_out(
    response: Response,
    population: Population,
    units: Units,
    slopes: tuple[int, ...] | None,
    n_levels: int,
    training: Training,
    n_nodes: int,
    budget: ScoreBudget = USUAL.scores,
) -> tuple[np.ndarray, np.ndarray]:
    """Log density of each row without it, and with it, given each component.

    Parameters
    ----------
    response : Response
    population : Population
        Components, (S, ...).
    units : Units
    slopes : tuple of int or None
        Of the only factor; None without one.
    n_levels : int
    training : Training
    n_nodes : int
        Of the quadrature rule, a dimension.
    budget : ScoreBudget

    Returns
    -------
    without, within : array of shape (S, n_rows)
        Of rows in the order of ``training``, in units of y.
    """
    x, codes, y, weights, offset = engine_rows(units, training, merge=False)
    codes = codes[:, 0] if codes.shape[1] else np.zeros(len(y), int)
    varying = () if slopes is None else (*slopes, x.shape[1] - 1)
    blocks, seats = arrange_rows(x, codes, y, weights, offset, n_levels)
    pair = _over("without_rows", population, blocks, response, varying, n_nodes, budget)
    without, within = (part.reshape(len(part), -1)[:, seats] for part in pair)
    gone = weights if response.weights_are_trials else np.ones(len(y))
    which = _influential(within - without, codes, weights, n_levels, budget)
    if len(which):
        finer = max(n_nodes, budget.least_nodes)
        rest = _without_each(which, x, codes, y, weights, offset, gone)
        (whole,) = _over("level_densities", population, blocks, response, varying, finer, budget)
        (less,) = _over("level_densities", population, rest, response, varying, finer, budget)
        without[:, which] = whole[:, codes[which]] - less[:, : len(which)]
    constant = response.row_normaliser(training.y, training.weights) - np.log(units.y_scale)
    return without + constant, within + constant


def _over(function, population, rows, response, varying, n_nodes, budget) -> list[np.ndarray]:
    """A compiled function of every component, some at a time."""
    import jax

    from skhier.inference import row_target, runtime
    from skhier.kernels.rows.rules import product_rule

    compiled = getattr(row_target, function)
    rule = product_rule(n_nodes, len(varying), bool(varying) and not response.log_concave)
    size = max(1, budget.rows_of_components // rows.y.size)
    with runtime.precisely_on(runtime.find_device(None)):
        parts = [
            jax.device_get(
                compiled(population.take(slice(i, i + size)), rows, rule, response.kind, varying)
            )
            for i in range(0, len(population.coef), size)
        ]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _influential(fall, codes, weights, n_levels, budget) -> np.ndarray:
    """Rows whose density hangs on themselves, most of all first, as many as are quickly left out.

    The nodes that stand for a level's effects with such a row need not reach where they are without
    it, and ``1 / p`` of the row is largest there.
    """
    mean = np.where(weights >= 1, fall.mean(0), 0.0)
    order = np.argsort(-mean, kind="stable")
    order = order[mean[order] > budget.influential]
    n_rows = np.bincount(codes, minlength=n_levels)
    return order[np.cumsum(n_rows[codes[order]]) <= budget.anew * len(codes)]


def _without_each(which, x, codes, y, weights, offset, gone):
    """A level for each of these rows: the others of its own, and of it so much less as is gone."""
    by_level = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    members = [by_level[ends[c - 1] if c else 0 : ends[c]] for c in codes[which]]
    owner = np.repeat(np.arange(len(which)), [len(part) for part in members])
    taken = np.concatenate(members)
    left = weights[taken] - gone[taken] * (taken == which[owner])
    kept = left > 0
    taken, owner = taken[kept], owner[kept]
    return arrange_rows(x[taken], owner, y[taken], left[kept], offset[taken], len(which))[0]
