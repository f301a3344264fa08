"""Rows become additive statistics that know what they are about, and add up wherever rows are.

A :class:`Reduction` has labels: names of the features, and per grouping factor its levels and
slopes. Reductions of disjoint blocks of rows form a commutative monoid: :func:`merge` unites their
levels and moves them to common units, and :func:`no_rows` is neutral. Sums are exact within a
block, so merging is associative to rounding, and exactly where its sums are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skhier.statistics.addition import added_in_places
from skhier.statistics.mean_sd import MeanSd, mean_sd_of_products, mean_sd_of_training
from skhier.statistics.products import LevelPairs, group_stats, level_pairs
from skhier.statistics.records import GroupStats, Units
from skhier.statistics.units import change_units, common_units, internal_units, same_units
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.design import Design
from skhier.utils.labels import Levels
from skhier.utils.level_union import NO_LEVELS, unite_levels
from skhier.utils.nesting import NestedLevels
from skhier.utils.training import Training

__all__ = [
    "Axes",
    "FactorAxis",
    "Reduction",
    "axes_of",
    "check_alike",
    "merge",
    "no_rows",
    "own_units",
    "reduce_block",
    "united_levels",
]


class FactorAxis(NamedTuple):
    """A grouping factor: its levels, sorted, and the features whose slopes vary by level."""

    name: str
    slopes: tuple[int, ...]
    levels: Levels | NestedLevels


class Axes(NamedTuple):
    """What the axes of statistics stand for: features, and per grouping factor its levels."""

    features: tuple[str, ...]
    factors: tuple[FactorAxis, ...]

    @property
    def slopes(self) -> tuple[tuple[int, ...], ...]:
        """Per factor, the features with a varying slope."""
        return tuple(factor.slopes for factor in self.factors)

    @property
    def n_levels(self) -> list[int]:
        """Per factor."""
        return [len(factor.levels.labels) for factor in self.factors]


class Reduction(NamedTuple):
    """Additive statistics of rows that are no longer needed.

    Attributes
    ----------
    axes : Axes
    units : Units
        The shift and scale that the products are about; a convention, see :meth:`in_units`.
    stats : GroupStats
        In these units. Levels and pairs of levels may be without rows.
    """

    axes: Axes
    units: Units
    stats: GroupStats

    def in_units(self, units: Units) -> Reduction:
        """The same rows, their products about another shift and scale."""
        stats = change_units(self.stats, self.units, units, self.axes.slopes)
        return self._replace(units=units, stats=stats)

    def mean_sd(self) -> tuple[MeanSd, MeanSd]:
        """Of the features and of the target, the user's units; weights sum to more than 1."""
        return mean_sd_of_products(self.stats, self.units)


def axes_of(design: Design) -> Axes:
    """Those of statistics of rows that were read with a design whose slopes are settled."""
    factors = (FactorAxis(at.name, at.slopes, at.levels) for at in design.factors)
    return Axes(tuple(design.feature_names), tuple(factors))


def no_rows(axes: Axes) -> Reduction:
    """The neutral element: no rows, no levels; of the axes the features and slopes remain."""
    factors = tuple(factor._replace(levels=NO_LEVELS) for factor in axes.factors)
    k = len(axes.features)
    none = Training(np.empty((0, k)), np.empty((0, len(factors)), int), np.empty(0), np.empty(0))
    nothing = MeanSd(np.zeros(k), np.zeros(k)), MeanSd(np.zeros(1), np.zeros(1))
    return reduce_block(Axes(axes.features, factors), none, internal_units(*nothing, axes.slopes))


def reduce_block(
    axes: Axes,
    rows: Training,
    units: Units | None = None,
    pairs: Sequence[LevelPairs] | None = None,
    budget: DataBudget = USUAL.data,
) -> Reduction:
    """One block of rows becomes statistics; the order of the rows does not change a bit of them.

    Parameters
    ----------
    axes : Axes
        With the levels that the rows' codes count.
    rows : Training
    units : Units or None
        Near the rows' means, else digits are lost. None: the rows' own.
    pairs : sequence of LevelPairs or None
        Of these rows and perhaps of others; None: those that occur.
    budget : DataBudget
    """
    units = own_units(axes, rows, budget) if units is None else units
    pairs = level_pairs(rows.codes) if pairs is None else pairs
    levels = rows.codes, axes.n_levels, axes.slopes
    stats = group_stats(rows.x, rows.y, rows.of_sums, *levels, units, pairs, budget)
    return Reduction(axes, units, stats)


