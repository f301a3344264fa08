"""Data that say little or nothing: one warning at most, finite results, the prior's answers."""

import re
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from runs import SHORT
from scipy.stats import kstest
from sklearn.base import clone

from skhier import HierarchicalSlopesRegressor
from skhier.utils.diagnostics import mcse_mean

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("value", [5.0, 0.1, 0.0, -1e9])
@pytest.mark.parametrize("groups", ["subject", None])
def test_constant_y_is_a_point(value, groups, people):
    # case 45
    X, _ = people
    X = X if groups else X[["x"]]
    model = HierarchicalSlopesRegressor(groups, **SHORT)
    with pytest.warns(UserWarning, match=re.escape(f"y is constant ({value:g})")) as caught:
        model.fit(X, np.full(80, value))
    assert len(caught) == 1
    mean, sd = model.predict(X, return_std=True)
    assert_allclose(mean, value, rtol=1e-6, atol=1e-6)
    assert_allclose(sd, 0, atol=1e-6 * max(abs(value), 1))
    assert_allclose(model.sample_y(X, 2), value, rtol=1e-6, atol=1e-6)
    assert_allclose(model.predict_interval(X), value, rtol=1e-6, atol=1e-6)
    assert np.isfinite(model.log_predictive_density(X, np.full(80, value))).all()
    model.summary(), model.variance_components(), model.prior_summary()


@pytest.mark.parametrize("size", [1e-13, 1e-15])
def test_nearly_constant_y_is_finite(size, fitted, people):
    # case 46
    X, y = people
    model = clone(fitted).fit(X, 5 + size * y)
    assert_allclose(model.predict(X), 5, rtol=1e-12)
    assert_finite(model, X)


def assert_finite(model, X):
    for draws in model._fitted.named_draws(group_effects=True).values():
        assert np.isfinite(draws).all()
    for result in (*model.predict(X, return_std=True), model.predict_interval(X)):
        assert np.isfinite(result).all()


@pytest.mark.parametrize("kind", ["f4", "f2"])
@pytest.mark.parametrize("where", ["y", "x"])
def test_numbers_that_their_type_rounds_away_are_told(kind, where, people):
    X, y = people
    far = {"f4": 1e9, "f2": 4e4}[kind]
    spacing = float(np.spacing(np.dtype(kind).type(far)))
    values = {"y": 5 * spacing * y, "x": 5 * spacing * X["x"].to_numpy()}
    name = {"y": "y came", "x": "Column 'x' of X came"}[where]
    for offset in (0.0, far):
        coarse = (values[where] + offset).astype(kind)
        data = (X, coarse) if where == "y" else (X.assign(x=coarse), y)
        model = HierarchicalSlopesRegressor("subject", **SHORT)
        if offset == 0.0:
            model.fit(*data)
            continue
        message = f"{name} as float.* numbers, which near .* are {spacing:.3g} apart, too coarse"
        with pytest.warns(UserWarning, match=message):
            model.fit(*data)
        assert any("apart" in found for found in model.diagnostics_["warnings"])


@pytest.mark.parametrize("where", ["y", "x"])
def test_huge_outlier_is_finite(where, fitted, people):
    # case 62
    X, y = people
    far = np.where(np.arange(80) == 3, 1e6, 0.0)
    model = clone(fitted)
    if where == "y":
        model.fit(X, y + far * y.std())
        assert model.diagnostics_["divergences"] == 0
    else:
        model.fit(X.assign(x=X["x"] + far), y)
    assert_finite(model, X)


@pytest.mark.parametrize("value", [3.0, 0.1, 0.0])
def test_constant_column_is_named(value, fitted, people):
    # cases 52, 58
    X, y = people
    with pytest.warns(UserWarning, match="Constant columns .* keeps its prior: 'x'") as caught:
        model = clone(fitted).fit(X.assign(x=value), y)
    assert [w for w in caught if w.category is UserWarning][1:] == []
    assert_finite(model, X)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["only"] * 80, "1 group: between-group sd is set by its prior"),
        ([f"s{i}" for i in range(80)], "Every group has one row"),
    ],
)
def test_groups_without_information_warn(labels, message, fitted, people):
    # cases 65, 67
    X, y = people
    with pytest.warns(UserWarning, match=message):
        model = clone(fitted).fit(X.assign(subject=labels), y)
    assert model.diagnostics_["n_groups"] == len(set(labels))
    assert message in " ".join(model.diagnostics_["warnings"])
    assert_finite(model, X.assign(subject=labels))


def test_two_groups_are_no_error(fitted, people):
    # case 66
    X, y = people
    X = X.assign(subject=np.where(np.arange(80) < 40, "a", "b"))
    model = clone(fitted).fit(X, y)
    assert model.diagnostics_["n_groups"] == 2
    assert_finite(model, X)


def test_more_columns_than_rows_is_finite():
    # case 8
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(15, 30)), rng.normal(size=15)
    with pytest.warns(UserWarning, match="X has rank 15 of 30"):
        model = HierarchicalSlopesRegressor(**SHORT).fit(X, y)
    assert_finite(model, X)


