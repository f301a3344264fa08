"""Statistics of disjoint rows add up, once their levels and pairs of levels have common indices."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from skhier.statistics.products import keeps_level_products
from skhier.statistics.records import FactorStats, GroupStats, PairStats

__all__ = ["added", "placed"]


def added(*parts: GroupStats) -> GroupStats:
    """The sum of statistics in the same units, with the same levels; pairs of levels are united."""
    by_factor = zip(*(part.factors for part in parts), strict=True)
    by_pair = zip(*(part.pairs for part in parts), strict=True)
    totals = zip(*(part[2:] for part in parts), strict=True)
    return GroupStats(
        tuple(_added_levels(same) for same in by_factor),
        tuple(_added_pairs(same) for same in by_pair),
        *map(sum, totals),
    )


def placed(stats: GroupStats, places: Sequence[np.ndarray], n_levels: Sequence[int]) -> GroupStats:
    """The same statistics among more levels, where the others have no rows.

    Parameters
    ----------
    stats : GroupStats
    places : sequence of int array of shape (n_levels,)
        Per factor the new index of each level; increasing.
    n_levels : sequence of int
        Per factor, afterwards.
    """
    n_effects = [len(factor.zx) for factor in stats.factors]
    whole = keeps_level_products(n_effects, len(stats.xy), n_levels)
    factors = []
    for factor, at, n in zip(stats.factors, places, n_levels, strict=True):
        moved = FactorStats(*(_in_places(products, at, n) for products in factor))
        factors.append(moved if whole else moved._replace(xy_xy=np.zeros((0, 0, n))))
    both = combinations(places, 2)
    pairs = [
        pair._replace(first=one[pair.first], second=other[pair.second])
        for (one, other), pair in zip(both, stats.pairs, strict=True)
    ]
    return stats._replace(factors=tuple(factors), pairs=tuple(pairs))


def _in_places(products: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    if len(at) == n:  # increasing, so each in its place
        return products
    out = np.zeros((*products.shape[:-1], n))
    out[..., at] = products
    return out


def _added_levels(parts: Sequence[FactorStats]) -> FactorStats:
    lacking = [part.xy_xy for part in parts if not len(part.xy_xy)]
    return FactorStats(
        zz=sum(part.zz for part in parts),
        zx=sum(part.zx for part in parts),
        zy=sum(part.zy for part in parts),
        xy_xy=lacking[0] if lacking else sum(part.xy_xy for part in parts),
    )


def _added_pairs(parts: Sequence[PairStats]) -> PairStats:
    first = parts[0]
    if all(
        np.array_equal(part.first, first.first) and np.array_equal(part.second, first.second)
        for part in parts[1:]
    ):
        return first._replace(zz=sum(part.zz for part in parts))
    size = 1 + max(int(part.second.max(initial=0)) for part in parts)
    keys = [part.first * size + part.second for part in parts]
    pairs, at = np.unique(np.concatenate(keys), return_inverse=True)
    zz = np.zeros((*first.zz.shape[:-1], len(pairs)))
    ends = np.cumsum([len(part.first) for part in parts])
    for part, where in zip(parts, np.split(at, ends[:-1]), strict=True):
        zz[..., where] += part.zz  # no pair occurs twice in a part
    return PairStats(pairs // size, pairs % size, zz)
