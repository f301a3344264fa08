"""Power-scaling sensitivity against closed forms, and against fits with powers of the priors."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from skhier import DecovPrior, HierarchicalSlopesRegressor, Prior
from skhier.posterior.sensitivity import ALPHAS, cjs_distance, log_likelihood, log_prior
from skhier.utils.pareto import psis

CONFLICT, STRONG = "prior-data conflict possible", "strong prior or weak data"


@pytest.fixture(scope="module")
def line():
    """X and y of y = 2 x + noise of sd 1, 50 rows."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=50)
    return pd.DataFrame({"x": x}), 2 * x + rng.normal(size=50)


@pytest.fixture(scope="module")
def of_sleepstudy(sleepstudy):
    """Fits of sleepstudy; arguments are the estimator's."""

    def fit(**params):
        return HierarchicalSlopesRegressor("Subject", random_state=0, **params).fit(*sleepstudy)

    return fit


def parts(model):
    """Log prior and log likelihood of every draw."""
    fit = model._fitted
    return log_prior(fit.prior, fit.posterior), log_likelihood(fit.posterior)


def cjs_of_normals(one, other, low, high):
    """Kallioinen et al. (2024), eq. 5-6, by quadrature; the larger of that of x and of -x."""

    def distance(of):
        def gap(x):
            p, q = of(x, *one), of(x, *other)
            return p * np.log2(2 * p / (p + q)) + q * np.log2(2 * q / (p + q))

        bound = quad(lambda x: of(x, *one) + of(x, *other), low, high)[0]
        return np.sqrt(quad(gap, low, high, epsabs=1e-14, limit=200)[0] / bound)

    return max(distance(norm.cdf), distance(norm.sf))


def assert_means_move_as_refitted(base, refitted, log_weights):
    """Weighted draws have the means of the fit, up to both fits' Monte Carlo errors."""
    smooth, k_hat = psis(log_weights)
    assert k_hat < 0.5
    weights = np.exp(smooth - smooth.max())
    weights /= weights.sum()
    expected = refitted.summary()
    before = base.summary()["mean"]
    for name, draws in base._fitted.named_draws(group_effects=False).items():
        if name in expected.index:
            mean = weights @ draws.ravel()
            error = np.hypot(
                np.sqrt(weights**2 @ (draws.ravel() - mean) ** 2), expected["mcse"][name]
            )
            off = abs(mean - expected["mean"][name])
            assert off < 5 * error, name
            assert off < 0.1 * expected["sd"][name], name
    moved = (expected["mean"] - before).abs() / expected["sd"]
    assert moved.max() > 0.1  # or there would be nothing to see


@pytest.mark.parametrize("other", [(0.3, 1.0), (0.0, 1.2), (-0.1, 0.9)])
def test_cjs_distance_is_the_integral(other):
    draws = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    weights = norm.pdf(draws, *other) / norm.pdf(draws)
    weights /= weights.sum()
    found = max(cjs_distance(draws, weights), cjs_distance(-draws, weights))
    expected = cjs_of_normals((0, 1), other, draws[0], draws[-1])
    assert_allclose(found, expected, rtol=0.02)


def test_cjs_distance_of_equal_weights_is_zero():
    assert cjs_distance(np.arange(10.0), np.full(10, 0.1)) < 1e-7
    assert cjs_distance(np.zeros(10), np.arange(10.0) / 45) == 0.0


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.2), (0.0, 5.0), (2.0, 0.1)])
def test_conjugate_posterior_has_its_sensitivity(line, mean, sd):
    """All but the slope is all but known, so that is normal; powers act on either precision."""
    X, y = line
    x = X["x"].to_numpy()
    prior = Prior(
        intercept=dist.Uniform(-1e-4, 1e-4),
        coef=dist.Normal(mean, sd),
        noise_scale=dist.Uniform(0.9999, 1.0001),
    )
    model = HierarchicalSlopesRegressor(prior=prior, random_state=0).fit(X, y)
    draws = model.posterior_["coef"].ravel()

    def posterior(of_prior, of_data):
        precision = of_prior / sd**2 + of_data * x @ x
        return (of_prior * mean / sd**2 + of_data * x @ y) / precision, precision**-0.5

    def gradient(which):
        moved = []
        for alpha in ALPHAS:
            powers = (alpha, 1.0) if which == "prior" else (1.0, alpha)
            distance = cjs_of_normals(
                posterior(1.0, 1.0), posterior(*powers), draws.min(), draws.max()
            )
            moved.append(distance / abs(np.log2(alpha)))
        return np.mean(moved)

    found = model.prior_sensitivity().loc["coef[x]"]
    assert_allclose(found["prior"], gradient("prior"), rtol=0.1, atol=0.002)
    assert_allclose(found["likelihood"], gradient("likelihood"), rtol=0.1, atol=0.002)


def test_priors_are_called_what_they_are(line):
    X, y = line
    found = {}
    for name, (mean, sd) in {"conflict": (0, 0.2), "wide": (0, 50), "strong": (2.1, 0.001)}.items():
        model = HierarchicalSlopesRegressor(prior=Prior(coef=dist.Normal(mean, sd)), random_state=0)
        table = model.fit(X, y).prior_sensitivity()
        assert list(table.columns) == ["prior", "likelihood", "pareto_k", "diagnosis"]
        assert list(table.index) == ["intercept", "coef[x]", "noise_scale"]
        assert (table["pareto_k"] < 0.7).all()
        found[name] = table.loc["coef[x]", "diagnosis"]
    assert found == {"conflict": CONFLICT, "wide": "-", "strong": STRONG}


