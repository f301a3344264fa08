"""Predictions as columns of a frame, lazy or in memory, block by block where its rows are.

Needs NumPy, pandas and scikit-learn where the rows are, and no JAX.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.utils.lazy_engines import lazy_engine, naming, without_time_zones
from skhier.utils.table import table_of
from skhier.utils.validation import check_flag, check_number
from skhier.utils.words import listed

if TYPE_CHECKING:
    from skhier.estimators._base import BaseHierarchical

__all__ = ["predict"]


def predict(
    model: BaseHierarchical, frame: Any, std: bool = False, coverage: float | None = None
) -> Any:
    """The frame with predictions as further columns.

    Parameters
    ----------
    model : estimator
        Fitted to a table with column names.
    frame : table
        With the columns of fit, in any order, and perhaps others. A Polars ``LazyFrame`` and data
        frames of Dask and PySpark stay lazy; rows of a DuckDB relation are read in batches, and the
        result is a relation of an Arrow table in memory, on DuckDB's default connection; an Ibis
        table becomes an ``ibis.memtable``, its rows in memory. Also pandas, Polars and pyarrow data
        frames.
    std : bool
        Also the standard deviation of the posterior predictive distribution.
    coverage : float in (0, 1) or None
        Also an equal-tailed interval of a new response.

    Returns
    -------
    frame
        Of the same kind, with ``prediction``, ``prediction_std`` (with ``std``), ``lower`` and
        ``upper`` (with ``coverage``). Levels that fit never saw are new members of the population,
        without a warning.

    Raises
    ------
    ValueError
        Columns of fit that are missing, or that would be written over; unseen levels with
        ``handle_unknown="error"``, when the rows are read.
    TypeError
        A frame of another engine.

    Examples
    --------
    >>> from skhier import HierarchicalSlopesRegressor, frames
    >>> from skhier.datasets import load_sleepstudy
    >>> data = load_sleepstudy(as_frame=True).frame
    >>> model = HierarchicalSlopesRegressor("Subject", random_state=0).fit(data, "Reaction")
    >>> list(frames.predict(model, data.head(3), coverage=0.9))
    ['Days', 'Subject', 'Reaction', 'prediction', 'lower', 'upper']
    """
    check_flag("std", std)
    if coverage is not None:
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
    added = _Added(model, std, coverage)
    engine = lazy_engine(frame)
    if engine is None:
        return added.to_eager(frame)
    known = frame.collect_schema().names() if engine == "Polars" else list(frame.columns)
    added.check(known)
    of_engine = {
        "Polars": added.to_polars,
        "Dask": added.to_dask,
        "DuckDB": added.to_duckdb,
        "Spark": added.to_spark,
        "Ibis": added.to_ibis,
    }
    return of_engine[engine](frame)


class _Added:
    """What is added to a block of rows; travels to where the rows are."""

    def __init__(self, model: BaseHierarchical, std: bool, coverage: float | None):
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(model)
        if not hasattr(model, "feature_names_in_"):
            raise ValueError(
                "This model was fitted to columns without names, which no frame has. Fit it to a "
                "data frame."
            )
        assert model._fitted is not None  # rows that were only added are fitted here, once
        self.model, self.std, self.coverage = model, std, coverage
        design, self.batch = model._fitted.design, model._budget.data.predicted_rows
        unread = design.unread(range(len(design.factors)), std or coverage is not None)
        names = enumerate(model.feature_names_in_)
        self.needed = [str(name) for position, name in names if position not in unread]
        self.new = ["prediction"]
        self.new += ["prediction_std"] if std else []
        self.new += ["lower", "upper"] if coverage is not None else []

    def check(self, known: list[str]) -> None:
        """Raise ValueError unless the frame has what is needed, and lacks what is added."""
        missing = [name for name in self.needed if name not in known]
        if missing:
            raise ValueError(
                f"The frame lacks columns of fit: {listed(map(repr, missing))}. It has "
                f"{listed(map(repr, known))}."
            )
        twice = [name for name in self.new if name in known]
        if twice:
            raise ValueError(
                f"The frame has columns that predictions would write over: "
                f"{listed(map(repr, twice))}. Rename them."
            )

    def columns_of(self, table: Any) -> dict[str, np.ndarray]:
        """Of a table of the needed columns, in the order of fit; of no rows too."""
        if not len(table):
            return {name: np.empty(0) for name in self.new}
        return self.model._predicted_columns(table, self.std, self.coverage)

    def to_eager(self, table: Any) -> Any:
        """Of a data frame."""
        import narwhals as nw

        self.check(table_of(table).columns)
        rows = nw.from_native(table, eager_only=True)
        columns = self.columns_of(rows.select(self.needed).to_native())
        like = nw.get_native_namespace(rows)
        series = [nw.new_series(name, cells, backend=like) for name, cells in columns.items()]
        if hasattr(table, "index"):  # pandas would align by it
            return table.assign(**columns)
        return rows.with_columns(*series).to_native()

    def to_polars(self, frame: Any) -> Any:
        """Of a LazyFrame; nothing is pushed below, where the new columns are not there yet."""
        import polars as pl

        schema = frame.collect_schema() | dict.fromkeys(self.new, pl.Float64)
        return frame.map_batches(
            self.to_eager,
            schema=pl.Schema(schema),
            predicate_pushdown=False,
            projection_pushdown=False,
            slice_pushdown=False,
            streamable=True,
        )

    def to_dask(self, frame: Any) -> Any:
        """Of a Dask frame."""
        meta = frame._meta.assign(**{name: np.empty(0) for name in self.new})
        return frame.map_partitions(self.to_eager, meta=meta)

    def to_spark(self, frame: Any) -> Any:
        """Of a PySpark data frame: Arrow batches, in which all types of other columns stay."""
        from pyspark.sql.types import DoubleType, StructField, StructType

        fields = [StructField(name, DoubleType()) for name in self.new]
        schema = StructType([*frame.schema.fields, *fields])
        return frame.mapInArrow(self.of_spark_batches, schema)

    def of_spark_batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Of the Arrow batches of a part of the rows, on an executor."""
        import narwhals as nw
        import pyarrow as pa

        for batch in batches:
            table = pa.Table.from_batches([batch])
            rows = without_time_zones(nw.from_native(table, eager_only=True).select(self.needed))
            for name, cells in self.columns_of(rows.to_native()).items():
                table = table.append_column(name, pa.array(cells))
            yield from table.to_batches()

    def to_duckdb(self, relation: Any) -> Any:
        """Of a relation, through Arrow batches."""
        import duckdb
        import pyarrow as pa

        with naming("DuckDB"):
            read = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch
            reader = read(self.batch)
        fields = [*reader.schema, *(pa.field(name, pa.float64()) for name in self.new)]

        def batches() -> Iterator[Any]:
            for batch in reader:
                table = self.to_eager(pa.Table.from_batches([batch]))
                yield from table.to_batches()

        return duckdb.from_arrow(pa.Table.from_batches(batches(), pa.schema(fields)))

    def to_ibis(self, frame: Any) -> Any:
        """Of an Ibis table, whose backends do not all hand over rows in batches."""
        import ibis
        import pyarrow as pa

        with naming("Ibis"):
            table = frame.to_pyarrow()
        starts = range(0, max(len(table), 1), self.batch)
        return ibis.memtable(
            pa.concat_tables([self.to_eager(table.slice(at, self.batch)) for at in starts])
        )
