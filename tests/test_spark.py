"""What only Spark does: Python workers that end, times with zones, types that pandas has not."""

import numpy as np
import pandas as pd
import pytest
from lazy_frames import lazy, spark_session
from numpy.testing import assert_allclose
from runs import SHORT

from skhier import HierarchicalSlopesRegressor, frames

pytestmark = [
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    g, x = rng.integers(0, 6, 90), rng.normal(size=90)
    day = pd.Timestamp(2020, 1, 1) + pd.to_timedelta(g, "D")
    return pd.DataFrame({"day": day, "x": x, "y": g + x + rng.normal(size=90)})


def test_times_with_a_zone_are_levels_as_pandas_has_them(rows):
    """Of Spark's two types of time the one with a zone is the usual one."""
    source = lazy(rows, "spark")
    source = source.withColumn("day", source["day"].cast("timestamp"))
    assert source.schema["day"].dataType.typeName() == "timestamp"
    model = HierarchicalSlopesRegressor("day", **SHORT).fit(source, "y")
    assert pd.Index(model.group_levels_["day"]).equals(pd.Index(sorted(set(rows["day"]))))
    predicted = frames.predict(model, source).toArrow().to_pandas().sort_values("x")
    expected = model.predict(rows.sort_values("x")[["day", "x"]])
    assert_allclose(predicted["prediction"], expected, rtol=1e-12)


def test_columns_that_pandas_cannot_hold_pass_through(rows):
    source = lazy(rows, "spark")
    model = HierarchicalSlopesRegressor("day", **SHORT).fit(source, "y")
    large = source.selectExpr(
        "*", "if(x > 0, 9007199254740993L, null) as id", "array(x) as list", "1.10BD as price"
    )
    predicted = frames.predict(model, large)
    assert predicted.schema.fields[: len(large.schema.fields)] == large.schema.fields
    found = predicted.toArrow()
    assert {*found["id"].to_pylist()} == {None, 9007199254740993}
    assert str(found["price"][0]) == "1.10"
    assert predicted.where("x > 1e9").count() == 0


def test_python_worker_that_ends_is_named_and_the_fit_stays(rows):
    def ending(batches):
        import os

        os._exit(1)
        yield from batches

    source = lazy(rows, "spark")
    model = HierarchicalSlopesRegressor("day", **SHORT).fit(rows, "y")
    before = dict(model.__dict__)
    with pytest.raises(
        RuntimeError, match=r"Spark could not read the rows: .*Python worker exited"
    ) as raised:
        model.fit(source.mapInArrow(ending, source.schema), "y")
    assert "\tat " not in str(raised.value)
    assert model.__dict__ == before


def test_files_that_change_or_go_are_named_and_the_fit_stays(rows, tmp_path):
    session, path = spark_session(), tmp_path / "rows"
    path.mkdir()
    model = HierarchicalSlopesRegressor("day", **SHORT).fit(rows, "y")
    before = dict(model.__dict__)
    rows.to_parquet(path / "a.parquet")
    source = session.read.parquet(str(path))
    (path / "a.parquet").unlink()
    with pytest.raises(RuntimeError, match=r"Spark could not read the rows: .*a\.parquet"):
        model.fit(source, "y")
    rows.to_parquet(path / "a.parquet")
    rows.assign(x="a").to_parquet(path / "b.parquet")
    both = session.read.schema(source.schema).parquet(str(path))
    with pytest.raises(RuntimeError, match=r"Spark could not read the rows: .*b\.parquet"):
        model.fit(both, "y")
    assert model.__dict__ == before


def test_predicting_workers_name_what_is_wrong(rows):
    source = lazy(rows, "spark")
    known = rows[rows["day"] < rows["day"].max()]
    model = HierarchicalSlopesRegressor("day", handle_unknown="error", **SHORT).fit(known, "y")
    with pytest.raises(Exception, match="unseen group"):
        frames.predict(model, source).toArrow()
