"""Few shapes for many data: arrays filled up with zeros, which change no density."""

import numpy as np

from skhier.statistics.records import FactorStats, GroupStats, PairStats

__all__ = ["pad_groups", "padded", "padded_size"]


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
