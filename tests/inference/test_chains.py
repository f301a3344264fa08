"""Chains in the frame of a normal approximation: short if they agree, said if they take long."""

import warnings
from types import SimpleNamespace

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from runs import BY_CHAINS, budget, spending
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.inference import chains, engines, results
from skhier.inference.nuts import SamplerDraws
from skhier.inference.options import EngineOptions
from skhier.inference.signs import no_signs
from skhier.utils.diagnostics import ess_bulk

OPTIONS = EngineOptions(4, 1000, 1000, 0.8, 10, 2.0, None, False)


@pytest.mark.parametrize(
    ("n_chains", "n", "least"),
    [(4, 4000, 400), (4, 2048, 204.8), (1, 4000, 100), (50, 4096, 409.6)],
)
def test_as_many_effective_are_asked_of_points_as_of_draws(n_chains, n, least):
    """100 a chain (Vehtari et al. 2021, sec. 3.2), or a tenth of those that there are."""
    assert OPTIONS._replace(n_chains=n_chains).least_ess(n) == pytest.approx(least)


def drawn(values):
    shape = values.shape[:2]
    zeros, energy = np.zeros(shape), np.random.default_rng(1).normal(size=shape)
    return SamplerDraws(values, zeros, energy, zeros, zeros, zeros > 0, zeros[:, 0], "its state")


def run_with(*drawn_values, warned=(), options=OPTIONS):
    """Draws and the options of each run of chains whose draws are ``drawn_values``; of
    fits with the first of these diagnostics warn, if ``warned`` says so.
    """
    runs, left, warnings_left = [], list(drawn_values), list(warned)

    def run(frames, options, states=None):
        runs.append((options, frames, states))
        return drawn(left.pop(0))

    frames = [(4, ("stats", "units", "prior", np.zeros(2), np.eye(2)))]

    def warns(result):
        return bool(warnings_left) and warnings_left.pop(0)

    of_run = run, frames, options, no_signs(2)
    draws, result = chains.run_in_frame(*of_run, lambda draws: ("result of", draws), warns)
    assert result == ("result of", draws)
    return draws, runs


def test_chains_that_agree_are_short():
    good = np.random.default_rng(0).normal(size=(4, 500, 2))
    draws, runs = run_with(good)
    assert draws.values is good
    ((options, _, states),) = runs
    assert states is None
    assert (options.n_warmup, options.n_draws) == (200, 500)
    assert options.max_tree_depth == 3


def test_chains_with_few_effective_draws_go_on_to_as_many_as_asked_for():
    slow = np.repeat(np.random.default_rng(0).normal(size=(4, 63, 2)), 8, axis=1)  # 252 states
    slow = slow[:, :500]
    good = np.random.default_rng(0).normal(size=(4, 1000, 2))
    draws, runs = run_with(slow, good)
    np.testing.assert_array_equal(draws.values, np.concatenate([slow, good], axis=1))
    assert draws.lp.shape == draws.energy.shape == draws.values.shape[:2]
    assert [options.n_draws for options, *_ in runs] == [500, 500]
    assert [states for *_, states in runs] == [None, "its state"]


def test_chains_that_disagree_are_made_anew_as_long_as_asked_for():
    good = np.random.default_rng(0).normal(size=(4, 1000, 2))
    apart = good + np.arange(4)[:, None, None]
    draws, runs = run_with(apart, good)  # no more of these would agree
    assert draws.values is good
    _, (options, ((n, (*_, mean, root)),), states) = runs
    assert options == OPTIONS
    assert states is None
    assert n == 4
    points = apart.reshape(-1, 2)
    np.testing.assert_allclose(mean, points.mean(0))
    np.testing.assert_allclose(root @ root.T, np.cov(points.T))


def test_chains_whose_fit_would_warn_go_on():
    good = np.random.default_rng(0).normal(size=(4, 2000, 2))
    draws, runs = run_with(good[:, :500], good[:, 500:1000], warned=[True])
    assert draws.values.shape == (4, 1000, 2)
    assert runs[1][0].n_draws == 500  # as many as were asked for, in all
    assert [options.n_warmup for options, *_ in runs] == [200, 200]
    draws, runs = run_with(*np.split(good, [500, 1000], axis=1), warned=[True, True])
    assert [options.n_warmup for options, *_ in runs] == [200, 200, 1000]


