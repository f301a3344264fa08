"""Grouping factors: which column of X they are, and their levels.

An unseen level gets an index of its own past the known ones, never -1: ``b[-1]`` is the last group.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

__all__ = ["GroupColumn", "Levels", "encode", "fit_levels", "resolve_groups", "resolve_slopes"]


class GroupColumn(NamedTuple):
    """Position of the grouping column in X, the factor's name, its slopes as the user gave them."""

    position: int
    name: str
    slopes: Any


class Levels(NamedTuple):
    """Sorted labels of a factor and what kind they are ("string", "number", "boolean", ...)."""

    labels: np.ndarray
    kind: str


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


def fit_levels(labels: np.ndarray, name: str) -> tuple[Levels, np.ndarray]:
    """Sorted levels of a factor and the code of each row.

    Parameters
    ----------
    labels : array of shape (n_samples,)
        As :func:`skhier.utils.frames.label_column` returns it.
    name : str
        The factor's name.

    Raises
    ------
    ValueError, TypeError
        Missing, infinite, complex, unhashable or mixed labels.
    """
    import pandas as pd

    labels, kind = _checked_labels(labels, name)
    codes, levels = pd.factorize(labels)
    levels = np.asarray(levels)
    order = _order(levels, kind, name)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Levels(levels[order], kind), rank[codes]


def _order(levels: np.ndarray, kind: str, name: str) -> np.ndarray:
    keys = levels if kind != "other" else np.array(list(map(repr, levels)))
    try:
        return np.argsort(keys, kind="stable")
    except TypeError as error:
        raise TypeError(
            f"groups mixes labels that have no order (column {name!r}): {error}. Convert them to "
            "one type."
        ) from None


def encode(labels: np.ndarray, levels: Levels, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes of rows, and the labels that fit never saw.

    Parameters
    ----------
    labels : array of shape (n_samples,)
    levels : Levels
        Of fit.
    name : str
        The factor's name.

    Returns
    -------
    codes : int array of shape (n_samples,)
        The k-th unseen label has code ``n_levels + k``.
    unseen : array
        In order of appearance.

    Raises
    ------
    ValueError, TypeError
        As in :func:`fit_levels`; or labels of another kind than in fit.
    """
    import pandas as pd

    labels, kind = _checked_labels(labels, name)
    if kind != levels.kind:
        raise ValueError(
            f"The labels of {name!r} are of kind {kind} (for example {_plain(labels[0])!r}) but "
            f"were of kind {levels.kind} (for example {_plain(levels.labels[0])!r}) in fit. "
            "Convert them to the same type."
        )
    known = pd.Index(levels.labels, tupleize_cols=False)
    codes = known.get_indexer(pd.Index(labels, tupleize_cols=False))
    new = codes < 0
    unseen_codes, unseen = pd.factorize(labels[new])
    codes[new] = len(levels.labels) + unseen_codes
    return codes, np.asarray(unseen)


def _checked_labels(labels: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    import pandas as pd

    missing = np.asarray(pd.isna(labels))
    if missing.any():
        raise ValueError(
            f"groups contains {missing.sum()} missing labels (first at row {np.argmax(missing)}) "
            f"in column {name!r}. Drop the rows or give them a label."
        )
    if labels.dtype.kind in "US":
        labels = labels.astype(object)
    kind = _kind(labels, name)
    if kind == "complex":
        raise ValueError(f"Complex data not supported: groups holds some in column {name!r}.")
    if labels.dtype.kind == "f":
        labels = labels.astype(np.float64)  # pandas cannot look up float16 and longdouble
    if kind == "number":
        _forbid_infinite(labels, name)
    return labels, kind


def _forbid_infinite(labels: np.ndarray, name: str) -> None:
    infinite = np.isin(labels, [np.inf, -np.inf])
    if infinite.any():
        raise ValueError(
            f"groups contains infinity in column {name!r} (first at row {np.argmax(infinite)})."
        )


def _kind(labels: np.ndarray, name: str) -> str:
    import pandas as pd

    inferred = pd.api.types.infer_dtype(labels, skipna=False)
    for kind, dtypes in _KINDS.items():
        if inferred in dtypes:
            return kind
    for label in labels:
        if not _hashable(label):
            raise TypeError(
                f"groups holds {short(label)} in column {name!r}: a label argument must be "
                "hashable, such as a string or a number."
            )
    types = sorted({type(_plain(label)).__name__ for label in labels})
    if len(types) > 1:
        raise TypeError(
            f"groups mixes label types: {', '.join(types)} (column {name!r}). Convert them to one "
            "type."
        )
    return "other"


_KINDS = {
    "string": {"string"},
    "number": {"integer", "floating", "mixed-integer-float", "decimal"},
    "boolean": {"boolean"},
    "bytes": {"bytes"},
    "complex": {"complex"},
    "datetime": {"datetime64", "datetime"},
    "date": {"date"},
    "time": {"time"},
    "duration": {"timedelta64", "timedelta"},
    "period": {"period"},
}


def _plain(label: Any) -> Any:
    """The label as Python's own type, for error messages."""
    return label.item() if isinstance(label, np.number | np.str_ | np.bool_) else label


def _hashable(label: Any) -> bool:
    try:
        hash(label)
    except TypeError:
        return False
    return True
