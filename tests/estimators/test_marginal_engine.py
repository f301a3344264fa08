"""The marginal engine through the estimator: against quadrature, the joint model, and itself."""

import json
import os
import subprocess
import sys
import warnings
from typing import NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import psutil
import pytest
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from runs import BY_CHAINS, slow, spending
from scipy import stats as sp
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.datasets import make_hierarchical
from skhier.inference import engines as _engines
from skhier.inference import importance, runtime
from skhier.inference import target as targets
from skhier.inference.estimates import block_error
from skhier.inference.theta import Theta, population_of
from skhier.kernels.covariance import Lkj
from skhier.kernels.records import FactorSpec, ModelSpec, PriorDists
from skhier.responses.normal import NORMAL, SCALE
from skhier.statistics.elimination import arrange
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.products import group_stats
from skhier.statistics.records import Plan
from skhier.statistics.units import internal_units
from skhier.utils.budget import USUAL
from skhier.utils.diagnostics import ess_bulk, is_constant, mcse_mean, mcse_sd

F = np.float64


BUDGETS = {"importance": USUAL, "nuts": BY_CHAINS}


def fit(X, y, groups="group", weights=None, budget=USUAL, **params):
    model = HierarchicalSlopesRegressor(groups, **({"random_state": 0} | params))
    return spending(model, budget).fit(X, y, sample_weight=weights)


@pytest.fixture(scope="module")
def towns():
    """One feature and six groups of unequal size, 24 rows."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(6), [8, 6, 4, 3, 2, 1])
    x = 3 + 2 * rng.normal(size=24)
    y = 50 + 4 * x + 7 * rng.normal(size=6)[code] + 5 * rng.normal(size=24)
    return pd.DataFrame({"x": x, "group": [f"g{c}" for c in code]}), y


class Exact(NamedTuple):
    """Posterior by quadrature: ``log_evidence``; means and sds of sigma, tau and of the vector
    (coefficients, group effects), in the user's units."""

    log_evidence: float
    sigma: tuple
    tau: tuple
    mean: np.ndarray
    cov: np.ndarray


def exact(design, y, z, coefs, sigma_prior, tau_prior=None, grid=None):
    """Quadrature over log sigma, log tau and, if there is a ``grid``, one more coefficient.

    ``y ~ N(known + D u, sigma^2 I)``, ``u ~ N((m, 0), diag(C, tau^2 I))``, D = [design z]; known is
    the column of ``grid = (column, values, log prior)`` times the value. The trapezoidal rule.
    """
    mean, sd = coefs
    flat = np.isinf(sd)
    full, n = np.column_stack([design, z]), len(y)
    sigmas = y.std() * np.exp(np.linspace(-2.5, 1.5, 41))
    taus = y.std() * np.exp(np.linspace(-14, 4, 145)) if tau_prior else np.ones(1)
    column, values, log_prior = grid or (np.zeros(n), np.zeros(1), np.zeros(1))
    prior_mean = np.append(np.where(flat, 0, mean), np.zeros(z.shape[1]))
    prior_var = np.tile(np.append(np.where(flat, 0, sd) ** 2, np.zeros(z.shape[1])), (len(taus), 1))
    prior_var[:, len(sd) :] = taus[:, None] ** 2
    spread = full * prior_var[:, None] @ full.T
    residual = (y - full @ prior_mean)[:, None] - np.outer(column, values)
    log_density, means, covs = [], [], []
    for sigma in sigmas:  # and every tau at once
        cov = sigma**2 * np.eye(n) + spread
        solved = np.linalg.solve(cov, np.hstack([residual, full])[None])
        of_residual, of_full = np.split(solved, [len(values)], axis=2)
        quadratic = (residual * of_residual).sum(1)
        log_det = np.linalg.slogdet(cov)[1] + n * np.log(2 * np.pi)
        if flat.any():  # of density 1: y ~ N(fitted, cov), times |2 pi (X'W^-1 X)^-1|^(1/2)
            columns = design[:, flat]
            information = columns.T @ of_full[:, :, : len(sd)][:, :, flat]
            score = columns.T @ of_residual
            quadratic -= (score * np.linalg.solve(information, score)).sum(1)
            log_det += np.linalg.slogdet(information / (2 * np.pi))[1]
        hyper = sigma_prior(sigma) + np.log(sigma)
        hyper = hyper + (tau_prior(taus) + np.log(taus) if tau_prior else np.zeros(1))
        log_density.append((hyper - 0.5 * log_det)[:, None] - 0.5 * quadratic + log_prior)
        gain = prior_var[:, :, None] * np.swapaxes(of_full, 1, 2)
        means.append(prior_mean[:, None] + gain @ residual)
        covs.append(
            prior_var[:, None] * np.eye(len(prior_mean)) - gain @ (full * prior_var[:, None])
        )
    log_density = np.concatenate(log_density)
    means, covs = np.swapaxes(np.concatenate(means), 1, 2), np.concatenate(covs)
    volume = np.log(np.log(sigmas[1] / sigmas[0]))
    volume += np.log(np.log(taus[1] / taus[0])) if tau_prior else 0.0
    volume += np.log(values[1] - values[0]) if grid else 0.0
    total = logsumexp(log_density)
    weights = np.exp(log_density - total)
    edges = weights.reshape(len(sigmas), -1)[[0, -1]], weights[:, [0, -1]] * bool(grid)
    assert all(edge.sum() < 1e-6 for edge in edges)

    def of_marginal(values):
        mean = weights.sum(1) @ values
        return mean, np.sqrt(weights.sum(1) @ (values - mean) ** 2)

    if grid:  # its coefficient comes first
        own = np.broadcast_to(values[None, :, None], (*weights.shape, 1))
        means = np.concatenate([own, means], axis=2)
        covs = np.pad(covs, [(0, 0), (1, 0), (1, 0)])
    mean = np.einsum("sv,svk->k", weights, means)
    off = means - mean
    cov = np.einsum("sv,svk,svl->kl", weights, off, off, optimize=True)
    cov += np.einsum("s,skl->kl", weights.sum(1), covs)
    return Exact(
        total + volume,
        of_marginal(np.repeat(sigmas, len(taus))),
        of_marginal(np.tile(taus, len(sigmas))),
        mean,
        cov,
    )


