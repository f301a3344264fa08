"""Quantiles of distributions of which the distribution functions are known, many at once."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

__all__ = ["reached"]

N_STEPS = 300  # so that it ends
ACCURATE = 1e-10  # of a continuous value, relative
FARTHEST = 8.0  # a normal score beyond which probabilities are 0 and 1
GROWTH = 4.0  # of the steps that look for a bracket
HALVED = 3  # every so many steps a bracket is halved, whatever the scores of its ends are


def reached(
    below: Callable[[np.ndarray, np.ndarray], np.ndarray],
    level: np.ndarray,
    start: np.ndarray,
    width: np.ndarray,
    discrete: bool,
    least: float = -np.inf,
) -> np.ndarray:
    """Where the distribution function of each row reaches its level, (k,).

    From a start brackets grow until they hold the place, and shrink by the false position on normal
    scores, in which distribution functions are nearly straight; the score of an end that stays is
    halved (the Illinois method: Dowell and Jarratt 1971, BIT 11).

    Parameters
    ----------
    below : callable
        Takes values (n,) and rows (n,) to the probabilities up to them.
    level : array of shape (k,)
        In (0, 1).
    start, width : array of shape (k,)
        About where that is, and how far off that may be, positive.
    discrete : bool
        Of whole numbers the smallest that reaches it.
    least : float
        No value is below or at it.
    """
    k, score = len(start), ndtri(level)
    out = np.empty(k)
    rows, at, width = np.arange(k), np.array(start, float), np.array(width, float)
    low, high = np.full(k, least), np.full(k, np.inf)
    at_low, at_high = np.full(k, -FARTHEST - score), np.full(k, FARTHEST - score)
    if discrete:
        at, width = np.maximum(np.floor(at), least + 1), np.maximum(np.ceil(width), 1.0)
    was_up = np.zeros(k, int)  # 1: the last place was a new lower end, -1: an upper one
    for step in range(N_STEPS):
        probability = below(at, rows)
        up = np.where(probability < level[rows], 1, -1)
        off = np.clip(ndtri(np.clip(probability, 0, 1)), -FARTHEST, FARTHEST) - score[rows]
        again = up == was_up
        low, at_low = np.where(up > 0, (at, off), (low, np.where(again, at_low / 2, at_low)))
        high, at_high = np.where(up > 0, (high, np.where(again, at_high / 2, at_high)), (at, off))
        room = _room(low, high, discrete)
        open_ = high - low > room
        out[rows[~open_]] = high[~open_]
        state = rows, low, high, at_low, at_high, up, width, room
        rows, low, high, at_low, at_high, was_up, width, room = (a[open_] for a in state)
        if not len(rows):
            break
        at = _next(low, high, at_low, at_high, least, step % HALVED == HALVED - 1)
        at = np.clip(at, low + room / 2, high - room / 2)
        at = np.where(low == least, np.fmax(high - width, at), at)
        at = np.where(high == np.inf, low + width, at)
        width = np.where((low == least) | (high == np.inf), GROWTH * width, width)
        if discrete:
            at = np.clip(np.round(at), low + 1, high - 1)
    out[rows] = high
    return out


def _room(low, high, discrete):
    """Brackets of this width are narrow enough, (n,)."""
    end = np.where(np.isfinite(high), np.abs(high), np.abs(low))
    end = np.where(np.isfinite(end), end, 0.0)
    # where neighbouring numbers are farther than 1 apart there are no others
    return np.maximum(1.0, 4 * np.finfo(float).eps * end) if discrete else ACCURATE * (1 + end)


def _next(low, high, at_low, at_high, least, halved):
    """False position, or the middle; no number where an end is missing.

    In a wide bracket of positive values the middle is the geometric one.
    """
    with np.errstate(invalid="ignore"):
        middle = low + 0.5 * (high - low)
        if np.isfinite(least):
            from_least = 1 + low - least, 1 + high - least
            middle = np.sqrt(from_least[0]) * np.sqrt(from_least[1]) + least - 1
        if halved:
            return middle
        at = low + (high - low) * at_low / (at_low - at_high)
    return np.where((at > low) & (at < high), at, middle)
