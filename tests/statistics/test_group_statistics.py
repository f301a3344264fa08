"""Statistics as a value: merged, undone, kept in a table, and refused where they do not fit."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skhier import GroupStatistics, HierarchicalSlopesRegressor

pa = pytest.importorskip("pyarrow", reason="statistics as a table need pyarrow")

DESIGNS = {
    "none": None,
    "one": "g",
    "crossed": ["g", "h"],
    "nested": ["g", ("g", "h")],
    "dates": "day",
    "three": {"g": ["a"], "h": None, ("g", "h"): ["b"]},
}
COLUMNS = {"none": "", "one": "g", "crossed": "gh", "nested": "gh", "three": "gh"}
N = 120


def table(name):
    """Rows whose squares no float64 holds to what varies; levels come in order."""
    rng = np.random.default_rng(3)
    late = np.sort(rng.integers(0, 9, N))
    keys = {"g": [f"s{k}" for k in late], "h": rng.integers(0, 3, N), "day": None}
    keys["day"] = np.datetime64("2024-02-01", "s") + late.astype("timedelta64[D]")
    used = ["day"] if name == "dates" else list(COLUMNS[name])
    X = {column: keys[column] for column in used}
    X |= {"a": 2000.0 + rng.integers(0, 20, N), "b": rng.normal(size=N) + late}
    return pd.DataFrame(X), 2.0**30 + rng.normal(size=N) + late, rng.integers(1, 4, N)


def model(name, **params):
    slopes = {} if name in ("three",) else {"slopes": "all"}
    return HierarchicalSlopesRegressor(DESIGNS[name], **slopes, **params)


def summarised(name, rows=slice(None)):
    X, y, weights = table(name)
    return model(name).summarise(X.iloc[rows], y[rows], weights[rows])


def sums(statistics, like):
    """Every sum, in the units of other statistics."""
    import jax

    moved = statistics.contents.reduction.in_units(like.contents.reduction.units)
    return jax.tree.leaves(moved.stats)


def assert_same(found, expected, tolerance=1e-11):
    of_found, of_expected = found.contents, expected.contents
    assert of_found[:2] == of_expected[:2]
    assert of_found.n_rows == of_expected.n_rows
    for one, other in zip(of_found.design.factors, of_expected.design.factors, strict=True):
        assert one.levels.labels.tolist() == other.levels.labels.tolist()
        assert one._replace(levels=None) == other._replace(levels=None)
    for one, other in zip(sums(found, expected), sums(expected, expected), strict=True):
        assert_allclose(one, other, rtol=tolerance, atol=tolerance * N)


@pytest.mark.parametrize("name", DESIGNS)
def test_parts_add_up_to_the_whole(name):
    parts = [summarised(name, rows) for rows in (slice(0, 1), slice(1, 70), slice(70, N))]
    whole = summarised(name)
    assert_same(sum(parts), whole)
    assert_same(parts[2] + parts[0] + parts[1], whole)
    assert_same(pickle.loads(pickle.dumps(sum(parts))), whole)
    assert repr(sum(parts)) == repr(whole)


def test_representation_tells_rows_levels_and_features():
    assert repr(summarised("nested")) == (
        "GroupStatistics(120 rows, 9 levels of 'g', 27 levels of 'g:h', features 'a', 'b')"
    )


@pytest.mark.parametrize("name", DESIGNS)
def test_what_was_added_is_undone(name):
    first, second = summarised(name, slice(0, 60)), summarised(name, slice(60, N))
    assert_same(first + second - second, first, 1e-9)
    assert_same(second + first - second, first, 1e-9)
    nothing = first - first
    assert nothing.n_rows == 0
    assert_same(nothing + second, second, 1e-9)


def test_what_was_never_there_is_not_undone():
    X, y, weights = table("one")
    early, late = summarised("one", slice(0, 60)), summarised("one", slice(60, N))
    with pytest.raises(ValueError, match=r"levels of 'g' that are not in the whole: .*'s8'"):
        early - late.merged([late])
    with pytest.raises(ValueError, match=r"hold 120 rows and the whole 60"):
        early - (early + late)
    twice = model("one").summarise(X[:2], y[:2], 200 * weights[:2])
    with pytest.raises(ValueError, match=r"more rows than the whole"):
        early - twice
    outlier = model("one").summarise(X[:2], y[:2] + 1e5)
    with pytest.raises(ValueError, match=r"larger sums of squares than the whole in levels of 'g'"):
        early - outlier
    X, y, _ = table("crossed")
    diagonal = X.assign(g=[f"s{k % 2}" for k in range(N)], h=np.arange(N) % 2)
    of_pairs = model("crossed").summarise(diagonal, y)
    with pytest.raises(ValueError, match="pairs of levels that are not in the whole"):
        of_pairs - model("crossed").summarise(diagonal[:1].assign(h=1), y[:1])


def test_statistics_of_other_tables_do_not_add_up():
    X, y, _ = table("one")
    one = summarised("one")
    with pytest.raises(ValueError, match=r"tables with different columns .*'a', 'b' and .*'c'"):
        one + model("one").summarise(X.rename(columns={"a": "c"}), y)
    with pytest.raises(ValueError, match=r"different grouping factors .*'g:h', 'h' in one"):
        summarised("crossed") + summarised("nested")
    with pytest.raises(ValueError, match=r"varying slopes of 'g' .*\['a', 'b'\] and \['a'\]"):
        one + HierarchicalSlopesRegressor("g", slopes=["a"]).summarise(X, y)
    with pytest.raises(ValueError, match=r"labels of 'g' are of different kinds"):
        one + model("one").summarise(X.assign(g=np.arange(N) % 4), y)
    with pytest.raises(TypeError):
        one + 1
    with pytest.raises(TypeError):
        one - 1


@pytest.mark.parametrize("name", DESIGNS)
def test_table_is_read_back_in_any_order(name, tmp_path):
    import pyarrow.parquet

    statistics = summarised(name)
    written = statistics.to_arrow()
    order = np.random.default_rng(0).permutation(len(written))
    pyarrow.parquet.write_table(written.take(order), tmp_path / "sums.parquet")
    read = GroupStatistics.from_arrow(pyarrow.parquet.read_table(tmp_path / "sums.parquet"))
    assert_same(read, statistics, 0)
    assert_same(read + read - read, statistics, 1e-10)
    # a warehouse keeps the cells, not what a schema says
    assert_same(GroupStatistics.from_arrow(written.replace_schema_metadata(None)), statistics, 0)


def test_table_can_be_read_by_a_person():
    X, y, weights = table("crossed")
    found = summarised("crossed").to_arrow().to_pandas()
    about = json.loads(found["about"].dropna().item())
    assert about["version"] == 1
    shift, scale = np.array(about["shift"]), np.array(about["scale"])
    row = found[(found["of"] == "level") & (found["level: g"] == "s3")].squeeze()
    mine = (X["g"] == "s3").to_numpy()
    a = (X["a"][mine] - shift[0]) / scale[0]
    of_y = (y[mine] - shift[-1]) / scale[-1]
    assert row["factor"] == "g"
    assert row["sum: 1 * 1"] == weights[mine].sum()
    assert_allclose(row["sum: a * y"], (weights[mine] * a * of_y).sum(), rtol=1e-12)
    pair = found[(found["of"] == "pair") & (found["level: g"] == "s3") & (found["level: h"] == 1)]
    assert pair["sum: 1 * 1"].item() == weights[mine & (X["h"] == 1)].sum()


def damaged(written, **cells):
    frame = written.to_pandas()
    for column, change in cells.items():
        frame[column] = change(frame[column].copy())
    return pa.Table.from_pandas(frame, preserve_index=False)


def test_foreign_and_damaged_tables_are_refused():
    written = summarised("crossed").to_arrow()

    def refused(table, match):
        with pytest.raises(ValueError, match=match):
            GroupStatistics.from_arrow(table)

    def about(**changes):
        def change(column):
            return column.map(lambda text: json.dumps(json.loads(text) | changes), "ignore")

        return damaged(written, about=change)

    def first_level(column):
        column[1] *= 2
        return column

    refused(pa.table({"x": [1]}), "no table of statistics: from_arrow takes")
    refused("statistics", "no table of statistics: from_arrow takes what to_arrow made, got str")
    refused(about(format="other"), "no table of statistics but of 'other'")
    refused(about(version=2), "has version 2, and this skhier reads version 1")
    refused(about(scale=[1.0]), "damaged")
    refused(damaged(written, about=lambda column: column.map(lambda _: None)), "damaged: one cell")
    refused(damaged(written, about=lambda column: column.map(lambda _: "import os")), "damaged")
    refused(written.slice(1), "damaged")
    refused(written.drop_columns("sum: a * y"), r"damaged: .*sum: a \* y")
    refused(damaged(written, **{"sum: 1 * y": first_level}), "levels of 'g' do not add up")
    refused(damaged(written, **{"sum: a * y": lambda c: c.where(c.index != 1)}), "not finite")
    refused(written.filter(np.arange(len(written)) != 1), "damaged")
    refused(pa.concat_tables([written, written.slice(1, 1)]), "a level of 'g' occurs twice")
    refused(written.filter(np.arange(len(written)) != len(written) - 1), "pairs of 'g' and 'h'")


def test_small_groups_are_not_exported():
    X, y, _ = table("one")
    X.loc[[5, 6], "g"] = "alone"
    statistics = model("one").summarise(X, y)
    assert len(statistics.to_arrow(min_rows=2)) == len(statistics.to_arrow())
    with pytest.raises(ValueError, match=r"1 levels of 'g' have fewer than min_rows=3.*'alone'"):
        statistics.to_arrow(min_rows=3)
    # a weight of 100 is no crowd
    weights = np.where(X["g"] == "alone", 100.0, 1.0)
    with pytest.raises(ValueError, match="'alone'"):
        model("one").summarise(X, y, weights).to_arrow(min_rows=3)
    with pytest.raises(ValueError, match="pairs of levels of 'g' and 'h' share fewer"):
        summarised("crossed").to_arrow(min_rows=3)
    with pytest.raises(ValueError, match="'min_rows' parameter"):
        statistics.to_arrow(min_rows=0)


def test_labels_without_a_type_in_arrow_are_refused():
    X, y, _ = table("one")
    X["g"] = pd.Series([pd.Period("2020Q1") + k % 4 for k in range(N)], dtype=object)
    with pytest.raises(ValueError, match="labels of 'g' are of kind period, for which Arrow"):
        model("one").summarise(X, y).to_arrow()