def indicators(X):
    return 1.0 * (X["group"].to_numpy()[:, None] == np.unique(X["group"]))


def exact_default(X, y, groups=True, weights=None):
    """The default priors; coefficients are the intercept at the mean of x, and the slope."""
    w = np.ones(len(y), int) if weights is None else weights
    again = np.repeat(np.arange(len(y)), w)
    X, y = X.iloc[again], y[again]
    x = X["x"].to_numpy()
    y_sd, x_sd = y.std(ddof=1), x.std(ddof=1)
    scale = sp.expon(scale=y_sd).logpdf
    return exact(
        np.column_stack([np.ones(len(y)), x - x.mean()]),
        y,
        indicators(X) if groups else np.empty((len(y), 0)),
        (np.array([y.mean(), 0.0]), 2.5 * np.array([y_sd, y_sd / x_sd])),
        scale,
        scale if groups else None,
    )


def assert_is(model, name, mean, sd):
    """Within 5 Monte Carlo standard errors and a tenth of an sd; the sd within 5%."""
    row = model.summary().loc[name]
    assert row["ess_bulk"] > 1000
    assert row["mcse"] < 0.02 * sd
    assert abs(row["mean"] - mean) < 5 * row["mcse"], name
    assert_allclose(row["sd"], sd, rtol=0.05)


def assert_is_exact(model, truth, x_mean):
    """Intercept (at the mean of x), slope and group effects are the vector of ``truth``."""
    at_zero = np.eye(len(truth.mean))
    at_zero[0, 1] = -x_mean
    mean, cov = at_zero @ truth.mean, at_zero @ truth.cov @ at_zero.T
    assert_is(model, "noise_scale", *truth.sigma)
    assert_is(model, "intercept", mean[0], np.sqrt(cov[0, 0]))
    assert_is(model, "coef[x]", mean[1], np.sqrt(cov[1, 1]))
    assert model.coef_[0] == pytest.approx(model.summary().loc["coef[x]", "mean"])
    assert model.intercept_ == pytest.approx(model.summary().loc["intercept", "mean"])
    assert model.noise_scale_ == pytest.approx(model.summary().loc["noise_scale", "mean"])
    if not model.group_coef_:
        return
    assert_is(model, "group_scale[group, intercept]", *truth.tau)
    of_groups = np.column_stack([np.ones(6), np.zeros(6), np.eye(6)])  # intercept + b_g
    sds = np.sqrt(np.diag(of_groups @ cov @ of_groups.T))
    error = sds / np.sqrt(model.diagnostics_["ess_bulk"])
    found = model.group_coef_["group"]["intercept"]
    assert np.all(np.abs(found - of_groups @ mean) < 5 * error)
    assert_allclose(model.group_coef_std_["group"]["intercept"], sds, rtol=0.05)
    effects = model.group_effects_["group"]["intercept"]
    assert np.all(np.abs(effects - mean[2:]) < 5 * np.sqrt(np.diag(cov)[2:] / 1000))


