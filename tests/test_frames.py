"""Predictions as columns of frames, lazy or in memory."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from lazy_frames import LAZY, collected, lazy
from numpy.testing import assert_allclose

from skhier import HierarchicalSlopesRegressor, frames

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def table(people):
    """Rows of fit, a new subject, a column that is no feature, another order of columns."""
    X, _ = people
    new = pd.DataFrame({"x": [0.5, -0.5], "subject": ["new", "new"]})
    rows = pd.concat([X, new], ignore_index=True)
    return rows.assign(note="n", index=np.arange(82))[["note", "subject", "index", "x"]]


def as_kind(rows, kind):
    if kind == "pandas":
        return rows.set_index(np.arange(len(rows))[::-1])
    if kind == "polars":
        return pytest.importorskip("polars", reason="no Polars").from_pandas(rows)
    if kind == "pyarrow":
        return pytest.importorskip("pyarrow", reason="no pyarrow").Table.from_pandas(rows)
    return lazy(rows, kind.removesuffix(" lazy"))


KINDS = ["pandas", "polars", "pyarrow", "polars lazy", *LAZY[1:]]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_the_predictions(kind, fitted, table):
    frame = as_kind(table, kind)
    predicted = frames.predict(fitted, frame, std=True, coverage=0.8)
    assert type(predicted) is type(frame)
    found = collected(predicted)
    assert list(found) == [*table, "prediction", "prediction_std", "lower", "upper"]
    X = table[["x", "subject"]]
    with pytest.warns(UserWarning, match="unseen group"):
        mean, std = fitted.predict(X, return_std=True)
    with pytest.warns(UserWarning, match="unseen group"):
        interval = fitted.predict_interval(X, coverage=0.8)
    order = found["index"].to_numpy()
    assert_allclose(found["prediction"], mean[order], rtol=1e-12)
    assert_allclose(found["prediction_std"], std[order], rtol=1e-12)
    assert_allclose(found[["lower", "upper"]], interval[order], rtol=1e-12)
    assert list(collected(frames.predict(fitted, frame))) == [*table, "prediction"]


def test_lazy_queries_go_on(fitted, table):
    """What comes later is not pushed below, where the new columns are not."""
    pl = pytest.importorskip("polars", reason="no Polars")
    lazy = frames.predict(fitted, as_kind(table, "polars lazy"))
    mean = fitted.predict(table[["x", "subject"]][:80])
    high = lazy.filter(pl.col("prediction") > 1, pl.col("index") < 80).select("prediction")
    assert_allclose(high.collect()["prediction"].to_numpy(), mean[mean > 1], rtol=1e-12)
    assert lazy.head(2).collect().shape == (2, 5)
    assert lazy.filter(pl.col("x") > 1e9).collect().shape == (0, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_do_not_fit_are_refused(kind, fitted, table):
    with pytest.raises(ValueError, match=r"lacks columns of fit: 'x'. It has 'note'"):
        frames.predict(fitted, as_kind(table.drop(columns="x"), kind))
    with pytest.raises(ValueError, match="would write over: 'prediction'"):
        frames.predict(fitted, as_kind(table.assign(prediction=0.0), kind))
    with pytest.raises(ValueError, match="'coverage' parameter"):
        frames.predict(fitted, as_kind(table, kind), coverage=1.5)
    nameless = HierarchicalSlopesRegressor()
    with pytest.raises(Exception, match="not fitted"):
        frames.predict(nameless, as_kind(table, kind))


def test_models_of_nameless_columns_and_strict_ones_are_refused(people, short_run, table):
    X, y = people
    model = short_run(1).fit(X.to_numpy(), y)
    with pytest.raises(ValueError, match="fitted to columns without names"):
        frames.predict(model, table)
    strict = short_run(handle_unknown="error").fit(X, y)
    with pytest.raises(ValueError, match="unseen group"):
        frames.predict(strict, table)


def test_rows_that_were_only_added_are_fitted_first(people, short_run, table):
    X, y = people
    model = short_run().partial_fit(X, y)
    found = frames.predict(model, table[:80])["prediction"]
    assert_allclose(found, model.predict(X), rtol=1e-12)


WITHOUT_JAX = """
import pickle, sys
import pandas as pd
from skhier import frames
model = pickle.load(open(sys.argv[1], "rb"))
frames.predict(model, pd.read_pickle(sys.argv[2]), std=True, coverage=0.9)
assert "jax" not in sys.modules
"""


def test_prediction_needs_no_jax(fitted, table, tmp_path):
    import pickle

    (tmp_path / "model").write_bytes(pickle.dumps(fitted))
    table.to_pickle(tmp_path / "rows")
    arguments = [str(tmp_path / "model"), str(tmp_path / "rows")]
    subprocess.run([sys.executable, "-c", WITHOUT_JAX, *arguments], check=True, timeout=120)
