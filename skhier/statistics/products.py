"""Rows become group statistics: cross-products per level, and per pair of levels of two factors."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from skhier.statistics.records import FactorStats, GroupStats, PairStats, Units
from skhier.statistics.sums import exact_parts, sums_by_code
from skhier.utils.budget import USUAL, DataBudget

__all__ = [
    "LevelPairs",
    "factor_stats",
    "group_stats",
    "keeps_level_products",
    "level_pairs",
    "total_products",
]


class LevelPairs(NamedTuple):
    """Pairs of levels of two factors that share rows, sorted; ``of_row`` is each row's pair."""

    first: np.ndarray
    second: np.ndarray
    of_row: np.ndarray

    def take(self, rows: np.ndarray) -> "LevelPairs":
        """The same pairs, of some of the rows, given by index or mask."""
        return self._replace(of_row=self.of_row[rows])


def level_pairs(codes: np.ndarray) -> tuple[LevelPairs, ...]:
    """The pairs of levels that occur, for every two factors.

    Parameters
    ----------
    codes : int array of shape (n_samples, n_factors)
    """
    pairs_of = []
    for one, other in combinations(codes.T, 2):
        size = int(other.max(initial=0)) + 1
        pairs, of_row = np.unique(one.astype(np.int64) * size + other, return_inverse=True)
        pairs_of.append(LevelPairs(pairs // size, pairs % size, of_row))
    return tuple(pairs_of)


def keeps_level_products(
    n_effects: Sequence[int], p: int, n_levels: Sequence[int], budget: DataBudget = USUAL.data
) -> bool:
    """Whether ``FactorStats.xy_xy`` is there: of the only factor, unless it would be too large.

    Parameters
    ----------
    n_effects, n_levels : sequence of int
        Per factor.
    p : int
        Columns of x, the constant included.
    budget : DataBudget
    """
    if len(n_levels) != 1:
        return False
    return n_effects[0] == p or (p + 1) ** 2 * n_levels[0] <= budget.level_products


def group_stats(
    x,
    y,
    weights,
    codes,
    n_levels: Sequence[int],
    slopes: Sequence[Sequence[int]],
    units: Units,
    pairs: Sequence[LevelPairs],
    budget: DataBudget = USUAL.data,
) -> GroupStats:
    """Cross-products of design and target, per level and pair of levels; one pass over the rows.

    Parameters
    ----------
    x : array of shape (n_samples, n_features)
        The user's units.
    y, weights : array of shape (n_samples,)
    codes : int array of shape (n_samples, n_factors)
        Level of each row, ``0 <= codes[:, k] < n_levels[k]``. Not checked here.
    n_levels : sequence of int
    slopes : sequence of sequence of int
        Per factor, the features with a varying slope.
    units : Units
    pairs : sequence of LevelPairs
        Of these rows and perhaps of others.
    budget : DataBudget

    References
    ----------
    Bates et al. (2015), J. Stat. Softw. 67(1), sec. 3.
    """
    columns = _columns(x, y, units)
    p = len(columns) - 1
    z = [[*varying, p - 1] for varying in slopes]
    whole = keeps_level_products([len(at) for at in z], p, n_levels, budget)
    total = np.empty((p + 1, p + 1))
    per_level = [np.zeros((p + 1, p + 1, n)) for n in n_levels]
    per_pair = [np.zeros((p, p, len(pair.first))) for pair in pairs]
    both = list(combinations(range(len(z)), 2))
    product, parts = np.empty(len(y)), np.empty((2, len(y)))  # one memory for all of them
    for i in range(p + 1):
        for j in range(i + 1):
            np.multiply(columns[i], columns[j], out=product)
            exact_parts(product, weights, parts, budget)
            total[i, j] = total[j, i] = sum(part.sum() for part in parts)
            for k, out in enumerate(per_level):
                if whole or i in z[k] or j in z[k]:
                    out[i, j] = out[j, i] = sums_by_code(codes[:, k], parts, out.shape[-1])
            for (k, m), pair, out in zip(both, pairs, per_pair, strict=True):
                if (i in z[k] and j in z[m]) or (j in z[k] and i in z[m]):
                    out[i, j] = out[j, i] = sums_by_code(pair.of_row, parts, out.shape[-1])
    return GroupStats(
        tuple(factor_stats(out, at, whole) for at, out in zip(z, per_level, strict=True)),
        tuple(
            PairStats(pair.first, pair.second, out[z[k]][:, z[m]])
            for (k, m), pair, out in zip(both, pairs, per_pair, strict=True)
        ),
        xx=total[:p, :p],
        xy=total[:p, p],
        yy=total[p, p],
        n=weights.sum(),
    )


def _columns(x, y, units: Units) -> list[np.ndarray]:
    """``[x 1 y]`` in internal coordinates."""
    columns = [x[:, j] - mean for j, mean in enumerate(units.x_mean)]
    columns.append(y - units.y_mean)
    for column, scale in zip(columns, [*units.x_scale, units.y_scale], strict=True):
        column /= scale
    columns.insert(len(columns) - 1, np.ones(len(y)))
    return columns


def factor_stats(products: np.ndarray, at: list[int], whole: bool) -> FactorStats:
    """From the products of ``[x 1 y]`` per level, those that this factor's columns need."""
    p = len(products) - 1
    every = products if whole else np.zeros((0, 0, products.shape[-1]))
    rows = slice(p) if at == list(range(p)) else at  # a part of the array, without a copy
    return FactorStats(products[rows][:, rows], products[rows, :p], products[rows, p], every)


def total_products(stats: GroupStats) -> np.ndarray:
    """Cross-products of the columns ``[x 1 y]``, (p + 1, p + 1)."""
    corner = np.array([[stats.yy]])
    return np.block([[stats.xx, stats.xy[:, None]], [stats.xy[None], corner]])