def run_close(*drawn_values, diverging=()):
    """The draws that stay, and the options of each run, of chains whose draws are these values;
    the last ones are made anew. ``diverging``: which runs have a divergence.
    """
    runs, left = [], list(drawn_values)

    def run(options, states=None):
        draws = drawn(left.pop(0))
        draws.diverging[0, 0] = len(runs) in diverging
        runs.append(options)
        return draws

    short, close = OPTIONS._replace(n_draws=500), OPTIONS._replace(target_accept=0.9)
    settings = OPTIONS, short, lambda draws: draws.values, lambda draws: run("anew")
    return chains.run_shortly(run, *settings, lambda draws: False, close), runs


def test_chains_of_smaller_steps_follow_in_the_same_frame():
    good = np.random.default_rng(0).normal(size=(4, 1000, 2))
    draws, (_, close) = run_close(good[:, :500], good, diverging=[0])  # which no draw mends
    assert draws.values is good
    assert (close.target_accept, close.n_draws) == (0.9, 1000)


def test_chains_of_smaller_steps_go_on_to_their_effective_number():
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.normal(size=(4, 50, 2)), 20, axis=1)  # 200 states
    good = rng.normal(size=(4, 1000, 2))
    draws, (*_, further) = run_close(good[:, :500], slow, good, diverging=[0])
    assert draws.values.shape == (4, 2000, 2)
    assert 500 < further.n_draws <= 2000


def test_better_chains_stay_where_none_agree():
    rng = np.random.default_rng(0)
    far = np.arange(4)[:, None, None]
    better, worse = (rng.normal(size=(4, 1000, 2)) + shift * far for shift in (0.3, 3.0))
    for last, kept in ((worse, better), (better, better)):
        other = better if last is worse else worse
        draws, runs = run_close(worse[:, :500], other, last, diverging=[0])
        assert runs[-1] == "anew"
        assert draws.values is kept
    # what diverges may have missed a part of the posterior
    draws, _ = run_close(worse[:, :500], better, worse, diverging=[0, 1])
    assert draws.values is worse


@pytest.mark.parametrize("few", [{"n_chains": 1}, {"n_draws": 99}])
def test_chains_that_are_warned_of_anyway_are_not_tried_short(few):
    good = np.random.default_rng(0).normal(size=(4, 1000, 2))
    options = OPTIONS._replace(**few)
    _, ((of_run, *_),) = run_with(good, options=options)
    assert of_run == options


def test_chains_are_judged_by_what_diagnostics_judge(crossed_fit):
    fitted = crossed_fit._fitted
    parameters = results.scalars(fitted.posterior.population_draws())
    named = fitted.named_draws()
    assert len(parameters) == len(named)
    for draws in named.values():
        assert any(np.array_equal(draws, judged) for judged in parameters.values())


