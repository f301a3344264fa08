"""Levels of one grouping factor, learned from several blocks of rows, become one set of levels.

The union is sorted as if all rows had been read at once: it goes through the same two functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skhier.utils.labels import Levels, fit_levels, join_labels
from skhier.utils.nesting import NestedLevels, fit_nested

__all__ = ["NO_LEVELS", "unite_levels"]

NO_LEVELS = Levels(np.empty(0, dtype=object), "none")  # of no rows, so of no kind


def unite_levels(
    sets: Sequence[Levels | NestedLevels], name: str
) -> tuple[Levels | NestedLevels, list[np.ndarray]]:
    """The union of several sets of levels, and where the levels of each went.

    Parameters
    ----------
    sets : sequence of Levels or NestedLevels
        At least one; those without labels fit any others.
    name : str
        The factor's.

    Returns
    -------
    levels : Levels or NestedLevels
        Sorted as :func:`skhier.utils.labels.fit_levels` and
        :func:`skhier.utils.nesting.fit_nested` sort them.
    places : list of int array of shape (n_levels,)
        For each set the index in ``levels`` of each of its own.

    Raises
    ------
    ValueError, TypeError
        Labels of different kinds, or a nesting of other columns.

    Examples
    --------
    >>> parts = [Levels(np.array(["a", "c"], object), "string")]
    >>> parts += [Levels(np.array(["b", "c"], object), "string")]
    >>> levels, places = unite_levels(parts, "g")
    >>> levels.labels.tolist(), [at.tolist() for at in places]
    (['a', 'b', 'c'], [[0, 2], [1, 2]])
    """
    sizes = [len(levels.labels) for levels in sets]
    first, *others = [levels for levels in sets if len(levels.labels)] or sets[:1]
    if all(levels is first for levels in sets):
        return first, [np.arange(size) for size in sizes]
    joined: Levels | NestedLevels = first
    codes = np.arange(len(first.labels))
    if others:
        joined, codes = _read_at_once([first, *others], name)
    return joined, np.split(codes, np.cumsum(sizes)[:-1])


def _read_at_once(sets, name):
    """Levels of all labels in a row, and the code of each label."""
    nestings = [levels for levels in sets if isinstance(levels, NestedLevels)]
    if not nestings:
        _check_kinds(sets, name)
        return fit_levels(join_labels([levels.labels for levels in sets]), name)
    columns = {levels.columns for levels in nestings}
    if len(nestings) < len(sets) or len(columns) > 1:
        raise ValueError(
            f"The levels of {name!r} cannot be united: they are combinations of labels of "
            f"{' or of '.join(map(str, sorted(columns)))}"
            f"{', or labels of one column' if len(nestings) < len(sets) else ''}."
        )
    (called,) = columns
    of_columns = []
    for j, column in enumerate(called):
        parts = [levels.parts[j] for levels in nestings]
        _check_kinds(parts, column)
        of_levels = [levels.codes[:, j] for levels in nestings]
        labels = join_labels([p.labels[at] for p, at in zip(parts, of_levels, strict=True)])
        of_columns.append(fit_levels(labels, column))
    return fit_nested(of_columns, called)


def _check_kinds(sets: Sequence[Levels], name: str) -> None:
    examples = {levels.kind: levels.labels[0] for levels in sets}
    if len(examples) > 1:
        shown = ", ".join(f"{kind} (such as {at!r})" for kind, at in examples.items())
        raise ValueError(
            f"The labels of {name!r} are of different kinds and cannot be united: {shown}. Convert "
            "them to one type."
        )
