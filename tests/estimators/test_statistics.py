"""Fits of statistics and of blocks of rows: those of one fit of all rows."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version
from runs import SHORT, budget, slow, spending
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skhier import (
    GroupStatistics,
    HierarchicalSlopesClassifier,
    HierarchicalSlopesRegressor,
    HierarchicalSlopesRegressorCV,
    compare,
)

ROUNDING = 1e-9  # of a coefficient, or of its level's sd where it is small

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def assert_same_fit(found, expected):
    assert_allclose(found.coef_, expected.coef_, rtol=ROUNDING)
    assert_allclose(found.intercept_, expected.intercept_, rtol=ROUNDING)
    assert_allclose(found.noise_scale_, expected.noise_scale_, rtol=ROUNDING)
    assert_allclose(found.log_evidence_, expected.log_evidence_, rtol=ROUNDING)
    for name, table in expected.group_coef_.items():
        assert found.group_coef_[name].index.equals(table.index)
        assert list(found.group_coef_[name]) == list(table)
        sd = expected.group_coef_std_[name]
        off = (found.group_coef_[name] - table).abs() / (table.abs() + sd)
        assert off.max(axis=None) < ROUNDING
        assert_allclose(found.group_coef_std_[name], sd, rtol=1e-8)
        assert_allclose(found.group_scale_[name], expected.group_scale_[name], rtol=ROUNDING)
    assert found.diagnostics_["n_rows"] == expected.diagnostics_["n_rows"]
    assert found.diagnostics_["n_groups"] == expected.diagnostics_["n_groups"]
    assert found.diagnostics_["slopes_left_out"] == expected.diagnostics_["slopes_left_out"]
    assert found.diagnostics_["warnings"] == expected.diagnostics_["warnings"]


def in_blocks(model, X, y, weights=None, size=30):
    for start in range(0, len(y), size):
        rows = slice(start, start + size)
        model.partial_fit(X[rows], y[rows], None if weights is None else weights[rows])
    return model


def test_fit_of_statistics_is_the_fit_of_the_rows(people):
    X, y = people
    model = HierarchicalSlopesRegressor("subject", **SHORT)
    weights = np.arange(80) % 3
    parts = [
        model.summarise(X[rows], y[rows], weights[rows]) for rows in (slice(33), slice(33, 80))
    ]
    assert not hasattr(model, "coef_")
    whole = clone(model).fit(X, y, weights)
    found = model.fit_statistics(sum(parts))
    assert_same_fit(found, whole)
    assert_allclose(found.predict(X, return_std=True), whole.predict(X, return_std=True), rtol=1e-8)
    assert_array_equal(found.feature_names_in_, whole.feature_names_in_)
    assert_allclose(found.logo().elpd, whole.logo().elpd, rtol=ROUNDING)
    loaded = GroupStatistics.from_arrow(sum(parts).to_arrow())
    assert_same_fit(clone(model).fit_statistics(loaded), whole)


@pytest.mark.parametrize("name", ["crossed", "nested"])
def test_merged_fit_of_several_factors_is_the_pooled_fit(name, request):
    data = request.getfixturevalue(name)
    model = HierarchicalSlopesRegressor(data.groups, random_state=0)
    rows = np.random.default_rng(0).permutation(150)
    parts = [
        model.summarise(data.data.iloc[at], np.asarray(data.target)[at])
        for at in np.split(rows, [20, 75])
    ]
    assert_same_fit(model.fit_statistics(sum(parts)), request.getfixturevalue(f"{name}_fit"))


def test_blocks_add_up_to_one_fit(people):
    """A slope that varies in no block, only in all of them; levels that come later."""
    X, y = people
    X = X.assign(wave=np.repeat([0.0, 1.0], 40), size=np.repeat(np.arange(10.0), 8))
    X["subject"] = np.tile([f"s{k}" for k in range(10)], 8)
    X["size"] = X["subject"].map(lambda name: float(name[1:]))
    whole = HierarchicalSlopesRegressor("subject", **SHORT).fit(X, y)
    assert whole.diagnostics_["slopes_left_out"] == {"subject": ["size"]}
    found = in_blocks(HierarchicalSlopesRegressor("subject", **SHORT), X, y, size=7)
    assert_same_fit(found, whole)
    assert "wave" in found.group_coef_["subject"]


def test_blocks_are_merged_many_at_once(people):
    X, y = people
    model = spending(HierarchicalSlopesRegressor("subject", **SHORT), budget(waiting_blocks=3))
    model = in_blocks(model, X, y, size=5)
    assert len(model._blocks) < 8
    assert model.statistics_.n_rows == 80
    assert_same_fit(model, HierarchicalSlopesRegressor("subject", **SHORT).fit(X, y))


def test_blocks_are_fitted_when_asked_for(people, monkeypatch):
    X, y = people
    fits = []
    fit = HierarchicalSlopesRegressor._fit_problem

    def counted(self, *args):
        fits.append(self)
        return fit(self, *args)

    monkeypatch.setattr(HierarchicalSlopesRegressor, "_fit_problem", counted)
    model = in_blocks(HierarchicalSlopesRegressor("subject", **SHORT), X, y)
    assert not fits
    first = model.predict(X)
    assert model.coef_.shape == (1,)
    model.summary()
    assert len(fits) == 1
    model.partial_fit(X[:20], y[:20] + 1)
    assert hasattr(model, "posterior_")
    assert len(fits) == 2
    assert np.abs(model.predict(X) - first).max() > 0.01
    # whenever it was asked for, the fit is that of all rows
    again = pd.concat([X, X[:20]]), np.append(y, y[:20] + 1)
    assert_same_fit(model, HierarchicalSlopesRegressor("subject", **SHORT).fit(*again))


def test_fit_starts_anew_and_blocks_add_to_it(people):
    X, y = people
    model = in_blocks(HierarchicalSlopesRegressor("subject", **SHORT), X, y)
    model.fit(X[:40], y[:40])
    assert model.diagnostics_["n_rows"] == 40
    model.partial_fit(X[40:], y[40:])
    assert_same_fit(model, HierarchicalSlopesRegressor("subject", **SHORT).fit(X, y))


def test_blocks_pickle(people):
    X, y = people
    model = HierarchicalSlopesRegressor("subject", **SHORT)
    whole = clone(model).fit(X, y)
    early = pickle.loads(pickle.dumps(in_blocks(model, X[:40], y[:40], size=9)))
    assert_same_fit(pickle.loads(pickle.dumps(early.partial_fit(X[40:], y[40:]))), whole)
    # a fit of rows, whose pickle has their products
    nightly = pickle.loads(pickle.dumps(clone(model).fit(X[:40], y[:40])))
    assert_same_fit(nightly.partial_fit(X[40:], y[40:]), whole)
    flat = X.assign(size=X["subject"].map(lambda name: float(name[1:])))
    with pytest.raises(ValueError, match=r"a pickled fit holds no products of them: 'size'"):
        pickle.loads(pickle.dumps(clone(model).fit(flat, y))).partial_fit(flat, y)


def test_blocks_travel_in_files_of_skops(people):
    skops = pytest.importorskip("skops.io")
    X, y = people
    model = in_blocks(HierarchicalSlopesRegressor("subject", **SHORT), X, y)
    data = skops.dumps(model)
    types = skops.get_untrusted_types(data=data)
    assert all(name.startswith("skhier.") for name in types)
    assert_array_equal(skops.loads(data, trusted=types).coef_, model.coef_)


def test_a_blocks_statistics_are_taken_away(people):
    X, y = people
    model = in_blocks(HierarchicalSlopesRegressor("subject", **SHORT), X, y)
    model.fit_statistics(model.statistics_ - model.summarise(X[:30], y[:30]))
    whole = HierarchicalSlopesRegressor("subject", **SHORT).fit(X[30:], y[30:])
    assert_allclose(model.coef_, whole.coef_, rtol=1e-8)
    assert list(model.group_levels_["subject"]) == list(whole.group_levels_["subject"])


def test_first_rows_of_a_group_move_its_prediction_as_the_conditional_says():
    """E(b | y_new, theta, beta) = Sigma z' (z Sigma z' + sigma^2 I)^-1 (y - x beta), averaged."""
    rng = np.random.default_rng(1)
    code = np.repeat(np.arange(40), 6)
    lines = rng.normal([3, 1], [1.0, 0.5], (41, 2))
    x = rng.normal(size=240)
    y = lines[code, 0] + lines[code, 1] * x + 0.3 * rng.normal(size=240)
    model = HierarchicalSlopesRegressor("g", random_state=0).fit(
        pd.DataFrame({"x": x, "g": code}), y
    )
    new, points = pd.DataFrame({"x": [-1.0, 0.4], "g": 40}), pd.DataFrame({"x": [2.0], "g": 40})
    with pytest.warns(UserWarning, match="unseen group"):
        before = model.predict(points)
    y_new = np.array([9.0, 4.0])
    after = model.partial_fit(new, y_new).predict(points)
    draws = {
        name: np.concatenate(draw) for name, draw in model.posterior_.items() if "group" not in name
    }
    tau, corr = (
        np.concatenate(model.posterior_[name]["g"]) for name in ("group_scale", "group_corr")
    )
    z, at = np.c_[np.ones(2), new["x"]], np.array([1.0, 2.0])
    lines = np.empty(len(tau))
    for s in range(len(tau)):
        sigma = tau[s][:, None] * corr[s] * tau[s]
        beta = np.array([draws["intercept"][s], draws["coef"][s, 0]])
        cov = z @ sigma @ z.T + draws["noise_scale"][s] ** 2 * np.eye(2)
        lines[s] = at @ (beta + sigma @ z.T @ np.linalg.solve(cov, y_new - z @ beta))
    error = lines.std() / np.sqrt(len(lines))
    assert abs(after[0] - lines.mean()) < 5 * error
    assert error < 0.02
    assert abs(after - before)[0] > 50 * error


def test_statistics_tell_no_rows_and_no_medians(people):
    X, y = people
    model = in_blocks(HierarchicalSlopesRegressor("subject", **SHORT), X, y)
    with pytest.raises(ValueError, match="loo needs the rows of fit, which pickles, copies and s"):
        model.loo()
    other = HierarchicalSlopesRegressor("subject", slopes=None, **SHORT)
    other.fit_statistics(other.summarise(X, y))
    assert "log_likelihood" not in pickle.loads(pickle.dumps(other)).to_arviz()
    assert "log_likelihood" not in other.to_arviz()
    brms = HierarchicalSlopesRegressor("subject", prior="brms", **SHORT)
    statistics = brms.summarise(X, y)
    with pytest.raises(ValueError, match="prior='brms' is scaled by the median of y"):
        brms.fit_statistics(statistics)
    with pytest.raises(ValueError, match="prior='brms' is scaled by the median of y"):
        brms.partial_fit(X, y)
    assert not hasattr(brms, "n_features_in_")


def test_models_of_the_same_statistics_compare(people):
    X, y = people
    models = [HierarchicalSlopesRegressor("subject", eta=eta, **SHORT) for eta in (1.0, 4.0)]
    statistics = models[0].summarise(X, y)
    table = compare({f"{m.eta}": m.fit_statistics(statistics).logo() for m in models})
    assert len(table) == 2


def test_fewer_slopes_than_the_statistics_hold(people):
    X, y = people
    statistics = HierarchicalSlopesRegressor("subject").summarise(X, y)
    model = HierarchicalSlopesRegressor("subject", slopes=None, **SHORT)
    assert_same_fit(clone(model).fit_statistics(statistics), clone(model).fit(X, y))
    few = model.summarise(X, y)
    with pytest.raises(ValueError, match=r"no varying slopes of 'subject' for 'x'. Summarise"):
        HierarchicalSlopesRegressor("subject", **SHORT).fit_statistics(few)
    with pytest.raises(ValueError, match=r"are of groups \['subject'\] .*model of groups \['x'\]"):
        HierarchicalSlopesRegressor("x", slopes=None, **SHORT).fit_statistics(few)


def test_refused_blocks_leave_the_fit_as_it_was(people):
    X, y = people
    model = HierarchicalSlopesRegressor("subject", **SHORT).partial_fit(X, y)
    coef = model.coef_
    for bad, match in [
        (X.assign(subject=np.arange(80)), "labels of 'subject' are of different kinds"),
        (X.assign(x=np.nan), "Input X contains NaN"),
        (X.rename(columns={"x": "z"}), "feature names"),
        (X.assign(subject=None), "missing labels"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.partial_fit(bad, y)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(X, np.full(80, np.nan))
    assert model.coef_ is coef
    alone = HierarchicalSlopesRegressor("subject", **SHORT).partial_fit(X[:1], y[:1])
    with pytest.raises(ValueError, match="two rows or more"):
        alone.predict(X)
    alone.partial_fit(X[1:], y[1:])
    assert_same_fit(alone, model)
    with pytest.raises(TypeError, match="takes a GroupStatistics"):
        alone.fit_statistics(y)
    with pytest.raises(NotFittedError):
        HierarchicalSlopesRegressor("subject").predict(X)
    assert not hasattr(HierarchicalSlopesRegressor("subject"), "statistics_")


def test_fit_without_statistics_can_be_displayed(people):
    X, y = people
    rows = {"response": "student_t"}
    model = HierarchicalSlopesRegressor("subject", slopes=None, **rows, **SHORT).fit(X, y)
    assert not hasattr(model, "statistics_")
    if Version(sklearn.__version__) >= Version("1.7"):  # whose dir leaves out what is not there
        assert "statistics_" not in dir(model)
    assert "HierarchicalSlopesRegressor" in model._repr_html_()


def test_models_whose_fit_takes_more_than_sums_are_refused(people):
    X, y = people
    counts = HierarchicalSlopesRegressor("subject", response="poisson", **SHORT)
    statistics = HierarchicalSlopesRegressor("subject").summarise(X, y)
    for act in (
        lambda m: m.summarise(X, y),
        lambda m: m.partial_fit(X, y),
        lambda m: m.fit_statistics(statistics),
    ):
        with pytest.raises(ValueError, match="not so of 'poisson'"):
            act(counts)


LEVEL_MEANS = {
    "one": ("g", "all"),
    "crossed": (["g", "h"], {"g": ["x"], "h": "all"}),
    "left out": ("g", ["x", "same"]),
}


@pytest.mark.filterwarnings("ignore:.group_means. names columns that can have no mean")
@pytest.mark.parametrize(
    "name", [*slow("crossed"), *(name for name in LEVEL_MEANS if name != "crossed")]
)
def test_level_means_follow_from_sums(name):
    """Means are no sums: of the levels' sums of all parts they are those of all rows."""
    groups, means = LEVEL_MEANS[name]
    rng = np.random.default_rng(2)
    g, h = rng.integers(0, 9, 200), rng.integers(0, 4, 200)
    x, z = rng.normal(2000, 2, 200) + g, rng.normal(size=200) + h
    X = pd.DataFrame({"g": g, "h": h, "x": x, "z": z, "same": g // 2})
    X = X if name == "crossed" else X.drop(columns="h")
    y = 1e3 + g + h + x - 2000 + rng.normal(size=200)
    model = HierarchicalSlopesRegressor(groups, slopes=None, group_means=means, **SHORT)
    expected = clone(model).fit(X, y)
    parts = model.summarise(X[:90], y[:90]), model.summarise(X[90:], y[90:])
    earlier = clone(model).fit(X[:90], y[:90])
    for fitted in (
        clone(model).fit_statistics(parts[0] + parts[1]),
        clone(model).partial_fit(X[:90], y[:90]).partial_fit(X[90:], y[90:]),
        pickle.loads(pickle.dumps(earlier)).partial_fit(X[90:], y[90:]),
        earlier.partial_fit(X[90:], y[90:]),
    ):
        assert fitted.coef_names_ == expected.coef_names_
        for key in ("group_means_left_out", "n_rows"):
            assert fitted.diagnostics_[key] == expected.diagnostics_[key]
        found, sums = fitted._fitted.reduction, expected._fitted.reduction
        moved = found.in_units(sums.units).stats
        assert_allclose(moved.xx, sums.stats.xx, atol=1e-9)
        assert_allclose(moved.xy, sums.stats.xy, atol=1e-9)
        assert_allclose(fitted.coef_, expected.coef_, rtol=1e-9)
        assert_allclose(fitted.predict(X), expected.predict(X), rtol=1e-9)


def test_a_search_takes_no_statistics_but_those_of_folds():
    for name in ("partial_fit", "summarise"):
        assert not hasattr(HierarchicalSlopesClassifier("subject"), name)
        assert not hasattr(HierarchicalSlopesRegressorCV("subject"), name)
    assert not hasattr(HierarchicalSlopesClassifier("subject"), "fit_statistics")
    assert hasattr(HierarchicalSlopesRegressorCV("subject"), "fit_statistics")


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_y_and_weights_are_named_columns(people, kind):
    X, y = people
    weights = np.arange(80) % 3
    model = HierarchicalSlopesRegressor("subject", **SHORT)
    whole = clone(model).fit(X, y, weights)
    frame = X.assign(y=y, w=weights)
    if kind == "polars":
        frame = pytest.importorskip("polars").from_pandas(frame)
    elif kind == "pyarrow":
        frame = pytest.importorskip("pyarrow").Table.from_pandas(frame)
    found = clone(model).fit(frame, "y", sample_weight="w")
    assert_array_equal(found.coef_, whole.coef_)
    assert list(found.feature_names_in_) == ["x", "subject"]
    assert found.loo().elpd == whole.loo().elpd
    assert_same_fit(clone(model).partial_fit(frame, "y", "w"), whole)
    with pytest.raises(ValueError, match=r"`y='z'` is not a column of X. Columns are: 'x', 'subj"):
        model.fit(frame, "z")
    with pytest.raises(ValueError, match="`sample_weight='z'` is not a column of X"):
        model.fit(frame, "y", "z")
    with pytest.raises(ValueError, match="y and sample_weight are both 'y'"):
        model.fit(frame, "y", "y")
    with pytest.raises(TypeError, match="y='y' names a column of X, and X is a ndarray without"):
        model.fit(X.to_numpy(), "y")


def test_statistics_warn_as_the_rows_do(people):
    X, y = people
    X = X.assign(twin=X["subject"] + "!", copy=2 * X["x"])
    model = HierarchicalSlopesRegressor(["subject", "twin"], slopes=["x"], **SHORT)
    found = []
    for act in (lambda m: m.fit(X, y), lambda m: m.fit_statistics(m.summarise(X, y))):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            act(clone(model))
        found.append(sorted(str(each.message) for each in caught))
    assert found[0] == found[1]
    assert any("group the rows identically" in message for message in found[0])
    assert any("X has rank 1 of 2" in message for message in found[0])
