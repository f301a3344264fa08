"""Importance sampling, Pareto smoothing and bridge sampling on densities that are known."""

import functools
import importlib.metadata
import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats as sp
from scipy.special import digamma, gammaln, logsumexp, polygamma

from skhier.inference.importance import (
    Mixture,
    WeightedPoints,
    bridge,
    fitted_mixture,
    fitted_normal,
    importance,
    mixture_of,
    resample,
    trustworthy,
    weighted_points,
)
from skhier.inference.mode import Laplace, Mode
from skhier.utils.budget import USUAL
from skhier.utils.pareto import psis

N = 2048
N_BLOCKS = USUAL.importance.n_blocks
ONE_ROUND = replace(USUAL.importance, max_rounds=1)


@functools.cache
def arviz_psis():
    """ArviZ's smoothed, normalised log weights and k_hat, for ArviZ 0.x and 1.x."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0.23 announces 1.0 on import, once a day
        if int(importlib.metadata.version("arviz").split(".")[0]) == 0:
            import arviz as az

            return az.psislw
        from arviz_stats.base import array_stats

        return lambda log_weights: array_stats.psislw(-log_weights)  # of minus the log weights


def draws(size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


# log weights; sizes for which ArviZ 0.x and 1.x have tails of one length
TAILS = {
    "normal": draws(1024),
    "narrow": 1e-3 * draws(4096),
    "wide": 30 * draws(1024),
    "short": -np.random.default_rng(0).exponential(size=4096),
    "Cauchy": np.log(np.abs(np.random.default_rng(0).standard_cauchy(4096))),
    "Pareto, k = 0.3": 0.3 * np.random.default_rng(1).exponential(size=4096),
    "Pareto, k = 0.7": 0.7 * np.random.default_rng(2).exponential(size=1024),
    "Pareto, k = 2": 2.0 * np.random.default_rng(3).exponential(size=4096),
    "few": draws(100),
    "far off": draws(1024) - 1e5,
    "one large": np.append(draws(1023), 50.0),
    "some impossible": np.append(draws(900), np.full(124, -np.inf)),
}


@pytest.mark.parametrize("tail", TAILS)
def test_smoothed_weights_match_arviz(tail):
    log_weights = TAILS[tail]
    before = log_weights.copy()
    smoothed, k_hat = psis(log_weights)
    assert_array_equal(log_weights, before)
    expected, expected_k = arviz_psis()(log_weights.copy())
    assert_allclose(k_hat, expected_k, rtol=1e-8, atol=1e-10)
    assert_allclose(smoothed - logsumexp(smoothed), expected, rtol=1e-8, atol=1e-8)


def test_only_the_tail_is_smoothed():
    log_weights = TAILS["Cauchy"]
    smoothed, _ = psis(log_weights)
    changed = smoothed != log_weights
    assert changed.sum() == 3 * np.sqrt(4096)
    assert log_weights[changed].min() >= np.sort(log_weights)[-192]
    assert smoothed.max() <= log_weights.max()
    order = np.argsort(log_weights)
    assert np.all(np.diff(smoothed[order]) >= 0)


def test_weights_without_a_tail_have_no_shape():
    smoothed, k_hat = psis(np.zeros(1024))
    assert k_hat == np.inf
    assert_array_equal(smoothed, np.zeros(1024))


def test_one_weight_alone_is_a_bad_sign():
    _, k_hat = psis(np.append(np.full(1023, -np.inf), 0.0))
    assert k_hat > 1


class Normal:
    """exp(log_integral) times a normal density with correlations."""

    log_integral = -123.4

    def __init__(self, d):
        rng = np.random.default_rng(d)
        root = np.tril(rng.normal(size=(d, d)))
        self.mean, self.cov = rng.normal(size=d), root @ root.T + 0.1 * np.eye(d)
        self.known = sp.multivariate_normal(self.mean, self.cov)
        self.start = Laplace(self.mean, np.linalg.cholesky(self.cov))

    def __call__(self, x):
        return np.atleast_1d(self.known.logpdf(x)) + self.log_integral

    def draw(self, n, rng):
        return rng.multivariate_normal(self.mean, self.cov, n)


class LogGammas:
    """Logarithms of gamma variables: mean digamma(a), variance trigamma(a).

    Skewed as the posterior of log tau is, whose left tail is exp(theta) if tau may be 0.
    """

    log_integral = 7.0

    def __init__(self, d):
        self.a = np.geomspace(1.0, 8.0, d)
        self.mean, self.cov = digamma(self.a), np.diag(polygamma(1, self.a))
        self.start = Laplace(np.log(self.a), np.diag(self.a**-0.5))  # mode and curvature

    def __call__(self, x):
        with np.errstate(over="ignore"):
            terms = self.a * x - np.exp(x) - gammaln(self.a)
        return terms.sum(1) + self.log_integral

    def draw(self, n, rng):
        return np.log(rng.gamma(self.a, size=(n, len(self.a))))


def str_of(target):
    return f"{type(target).__name__}({len(target.mean)})"


def blocks(found):
    """Weights and points by block, (n / N_BLOCKS, N_BLOCKS, ...)."""
    return (
        found.weights.reshape(-1, N_BLOCKS),
        found.points.reshape(-1, N_BLOCKS, found.points.shape[1]),
    )


def evidence_error(found):
    """Standard error of the log evidence: each block has an estimate of its own."""
    share = N_BLOCKS * blocks(found)[0].sum(0)
    return share.std(ddof=1) / np.sqrt(N_BLOCKS)


def mean_error(found):
    weights, points = blocks(found)
    means = np.einsum("jb,jbd->bd", weights, points) / weights.sum(0)[:, None]
    return means.std(0, ddof=1) / np.sqrt(N_BLOCKS)


@pytest.mark.parametrize(
    "target", [Normal(1), Normal(4), LogGammas(1), LogGammas(3), LogGammas(8)], ids=str_of
)
def test_importance_finds_mean_and_integral(target):
    found = importance(target, target.start, N, np.random.default_rng(0))
    assert trustworthy(found, 0.2 * N)
    assert found.ess == pytest.approx(1 / (found.weights**2).sum())
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    assert_allclose(found.log_density, target(found.points))
    off = found.log_evidence - target.log_integral
    assert abs(off) < min(5 * evidence_error(found), 0.1)
    off, sd = found.weights @ found.points - target.mean, np.sqrt(np.diag(target.cov))
    assert np.all(np.abs(off) < np.minimum(5 * mean_error(found), 0.1 * sd))


def test_importance_adapts_to_a_poor_start():
    target = Normal(4)
    far = Laplace(target.mean + 3 * np.sqrt(np.diag(target.cov)), 0.3 * np.eye(4))
    found = importance(target, far, N, np.random.default_rng(0))
    assert trustworthy(found, 0.2 * N)
    assert abs(found.log_evidence - target.log_integral) < min(5 * evidence_error(found), 0.1)
    adapted = fitted_normal(found)
    assert_allclose(adapted.mean, found.weights @ found.points)
    assert_allclose(
        adapted.root @ adapted.root.T, np.cov(found.points.T, aweights=found.weights, ddof=0)
    )


def test_any_first_few_points_stand_for_the_density():
    target = LogGammas(2)
    found = importance(target, target.start, 2 * N, np.random.default_rng(0))
    for n in (256, 1024):
        weights = found.weights[:n] / found.weights[:n].sum()
        assert 0.5 * n < 1 / (weights**2).sum()
        off = weights @ found.points[:n] - target.mean
        assert np.all(np.abs(off) < 5 * np.sqrt(np.diag(target.cov) / (0.5 * n)))


def test_points_without_a_density_weigh_nothing():
    target = Normal(2)

    def half(x):
        return np.where(x[:, 0] < target.mean[0], np.nan, target(x))

    found = importance(half, target.start, N, np.random.default_rng(0))
    assert np.all(found.weights[found.points[:, 0] < target.mean[0]] == 0)
    off = found.log_evidence - (target.log_integral - np.log(2))
    assert abs(off) < min(5 * evidence_error(found), 0.1)


def test_density_that_is_nowhere_finite_is_an_error():
    start = Laplace(np.zeros(2), np.eye(2))
    with pytest.raises(RuntimeError, match="not finite at any"):
        importance(lambda x: np.full(len(x), -np.inf), start, N, np.random.default_rng(0))


def funnel(x):
    """Neal's: v ~ Normal(0, 3), the others Normal(0, exp(v / 2))."""
    v, rest = x[:, 0], x[:, 1:]
    return sp.norm.logpdf(v, 0, 3) + sp.norm.logpdf(rest, 0, np.exp(v / 2)[:, None]).sum(1)


