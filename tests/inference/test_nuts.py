"""The sampler: one program, draws that do not depend on how it is called, honest failures."""

import os
import signal
import threading

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from runs import slow
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.inference import nuts, runtime
from skhier.inference.target import Joint, Marginal, evaluate
from skhier.kernels.covariance import Lkj
from skhier.kernels.records import FactorSpec, ModelSpec, PriorDists
from skhier.responses.normal import NORMAL, SCALE
from skhier.statistics.elimination import arrange
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.products import group_stats
from skhier.statistics.records import Plan
from skhier.statistics.units import internal_units

F = np.float64
FACTOR = FactorSpec((0,), Lkj(2, ((0, 1),)), at_mean=False)
SPEC = ModelSpec(1, (FACTOR,), Plan((0,), ()), True, True, ((0,),), NORMAL.kind)
SETTINGS = nuts.NutsSettings(60, 0.8, 8)


def problem(seed=0, n=80):
    rng = np.random.default_rng(seed)
    codes, x = np.arange(n) % 8, rng.normal(size=(n, 1))
    y = x[:, 0] + rng.normal(size=8)[codes] + rng.normal(size=n)
    units = internal_units(
        mean_sd_of_rows(x, np.ones(n)), mean_sd_of_rows(y[:, None], np.ones(n)), ((0,),)
    )
    stats = group_stats(x, y, np.ones(n), codes[:, None], [8], ((0,),), units, ())
    prior = PriorDists(
        intercept=dist.Normal(F(0.0), F(5.0)),
        own={SCALE: dist.Exponential(F(1.0))},
        coef=(dist.Normal(F(0.0), F(2.0)),),
        covariances=(((dist.HalfNormal(np.array([1.0, 2.0])),), F(2.0)),),
    )
    return jax.tree.map(lambda a: np.asarray(a, F), (stats, units, prior))


def marginal(data):
    """The statistics in the order of elimination."""
    stats, *rest = data
    return arrange(stats, SPEC.plan), *rest


def frame(data):
    """Where theta = 0 is the centre, and the unit of each entry is 0.5."""
    return (*marginal(data), np.zeros(4), 0.5 * np.eye(4))


TARGETS = {"joint": (Joint(SPEC), lambda data: data), "marginal": (Marginal(SPEC), frame)}


def keys(n_chains=2, seed=0):
    return np.asarray(jax.random.split(jax.random.PRNGKey(seed), n_chains))


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


