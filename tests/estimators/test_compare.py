"""Models side by side: against ArviZ's table, and what is refused."""

import dataclasses
import inspect

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skhier import HierarchicalSlopesRegressor, compare
from skhier.datasets import load_sleepstudy
from skhier.estimators._compare import _stacking_weights


@pytest.fixture(scope="module")
def sleepstudy():
    return load_sleepstudy(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module")
def models(sleepstudy):
    make = HierarchicalSlopesRegressor
    return {
        "levels": make("Subject", slopes=None, random_state=0).fit(*sleepstudy),
        "lines": make("Subject", random_state=0).fit(*sleepstudy),
        "independent": make("Subject", correlated=False, random_state=0).fit(*sleepstudy),
    }


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # ArviZ's, of pandas 3
def test_table_is_arvizs(models):
    az = pytest.importorskip("arviz")
    table = compare(models)
    raw = {"round_to": "none"} if "round_to" in inspect.signature(az.compare).parameters else {}
    theirs = az.compare({name: model.loo().to_arviz() for name, model in models.items()}, **raw)
    assert list(table.index) == list(theirs.index)
    elpd = "elpd_loo" if "elpd_loo" in theirs else "elpd"
    assert_allclose(table["elpd"], theirs[elpd].astype(float), rtol=1e-3)
    assert_allclose(-table["elpd_diff"], theirs["elpd_diff"].astype(float).abs(), atol=0.06)
    assert_allclose(table["se_diff"], theirs["dse"].astype(float), atol=0.06)
    assert_allclose(table["se"], theirs["se"].astype(float), atol=0.6)
    # their optimiser starts from and keeps other rounding; the mixture is as good
    points = np.column_stack([models[n].loo().pointwise["elpd"] for n in table.index])
    gain = [
        np.log(np.exp(points) @ np.asarray(w, float)).sum()
        for w in (table["weight"], theirs["weight"])
    ]
    assert gain[0] >= gain[1] - 1e-3


def test_table_of_groups_and_results(models):
    by_group = compare(models, by="logo")
    assert by_group["elpd"].is_monotonic_decreasing
    assert_allclose(by_group["weight"].sum(), 1)
    assert_allclose(by_group["elpd_diff"], by_group["elpd"] - by_group["elpd"].iloc[0])
    again = compare(a=models["lines"].logo(), b=models["levels"].logo())
    assert_allclose(again.loc["a", "elpd"], by_group.loc["lines", "elpd"])
    assert again["log_evidence"].isna().all()
    assert compare(models).loc["lines", "log_evidence"] == models["lines"].log_evidence_
    assert list(compare(models["lines"], models["levels"]).index) == ["model 0", "model 1"]


def test_stacking_weights_maximise_the_mixture():
    rng = np.random.default_rng(0)
    elpd = rng.normal(size=(200, 3)) - 2
    mass = rng.integers(1, 4, 200).astype(float)
    weights = _stacking_weights(elpd, mass)

    def value(w):
        return mass @ np.log(np.exp(elpd) @ w)

    others = rng.dirichlet(np.ones(3), 2000)
    assert value(weights) >= max(map(value, others))
    twice = np.repeat(np.arange(200), mass.astype(int))
    assert_allclose(weights, _stacking_weights(elpd[twice], np.ones(len(twice))), atol=1e-5)


@pytest.mark.parametrize("spread", [10.0, 1e3, 1e6])
def test_stacking_weights_of_hopeless_models_are_finite(spread):
    elpd = np.random.default_rng(0).normal(size=(50, 3)) * spread
    elpd[:, 2] -= 1e2 * spread  # of no use for any row
    with np.errstate(all="raise", under="ignore"):
        weights = _stacking_weights(elpd, np.ones(50))
    assert_allclose(weights.sum(), 1)
    assert_allclose(weights[2], 0, atol=1e-12)


def test_scores_that_are_not_finite_are_refused(models):
    good = models["lines"].loo()
    table = good.pointwise.copy()
    table.loc[3, "elpd"] = np.nan
    bad = dataclasses.replace(good, pointwise=table, elpd=np.nan)
    with pytest.raises(ValueError, match=r"'bad' has no finite elpd for 1 of 180"):
        compare(good=good, bad=bad)


def test_different_rows_are_refused(models, sleepstudy):
    X, y = sleepstudy
    other = HierarchicalSlopesRegressor("Subject").fit(X.iloc[1:], y.iloc[1:])
    shuffled = HierarchicalSlopesRegressor("Subject").fit(X, y + np.arange(180) % 2)
    for wrong in (other, shuffled):
        with pytest.raises(ValueError, match="different rows"):
            compare(models["lines"], wrong)
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(models["lines"].loo(), models["lines"].logo())
    with pytest.raises(ValueError, match="two models"):
        compare(models["lines"])
    with pytest.raises(TypeError, match="takes fitted estimators"):
        compare(models["lines"], pd.DataFrame())
    with pytest.raises(ValueError, match="'loo' or 'logo'"):
        compare(models, by="waic")
