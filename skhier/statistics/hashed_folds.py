"""Folds of rows that an engine has: a column more, the hash of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skhier.utils.lazy_engines import naming

__all__ = ["FOLD", "with_hashed_fold"]

FOLD = "fold of cv"


def with_hashed_fold(X: Any, engine: str, n_folds: int) -> Any:
    """The lazy frame with a column ``FOLD`` of 0, ..., ``n_folds - 1``; equal rows have the same.

    Parameters
    ----------
    X : lazy frame
    engine : str
        As of :func:`skhier.utils.lazy_engines.lazy_engine`.
    n_folds : int

    Raises
    ------
    RuntimeError
        What the engine raised.
    """
    with naming(engine):
        return HASHED[engine](X, n_folds)


def _by_polars(X: Any, n: int) -> Any:
    import polars as pl

    hashed = pl.struct(pl.all()).hash(seed=0) % n
    return X.with_columns(hashed.cast(pl.Int64).alias(FOLD))


def _by_duckdb(X: Any, n: int) -> Any:
    names = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in X.columns)
    return X.project(f'*, (hash({names}) % {n})::bigint as "{FOLD}"')


def _by_spark(X: Any, n: int) -> Any:
    from pyspark.sql import functions

    hashed = functions.xxhash64(*(X[f"`{name}`"] for name in X.columns))
    return X.withColumn(FOLD, functions.pmod(hashed, functions.lit(n)))


def _by_ibis(X: Any, n: int) -> Any:
    """Remainders of columns are mixed: their plain sum would tell neighbours' numbers apart."""
    mixed: Any = 0
    for name in X.columns:
        mixed = (31 * mixed + X[name].hash() % 2**20 + 2**20) % 2**20
    return X.mutate(**{FOLD: (mixed * 2654435761 // 2**12 % n).cast("int64")})


def _by_dask(X: Any, n: int) -> Any:
    meta = X._meta.assign(**{FOLD: 0})
    return X.map_partitions(_of_pandas, n, meta=meta)


def _of_pandas(rows: Any, n: int) -> Any:
    from pandas.util import hash_pandas_object

    hashed = hash_pandas_object(rows, index=False) % n
    return rows.assign(**{FOLD: hashed.astype("int64")})


HASHED: dict[str, Callable[[Any, int], Any]] = {
    "Polars": _by_polars,
    "DuckDB": _by_duckdb,
    "Spark": _by_spark,
    "Ibis": _by_ibis,
    "Dask": _by_dask,
}
