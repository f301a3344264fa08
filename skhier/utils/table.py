"""Tables, whatever X is: NumPy, pandas, polars, pyarrow, nested lists.

X is looked at once, by :func:`read_table`; what comes later asks the :class:`Table`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.dependencies import is_into_dataframe, is_polars_dataframe
from sklearn.utils import check_array

from skhier.utils.cells import forbid_masked, forbid_non_finite

__all__ = ["Column", "Table", "read_table", "table_of"]


class Column:
    """A column of a table, (n_rows,): a series of pandas or narwhals, or a part of an array.

    Nothing is kept: each attribute reads the column where it is asked for.
    """

    __slots__ = ("native",)

    def __init__(self, native: Any):
        self.native = native

    @property
    def is_array(self) -> bool:
        """Whether it is a part of an array, which has no types of categories."""
        return isinstance(self.native, np.ndarray)

    @property
    def is_categorical(self) -> bool:
        """Whether its type is one of categories."""
        dtype = self.native.dtype
        if isinstance(dtype, np.dtype):
            return False
        if not isinstance(self.native, nw.Series):
            dtype = nw.from_native(self.native, series_only=True).dtype
        return isinstance(dtype, nw.Categorical | nw.Enum)

    @property
    def cells(self) -> np.ndarray:
        """The cells, (n_rows,)."""
        native = self.native
        return np.asarray(native.to_numpy() if isinstance(native, nw.Series) else native)

    @property
    def labels(self) -> np.ndarray:
        """The cells as labels, (n_rows,); categoricals give their values."""
        native = self.native
        if isinstance(native, nw.Series):
            if self.is_categorical:
                return Column(native.cast(nw.String)).cells
            if isinstance(native.dtype, nw.Struct):
                return np.fromiter(native, dtype=object, count=len(native))
        return self.cells


@dataclass
class Table:
    """What the columns of X are called and how many rows there are; cells come by the column.

    Attributes
    ----------
    native : DataFrame or 2-D array
    columns : list
        Names of a data frame's columns; none of an array's.
    n_rows, n_columns : int
        Grouping columns among them.
    lacking : tuple of int
        Positions of columns that X did not have and that will not be read; zeros stand there.
    """

    native: Any
    columns: list[Any]
    n_rows: int
    n_columns: int
    lacking: tuple[int, ...] = ()

    @property
    def index(self) -> list[Any]:
        """Names of the row index's levels, if X has one that is named; they are no columns."""
        names = getattr(getattr(self.native, "index", None), "names", None) or []
        return [name for name in names if name is not None]

    @cached_property
    def names(self) -> list[str] | None:
        """Of the columns, if all are strings; None: they go by position alone."""
        return self.columns if self.columns and self._are_strings else None

    @property
    def _are_strings(self) -> bool:
        return all(isinstance(name, str) for name in self.columns)

    @cached_property
    def _frame(self) -> Any:
        return nw.from_native(self.native, eager_only=True)

    def column(self, position: int) -> Column:
        """The column at a position."""
        native = self.native
        if isinstance(native, np.ndarray):
            return Column(native[:, position])
        name = self.columns[position]
        if not hasattr(native, "iloc"):
            return Column(self._frame.get_column(name))
        # by name takes half as long; tuples and numbers may mean something else there
        return Column(native[name] if isinstance(name, str) else native.iloc[:, position])

    def without(self, names: Sequence[str]) -> Any:
        """The data frame without some columns."""
        return self._frame.drop(list(names)).to_native()

    def with_columns_of_fit(self, names: Sequence[str] | None, unread: Sequence[int]) -> Table:
        """The table with zeros for columns that will not be read and that it lacks.

        Parameters
        ----------
        names : sequence of str or None
            Column names in fit; without names nothing can be missing.
        unread : sequence of int
            Positions of columns in fit that may be missing.
        """
        if names is None or not unread or isinstance(self.native, np.ndarray):
            return self
        lacking = tuple(at for at in sorted(unread) if names[at] not in self.columns)
        if not lacking or not self._are_strings:
            return self
        columns = list(self.columns)
        for at in lacking:
            columns.insert(at, names[at])
        zeros = [nw.lit(0).alias(names[at]) for at in lacking]
        native = self._frame.with_columns(*zeros).select(columns).to_native()
        return Table(native, columns, self.n_rows, len(columns), lacking)


def table_of(native: Any, names: Sequence[Any] | None = None) -> Table:
    """A data frame or a 2-D array as a table, unchecked, perhaps without rows.

    Parameters
    ----------
    native : DataFrame or 2-D array
    names : sequence or None
        Of the columns; None: as the data frame calls them.
    """
    if names is not None:
        columns = list(names)
    else:
        columns = _names_of_frame(native) if is_into_dataframe(native) else []
    return Table(native, columns, *native.shape)


def read_table(X: Any, unread: Sequence[int] = ()) -> Table:
    """X as a table: a data frame as it is, anything else as an array checked by scikit-learn.

    Object arrays keep their cells as they are; numeric arrays must be finite.

    Parameters
    ----------
    X : table
    unread : sequence of int
        Positions of columns that will not be read, whose cells may be anything.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages: not 2-D, empty, sparse, complex, NaN, infinite; and: lazy, masked,
        dates, column names that occur twice.
    """
    if not is_into_dataframe(X):
        array = _array_of(X, unread)
        return Table(array, [], *array.shape)
    table = table_of(X, _names_of_frame(X))
    _check_frame(table, needs_columns=not unread)
    return table


def _array_of(X: Any, unread: Sequence[int]) -> np.ndarray:
    if isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
        raise TypeError(
            f"X is a lazy {type(X).__name__}; collect it into a data frame first, or call "
            "skhier.frames.predict."
        )
    forbid_masked(X, "X")
    if isinstance(X, list | tuple):
        X = np.asarray(X, dtype=object)
    kind = getattr(getattr(X, "dtype", None), "kind", "O")
    if kind in "mMV":
        raise TypeError(f"X has dtype {X.dtype}, such as a datetime; convert it to numbers first.")
    X = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    if X.dtype.kind == "f":
        read = [j for j in range(X.shape[1]) if j not in unread]
        forbid_non_finite(X if len(read) == X.shape[1] else X[:, read], [f"x{j}" for j in read])
    return X


def _check_frame(table: Table, needs_columns: bool) -> None:
    shape = table.n_rows, table.n_columns
    for size, what in zip(shape, ("sample(s)", "feature(s)"), strict=True):
        if size == 0 and (needs_columns or what == "sample(s)"):
            raise ValueError(f"Found X with 0 {what} ({shape=}) while a minimum of 1 is required.")
    names = table.columns
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        shown = ", ".join(map(repr, twice[:5]))
        raise ValueError(f"X has more than one column named {shown}. Rename or drop them.")


def _names_of_frame(table: Any) -> list[Any]:
    tells = hasattr(table, "iloc") or is_polars_dataframe(table)
    return list((table if tells else nw.from_native(table)).columns)