def test_log_density_of_short_chains_is_judged(monkeypatch):
    """Draws of the frame: theta has moved well, and its log density at first seems not to have."""
    runs, rng = [], np.random.default_rng(4)

    def run(target, frames, options, *others):
        runs.append(options.n_warmup)
        ((_, (*_, mean, root)),) = frames
        z = rng.standard_normal((options.n_chains, options.n_draws, len(mean)))
        lp = -0.5 * (z**2).sum(-1)
        draws = drawn(mean + z @ root.T)
        return draws._replace(lp=np.sort(lp) if len(runs) == 1 else lp)

    monkeypatch.setattr(engines, "run_nuts", run)
    X = pd.DataFrame({"g": np.repeat(np.arange(20), 10)})
    y = rng.normal(size=20)[X.g] + rng.normal(size=200)
    model = HierarchicalSlopesRegressor("g", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        spending(model, budget(max_importance_size=0, plain_size=0)).fit(X, y)
    assert runs[:2] == [200, 200]
    assert model.diagnostics_["ess_bulk"] >= 400


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No group has more rows")
@pytest.mark.parametrize(("seed", "sampler"), [(3, "importance"), (12, "nuts")])
def test_levels_of_few_rows_are_no_obstacle(seed, sampler):
    """30 levels of 8 rows with 8 effects: whose scales the rows hardly tell."""
    rng = np.random.default_rng(8)
    X = pd.DataFrame(rng.normal(size=(240, 7)), columns=list("abcdefh"))
    X["g"] = np.repeat(np.arange(30), 8)
    rng = np.random.default_rng(seed)
    scales, wide = np.exp(0.4 * rng.normal(size=8)), rng.normal(size=(8, 14))
    cov = wide @ wide.T
    root = np.linalg.cholesky(cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov))))
    effects = rng.normal(size=(30, 8)) @ root.T * scales
    z = np.column_stack([X.drop(columns="g"), np.ones(240)])
    y = z @ rng.normal(size=8) + (z * effects[X.g]).sum(1)
    y += np.exp(0.3 * rng.normal()) * rng.normal(size=240)
    prior = Prior(
        intercept=dist.Normal(0.0, 2.0),
        coef=dist.Normal(0.0, 1.0),
        group_scale=dist.LogNormal(0.0, 0.4),
        noise_scale=dist.LogNormal(0.0, 0.3),
    )
    model = HierarchicalSlopesRegressor("g", prior=prior, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert model.diagnostics_["sampler"] == sampler
    assert model.diagnostics_["ess_bulk"] >= 400
    assert model.diagnostics_["evaluations"] < 60_000


def theta_of(seconds, slopes=(0, 1, 2), sites=("group_corr_chol_0",)):
    spec = SimpleNamespace(factors=[SimpleNamespace(slopes=slopes)])
    return SimpleNamespace(
        gradient_seconds=seconds, spec=spec, size=137, priors=SimpleNamespace(sites=sites)
    )


def test_long_chains_are_announced_with_what_shortens_them(monkeypatch):
    monkeypatch.setattr(chains.os, "cpu_count", lambda: 2)
    # 4 chains on 2 cores, 700 transitions of 7 steps of 10 ms: 98 s
    with pytest.warns(UserWarning, match=r"some 98 seconds.*slopes=.*or correlated=False") as seen:
        (message,) = chains.announce(theta_of(1e-2), OPTIONS)
    assert str(seen[0].message) == message
    with pytest.warns(UserWarning, match=r"fewer features shortens it"):
        chains.announce(theta_of(1e-2, sites=()), OPTIONS)
    assert chains.announce(theta_of(1e-3), OPTIONS) == ()
    assert chains.announce(theta_of(np.inf), OPTIONS) == ()


@pytest.mark.slow
def test_chains_with_signs_agree_with_weights():
    """Three slopes that do not vary; bridge and weights, chains and points."""
    rng = np.random.default_rng(4)
    X = pd.DataFrame(rng.normal(size=(300, 3)), columns=list("abc"))
    X["g"] = rng.integers(25, size=300)
    y = X.a + rng.normal(size=25)[X.g] + rng.normal(size=300)
    by_weights = HierarchicalSlopesRegressor("g", random_state=0).fit(X, y)
    by_chains = spending(HierarchicalSlopesRegressor("g", random_state=0), BY_CHAINS).fit(X, y)
    assert by_chains.diagnostics_["sampler"] == "nuts"
    assert by_weights.diagnostics_["sampler"] == "importance"
    assert abs(by_chains.log_evidence_ - by_weights.log_evidence_) < 0.1
    one, other = by_chains.summary(), by_weights.summary()
    error = np.hypot(one["mcse"], other["mcse"])
    difference = (one["mean"] - other["mean"]).abs()
    assert (difference < 5 * error + 1e-9).all()
    assert (difference < 0.1 * one["sd"]).all()


def test_progress_begins_with_the_first_evaluation(capsys):
    rng = np.random.default_rng(4)
    X = pd.DataFrame({"x": rng.normal(size=60), "g": rng.integers(6, size=60)})
    model = HierarchicalSlopesRegressor("g", random_state=0, n_draws=500, verbose=1)
    model.fit(X, X.x + rng.normal(size=60))
    assert "Variance parameters" in capsys.readouterr().err


def test_states_that_stand_for_several_draws_keep_their_effective_number():
    """The same autocorrelations, and no more said of transitions than there were."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(4, 500))
    which = chains.stand_ins(500, 1000)
    assert (np.bincount(which) == 2).all()
    assert (np.bincount(chains.stand_ins(500, 750)) <= 2).all()
    one, other = ess_bulk(values[..., None])[0], ess_bulk(values[:, which, None])[0]
    assert abs(one / other - 1) < 0.1  # of the same 2000 states; estimated at other lags
    facts = dict.fromkeys(("lp", "accept", "n_steps", "diverging"), values)
    draws = SimpleNamespace(**facts, energy=values, step_size=np.ones(4))
    told = chains.sample_stats(draws, 1000)
    assert "energy" not in told
    assert {a.shape for a in told.values()} == {(4, 1000)}
    assert "energy" in chains.sample_stats(draws, 500)
    fewer = chains.sample_stats(draws, 200)
    assert {a.shape for a in fewer.values()} == {(4, 200)}
    assert "energy" not in fewer
