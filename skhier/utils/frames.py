"""Columns of whatever X is: NumPy, pandas, polars, pyarrow, nested lists."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
from narwhals.dependencies import is_into_dataframe
from sklearn.utils import check_array

__all__ = ["as_table", "column_dtype_is_temporal", "label_column", "numeric_block"]


def as_table(X: Any) -> Any:
    """X itself if it is a data frame, else a 2-D array checked by scikit-learn.

    Object arrays keep their cells as they are; numeric arrays must be finite.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages: not 2-D, empty, sparse, complex, NaN, infinite.
    """
    if is_into_dataframe(X):
        return X
    _forbid_masked(X, "X")
    if isinstance(X, list | tuple):
        X = np.asarray(X, dtype=object)
    kind = getattr(getattr(X, "dtype", None), "kind", "O")
    if kind in "mM":
        raise TypeError(f"X has dtype {X.dtype}: a datetime is not a number. Convert it first.")
    return check_array(X, dtype=None, ensure_all_finite=kind not in "OSU", input_name="X")


def _forbid_masked(values: Any, name: str) -> None:
    if np.ma.isMaskedArray(values) and np.ma.getmaskarray(values).any():
        n_masked = int(np.ma.getmaskarray(values).sum())
        raise ValueError(f"{name} has {n_masked} masked values; fill them or drop the rows.")


def numeric_block(table: Any, positions: list[int], names: list[str]) -> np.ndarray:
    """Columns as finite float64, shape (n_samples, len(positions)).

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages; a datetime column is named.
    """
    for position, name in zip(positions, names, strict=True):
        if column_dtype_is_temporal(table, position):
            raise TypeError(
                f"Column {name!r} of X holds datetime values; convert it to a number, for example "
                "days since a date."
            )
    block = _take(table, positions)
    if not positions:
        return np.empty((len(block), 0))
    return check_array(block, dtype=np.float64, input_name="X", order="F")


def _take(table: Any, positions: list[int]) -> Any:
    if hasattr(table, "iloc"):
        return table.iloc[:, positions]
    if is_into_dataframe(table):
        if not positions:
            return np.empty((nw.from_native(table, eager_only=True).shape[0], 0))
        return nw.from_native(table, eager_only=True)[:, positions].to_numpy()
    return table[:, positions]


def column_dtype_is_temporal(table: Any, position: int) -> bool:
    """Whether a column holds dates, times or durations, typed or as objects."""
    import pandas as pd

    if is_into_dataframe(table):
        dtype = _series(table, position).dtype
        if dtype != nw.Object:
            return bool(dtype.is_temporal())
    elif table.dtype.kind != "O":
        return False
    inferred = pd.api.types.infer_dtype(label_column(table, position), skipna=True)
    return inferred in {
        "datetime64",
        "datetime",
        "date",
        "timedelta64",
        "timedelta",
        "time",
        "period",
    }


def _series(table: Any, position: int) -> Any:
    if hasattr(table, "iloc"):
        return nw.from_native(table.iloc[:, position], series_only=True)
    return nw.from_native(table, eager_only=True)[:, position]


def label_column(table: Any, position: int) -> np.ndarray:
    """One column's labels as a 1-D NumPy array; categoricals give their values."""
    if not is_into_dataframe(table):
        return np.asarray(table[:, position])
    if hasattr(table, "iloc"):
        column = table.iloc[:, position]
        if hasattr(column, "cat"):
            column = column.astype(column.cat.categories.dtype)
        return np.asarray(column.to_numpy())
    series = _series(table, position)
    if series.dtype in (nw.Categorical, nw.Enum):
        series = series.cast(nw.String)
    return np.asarray(series.to_numpy())
