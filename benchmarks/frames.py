"""Rows that are not in memory: what a reduction costs beside the engine's own sums.

    python benchmarks/frames.py [--rows 10000000] [--engines polars duckdb dask blocks]

Each engine sums the same ten products by group, written by hand, and through ``summarise``; runs
alternate, and the ratio of the smallest times is reported: seconds mean little on a shared machine.
``blocks``: 1,000 blocks by ``partial_fit`` beside one ``fit`` of all rows.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor

COLUMNS = ("a", "b", "y")
PAIRS = list(itertools.combinations_with_replacement(COLUMNS, 2))
CHUNK = 10**6


def write_rows(path, n_rows, n_groups):
    """Parquet, a row group for each million rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for start in range(0, n_rows, CHUNK):
        table = pa.Table.from_pandas(rows(min(CHUNK, n_rows - start), n_groups, start))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def rows(n, n_groups, seed):
    """Intercepts and both slopes vary by group, as much in every chunk."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, n_groups, n)
    a, b = rng.normal(2000, 5, n), rng.normal(size=n)
    of_a, of_b, level = np.random.default_rng(0).normal(size=(3, n_groups))
    y = 1e4 + level[g] + (0.3 * of_a[g] + 0.1) * (a - 2000) + of_b[g] * b + rng.normal(size=n)
    return pd.DataFrame({"g": g, "a": a, "b": b, "y": y})


def own_polars(path):
    import polars as pl

    products = [(pl.col(i) * pl.col(j)).alias(f"{i}{j}") for i, j in PAIRS]
    sums = [pl.col(f"{i}{j}").sum() for i, j in PAIRS] + [pl.col(c).sum() for c in COLUMNS]
    query = pl.scan_parquet(path).select("g", *COLUMNS, *products).group_by("g")
    return query.agg(*sums, pl.len().alias("n")).collect(engine="streaming")


def own_duckdb(path):
    import duckdb

    sums = [f"sum({i} * {j})" for i, j in PAIRS] + [f"sum({c})" for c in COLUMNS]
    query = f"select g, {', '.join(sums)}, count(*) from '{path}' group by g"
    relation = duckdb.sql(query)
    return (getattr(relation, "to_arrow_table", None) or relation.arrow)()


def own_dask(path):
    import dask.dataframe as dd

    frame = dd.read_parquet(path, split_row_groups=True)
    products = {f"{i}{j}": frame[i] * frame[j] for i, j in PAIRS}
    frame = frame.assign(**products, n=1.0)
    return frame.groupby("g").sum().compute()


def source(engine, path):
    if engine == "polars":
        import polars as pl

        return pl.scan_parquet(path)
    if engine == "duckdb":
        import duckdb

        return duckdb.read_parquet(str(path))
    import dask.dataframe as dd

    return dd.read_parquet(path, split_row_groups=True)


OWN = {"polars": own_polars, "duckdb": own_duckdb, "dask": own_dask}


def seconds(act):
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def compared(first, second, repeats):
    """Smallest times of two acts that take turns."""
    times = np.array([[seconds(first), seconds(second)] for _ in range(repeats)])
    return times.min(0)


def engine_ratio(engine, path, repeats):
    model = HierarchicalSlopesRegressor("g")
    own, ours = compared(
        lambda: OWN[engine](path), lambda: model.summarise(source(engine, path), "y"), repeats
    )
    print(f"{engine}: own sums {own:.2f} s, summarise {ours:.2f} s, ratio {ours / own:.2f}")


def blocks_ratio(path, n_blocks=1000):
    data = pd.read_parquet(path)
    X, y = data[["g", "a", "b"]], data["y"].to_numpy()
    size = len(y) // n_blocks

    def by_blocks():
        model = HierarchicalSlopesRegressor("g", random_state=0)
        for start in range(0, len(y), size):
            model.partial_fit(X[start : start + size], y[start : start + size])
        added = time.perf_counter()
        coef = model.coef_
        print(f"  refit {time.perf_counter() - added:.2f} s")
        return coef

    def at_once():
        return HierarchicalSlopesRegressor("g", random_state=0).fit(X, y).coef_

    at_once()  # compiles
    one, many = compared(at_once, by_blocks, 2)
    print(f"blocks: one fit {one:.2f} s, {n_blocks} blocks {many:.2f} s, ratio {many / one:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--groups", type=int, default=10**5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["polars", "duckdb", "dask", "blocks"])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_rows(path, chosen.rows, chosen.groups)
        for engine in chosen.engines:
            if engine == "blocks":
                blocks_ratio(path)
            else:
                engine_ratio(engine, path, chosen.repeats)


if __name__ == "__main__":
    main()
