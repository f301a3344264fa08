"""Frames whose rows are elsewhere: the sums, the fits and the errors of the same rows in memory."""

import os
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from lazy_frames import LAZY, lazy
from numpy.testing import assert_allclose, assert_array_equal
from runs import SHORT, budget, spending
from sklearn.base import clone

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.statistics import polars_batches

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N = 200
DESIGNS = {
    "none": None,
    "one": "g",
    "crossed": ["g", "h"],
    "nested": ["g", ("g", "h")],
    "slopes": {"g": ["year"], "h": None},
}


def frame(name="crossed"):
    """Calendar years, y far from 0, integers, booleans, float32; rows of weight 0."""
    rng = np.random.default_rng(4)
    code = rng.integers(0, 12, N)
    columns = {
        "g": [f"s{k:02d}" for k in code],
        "h": rng.integers(0, 4, N),
        "year": rng.integers(1990, 2020, N),
        "flag": rng.random(N) < 0.5,
        "x": rng.normal(size=N).astype(np.float32),
        "y": 2.0**30 + code + rng.normal(size=N),
        "w": rng.integers(0, 3, N),
    }
    used = {"none": "", "one": "g"}.get(name, "gh")
    return pd.DataFrame({k: v for k, v in columns.items() if k not in "gh" or k in used})


engines = pytest.mark.parametrize("engine", LAZY)


def assert_same_sums(found, expected):
    import jax

    one, other = found.contents, expected.contents
    assert one[:2] == other[:2]
    assert one.n_rows == other.n_rows
    assert one.largest_weight == other.largest_weight
    assert one.design._replace(factors=()) == other.design._replace(factors=())
    for mine, theirs in zip(one.design.factors, other.design.factors, strict=True):
        assert mine.levels.labels.tolist() == theirs.levels.labels.tolist()
        assert mine._replace(levels=None) == theirs._replace(levels=None)
    moved = one.reduction.in_units(other.reduction.units).stats
    sums = jax.tree.leaves(other.reduction.stats)
    for a, b in zip(jax.tree.leaves(moved), sums, strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-12 * N)


@engines
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("weight", [None, "w"])
def test_engines_sum_what_rows_in_memory_sum(name, engine, weight):
    rows = frame(name).drop(columns=[] if weight else "w")
    slopes = {"slopes": "all"} if name != "slopes" else {}
    model = HierarchicalSlopesRegressor(DESIGNS[name], **slopes)
    expected = model.summarise(rows, "y", weight)
    assert_same_sums(model.summarise(lazy(rows, engine), "y", weight), expected)


@engines
def test_lazy_fit_is_the_eager_fit(engine):
    """The region is constant within levels, so that it has no varying slope."""
    rows = frame("one").assign(region=lambda rows: rows["g"].str[1:].astype(float) % 3)
    model = HierarchicalSlopesRegressor("g", **SHORT)
    eager = clone(model).fit(rows, "y", "w")
    found = clone(model).fit(lazy(rows, engine), "y", sample_weight="w")
    assert found.diagnostics_["slopes_left_out"] == {"g": ["region"]}
    assert_allclose(found.coef_, eager.coef_, rtol=1e-9)
    assert_allclose(found.intercept_, eager.intercept_, rtol=1e-9)
    sd = eager.group_coef_std_["g"]
    off = (found.group_coef_["g"] - eager.group_coef_["g"]).abs() / sd
    assert off.max(axis=None) < 1e-9
    assert_array_equal(found.feature_names_in_, eager.feature_names_in_)
    X = rows.drop(columns=["y", "w"])
    mean, expected = found.predict(X), eager.predict(X)
    assert_allclose(mean - 2.0**30, expected - 2.0**30, rtol=1e-7)
    assert found.diagnostics_["n_rows"] == eager.diagnostics_["n_rows"]
    with pytest.raises(ValueError, match="loo needs the rows"):
        found.loo()
    assert_allclose(found.logo().elpd, eager.logo().elpd, rtol=1e-9)
    # rows that come later, from anywhere
    later = pickle.loads(pickle.dumps(found)).partial_fit(rows[:50], "y", "w")
    assert later.statistics_.n_rows == found.statistics_.n_rows + (rows["w"][:50] > 0).sum()