@pytest.mark.parametrize(
    ("columns", "slopes", "effects"),
    [
        (["x", "subject"], None, ["intercept"]),
        (["x", "subject"], [], ["intercept"]),
        (["subject"], "all", ["intercept"]),
        (["x", "subject"], ["x"], ["intercept", "x"]),
    ],
)
def test_effects_are_the_intercept_and_the_chosen_slopes(columns, slopes, effects, people):
    # case 63
    X, y = people
    model = HierarchicalSlopesRegressor("subject", slopes=slopes, **SHORT).fit(X[columns], y)
    for table in (model.group_coef_, model.group_corr_, model.group_effects_):
        assert table["subject"].columns.tolist() == effects
    assert model.group_scale_["subject"].index.tolist() == effects
    assert model.coef_names_ == columns[:-1]
    assert_finite(model, X[columns])


def test_scale_of_one_group_keeps_its_prior(people):
    # case 65; the group's mean is known, so tau's density is that of its prior and of this mean:
    # Exponential(tau; mean s) Normal(0; 0, (2.5 s)^2 + tau^2), with s = sd(y)
    X, y = people
    with pytest.warns(UserWarning, match="1 group: between-group sd is set by its prior"):
        model = HierarchicalSlopesRegressor("subject", slopes=None, random_state=0).fit(
            X.assign(subject="only"), y
        )
    s = y.std(ddof=1)
    tau = np.linspace(0, 40, 100_000)
    cdf = np.cumsum(np.exp(-tau) / np.hypot(2.5, tau))
    draws = model.posterior_["group_scale"]["subject"][:, ::10].ravel() / s
    assert kstest(draws, lambda t: np.interp(t, tau, cdf / cdf[-1])).pvalue > 1e-3


def test_total_variance_of_groups_of_one_row_is_known(people):
    # case 67: y ~ Normal(X beta, v I), v = sigma^2 + tau^2, integrated over both on a grid
    X, y = people
    with pytest.warns(UserWarning, match="Every group has one row"):
        model = HierarchicalSlopesRegressor("subject", slopes=None, random_state=0).fit(
            X.assign(subject=np.arange(80)), y
        )
    v = (
        model.posterior_["noise_scale"] ** 2
        + model.posterior_["group_scale"]["subject"][..., 0] ** 2
    )
    mean, sd = total_variance(X["x"].to_numpy(), y)
    assert abs(v.mean() - mean) < min(4.2 * mcse_mean(v), 0.1 * sd)


def total_variance(x, y):
    """Posterior mean and sd of sigma^2 + tau^2 under the default priors."""
    s, x = y.std(ddof=1), x - x.mean()
    design = np.column_stack([2.5 * s * np.ones(len(x)), 2.5 * s / x.std(ddof=1) * x])
    known, rotation = np.linalg.eigh(design @ design.T)
    rotated = rotation.T @ (y - y.mean())
    grid = np.linspace(1e-4, 4 * s, 500)
    sigma, tau = np.meshgrid(grid, grid)
    v = sigma**2 + tau**2
    total = v[..., None] + known
    log_density = -0.5 * (np.log(total) + rotated**2 / total).sum(-1) - (sigma + tau) / s
    weight = np.exp(log_density - log_density.max())
    mean = np.average(v, weights=weight)
    return mean, np.sqrt(np.average((v - mean) ** 2, weights=weight))


@pytest.mark.slow
def test_thirty_varying_slopes_fit_within_a_minute():
    # case 64: a minute of two idle cores, compilation included
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.normal(size=(600, 30))).add_prefix("x").assign(g=np.arange(600) % 20)
    y = X["x0"] + rng.normal(size=600)
    began = time.process_time()
    model = HierarchicalSlopesRegressor("g", random_state=0).fit(X, y)
    assert time.process_time() - began < 2 * 60
    assert model.group_corr_["g"].shape == (31, 31)
    assert_finite(model, X.iloc[:20])


@pytest.mark.slow
def test_unequal_groups_cost_what_their_rows_cost(people):
    # case 69
    rng = np.random.default_rng(0)
    n = 1_000_000
    X = pd.DataFrame({"x": rng.normal(size=n + 1), "subject": ["a"] * n + ["b"]})
    y = rng.normal(size=n + 1)
    seconds = []
    for rows in (slice(n), slice(n + 1)):
        small = pd.concat([X[rows].tail(50), X[rows].tail(1)])  # compiles
        model = HierarchicalSlopesRegressor("subject", **SHORT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.fit(small, np.arange(51.0))
            began = time.process_time()
            model.fit(X[rows], y[rows])
        seconds.append(time.process_time() - began)
        assert_finite(model, X[rows].iloc[[0, -1]])
    assert seconds[1] < 3 * seconds[0]


def test_constant_lognormal_y_is_named_in_its_own_units():
    X = pd.DataFrame({"x": np.arange(12.0) % 5, "g": np.arange(12) % 3})
    model = HierarchicalSlopesRegressor("g", response="lognormal")
    with pytest.warns(UserWarning, match=r"y is constant \(4\)"):
        model.fit(X, np.full(12, 4.0))
