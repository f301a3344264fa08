"""Flat priors of slopes that no row bounds: classes that features separate, counts of zero.

Along a direction d of the coefficients in which no row's density falls,

    x_i'd >= 0 where y_i is as high as it can be,  <= 0 where as low,  = 0 elsewhere,

the likelihood does not fall either, whatever the group effects, and a flat prior leaves the
posterior without an integral. Albert and Anderson (1984), Biometrika 71; Konis (2007), Linear
programming algorithms for detecting separated data, Oxford.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skhier.inference.checks import flat_priors
from skhier.priors import PriorChoice
from skhier.responses.base import Response
from skhier.statistics.records import Units
from skhier.utils.training import Training
from skhier.utils.words import listed

__all__ = ["forbid_separation"]

FEW_ROWS = 2000  # that are asked first: what separates no part of the rows separates not all
LEAST = 1e-7  # of a direction's largest entry, 1, along the rows: less is the solver's rounding


def forbid_separation(
    training: Training, units: Units, response: Response, choice: PriorChoice, names: Sequence[str]
) -> None:
    """Refuse flat priors of slopes along which no row's density falls.

    Parameters
    ----------
    training : Training
    units : Units
    response : Response
    choice : PriorChoice
    names : sequence of str
        Features, in column order.

    Raises
    ------
    ValueError
        The posterior is improper; with the columns.
    """
    flat, intercept_is_flat = flat_priors(choice)
    if not flat:
        return
    rows = training.take(training.weights > 0)
    side = response.open_side(rows.y)
    if not side.any():
        return
    origin = units.x_mean[flat] if choice.intercept_at_mean else 0.0
    x = (rows.x[:, flat] - origin) / units.x_scale[flat]
    if intercept_is_flat:
        x = np.column_stack([x, np.ones(len(x))])
    few = slice(None, None, max(len(x) // FEW_ROWS, 1))
    if _open_direction(x[few], side[few]) is None:
        return
    direction = _open_direction(x, side)
    if direction is None:
        return
    columns = np.flatnonzero(np.abs(direction[: len(flat)]) > LEAST)
    shown = listed(repr(names[flat[j]]) for j in columns)
    raise ValueError(
        f"the posterior is improper: the priors of slopes are flat, and {shown} of X, or a "
        "combination of them, separates rows of one class, or counts of 0, from all others, so "
        "that no slope is too large. Give slopes a proper prior, for example with prior='default'."
    )


def _open_direction(x, side) -> np.ndarray | None:
    """A direction (p,) in which no row's density falls and some rows' rise; None if there is none.

    ``x`` (n, p); ``side`` (n,) is 1, -1 or 0.
    """
    from scipy.optimize import linprog

    is_open = side != 0
    signed = side[is_open, None] * x[is_open]
    bounds = [(-1.0, 1.0)] * x.shape[1]
    equal = {} if is_open.all() else {"A_eq": x[~is_open], "b_eq": np.zeros((~is_open).sum())}
    found = linprog(-signed.sum(0), -signed, np.zeros(len(signed)), bounds=bounds, **equal)
    if found.x is None or (signed @ found.x).max() <= LEAST:
        return None
    return found.x
