"""Rows that are not in memory: what a reduction costs beside the engine's own sums.

    python benchmarks/frames.py [--rows 10000000] [--engines polars duckdb dask blocks]
    python benchmarks/frames.py --rows 100000000 --peak --engines polars duckdb

Each engine sums the same ten products by group, written by hand, and through ``summarise``; runs
alternate, and the ratios of the smallest times are reported, by the clock and of the processor:
seconds mean little on a shared machine. ``blocks``: 1,000 blocks by ``partial_fit`` beside one
``fit`` of all rows.
``--peak``: instead, a fit in a process of its own and the most memory that it had, as the operating
system counts it, and the engine's own sums and ``summarise`` in others. Linux tells how much of it
is not the file: Polars maps files, unless ``POLARS_FORCE_ASYNC=1``, and pages of it that were read
count until they are needed elsewhere. The rows are a file that is removed again.
"""

import argparse
import itertools
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
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
    """By the clock, and of the processor, all threads of this process."""
    began = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def compared(what, first, second, repeats):
    """Smallest times of two acts that take turns."""
    times = np.array([[seconds(act) for act in (first, second)] for _ in range(repeats)]).min(0)
    for clock, (one, other) in zip(("clock", "processor"), times.T, strict=True):
        print(f"{what}, {clock}: {one:.2f} s, {other:.2f} s, ratio {other / one:.2f}")


def engine_ratio(engine, path, repeats):
    model = HierarchicalSlopesRegressor("g")
    compared(
        f"{engine}, own sums and summarise",
        lambda: OWN[engine](path),
        lambda: model.summarise(source(engine, path), "y"),
        repeats,
    )


def blocks_ratio(path, n_blocks=1000):
    data = pd.read_parquet(path)
    X, y = data[["g", "a", "b"]], data["y"].to_numpy()
    size = len(y) // n_blocks

    def by_blocks():
        model = HierarchicalSlopesRegressor("g", random_state=0)
        for start in range(0, len(y), size):
            model.partial_fit(X[start : start + size], y[start : start + size])
        return model.coef_

    def at_once():
        return HierarchicalSlopesRegressor("g", random_state=0).fit(X, y).coef_

    at_once()  # compiles
    compared(f"one fit and {n_blocks} blocks", at_once, by_blocks, 2)


def peak(what, engine, path):
    """In a process of its own: seconds and memory of a fit, or of the engine's own sums."""
    model = HierarchicalSlopesRegressor("g", random_state=0)
    act = {
        "sums": lambda: OWN[engine](path),
        "summarise": lambda: model.summarise(source(engine, path), "y"),
        "fit": lambda: model.fit(source(engine, path), "y"),
    }[what]
    own = [0.0]
    threading.Thread(target=watch, args=(own,), daemon=True).start()
    clock, processor = seconds(act)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{engine}, {what}: {clock:.1f} s, {processor:.1f} s of the processor, {most:.2f} GiB, "
        f"{own[0]:.2f} GiB without mapped files"
    )


def watch(own):
    """Most memory that is no page of a file, in GiB; looks fifty times a second, on Linux."""
    status = Path("/proc/self/status")
    while status.exists():
        kilobytes = re.search(r"RssAnon:\s+(\d+)", status.read_text())[1]
        own[0] = max(own[0], int(kilobytes) / 2**20)
        time.sleep(0.02)


def peaks(engines, path):
    for engine, what in itertools.product(engines, ("sums", "summarise", "fit")):
        child = [sys.executable, __file__, "--child", what, engine, str(path)]
        subprocess.run(child, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--groups", type=int, default=10**5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["polars", "duckdb", "dask", "blocks"])
    parser.add_argument("--peak", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        peak(*chosen.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free < 2 * 32 * chosen.rows:
            sys.exit(f"The rows need {2 * 32 * chosen.rows / 1e9:.0f} GB of disk.")
        path = Path(folder) / "rows.parquet"
        write_rows(path, chosen.rows, chosen.groups)
        if chosen.peak:
            peaks(chosen.engines, path)
            return
        for engine in chosen.engines:
            if engine == "blocks":
                blocks_ratio(path)
            else:
                engine_ratio(engine, path, chosen.repeats)


if __name__ == "__main__":
    main()