EXACT_CASES = {
    "one varying effect": {},
    "weights": {"weights": np.random.default_rng(2).integers(1, 4, 24)},
    "no groups": {"groups": None},
}


@pytest.mark.parametrize("name", EXACT_CASES)
def test_posterior_is_that_of_quadrature(name, towns):
    X, y = towns
    case = EXACT_CASES[name]
    weights, groups = case.get("weights"), case.get("groups", "group")
    truth = exact_default(X, y, groups is not None, weights)
    model = fit(X if groups else X[["x"]], y, groups, weights, slopes=None if groups else "all")
    assert model.diagnostics_["sampler"] == "importance"
    assert_is_exact(model, truth, np.average(X["x"], weights=weights))
    assert abs(model.log_evidence_ - truth.log_evidence) < 0.01


@pytest.mark.slow
def test_posterior_of_the_fallback_is_that_of_quadrature(towns):
    X, y = towns
    truth = exact_default(X, y)
    model = fit(X, y, budget=BY_CHAINS, slopes=None, n_draws=4000)
    assert model.diagnostics_["sampler"] == "nuts"
    assert_is_exact(model, truth, X["x"].mean())
    assert abs(model.log_evidence_ - truth.log_evidence) < 0.01


@pytest.fixture(scope="module")
def heavy(towns):
    """Student-t prior of the slope; the intercept's, at X = 0, normal."""
    X, y = towns
    x, scale = X["x"].to_numpy(), sp.expon(scale=y.std(ddof=1)).logpdf
    values = np.linspace(-2, 10, 121)
    truth = exact(
        np.ones((24, 1)),
        y,
        indicators(X),
        (np.array([40.0]), np.array([15.0])),
        scale,
        scale,
        (x, values, sp.t(3, 1.0, 0.7).logpdf(values)),
    )
    prior = Prior(intercept=dist.Normal(40.0, 15.0), coef=dist.StudentT(3.0, 1.0, 0.7))
    return prior, truth


def test_posterior_with_another_prior_is_that_of_quadrature(towns, heavy):
    X, y = towns
    prior, truth = heavy
    model = fit(X, y, slopes=None, prior=prior)
    order = [1, 0, *range(2, 8)]  # slope, intercept, effects -> intercept, slope, effects
    swapped = truth._replace(mean=truth.mean[order], cov=truth.cov[order][:, order])
    assert_is_exact(model, swapped, 0.0)
    assert abs(model.log_evidence_ - truth.log_evidence) < 0.01


def test_evidence_counts_a_flat_prior_as_density_one(towns):
    """brms: flat slope, Student-t intercept at the mean of x, half-Student scales."""
    X, y = towns
    x = X["x"].to_numpy()
    centre = round(np.median(y), 1)
    size = max(2.5, round(1.4826 * np.median(np.abs(y - np.median(y))), 1))

    def half_student(value):
        return np.log(2) + sp.t(3, 0, size).logpdf(value)

    values = np.linspace(y.mean() - 40, y.mean() + 40, 161)
    truth = exact(
        (x - x.mean())[:, None],
        y,
        indicators(X),
        (np.zeros(1), np.array([np.inf])),
        half_student,
        half_student,
        (np.ones(24), values, sp.t(3, centre, size).logpdf(values)),
    )
    model = fit(X, y, slopes=None, prior="brms")
    assert abs(model.log_evidence_ - truth.log_evidence) < 0.01


def test_evidence_falls_by_the_logarithm_of_ys_unit(towns):
    """Every default prior scales with y: p(c y) = p(y) / c^n."""
    X, y = towns
    for c in (2.0**-7, 3.7):
        shift = -24 * np.log(c)
        one, two = (
            [fit(X, unit * y, slopes=None, random_state=s).log_evidence_ for s in range(8)]
            for unit in (1.0, c)
        )
        off = np.array(two) - one - shift
        if np.log2(c) == round(np.log2(c)):  # nothing is rounded
            assert_allclose(off, 0, atol=1e-9)
        error = np.sqrt((np.var(one, ddof=1) + np.var(two, ddof=1)) / 8)
        assert abs(off.mean()) < min(5 * error, 0.01) + 1e-9


