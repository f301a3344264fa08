"""The same rows with every engine; what an engine lacks here skips a test, and says so."""

import functools
import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

LAZY = ["polars", "duckdb", "dask", "ibis", pytest.param("spark", marks=pytest.mark.spark)]


def lazy(rows, engine, parts=3):
    """A pandas data frame as a lazy one."""
    if engine == "polars":
        return pytest.importorskip("polars", reason="no Polars").from_pandas(rows).lazy()
    if engine == "duckdb":
        return pytest.importorskip("duckdb", reason="no DuckDB").from_df(rows)
    if engine == "ibis":
        ibis = pytest.importorskip("ibis", reason="no Ibis")
        # an object column without rows has no type
        texts = [name for name in rows if rows[name].dtype.kind == "O"]
        return ibis.memtable(rows.astype(dict.fromkeys(texts, "string")) if rows.empty else rows)
    if engine == "spark":
        return _of_spark(rows, parts)
    frames = pytest.importorskip("dask.dataframe", reason="no Dask")
    return frames.from_pandas(rows, npartitions=parts)


def _of_spark(rows, parts):
    """Out of a file: what PySpark makes of pandas depends on the versions of both."""
    session = spark_session()
    path = Path(_folder().name) / f"{uuid.uuid4()}.parquet"
    rows.to_parquet(path, index=False)
    return session.read.parquet(str(path)).repartition(parts)


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory()


@functools.cache
def spark_session():
    """A session of two threads in this process' own JVM; its executors cannot import JAX."""
    sql = pytest.importorskip("pyspark.sql", reason="no PySpark: pip install 'skhier[spark]'")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no JVM: install Java 17 or newer, or set JAVA_HOME")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    without_jax = Path(_folder().name) / "modules"
    without_jax.mkdir()
    (without_jax / "jax.py").write_text("raise ImportError('executors have no JAX')")
    settings = {
        "spark.executorEnv.PYTHONPATH": str(without_jax),
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.pyspark.fallback.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = sql.SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def collected(frame):
    """A lazy frame, or one in memory, as a pandas data frame."""
    for method in ("collect", "compute", "execute"):
        if hasattr(frame, method) and type(frame).__module__.partition(".")[0] != "pyspark":
            frame = getattr(frame, method)()
    if hasattr(frame, "toArrow"):  # toPandas warns of pandas 3
        frame = frame.toArrow()
    for method in ("to_pandas", "df", "toPandas"):
        if hasattr(frame, method):
            frame = getattr(frame, method)()
    return frame
