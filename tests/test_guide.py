"""Lines of the user guide and of the page of responses, run as they stand there."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor

DOCS = Path(__file__).parents[1] / "docs"
RESPONSES = (DOCS / "responses.md").read_text(encoding="utf-8")
GUIDE = (DOCS / "guide.md").read_text(encoding="utf-8") + RESPONSES
NAMES = {
    "np": np,
    "pd": pd,
    "HierarchicalSlopesClassifier": HierarchicalSlopesClassifier,
    "HierarchicalSlopesRegressor": HierarchicalSlopesRegressor,
    "TransformedTargetRegressor": TransformedTargetRegressor,
}


def lines_with(word):
    """The block of code that holds the word."""
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if word in code)
    return block


@pytest.fixture(scope="module")
def prices():
    rng = np.random.default_rng(2)
    store, year = np.divmod(np.arange(120), 10)
    log_y = 1 + 0.05 * year + rng.normal(0, 0.5, 12)[store] + rng.normal(0, 0.6, 120)
    return pd.DataFrame({"store": store, "year": year + 2010.0}), np.exp(log_y)


def test_transformed_target_gives_median_mean_and_interval(prices):
    X, y = prices
    used = NAMES | {"X": X, "y": y}
    exec(lines_with("func=np.log"), used)
    model, draws = used["model"], used["draws"]
    mean, sd = model.predict(X, return_std=True)
    assert_allclose(used["median"], np.exp(mean), rtol=1e-12)
    # given a posterior draw, log y is normal, and E y = exp(m + s^2 / 2)
    exact = np.empty(len(X))
    for at, m, s, weights in model._predictive_mixture(X):
        exact[at] = weights @ np.exp(m + s**2 / 2)
    error = draws.std(1) / np.sqrt(draws.shape[1])
    assert np.all(np.abs(used["mean"] - exact) < 5 * error)
    assert_allclose(exact / used["median"], np.exp(sd**2 / 2), rtol=0.05)
    inside = np.mean((used["low"] < y) & (y < used["high"]))
    assert 0.8 < inside < 1
    with pytest.raises((AttributeError, TypeError, ValueError)):
        used["prices"].predict(X, return_std=True)


def test_grouping_column_that_is_a_feature_is_there_twice(prices):
    X, y = prices
    used = NAMES | {"X": X[["year"]], "y": np.log(y)}
    exec(lines_with("year_group"), used)
    model = HierarchicalSlopesRegressor(groups="year_group", random_state=0)
    model.fit(used["X_twice"], np.log(y))
    assert model.coef_names_ == ["year"]
    assert model.group_coef_["year_group"].columns.tolist() == ["intercept"]


def test_grouping_column_can_be_doubled_in_a_pipeline(prices):
    X, y = prices
    double = FunctionTransformer(lambda table: table.assign(year_group=table["year"]))
    model = make_pipeline(double, HierarchicalSlopesRegressor("year_group", random_state=0))
    model.fit(X[["year"]], y)
    assert_array_equal(
        model.predict(X[["year"]]), model[-1].predict(X[["year"]].assign(year_group=X["year"]))
    )


def test_effects_within_and_between_differ(capsys):
    used = dict(NAMES)
    code = lines_with("group_means")
    exec(code, used)
    printed = capsys.readouterr().out
    table = GUIDE.split(code)[1].split("\n\n")[1]
    assert [line.split() for line in printed.splitlines()] == [
        line.split() for line in table.splitlines()
    ]
    # skill is known by ten speeds of sd 5, so the contrast of -0.5 is diluted by 100 / (100 + 2.5)
    rows = used["model"].summary()
    for name, truth in {"speed": 0.3, "mean(speed | typist)": -0.5 / 1.025}.items():
        assert abs(rows.loc[f"coef[{name}]", "mean"] - truth) < 3 * rows.loc[f"coef[{name}]", "sd"]
    compromise = HierarchicalSlopesRegressor("typist", slopes=None, random_state=0)
    with pytest.warns(UserWarning, match=r"group_means=\['speed'\]"):
        compromise.fit(used["X"], used["mistakes"])
    new = used["X"].assign(typist=used["X"]["typist"] + 100)
    with pytest.warns(UserWarning, match="unseen group"):
        errors = [
            np.sqrt(np.mean((model.predict(new) - used["mistakes"]) ** 2))
            for model in (compromise, used["model"])
        ]
    assert errors[1] < 0.6 * errors[0]


def test_noise_differs_between_groups():
    used = dict(NAMES)
    exec(lines_with("noise_by="), used)
    assert used["better_by"] > 10
    assert np.corrcoef(np.log(used["noise"]["mean"]), np.log(used["care"]))[0, 1] > 0.9


def test_classes_are_fitted():
    used = dict(NAMES)
    exec(lines_with('HierarchicalSlopesClassifier("clinic"'), used)
    assert np.all((used["low"] < used["probability"]) & (used["probability"] < used["high"]))
    assert abs(np.log(used["odds_ratio"][0]) - 0.9) < 0.5


def test_counts_are_fitted():
    used = dict(NAMES)
    exec(lines_with('"poisson"'), used)
    assert np.mean((used["low"] <= used["calls"]) & (used["calls"] <= used["high"])) > 0.85
    assert abs(np.log(used["factor"][0]) - 0.3) < 0.1


def test_rates_are_per_exposure():
    used = NAMES | {"clone": clone}
    exec(lines_with('"poisson"') + lines_with('exposure="hours"'), used)
    assert_allclose(used["mean"], used["hours"] * used["an_hour"], rtol=1e-9)
    assert abs(used["rates"].coef_[0] - 0.3) < 0.1
    assert abs(used["mean"].sum() / used["calls"].sum() - 1) < 0.05


def test_known_errors_draw_studies_together():
    used = dict(NAMES)
    exec(lines_with('known_noise="error"'), used)
    assert 3 < used["mean"] < 12
    assert np.ptp(used["schools"]) < 0.8 * np.ptp(used["effects"])
    assert used["between"]["intercept"] > 0


def test_amounts_have_means_above_medians():
    used = dict(NAMES)
    exec(lines_with('"lognormal"'), used)
    # the ratio is exp(v / 2), v at least the noise's 0.16 but for its estimate
    assert np.all(used["mean"] / used["median"] > np.exp(0.05))
    assert abs(used["mean"].sum() / used["price"].sum() - 1) < 0.1


def test_heavy_tails_predict_better():
    used = dict(NAMES)
    exec(lines_with('"student_t"'), used)
    assert used["better_by"] > 2
    assert used["tails"].df_ < 10


@pytest.mark.slow
def test_responses_are_drawn_as_shown():
    used: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", RESPONSES, re.S):
        exec(block, used)
        plt.close("all")
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", RESPONSES)
    assert RESPONSES.count("from_estimator(") == len(pictures) == 5
    assert all((DOCS / picture).stat().st_size < 120_000 for picture in pictures)