def sample(of="joint", **changes):
    target, framed = TARGETS[of]
    arguments = {"data": problem(), "keys": keys(), "n_draws": 40} | changes
    arguments["data"] = framed(arguments["data"])
    return nuts.sample_nuts(target, SETTINGS, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("of", TARGETS)
def test_slicing_does_not_change_the_draws(of):
    whole = sample(of)
    sliced = sample(of, slice_seconds=0.0)  # one transition a slice
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(sliced), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("of", [*slow("joint"), "marginal"])
def test_chains_that_go_on_make_the_draws_of_longer_ones(of):
    whole, first = sample(of), sample(of, n_draws=15)
    rest = sample(of, n_draws=25, state=first.state)
    for all_draws, *halves in zip(
        *map(jax.tree.leaves, (whole[:6], first[:6], rest[:6])), strict=True
    ):
        np.testing.assert_array_equal(all_draws, np.concatenate(halves, axis=1))


def test_draws_of_theta_come_with_their_density():
    """The record is theta, not the position in the target's frame."""
    drawn = sample("marginal")
    assert drawn.values.shape == (2, 40, 4)
    expected, _ = evaluate(
        drawn.values.reshape(-1, 4), *jax.tree.flatten(marginal(problem())), SPEC
    )
    assert_allclose(drawn.lp.ravel(), expected, rtol=1e-10)


def test_coordinates_that_move_nothing_stay_where_they_are():
    """They have no momentum, in warm-up neither, and the others move as ever."""
    *data, centre, root = frame(problem())
    data, target = (*data, centre, root * [1, 0, 1, 1]), Marginal(SPEC)
    drawn = nuts.sample_nuts(target, SETTINGS, data, keys(), 40)
    begin = nuts._start(keys(), data, target, SETTINGS)[0]
    np.testing.assert_array_equal(drawn.state.z[:, 1], begin.z[:, 1])
    assert (np.asarray(drawn.state.adapt_state.mass_matrix_sqrt) > 0).tolist() == [
        [True, False, True, True]
    ] * 2
    assert (drawn.values[..., 1] == 0).all()
    assert (drawn.values.std(1)[:, [0, 2, 3]] > 0).all()


@pytest.mark.slow
def test_bundling_chains_does_not_change_them():
    """Up to rounding, which a chain amplifies: the first transitions agree."""
    together = sample()
    apart = [sample(keys=k[None]) for k in keys()]
    assert together.lp.shape == (2, 40)
    for c in range(2):
        first = nuts._start(keys(), problem(), Joint(SPEC), SETTINGS)[0].z[c]
        alone = nuts._start(keys()[c][None], problem(), Joint(SPEC), SETTINGS)[0].z[0]
        assert_allclose(first, alone, rtol=1e-12)
        assert apart[c].lp.shape == (1, 40)


@pytest.mark.parametrize("of", TARGETS)
def test_new_data_priors_and_seeds_compile_nothing(of):
    sample(of)
    before = nuts._advance._cache_size(), nuts._start._cache_size()
    stats, units, prior = problem(seed=5, n=96)
    sample(
        of,
        data=(
            stats,
            units,
            prior._replace(
                covariances=((prior.covariances[0][0], F(7.0)),),
                own={SCALE: dist.Exponential(F(3.0))},
            ),
        ),
        keys=keys(seed=9),
        n_draws=30,
    )
    assert (nuts._advance._cache_size(), nuts._start._cache_size()) == before


def test_second_fit_traces_nothing(sleepstudy):
    X, y = sleepstudy
    small = {"groups": "Subject", "n_warmup": 100, "n_draws": 100, "random_state": 0}

    def fit(X, y, **params):
        with pytest.warns(ConvergenceWarning):  # too short to converge
            HierarchicalSlopesRegressor(**small, inference="nuts", **params).fit(X, y)

    fit(X, y)
    before = nuts._advance._cache_size(), nuts._start._cache_size()
    fold = X["Subject"] != "308"  # 17 groups and fewer rows
    fit(X[fold], y[fold], eta=5.0, prior=Prior(group_scale=0.3))
    assert (nuts._advance._cache_size(), nuts._start._cache_size()) == before


def test_progress_counts_every_transition():
    counted = []
    sample(progress=counted.append)
    assert sum(counted) == 60 + 40


def test_progress_may_stop_the_run():
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(progress=stop)


@pytest.mark.parametrize("of", TARGETS)
def test_no_valid_start_is_an_error(of):
    stats, units, prior = problem()
    nowhere = stats._replace(yy=F(np.nan))
    with pytest.raises(RuntimeError, match="no valid starting point"):
        sample(of, data=(nowhere, units, prior))


def test_posterior_of_linear_regression_is_exact():
    """Known noise (a narrow prior), no groups: the coefficients' posterior is normal."""
    rng = np.random.default_rng(0)
    x, sigma = rng.normal(size=(50, 1)) + 2, 0.5
    y = 1.0 + 2.0 * x[:, 0] + sigma * rng.normal(size=50)
    prior = Prior(
        intercept=dist.Normal(0.0, 1.0),
        coef=dist.Normal(0.0, 1.0),
        noise_scale=dist.LogNormal(np.log(sigma), 1e-4),
    )
    model = HierarchicalSlopesRegressor(prior=prior, inference="nuts", random_state=0).fit(x, y)
    design = np.column_stack([np.ones(50), x])
    cov = np.linalg.inv(design.T @ design / sigma**2 + np.eye(2))
    mean = cov @ design.T @ y / sigma**2
    table = model.summary().loc[["intercept", "coef[x0]"]]
    assert table["ess_bulk"].min() > 1000
    assert np.all(np.abs(table["mean"] - mean) < 5 * table["mcse"])
    assert np.all(np.abs(table["mean"] - mean) < 0.1 * np.sqrt(np.diag(cov)))
    # the sd of S effective draws has relative error 1 / sqrt(2 S)
    assert_allclose(table["sd"], np.sqrt(np.diag(cov)), rtol=5 / np.sqrt(2 * 1000))


def test_failed_work_stops_the_others():
    stopped = threading.Semaphore(0)

    def waits(check):
        try:
            while True:
                check()
        finally:
            stopped.release()

    def fails(check):
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        runtime.run_side_by_side([waits, fails, waits])
    assert stopped.acquire(timeout=10)
    assert stopped.acquire(timeout=10)


def test_interrupted_caller_leaves_threads_that_python_waits_for():
    """A thread that passes for dead would be torn out of compiled code at exit."""
    release, started = threading.Event(), []

    def works_on(check):
        started.append(threading.current_thread())
        release.wait(0.2)  # until the caller waits
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(10)

    # a shell's background job ignores the signal unless told otherwise
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            runtime.run_side_by_side([works_on])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert started[0].is_alive()
    release.set()
    started[0].join(10)
    assert not started[0].is_alive()
