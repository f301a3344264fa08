"""Grouping factors of a table: their levels, and the code of each row, in fit and after it."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.labels import Levels, encode, fit_levels
from skhier.utils.nesting import NestedLevels, encode_nested, fit_nested
from skhier.utils.schema import FactorColumns
from skhier.utils.table import Table

__all__ = [
    "NO_LABEL",
    "Factor",
    "RowCodes",
    "encode_levels",
    "place_of_factor",
    "read_levels",
    "side_by_side",
]

NO_LABEL = -1  # the code of a row of which nobody says what level it is of


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


def place_of_factor(
    called: Any, factors: Sequence[Factor], names: Sequence[str] | None, n_columns: int
) -> int | None:
    """Which of the factors a parameter means; None: none of them.

    Parameters
    ----------
    called : str, int, tuple or list
        The factor by its name, or its columns as ``groups`` has them.
    factors : sequence of Factor
    names : sequence of str or None
        Column names of X, if it has any.
    n_columns : int
        Of X.
    """
    of_factors = [factor.name for factor in factors]
    if isinstance(called, str) and called in of_factors:
        return of_factors.index(called)
    columns = called if isinstance(called, tuple | list) else (called,)
    positions = tuple(_position(column, names, n_columns) for column in columns)
    at: list[Any] = [factor.positions for factor in factors]
    return at.index(positions) if positions in at else None


def _position(column, names, n_columns) -> int | None:
    """Of a column by its name or position; None: there is no such column."""
    if isinstance(column, numbers.Integral) and not isinstance(column, bool | np.bool_):
        return int(column) % n_columns if -n_columns <= column < n_columns else None
    is_name = isinstance(column, str) and names is not None and column in names
    return list(names).index(column) if is_name else None


class RowCodes(NamedTuple):
    """Levels of rows, (n_samples, n_factors) each, int64.

    ``codes``: 0 of a factor that does not count. ``labelled``: of factors that level means look at
    too, ``NO_LABEL`` where a label is missing. ``unseen``: per factor the labels that fit never
    saw, the k-th with code ``n_levels + k``.
    """

    codes: np.ndarray
    labelled: np.ndarray
    unseen: tuple[np.ndarray, ...]


def read_levels(
    table: Table, factors: Sequence[FactorColumns]
) -> tuple[tuple[Factor, ...], np.ndarray]:
    """The levels of every factor, and the codes of the rows, (n_samples, n_factors).

    Each column is read once, however many factors need it.

    Parameters
    ----------
    table : Table
    factors : sequence of FactorColumns
        Of the table's schema.

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.labels.fit_levels`.
    """
    of_columns: dict[int, tuple[Levels, np.ndarray]] = {}
    of_factors, codes = [], []
    for positions, names, name, slopes, automatic in factors:
        for position, called in zip(positions, names, strict=True):
            if position not in of_columns:
                of_columns[position] = fit_levels(table.column(position).labels, called)
        columns = [of_columns[at] for at in positions]
        levels, of_rows = columns[0] if len(columns) == 1 else fit_nested(columns, names)
        of_factors.append(Factor(positions, name, levels, slopes, automatic))
        codes.append(of_rows)
    return tuple(of_factors), side_by_side(codes, table.n_rows)


def encode_levels(
    table: Table,
    factors: Sequence[Factor],
    counting: Sequence[int] | None = None,
    averaging: frozenset[int] = frozenset(),
) -> RowCodes:
    """Codes of the rows of a new table.

    Parameters
    ----------
    table : Table
    factors : sequence of Factor
        Of fit.
    counting : sequence of int or None
        The factors whose labels are read. None: all.
    averaging : frozenset of int
        Of the others, those whose labels are looked at as far as there are some.

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.labels.encode`.
    """
    labels_at = cache(lambda position: table.column(position).labels)  # nestings share columns
    codes, of_means, unseen = [], [], []
    for k, factor in enumerate(factors):
        of_rows, new = np.zeros(table.n_rows, dtype=np.int64), factor.levels.labels[:0]
        labelled = of_rows
        if counting is None or k in counting:
            of_rows, new = _encode([labels_at(at) for at in factor.positions], factor)
            labelled = of_rows
        elif k in averaging:
            lacks = not set(table.lacking).isdisjoint(factor.positions)
            labels = [] if lacks else [labels_at(at) for at in factor.positions]
            labelled = _codes_of_labelled(labels, factor, table.n_rows)
        codes.append(of_rows)
        of_means.append(labelled)
        unseen.append(new)
    of_rows = side_by_side(codes, table.n_rows)
    labelled = side_by_side(of_means, table.n_rows) if averaging else of_rows
    return RowCodes(of_rows, labelled, tuple(unseen))


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