@pytest.mark.parametrize("path", ["importance", *slow("nuts")])
def test_diagnostics_say_what_ran(path, people):
    X, y = people
    model, same = (
        fit(X, y, "subject", budget=BUDGETS[path], inference=name) for name in ("auto", "marginal")
    )
    found = model.diagnostics_
    assert found["engine"] == "marginal"
    assert found["sampler"] == path
    assert found["seconds"] > 0
    assert found["evaluations"] > 4000
    assert found["ess_bulk"] > 400
    assert found["warnings"] == []
    if path == "importance":
        assert found["pareto_k"] < 0.7
        assert 400 < found["ess_importance"] <= 4096
        assert found["ess_bulk"] <= found["ess_importance"]
    else:
        assert np.isnan(found["pareto_k"])  # there were no weights
        assert "ess_importance" not in found
        assert {"e_bfmi", "max_tree_depth_reached"} <= set(found)
    assert_array_equal(same.posterior_["noise_scale"], model.posterior_["noise_scale"])
    assert_equal(same.diagnostics_ | {"seconds": 0}, found | {"seconds": 0})


def test_draws_of_the_chains_stay_in_their_order(people, monkeypatch):
    """One entry of theta is log sigma; the points are shuffled in between."""
    X, y = people
    drawn, run = [], _engines.run_nuts
    monkeypatch.setattr(_engines, "run_nuts", lambda *args: drawn.append(run(*args)) or drawn[0])
    model = fit(X, y, "subject", budget=BY_CHAINS)
    scale = model._fitted.posterior.units.y_scale
    assert_allclose(model.posterior_["noise_scale"], scale * np.exp(drawn[0].values[..., 0]))
    assert_array_equal(model._fitted.sample_stats["lp"], drawn[0].lp)


def test_weights_that_fail_lead_to_nuts(people, monkeypatch):
    X, y = people
    trusted = fit(X, y, "subject")
    monkeypatch.setattr(importance, "trustworthy", lambda found, min_ess: False)
    model = fit(X, y, "subject")
    assert model.diagnostics_["sampler"] == "nuts"
    assert model.diagnostics_["pareto_k"] == trusted.diagnostics_["pareto_k"]
    assert_agree(model, trusted, "subject")


def test_estimates_are_those_of_the_draws(sleepstudy_fit):
    """Weighted closed forms, and draws resampled from the same points."""
    table, draws = sleepstudy_fit.summary(), sleepstudy_fit._fitted.named_draws(group_effects=False)
    error = table["sd"] / np.sqrt(sleepstudy_fit.diagnostics_["ess_importance"])
    for name, values in draws.items():
        assert abs(values.mean() - table.loc[name, "mean"]) < 5 * error[name]
        assert_allclose(values.std(), table.loc[name, "sd"], rtol=5 / np.sqrt(2 * 3000))
    assert table["mcse"].max() < np.inf
    assert np.all(table["mcse"] < 0.1 * table["sd"])


def draws_of(model, factor):
    """Draws (n_chains, n_draws) of every parameter; coefficients of the groups."""
    named = dict(model._fitted.named_draws(group_effects=False))
    if factor is not None:
        effects = model.sample_group_effects(factor)
        shape = model.posterior_["intercept"].shape
        for j, effect in enumerate(model.group_coef_[factor].columns):
            name = "intercept" if j == 0 else f"coef[{effect}]"
            for g, level in enumerate(model.group_levels_[factor]):
                own = effects[:, g, j].reshape(shape)
                named[f"group_coef[{level}, {effect}]"] = named[name] + own
    return {name: draws for name, draws in named.items() if not is_constant(draws)}


def tables_of(model, factor):
    """Means and sds that fit reports, in the order of ``draws_of``."""
    table = model.summary()
    mean, sd = dict(table["mean"]), dict(table["sd"])
    if factor is not None:
        means, sds = model.group_coef_[factor], model.group_coef_std_[factor]
        for effect in means.columns:
            for level in means.index:
                name = f"group_coef[{level}, {effect}]"
                mean[name], sd[name] = means.loc[level, effect], sds.loc[level, effect]
    return mean, sd


