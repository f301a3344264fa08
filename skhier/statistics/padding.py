"""Few shapes for many data: arrays filled up with zeros, which change no density."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from skhier.statistics.records import FactorStats, GroupStats, PairStats

__all__ = ["pad_columns", "pad_groups", "padded", "padded_size"]


def padded_size(n: int, bits: int = 3) -> int:
    """A number rounded up to so many significant bits: few shapes, with 3 at most 25% more."""
    step = 2 ** max(n.bit_length() - bits, 0)
    return -(-n // step) * step


def pad_groups(stats: GroupStats) -> GroupStats:
    """Levels and pairs without rows appended up to :func:`padded_size`."""
    return stats._replace(
        factors=tuple(FactorStats(*map(padded, factor)) for factor in stats.factors),
        pairs=tuple(PairStats(*map(padded, pair)) for pair in stats.pairs),
    )


def padded(a: np.ndarray) -> np.ndarray:
    """Zeros appended on the last axis up to :func:`padded_size`."""
    extra = padded_size(a.shape[-1]) - a.shape[-1]
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, extra)])


def pad_columns(stats: GroupStats, columns: np.ndarray, spare: Sequence[int]) -> GroupStats:
    """Columns of zeros among those of x, and effects of zeros in front of a factor's.

    Parameters
    ----------
    stats : GroupStats
    columns : int array of shape (p,)
        Place of each column of x among the padded ones, of which the constant is the last.
    spare : sequence of int
        Of each factor, effects more.
    """
    p = columns[-1] + 1

    def of_x(a, axis):
        out = np.zeros((*a.shape[:axis], p, *a.shape[axis + 1 :]))
        out[(slice(None),) * axis + (columns,)] = a
        return out

    def of_effects(a, n, axis=0):
        return np.pad(a, [(n if k == axis else 0, 0) for k in range(a.ndim)])

    factors = (
        factor._replace(
            zz=of_effects(of_effects(factor.zz, n), n, 1),
            zx=of_x(of_effects(factor.zx, n), 1),
            zy=of_effects(factor.zy, n),
        )
        for factor, n in zip(stats.factors, spare, strict=True)
    )
    pairs = (
        pair._replace(zz=of_effects(of_effects(pair.zz, n), m, 1))
        for pair, (n, m) in zip(stats.pairs, combinations(spare, 2), strict=True)
    )
    return stats._replace(
        factors=tuple(factors),
        pairs=tuple(pairs),
        xx=of_x(of_x(stats.xx, 0), 1),
        xy=of_x(stats.xy, 0),
    )
