"""Weighted sums that are exact up to one final rounding.

So neither the order of the rows nor writing a row twice instead of giving it weight 2 changes a
single bit. A Markov chain would amplify such a bit into other draws. The device is the error-free
split of Rump, Ogita and Oishi (2008), SIAM J. Sci. Comput. 31(1), Algorithm 3.1: high parts on a
common grid add up without rounding.
"""

import numpy as np

from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.slices import slices

__all__ = ["exact_parts", "exact_sum", "sums_by_code"]


def exact_sum(values, weights, budget: DataBudget = USUAL.data) -> float:
    """``sum(weights * values)``; both of shape (n_samples,)."""
    return sum(part.sum() for part in exact_parts(values, weights, budget=budget))


def sums_by_code(codes, parts, n) -> np.ndarray:
    """Sums of rows of equal code, (n,), given the :func:`exact_parts` of all rows."""
    high, low = (np.bincount(codes, part, n) for part in parts)
    return high + low


def exact_parts(values, weights, out=None, budget: DataBudget = USUAL.data):
    """``weights * values`` as two arrays, each of which adds up without rounding in any order.

    Exact for integer weights. What is left out is below 2^-65 of the largest value for 10^6 rows.

    Parameters
    ----------
    values, weights : array of shape (n_samples,)
    out : array of shape (2, n_samples) or None
        Where they go; None: into an array of their own.
    budget : DataBudget

    Returns
    -------
    array of shape (2, n_samples)
    """
    out = np.empty((2, len(values))) if out is None else out
    size = max(values.max(initial=0.0), -values.min(initial=0.0))
    largest, bits = np.frexp(size)[1], int(np.frexp(weights.sum())[1]) + 1
    # adding and taking away rounds to multiples of 2^-52 of the next power of two
    anchors = np.ldexp(1.5, [largest + bits, largest + 2 * bits - 53])
    for rows in slices(len(values), budget.rows_summed):
        high, low = out[:, rows]
        np.add(values[rows], anchors[0], out=high)
        high -= anchors[0]
        np.subtract(values[rows], high, out=low)
        low += anchors[1]
        low -= anchors[1]
        high *= weights[rows]
        low *= weights[rows]
    return out
