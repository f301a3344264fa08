"""Feature columns that hold labels instead of numbers, and what to do about them."""

from __future__ import annotations

from reprlib import repr as short

import numpy as np

from skhier.utils.table import Column
from skhier.utils.words import plain

__all__ = ["ENCODERS", "forbid_labels"]

ENCODERS = "scikit-learn's OneHotEncoder, OrdinalEncoder or TargetEncoder"


def forbid_labels(column: Column, cells: np.ndarray, what: str, as_group: str | None) -> None:
    """Raise ValueError where a feature column is categorical or holds strings.

    Digits are labels too where someone chose to keep strings: a column of strings in a data frame,
    or strings among the cells of an object array. Not so in NumPy's string arrays, which turn
    numbers into strings that stand beside labels; only words are refused there.

    Parameters
    ----------
    column : Column
    cells : array of shape (n_samples,)
        The column's.
    what : str
        What to call it in errors.
    as_group : str or None
        How to make it a grouping factor; None where it is too late for that.
    """
    categorical = column.is_categorical
    if not categorical and cells.dtype.kind not in "OSU":
        return
    advice = "Fit saw numbers in this column: encode it as before,"
    if as_group is not None:
        advice = f"If it is a grouping factor, {as_group}; if it is a feature, encode it"
    if categorical:
        raise ValueError(_categorical_message(what, cells, advice))
    digits = column.is_array and cells.dtype.kind in "SU"
    _forbid_strings(cells, what, advice, digits)


def _categorical_message(what: str, cells: np.ndarray, advice: str) -> str:
    example = short(plain(_present(cells)[0]))
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
    example = f": {problem}" if problem else f", such as {short(plain(strings[0]))}"
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