def own_units(axes: Axes, rows: Training, budget: DataBudget = USUAL.data) -> Units:
    """Units of the rows' own mean and sd, near them where weights sum to less than 2."""
    if not len(rows.y):
        return no_rows(axes).units
    # an sd takes a total above 1, and here it need only be near
    weights = rows.weights if rows.weights.sum() >= 2 else np.full(len(rows.y), 2.0)
    return internal_units(*mean_sd_of_training(rows, weights, budget), axes.slopes)


def merge(first: Reduction, *others: Reduction, budget: DataBudget = USUAL.data) -> Reduction:
    """Statistics of all rows of several reductions, whose rows are disjoint.

    Levels are united and sorted. Products move to units of the joint mean and sd, unless all are in
    the same units already, in which they are only added.

    Raises
    ------
    ValueError
        Other features, factors, slopes, or kinds of labels; the message names them.
    """
    parts = (first, *others)
    for other in others:
        check_alike(first.axes, other.axes)
    factors, places = united_levels([part.axes for part in parts])
    axes = first.axes._replace(factors=factors)
    units, summands = _in_common_units(parts)
    return Reduction(axes, units, added_in_places(summands, places, axes.n_levels, budget))


def united_levels(
    axes: Sequence[Axes],
) -> tuple[tuple[FactorAxis, ...], list[list[np.ndarray]]]:
    """The factors with all levels; of each part and factor, where its levels went."""
    factors: list[FactorAxis] = []
    places: list[list[np.ndarray]] = [[] for _ in axes]
    for k, factor in enumerate(axes[0].factors):
        levels, of_parts = unite_levels([part.factors[k].levels for part in axes], factor.name)
        factors.append(factor._replace(levels=levels))
        for of_part, at in zip(places, of_parts, strict=True):
            of_part.append(at)
    return tuple(factors), places


def _in_common_units(parts: Sequence[Reduction]) -> tuple[Units, list[GroupStats]]:
    """Statistics of no rows are 0 in any units."""
    counting = [part for part in parts if part.stats.n > 0] or parts[:1]
    units = counting[0].units
    if not all(same_units(part.units, units) for part in counting):
        pieces = [(part.stats, part.units) for part in counting]
        units = common_units(pieces, parts[0].axes.slopes)
    return units, [
        part.stats
        if part.stats.n == 0 or same_units(part.units, units)
        else part.in_units(units).stats
        for part in parts
    ]


def check_alike(one: Axes, other: Axes) -> None:
    """Raise ValueError unless two reductions are about the same columns."""
    if one.features != other.features:
        raise ValueError(
            "Statistics of different features cannot be merged: "
            f"{_differing(one.features, other.features)}."
        )
    factors = [[factor.name for factor in axes.factors] for axes in (one, other)]
    if factors[0] != factors[1]:
        raise ValueError(
            f"Statistics of different grouping factors cannot be merged: {_differing(*factors)}."
        )
    for mine, theirs in zip(one.factors, other.factors, strict=True):
        if mine.slopes != theirs.slopes:
            named = [[one.features[j] for j in factor.slopes] for factor in (mine, theirs)]
            raise ValueError(
                f"Statistics with different varying slopes of {mine.name!r} cannot be merged: "
                f'{named[0]} and {named[1]}. Name them in `slopes`: slopes="all" is decided by '
                "each block of rows for itself."
            )


def _differing(one: Sequence[str], other: Sequence[str]) -> str:
    only = sorted({*one} ^ {*other})
    if only:
        return f"{', '.join(map(repr, only[:5]))} in one of them only"
    return f"{list(one)[:5]} and {list(other)[:5]}, in another order"
