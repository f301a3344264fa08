"""Design: what fit learned of X's columns and labels, and rows read with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.features import feature_block, feature_spacings
from skhier.utils.frames import label_column
from skhier.utils.labels import Levels, encode, fit_levels
from skhier.utils.nesting import NestedLevels, encode_nested, fit_nested
from skhier.utils.schema import FactorColumns, Schema, read_schema

__all__ = [
    "Design",
    "Factor",
    "Rows",
    "fit_design",
    "read_levels",
    "read_rows",
    "side_by_side",
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

    ``eps``: relative spacing of each feature's numbers as they came, such as float32's; ``y_eps``:
    y's.
    """

    feature_positions: list[int]
    feature_names: list[str]
    factors: tuple[Factor, ...]
    eps: tuple[float, ...] = ()
    y_eps: float = 0.0

    def effects(self, k: int) -> list[str]:
        """Names of the k-th factor's effects, the varying intercept first."""
        return ["intercept", *(self.feature_names[j] for j in self.factors[k].slopes)]

    def slopes_left_out(self) -> dict[str, list[str]]:
        """Per factor the features to which ``slopes="all"`` gave no varying slope."""
        return {
            factor.name: [self.feature_names[j] for j in factor.flat if factor.automatic]
            for factor in self.factors
        }

    def unread(self, counting: Sequence[int]) -> list[int]:
        """Positions of the grouping columns that only factors other than these need."""
        read = {position for k in counting for position in self.factors[k].positions}
        every = {position for factor in self.factors for position in factor.positions}
        return sorted(every - read)


class Rows(NamedTuple):
    """Rows of X as the model sees them.

    ``x`` (n_samples, n_features), float64, the user's units; ``codes`` (n_samples, n_factors),
    int64, a column per factor (Fortran order); ``unseen``: per factor the labels that fit never
    saw, the k-th with code ``n_levels + k``.
    """

    x: np.ndarray
    codes: np.ndarray
    unseen: tuple[np.ndarray, ...]


def fit_design(
    table: Any, names: Sequence[str] | None, groups: Any, slopes: Any
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

    Raises
    ------
    ValueError, TypeError
        No such columns, labels that are missing or mixed, or columns that hold no numbers.
    """
    schema = read_schema(table, names, groups, slopes)
    factors, codes = read_levels(table, schema)
    positions, feature_names, _, as_groups = schema
    x = feature_block(table, positions, feature_names, as_groups)
    eps = feature_spacings(table, positions)
    unseen = tuple(factor.levels.labels[:0] for factor in factors)
    return Design(positions, feature_names, factors, eps), Rows(x, codes, unseen)


def read_levels(table: Any, schema: Schema) -> tuple[tuple[Factor, ...], np.ndarray]:
    """The levels of every factor, and the codes of the rows, (n_samples, n_factors)."""
    factors, codes = [], []
    for columns in schema.factors:
        levels, of_rows = _fit_levels(_labels(table, columns.positions), columns)
        positions, _, name, slopes, automatic = columns
        factors.append(Factor(positions, name, levels, slopes, automatic))
        codes.append(of_rows)
    return tuple(factors), side_by_side(codes, table.shape[0])


def read_rows(table: Any, design: Design, counting: Sequence[int] | None = None) -> Rows:
    """Rows of a new X with the columns of ``design``.

    Parameters
    ----------
    table : DataFrame or 2-D array
    design : Design
    counting : sequence of int or None
        The factors whose labels are read; the others' codes are 0, whatever their columns hold.
        None: all.
    """
    x = feature_block(table, design.feature_positions, design.feature_names)
    codes, unseen = [], []
    for k, factor in enumerate(design.factors):
        of_rows, new = np.zeros(len(x), dtype=np.int64), factor.levels.labels[:0]
        if counting is None or k in counting:
            of_rows, new = _encode(_labels(table, factor.positions), factor)
        codes.append(of_rows)
        unseen.append(new)
    return Rows(x, side_by_side(codes, len(x)), tuple(unseen))


def _labels(table: Any, positions: tuple[int, ...]) -> list[np.ndarray]:
    return [label_column(table, position) for position in positions]


def _fit_levels(labels: list[np.ndarray], columns: FactorColumns):
    if len(labels) == 1:
        return fit_levels(labels[0], columns.names[0])
    return fit_nested(labels, columns.names)


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
