"""Lines of the guide to rows that are not in memory, run as they stand there."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import skhier

GUIDE = (Path(__file__).parents[1] / "docs" / "frames.md").read_text(encoding="utf-8")


def lines_with(word):
    """The block of code that holds the word."""
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if word in code)
    return block


def sales(n=400):
    rng = np.random.default_rng(7)
    store, price = rng.integers(0, 12, n), rng.normal(size=n)
    y = store + (1 + 0.1 * store) * price + rng.normal(size=n)
    return pd.DataFrame({"store": store, "price": price, "count": 1, "sales": y})


def test_lines_of_the_guide_run(tmp_path, monkeypatch):
    pl = pytest.importorskip("polars", reason="no Polars")
    pq = pytest.importorskip("pyarrow.parquet", reason="no pyarrow")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sales").mkdir()
    rows = sales()
    for k, part in enumerate(np.split(np.arange(400), [100, 300])):
        pl.from_pandas(rows.iloc[part]).write_parquet(f"sales/{k}.parquet")
    used = {
        "pl": pl,
        "pq": pq,
        "pd": pd,
        "skhier": skhier,
        "GroupStatistics": skhier.GroupStatistics,
    }
    used["HierarchicalSlopesRegressor"] = skhier.HierarchicalSlopesRegressor
    exec(lines_with('sample_weight="count"'), used)
    model = used["model"]
    coef = model.coef_

    X, y = rows[["store", "price"]], rows["sales"]
    used |= {"X_north": X[:150], "y_north": y[:150], "X_south": X[150:], "y_south": y[150:]}
    exec(lines_with("summarise(X_north"), used)
    assert_allclose(model.coef_, coef, rtol=1e-9)

    used["HierarchicalSlopesRegressorCV"] = skhier.HierarchicalSlopesRegressorCV
    rows.drop(columns="count").assign(fold=np.arange(400) % 3).to_parquet("sales/0.parquet")
    for k in (1, 2):
        Path(f"sales/{k}.parquet").unlink()
    exec(lines_with('cv="fold"'), used)
    assert used["search"].n_splits_ == 3
    exec(lines_with('{"north": north'), used)
    assert used["search"].n_splits_ == 2
    rows[["store"]].assign(visits=rows["sales"].abs().astype(int)).to_parquet("sales/0.parquet")
    exec(lines_with('response="poisson"'), used)
    rows.drop(columns="count").to_parquet("sales/0.parquet")

    pq.write_table(used["north"].to_arrow(min_rows=5), "north.parquet")
    pq.write_table(used["south"].to_arrow(min_rows=5), "south.parquet")
    used["files"] = ["north.parquet", "south.parquet"]
    exec(lines_with("from_arrow"), used)
    assert_allclose(model.coef_, coef, rtol=1e-9)

    used["model"] = skhier.HierarchicalSlopesRegressor(groups="store", random_state=0)
    rows.drop(columns="count").rename(columns={"sales": "reading"}).to_csv(
        "readings.csv", index=False
    )
    used["X_new"] = X[:3]
    exec(lines_with("chunksize"), used)
    assert_allclose(used["model"].coef_, coef, rtol=1e-9)

    used["frame"] = pl.scan_parquet("sales/*.parquet")
    exec(lines_with("skhier.frames.predict"), used)
    assert_allclose(used["scored"].collect()["prediction"], model.predict(X), rtol=1e-7)


def of_size(n_levels, p):
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(20 * n_levels, p)), columns=[f"x{j}" for j in range(p)])
    g = np.arange(20 * n_levels) % n_levels
    return x.assign(g=g, y=x.sum(axis=1) + rng.normal(size=20 * n_levels))


SIZES = [(500, 2), (4000, 5)]


@pytest.mark.parametrize(("n_levels", "p"), SIZES)
def test_bytes_of_a_query_are_the_formula(n_levels, p, monkeypatch):
    pl = pytest.importorskip("polars", reason="no Polars")
    from skhier.statistics.lazy_sums import Query

    sizes, collect = [], Query.collect

    def counting(self, query):
        table = collect(self, query)
        sizes.append(table.to_polars().estimated_size())
        return table

    monkeypatch.setattr(Query, "collect", counting)
    rows = of_size(n_levels, p)
    skhier.HierarchicalSlopesRegressor("g").summarise(pl.from_pandas(rows).lazy(), "y")
    numbers = n_levels * ((p + 2) * (p + 3) / 2 + 2)
    labels, fixed = 8 * n_levels, 1000
    # counts are integers of 4 bytes
    assert 8 * numbers * 0.8 <= sum(sizes) <= 8 * numbers + labels + fixed


@pytest.mark.parametrize(("n_levels", "p"), SIZES)
def test_bytes_of_a_partition_are_the_formula(n_levels, p):
    model = skhier.HierarchicalSlopesRegressor("g")
    contents = model.summarise(of_size(n_levels, p), "y").contents
    q = p + 1
    numbers = n_levels * (q**2 + q * (p + 1) + q + (p + 2) ** 2)
    labels, fixed = 8 * n_levels, 8000
    assert 8 * numbers <= len(pickle.dumps(contents)) <= 8 * numbers + labels + fixed


def test_table_of_the_guide_is_the_formulas():
    """Partitions, rows, groups, and the columns that follow from them, each to two digits."""
    p, q = 2, 3
    units = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
    table = re.findall(r"^\| (\d+) \| 10\^(\d+) \| 10\^(\d)(.*?) \|(.*)\|$", GUIDE, re.M)
    assert len(table) == 5
    for partitions, rows, groups, alone, cells in table:
        n_partitions, n_levels = int(partitions), 10 ** int(groups)
        in_each = n_levels / n_partitions if alone else n_levels
        message = 8 * in_each * (q**2 + q * (p + 1) + q + (p + 2) ** 2)
        rounds = max(1, int(np.ceil(np.log(n_partitions) / np.log(16))))
        messages = sum(np.ceil(n_partitions / 16**k) for k in range(rounds))
        # what is added up has the levels of all its parts
        in_all = message * (n_partitions * rounds if alone else messages)
        by_query = 8 * n_levels * ((p + 2) * (p + 3) / 2 + 2)
        *sizes, n_rounds = cells.split("|")
        assert int(n_rounds) == rounds
        expected = (8 * (p + 2) * 10.0 ** int(rows), by_query, message, in_all)
        for cell, value in zip(sizes, expected, strict=True):
            number, unit = cell.split()
            assert abs(float(number) * units[unit] / value - 1) < 0.05
