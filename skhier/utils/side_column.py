"""A column of X that is no feature but tells a number of each row: exposure, or known noise."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.cells import as_float64, numbers_or_error
from skhier.utils.columns import column_name, find_column
from skhier.utils.table import Column, Table
from skhier.utils.words import listed

__all__ = [
    "SideColumn",
    "Wanted",
    "read_side_column",
    "resolve_side_column",
    "wanted_side",
    "with_side_column",
]

MEANING = {"exposure": "exposure", "known_noise": "known standard error"}


class Wanted(NamedTuple):
    """The estimator's parameter, ``"exposure"`` or ``"known_noise"``, and its value."""

    parameter: str
    column: Any


class SideColumn(NamedTuple):
    """What the parameter names: a position in X, and what the column is called."""

    parameter: str
    position: int
    name: str


def wanted_side(exposure: Any, known_noise: Any) -> Wanted | None:
    """Which of the two parameters of an estimator names a column; at most one does."""
    for wanted in (Wanted("exposure", exposure), Wanted("known_noise", known_noise)):
        if wanted.column is not None:
            return wanted
    return None


def resolve_side_column(
    wanted: Wanted | None,
    names: Sequence[str] | None,
    n_columns: int,
    X: Any,
    index: Sequence[Any],
    grouping: Sequence[int],
) -> SideColumn | None:
    """The column that a parameter names.

    Parameters
    ----------
    wanted : Wanted or None
        A name, an integer position, or a callable that picks one of these from X.
    names : sequence of str or None
        Column names of X, if it has any.
    n_columns : int
    X : table
        Handed to a callable.
    index : sequence
        Names of X's row index, whose levels are no columns.
    grouping : sequence of int
        Positions of the grouping columns.

    Raises
    ------
    ValueError, TypeError
        No such column, a grouping column, or a callable that picks none or several.
    """
    if wanted is None:
        return None
    parameter, column = wanted
    if callable(column):
        picked = column(X)
        several = not isinstance(picked, str) and isinstance(picked, Sequence | np.ndarray)
        columns = list(picked) if several else [picked]
        if len(columns) != 1:
            raise ValueError(
                f"`{parameter}` is a callable that picked {short(columns)}, and must pick one "
                "column of X."
            )
        (column,) = columns
    position = find_column(column, names, n_columns, parameter, index)
    if position in grouping:
        raise ValueError(
            f"`{parameter}={column!r}` is a grouping column too: name a column that `groups` does "
            "not have."
        )
    return SideColumn(parameter, position, column_name(position, names))


def with_side_column(
    x: np.ndarray, table: Table, side: SideColumn | None, noise: bool = True
) -> np.ndarray:
    """Features, (n_samples, n_features), and after them the side column, if there is one.

    ``noise``: False leaves known noise unread, and NaN stands for it.

    Raises
    ------
    ValueError, TypeError
        As :func:`read_side_column`.
    """
    if side is None:
        return x
    numbers = np.full(len(x), np.nan)
    if noise or side.parameter != "known_noise":
        numbers = read_side_column(table.column(side.position), side)
    return np.column_stack([x, numbers])


def read_side_column(column: Column, side: SideColumn) -> np.ndarray:
    """What the model takes of the column: logs of exposures, or standard errors, (n_samples,).

    Parameters
    ----------
    column : Column
    side : SideColumn

    Raises
    ------
    ValueError, TypeError
        Dates, strings, categories; cells that are missing, infinite, zero or negative.
    """
    what = f"Column {side.name!r} of X, named by `{side.parameter}`,"
    if column.is_categorical:
        raise ValueError(f"{what} is categorical. Convert it to numbers first.")
    numbers = as_float64(numbers_or_error(column.cells, what), what, finite=False)
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers > 0)))
    if len(bad):
        seen = listed(f"row {i}: {numbers[i]:.10g}" for i in bad)
        raise ValueError(
            f"{what} must be positive, finite numbers, each row's {MEANING[side.parameter]}; "
            f"{len(bad)} of {len(numbers)} rows are not ({seen}). Correct them or drop the rows."
        )
    return np.log(numbers) if side.parameter == "exposure" else numbers