def assert_agree(marginal, other, factor):
    """Means within 5 combined Monte Carlo errors of draws and a tenth of an sd; sds likewise."""
    (mean, sd), (mean_2, sd_2) = (tables_of(model, factor) for model in (marginal, other))
    named, others = (draws_of(model, factor) for model in (marginal, other))
    at_most = marginal.diagnostics_.get("ess_importance", np.inf)
    assert set(others) == set(mean)
    for name, draws in others.items():
        own = named[name]
        ess = min(ess_bulk(own), at_most)
        assert min(ess_bulk(draws), ess) > 1000, name
        error = np.hypot(mcse_mean(draws), own.std() / np.sqrt(ess))
        off = abs(mean[name] - mean_2[name])
        assert off < 5 * error, (name, off / error)
        assert off < 0.1 * sd_2[name], (name, off / sd_2[name])
        error = np.hypot(mcse_sd(draws), mcse_sd(own) * np.sqrt(max(1, own.size / ess)))
        off = abs(sd[name] - sd_2[name])
        assert off < 5 * error, (name, off / error)
        assert off < 0.1 * sd_2[name], (name, off / sd_2[name])


def both(X, y, factor, **params):
    """The two engines; the joint one long enough to tell a tenth of an sd."""
    marginal = fit(X, y, factor, **params)
    assert marginal.diagnostics_["engine"] == "marginal"
    params |= {"inference": "nuts", "random_state": 1, "n_draws": 2000}
    with warnings.catch_warnings():
        message = r"[1-5] of \d+ transitions diverged"
        warnings.filterwarnings("ignore", message, ConvergenceWarning)
        joint = fit(X, y, factor, **params)
    assert joint.diagnostics_["engine"] == "nuts"
    return marginal, joint, factor


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "prior",
    [
        "default",
        pytest.param("mcelreath", marks=SLOW),
        pytest.param("bambi", marks=SLOW),
        pytest.param("brms", marks=SLOW),
        pytest.param("rstanarm", marks=SLOW),
    ],
)
def test_engines_agree_for_every_preset(prior, sleepstudy):
    assert_agree(*both(*sleepstudy, "Subject", prior=prior))


def simulated(q, n_groups=12, seed=0):
    data = make_hierarchical(
        40 * n_groups, q - 1, groups=n_groups, group_scale=0.7, random_state=seed
    )
    X = data.data if hasattr(data, "data") else data["data"]
    return X, np.asarray(data.target)


@pytest.mark.slow
@pytest.mark.parametrize("q", [1, 2, 4])
def test_engines_agree_for_many_effects(q):
    assert_agree(*both(*simulated(q), "group"))


