"""Columns of whatever X is: NumPy, pandas, polars, pyarrow, nested lists."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.dependencies import is_into_dataframe
from scipy.sparse import issparse
from sklearn.utils import check_array

from skhier.utils.words import listed

__all__ = [
    "as_float64",
    "as_table",
    "column_names",
    "column_of",
    "index_names",
    "label_column",
    "numbers_or_error",
    "numeric_block",
    "with_columns_of_fit",
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
        raise TypeError(f"X is a lazy {type(X).__name__}; collect it into a data frame first.")
    _forbid_masked(X, "X")
    if isinstance(X, list | tuple):
        X = np.asarray(X, dtype=object)
    kind = getattr(getattr(X, "dtype", None), "kind", "O")
    if kind in "mMV":
        raise TypeError(f"X has dtype {X.dtype}, such as a datetime; convert it to numbers first.")
    X = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    if X.dtype.kind == "f":
        read = [j for j in range(X.shape[1]) if j not in unread]
        _forbid_non_finite(X if len(read) == X.shape[1] else X[:, read], [f"x{j}" for j in read])
    return X


def column_names(table: Any) -> list[Any]:
    """Of a data frame; none of an array."""
    if not is_into_dataframe(table):
        return []
    return list(table.columns if hasattr(table, "iloc") else nw.from_native(table).columns)


def index_names(table: Any) -> list[Any]:
    """Names of the row index's levels, if the table has one that is named."""
    names = getattr(getattr(table, "index", None), "names", None) or []
    return [name for name in names if name is not None]


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
    if names is None or not unread or not is_into_dataframe(table):
        return table
    columns = column_names(table)
    missing = [position for position in sorted(unread) if names[position] not in columns]
    if not missing or not all(isinstance(name, str) for name in columns):
        return table
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
    twice = [name for name, count in Counter(column_names(X)).items() if count > 1]
    if twice:
        shown = ", ".join(map(repr, twice[:5]))
        raise ValueError(f"X has more than one column named {shown}. Rename or drop them.")


def numeric_block(table: Any, positions: list[int], names: list[str]) -> np.ndarray:
    """Columns as finite float64, shape (n_samples, len(positions)), in Fortran order.

    Parameters
    ----------
    table : DataFrame or 2-D array
        As :func:`as_table` returns it.
    positions : list of int
    names : list of str
        What to call the columns in errors.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages; columns that hold no numbers, NaN or infinity are named.
    """
    if not is_into_dataframe(table) and table.dtype.kind in "biuf":
        return as_float64(table[:, positions], "X")
    block = np.empty((table.shape[0], len(positions)), order="F")
    for j, (position, name) in enumerate(zip(positions, names, strict=True)):
        what = f"Column {name!r} of X"
        column = numbers_or_error(column_of(table, position), what, strict=False)
        try:
            block[:, j] = as_float64(column, "X", finite=False)
        except (TypeError, ValueError) as error:
            if "Complex" in str(error):
                raise
            raise type(error)(f"{what}: {error}") from None
    _forbid_non_finite(block, names)
    return block


