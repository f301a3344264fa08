"""Which slopes of statistics vary: asked of the products, where no row is left to look at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from skhier.statistics.products import keeps_level_products
from skhier.statistics.records import FactorStats
from skhier.statistics.reduction import Reduction

__all__ = ["flat_features", "with_slopes"]

# of a feature's sum of squares: a smaller rest within levels is rounding, also of engines that add
# ten million numbers one after the other
WITHIN_ROUNDING = 1e-11


def flat_features(reduction: Reduction, k: int) -> tuple[int, ...]:
    """Features among the k-th factor's slopes that are constant within each of its levels.

    Rows are compared as they are in memory (:func:`skhier.utils.settling.settle_slopes`); here a
    feature that varies within levels by less than 3e-6 of its standard deviation counts as
    constant.

    Parameters
    ----------
    reduction : Reduction
        In units near the rows' mean; every level has rows.
    k : int
    """
    products = reduction.stats.factors[k].zz
    n_rows = products[-1, -1]
    flat = []
    for place, feature in enumerate(reduction.axes.factors[k].slopes):
        within = products[place, place] - products[place, -1] ** 2 / n_rows
        if np.maximum(within, 0).sum() <= WITHIN_ROUNDING * reduction.stats.xx[feature, feature]:
            flat.append(feature)
    return tuple(flat)


def with_slopes(reduction: Reduction, slopes: Sequence[Sequence[int]]) -> Reduction:
    """The same rows, fewer of their products: those of the slopes that are left.

    Parameters
    ----------
    reduction : Reduction
    slopes : sequence of sequence of int
        Per factor, features among those that vary in ``reduction``.
    """
    stats, axes = reduction.stats, reduction.axes
    kept = []
    for factor, wanted in zip(axes.factors, slopes, strict=True):
        places = [factor.slopes.index(feature) for feature in wanted]
        kept.append([*places, len(factor.slopes)])
    whole = keeps_level_products([len(at) for at in kept], len(stats.xy), axes.n_levels)
    factors = []
    for at, products in zip(kept, stats.factors, strict=True):
        every = products.xy_xy if whole else products.xy_xy[:0, :0]
        zz = products.zz[at][:, at]
        factors.append(FactorStats(zz, products.zx[at], products.zy[at], every))
    pairs = [
        pair._replace(zz=pair.zz[one][:, other])
        for (one, other), pair in zip(combinations(kept, 2), stats.pairs, strict=True)
    ]
    effects = tuple(
        matrix[np.ix_(at, at)]
        for at, matrix in zip(kept, reduction.units.effects_at_mean, strict=True)
    )
    return Reduction(
        axes._replace(
            factors=tuple(
                factor._replace(slopes=tuple(wanted))
                for factor, wanted in zip(axes.factors, slopes, strict=True)
            )
        ),
        reduction.units._replace(effects_at_mean=effects),
        stats._replace(factors=tuple(factors), pairs=tuple(pairs)),
    )