def test_single_files_are_read_slice_by_slice(tmp_path, monkeypatch):
    """Every row once, also where the last slice is empty; other plans are not sliced."""
    pl = pytest.importorskip("polars", reason="no Polars")
    queries = []
    collect_batches = pl.LazyFrame.collect_batches

    def counted(self, **options):
        queries.append(self.explain())
        return collect_batches(self, **options)

    monkeypatch.setattr(pl.LazyFrame, "collect_batches", counted)
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"k": np.arange(120)}).write_parquet(path, row_group_size=25)
    one = pl.scan_parquet(path)
    filtered, two = one.filter(pl.col("k") >= 0), pl.scan_parquet([path, path])
    for frame, size, n_queries in ((one, 40, 4), (one, 50, 3), (filtered, 40, 1), (two, 40, 1)):
        queries.clear()
        read = np.concatenate([batch["k"] for batch in polars_batches._batches(frame, size)])
        assert sorted(read) == sorted([*range(120)] * (2 if frame is two else 1))
        assert len(queries) == n_queries


@pytest.mark.parametrize("name", DESIGNS)
def test_long_frames_are_summed_in_batches(name, tmp_path):
    pl = pytest.importorskip("polars", reason="no Polars")
    rows = frame(name)
    short = budget(long_frame=199, batch_cells=120, slice_cells=300, waiting_sums=3)
    model = spending(HierarchicalSlopesRegressor(DESIGNS[name]), short)
    path = tmp_path / "rows.parquet"
    pl.from_pandas(rows).write_parquet(path, row_group_size=20)
    scan, expected = pl.scan_parquet(path), model.summarise(rows, "y", "w")
    assert not polars_batches.is_long(scan)
    assert polars_batches.is_long(scan, short.data)
    assert_same_sums(model.summarise(scan, "y", "w"), expected)
    # rows of weight 0 are filtered out, so that slices are no parts of a file then
    weighted = rows.assign(w=rows["w"] + 1)
    pl.from_pandas(weighted).write_parquet(path, row_group_size=20)
    expected = model.summarise(weighted, "y", "w")
    assert_same_sums(model.summarise(pl.scan_parquet(path), "y", "w"), expected)
    missing = rows.assign(year=None).astype({"year": float})
    with pytest.raises(ValueError, match="Input X contains NaN in 200 rows of 200"):
        model.summarise(lazy(missing, "polars"), "y", "w")


BAD = {
    "missing label": ({"g": None}, "groups contains 2 missing labels in column 'g'"),
    "missing cells": ({"x": None}, "Input X contains NaN in 2 rows of 200. Columns: 'x' .2 rows"),
    "infinite cells": ({"x": np.inf}, "Input X contains infinity .* in 2 rows of 200"),
    "missing y": ({"y": None}, "Input y contains NaN in 2 rows of 200"),
    "infinite y": ({"y": -np.inf}, "Input y contains infinity .* in 2 rows"),
    "missing weight": ({"w": None}, "Input sample_weight contains NaN"),
    "negative weight": ({"w": -1}, "Negative values in data passed to `sample_weight`"),
    "large cells": ({"x": 1e200}, "Column 'x' of X is too large for float64 arithmetic: 1e.200"),
    "large y": ({"y": 1e308}, "y is too large for float64 arithmetic"),
}


@engines
@pytest.mark.parametrize("name", BAD)
def test_bad_cells_are_counted(name, engine):
    cells, message = BAD[name]
    rows = frame("one").astype({"x": float, "w": float})
    for column, value in cells.items():
        rows.loc[[3, 4], column] = value
    model = HierarchicalSlopesRegressor("g", **SHORT)
    if engine == "dask":  # of a partition, with its rows
        message = message.split(" in 2 rows")[0].split("missing labels in")[0]
    with pytest.raises(ValueError, match=message):
        model.fit(lazy(rows, engine), "y", "w")
    assert not hasattr(model, "n_features_in_")


