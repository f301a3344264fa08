"""Columns of whatever X is: NumPy, pandas, polars, pyarrow, nested lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.dependencies import is_into_dataframe, is_polars_dataframe
from sklearn.utils import check_array

from skhier.utils.cells import forbid_masked, forbid_non_finite

__all__ = [
    "as_table",
    "cells_of",
    "column_names",
    "columns_of",
    "index_names",
    "is_categorical",
    "labels_of",
    "missing_columns",
    "with_columns_of_fit",
    "without_time_zones",
]


def as_table(X: Any, unread: Sequence[int] = ()) -> Any:
    """X itself if it is a data frame, else a 2-D array checked by scikit-learn.

    Object arrays keep their cells as they are; numeric arrays must be finite.

    Parameters
    ----------
    X : table
    unread : sequence of int
        Positions of columns that will not be read, whose cells may be anything.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages: not 2-D, empty, sparse, complex, NaN, infinite; and: lazy, masked,
        dates, column names that occur twice.
    """
    if is_into_dataframe(X):
        _check_frame(X, needs_columns=not unread)
        return X
    if isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
        raise TypeError(
            f"X is a lazy {type(X).__name__}; collect it into a data frame first, or call "
            "skhier.frames.predict."
        )
    forbid_masked(X, "X")
    if isinstance(X, list | tuple):
        X = np.asarray(X, dtype=object)
    kind = getattr(getattr(X, "dtype", None), "kind", "O")
    if kind in "mMV":
        raise TypeError(f"X has dtype {X.dtype}, such as a datetime; convert it to numbers first.")
    X = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    if X.dtype.kind == "f":
        read = [j for j in range(X.shape[1]) if j not in unread]
        forbid_non_finite(X if len(read) == X.shape[1] else X[:, read], [f"x{j}" for j in read])
    return X


def column_names(table: Any) -> list[Any]:
    """Of a data frame; none of an array."""
    return _names_of_frame(table) if is_into_dataframe(table) else []


def _names_of_frame(table: Any) -> list[Any]:
    tells = hasattr(table, "iloc") or is_polars_dataframe(table)
    return list((table if tells else nw.from_native(table)).columns)


def index_names(table: Any) -> list[Any]:
    """Names of the row index's levels, if the table has one that is named."""
    names = getattr(getattr(table, "index", None), "names", None) or []
    return [name for name in names if name is not None]


def missing_columns(table: Any, names: Sequence[str] | None, unread: Sequence[int]) -> list[int]:
    """Positions of columns in fit that the table lacks, of those that it may lack.

    Parameters
    ----------
    table : DataFrame or 2-D array
    names : sequence of str or None
        Column names in fit; without names nothing can be missing.
    unread : sequence of int
        Positions of columns in fit that may be missing.
    """
    if names is None or not unread or not is_into_dataframe(table):
        return []
    columns = column_names(table)
    if not all(isinstance(name, str) for name in columns):
        return []
    return [position for position in sorted(unread) if names[position] not in columns]


def with_columns_of_fit(table: Any, names: Sequence[str] | None, unread: Sequence[int]) -> Any:
    """The table with zeros for columns that will not be read and that it lacks.

    Parameters
    ----------
    table : DataFrame or 2-D array
    names : sequence of str or None
        Column names in fit; without names nothing can be missing.
    unread : sequence of int
        Positions of columns in fit that may be missing.
    """
    missing = missing_columns(table, names, unread)
    if names is None or not missing:
        return table
    columns = column_names(table)
    for position in missing:
        columns.insert(position, names[position])
    zeros = [nw.lit(0).alias(names[position]) for position in missing]
    frame = nw.from_native(table, eager_only=True)
    return frame.with_columns(*zeros).select(columns).to_native()


def _check_frame(X: Any, needs_columns: bool) -> None:
    for size, what in zip(X.shape, ("sample(s)", "feature(s)"), strict=True):
        if size == 0 and (needs_columns or what == "sample(s)"):
            raise ValueError(
                f"Found X with 0 {what} (shape={X.shape}) while a minimum of 1 is required."
            )
    names = _names_of_frame(X)
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        shown = ", ".join(map(repr, twice[:5]))
        raise ValueError(f"X has more than one column named {shown}. Rename or drop them.")


def columns_of(table: Any) -> Callable[[int], Any]:
    """A function from position to column: a series of pandas or narwhals, or a part of an array.

    Parameters
    ----------
    table : DataFrame or 2-D array
        As :func:`as_table` returns it, so that no two columns have one name.
    """
    if isinstance(table, np.ndarray):
        return lambda position: table[:, position]
    if not hasattr(table, "iloc"):
        frame = nw.from_native(table, eager_only=True)
        return lambda position: frame.get_column(frame.columns[position])
    names = table.columns

    def column(position):
        name = names[position]
        # by name takes half as long; tuples and numbers may mean something else there
        return table[name] if isinstance(name, str) else table.iloc[:, position]

    return column


def cells_of(column: Any) -> np.ndarray:
    """The cells of a column of :func:`columns_of`, (n_samples,)."""
    return np.asarray(column.to_numpy() if isinstance(column, nw.Series) else column)


def is_categorical(column: Any) -> bool:
    """Whether a column of :func:`columns_of` has a type of categories."""
    if isinstance(column.dtype, np.dtype):
        return False
    if not isinstance(column, nw.Series):
        column = nw.from_native(column, series_only=True)
    return isinstance(column.dtype, nw.Categorical | nw.Enum)


def labels_of(column: Any) -> np.ndarray:
    """Labels of a column of :func:`columns_of`, (n_samples,); categoricals give their values."""
    if isinstance(column, nw.Series):
        if is_categorical(column):
            column = column.cast(nw.String)
        elif isinstance(column.dtype, nw.Struct):
            return np.fromiter(column, dtype=object, count=len(column))
    return cells_of(column)


def without_time_zones(frame: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Times as the clock of their zone shows them, which is what pandas makes of Spark's."""
    zoned = [
        name
        for name, dtype in frame.schema.items()
        if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None
    ]
    return frame.with_columns(nw.col(name).dt.replace_time_zone(None) for name in zoned)
