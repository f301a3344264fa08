"""Feature columns that hold labels instead of numbers: found, and what to do about them."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as short
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.dependencies import is_into_dataframe

from skhier.utils.frames import column_of

__all__ = ["forbid_labels"]

ENCODERS = "scikit-learn's OneHotEncoder, OrdinalEncoder or TargetEncoder"


def forbid_labels(
    table: Any, positions: Sequence[int], names: Sequence[str], grouping: Sequence[str] = ()
) -> None:
    """Raise ValueError where a feature column is categorical or holds strings.

    Digits are labels too where someone chose to keep strings: a column of strings in a data frame,
    or strings among the cells of an object array. Not so in NumPy's string arrays, which turn
    numbers into strings that stand beside labels; only words are refused there.

    Parameters
    ----------
    table : DataFrame or 2-D array
        As :func:`skhier.utils.frames.as_table` returns it.
    positions : sequence of int
        Of the feature columns.
    names : sequence of str
        What to call them in errors.
    grouping : sequence of str
        For each of them, how to make it a grouping factor; empty where it is too late for that.
    """
    is_frame = is_into_dataframe(table)
    if not is_frame and table.dtype.kind not in "OSU":
        return
    for j, (position, name) in enumerate(zip(positions, names, strict=True)):
        column, what = column_of(table, position), f"Column {name!r} of X"
        advice = "Fit saw numbers in this column: encode it as before,"
        if grouping:
            advice = f"If it is a grouping factor, {grouping[j]}; if it is a feature, encode it"
        if is_frame and _is_categorical(table, position):
            raise ValueError(_categorical_message(what, column, advice))
        cells = np.asarray(column)
        if cells.dtype.kind in "OSU":
            _forbid_strings(cells, what, advice, digits=not is_frame and cells.dtype.kind in "SU")


def _is_categorical(table: Any, position: int) -> bool:
    if hasattr(table, "iloc"):
        series = nw.from_native(table.iloc[:, position], series_only=True)
    else:
        series = nw.from_native(table, eager_only=True)[:, position]
    return series.dtype in (nw.Categorical, nw.Enum)


def _categorical_message(what: str, column: Any, advice: str) -> str:
    example = short(_plain(_present(np.asarray(column))[0]))
    return (
        f"{what} is categorical: its labels, such as {example}, name categories and are no "
        f"quantities. {advice} with {ENCODERS}; labels that are quantities become numbers by "
        "astype(float)."
    )


def _present(cells: np.ndarray) -> np.ndarray:
    """The cells that are not missing; all if none is there."""
    import pandas as pd

    present = cells[~np.asarray(pd.isna(cells))]
    return present if len(present) else cells


def _forbid_strings(cells: np.ndarray, what: str, advice: str, digits: bool) -> None:
    """``digits``: strings of numbers are allowed."""
    is_string = np.array([isinstance(cell, str | bytes) for cell in cells.tolist()])
    strings = cells[is_string]
    if not len(strings):
        return
    problem = _no_number(strings)
    if digits and problem is None:
        return
    example = f": {problem}" if problem else f", such as {short(_plain(strings[0]))}"
    if len(strings) < len(_present(cells)):  # numbers, but for these cells
        raise ValueError(
            f"{what} holds strings in {len(strings)} of {len(cells)} rows (the first at row "
            f"{np.argmax(is_string)}){example}. Give these cells numbers or drop the rows; if "
            f"the column holds categories, encode it with {ENCODERS}."
        )
    distinct = len(set(strings.tolist()))
    numbers = "" if problem else "; strings of numbers become numbers by astype(float)"
    raise ValueError(
        f"{what} holds strings with {distinct} distinct values{example}. {advice} with "
        f"{ENCODERS}{numbers}."
    )


def _no_number(strings: np.ndarray) -> str | None:
    """Python's message of the first string that is no number."""
    for string in strings.tolist():
        try:
            float(string)
        except ValueError as error:
            return str(error)
    return None


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
