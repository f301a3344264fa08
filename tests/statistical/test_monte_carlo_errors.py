"""Reported Monte Carlo errors against the spread of the estimates over seeds.

Let a run report the variance ``e^2`` of its estimate, a scaled chi-square with ``df`` degrees of
freedom, and let ``s^2`` be the variance of the estimates over n independent runs. If reports are
honest, ``s^2 / mean(e^2)`` has an F distribution with n - 1 and n df degrees of freedom.
"""

import functools

import numpy as np
import pytest
from runs import BY_CHAINS, spending
from scipy.special import digamma, gammaln
from scipy.stats import chi2, f

from skhier import HierarchicalSlopesRegressor
from skhier.inference.estimates import block_error, chain_error, estimates
from skhier.inference.importance import importance
from skhier.inference.mode import Laplace
from skhier.utils.budget import USUAL

N_RUNS = 50
N_BLOCKS = USUAL.importance.n_blocks
LEVEL = 1e-5  # of each ratio; a few dozen are looked at


def assert_honest(found, reported, df=N_BLOCKS - 1):
    """Variances over runs (axis 0) and the mean of those reported agree."""
    ratio = np.var(found, axis=0, ddof=1) / np.mean(np.square(reported), axis=0)
    n = len(found)
    low, high = f.ppf([LEVEL, 1 - LEVEL], n - 1, n * df)
    assert np.all((ratio > low) & (ratio < high)), ratio


def assert_better_than_draws(found, sds, ess):
    """Variances over runs are at most those of means of as many independent draws."""
    limit = np.mean(sds**2 / ess[:, None, None], axis=0)
    ratio = found.var(0, ddof=1) / limit
    n = len(found)
    assert np.all(ratio < chi2.ppf(1 - LEVEL, n - 1) / (n - 1)), ratio


A = np.array([1.0, 2.0, 8.0])


def log_gammas(x):
    """theta = log g, g ~ Gamma(A): skewed as the posterior of log tau is. Mean digamma(A)."""
    with np.errstate(over="ignore"):
        return (A * x - np.exp(x) - gammaln(A)).sum(1)


@functools.cache
def cheap_runs(n_points):
    """Estimates of theta and exp(theta / 4), with their reported errors."""
    start = Laplace(np.log(A), np.diag(A**-0.5))
    found = []
    for seed in range(N_RUNS):
        points = importance(log_gammas, start, n_points, np.random.default_rng(seed))
        values = {"theta": points.points, "root": np.exp(points.points / 4)}
        found.append(estimates(points.weights, values, {}, block_error(N_BLOCKS)))
    return found


@pytest.mark.parametrize("n_points", [2048, 8192])
@pytest.mark.parametrize("name", ["theta", "root"])
def test_block_errors_are_honest_on_a_known_density(name, n_points):
    runs = [run[name] for run in cheap_runs(n_points)]
    assert_honest([run.mean for run in runs], [run.mcse for run in runs])


@pytest.mark.parametrize("n_points", [2048, 8192])
def test_estimates_of_a_known_density_are_unbiased(n_points):
    runs = [run["theta"] for run in cheap_runs(n_points)]
    means = np.array([run.mean for run in runs])
    off = np.abs(means.mean(0) - digamma(A))
    assert np.all(off < 5 * means.std(0, ddof=1) / np.sqrt(N_RUNS))
    truth = np.exp(gammaln(A + 0.25) - gammaln(A))
    roots = np.array([run["root"].mean for run in cheap_runs(n_points)])
    assert np.all(np.abs(roots.mean(0) - truth) < 5 * roots.std(0, ddof=1) / np.sqrt(N_RUNS))


def test_block_error_is_that_of_the_jackknife():
    """Delete each block in turn, weights renormalised; Tukey's variance."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(160))
    values = rng.normal(size=(160, 2, 3))
    block = np.arange(160) % N_BLOCKS
    left = []
    for b in range(N_BLOCKS):
        on = block != b
        left.append(np.tensordot(weights[on] / weights[on].sum(), values[on], 1))
    left = np.array(left)
    expected = np.sqrt((N_BLOCKS - 1) / N_BLOCKS * ((left - left.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(block_error(N_BLOCKS)(weights, values), expected, rtol=1e-10)


def test_chain_error_of_what_every_point_agrees_on_is_0():
    place = np.random.default_rng(0).permutation(100).reshape(2, 50)
    values = np.stack([np.full(100, 0.1), np.arange(100.0)], axis=1)
    same, varies = chain_error(place)(np.full(100, 0.01), values)
    assert same == 0
    assert varies > 0


def test_chain_errors_are_honest_for_autoregressive_chains():
    """Four AR(1) chains of 500, handed over as points in random order with their places."""
    rho, found, reported = 0.6, [], []
    for seed in range(N_RUNS):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(4, 500, 2))
        chains = np.empty_like(noise)
        chains[:, 0] = noise[:, 0]
        for i in range(1, 500):
            chains[:, i] = rho * chains[:, i - 1] + np.sqrt(1 - rho**2) * noise[:, i]
        order = rng.permutation(2000)
        place = np.argsort(order).reshape(4, 500)
        values = chains.reshape(2000, 2)[order]
        run = estimates(np.full(2000, 1 / 2000), {"x": values}, {}, chain_error(place))["x"]
        found.append(run.mean)
        reported.append(run.mcse)
    assert_honest(found, reported)


def runs_of_sleepstudy(sleepstudy, n_runs, budget=USUAL):
    """Summaries, tables of group coefficients and effective sizes over seeds."""
    models = [
        spending(HierarchicalSlopesRegressor("Subject", random_state=seed), budget).fit(*sleepstudy)
        for seed in range(n_runs)
    ]
    tables = [model.summary() for model in models]
    means = np.array([table["mean"] for table in tables])
    errors = np.array([table["mcse"] for table in tables])
    groups = np.array([model.group_coef_["Subject"] for model in models])
    sds = np.array([model.group_coef_std_["Subject"] for model in models])
    ess = np.array([model.diagnostics_["ess_bulk"] for model in models])
    return models, means, errors, groups, sds, ess


@pytest.fixture(scope="module")
def by_importance(sleepstudy):
    return runs_of_sleepstudy(sleepstudy, N_RUNS)


@pytest.mark.slow
def test_reported_errors_are_honest_on_sleepstudy(by_importance):
    models, means, errors, *_ = by_importance
    assert {model.diagnostics_["sampler"] for model in models} == {"importance"}
    assert means.shape == (N_RUNS, 6)
    assert_honest(means, errors)


@pytest.mark.slow
def test_group_coefficients_vary_less_than_draws_would(by_importance):
    """Their conditionals are averaged: at most the error of as many independent draws."""
    *_, groups, sds, ess = by_importance
    assert_better_than_draws(groups, sds, ess)


@pytest.mark.slow
def test_reported_errors_of_chains_are_honest_on_sleepstudy(sleepstudy):
    models, means, errors, groups, sds, ess = runs_of_sleepstudy(sleepstudy, N_RUNS, BY_CHAINS)
    assert {model.diagnostics_["sampler"] for model in models} == {"nuts"}
    assert_honest(means, errors)
    assert_better_than_draws(groups, sds, ess)
