"""Nestings: grouping factors whose levels are the combinations of labels of several columns.

Cafes within states: cafe 1 of one state is not cafe 1 of another. Only combinations that occurred
in fit are levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skhier.utils.labels import Levels, encode

__all__ = ["NestedLevels", "encode_nested", "fit_nested"]


class NestedLevels(NamedTuple):
    """Sorted combinations of labels: by the first column, then the second, and so on.

    ``labels`` (n_levels,) holds tuples; ``columns`` and ``parts`` are each column's name and own
    levels; ``codes`` (n_levels, n_columns) says where in ``parts`` a tuple's labels are.
    """

    labels: np.ndarray
    columns: tuple[str, ...]
    parts: tuple[Levels, ...]
    codes: np.ndarray

    def keep(self, present: np.ndarray) -> NestedLevels:
        """Only some levels, given by index or mask; labels that none of them has go too."""
        columns = [np.unique(codes, return_inverse=True) for codes in self.codes[present].T]
        parts = (part.keep(used) for part, (used, _) in zip(self.parts, columns, strict=True))
        codes = np.column_stack([codes for _, codes in columns])
        return NestedLevels(self.labels[present], self.columns, tuple(parts), codes)


def fit_nested(
    columns: Sequence[tuple[Levels, np.ndarray]], names: Sequence[str]
) -> tuple[NestedLevels, np.ndarray]:
    """Sorted levels of a nesting and the code of each row.

    Parameters
    ----------
    columns : sequence of (Levels, int array of shape (n_samples,))
        Each column's own, as :func:`skhier.utils.labels.fit_levels` returns them.
    names : sequence of str
        The columns' names.

    Examples
    --------
    >>> from skhier.utils.labels import fit_levels
    >>> columns = [fit_levels(np.array(["u", "t", "u"]), "a"), fit_levels(np.array([1, 1, 2]), "b")]
    >>> levels, codes = fit_nested(columns, ["a", "b"])
    >>> levels.labels.tolist(), codes.tolist()
    ([('t', 1), ('u', 1), ('u', 2)], [1, 0, 2])
    """
    of_rows = np.column_stack([codes for _, codes in columns])
    place = np.zeros(len(of_rows), dtype=np.int64)
    for part, codes in columns:
        # a place is below n_samples, so that no number of columns overflows; its order is theirs
        keys = place * len(part.labels) + codes
        _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    parts, codes = tuple(part for part, _ in columns), of_rows[first]
    labels = _tuples([part.labels[at] for part, at in zip(parts, codes.T, strict=True)])
    return NestedLevels(labels, tuple(names), parts, codes), place


def encode_nested(
    columns: Sequence[np.ndarray], levels: NestedLevels
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of rows, and the combinations that fit never saw.

    Parameters
    ----------
    columns : sequence of arrays of shape (n_samples,)
    levels : NestedLevels
        Of fit.

    Returns
    -------
    codes : int array of shape (n_samples,)
        The k-th unseen combination has code ``n_levels + k``, also where each label is known.
    unseen : object array of tuples
        In order of appearance.

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.labels.encode`, for each column.
    """
    import pandas as pd

    n_levels = len(levels.labels)
    place = np.zeros(n_levels + len(columns[0]), dtype=np.int64)
    named = zip(columns, levels.columns, levels.parts, levels.codes.T, strict=True)
    for labels, name, part, of_levels in named:
        codes, unseen = encode(labels, part, name)
        keys = place * (len(part.labels) + len(unseen)) + np.append(of_levels, codes)
        # places by first appearance: the levels stand first, so that theirs are their codes
        place, _ = pd.factorize(keys)
    codes = place[n_levels:]
    new, first = np.unique(codes, return_index=True)
    first = first[new >= n_levels]
    return codes, _tuples([labels[first] for labels in columns])


def _tuples(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Rows as an object array of tuples, of Python's own types where there is one."""
    rows = np.empty(len(columns[0]), dtype=object)
    rows[:] = list(zip(*map(_as_list, columns), strict=True))
    return rows


def _as_list(labels: np.ndarray) -> list:
    return list(labels) if labels.dtype.kind in "mM" else labels.tolist()  # else ns become int