def test_funnel_is_not_trusted():
    found = importance(funnel, Laplace(np.zeros(10), np.eye(10)), 2**16, np.random.default_rng(0))
    assert found.k_hat > 0.7
    assert not trustworthy(found, 0)


def test_distant_modes_are_not_trusted():
    modes = [sp.multivariate_normal(np.full(20, m)) for m in (-5.0, 5.0)]

    def density(x):
        return np.logaddexp(*(mode.logpdf(x) for mode in modes))

    for seed in range(3):
        start = Laplace(np.zeros(20), 5 * np.eye(20))
        found = importance(density, start, N, np.random.default_rng(seed))
        assert found.k_hat > 0.7
        assert not trustworthy(found, 0)


@pytest.mark.parametrize(
    ("n", "limit"), [(100, 0.5), (1024, 1 - 1 / np.log10(1024)), (4096, 0.7), (2**20, 0.7)]
)
def test_trust_needs_weights_of_a_known_variance_and_enough_points(n, limit):
    """k_hat up to min(1 - 1 / log10(n), 0.7): Vehtari et al. (2024), sec. 3.2.4."""
    nothing = np.empty((n, 1))

    def found(k_hat, ess):
        return WeightedPoints(nothing, nothing, nothing, k_hat, ess, 0.0)

    assert trustworthy(found(limit - 1e-9, 400.0), 400)
    assert not trustworthy(found(limit + 1e-9, 400.0), 400)
    assert not trustworthy(found(0.1, 399.9), 400)
    assert not trustworthy(found(np.inf, 1e9), 400)
    assert not trustworthy(found(np.nan, 1e9), 400)


