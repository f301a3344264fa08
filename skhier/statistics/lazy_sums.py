"""Sums that an engine forms: of products, by any columns of labels, also split by one of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cached_property, reduce
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from skhier.statistics.lazy_checks import Columns, Scan
from skhier.statistics.polars_batches import is_long, sums_in_batches
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.cells import TOO_LARGE
from skhier.utils.labels import encode, fit_levels
from skhier.utils.lazy_engines import naming, without_time_zones
from skhier.utils.named_columns import check_named
from skhier.utils.schema import Schema, read_schema
from skhier.utils.table import Column, table_of

__all__ = ["Groups", "Opened", "PartOfSums", "Query", "SplitSums", "Sums", "opened"]


class Query:
    """A frame, and how its engine runs queries."""

    def __init__(self, X: Any, engine: str, budget: DataBudget = USUAL.data):
        self.engine, self.budget = engine, budget
        self.frame: nw.LazyFrame[Any] = nw.from_native(X)

    def collect(self, query: Callable[[], nw.LazyFrame[Any]]) -> nw.DataFrame[Any]:
        """The rows of a query, which some engines look at when it is stated."""
        # Polars' other engine would hold a product of all rows at a time
        options: dict[str, Any] = {"engine": "streaming"} if self.engine == "Polars" else {}
        with naming(self.engine):
            table = query().collect(**options)
        return without_time_zones(table) if self.engine == "Spark" else table

    def collect_groups(
        self,
        read: Sequence[str],
        cells: Sequence[nw.Expr],
        by: Sequence[str],
        sums: Sequence[nw.Expr],
    ) -> nw.DataFrame[Any]:
        """Sums of cells by groups, without ``by`` of all rows; ``read``: columns of the cells."""
        if not by:
            return self.collect(lambda: self.frame.select(*cells).select(*sums))
        if self.is_long:
            with naming(self.engine):
                rows = self.frame.select(*read).to_native()
                return sums_in_batches(rows, cells, by, sums, self.budget)
        return self.collect(lambda: self.frame.select(*cells).group_by(*by).agg(*sums))

    @cached_property
    def is_long(self) -> bool:
        """Whether it is a frame of Polars whose ``group_by`` may take too much memory."""
        if self.engine != "Polars":
            return False
        native = self.frame.to_native()
        return hasattr(native, "collect_batches") and is_long(native, self.budget)


class Opened(NamedTuple):
    """A lazy frame and what its columns are.

    Attributes
    ----------
    query : Query
    types : mapping of str to narwhals DType
        Of all columns.
    names : list of str
        Of X's columns.
    schema : Schema
        What they mean.
    columns : Columns
        Those that are read.
    """

    query: Query
    types: Any
    names: list[str]
    schema: Schema
    columns: Columns


def opened(
    X: Any,
    y: str,
    sample_weight: str | None,
    groups: Any,
    slopes: Any,
    engine: str,
    budget: DataBudget,
    fold: str | None = None,
) -> Opened:
    """A lazy frame whose columns are known, and none of whose rows is.

    Parameters
    ----------
    X, y, sample_weight, groups, slopes, engine, budget
        As of :func:`skhier.statistics.lazy.contents_of_lazy`.
    fold : str or None
        A column that is no feature.

    Raises
    ------
    ValueError, TypeError
        No such columns.
    RuntimeError
        What the engine raised.
    """
    query = Query(X, engine, budget)
    with naming(engine):
        types = query.frame.collect_schema()
    check_named(list(types), y, sample_weight, fold)
    names = [name for name in types if name not in (y, sample_weight, fold)]
    empty = query.collect(lambda: query.frame.select(names).head(0)).to_native()
    schema = read_schema(table_of(empty, names), groups, slopes)
    labels = dict.fromkeys(name for factor in schema.factors for name in factor.names)
    columns = Columns(tuple(schema.feature_names), tuple(labels), y, sample_weight)
    return Opened(query, types, names, schema, columns)


class Groups(NamedTuple):
    """Per column the labels of each group, (p + 1, p + 1, n_groups) sums, how many rows.

    Sums that nobody wanted are NaN.
    """

    labels: list[np.ndarray]
    products: np.ndarray
    n_rows: np.ndarray


class Sums:
    """Sums of products of ``[x 1 y]``, each less its shift, by any columns of labels."""

    def __init__(self, query: Query, columns: Columns, facts: Scan, count: Callable[[], Scan]):
        """``count``: a scan that counts what must not be there, and raises."""
        self.query, self.facts, self.count = query, facts, count
        self.p = len(columns.features) + 1
        shifted: list[nw.Expr | None] = [
            nw.col(name).cast(nw.Float64) - float(mean)
            for name, mean in zip(columns.numbers, facts.means, strict=True)
        ]
        shifted.insert(self.p - 1, None)  # the constant
        self.factors = shifted
        self.read = [*columns.numbers, *([columns.weight] if columns.weight else [])]
        self.weight = nw.col(columns.weight).cast(nw.Float64) if columns.weight else None
        present = [part for part in shifted if part is not None]
        self.all_present = reduce(operator.add, present)  # null where any cell is

    def by(self, names: Sequence[str], wanted: Sequence[tuple[int, int]]) -> Groups:
        """Sums of each group of rows.

        Parameters
        ----------
        names : sequence of str
            Columns of labels; none: one group of all rows.
        wanted : sequence of (i, j)
            Columns of ``[x 1 y]``, ``i <= j``.
        """
        keys = [nw.col(name).alias(f"k{j}") for j, name in enumerate(names)]
        products = {(i, j): self._product(i, j) for i, j in wanted}
        cells = [each.alias(f"p{i}_{j}") for (i, j), each in products.items() if each is not None]
        sums = [
            (nw.len() if each is None else nw.col(f"p{i}_{j}").sum()).alias(f"s{i}_{j}")
            for (i, j), each in products.items()
        ]
        cells.append(self.all_present.alias("present"))
        sums += [nw.len().alias("n"), nw.col("present").count().alias("n_present")]

        by = [f"k{j}" for j in range(len(keys))]
        read = list(dict.fromkeys([*names, *self.read]))
        table = self.query.collect_groups(read, [*keys, *cells], by, sums)
        out = np.full((self.p + 1, self.p + 1, len(table)), np.nan)
        for i, j in wanted:
            out[i, j] = out[j, i] = table.get_column(f"s{i}_{j}").to_numpy()
        labels = [Column(table.get_column(f"k{j}")).labels for j in range(len(keys))]
        n_rows, n_present = (int(table.get_column(name).sum()) for name in ("n", "n_present"))
        finite = all(np.abs(out[at]).max(initial=0.0) <= TOO_LARGE**2 for at in wanted)
        if n_rows == 0 or n_present < n_rows or not finite or any(map(_any_missing, labels)):
            self.count()
        self.forbid_changes(n_rows)
        return Groups(labels, out, table.get_column("n").to_numpy())

    def forbid_changes(self, n_rows: int) -> None:
        """Raise RuntimeError where a scan saw other rows than the first."""
        if self.facts.n_rows is None:
            self.facts = self.facts._replace(n_rows=n_rows)
        if n_rows != self.facts.n_rows:
            raise RuntimeError(
                f"{self.query.engine} found {self.facts.n_rows} rows first and {n_rows} then: the "
                "source changes while it is read. Fit a copy of it."
            )

    def _product(self, i: int, j: int) -> nw.Expr | None:
        """None: a count of rows."""
        parts = [
            part for part in (self.factors[i], self.factors[j], self.weight) if part is not None
        ]
        if not parts:
            return None
        product, *others = parts
        for other in others:
            product = product * other
        return product


class SplitSums:
    """Sums that are split by the values of a column; each query serves all of them."""

    def __init__(self, sums: Sums, column: str):
        self.sums, self.column = sums, column
        self.known: dict[Any, tuple[np.ndarray, Groups]] = {}
        (labels,), _, n_rows = sums.by([column], [])
        self.levels, codes = fit_levels(labels, column)
        self.n_rows = np.bincount(codes, n_rows)

    @property
    def labels(self) -> list[Any]:
        """The column's values, sorted."""
        return self.levels.labels.tolist()

    def of(self, k: int) -> PartOfSums:
        """Of the rows of the k-th value."""
        return PartOfSums(self, k)

    def by(self, names, wanted) -> tuple[np.ndarray, Groups]:
        """Which value each group of rows is of, and the groups."""
        key = (*names, None, *wanted)
        if key not in self.known:
            groups = self.sums.by([*names, self.column], wanted)
            codes, unseen = encode(groups.labels[-1], self.levels, self.column)
            if len(unseen):
                self.sums.forbid_changes(-1)
            self.known[key] = codes, groups._replace(labels=groups.labels[:-1])
        return self.known[key]


class PartOfSums:
    """As :class:`Sums`, of the rows of one value of a column."""

    def __init__(self, split: SplitSums, k: int):
        self.split, self.k = split, k
        self.p, self.forbid_changes = split.sums.p, split.sums.forbid_changes

    @property
    def facts(self) -> Scan:
        """Of these rows how many; of all of them the rest."""
        return self.split.sums.facts._replace(n_rows=int(self.split.n_rows[self.k]))

    def by(self, names: Sequence[str], wanted: Sequence[tuple[int, int]]) -> Groups:
        """As :meth:`Sums.by`."""
        codes, groups = self.split.by(names, wanted)
        mine = codes == self.k
        labels = [of_column[mine] for of_column in groups.labels]
        return Groups(labels, groups.products[..., mine], groups.n_rows[mine])


def _any_missing(labels: np.ndarray) -> bool:
    return bool(np.any(pd.isna(labels)))
