"""Columns that the estimator's parameters name: grouping factors, varying slopes, group means."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "GroupColumns",
    "column_name",
    "find_column",
    "forbid_unused_slopes",
    "is_all",
    "resolve_columns",
    "resolve_groups",
]


class GroupColumns(NamedTuple):
    """A grouping factor's columns of X, its name, and its slopes as the user gave them.

    Several ``positions`` are a nesting, whose levels are the combinations of labels.
    """

    positions: tuple[int, ...]
    name: str
    slopes: Any


def resolve_groups(
    groups: Any,
    slopes: Any,
    names: Sequence[str] | None,
    n_columns: int,
    X: Any,
    index: Sequence[Any] = (),
) -> tuple[GroupColumns, ...]:
    """The grouping factors that the estimator's ``groups`` means; none for ``groups=None``.

    Parameters
    ----------
    groups : None, str, int, list, dict or callable
        A column; a list of factors: columns, tuples of columns (a nesting), dicts; a dict from
        factor (column or tuple) to its slopes; or a callable that picks any of these from X.
    slopes
        The estimator's parameter, of every factor to which no dict gives its own.
    names : sequence of str or None
        Column names of X, if it has any.
    n_columns : int
    X : table
        Handed to ``groups`` if that is callable.
    index : sequence
        Names of X's row index, whose levels are no columns.

    Raises
    ------
    ValueError, TypeError
        No such column, a tuple outside a list, factors that cannot be told apart, or ``slopes``
        that no factor uses.

    Examples
    --------
    >>> resolve_groups(["state", ("state", "cafe")], None, ["x", "state", "cafe"], 3, None)[1]
    GroupColumns(positions=(1, 2), name='state:cafe', slopes=None)
    """
    if groups is None:
        return ()
    if callable(groups):
        groups = _picked(groups(X))
        forbid_unused_slopes(groups, slopes)
    factors = tuple(
        _group_columns(factor, wanted, names, n_columns, index)
        for factor, wanted in _factors_and_slopes(groups, slopes)
    )
    _check_distinct(factors)
    return factors


def forbid_unused_slopes(groups: Any, slopes: Any) -> None:
    """Raise ValueError where dicts give every factor its slopes, and ``slopes`` is set too.

    Parameters
    ----------
    groups, slopes
        The estimator's parameters; a callable is known only with X, see :func:`resolve_groups`.
    """
    parts = groups if isinstance(groups, list) else [groups]
    if is_all(slopes) or not all(isinstance(part, Mapping) for part in parts):
        return
    factors = [factor for part in parts for factor in part]
    if not factors:
        return
    (first, *others), more = factors, ", ..." if len(factors) > 1 else ""
    plain = factors if others or isinstance(first, tuple) else first
    inside = f"{{{short(first)}: {short(slopes)}{more}}}"
    raise ValueError(
        f"`slopes={short(slopes)}` would not be used, since `groups` is a dict that gives every "
        f"factor its own slopes: use one of the two, groups={inside} without `slopes`, or "
        f"groups={short(plain)} with it."
    )


def _picked(columns: Any) -> Any:
    """What a callable ``groups`` returned, its columns in a list."""
    one = isinstance(columns, str | Mapping) or not isinstance(columns, Iterable)
    columns = columns if one else list(columns)
    if columns is None or columns in ([], {}):
        raise ValueError("`groups` is a callable that picked no column of X.")
    return columns


def _factors_and_slopes(groups: Any, slopes: Any) -> list[tuple[Any, Any]]:
    if isinstance(groups, list | tuple | Mapping) and not groups:
        raise ValueError(
            f"`groups` must name a column, and {groups!r} names none. Set groups=None for a "
            "regression without groups."
        )
    if isinstance(groups, tuple):
        raise ValueError(_tuple_message(groups))
    if isinstance(groups, Mapping):
        return list(groups.items())
    if not isinstance(groups, list):
        return [(groups, slopes)]
    factors: list[tuple[Any, Any]] = []
    for part in groups:
        inner = isinstance(part, Mapping)
        factors += _factors_and_slopes(part, slopes) if inner else [(part, slopes)]
    return factors


def _tuple_message(groups: tuple[Any, ...]) -> str:
    """A tuple may mean two models; the user chooses."""
    if len(groups) == 1:
        return f"`groups` is {short(groups)}, a tuple. Pass groups={short(groups[0])} instead."
    crossed = short(list(groups))
    if not all(isinstance(part, str | numbers.Integral) for part in groups):
        return f"`groups` is {short(groups)}, a tuple. Pass a list of factors: groups={crossed}."
    inner, outer = short(groups[-1]), short(groups[0])
    return (
        f"`groups` is a tuple, which may mean two things. Pass groups=[{short(groups)}] for one "
        f"factor ({inner} nested within {outer}), or groups={crossed} for crossed factors."
    )


def _group_columns(
    factor: Any, slopes: Any, names: Sequence[str] | None, n_columns: int, index: Sequence[Any]
) -> GroupColumns:
    columns = factor if isinstance(factor, tuple) else (factor,)
    if isinstance(factor, tuple) and len(factor) < 2:
        fix = f" Write {short(factor[0])} for the column itself." if factor else ""
        raise ValueError(
            f"`groups` holds {short(factor)}, and a nesting has two columns or more.{fix}"
        )
    positions = tuple(find_column(column, names, n_columns, "groups", index) for column in columns)
    called = [column_name(position, names) for position in positions]
    if len(set(positions)) < len(positions):
        twice = next(name for name in called if called.count(name) > 1)
        raise ValueError(f"`groups` names column {twice!r} twice in the nesting {short(factor)}.")
    return GroupColumns(positions, ":".join(called), slopes)


def _check_distinct(factors: Sequence[GroupColumns]) -> None:
    by_columns: dict[frozenset[int], str] = {}
    for factor in factors:
        columns = frozenset(factor.positions)
        if columns in by_columns:
            raise ValueError(
                f"`groups` names one factor twice: {by_columns[columns]!r} and {factor.name!r} "
                "have the same levels. Leave one out."
            )
        if factor.name in by_columns.values():
            raise ValueError(
                f"Two factors of `groups` would be called {factor.name!r}. Rename a column of X."
            )
        by_columns[columns] = factor.name


def column_name(position: int, names: Sequence[str] | None) -> str:
    """The column's name, or ``x3`` for an unnamed one."""
    return str(names[position]) if names is not None else f"x{position}"