def test_same_generator_gives_the_same_points():
    target = LogGammas(2)
    one, two, other = (
        importance(target, target.start, N, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for a, b in zip(one, two, strict=True):
        assert_array_equal(a, b)
    assert not np.any(one.points == other.points)


@pytest.mark.parametrize("target", [Normal(2), LogGammas(2)], ids=str_of)
def test_blocks_of_points_are_independent(target):
    """The mean over blocks has the variance of one block over their number, over 200 runs.

    Blocks that shared points would vary together; those cut out of one sequence, against each
    other. The ratio has an F distribution.
    """
    n_runs = 200
    means = np.empty((n_runs, N_BLOCKS, 2))
    for seed in range(n_runs):
        found = importance(target, target.start, 512, np.random.default_rng(seed))
        weights, points = blocks(found)
        means[seed] = np.einsum("jb,jbd->bd", weights, points) / weights.sum(0)[:, None]
    within = means.var(1, ddof=1).mean(0)
    ratio = N_BLOCKS * means.mean(1).var(0, ddof=1) / within
    ends = sp.f.ppf([1e-6, 1 - 1e-6], n_runs - 1, n_runs * (N_BLOCKS - 1))
    assert np.all((ratio > ends[0]) & (ratio < ends[1])), ratio


def test_blocks_are_more_even_than_chance():
    """Quasi-random: the error of a mean falls well below that of independent points."""
    target = Normal(1)
    errors = []
    for seed in range(20):
        found = importance(target, target.start, 8 * N, np.random.default_rng(seed))
        errors.append(found.weights @ found.points - target.mean)
    independent = np.sqrt(target.cov[0, 0] / (8 * N))
    assert np.std(errors) < 0.2 * independent


@pytest.mark.parametrize("n_draws", [1, 100, N, 10 * N])
def test_resampled_counts_are_the_weights(n_draws):
    rng = np.random.default_rng(0)
    weights = rng.gamma(0.3, size=N)
    weights[rng.uniform(size=N) < 0.1] = 0
    chosen = resample(weights / weights.sum(), n_draws, rng)
    assert chosen.shape == (n_draws,)
    counts = np.bincount(chosen, minlength=N)
    expected = n_draws * weights / weights.sum()
    assert np.abs(counts - expected).max() < 1 + 1e-9
    assert np.all(counts[weights == 0] == 0)


def test_equal_weights_are_all_taken_in_random_order():
    chosen = resample(np.full(N, 1 / N), N, np.random.default_rng(0))
    assert_array_equal(np.sort(chosen), np.arange(N))
    # the rank correlation of a random order has sd 1 / sqrt(n - 1)
    assert abs(sp.spearmanr(chosen, np.arange(N)).statistic) < 5 / np.sqrt(N - 1)
    assert abs(sp.spearmanr(chosen[1:], chosen[:-1]).statistic) < 5 / np.sqrt(N - 2)


def test_resampling_is_unbiased():
    """A weight below 1 / n is taken that often."""
    weights = np.array([0.05, 0.6, 0.35])
    taken = np.mean(
        [0 in resample(weights, 4, np.random.default_rng(seed)) for seed in range(2000)]
    )
    assert abs(taken - 4 * 0.05) < 5 * np.sqrt(0.2 * 0.8 / 2000)


@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("family", [Normal, LogGammas])
def test_bridge_finds_the_integral(family, d):
    """Mean over 30 runs within 5 standard errors; each one close."""
    target = family(d)
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        points = target.draw(2000, rng)
        found.append(bridge(target, points, target(points), rng) - target.log_integral)
    error = np.std(found, ddof=1) / np.sqrt(30)
    assert abs(np.mean(found)) < 5 * error
    assert np.abs(found).max() < 0.1


def test_bridge_bears_points_without_a_density():
    """A half-normal: half of the proposal's points fall outside the support."""

    def density(x):
        return np.where(x[:, 0] > 0, sp.norm.logpdf(x[:, 0]), -np.inf)

    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        points = np.abs(rng.normal(size=(4000, 1)))
        found.append(bridge(density, points, density(points), rng) - np.log(0.5))
    error = np.std(found, ddof=1) / np.sqrt(30)
    assert abs(np.mean(found)) < 5 * error
    assert np.abs(found).max() < 0.1


def test_bridge_without_a_shore_is_unknown():
    rng = np.random.default_rng(0)
    still = np.ones((20, 2))
    assert np.isnan(bridge(lambda points: -(points**2).sum(1), still, np.zeros(20), rng))
    nowhere = rng.normal(size=(20, 2))
    density = np.zeros(20)
    assert np.isnan(bridge(lambda points: np.full(len(points), -np.inf), nowhere, density, rng))


class TwoModes:
    """exp(3) times two normals far apart, the second of share 0.02."""

    log_integral = 3.0

    def __init__(self, d, share=0.02):
        self.parts = [Normal(d), Normal(d)]
        self.shift = np.zeros(d)
        self.shift[0] = 30.0
        self.share = np.array([1 - share, share])
        self.mean = self.parts[0].mean + self.share[1] * self.shift
        self.start = Mixture(
            self.share,
            np.array([self.parts[0].mean, self.parts[0].mean + self.shift]),
            np.array([part.start.root for part in self.parts]),
        )
        self.cov = self.parts[0].cov + self.share.prod() * np.outer(self.shift, self.shift)

    def __call__(self, x):
        one, two = (part.known.logpdf(x - k * self.shift) for k, part in enumerate(self.parts))
        ways = np.atleast_2d([one, two]) + np.log(self.share)[:, None]
        return logsumexp(ways, axis=0) + self.log_integral


def of_second(found):
    return found.points[:, 0] > 15


@pytest.mark.parametrize("d", [2, 5])
def test_modes_far_apart_have_their_masses(d):
    target = TwoModes(d)
    for seed in range(5):
        found = importance(target, target.start, N, np.random.default_rng(seed))
        assert trustworthy(found, 0.2 * N)
        assert abs(found.log_evidence - target.log_integral) < 5 * evidence_error(found)
        off = found.weights @ found.points - target.mean
        assert np.all(np.abs(off) < 5 * mean_error(found))
        assert_allclose(found.weights @ of_second(found), 0.02, rtol=0.1)
        assert_allclose(found.weights @ found.shares, target.share, rtol=0.1)


def test_light_mode_has_points_enough_in_every_block():
    target = TwoModes(2, share=1e-4)
    found = importance(target, target.start, N, np.random.default_rng(0))
    in_blocks = of_second(found).reshape(-1, N_BLOCKS).sum(0)
    least = USUAL.importance.least_share / 2 * N / N_BLOCKS
    assert np.all(np.abs(in_blocks - least) <= 2)
    assert_allclose(found.weights @ of_second(found), 1e-4, rtol=0.1)


def test_any_first_few_points_have_every_mode():
    target = TwoModes(2, share=0.3)
    found = importance(target, target.start, 2 * N, np.random.default_rng(0))
    for n in (128, 256, 1024):
        weights = found.weights[:n] / found.weights[:n].sum()
        assert 0.5 * n < 1 / (weights**2).sum()
        share = weights @ of_second(found)[:n]
        assert abs(share - 0.3) < 5 * np.sqrt(0.21 / n)


def test_masses_and_places_are_refitted():
    """Started with the light mode for the heavy one, and both a standard deviation off."""
    target = TwoModes(3, share=0.9)
    means = target.start.means + np.sqrt(np.diag(target.parts[0].cov))
    start = Mixture(np.array([0.99, 0.01]), means, 0.6 * target.start.roots)
    found = importance(target, start, N, np.random.default_rng(0))
    assert trustworthy(found, 0.2 * N)
    assert abs(found.log_evidence - target.log_integral) < min(5 * evidence_error(found), 0.1)
    fitted = fitted_mixture(found)
    assert_allclose(fitted.shares, [0.1, 0.9], atol=0.02)
    sd = np.sqrt(np.diag(target.parts[0].cov))
    assert np.all(np.abs(fitted.means - target.start.means) < 0.2 * sd)


def test_component_without_mass_does_no_harm():
    target = Normal(2)
    nowhere = target.mean + 200.0
    roots = np.array([target.start.root, 0.01 * np.eye(2)])
    start = Mixture(np.array([0.5, 0.5]), np.array([target.mean, nowhere]), roots)
    found = importance(target, start, N, np.random.default_rng(0), ONE_ROUND)
    assert abs(found.log_evidence - target.log_integral) < min(5 * evidence_error(found), 0.1)
    assert fitted_mixture(found).shares[1] < 1e-6
    found = importance(target, start, N, np.random.default_rng(0))
    assert trustworthy(found, 0.2 * N)
    assert abs(found.log_evidence - target.log_integral) < min(5 * evidence_error(found), 0.1)


def test_mixture_of_one_is_a_single_start():
    target = LogGammas(3)
    one = importance(target, target.start, N, np.random.default_rng(0))
    mixture = mixture_of([Mode(target.start, 0.0)])
    assert_allclose(mixture.shares, [1.0])
    other = importance(target, mixture, N, np.random.default_rng(0))
    for a, b in zip(one, other, strict=True):
        assert_array_equal(a, b)
    assert_allclose(fitted_mixture(one).means[0], fitted_normal(one).mean)
    assert_array_equal(one.shares, np.ones((N, 1)))


def test_masses_of_modes_are_their_shares():
    """Height times width."""
    modes = [Mode(Laplace(np.zeros(2), k * np.eye(2)), -float(k)) for k in (1, 2)]
    wanted = np.array([np.exp(-1), 4 * np.exp(-2)])
    assert_allclose(mixture_of(modes).shares, wanted / wanted.sum())


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_blocks_of_a_mixture_are_independent(share):
    """As of one component: the spread between blocks is the error of the mean, over 100 runs."""
    target, n_runs = TwoModes(1, share), 100
    means = np.empty((n_runs, N_BLOCKS))
    for seed in range(n_runs):
        found = importance(target, target.start, 1024, np.random.default_rng(seed), ONE_ROUND)
        weights, points = blocks(found)
        means[seed] = np.einsum("jb,jb->b", weights, points[..., 0]) / weights.sum(0)
    within = means.var(1, ddof=1).mean()
    ratio = N_BLOCKS * means.mean(1).var(ddof=1) / within
    ends = sp.f.ppf([1e-6, 1 - 1e-6], n_runs - 1, n_runs * (N_BLOCKS - 1))
    assert ends[0] < ratio < ends[1]


def test_more_points_of_a_proposal_join_the_sample():
    def log_densities(points):
        return sp.t(5).logpdf(points).sum(1)

    proposal = mixture_of([Mode(Laplace(np.zeros(3), np.eye(3)), 0.0)])
    rng = np.random.default_rng(0)
    few = weighted_points(log_densities, proposal, 512, rng)
    all_points = weighted_points(log_densities, proposal, 1024, rng, before=few)
    assert_array_equal(all_points.points[:512], few.points)
    assert_array_equal(all_points.log_density, log_densities(all_points.points))
    # one sample: a point's weight is by its density alone, whenever it was drawn
    ratio = all_points.weights[:512] / few.weights
    assert_allclose(np.median(ratio), 512 / 1536, rtol=0.1)
    assert all_points.ess > 2 * few.ess
    assert abs(all_points.log_evidence) < 0.05
