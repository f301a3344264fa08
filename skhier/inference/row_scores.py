"""Rows of fit left out, and densities of them, where a response has no sufficient statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier.inference.row_engines import internal_rows
from skhier.kernels.records import Population
from skhier.responses.base import Response
from skhier.statistics.records import Units
from skhier.statistics.rows import arrange_rows
from skhier.statistics.training import Training

__all__ = ["leave_rows_out"]

POINTS_AT_ONCE = 2**21  # of components x seats of rows


def leave_rows_out(
    response: Response,
    population: Population,
    units: Units,
    slopes: tuple[int, ...] | None,
    n_levels: int,
    training: Training,
    n_nodes: int,
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

    Returns
    -------
    without, within : array of shape (S, n_rows)
        Of rows in the order of ``training``, in units of y.
    """
    import jax

    from skhier.inference import runtime
    from skhier.kernels.rows.quadrature import rule_of

    x, codes, y, weights, offset = internal_rows(units, training, merge=False)
    codes = codes[:, 0] if codes.shape[1] else np.zeros(len(y), int)
    rows, seats = arrange_rows(x, codes, y, weights, offset, n_levels)
    varying = [] if slopes is None else [*slopes, x.shape[1] - 1]
    rule = rule_of(n_nodes, len(varying))
    size = max(1, POINTS_AT_ONCE // rows.y.size)
    parts = []
    with runtime.precisely_on(runtime.find_device(None)):
        for begin in range(0, len(population.coef), size):
            part = population.take(slice(begin, begin + size))
            found = _compiled()(part, rows, rule, response.kind, tuple(varying))
            parts.append([np.asarray(a).reshape(len(part.coef), -1) for a in jax.device_get(found)])
    constant = response.row_normaliser(training.y, training.weights) - np.log(units.y_scale)
    without, within = (np.concatenate([part[i] for part in parts])[:, seats] for i in range(2))
    return without + constant, within + constant


def _compiled() -> Any:
    from skhier.inference.row_target import without_rows

    return without_rows
