"""Columns that the estimator's parameters name: the grouping column and the varying slopes."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

__all__ = ["GroupColumn", "column_name", "find_column", "resolve_groups", "resolve_slopes"]


class GroupColumn(NamedTuple):
    """Position of the grouping column in X, the factor's name, its slopes as the user gave them."""

    position: int
    name: str
    slopes: Any


def resolve_groups(
    groups: Any, slopes: Any, names: Sequence[str] | None, n_columns: int, X: Any
) -> GroupColumn | None:
    """The grouping column that the estimator's ``groups`` means.

    Parameters
    ----------
    groups, slopes
        The estimator's parameters.
    names : sequence of str or None
        Column names of X, if it has any.
    n_columns : int
    X : table
        Handed to ``groups`` if that is callable.

    Raises
    ------
    ValueError, TypeError
        No such column, or not one grouping factor.
    """
    if groups is None:
        return None
    if callable(groups):
        picked = groups(X)
        one = isinstance(picked, str | numbers.Integral)
        picked = picked if one else list(picked)
        if picked == []:
            raise ValueError("`groups` is a callable that picked no column of X.")
        return resolve_groups(picked, slopes, names, n_columns, X)
    if isinstance(groups, Mapping):
        _check_single(list(groups), groups)
        ((factor, slopes),) = groups.items()
        return resolve_groups(factor, slopes, names, n_columns, X)
    if isinstance(groups, list):
        _check_single(groups, groups)
        return resolve_groups(groups[0], slopes, names, n_columns, X)
    if isinstance(groups, tuple):
        _check_single(groups, groups)
    position = find_column(groups, names, n_columns, "groups")
    return GroupColumn(position, column_name(position, names), slopes)


def _check_single(parts: Sequence[Any], groups: Any) -> None:
    if len(parts) != 1:
        raise ValueError(
            f"`groups` must name one grouping factor. Got {short(groups)} instead, which names "
            f"{len(parts)}."
        )
    if isinstance(groups, tuple) or isinstance(parts[0], tuple):
        raise ValueError(
            f"`groups` must name one column; nesting is not supported. Got {groups!r}."
        )


def column_name(position: int, names: Sequence[str] | None) -> str:
    """The column's name, or ``x3`` for an unnamed one."""
    return str(names[position]) if names is not None else f"x{position}"


def find_column(column: Any, names: Sequence[str] | None, n_columns: int, parameter: str) -> int:
    """Position of a column given by name or integer position.

    Raises
    ------
    ValueError, TypeError
        With the columns there are, and a guess at the one that was meant.
    """
    if isinstance(column, numbers.Integral) and not isinstance(column, bool | np.bool_):
        position = int(column)
        if not -n_columns <= position < n_columns:
            raise ValueError(f"`{parameter}={column}` is out of range: X has {n_columns} columns.")
        return position % n_columns
    if not isinstance(column, str):
        raise TypeError(
            f"`{parameter}` must name columns of X by string or integer. Got {short(column)} "
            "instead."
        )
    if names is None:
        raise ValueError(
            f"`{parameter}={column!r}` is a name, but X has no column names. Pass a DataFrame (in "
            f"a pipeline, set_output(transform='pandas')) or a position, such as {parameter}=-1."
        )
    if column not in names:
        raise ValueError(
            f"`{parameter}={column!r}` is not a column of X.{_guess(column, names)} Columns are: "
            f"{', '.join(map(repr, list(names)[:20]))}."
        )
    return list(names).index(column)


def _guess(column: str, names: Sequence[str]) -> str:
    renamed = [name for name in names if name.endswith(f"__{column}")]
    close = (
        renamed
        or difflib.get_close_matches(column, names, 1)
        or [name for name in names if name.lower() == column.lower()]
    )
    hint = " (a ColumnTransformer adds prefixes unless verbose_feature_names_out=False)"
    return f" Did you mean {close[0]!r}?{hint if renamed else ''}" if close else ""


def resolve_slopes(
    slopes: Any, features: Sequence[int], names: Sequence[str] | None, n_columns: int
) -> tuple[int, ...]:
    """Which features (indices into ``features``) have a varying slope.

    Raises
    ------
    ValueError, TypeError
        Neither "all", None nor a list of feature columns.
    """
    if slopes is None:
        return ()
    if isinstance(slopes, str) and slopes == "all":
        return tuple(range(len(features)))
    if isinstance(slopes, str) or not isinstance(slopes, Sequence | np.ndarray):
        raise ValueError(
            f"`slopes` must be 'all', None or a list of columns. Got {short(slopes)} instead."
        )
    found = [find_column(column, names, n_columns, "slopes") for column in slopes]
    for column, position in zip(slopes, found, strict=True):
        if position not in features:
            raise ValueError(
                f"`slopes` names {column!r}, the grouping column, which is no feature."
            )
        if found.count(position) > 1:
            raise ValueError(f"`slopes` names column {column!r} more than once.")
    return tuple(sorted(list(features).index(position) for position in found))
