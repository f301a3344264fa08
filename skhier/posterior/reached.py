"""Quantiles of distributions of which the distribution functions are known, many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

__all__ = ["reached"]

MAX_FALSE_POSITIONS = 300  # so that it ends
ACCURATE_QUANTILE = 1e-10  # of a continuous value, relative
FARTHEST_SCORE = 8.0  # a normal score beyond which probabilities are 0 and 1
BRACKET_GROWTH = 4.0  # of the steps that look for a bracket
HALVED_EVERY = 3  # steps: then a bracket is halved, whatever the scores of its ends are


class _Brackets(NamedTuple):
    """Of n rows the ends, their normal scores less the wanted one, and a step that widens it.

    ``was_up``: 1 where the last place was a new lower end, -1 an upper one, 0 at the start.
    """

    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_low: np.ndarray
    at_high: np.ndarray
    was_up: np.ndarray
    width: np.ndarray

    def take(self, which) -> _Brackets:
        return _Brackets(*(a[which] for a in self))

    def shrunk(self, at, off, is_low) -> _Brackets:
        """With places ``at`` as ends, whose scores are ``off``.

        The score of an end that stays once more is halved: else it might stay for ever.
        """
        up = np.where(is_low, 1, -1)
        stays = np.where(up == self.was_up, 0.5, 1.0)
        return self._replace(
            low=np.where(is_low, at, self.low),
            at_low=np.where(is_low, off, stays * self.at_low),
            high=np.where(is_low, self.high, at),
            at_high=np.where(is_low, stays * self.at_high, off),
            was_up=up,
        )


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
    ends = np.full(k, least), np.full(k, np.inf), -FARTHEST_SCORE - score, FARTHEST_SCORE - score
    at, width = np.array(start, float), np.array(width, float)
    if discrete:
        at, width = np.maximum(np.floor(at), least + 1), np.maximum(np.ceil(width), 1.0)
    brackets = _Brackets(np.arange(k), *ends, np.zeros(k, int), width)
    out = np.empty(k)
    for step in range(MAX_FALSE_POSITIONS):
        rows = brackets.rows
        probability = below(at, rows)
        brackets = brackets.shrunk(at, _score(probability) - score[rows], probability < level[rows])
        room = _room(brackets, discrete)
        is_open = brackets.high - brackets.low > room
        out[rows] = brackets.high
        brackets = brackets.take(is_open)
        if not is_open.any():
            break
        halved = step % HALVED_EVERY == HALVED_EVERY - 1
        at, brackets = _next(brackets, room[is_open], discrete, least, halved)
    return out


def _score(probability):
    return np.clip(ndtri(np.clip(probability, 0, 1)), -FARTHEST_SCORE, FARTHEST_SCORE)


def _room(brackets, discrete):
    """Brackets of this width are narrow enough, (n,)."""
    end = np.where(np.isfinite(brackets.high), np.abs(brackets.high), np.abs(brackets.low))
    end = np.where(np.isfinite(end), end, 0.0)
    if discrete:  # where neighbouring numbers are farther than 1 apart there are no others
        return np.maximum(1.0, 4 * np.finfo(float).eps * end)
    return ACCURATE_QUANTILE * (1 + end)


def _next(brackets, room, discrete, least, halved):
    """Places in brackets, or beyond the end that is known; brackets with the step after that."""
    low, high, width = brackets.low, brackets.high, brackets.width
    no_low, no_high = low == least, high == np.inf
    at = np.clip(_inside(brackets, least, halved), low + room / 2, high - room / 2)
    at = np.where(no_low, np.fmax(high - width, at), at)
    at = np.where(no_high, low + width, at)
    if discrete:
        at = np.clip(np.round(at), low + 1, high - 1)
    return at, brackets._replace(width=np.where(no_low | no_high, BRACKET_GROWTH * width, width))


def _inside(brackets, least, halved):
    """False position, or the middle, of positive values the geometric one.

    No number where an end is missing.
    """
    _, low, high, at_low, at_high, *_ = brackets
    with np.errstate(invalid="ignore"):
        middle = low + 0.5 * (high - low)
        if np.isfinite(least):
            middle = np.sqrt(1 + low - least) * np.sqrt(1 + high - least) + least - 1
        if halved:
            return middle
        at = low + (high - low) * at_low / (at_low - at_high)
    return np.where((at > low) & (at < high), at, middle)
