"""Cells of a column, or of y: which are numbers, and these as float64."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

from skhier.utils.words import listed

__all__ = [
    "as_float64",
    "forbid_masked",
    "forbid_non_finite",
    "numbers_or_error",
    "relative_spacing",
    "write_float64",
]

TOO_LARGE = 1e150  # squares of anything larger overflow


def write_float64(cells: np.ndarray, out: np.ndarray, what: str) -> None:
    """Write a feature column's cells as float64; missing ones and those too large need a check.

    Parameters
    ----------
    cells : array of shape (n_samples,)
    out : float64 array of shape (n_samples,)
    what : str
        What to call the column in errors.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages for what is no number, with ``what`` in front.
    """
    numbers = numbers_or_error(cells, what, strict=False)
    try:
        if numbers.dtype.kind not in "biuf":  # which NumPy converts as scikit-learn does
            numbers = as_float64(numbers, "X", finite=False)
        with np.errstate(over="ignore", invalid="ignore"):
            out[:] = numbers
    except (TypeError, ValueError) as error:
        if "Complex" in str(error):
            raise
        raise type(error)(f"{what}: {error}") from None


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
    forbid_masked(values, what)
    if issparse(values):
        return values  # scikit-learn's own message says what to do
    dtype = getattr(values, "dtype", None)
    # polars' Categorical has had `categories` since 1.32 only
    if strict and (hasattr(dtype, "categories") or type(dtype).__name__ == "Categorical"):
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


def _not_a_number(what: str, content: str) -> str:
    return f"{what} holds {content}. Convert it to numbers first."


def relative_spacing(values: Any) -> float:
    """Distance from 1 to the next number of the type in which the values came.

    0 where the type is as fine as float64, or holds no floating-point numbers.
    """
    if isinstance(values, list | tuple):
        return 0.0
    dtype = np.asarray(values).dtype
    if dtype.kind != "f" or np.finfo(dtype).eps <= np.finfo(np.float64).eps:
        return 0.0
    return float(np.finfo(dtype).eps)


def forbid_non_finite(block: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError that begins as scikit-learn's does and names the columns.

    Parameters
    ----------
    block : float array of shape (n_samples, len(names))
    names : sequence of str
    """
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


def forbid_masked(values: Any, name: str) -> None:
    """Raise ValueError if any cell is masked."""
    if np.ma.isMaskedArray(values) and np.ma.getmaskarray(values).any():
        n_masked = int(np.ma.getmaskarray(values).sum())
        raise ValueError(f"{name} has {n_masked} masked values; fill them or drop the rows.")