@pytest.mark.parametrize("alpha", [0.6, 1.6])
def test_weighted_draws_are_those_of_a_fit_with_powers_of_the_priors(of_sleepstudy, alpha):
    """N(m, s)^a = N(m, s / sqrt a), Exp(mean)^a = Exp(mean / a), LKJ(e)^a = LKJ(1 + a (e - 1))."""

    def numbers(a):
        normal, exponential = 0.5 / np.sqrt(a), 0.4 / a
        return Prior(normal, normal, exponential, exponential)

    base = of_sleepstudy(prior=numbers(1.0), eta=4.0)
    refitted = of_sleepstudy(prior=numbers(alpha), eta=1 + alpha * 3.0)
    assert_means_move_as_refitted(base, refitted, (alpha - 1) * parts(base)[0])


@pytest.mark.parametrize("alpha", [0.7, 1.4])
def test_powers_of_decov_are_those_of_its_size_and_shares(of_sleepstudy, alpha):
    """Gamma(k, s)^a = Gamma(1 + a (k - 1), s / a); Dirichlet(c)^a = Dirichlet(1 + a (c - 1))."""

    def prior(a):
        normal, exponential = 0.5 / np.sqrt(a), 0.5 / a
        concentration, shape = 1 + a * 2.0, 1 + a * 2.0
        return DecovPrior(normal, normal, exponential, concentration, shape, 0.1 / a)

    base = of_sleepstudy(prior=prior(1.0), eta=2.0)
    refitted = of_sleepstudy(prior=prior(alpha), eta=1 + alpha)
    assert_means_move_as_refitted(base, refitted, (alpha - 1) * parts(base)[0])


def test_power_of_the_likelihood_is_that_of_every_row(line):
    X, y = line
    prior = Prior(dist.Normal(1.0, 0.3), dist.StudentT(4.0, 1.0, 0.2), None, dist.HalfNormal(0.3))
    base = HierarchicalSlopesRegressor(prior=prior, random_state=0).fit(X, y)
    refitted = HierarchicalSlopesRegressor(prior=prior, random_state=0)
    refitted.fit(X, y, sample_weight=np.full(50, 1.5))
    assert_means_move_as_refitted(base, refitted, 0.5 * parts(base)[1])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("params", [{}, {"correlated": False}, {"slopes": None}, {"groups": None}])
def test_log_likelihood_is_the_dense_normals(people, short_run, params):
    X, y = people
    if "groups" in params:
        X = X[["x"]]
    model = short_run(**params).fit(X, y)
    x, draws = X["x"].to_numpy(), model.posterior_
    found = log_likelihood(model._fitted.posterior).reshape(2, 50)
    expected = np.empty(4)
    for s in range(4):
        cov = draws["noise_scale"][0, s] ** 2 * np.eye(80)
        if "groups" not in params:
            code = X["subject"].to_numpy()
            tau = draws["group_scale"]["subject"][0, s]
            sigma = np.outer(tau, tau) * draws["group_corr"]["subject"][0, s]
            z = np.column_stack([np.ones(80), x])[:, : len(tau)]
            cov += (z @ sigma @ z.T) * (code[:, None] == code)
        mean = draws["intercept"][0, s] + draws["coef"][0, s, 0] * x
        expected[s] = multivariate_normal.logpdf(y, mean, cov)
    assert_allclose(found[0, :4] - expected, found[0, 0] - expected[0], atol=1e-7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_engines_agree(people, short_run):
    """Within 5 standard errors: one table's sds over seeds are below 0.003 and 0.03."""

    def tables(inference):
        options = {"n_chains": 4, "n_warmup": 1000, "n_draws": 1000, "inference": inference}
        fits = [short_run(**options, random_state=seed).fit(*people) for seed in range(3)]
        return np.mean([f.prior_sensitivity()[["prior", "likelihood"]] for f in fits], axis=0)

    off = np.abs(tables("nuts") - tables("marginal"))
    assert np.all(off < 5 * np.array([0.003, 0.03]) * np.sqrt(2 / 3))


def test_pickles_keep_the_prior_of_the_fit(fitted):
    again = pickle.loads(pickle.dumps(fitted)).set_params(prior="brms", eta=9.0)
    pd.testing.assert_frame_equal(again.prior_sensitivity(), fitted.prior_sensitivity())


def test_weights_that_cannot_be_trusted_are_a_warning(fitted, monkeypatch):
    from skhier.estimators import _reports

    monkeypatch.setattr(_reports, "MAX_K_HAT", -9.0)
    with pytest.warns(UserWarning, match=r"Pareto k of the weights is .*cannot be trusted"):
        fitted.prior_sensitivity()


def test_flat_priors_count_nothing(line):
    X, y = line
    flat = dist.ImproperUniform(dist.constraints.real, (), ())
    prior = Prior(flat, flat, None, dist.Uniform(0.0, 100.0))
    table = HierarchicalSlopesRegressor(prior=prior, random_state=0).fit(X, y).prior_sensitivity()
    assert (table["prior"] < 1e-6).all()
    assert (table["likelihood"] > 0.05).all()
    assert (table["diagnosis"] == "-").all()


def test_a_constant_y_has_no_sensitivity(line):
    X, y = line
    with pytest.warns(UserWarning, match="y is constant"):
        model = HierarchicalSlopesRegressor(random_state=0).fit(X, np.ones_like(y))
    with pytest.raises(ValueError, match="y is constant"):
        model.prior_sensitivity()
