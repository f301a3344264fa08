"""Grouping factors: their levels, and the code of each row's level.

An unseen level gets an index of its own past the known ones, never -1: ``b[-1]`` is the last group.
Factors of several columns are in :mod:`skhier.utils.nesting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.words import plain

__all__ = ["Levels", "encode", "fit_levels", "join_labels"]

SPAN = 16  # integers for each row, among which labels are counted


class Levels(NamedTuple):
    """Sorted labels of a factor and what kind they are ("string", "number", "boolean", ...)."""

    labels: np.ndarray
    kind: str

    def keep(self, present: np.ndarray) -> Levels:
        """Only some levels, given by index or mask."""
        return self._replace(labels=self.labels[present])


def fit_levels(labels: np.ndarray, name: str) -> tuple[Levels, np.ndarray]:
    """Sorted levels of a factor and the code of each row.

    Parameters
    ----------
    labels : array of shape (n_samples,)
        As :class:`skhier.utils.table.Column` has them.
    name : str
        The factor's name.

    Raises
    ------
    ValueError, TypeError
        Missing, infinite, complex, unhashable or mixed labels.
    """
    import pandas as pd

    labels, kind = _checked_labels(labels, name)
    if labels.dtype.kind in "iu" and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if high - low < SPAN * len(labels):
            return _fit_integers(labels, low, high - low + 1)
    codes, levels = pd.factorize(labels)
    levels = np.asarray(levels)
    order = _order(levels, kind, name)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Levels(levels[order], kind), rank[codes]


def _fit_integers(labels: np.ndarray, low: int, span: int) -> tuple[Levels, np.ndarray]:
    """Of integers that lie close together, from ``low``: counting takes less than hashing."""
    # unsigned ones may be above what int64 holds, and differences of int8 above what it holds
    wide = labels if labels.dtype.kind == "u" else labels.astype(np.int64)
    at = (wide - wide.dtype.type(low)).astype(np.int64)
    values, present = np.zeros(span, labels.dtype), np.zeros(span, bool)
    values[at], present[at] = labels, True
    return Levels(values[present], "number"), (np.cumsum(present) - 1)[at]


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
            f"The labels of {name!r} are of kind {kind} (for example {plain(labels[0])!r}) but "
            f"were of kind {levels.kind} (for example {plain(levels.labels[0])!r}) in fit. "
            "Convert them to the same type."
        )
    n_levels = len(levels.labels)
    # codes by first appearance: the levels stand first, so that theirs are their codes
    codes = pd.factorize(join_labels([levels.labels, labels]))[0][n_levels:]
    new = np.flatnonzero(codes >= n_levels)
    first = np.unique(codes[new], return_index=True)[1] if len(new) else new
    return codes, labels[new[first]]


def join_labels(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Labels of one kind in a row, of a type that holds all of them.

    Numbers of different types keep theirs, for a float does not hold every integer.

    Parameters
    ----------
    parts : sequence of arrays of shape (n_k,)
        Labels as :class:`Levels` holds them, or checked like these.
    """
    import pandas as pd

    if len({part.dtype for part in parts}) == 1:
        return np.concatenate(parts)
    kinds = {part.dtype.kind for part in parts}
    if not kinds.isdisjoint("mM"):  # units differ, or objects hold some of the times
        first, *others = (pd.Index(part, tupleize_cols=False) for part in parts)
        return np.asarray(first.append(others))
    if len(kinds) > 1:
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


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
    if kind == "number" and labels.dtype.kind not in "iu":
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
    for kind, dtypes in _INFERRED.items():
        if inferred in dtypes:
            return kind
    for label in labels:
        if not _hashable(label):
            raise TypeError(
                f"groups holds {short(label)} in column {name!r}: a label argument must be "
                "hashable, such as a string or a number."
            )
    types = sorted({type(plain(label)).__name__ for label in labels})
    if len(types) > 1:
        raise TypeError(
            f"groups mixes label types: {', '.join(types)} (column {name!r}). Convert them to one "
            "type."
        )
    return "other"


_INFERRED = {
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


def _hashable(label: Any) -> bool:
    try:
        hash(label)
    except TypeError:
        return False
    return True