@engines
def test_columns_of_other_types_are_refused(engine):
    rows = frame("one").drop(columns="w")
    model = HierarchicalSlopesRegressor("g", slopes=None)
    dates = rows["year"].map(lambda year: pd.Timestamp(year, 1, 1))
    with pytest.raises(ValueError, match=r"Column 's' of X holds strings.*add 's' to `groups`"):
        model.summarise(lazy(rows.assign(s="a"), engine), "y")
    with pytest.raises(TypeError, match=r"Column 'd' of X holds datetime values.*Convert it to"):
        model.summarise(lazy(rows.assign(d=dates), engine), "y")
    with pytest.raises(ValueError, match="y holds strings"):
        model.summarise(lazy(rows.assign(y="1"), engine), "y")
    plain = engine in ("ibis", "spark")  # which have no categories
    message = "holds strings" if plain else "(is categorical|holds categories)"
    with pytest.raises(ValueError, match=rf"Column 'c' of X {message}"):
        model.summarise(lazy(rows.assign(c=pd.Categorical(rows["g"])), engine), "y")
    with pytest.raises(ValueError, match="0 sample"):
        model.summarise(lazy(rows[:0], engine), "y")
    with pytest.raises(ValueError, match="two rows or more"):
        clone(model).fit(lazy(rows[:1], engine), "y")
    with pytest.raises(ValueError, match="`y='z'` is not a column of X"):
        model.summarise(lazy(rows, engine), "z")
    with pytest.raises(ValueError, match="`groups='z'` is not a column"):
        clone(model).set_params(groups="z").summarise(lazy(rows, engine), "y")
    with pytest.raises(TypeError, match="y and sample_weight must be names of its columns"):
        model.fit(lazy(rows, engine), rows["y"])


@engines
def test_large_integers_do_not_overflow(engine):
    rows = frame("one").drop(columns="w").assign(year=2**61 + np.arange(N) * 2**40)
    model = HierarchicalSlopesRegressor("g", slopes=None)
    assert_same_sums(model.summarise(lazy(rows, engine), "y"), model.summarise(rows, "y"))


@pytest.mark.parametrize("engine", [name for name in LAZY if name != "dask"])
def test_first_rows_need_not_be_like_the_others(engine):
    rows = frame("one").drop(columns="w")
    rows.loc[:2, ["year", "y"]] = [0, -(2.0**34)]
    model = HierarchicalSlopesRegressor("g")
    of_three = spending(clone(model), budget(first_rows=3))
    found, expected = of_three.summarise(lazy(rows, engine), "y"), model.summarise(rows, "y")
    assert_same_sums(found, expected)
    units = expected.contents.reduction.units
    assert_allclose(found.contents.reduction.units.x_mean, units.x_mean, rtol=1e-13)
    # nothing can be said of them
    rows.loc[:2, "x"] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN in 3 rows of 200"):
        of_three.summarise(lazy(rows, engine), "y")


@engines
def test_categorical_and_dated_labels(engine):
    rows = frame("one").drop(columns="w")
    model = HierarchicalSlopesRegressor("g", slopes=None)
    dates = pd.Timestamp(2020, 1, 1) + pd.to_timedelta(rows["year"], "D")
    for labels in (pd.Categorical(rows["g"]), dates):
        changed = rows.assign(g=labels)
        found = model.summarise(lazy(changed, engine), "y").contents.design.factors[0].levels
        expected = model.summarise(changed, "y").contents.design.factors[0].levels
        assert found.kind == expected.kind
        assert np.array_equal(found.labels, expected.labels)  # of whatever unit of time


def test_selectors_pick_columns_of_a_lazy_frame():
    rows = frame("one").drop(columns="w")
    model = HierarchicalSlopesRegressor(lambda X: ["g"], slopes=None)
    for engine in ("polars", "duckdb"):
        found = model.summarise(lazy(rows, engine), "y")
        assert_same_sums(found, model.summarise(rows, "y"))


def read_parquet(engine, pattern):
    """A lazy frame of files; Spark has tests of its own."""
    if engine == "polars":
        return pytest.importorskip("polars", reason="no Polars").scan_parquet(pattern)
    if engine == "duckdb":
        return pytest.importorskip("duckdb", reason="no DuckDB").read_parquet(str(pattern))
    if engine == "ibis":
        ibis = pytest.importorskip("ibis", reason="no Ibis")
        return ibis.duckdb.connect().read_parquet(str(pattern))
    return pytest.importorskip("dask.dataframe", reason="no Dask").read_parquet(pattern)


files = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis asks it
NAMES = {"polars": "Polars", "duckdb": "DuckDB", "ibis": "Ibis", "dask": "Dask"}