def find_column(
    column: Any,
    names: Sequence[str] | None,
    n_columns: int,
    parameter: str,
    index: Sequence[Any] = (),
) -> int:
    """Position of a column given by name or integer position.

    Parameters
    ----------
    column : str or int
    names : sequence of str or None
        Column names of X, if it has any.
    n_columns : int
    parameter : str
        The estimator's parameter that names the column, for errors.
    index : sequence
        Names of X's row index, whose levels are no columns.

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
    if column in index and column not in (names or ()):
        raise ValueError(
            f"`{parameter}={column!r}` is not a column of X but a level of its row index. Pass "
            "X.reset_index(), which makes it a column."
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


def is_all(columns: Any) -> bool:
    """Whether a parameter leaves the choice of features to the data."""
    return isinstance(columns, str) and columns == "all"


def resolve_columns(
    columns: Any,
    features: Sequence[int],
    names: Sequence[str] | None,
    n_columns: int,
    index: Sequence[Any] = (),
    parameter: str = "slopes",
    side: tuple[str, int] | None = None,
) -> tuple[int, ...]:
    """Which features (indices into ``features``) a parameter names; all of them for "all".

    ``side``: another parameter and the position of its column, which is no feature either.

    Raises
    ------
    ValueError, TypeError
        Neither "all", None nor a list of feature columns.
    """
    if columns is None:
        return ()
    if is_all(columns):
        return tuple(range(len(features)))
    if isinstance(columns, str) or not isinstance(columns, Sequence | np.ndarray):
        hint = ""
        if isinstance(columns, Mapping) and parameter == "slopes":
            hint = f" For slopes of each factor, groups={short(columns)}."
        raise ValueError(
            f"`{parameter}` must be 'all', None or a list of columns. Got {short(columns)} "
            f"instead.{hint}"
        )
    positions = [find_column(column, names, n_columns, parameter, index) for column in columns]
    for column, position in zip(columns, positions, strict=True):
        if side is not None and position == side[1]:
            raise ValueError(
                f"`{parameter}` names {column!r}, the column of `{side[0]}`, which is no feature."
            )
        if position not in features:
            which = "the" if n_columns - len(features) == 1 else "a"
            raise ValueError(
                f"`{parameter}` names {column!r}, {which} grouping column, which is no feature."
            )
        if positions.count(position) > 1:
            raise ValueError(f"`{parameter}` names column {column!r} more than once.")
    return tuple(sorted(list(features).index(position) for position in positions))
