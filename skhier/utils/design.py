"""Design: what fit learned of X's columns and labels, and rows read with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.features import read_features
from skhier.utils.frames import columns_of, index_names, labels_of
from skhier.utils.group_means import (
    NO_LABEL,
    LevelMean,
    MeansOfFactor,
    resolve_group_means,
    with_level_means,
)
from skhier.utils.labels import Levels, encode, fit_levels
from skhier.utils.nesting import NestedLevels, encode_nested, fit_nested
from skhier.utils.schema import Schema, read_schema
from skhier.utils.side_column import SideColumn, Wanted, read_side_column

__all__ = [
    "Design",
    "Factor",
    "Rows",
    "fit_design",
    "read_levels",
    "read_rows",
    "side_by_side",
    "wanted_means",
]


class Factor(NamedTuple):
    """A grouping factor: its columns, name, levels and the features whose slopes vary.

    ``positions`` are several columns of X for a nesting, whose ``levels`` are combinations.
    ``automatic``: the user left the slopes to the data (``slopes="all"``). ``flat``: features that
    were asked for and are constant within every level; among ``slopes`` unless ``automatic``.
    """

    positions: tuple[int, ...]
    name: str
    levels: Levels | NestedLevels
    slopes: tuple[int, ...]
    automatic: bool = False
    flat: tuple[int, ...] = ()


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
    table: Any,
    names: Sequence[str] | None,
    groups: Any,
    slopes: Any,
    side: Wanted | None = None,
) -> tuple[Design, Rows]:
    """Schema, levels and features of X, one after the other.

    Parameters
    ----------
    table : DataFrame or 2-D array
        As :func:`skhier.utils.frames.as_table` returns it.
    names : sequence of str or None
        Column names.
    groups, slopes
        The estimator's parameters.
    side : Wanted or None
        Its ``exposure`` or ``known_noise``.

    Raises
    ------
    ValueError, TypeError
        No such columns, labels that are missing or mixed, or columns that hold no numbers.
    """
    schema = read_schema(table, names, groups, slopes, side)
    columns, n_samples = columns_of(table), table.shape[0]
    factors, codes = read_levels(columns, n_samples, schema)
    positions, feature_names, _, as_groups, beside = schema
    x, eps = read_features(columns, n_samples, positions, feature_names, as_groups)
    unseen = tuple(factor.levels.labels[:0] for factor in factors)
    design = Design(positions, feature_names, factors, eps, side=beside)
    return design, Rows(_with_side(x, design, columns, True), codes, unseen)


def _with_side(x, design, columns, noise):
    """The features and the side column, if the design has one; NaN for noise that is not read."""
    if design.side is None:
        return x
    numbers = np.full(len(x), np.nan)
    if noise or design.side.parameter != "known_noise":
        numbers = read_side_column(columns(design.side.position), design.side)
    return np.column_stack([x, numbers])


def wanted_means(
    group_means: Any, table: Any, names: Sequence[str] | None, design: Design
) -> tuple[MeansOfFactor, ...]:
    """What the estimator's ``group_means`` asks for, per factor of a design.

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.group_means.resolve_group_means`.
    """
    factors = [(factor.name, factor.positions) for factor in design.factors]
    features, index = design.feature_positions, index_names(table)
    side = None if design.side is None else (design.side.parameter, design.side.position)
    return resolve_group_means(group_means, factors, features, names, table.shape[1], index, side)


def read_levels(
    columns: Callable[[int], Any], n_samples: int, schema: Schema
) -> tuple[tuple[Factor, ...], np.ndarray]:
    """The levels of every factor, and the codes of the rows, (n_samples, n_factors).

    Each column is read once, however many factors need it.

    Parameters
    ----------
    columns : callable
        As :func:`skhier.utils.frames.columns_of` returns it.
    n_samples : int
    schema : Schema

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.labels.fit_levels`.
    """
    of_columns: dict[int, tuple[Levels, np.ndarray]] = {}
    factors, codes = [], []
    for positions, names, name, slopes, automatic in schema.factors:
        for position, called in zip(positions, names, strict=True):
            if position not in of_columns:
                of_columns[position] = fit_levels(labels_of(columns(position)), called)
        levels, of_rows = _levels_of_factor([of_columns[at] for at in positions], names)
        factors.append(Factor(positions, name, levels, slopes, automatic))
        codes.append(of_rows)
    return tuple(factors), side_by_side(codes, n_samples)


def _levels_of_factor(
    columns: Sequence[tuple[Levels, np.ndarray]], names: Sequence[str]
) -> tuple[Levels | NestedLevels, np.ndarray]:
    return columns[0] if len(columns) == 1 else fit_nested(columns, names)


def read_rows(
    table: Any,
    design: Design,
    counting: Sequence[int] | None = None,
    missing: Sequence[int] = (),
    noise: bool = True,
) -> Rows:
    """Rows of a new X with the columns of ``design``.

    Parameters
    ----------
    table : DataFrame or 2-D array
    design : Design
    counting : sequence of int or None
        The factors whose labels are read; the others' codes are 0, whatever their columns hold.
        Only level means look at what labels there are. None: all.
    missing : sequence of int
        Positions of grouping columns that stand for columns that X lacks.
    noise : bool
        False: the column of known noise may hold anything.
    """
    columns, n_samples = columns_of(table), table.shape[0]
    x, _ = read_features(columns, n_samples, design.feature_positions, design.column_names)
    labels_at = cache(lambda position: labels_of(columns(position)))  # nestings share columns
    codes, of_means, unseen = [], [], []
    averaging = {mean.factor for mean in design.means}
    for k, factor in enumerate(design.factors):
        of_rows, new = np.zeros(n_samples, dtype=np.int64), factor.levels.labels[:0]
        labelled = of_rows
        if counting is None or k in counting:
            of_rows, new = _encode([labels_at(at) for at in factor.positions], factor)
            labelled = of_rows
        elif k in averaging:
            lacks = not set(missing).isdisjoint(factor.positions)
            labels = [] if lacks else [labels_at(at) for at in factor.positions]
            labelled = _codes_of_labelled(labels, factor, n_samples)
        codes.append(of_rows)
        of_means.append(labelled)
        unseen.append(new)
    x = with_level_means(x, side_by_side(of_means, n_samples), design.means)
    x = _with_side(x, design, columns, noise)
    return Rows(x, side_by_side(codes, n_samples), tuple(unseen))


def _codes_of_labelled(labels: list[np.ndarray], factor: Factor, n_samples: int) -> np.ndarray:
    """Codes of the rows with a label, ``NO_LABEL`` of the others; no labels: a column lacks."""
    import pandas as pd

    codes = np.full(n_samples, NO_LABEL, dtype=np.int64)
    if labels:
        there = ~np.any([pd.isna(column) for column in labels], axis=0)
        if there.any():
            codes[there], _ = _encode([column[there] for column in labels], factor)
    return codes


def _encode(labels: list[np.ndarray], factor: Factor) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(factor.levels, NestedLevels):
        return encode_nested(labels, factor.levels)
    return encode(labels[0], factor.levels, factor.name)


def side_by_side(codes: list[np.ndarray], n_samples: int) -> np.ndarray:
    """(n_samples, n_factors), also without factors; contiguous per factor."""
    columns = np.empty((n_samples, len(codes)), dtype=np.int64, order="F")
    for k, of_rows in enumerate(codes):
        columns[:, k] = of_rows
    return columns
