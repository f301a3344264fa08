"""Lines of the guide to rows that are not in memory, run as they stand there."""

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
    exec(lines_with("pl.scan_parquet"), used)
    model = used["model"]
    coef = model.coef_

    X, y = rows[["store", "price"]], rows["sales"]
    used |= {"X_north": X[:150], "y_north": y[:150], "X_south": X[150:], "y_south": y[150:]}
    exec(lines_with("summarise(X_north"), used)
    assert_allclose(model.coef_, coef, rtol=1e-9)

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
