"""Flat slopes that the rows leave undetermined, and draws that are not finite: clear errors."""

import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from runs import BY_CHAINS, spending
from sklearn.exceptions import ConvergenceWarning

from skhier import (
    HierarchicalSlopesClassifier,
    HierarchicalSlopesRegressor,
    HierarchicalSlopesRegressorCV,
    Prior,
)
from skhier.inference import engines as _engines
from skhier.inference import target as targets
from skhier.inference.separation import FEW_ROWS
from skhier.utils.budget import USUAL

SHORT = {"n_chains": 1, "n_warmup": 60, "n_draws": 20, "random_state": 0}
FLAT = dist.ImproperUniform(dist.constraints.real, (), ())
RNG = np.random.default_rng(0)
N = 24
GROUP = np.repeat([f"g{k}" for k in range(6)], 4)
X = pd.DataFrame({"a": RNG.normal(size=N) + 3, "b": RNG.normal(size=N), "g": GROUP})
Y = X["a"].to_numpy() + np.repeat(RNG.normal(size=6), 4) + 0.5 * RNG.normal(size=N)
HALVES = pd.get_dummies(np.arange(N) % 3).astype(float).set_axis(["u", "v", "w"], axis=1)


def fit(table, groups="g", budget=USUAL, **params):
    model = HierarchicalSlopesRegressor(groups, slopes=None, **(SHORT | params))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return spending(model, budget).fit(table, Y)


def wide(n_columns):
    noise = np.random.default_rng(1).normal(size=(N, n_columns))
    return pd.DataFrame(noise).add_prefix("x").assign(g=GROUP)


IMPROPER = {
    "constant": (X.assign(c=7.0), "brms", "'c'"),
    "copy": (X.assign(c=X["a"]), "brms", "'c'"),
    "copy in other units, far away": (X.assign(c=1e3 - 60 * X["a"]), "brms", "'c'"),
    "sum": (X.assign(c=X["a"] - 2 * X["b"]), "brms", "'c'"),
    "dummies": (pd.concat([X, HALVES], axis=1), "brms", "'w'"),
    "two": (X.assign(c=0.0, d=X["b"]), "brms", "'c', 'd'"),
    "more columns than rows": (wide(30), "brms", "'x23', .* and 2 more"),
    "subset": (X.assign(c=X["b"]), Prior(coef={"b": FLAT, "c": FLAT}), "'c'"),
    "flat intercept": (X.assign(c=2.0), Prior(coef={"c": FLAT}, intercept=FLAT), "'c'"),
    "zeros, intercept at 0": (
        X.assign(c=0.0),
        Prior(coef={"c": FLAT}, intercept=dist.Normal(0.0, 9.0)),
        "'c'",
    ),
    "copy, intercept at 0": (
        X.assign(c=X["a"]),
        Prior(coef=FLAT, intercept=dist.Normal(0.0, 9.0)),
        "'c'",
    ),
    "two constants, intercept at 0": (
        X.assign(c=1.0, d=2.0),
        Prior(coef=FLAT, intercept=dist.Normal(0.0, 9.0)),
        "'c', 'd'",
    ),
}


@pytest.mark.parametrize("inference", ["auto", "nuts"])
@pytest.mark.parametrize("name", IMPROPER)
def test_improper_posterior_is_an_error_with_the_columns(name, inference):
    table, prior, columns = IMPROPER[name]
    model = fit(X[["b", "g"]])
    before = model.coef_
    model.set_params(prior=prior, inference=inference)
    with pytest.raises(ValueError, match=f"the posterior is improper: .*{columns}\\. Drop them"):
        model.fit(table, Y)
    assert model.coef_ is before
    with pytest.raises(ValueError, match="improper"):
        HierarchicalSlopesRegressor(prior=prior, **SHORT).fit(table.drop(columns="g"), Y)


@pytest.mark.filterwarnings("ignore:.*only the priors tell apart", "ignore:Constant columns")
@pytest.mark.parametrize(
    ("table", "prior"),
    [
        (X, "brms"),
        # constant within levels: b_g has mean 0, so its slope is determined
        (X.assign(c=np.repeat(RNG.normal(size=6), 4)), "brms"),
        (X.assign(c=X["b"]), Prior(coef={"b": FLAT})),
        (X.assign(c=X["b"]), "default"),
        # at X = 0 the intercept's proper prior tells it from what adds up to a constant
        (X.assign(c=2.0), Prior(coef=FLAT, intercept=dist.Normal(0.0, 9.0))),
        (pd.concat([X, HALVES], axis=1), Prior(coef=FLAT, intercept=dist.Normal(0.0, 9.0))),
        (X.assign(c=X["a"] + 1e-3 * RNG.normal(size=N)), "brms"),
    ],
)
def test_proper_posterior_with_flat_slopes_is_fitted(table, prior):
    model = fit(table, prior=prior)
    assert np.isfinite(model.summary()["mean"]).all()
    assert np.isfinite(model.log_evidence_)


def test_slope_that_the_intercepts_prior_determines_is_that_of_least_squares():
    """Intercept at 0 known to be 1: the slope of the constant 2 is (mean - 1) / 2."""
    table = pd.DataFrame({"c": np.full(N, 2.0)})
    prior = Prior(coef=FLAT, intercept=dist.Normal(1.0, 1e-6))
    with pytest.warns(UserWarning, match="Constant columns"):
        model = HierarchicalSlopesRegressor(prior=prior, random_state=0).fit(table, Y)
    error = Y.std() / np.sqrt(N) / 2  # a posterior sd
    assert abs(model.coef_[0] - (Y.mean() - 1) / 2) < 0.1 * error


