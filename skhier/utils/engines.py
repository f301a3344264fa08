"""Frames whose rows are elsewhere: which engine has them, and errors that name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from narwhals import dependencies as known

__all__ = ["lazy_engine", "naming"]

SUPPORTED = "a Polars LazyFrame, a DuckDB relation or a Dask DataFrame"


def lazy_engine(X: Any) -> str | None:
    """``"Polars"``, ``"DuckDB"`` or ``"Dask"`` of a lazy frame; None of rows in memory.

    Raises
    ------
    TypeError
        A lazy frame of another engine.
    """
    if known.is_polars_lazyframe(X):
        return "Polars"
    if known.is_duckdb_relation(X):
        return "DuckDB"
    if known.is_dask_dataframe(X):
        return "Dask"
    spark = known.is_pyspark_dataframe(X) or known.is_pyspark_connect_dataframe(X)
    if spark or known.is_ibis_table(X) or known.is_sqlframe_dataframe(X):
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
            f"{engine} could not read the rows: {type(error).__name__}: {error}"
        ) from error
