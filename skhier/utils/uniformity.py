"""Are ranks uniform: an exact simultaneous band for their distribution function, and a p-value.

If n ranks are uniform on ``0, ..., n_ranks - 1``, the number of them below k is binomial with
probability ``k / n_ranks``. The smallest two-sided tail probability that these counts have at any
k says how far a sample is from uniform; the band holds the samples for which it is not too small.

Sailynoja, Buerkner and Vehtari (2022), Stat. Comput. 32:32, sec. 2. Their recursion over the points
is here one of Poisson counts given their total, so that a step is a convolution.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.stats import binom, poisson

__all__ = ["counts_below", "pointwise_tails", "probability_inside", "rank_band", "rank_p_value"]

EXACT_FROM = 1e-8  # below it 1 - P(inside) is rounding
STEPS = 50


def counts_below(ranks: np.ndarray, n_ranks: int) -> np.ndarray:
    """How many ranks are below k, for ``k = 1, ..., n_ranks - 1``.

    Parameters
    ----------
    ranks : int array of shape (n,)
        ``0 <= ranks < n_ranks``. Not checked.
    n_ranks : int
    """
    return np.bincount(ranks, minlength=n_ranks)[:-1].cumsum()


def pointwise_tails(counts: np.ndarray, n: int) -> np.ndarray:
    """Two-sided tail probability of each count on its own, twice the smaller tail.

    Parameters
    ----------
    counts : int array of shape (..., n_ranks - 1)
        As :func:`counts_below` gives them.
    n : int
        Number of ranks.
    """
    share = _inner_shares(counts.shape[-1] + 1)
    return 2 * np.minimum(binom.cdf(counts, n, share), binom.sf(counts - 1, n, share))


def rank_p_value(ranks: np.ndarray, n_ranks: int) -> float:
    """Probability that uniform ranks have somewhere a tail as small as the smallest of these.

    Exact down to 1e-8; below, Bonferroni's bound.

    Parameters
    ----------
    ranks : int array of shape (n,)
        ``0 <= ranks < n_ranks``. Not checked.
    n_ranks : int
    """
    n = len(ranks)
    smallest = float(pointwise_tails(counts_below(ranks, n_ranks), n).min())
    bound = min(1.0, (n_ranks - 1) * smallest)
    if bound < EXACT_FROM:
        return bound
    return max(0.0, 1 - probability_inside(*_bounds(n, n_ranks, smallest * (1 + 1e-9)), n))


@lru_cache(maxsize=32)
def rank_band(n: int, n_ranks: int, coverage: float) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest counts that n uniform ranks keep to, everywhere at once.

    Parameters
    ----------
    n, n_ranks : int
    coverage : float in (0, 1)
        Probability to stay inside; counts are discrete, so it may be a little more.

    Returns
    -------
    low, high : int array of shape (n_ranks - 1,)
        Of :func:`counts_below`; both belong to the band. Do not modify.
    """
    wide, narrow = (1 - coverage) / n_ranks, 1 - coverage
    if probability_inside(*_bounds(n, n_ranks, narrow), n) >= coverage:
        wide = narrow
    for _ in range(STEPS):
        middle = np.sqrt(wide * narrow)
        if probability_inside(*_bounds(n, n_ranks, middle), n) >= coverage:
            wide = middle
        else:
            narrow = middle
    return _bounds(n, n_ranks, wide)


def probability_inside(low: np.ndarray, high: np.ndarray, n: int) -> float:
    """Probability that the counts of n uniform ranks stay within bounds, these included.

    Parameters
    ----------
    low, high : int array of shape (n_ranks - 1,)
        Neither may decrease.
    n : int
    """
    increments = poisson.pmf(np.arange(n + 1), n / (len(low) + 1))
    mass, start = np.ones(1), 0
    for first, last in zip([*low, n], [*high, n], strict=True):
        first = max(first, start)
        if last < first:
            return 0.0
        mass = np.convolve(mass, increments[: last - start + 1])
        mass, start = mass[first - start : last - start + 1], first
    return float(mass[0] / poisson.pmf(n, n))


def _bounds(n: int, n_ranks: int, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts whose two-sided tail probability is at least ``tail``."""
    low = binom.ppf(tail / 2, n, _inner_shares(n_ranks)).astype(int)
    return low, n - low[::-1]


def _inner_shares(n_ranks):
    return np.arange(1, n_ranks) / n_ranks
