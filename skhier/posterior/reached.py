"""Quantiles of a distribution of which its distribution function is known, by bisection."""

from collections.abc import Callable

import numpy as np

from skhier.responses.base import Response

__all__ = ["reached"]

MAX_HALVINGS = 200  # and doublings, so that it ends
LAST_COUNT = 2.0**52  # counts above which the next one is no other number


def reached(
    below: Callable[[np.ndarray], np.ndarray], level: float, mean: np.ndarray, response: Response
) -> np.ndarray:
    """Where the distribution function of each row reaches a level; (k,).

    Of a discrete response the smallest value that does.

    Parameters
    ----------
    below : callable
        Takes values (k,), one a row, to the probabilities up to them.
    level : float
        In (0, 1).
    mean : array of shape (n_components, k)
        Of each row's line.
    response : Response
    """
    k = mean.shape[1]
    low, high = np.full(k, -1.0), np.ones(k)
    has_negative = not response.discrete and response.link == "identity"
    if has_negative:
        low, high = mean.min(0) - 1.0, mean.max(0) + 1.0
        for _ in range(MAX_HALVINGS):
            out = below(low) > level
            if not out.any():
                break
            low = np.where(out, low - 2 * (high - low), low)
    for _ in range(MAX_HALVINGS):
        out = (below(high) < level) & (high < LAST_COUNT)
        if not out.any():
            break
        farther = high + 2 * (high - low) if has_negative else 2 * high
        low, high = np.where(out, high, low), np.where(out, farther, high)
    for _ in range(MAX_HALVINGS):
        middle = np.floor((low + high) / 2) if response.discrete else (low + high) / 2
        up = below(middle) < level
        low, high = np.where(up, middle, low), np.where(up, high, middle)
        close = high - low <= (1.0 if response.discrete else 1e-10 * (1 + np.abs(high)))
        if close.all():
            break
    return high
