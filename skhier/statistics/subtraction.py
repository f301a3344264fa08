"""Undo: the statistics of rows without those of some of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from skhier.statistics.addition import added_in_places
from skhier.statistics.products import total_products
from skhier.statistics.records import FactorStats, GroupStats, PairStats
from skhier.statistics.reduction import Reduction, check_alike, united_levels
from skhier.utils.words import listed

__all__ = ["difference"]

NOTHING = 1e-9  # of a sum: a smaller rest is rounding
ADVICE = "Only rows that were added can be taken away."


def difference(whole: Reduction, part: Reduction) -> Reduction:
    """Statistics of the rows of ``whole`` that are not in ``part``; levels without rows go.

    A difference carries the rounding of what it is taken from: digits are lost where the rows that
    are taken away dominate.

    Parameters
    ----------
    whole, part : Reduction

    Raises
    ------
    ValueError
        Other columns; or rows that were never there: levels that ``whole`` has not, counts or sums
        of squares below 0.
    """
    check_alike(whole.axes, part.axes)
    if part.stats.n == 0:
        return whole
    factors, places = united_levels([whole.axes, part.axes])
    for factor, mine, at in zip(factors, whole.axes.factors, places[0], strict=True):
        labels = factor.levels.labels
        if len(labels) > len(mine.levels.labels):
            _refuse(f"levels of {factor.name!r} that are not in the whole", np.delete(labels, at))
    taken = _negated(part.in_units(whole.units).stats)
    n_levels = whole.axes.n_levels
    rest = added_in_places([whole.stats, taken], places, n_levels)
    for pair, before in zip(rest.pairs, whole.stats.pairs, strict=True):
        if len(pair.first) > len(before.first):
            raise ValueError(
                f"These statistics hold pairs of levels that are not in the whole. {ADVICE}"
            )
    _check_counts(rest, whole)
    return _without_empty_levels(Reduction(whole.axes, whole.units, rest), whole.stats)


def _negated(stats: GroupStats) -> GroupStats:
    factors = tuple(FactorStats(*(-products for products in factor)) for factor in stats.factors)
    pairs = tuple(pair._replace(zz=-pair.zz) for pair in stats.pairs)
    return GroupStats(factors, pairs, *(-total for total in stats[2:]))


def _refuse(what: str, labels: np.ndarray) -> None:
    shown = listed(map(repr, labels.tolist()))
    raise ValueError(f"These statistics hold {what}: {shown}. {ADVICE}")


def _check_counts(rest: GroupStats, whole: Reduction) -> None:
    """Raise ValueError where more is taken away than was there."""
    if rest.n < -NOTHING * whole.stats.n:
        raise ValueError(f"These statistics hold more rows than the whole. {ADVICE}")
    named = zip(whole.axes.factors, rest.factors, whole.stats.factors, strict=True)
    for factor, left, before in named:
        lacking = left.zz[-1, -1] < -NOTHING * before.zz[-1, -1]
        if lacking.any():
            labels = factor.levels.labels[lacking]
            _refuse(f"more rows than the whole has in levels of {factor.name!r}", labels)
        squares, all_squares = (
            np.diagonal(part.xy_xy if len(left.xy_xy) else part.zz) for part in (left, before)
        )
        lacking = (squares < -NOTHING * all_squares.sum(0)).any(1)
        if lacking.any():
            labels = factor.levels.labels[lacking]
            _refuse(f"larger sums of squares than the whole in levels of {factor.name!r}", labels)
    squares, all_squares = (np.diag(total_products(part)) for part in (rest, whole.stats))
    if (squares < -NOTHING * all_squares).any():
        raise ValueError(f"These statistics hold larger sums of squares than the whole. {ADVICE}")


def _without_empty_levels(reduction: Reduction, before: GroupStats) -> Reduction:
    """``before``: the statistics that the rest was taken from."""
    stats, axes = reduction.stats, reduction.axes
    kept = [
        np.flatnonzero(factor.zz[-1, -1] > NOTHING * all_rows.zz[-1, -1])
        for factor, all_rows in zip(stats.factors, before.factors, strict=True)
    ]
    met = [_met(*pair) for pair in zip(stats.pairs, before.pairs, strict=True)]
    if all(len(at) == n for at, n in zip(kept, axes.n_levels, strict=True)):
        return reduction._replace(stats=stats._replace(pairs=tuple(met)))
    factors = [
        FactorStats(*(products[..., at] for products in factor))
        for factor, at in zip(stats.factors, kept, strict=True)
    ]
    of_axes = [
        factor._replace(levels=factor.levels.keep(at))
        for factor, at in zip(axes.factors, kept, strict=True)
    ]
    ranks = [np.searchsorted(at, np.arange(n)) for at, n in zip(kept, axes.n_levels, strict=True)]
    pairs = [
        pair._replace(first=one[pair.first], second=other[pair.second])
        for (one, other), pair in zip(combinations(ranks, 2), met, strict=True)
    ]
    return Reduction(
        axes._replace(factors=tuple(of_axes)),
        reduction.units,
        stats._replace(factors=tuple(factors), pairs=tuple(pairs)),
    )


def _met(pair: PairStats, before: PairStats) -> PairStats:
    """The pairs that still share rows."""
    met = pair.zz[-1, -1] > NOTHING * before.zz[-1, -1]
    return PairStats(pair.first[met], pair.second[met], pair.zz[..., met])