def test_improper_fold_is_an_error_with_the_column():
    """A column that is constant in the rows that a fold trains on."""
    table = X.assign(c=(np.arange(N) < 4) * 1.0)
    folds = [(np.arange(4, N), np.arange(4))]
    search = HierarchicalSlopesRegressorCV(
        "g", prior="brms", slopes=None, param_grid={"eta": [1.0]}, cv=folds, **SHORT
    )
    with pytest.raises(ValueError, match=r"improper: .*'c'"):
        search.fit(table, Y)


@pytest.mark.filterwarnings("ignore:.*only the priors tell apart")
def test_advice_of_the_error_helps():
    table, *_ = IMPROPER["copy"]
    fit(table, prior="default")
    model = HierarchicalSlopesRegressor("g", prior="brms", slopes=None, **SHORT)
    fit(table, prior=model.set_params(prior__coef={"c": 1.0}).prior)


def assert_nothing_is_stored(model, before):
    with pytest.raises(RuntimeError, match=r"NaN or infinite values in .*nothing is stored"):
        model.fit(X, Y)
    assert set(vars(model)) == set(before)
    assert all(vars(model)[name] is value for name, value in before.items())


def poison(value):
    """One number of an array, of a chain or of a batch of points."""

    def poisoned(array):
        array = np.array(array)
        array.flat[-1] = value
        return array

    return poisoned


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["coef", "own", "group_root"])
def test_chain_with_a_number_that_is_not_finite_is_an_error(part, value, monkeypatch):
    model = fit(X, inference="nuts")
    before, run = dict(vars(model)), _engines.run_nuts

    def run_badly(*args):
        draws = run(*args)
        bad = jax.tree.map(poison(value), getattr(draws.values, part))
        return draws._replace(values=draws.values._replace(**{part: bad}))

    monkeypatch.setattr(_engines, "run_nuts", run_badly)
    assert_nothing_is_stored(model, before)


def test_chain_of_theta_with_nan_is_an_error(monkeypatch):
    model = fit(X, budget=BY_CHAINS)
    before, run = dict(vars(model)), _engines.run_nuts

    def run_badly(*args):
        draws = run(*args)
        return draws._replace(values=poison(np.nan)(draws.values))

    monkeypatch.setattr(_engines, "run_nuts", run_badly)
    assert_nothing_is_stored(model, before)


@pytest.mark.parametrize("field", ["population", "coef_root"])
def test_moments_that_are_not_finite_are_an_error(field, monkeypatch):
    """Densities are finite, and what follows from the points is not."""
    model = fit(X)
    before, evaluate = dict(vars(model)), targets.evaluate

    def evaluate_badly(*args):
        density, given = evaluate(*args)
        bad = jax.tree.map(lambda a: np.full(np.shape(a), np.nan), getattr(given, field))
        return density, given._replace(**{field: bad})

    monkeypatch.setattr(targets, "evaluate", evaluate_badly)
    assert_nothing_is_stored(model, before)


def test_draws_of_a_fit_are_finite_and_kept():
    model = fit(X)
    again = fit(X)
    for name in ("intercept", "coef", "noise_scale"):
        assert np.isfinite(model.posterior_[name]).all()
        assert_array_equal(model.posterior_[name], again.posterior_[name])


def separable(kind):
    """``x`` tells classes apart, those of some rows only, or some rows of zero counts."""
    some = np.arange(N) < 3
    if kind == "complete":
        x = np.r_[np.linspace(-3, -1, N // 2), np.linspace(1, 3, N // 2)]
        y = (x > 0) * 1
    elif kind == "quasi":
        x, y = some * 1.0, np.where(some, 1, np.arange(N) % 2)
    else:
        x, y = some * 1.0, np.where(some, 0, 1 + np.arange(N) % 2)
    return pd.DataFrame({"x": x, "g": GROUP}), y


def fit_separable(kind, table, y, **params):
    few = {"slopes": None, **SHORT, **params}
    if kind == "counts":
        model = HierarchicalSlopesRegressor("g", response="poisson", **few)
    else:
        model = HierarchicalSlopesClassifier("g", **few)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few draws
        return model.fit(table, y)


@pytest.mark.parametrize("kind", ["complete", "quasi", "counts"])
@pytest.mark.parametrize("inference", ["auto", "nuts"])
def test_flat_slopes_that_no_row_bounds(kind, inference):
    flat = {"prior": Prior(FLAT, FLAT), "inference": inference}
    table, y = separable(kind)
    with pytest.raises(ValueError, match=r"improper.* 'x' of X"):
        fit_separable(kind, table, y, **flat)
    y[0] = 1 - y[0]  # a row that bounds it
    fit_separable(kind, table, y, **flat)


@pytest.mark.parametrize("kind", ["complete", "quasi", "counts"])
def test_proper_priors_bound_slopes_that_no_row_does(kind):
    fit = fit_separable(kind, *separable(kind))
    assert 0 < abs(fit.coef_[0]) < 20


def test_flat_slope_is_bounded_by_a_proper_intercept():
    """The classes' border is not at the mean of x, where brms's prior of the intercept is."""
    table, y = separable("complete")
    with pytest.raises(ValueError, match="improper"):
        fit_separable("complete", table, y, prior="brms")
    fit_separable("complete", table, np.arange(N) > 2, prior="brms")


def test_separation_among_many_rows_is_asked_of_all():
    n = 3 * FEW_ROWS
    x = np.r_[np.full(n // 2, -1.0), np.full(n // 2, 1.0)] + 0.1 * RNG.normal(size=n)
    table, y = pd.DataFrame({"x": x, "g": np.arange(n) % 5}), (x > 0) * 1
    with pytest.raises(ValueError, match="improper"):
        fit_separable("complete", table, y, prior="brms")
    y[1] = 1  # a row that is not among the first asked
    fit_separable("complete", table, y, prior="brms")
