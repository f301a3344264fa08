"""Design: what fit learned of X's columns and labels, and rows read with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.features import read_features
from skhier.utils.group_means import LevelMean, MeansOfFactor, with_level_means
from skhier.utils.levels import Factor, encode_levels, read_levels
from skhier.utils.schema import read_schema
from skhier.utils.side_column import SideColumn, Wanted, with_side_column
from skhier.utils.table import Table

__all__ = ["Design", "Rows", "fit_design", "read_rows"]


class Design(NamedTuple):
    """What fit learned of X's columns.

    ``feature_names``: of the columns at ``feature_positions`` and then of ``means``. ``eps``:
    relative spacing of each column's numbers as they came, such as float32's; ``y_eps``: y's.
    ``means_left_out``: per factor the features that were asked for and can have no mean of their
    own. ``side``: a column of X that is no feature but tells a number of each row.
    """

    feature_positions: list[int]
    feature_names: list[str]
    factors: tuple[Factor, ...]
    eps: tuple[float, ...] = ()
    y_eps: float = 0.0
    means: tuple[LevelMean, ...] = ()
    means_left_out: tuple[MeansOfFactor, ...] = ()
    side: SideColumn | None = None

    @property
    def column_names(self) -> list[str]:
        """Of the features that are columns of X."""
        return self.feature_names[: len(self.feature_positions)]

    def effects(self, k: int) -> list[str]:
        """Names of the k-th factor's effects, the varying intercept first."""
        return ["intercept", *(self.feature_names[j] for j in self.factors[k].slopes)]

    def slopes_left_out(self) -> dict[str, list[str]]:
        """Per factor the features to which ``slopes="all"`` gave no varying slope."""
        return {
            factor.name: [self.feature_names[j] for j in factor.flat if factor.automatic]
            for factor in self.factors
        }

    def group_means_left_out(self) -> dict[str, list[str]]:
        """Per factor the features whose level means were asked for and are no predictors."""
        left_out: dict[str, list[str]] = {factor.name: [] for factor in self.factors}
        for name, flat in zip(left_out, self.means_left_out, strict=False):  # () without means
            left_out[name] = [self.feature_names[j] for j in flat.features]
        return left_out

    def unread(self, counting: Sequence[int], noise: bool = True) -> list[int]:
        """Positions of the grouping columns that only factors other than these need.

        ``noise``: whether known noise is read; else its column is among them.
        """
        read = {position for k in counting for position in self.factors[k].positions}
        every = {position for factor in self.factors for position in factor.positions}
        if self.side is not None and self.side.parameter == "known_noise" and not noise:
            every.add(self.side.position)
        return sorted(every - read)


class Rows(NamedTuple):
    """Rows of X as the model sees them.

    ``x`` (n_samples, n_features), float64, the user's units, level means among the features, and
    of a design with a side column one more: logs of exposures, or known standard errors;
    ``codes`` (n_samples, n_factors), int64, a column per factor (Fortran order); ``unseen``: per
    factor the labels that fit never saw, the k-th with code ``n_levels + k``.
    """

    x: np.ndarray
    codes: np.ndarray
    unseen: tuple[np.ndarray, ...]


def fit_design(
    table: Table, groups: Any, slopes: Any, side: Wanted | None = None
) -> tuple[Design, Rows]:
    """Schema, levels and features of X, one after the other.

    Parameters
    ----------
    table : Table
    groups, slopes
        The estimator's parameters.
    side : Wanted or None
        Its ``exposure`` or ``known_noise``.

    Raises
    ------
    ValueError, TypeError
        No such columns, labels that are missing or mixed, or columns that hold no numbers.
    """
    schema = read_schema(table, groups, slopes, side)
    factors, codes = read_levels(table, schema.factors)
    positions, names = schema.feature_positions, schema.feature_names
    x, eps = read_features(table, positions, names, schema.as_groups)
    x = with_side_column(x, table, schema.side)
    unseen = tuple(factor.levels.labels[:0] for factor in factors)
    return Design(positions, names, factors, eps, side=schema.side), Rows(x, codes, unseen)


def read_rows(
    table: Table, design: Design, counting: Sequence[int] | None = None, noise: bool = True
) -> Rows:
    """Rows of a new X with the columns of ``design``.

    Parameters
    ----------
    table : Table
    design : Design
    counting : sequence of int or None
        The factors whose labels are read; the others' codes are 0, whatever their columns hold.
        Only level means look at what labels there are. None: all.
    noise : bool
        False: the column of known noise may hold anything.
    """
    x, _ = read_features(table, design.feature_positions, design.column_names)
    averaging = frozenset(mean.factor for mean in design.means)
    codes, labelled, unseen = encode_levels(table, design.factors, counting, averaging)
    x = with_level_means(x, labelled, design.means)
    return Rows(with_side_column(x, table, design.side, noise), codes, unseen)