VARIANTS = {
    "independent": {"correlated": False},
    "Student slopes": {"prior": Prior(coef=dist.StudentT(4.0, 0.0, 5.0))},
    "Laplace slope, normal intercept at 0": {
        "prior": Prior(coef={"x0": dist.Laplace(0.0, 1.0)}, intercept=dist.Normal(1.0, 2.0))
    },
    "one slope": {"slopes": ["x1"]},
    "weights": {"weights": np.random.default_rng(0).integers(1, 4, 480)},
    "no groups": {"groups": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_engines_agree_for_every_model(name):
    X, y = simulated(3)
    params = dict(VARIANTS[name])
    factor = params.pop("groups", "group")
    X = X if factor else X.drop(columns="group")
    assert_agree(*both(X, y, factor, **params))


@pytest.mark.slow
def test_engines_agree_for_eight_effects():
    """37 variance parameters, whichever sampler they need."""
    marginal, joint, factor = both(*simulated(8, n_groups=30), "group")
    assert_agree(marginal, joint, factor)


@pytest.mark.parametrize("path", ["importance", "nuts"])
def test_same_seed_gives_the_same_fit(path, people):
    X, y = people
    one, two, other = (
        fit(X, y, "subject", budget=BUDGETS[path], random_state=seed) for seed in (3, 3, 4)
    )
    for a, b, c in zip(*(draws_of(m, "subject").values() for m in (one, two, other)), strict=True):
        assert_array_equal(a, b)
        assert not np.any(a == c)
    pd.testing.assert_frame_equal(one.summary(), two.summary(), check_exact=True)
    assert one.log_evidence_ == two.log_evidence_
    assert abs(one.log_evidence_ - other.log_evidence_) < 0.1
    assert_agree(one, other, "subject")


def assert_same_estimates(one, other, rtol):
    """Attributes and tables; the draws' resampling may turn on a rounded number."""
    for name in ("intercept_", "coef_", "noise_scale_", "log_evidence_"):
        assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol)
    for name in ("group_coef_", "group_coef_std_", "group_scale_", "group_corr_"):
        a, b = getattr(one, name)["subject"], getattr(other, name)["subject"]
        assert_allclose(a, b, rtol=rtol, atol=rtol)
    columns = ["mean", "sd", "mcse"]
    assert_allclose(one.summary()[columns], other.summary()[columns], rtol=1e3 * rtol)


def test_order_of_rows_does_not_matter(people):
    X, y = people
    order = np.random.default_rng(4).permutation(80)
    one, other = fit(X, y, "subject"), fit(X.iloc[order], y[order], "subject")
    assert_same_estimates(one, other, rtol=1e-10)


def test_order_of_groups_changes_rounding_only(people):
    """A sum over groups in another order; all that follows is smooth in it."""
    X, y = people
    labels = [f"z{9 - int(label[1:])}" for label in X["subject"]]
    one, other = fit(X, y, "subject"), fit(X.assign(subject=labels), y, "subject")
    for name in ("group_coef_", "group_coef_std_"):
        table = getattr(other, name)["subject"]
        getattr(other, name)["subject"] = table[::-1]
    assert_same_estimates(one, other, rtol=1e-7)


def test_integer_weights_are_repeated_rows(people):
    X, y = people
    weights = np.random.default_rng(3).integers(0, 5, size=80)
    again = np.repeat(np.arange(80), weights)
    one, other = fit(X, y, "subject", weights), fit(X.iloc[again], y[again], "subject")
    assert_same_estimates(one, other, rtol=1e-10)


def test_second_fit_traces_nothing(sleepstudy, sleepstudy_fit):
    X, y = sleepstudy
    programs = (targets.origin, targets.evaluate, targets.density_and_gradient)
    before = [program._cache_size() for program in programs]
    assert before[1] > 0
    fold = X["Subject"] != "308"  # 17 groups, padded to as many as 18 are
    fit(X[fold], y[fold], "Subject", eta=5.0, prior=Prior(group_scale=0.3, coef=1.0))
    fit(X, y, "Subject", random_state=7, n_chains=2, n_draws=600)
    fit(X[:140], 1e3 * y[:140] + 7, "Subject", random_state=7)  # 14 groups: another bucket
    after = [program._cache_size() for program in programs]
    assert np.subtract(after, before).max() == 1
    fit(X[:127], y[:127], "Subject", n_draws=2000)  # 13 groups: the same one
    assert [program._cache_size() for program in programs] == after


@pytest.mark.parametrize(
    ("n_groups", "n_rows", "prior"),
    [
        (2, 3, "default"),
        pytest.param(2, 3, "brms", marks=pytest.mark.slow),
        (10, 1, "default"),
        (10, 1, "bambi"),
    ],
)
def test_few_rows_give_finite_estimates(n_groups, n_rows, prior):
    """Wide proposals reach points where nothing can be factorised, and which weigh nothing."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(n_groups), n_rows)
        X = np.column_stack([rng.normal(size=len(group)), group])
        y = X[:, 0] + rng.normal(size=n_groups)[group] + 0.5 * rng.normal(size=len(group))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", "Every group has one row", UserWarning)
            model = fit(X, y, 1, prior=prior, random_state=seed)
        assert np.isfinite(model.summary().drop(columns="r_hat")).all(axis=None)
        assert np.isfinite([*model.coef_, model.intercept_, model.log_evidence_]).all()
        for table in (*model.group_coef_.values(), *model.group_coef_std_.values()):
            assert np.isfinite(table).all(axis=None)
        assert np.isfinite(model.predict(X, return_std=True)).all()


INTERRUPTED = """
import json, os, signal, sys, threading, time
import jax
import numpy as np
from skhier import HierarchicalSlopesRegressor
from skhier.inference import target as targets

rng = np.random.default_rng(0)
X = np.column_stack([rng.normal(size=60_000), np.repeat(np.arange(20_000), 3)])
y = X[:, 0] + rng.normal(size=20_000)[X[:, 1].astype(int)] + rng.normal(size=60_000)
model = HierarchicalSlopesRegressor(1, slopes=None, random_state=0)
small = X[:, 1] < 10
before = model.fit(X[small], y[small]).predict(X[:30])
kept = set(vars(model))
model.set_params(n_draws=20_000)
evaluate, sent = targets.evaluate, []

def interrupt_then_evaluate(*args):
    # during the first batch of the second fit, from the thread that computes
    if not sent:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    calls.append(time.perf_counter())
    return evaluate(*args)

calls = []
targets.evaluate = interrupt_then_evaluate
found = {"interrupted": False}
try:
    model.fit(X[:, [0, 1, 0]], y)
except KeyboardInterrupt:
    found = {"interrupted": True, "seconds": time.perf_counter() - sent[0]}
time.sleep(1)
found["calls"] = len(calls)
found["same"] = bool(np.array_equal(model.predict(X[:30]), before))
found["attributes"] = set(vars(model)) == kept and model.n_features_in_ == 2
json.dump(found, sys.stdout)
"""


def test_interrupt_leaves_an_earlier_fit_in_place():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        timeout=300,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["interrupted"]
    assert found["seconds"] < 1
    assert found["calls"] <= 2  # of hundreds
    assert found["same"]
    assert found["attributes"]


def test_draws_of_group_effects_that_do_not_fit_are_refused(people, monkeypatch):
    X, y = people
    model = fit(X, y, "subject", inference="marginal")
    assert model.sample_group_effects("subject").shape == (4000, 10, 2)
    little = psutil.virtual_memory()._replace(available=10_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(MemoryError, match=r"\d\.\d GB.*available"):
        model.sample_group_effects("subject")


# The step from weighted points of theta to a population ------------------------------------------

PLAN = Plan((0,), ())
SPEC = ModelSpec(
    2,
    (FactorSpec((1,), Lkj(2, ((0, 1),)), at_mean=False),),
    PLAN,
    True,
    False,
    ((0,), (1,)),
    NORMAL.kind,
)


def weighted_points(batch, n_draws=20_000):
    """Five rows' worth of theta with weights, and the population that follows from them."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(5), [8, 6, 4, 2, 1])
    x = rng.normal(size=(21, 2)) * [3.0, 0.1] + [5.0, 2.0]
    y = 200 + x @ [2.0, -30.0] + 8 * rng.normal(size=5)[codes] + 12 * rng.normal(size=21)
    ones = np.ones(21)
    units = internal_units(mean_sd_of_rows(x, ones), mean_sd_of_rows(y[:, None], ones), ((1,),))
    stats = group_stats(x, y, ones, codes[:, None], [5], ((1,),), units, ())
    prior = PriorDists(
        dist.Normal(F(180.0), F(40.0)),
        {SCALE: dist.HalfNormal(F(25.0))},
        (
            dist.Normal(np.array([1.0]), np.array([4.0])),
            dist.StudentT(F(4.0), F(0), np.array([9.0])),
        ),
        (((dist.HalfNormal(np.array([20.0, 15.0])),), F(2.0)),),
    )
    with runtime.precisely_on(None):
        theta = Theta(SPEC, (arrange(stats, PLAN), units, prior), batch, lambda: None)
        points = 0.4 * rng.normal(size=(48, theta.size))
        weights = rng.dirichlet(np.ones(48))
        chosen = rng.choice(48, size=(2, n_draws // 2), p=weights)
        density = theta.log_densities(points)
        found = population_of(theta, units, points, weights, chosen, block_error(16), rng)
        assert theta.n_evaluations == 48
    return (x, y, codes), units, (points, weights, chosen, density), found


def coefs_given(rows, sigma, chol_at_zero, fixed):
    """Dense posterior of the intercept at X = 0 and the first slope, the second slope fixed."""
    x, y, codes = rows
    z = np.column_stack([x[:, 1], np.ones(21)])
    design = np.column_stack([np.ones(21), x[:, 0]])
    same = codes[:, None] == codes
    cov = sigma**2 * np.eye(21) + same * (z @ chol_at_zero @ chol_at_zero.T @ z.T)
    precision = np.diag([40.0**-2, 4.0**-2])
    weighted = np.linalg.solve(cov, design)
    after = np.linalg.inv(weighted.T @ design + precision)
    score = weighted.T @ (y - fixed * x[:, 1]) + precision @ [180.0, 1.0]
    return after @ score, after


def test_population_follows_from_weighted_points():
    """Means, sds, components and draws against a dense normal posterior at each point."""
    rows, units, (_, weights, *_), found = weighted_points(batch=20)
    components = found.components
    assert_allclose(components.weights, weights, rtol=1e-14)
    size = units.y_scale / np.append(units.x_scale, 1.0)
    to_user = np.diag(size)
    to_user[2, :2] = -units.x_mean * size[:2]
    beta = components.coef @ to_user.T + [0, 0, units.y_mean]
    cov = to_user @ components.coef_cov @ to_user.T
    sigma = units.y_scale * components.population.own[SCALE]
    chol = np.linalg.solve(units.effects_at_mean[0], components.group_root[0]) * size[[1, 2], None]
    means, covs = np.empty((48, 2)), np.empty((48, 2, 2))
    for s in range(48):
        means[s], covs[s] = coefs_given(rows, sigma[s], chol[s], beta[s, 1])
        assert_allclose(beta[s, [2, 0]], means[s], rtol=1e-8)
        assert_allclose(cov[s][np.ix_([2, 0], [2, 0])], covs[s], rtol=1e-8)
        assert_allclose(cov[s][1], 0, atol=1e-9)
    # law of total variance
    mean = weights @ means
    sd = np.sqrt(weights @ ((means - mean) ** 2 + np.diagonal(covs, axis1=1, axis2=2)))
    estimates = found.estimates
    assert_allclose(estimates["intercept"].mean, mean[0], rtol=1e-10)
    assert_allclose(estimates["coef"].mean, [mean[1], weights @ beta[:, 1]], rtol=1e-10)
    assert_allclose(estimates["intercept"].sd, sd[0], rtol=1e-10)
    slope_sd = np.sqrt(weights @ (beta[:, 1] - weights @ beta[:, 1]) ** 2)
    assert_allclose(estimates["coef"].sd, [sd[1], slope_sd], rtol=1e-10)
    assert_allclose(estimates["noise_scale"].mean, weights @ sigma, rtol=1e-12)
    tau = np.sqrt((chol**2).sum(2))
    assert_allclose(estimates["group_scale_0"].mean, (weights @ tau)[[1, 0]], rtol=1e-10)
    corr = (chol[:, 0] * chol[:, 1]).sum(1) / tau.prod(1)
    assert_allclose(estimates["group_corr_0"].mean, [[1, weights @ corr], [weights @ corr, 1]])


def test_draws_are_those_of_the_chosen_points():
    """Each draw: the chosen point's theta, and coefficients of its normal distribution."""
    _, _, (_, _, chosen, _), found = weighted_points(batch=64)
    components, population = found.components, found.draws
    at = chosen.ravel()
    sigma = components.population.own[SCALE]
    assert_allclose(population.own[SCALE].ravel(), sigma[at], rtol=1e-12)
    assert population.coef.shape == (*chosen.shape, 3)
    draws = population.coef.reshape(len(at), 3)
    off = (draws - components.coef[at])[:, [0, 2]]
    assert_allclose(draws[:, 1], components.coef[at, 1], rtol=1e-12)  # in theta
    cov = components.coef_cov[:, [0, 2]][:, :, [0, 2]]
    white = np.linalg.solve(np.linalg.cholesky(cov)[at], off[..., None])[..., 0]
    n = len(at)
    assert np.abs(white.mean(0)).max() < 5 / np.sqrt(n)
    assert np.abs(white.T @ white / n - np.eye(2)).max() < 5 * np.sqrt(2 / n)
    assert min(sp.kstest(column, "norm").pvalue for column in white.T) > 1e-6
    assert np.abs(np.corrcoef(white[1:, 0], white[:-1, 0])[0, 1]) < 5 / np.sqrt(n)


def test_batches_do_not_matter():
    """Any number of points at once, the last batch padded."""
    (*_, one_facts, one), (*_, facts, other) = weighted_points(7), weighted_points(48)
    assert_allclose(one_facts[3], facts[3], rtol=1e-10)
    pairs = (jax.tree.leaves(found.components) for found in (one, other))
    for a, b in zip(*pairs, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    for name, estimate in one.estimates.items():
        for a, b in zip(estimate, other.estimates[name], strict=True):
            assert_allclose(a, b, rtol=1e-8, atol=1e-12)
