"""Statistics of rows as a value that users merge, undo, keep and exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skhier.statistics.arrow import to_table
from skhier.statistics.arrow_reading import from_table
from skhier.statistics.contents import Contents, merged, without
from skhier.utils.validation import check_number
from skhier.utils.words import listed

__all__ = ["GroupStatistics"]


@dataclass(frozen=True, repr=False, eq=False)
class GroupStatistics:
    """Sums over rows that are all a normal response needs of them; they add up.

    Made by ``model.summarise(X, y)`` or :meth:`from_arrow`, merged by ``+`` or ``sum``, fitted by
    ``model.fit_statistics``. Levels unite. ``whole - part`` undoes what was added. Pickles hold
    arrays, labels and words, and no row.

    Parameters
    ----------
    contents : Contents
        What they are about, and the sums; not part of the public interface.

    Examples
    --------
    >>> from skhier import HierarchicalSlopesRegressor
    >>> from skhier.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> model = HierarchicalSlopesRegressor(groups="Subject", random_state=0)
    >>> first, second = model.summarise(X[:95], y[:95]), model.summarise(X[95:], y[95:])
    >>> first + second
    GroupStatistics(180 rows, 18 levels of 'Subject', features 'Days')
    >>> model.fit_statistics(first + second).group_coef_["Subject"].shape
    (18, 2)
    """

    contents: Contents

    @classmethod
    def merged(cls, parts: Sequence[GroupStatistics]) -> GroupStatistics:
        """The sum of several at once, which takes less than one ``+`` after the other.

        Parameters
        ----------
        parts : sequence of GroupStatistics
            At least one; of disjoint rows.

        Raises
        ------
        ValueError
            Tables of other columns; other grouping factors, slopes or kinds of labels.
        """
        if not parts:
            raise ValueError("There are no statistics to merge: pass one or more.")
        return cls(merged([part.contents for part in parts]))

    def __add__(self, other: Any) -> GroupStatistics:
        """Statistics of the rows of both; ValueError where they are of other columns."""
        if not isinstance(other, GroupStatistics):
            return NotImplemented
        return GroupStatistics.merged([self, other])

    def __radd__(self, other: Any) -> GroupStatistics:
        """``sum`` begins with 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other: Any) -> GroupStatistics:
        """Without rows that were added before; ValueError where they were not."""
        if not isinstance(other, GroupStatistics):
            return NotImplemented
        return GroupStatistics(without(self.contents, other.contents))

    def __repr__(self) -> str:
        """Rows, levels and features."""
        design = self.contents.design
        levels = [f"{len(at.levels.labels)} levels of {at.name!r}" for at in design.factors]
        features = f"features {listed(map(repr, design.feature_names))}"
        parts = [
            f"{self.n_rows} rows",
            *levels,
            features if design.feature_names else "no features",
        ]
        return f"GroupStatistics({', '.join(parts)})"

    @property
    def n_rows(self) -> int:
        """How many rows with a weight."""
        return self.contents.n_rows

    def to_arrow(self, min_rows: int = 1) -> Any:
        """A ``pyarrow.Table`` to read, to keep in Parquet or a warehouse, or to send.

        A row for the total, one per level of each factor, and one per pair of levels of two factors
        that share rows. ``level: C`` is the label in column C; ``sum: a * b`` the sum of weight
        times the product of two columns, each less its shift and divided by its scale, which the
        text in ``about`` has.

        Parameters
        ----------
        min_rows : int
            A level of one row tells that row. With ``min_rows`` levels, and pairs of levels, of
            fewer rows are an error that names them: leaving them out would leave them in the total,
            from which they could be found by difference. Weights count as rows only as far as the
            largest weight allows.

        Raises
        ------
        ImportError
            No pyarrow.
        ValueError
            Levels of fewer rows than ``min_rows``; or labels for which Arrow has no type.
        """
        check_number("min_rows", min_rows, low=1, integer=True)
        return to_table(self.contents, int(min_rows))

    @classmethod
    def from_arrow(cls, table: Any) -> GroupStatistics:
        """What :meth:`to_arrow` wrote, its rows in any order.

        Parameters
        ----------
        table : pyarrow.Table

        Raises
        ------
        ValueError
            Another table, a later version, or a damaged one: cells missing, or levels that do not
            add up to the total. Nothing in the table is run.
        """
        return cls(from_table(table))
