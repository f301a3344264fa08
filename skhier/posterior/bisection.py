"""Quantiles of what has a distribution function and no other formula, by bisection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skhier.responses.base import Response

__all__ = ["inverse"]

N_STEPS = 200  # of a bisection, so that it ends
LARGEST = 2.0**52  # counts above which the next one is no other number


def inverse(
    below: Callable[[np.ndarray], np.ndarray], level: float, mean: np.ndarray, response: Response
) -> np.ndarray:
    """Where a distribution function reaches a level, by bisection; (k,)."""
    k = mean.shape[1]
    low, high = np.full(k, -1.0), np.ones(k)
    if not response.discrete and response.link == "identity":
        low, high = mean.min(0) - 1.0, mean.max(0) + 1.0
        for _ in range(N_STEPS):
            out = below(low) > level
            if not out.any():
                break
            low = np.where(out, low - 2 * (high - low), low)
    for _ in range(N_STEPS):
        out = (below(high) < level) & (high < LARGEST)
        if not out.any():
            break
        low, high = np.where(out, high, low), np.where(out, 2 * high, high)
    for _ in range(N_STEPS):
        middle = np.floor((low + high) / 2) if response.discrete else (low + high) / 2
        up = below(middle) < level
        low, high = np.where(up, middle, low), np.where(up, high, middle)
        close = high - low <= (1.0 if response.discrete else 1e-10 * (1 + np.abs(high)))
        if close.all():
            break
    return high
