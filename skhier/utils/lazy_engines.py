"""Frames whose rows are elsewhere: which engine has them, and errors that name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import narwhals as nw
from narwhals import dependencies as known

__all__ = ["lazy_engine", "naming", "without_time_zones"]

SUPPORTED = (
    "a Polars LazyFrame, a DuckDB relation, an Ibis table, or a data frame of Dask or of PySpark"
)
ENGINES: dict[str, Callable[[Any], bool]] = {
    "Polars": known.is_polars_lazyframe,
    "DuckDB": known.is_duckdb_relation,
    "Dask": known.is_dask_dataframe,
    "Spark": lambda X: known.is_pyspark_dataframe(X) or known.is_pyspark_connect_dataframe(X),
    "Ibis": known.is_ibis_table,
}


def lazy_engine(X: Any) -> str | None:
    """``"Polars"``, ``"DuckDB"``, ``"Dask"``, ``"Spark"`` or ``"Ibis"``; None of rows in memory.

    Raises
    ------
    TypeError
        A lazy frame of another engine.
    """
    for engine, holds in ENGINES.items():
        if holds(X):
            return engine
    if known.is_sqlframe_dataframe(X):
        kind = type(X)
        raise TypeError(
            f"X is a {kind.__module__.partition('.')[0]} {kind.__name__}, whose rows skhier cannot "
            f"reduce. Pass {SUPPORTED}, read from the same files, or call `summarise` on parts of "
            "the rows and add the statistics up."
        )
    return None


@contextmanager
def naming(engine: str) -> Iterator[None]:
    """Raise what the engine raises as a RuntimeError that says so."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(
            f"{engine} could not read the rows: {type(error).__name__}: {_said(error)}"
        ) from error


def _said(error: Exception) -> str:
    """The message; of one with a Java trace its sentences, each once."""
    lines = [line.strip() for line in str(error).splitlines()]
    if not any(line.startswith("at ") for line in lines):
        return str(error)
    said = [line for line in lines if line and not line.startswith(("at ", "... "))]
    return " ".join(dict.fromkeys(said))


def without_time_zones(frame: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Times as the clock of their zone shows them, which is what pandas makes of Spark's."""
    zoned = [
        name
        for name, dtype in frame.schema.items()
        if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None
    ]
    return frame.with_columns(nw.col(name).dt.replace_time_zone(None) for name in zoned)
