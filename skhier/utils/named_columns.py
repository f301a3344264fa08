"""y and weights that are given as the names of columns of X."""

from __future__ import annotations

from typing import Any

import narwhals as nw
from narwhals.dependencies import is_into_dataframe

from skhier.utils.table import table_of
from skhier.utils.words import listed

__all__ = ["check_named", "split_named"]


def split_named(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """X without the columns that ``y`` and ``sample_weight`` name, and these.

    Parameters
    ----------
    X : table
    y, sample_weight : array, str or None
        What is no string stays.

    Raises
    ------
    TypeError
        A name, and X has none.
    ValueError
        No such column, or the same for both.
    """
    if not isinstance(y, str) and not isinstance(sample_weight, str):
        return X, y, sample_weight
    if not is_into_dataframe(X):
        raise TypeError(
            f"y={y!r} names a column of X, and X is a {type(X).__name__} without names. Pass a "
            "data frame, or y itself."
            if isinstance(y, str)
            else f"sample_weight={sample_weight!r} names a column of X, and X is a "
            f"{type(X).__name__} without names. Pass a data frame, or the weights."
        )
    table, taken, values = table_of(X), [], []
    check_named(table.columns, y, sample_weight)
    for named in (y, sample_weight):
        if isinstance(named, str):
            taken.append(named)
            column = table.column(table.columns.index(named))
            values.append(column.cells if isinstance(column.native, nw.Series) else column.native)
        else:
            values.append(named)
    return table.without(taken), values[0], values[1]


def check_named(names: list[Any], y: Any, sample_weight: Any, fold: Any = None) -> None:
    """Raise ValueError unless the names given are columns, and different ones."""
    named = {"y": y, "sample_weight": sample_weight, "cv": fold}
    taken: dict[str, str] = {}
    for what, name in named.items():
        if not isinstance(name, str):
            continue
        if name not in names:
            raise ValueError(
                f"`{what}={name!r}` is not a column of X. Columns are: {listed(map(repr, names))}."
            )
        if name in taken:
            raise ValueError(
                f"{taken[name]} and {what} are both {name!r}; they are different columns."
            )
        taken[name] = what
