"""Statistics of disjoint rows add up, once their levels and pairs of levels have common indices."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from skhier.statistics.products import factor_stats, keeps_level_products
from skhier.statistics.records import FactorStats, GroupStats, PairStats
from skhier.utils.budget import USUAL, DataBudget

__all__ = ["added", "added_in_places"]


def added(*parts: GroupStats) -> GroupStats:
    """The sum of statistics in the same units, with the same levels; pairs of levels are united."""
    n_levels = [factor.zy.shape[-1] for factor in parts[0].factors]
    return added_in_places(parts, [[np.arange(n) for n in n_levels]] * len(parts), n_levels)


def added_in_places(
    parts: Sequence[GroupStats],
    places: Sequence[Sequence[np.ndarray]],
    n_levels: Sequence[int],
    budget: DataBudget = USUAL.data,
) -> GroupStats:
    """The sum of statistics in the same units; pairs of levels are united.

    Many small parts cost what they hold, not the number of all levels each.

    Parameters
    ----------
    parts : sequence of GroupStats
    places : sequence of sequence of int array of shape (n_levels,)
        Per part and factor the index that each level has in the sum; increasing.
    n_levels : sequence of int
        Per factor, of the sum.
    budget : DataBudget
    """
    n_effects = [len(factor.zx) for factor in parts[0].factors]
    whole = keeps_level_products(n_effects, len(parts[0].xy), n_levels, budget)
    factors = []
    for k, n in enumerate(n_levels):
        same = [part.factors[k] for part in parts]
        factors.append(_added_levels(same, [at[k] for at in places], n, whole, budget.few_levels))
    pairs = []
    for which, (one, other) in enumerate(combinations(range(len(n_levels)), 2)):
        moved = [
            part.pairs[which]._replace(
                first=at[one][part.pairs[which].first], second=at[other][part.pairs[which].second]
            )
            for part, at in zip(parts, places, strict=True)
        ]
        pairs.append(_added_pairs(moved))
    totals = zip(*(part[2:] for part in parts), strict=True)
    return GroupStats(tuple(factors), tuple(pairs), *map(sum, totals))


def _added_levels(
    parts: Sequence[FactorStats], places: Sequence[np.ndarray], n: int, whole: bool, few: int
) -> FactorStats:
    every = np.zeros((0, 0, n))
    if whole and all(len(part.xy_xy) for part in parts):
        every = _in_places([part.xy_xy for part in parts], places, n, few, symmetric=True)
        p = len(every) - 1
        if len(parts[0].zx) == p:  # all columns vary by level
            return factor_stats(every, list(range(p)), whole)
    zz = _in_places([part.zz for part in parts], places, n, few, symmetric=True)
    zx, zy = (_in_places([part[i] for part in parts], places, n, few) for i in (1, 2))
    return FactorStats(zz, zx, zy, every)


def _in_places(
    products: Sequence[np.ndarray],
    places: Sequence[np.ndarray],
    n: int,
    few: int,
    symmetric: bool = False,
) -> np.ndarray:
    """Sums of products, (..., n), of parts of ``few`` levels each in one operation a part;
    ``symmetric``: in their first two axes.
    """
    out = np.zeros((*products[0].shape[:-1], n))
    codes = np.concatenate(places)
    if len(codes) < few * len(places) or all(len(at) == n for at in places):
        for summand, at in zip(products, places, strict=True):
            if len(at) == n:  # increasing, so each in its place
                out += summand
            else:
                out[..., at] += summand
        return out
    for cell in np.ndindex(out.shape[:-1]):
        if symmetric and cell[0] > cell[1]:
            out[cell] = out[cell[::-1]]
        else:
            out[cell] = np.bincount(codes, np.concatenate([part[cell] for part in products]), n)
    return out


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