def _forbid_non_finite(block: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError that begins as scikit-learn's does and names the columns."""
    if np.isfinite(block).all():
        return
    bad, what = np.isnan(block), "NaN"
    fix = "fill the cells, for example with scikit-learn's SimpleImputer"
    if not bad.any():
        bad, what = np.isinf(block), "infinity or a value too large for dtype('float64')"
        fix = "give the cells finite numbers"
    n_rows, counts = int(bad.any(1).sum()), bad.sum(0)
    shown = listed(f"{names[j]!r} ({_rows(counts[j])})" for j in counts.nonzero()[0].tolist())
    raise ValueError(
        f"Input X contains {what} in {_rows(n_rows)} of {len(block)}, the first at row "
        f"{np.argmax(bad.any(1))}. Columns: {shown}. Drop these rows, or {fix}."
    )


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def column_of(table: Any, position: int) -> Any:
    """One column as the table's own kind of vector, or as an array."""
    if hasattr(table, "iloc"):
        return table.iloc[:, position]
    if is_into_dataframe(table):
        return nw.from_native(table, eager_only=True)[:, position].to_numpy()
    return table[:, position]


def as_float64(values: Any, name: str, finite: bool = True) -> np.ndarray:
    """As float64, of any number of dimensions, in Fortran order; NaN only unless ``finite``.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages; what float64 cannot hold counts as infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            return check_array(
                values,
                dtype=np.float64,
                ensure_2d=False,
                ensure_min_features=0,
                ensure_all_finite=finite,
                input_name=name,
                order="F",
            )
        except OverflowError:
            raise ValueError(
                f"Input {name} contains infinity or a value too large for dtype('float64')."
            ) from None


def numbers_or_error(values: Any, what: str, strict: bool = True) -> Any:
    """An array that scikit-learn can convert to float64, missing cells as NaN.

    Parameters
    ----------
    values : array-like
        Of any container; its shape is not checked.
    what : str
        What to call it in errors.
    strict : bool
        Forbid what scikit-learn would convert: categories and strings of digits.

    Raises
    ------
    ValueError, TypeError
        Masked, dates or times, and if ``strict`` categories or strings.
    """
    _forbid_masked(values, what)
    if issparse(values):
        return values  # scikit-learn's own message says what to do
    if strict and hasattr(getattr(values, "dtype", None), "categories"):
        raise ValueError(f"{what} is categorical; a regression needs numbers. Convert it first.")
    cells = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
    if cells.dtype.kind in "mM":
        raise TypeError(_not_a_number(what, f"datetime values (dtype {cells.dtype})"))
    if cells.dtype.kind == "V":
        raise TypeError(_not_a_number(what, f"records (dtype {cells.dtype})"))
    if cells.dtype.kind in "OSU":
        return _checked_cells(cells, what, strict)
    return cells


def _checked_cells(cells: np.ndarray, what: str, strict: bool) -> np.ndarray:
    import pandas as pd

    temporal = (*_TEMPORAL, pd.Period)
    # backwards, so that the first cell of each type stays
    examples = {type(cell): cell for cell in reversed(cells.ravel().tolist())}
    for kind, example in examples.items():
        if issubclass(kind, temporal) and example is not pd.NaT:
            raise TypeError(_not_a_number(what, f"datetime values, such as {example!r}"))
        if strict and issubclass(kind, str | bytes):
            raise ValueError(_not_a_number(what, _strings(example)))
    missing = pd.isna(cells)
    return np.where(missing, np.nan, cells) if np.any(missing) else cells


_TEMPORAL = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


def _strings(example: str | bytes) -> str:
    try:
        float(example)
    except ValueError as error:
        return f"strings: {error}"
    return f"strings, such as {example!r}"


def _not_a_number(what: str, found: str) -> str:
    return f"{what} holds {found}. Convert it to numbers first."


def _forbid_masked(values: Any, name: str) -> None:
    if np.ma.isMaskedArray(values) and np.ma.getmaskarray(values).any():
        n_masked = int(np.ma.getmaskarray(values).sum())
        raise ValueError(f"{name} has {n_masked} masked values; fill them or drop the rows.")


def label_column(table: Any, position: int) -> np.ndarray:
    """One column's labels as a 1-D NumPy array; categoricals give their values."""
    if not is_into_dataframe(table):
        return np.asarray(table[:, position])
    if hasattr(table, "iloc"):
        return np.asarray(table.iloc[:, position])
    series = nw.from_native(table, eager_only=True)[:, position]
    if series.dtype in (nw.Categorical, nw.Enum):
        series = series.cast(nw.String)
    elif isinstance(series.dtype, nw.Struct):
        return np.fromiter(series, dtype=object, count=len(series))
    return np.asarray(series.to_numpy())