@files
@pytest.mark.parametrize("engine", NAMES)
def test_removed_file_is_named_and_the_fit_stays(engine, tmp_path):
    pytest.importorskip("pyarrow", reason="no pyarrow")
    rows = frame("one").drop(columns="w")
    model = HierarchicalSlopesRegressor("g", **SHORT).fit(rows, "y")
    before = dict(model.__dict__)
    path = tmp_path / "rows.parquet"
    rows.to_parquet(path)
    source = read_parquet(engine, path)
    path.unlink()
    with pytest.raises(RuntimeError, match=f"{NAMES[engine]} could not read the rows: ") as raised:
        model.fit(source, "y")
    assert "rows.parquet" in str(raised.value)
    assert model.__dict__ == before


@files
@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_fits_with_other_priors_scan_no_rows(engine, tmp_path):
    """The file is gone by then, so that whatever reads it raises."""
    pytest.importorskip("pyarrow", reason="no pyarrow")
    rows = frame("one").drop(columns="w")
    path = tmp_path / "rows.parquet"
    rows.to_parquet(path)
    source, model = read_parquet(engine, path), HierarchicalSlopesRegressor("g", **SHORT)
    first = clone(model).fit(source, "y")
    path.unlink()
    with pytest.raises(RuntimeError, match="could not read the rows"):
        model.summarise(source, "y")
    other = model.set_params(eta=8.0, prior=Prior(group_scale=0.5))
    second = clone(other).fit_statistics(first.statistics_)
    expected = clone(other).fit(rows, "y")
    assert_allclose(second.coef_, expected.coef_, rtol=1e-9)
    sd = expected.group_coef_std_["g"]
    off = (second.group_coef_["g"] - expected.group_coef_["g"]).abs() / sd
    assert off.max(axis=None) < 1e-9
    apart = (second.group_coef_["g"] - first.group_coef_["g"]).abs() / sd
    assert apart.max(axis=None) > 1e-3


@files
@pytest.mark.parametrize("engine", NAMES)
def test_a_type_that_changes_between_files_is_named(engine, tmp_path):
    pytest.importorskip("pyarrow", reason="no pyarrow")
    rows = frame("one").drop(columns="w")
    model = HierarchicalSlopesRegressor("g", **SHORT).fit(rows, "y")
    before = dict(model.__dict__)
    rows.to_parquet(tmp_path / "a.parquet")
    rows.assign(x="a").to_parquet(tmp_path / "b.parquet")
    says = {
        "polars": "data type mismatch",
        "duckdb": "Could not convert string|Conversion",
        "ibis": "Could not convert string|Conversion",
        "dask": "Column 'x' of X holds strings .*In partition 1 of 2",
    }
    with pytest.raises((RuntimeError, ValueError)) as raised:
        model.fit(read_parquet(engine, tmp_path / "*.parquet"), "y")
    assert re.search(says[engine], str(raised.value))
    assert model.__dict__ == before


def test_engines_without_support_are_named(monkeypatch):
    from narwhals import dependencies

    class DataFrame:
        __module__ = "sqlframe.base"

    monkeypatch.setattr(dependencies, "is_sqlframe_dataframe", lambda X: type(X) is DataFrame)
    with pytest.raises(TypeError, match=r"a sqlframe DataFrame, whose rows .*Pass a Polars Lazy"):
        HierarchicalSlopesRegressor("g").fit(DataFrame(), "y")


@pytest.fixture(scope="module")
def cluster():
    """Two workers, processes of their own."""
    distributed = pytest.importorskip("distributed", reason="no Dask")
    import dask

    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.comm.timeouts.tcp": "60s"}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as running,
        distributed.Client(running),
    ):
        yield running


def test_workers_reduce_their_partitions(cluster):
    rows = frame()
    model = HierarchicalSlopesRegressor(["g", "h"], slopes=["year"])
    assert_same_sums(model.summarise(lazy(rows, "dask"), "y", "w"), model.summarise(rows, "y", "w"))


def _die(rows):
    if len(rows) and "dask" in str(os.environ.get("DASK_PARENT", "dask")):
        os._exit(1)
    return rows


def test_killed_worker_is_named_and_the_fit_stays(cluster):
    rows = frame("one").drop(columns="w")
    model = HierarchicalSlopesRegressor("g", **SHORT).fit(rows, "y")
    before = dict(model.__dict__)
    source = lazy(rows, "dask")
    killing = source.map_partitions(_die, meta=source)
    with pytest.raises(RuntimeError, match="Dask could not read the rows: KilledWorker"):
        model.fit(killing, "y")
    assert model.__dict__ == before
