"""Predictions of a few components against those of all, and against draws; posteriors by hand."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reduced import population
from scipy import stats

from skhier.estimators._candidates import budget_of_candidates
from skhier.kernels.records import Components, EffectMoments
from skhier.kernels.rows.directions import directions
from skhier.posterior.designs import OUT
from skhier.posterior.few import weighted
from skhier.posterior.mixture import mixture_quantiles
from skhier.posterior.row_posterior import RowPosterior
from skhier.responses import Bernoulli, Binomial, Gamma, NegativeBinomial, Poisson, StudentT
from skhier.statistics.records import Units

S, G, N_DRAWS = 1000, 12, 40_000
LEVELS = np.array([0.01, 0.05, 0.5, 0.95, 0.99])
ERROR = 0.005  # of the budget: sds by which quantiles of a few components may differ
RESPONSES = [
    (Bernoulli(), {}),
    (Binomial(), {}),
    (Poisson(), {}),
    (NegativeBinomial(), {"dispersion": 3.0}),
    (Gamma(), {"shape": 3.0}),
    (StudentT(), {"noise_scale": 0.5, "df": 5.0}),
]


def posterior(response, own, seed=0, sampled=False):
    """A response's posterior with S components; two effects a level."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(S, 5))
    coef = np.array([0.4, 0.8]) + 0.15 * theta[:, :2]
    root = np.zeros((S, 2, 2))
    root[:, 0, 0], root[:, 1, 1] = np.exp([-1.0, -0.4] + 0.2 * theta[:, 2:4]).T
    root[:, 1, 0] = 0.2 * np.tanh(theta[:, 4])
    centre, width = rng.normal(0, 0.5, (2, G)), rng.uniform(0.1, 0.3, G)
    size = np.exp(0.2 * theta[:, 2])[:, None]
    mean = centre * size[..., None] + 0.1 * theta[:, :1, None] * rng.normal(size=(1, 2, G))
    roots = np.eye(2)[..., None] * ((not sampled) * size * width)[:, None, None]
    spread = {name: np.exp(0.1 * rng.normal(size=S)) for name in own}
    own = {name: value * spread[name] for name, value in own.items()}
    weights = rng.dirichlet(np.full(S, 2.0))
    rule = Components(weights, population(coef, 1.0, (root,))._replace(own=own))
    place = rng.choice(S, (1, N_DRAWS), p=weights)
    of_log = response.link == "log"  # whose lines are normals
    skew = None if sampled or of_log else (np.full((S, 2, G), 0.3),)
    stretch = (np.ones((S, len(directions(2)), G)),) if of_log else None
    effects = EffectMoments((mean,), (roots,), None, place, 0 if sampled else 3, skew, stretch)
    units = Units(np.array([2.0]), np.array([4.0]), 0.0, 1.0, (np.eye(2),))
    n_rows = [np.ones(G)]
    square = np.eye(2)
    draws = rule.population.take(place)
    return RowPosterior(units, square, n_rows, draws, ((0,),), 0, response, rule, effects)


def of_all(few):
    """The same, which takes all components for everything."""
    every = copy.copy(few)
    every.__dict__["few"] = every.every
    every.__dict__["few_of_moments"] = weighted(every.every, every.response)
    return every


def rows(n=60, seed=5):
    """Known levels, every fourth a new one, every tenth of none."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(G, size=(n, 1))
    codes[::4], codes[::10] = G, OUT
    return 2.0 + 4.0 * rng.normal(size=(n, 1)), codes


@pytest.fixture(scope="module", params=RESPONSES, ids=lambda pair: pair[0].name)
def few(request):
    """Do not modify."""
    return posterior(*request.param)


def test_few_components_stand_for_all(few):
    assert len(few.few.rule.weights) < 260
    assert_allclose(few.few.rule.weights.sum(), 1, rtol=1e-12)


def test_lines_have_the_quantiles_of_all_components(few):
    x, codes = rows()
    every, off = of_all(few), []
    for posterior_ in (few, every):
        parts = [
            (at, mixture_quantiles(mean, sd, LEVELS, weights))
            for at, mean, sd, _, weights in posterior_._lines(x, codes, posterior_.few, False)
        ]
        order = np.argsort(np.concatenate([at for at, _ in parts]))
        off.append(np.concatenate([of_rows for _, of_rows in parts])[order])
    sd = (off[1][:, 3] - off[1][:, 1]) / 3.29
    error = np.abs(off[0] - off[1]) / sd[:, None]
    assert error[:, 1:4].max() < 2 * ERROR  # at points and rows that chose nothing
    assert error.max() < 4 * ERROR


def test_distributions_of_responses_are_those_of_all_components(few):
    (x, codes), every = rows(24), of_all(few)
    y = few.quantiles(x, codes, np.array([0.3]), "response")[:, 0]
    below = few.distribution_function(x, codes, y), every.distribution_function(x, codes, y)
    assert_allclose(*below, atol=0.001)
    density = few.log_density(x, codes, y), every.log_density(x, codes, y)
    assert_allclose(*density, atol=0.005)


def test_means_and_sds_are_those_of_all_components(few):
    """Probabilities to 0.001; what has no bounds in sds of a response."""
    (x, codes), every = rows(), of_all(few)
    sd = every.predictive_sd(x, codes)
    assert_allclose(few.predictive_sd(x, codes), sd, rtol=0.005)
    bound = 0.001 if few.response.discrete and few.response.link == "logit" else ERROR * sd
    assert np.all(np.abs(few.mean(x, codes) - every.mean(x, codes)) < bound)


def test_quantiles_of_responses_are_those_of_draws(few):
    """The share of joint draws up to a quantile, and below the value before, in the tails too."""
    x, codes = rows(12)
    rng = np.random.default_rng(1)
    lines = few.sample_lines(x, codes, slice(None), 3)
    drawn = few.response.draw(lines, few.own_parameters(), rng)
    at = few.quantiles(x, codes, LEVELS, "response")
    se = np.sqrt(LEVELS * (1 - LEVELS) / N_DRAWS)
    # beside the draws' error that of three normals for a skewed line, in sds, and the rule's
    bound = 5 * se + (0.02 + ERROR) * stats.norm.pdf(stats.norm.ppf(LEVELS))
    step = 1.0 if few.response.discrete else 0.0
    for k in range(len(LEVELS)):
        assert np.all((drawn <= at[:, k]).mean(0) > LEVELS[k] - bound[k])
        assert np.all((drawn <= at[:, k] - step).mean(0) < LEVELS[k] + bound[k])


def test_draws_of_effects_are_all_components():
    """They are points, of which few have no distribution."""
    drawn = posterior(Poisson(), {}, sampled=True)
    assert len(drawn.few.rule.weights) == S
    x, codes = rows()
    assert_allclose(drawn.mean(x, codes), of_all(drawn).mean(x, codes), rtol=1e-12)


def test_candidates_of_a_search_do_not_choose():
    """They predict a fold, and are gone."""
    candidate = posterior(Poisson(), {})
    candidate.budget = budget_of_candidates(candidate.budget)
    assert len(candidate.few.rule.weights) == len(candidate.few_of_moments.rule.weights) == S


def test_few_components_are_no_part_of_a_pickle(few):
    _ = few.few, few.few_of_moments
    assert not {"few", "few_of_moments"} & set(few.__getstate__())
