"""Every response against SciPy, differences, quadrature and simulation."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, special, stats
from sklearn.base import clone

from skhier.responses import (
    Bernoulli,
    Binomial,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)

COUNTS, POSITIVE = np.array([0.0, 1.0, 4.0, 30.0]), np.array([0.02, 0.9, 4.0, 30.0])
YES_NO, NUMBERS = np.array([0.0, 1.0, 1.0, 0.0]), np.array([-3.0, 0.0, 2.5, 40.0])
LINE = np.array([-1.0, 0.3, 1.5, 2.0])


def case(response, own, y, law):
    """``law(line)``: SciPy's frozen distribution of y."""
    return SimpleNamespace(response=response, own=own, y=y, law=law)


def log_link(line):
    return np.exp(np.asarray(line, float))


CASES = {
    "logit": case(Bernoulli(), {}, YES_NO, lambda t: stats.bernoulli(special.expit(t))),
    "probit": case(Bernoulli("probit"), {}, YES_NO, lambda t: stats.bernoulli(special.ndtr(t))),
    "binomial": case(Binomial(), {}, YES_NO, lambda t: stats.bernoulli(special.expit(t))),
    "poisson": case(Poisson(), {}, COUNTS, lambda t: stats.poisson(log_link(t))),
    "negative_binomial": case(
        NegativeBinomial(),
        {"dispersion": 1.7},
        COUNTS,
        lambda t: stats.nbinom(1.7, 1.7 / (1.7 + log_link(t))),
    ),
    "gamma": case(
        Gamma(), {"shape": 2.6}, POSITIVE, lambda t: stats.gamma(2.6, scale=log_link(t) / 2.6)
    ),
    "student_t": case(
        StudentT(), {"df": 4.5, "noise_scale": 1.7}, NUMBERS, lambda t: stats.t(4.5, t, 1.7)
    ),
    "lognormal": case(
        LogNormal(),
        {"noise_scale": 0.7},
        POSITIVE,
        lambda t: stats.lognorm(0.7, scale=log_link(t)),
    ),
    "normal": case(Normal(), {"noise_scale": 1.7}, NUMBERS, lambda t: stats.norm(t, 1.7)),
}
of_each = pytest.mark.parametrize("each", CASES.values(), ids=list(CASES))
of_discrete = pytest.mark.parametrize(
    "each", [c for c in CASES.values() if c.response.discrete], ids=lambda c: repr(c.response)
)
of_continuous = pytest.mark.parametrize(
    "each", [c for c in CASES.values() if not c.response.discrete], ids=lambda c: c.response.name
)


def slope(function, line, step=1e-3):
    """Derivative by differences of order eight; rounding leaves some 1e-13 / step."""
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    return (
        sum(w * (function(line + k * step) - function(line - k * step)) for k, w in weights.items())
        / step
    )


@of_each
def test_density_is_scipys(each):
    law = each.law(LINE)
    truth = law.logpmf(each.y) if each.response.discrete else law.logpdf(each.y)
    assert_allclose(
        each.response.log_density(each.y, LINE, each.own), truth, rtol=1e-12, atol=1e-13
    )


@of_each
def test_score_curvature_and_third_are_derivatives_in_the_line(each):
    response, y, own = each.response, each.y, each.own
    # rounding of a density of size s, over the step of the differences
    size = 1e-12 * np.abs(response.log_density(y, LINE, own)).max() + 1e-12
    for lower, upper, sign in [
        (response.log_density, response.score, 1),
        (response.score, response.curvature, -1),
        (response.curvature, response.third, 1),
    ]:
        truth = slope(lambda t, f=lower: f(y, t, own), LINE)
        assert_allclose(sign * upper(y, LINE, own), truth, rtol=1e-8, atol=100 * size)


@of_each
def test_functions_of_the_density_are_the_same_in_jax(each):
    import jax
    import jax.numpy as jnp

    line = np.array([-30.0, 0.3, 1.5, 6.0])
    with jax.enable_x64(True):
        for name in ("log_density", "score", "curvature", "third"):
            function = getattr(each.response, name)
            in_jax = jax.jit(lambda y, t, own, f=function: f(y, t, own, xp=jnp))
            assert_allclose(
                in_jax(each.y, line, each.own),
                function(each.y, line, each.own),
                rtol=1e-9,
                atol=1e-11,
                err_msg=name,
            )
        gradient = jax.grad(lambda t: each.response.log_density(each.y, t, each.own, jnp).sum())
        assert_allclose(
            gradient(line), each.response.score(each.y, line, each.own), rtol=1e-7, atol=1e-9
        )


@pytest.mark.parametrize("name", ["negative_binomial", "gamma", "student_t", "lognormal"])
@pytest.mark.parametrize("factor", [0.3, 1.0, 50.0])
def test_gradients_in_own_parameters_are_those_of_differences(name, factor):
    import jax
    import jax.numpy as jnp

    response, y = CASES[name].response, CASES[name].y
    own = {key: factor * value for key, value in CASES[name].own.items()}
    with jax.enable_x64(True):
        total = jax.grad(lambda o: response.log_density(y, LINE, o, jnp).sum())(own)
    for key in own:
        truth = slope(
            lambda v, key=key: response.log_density(y, LINE, {**own, key: v}).sum(), own[key]
        )
        assert_allclose(total[key], truth, rtol=1e-7, atol=1e-8)


@of_each
def test_rows_of_zero_and_no_weight_add_nothing(each):
    line = np.array([-700.0, 0.0, 700.0])
    for name in ("log_density", "score", "curvature", "third"):
        with np.errstate(over="ignore"):
            assert np.all(0.0 * getattr(each.response, name)(0.0, line, each.own) == 0)


@of_each
def test_parameters_broadcast_over_draws(each):
    own = {name: np.array([[1.2], [v]]) for name, v in each.own.items()}
    line = np.stack([LINE, LINE])
    expected = each.response.log_density(each.y, LINE, each.own)
    assert_allclose(each.response.log_density(each.y, line, own)[1], expected)
    assert np.shape(each.response.variance_over(line, 0.3, own)) == (2, 4)
    assert each.response.draw(line, own, np.random.default_rng(0)).shape == (2, 4)


@of_discrete
def test_probabilities_sum_to_one_and_to_the_distribution_function(each):
    values = np.arange(2.0 if each.y is YES_NO else 4000.0)
    for line in LINE:
        masses = np.exp(each.response.log_density(values, line, each.own))
        assert_allclose(masses.sum(), 1.0, rtol=1e-12)
        cdf = each.response.cdf(values, line, each.own)
        assert_allclose(cdf, np.cumsum(masses), rtol=1e-10)
    assert each.response.cdf(-0.5, LINE[0], each.own) == 0
    assert_allclose(each.response.cdf(values + 0.5, line, each.own), cdf)


@of_continuous
def test_densities_integrate_to_the_distribution_function(each):
    assert_allclose(
        each.response.cdf(each.y, LINE, each.own), each.law(LINE).cdf(each.y), rtol=1e-12
    )
    for line in LINE:

        def density(y, t=line):
            return np.exp(each.response.log_density(y, t, each.own))

        low, middle = each.law(line).support()[0], each.law(line).median()
        total = sum(integrate.quad(density, a, b)[0] for a, b in [(low, middle), (middle, np.inf)])
        assert_allclose(total, 1.0, atol=1e-7)


@of_each
def test_moments_are_scipys(each):
    assert_allclose(each.response.mean(LINE, each.own), each.law(LINE).mean(), rtol=1e-13)
    assert_allclose(each.response.variance(LINE, each.own), each.law(LINE).var(), rtol=1e-12)


@pytest.mark.parametrize("sd", [0.0, 0.1, 0.7, 1.9, 2.1, 6.0])
@of_each
def test_moments_over_lines_are_those_of_quadrature(each, sd):
    response, own = each.response, each.own
    # (nodes for the logit with an sd near 2 are good to 1e-5)
    tolerance = {"rtol": 2e-5} if response.link == "logit" else {"rtol": 1e-8}
    sd = sd if response.link in ("logit", "probit") else sd / 3
    for mean in LINE:

        def average(function, mean=mean):
            if sd == 0:
                return function(mean)
            # e^(2 line) shifts the mass by 2 sd^2
            ends = mean - 12 * sd, mean + 12 * sd + 2 * sd**2
            at = {"limit": 400, "epsabs": 1e-13, "points": [mean, 0.0]}
            return integrate.quad(lambda t: function(t) * stats.norm.pdf(t, mean, sd), *ends, **at)[
                0
            ]

        first = average(lambda t: response.mean(t, own))
        second = average(lambda t: response.mean(t, own) ** 2 + response.variance(t, own))
        assert_allclose(response.mean_over(mean, sd, own), first, **tolerance)
        variance = response.variance_over(mean, sd, own)
        assert_allclose(variance, second - first**2, rtol=10 * tolerance["rtol"])
        both = response.over_lines(mean, sd, own)
        assert_allclose(both, (first, np.sqrt(variance)), **tolerance)


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize("sd", [0.5, 3.0])
def test_shares_over_lines_have_the_spread_of_trials_and_lines(link, sd):
    response, mean, trials = Binomial(link), 0.8, 7

    def average(function):
        density = stats.norm(mean, sd).pdf
        return integrate.quad(
            lambda t: function(response.mean(t, {})) * density(t), -40, 40, limit=400
        )[0]

    spread = average(lambda p: p * (1 - p) / trials)
    spread += average(np.square) - average(lambda p: p) ** 2
    assert_allclose(response.variance_over(mean, sd, {}, weights=trials), spread, rtol=1e-5)


@of_continuous
def test_draws_have_the_distribution_function(each):
    line = np.full(4000, 0.4)
    draws = each.response.draw(line, each.own, np.random.default_rng(3))
    uniform = each.response.cdf(draws, line, each.own)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3


@of_discrete
def test_draws_have_the_probabilities(each):
    n = 20_000
    draws = each.response.draw(np.full(n, 0.4), each.own, np.random.default_rng(3))
    values = np.arange(draws.max() + 1)
    expected = n * np.exp(each.response.log_density(values, 0.4, each.own))
    common = expected > 5
    observed = np.array([np.sum(draws == value) for value in values])
    chi_square = np.sum((observed - expected)[common] ** 2 / expected[common])
    assert stats.chi2.sf(chi_square, common.sum() - 1) > 1e-3


@of_each
def test_extreme_lines_and_targets_stay_finite(each):
    import jax
    import jax.numpy as jnp

    y = each.y if each.y is YES_NO else np.array([0.0, 1.0, 1e3, 1e6])
    y = np.maximum(y, 1e-300) if each.y is POSITIVE else y
    line = np.array([[-700.0], [-40.0], [0.0], [40.0], [700.0]])
    with jax.enable_x64(True):
        for xp in (np, jnp):
            for name in ("log_density", "score", "curvature", "third"):
                values = getattr(each.response, name)(y, xp.asarray(line), each.own, xp=xp)
                assert np.all(np.isfinite(values)), (name, xp)
    assert np.all(np.isfinite(each.response.mean(line, each.own)))
    assert np.all(np.isfinite(each.response.draw(line, each.own, np.random.default_rng(0))))
    assert np.all(np.isfinite(each.response.cdf(y, line, each.own)))


def test_probit_keeps_its_digits_in_the_tails():
    # Mills's ratio: h = x + 1/x - 2/x^3 + 10/x^5 - ..., x = -t
    t, h = -700.0, 700 + 1 / 700 - 2 / 700**3
    probit = Bernoulli("probit")
    assert_allclose(probit.score(1.0, t, {}), h, rtol=1e-14)
    assert_allclose(probit.curvature(1.0, t, {}), 1 - 1 / 700**2 + 6 / 700**4, rtol=1e-14)
    assert_allclose(probit.third(1.0, t, {}), -2 / 700**3, rtol=1e-4)
    assert_allclose(probit.log_density(0.0, 700.0, {}), stats.norm.logsf(700.0), rtol=1e-14)
    for name in ("log_density", "score", "curvature", "third"):  # where the two forms meet
        below, above = (getattr(probit, name)(1.0, -5 + e, {}) for e in (-1e-9, 1e-9))
        assert_allclose(below, above, rtol=1e-7, atol=0)


def test_logit_keeps_its_digits_in_the_tails():
    line = np.array([-40.0, 40.0])
    y = np.array([0.0, 1.0])
    for name in ("score", "curvature", "log_density"):
        size = np.abs(getattr(Bernoulli(), name)(y, line, {}))
        assert_allclose(size, np.exp(-40.0), rtol=1e-12)


@pytest.mark.parametrize("phi", [1e-3, 3.0, 9.99, 10.01, 1e3, 1e8, 1e12])
def test_negative_binomial_nears_poisson_with_its_digits(phi):
    """Products in place of gamma functions: ``prod (phi + j) / (1 + j)``."""
    y = np.array([0, 1, 5, 40])
    rising = [np.sum(np.log1p((phi - 1) / (1 + np.arange(k)))) for k in y]
    truth = rising + y * np.log(2 / (2 + phi)) - phi * np.log1p(2 / phi)
    at = {"dispersion": phi}
    assert_allclose(NegativeBinomial().log_density(y, np.log(2), at), truth, rtol=1e-11, atol=1e-13)
    if phi > 1e10:
        assert_allclose(truth, stats.poisson(2).logpmf(y), rtol=1e-8)


@pytest.mark.parametrize("df", [1.0, 30.0, 1e9])
def test_student_t_is_scipys_from_cauchy_to_normal(df):
    own = {"df": df, "noise_scale": 1.0}
    law = stats.norm if df > 1e8 else stats.t(df)
    y = np.array([0.0, 1.0, 3.0])
    assert_allclose(StudentT().log_density(y, 0.0, own), law.logpdf(y), rtol=3e-8)
    assert np.isinf(StudentT().variance(0.0, {**own, "df": 2.0}))


def test_binomial_rows_are_scipys_with_trials():
    trials, events = np.array([3.0, 1.0, 20.0, 5.0]), np.array([0.0, 1.0, 7.0, 5.0])
    share, response, p = events / trials, Binomial(), special.expit(LINE)
    density = trials * response.log_density(share, LINE, {})
    truth = stats.binom(trials, p)
    rows = density + response.row_normaliser(share, trials)
    assert_allclose(rows, truth.logpmf(events), rtol=1e-12)
    assert_allclose(response.log_normaliser(share, trials), np.sum(truth.logpmf(events) - density))
    assert_allclose(response.cdf(share, LINE, {}, trials), truth.cdf(events), rtol=1e-12)
    assert_allclose(response.cdf(share - 1e-3, LINE, {}, trials), truth.cdf(events - 1), rtol=1e-12)
    assert_allclose(response.variance(LINE, {}, trials), truth.var() / trials**2)
    assert_array_equal(response.support_step(trials), 1 / trials)
    draws = response.draw(np.broadcast_to(LINE, (5000, 4)), {}, np.random.default_rng(0), trials)
    error = np.sqrt(truth.var() / trials**2 / 5000)
    assert np.all(np.abs(draws.mean(0) - p) < 5 * error)


BAD = {
    "bernoulli": (Bernoulli(), [0, 1, 2, 0.5], r"0 or 1; 2 of 4 rows are not \(row 2: 2, row 3"),
    "poisson": (Poisson(), [0, -1, 2, 0.5], r"counts .*; 2 of 4 rows are not \(row 1: -1, row 3"),
    "negative": (NegativeBinomial(), [0, 0.5], r"negative_binomial response must be counts"),
    "gamma": (Gamma(), [1, 0, -2], r"positive; 2 of 3 rows are not \(row 1: 0, row 2: -2\)"),
    "lognormal": (LogNormal(), [1, 0], r"positive; 1 of 2 rows"),
    "binomial": (Binomial(), [0, 1.5], r"shares in \[0, 1\]; 1 of 2 rows are not \(row 1: 1\.5"),
}


@pytest.mark.parametrize(("response", "y", "message"), BAD.values(), ids=list(BAD))
def test_impossible_targets_are_named(response, y, message):
    with pytest.raises(ValueError, match=message):
        response.check_target(np.array(y, float))


def test_binomial_asks_for_whole_trials_and_events():
    y = np.array([1 / 3, 0.5])
    Binomial().check_target(y, np.array([3.0, 2.0]))
    Binomial().check_target(y.astype(np.float32).astype(float), np.array([3000.0, 2.0]))
    with pytest.raises(ValueError, match=r"trials and must be whole.*1 of 2.*2\.5 in row 1"):
        Binomial().check_target(y, np.array([3.0, 2.5]))
    with pytest.raises(ValueError, match=r"whole number of events.*row 0: 0\.333"):
        Binomial().check_target(y, np.array([4.0, 2.0]))


@of_each
def test_possible_targets_pass(each):
    each.response.check_target(each.y, np.ones(4))
    each.response.check_target(np.ones(3))  # one class, say: the prior's work


@of_each
def test_responses_are_parameter_objects(each):
    response = each.response
    copy = clone(response)
    assert type(copy) is type(response)
    assert copy.get_params() == response.get_params()
    assert copy.kind == response.kind
    assert hash(copy.kind) == hash(response.kind)
    assert type(pickle.loads(pickle.dumps(response))) is type(response)
    rebuilt = response.kind.response()
    assert_array_equal(
        rebuilt.log_density(each.y, LINE, each.own), response.log_density(each.y, LINE, each.own)
    )
    assert set(response.parameters) == set(each.own)
    assert response.sampled == tuple(response.parameters)


def test_starts_are_finite_for_zeros_and_one_class():
    zeros, ones = np.zeros(10), np.ones(10)
    for response in (Bernoulli(), Bernoulli("probit"), Binomial()):
        assert response.start(zeros) == pytest.approx(-response.start(ones))
        assert np.isfinite(response.start(zeros))
    for response in (Poisson(), NegativeBinomial()):
        assert response.start(zeros) == pytest.approx(np.log(0.05))
    y, weights = np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0])
    assert Poisson().start(y, weights) == pytest.approx(np.log(15 / 4))
    assert Gamma().start(y, weights) == pytest.approx(np.log(15 / 4))
    assert Normal().start(y, weights) == pytest.approx(15 / 4)
    assert LogNormal().start(y) == pytest.approx(np.log(12) / 3)
    assert StudentT().start(np.array([1e9, 3.0, 1.0])) == 3.0


@of_each
def test_link_of_the_mean_is_the_line(each):
    if each.response.name == "lognormal":  # the line is that of the median
        return
    assert_allclose(each.response.link_of(each.response.mean(LINE, each.own)), LINE, rtol=1e-12)
    assert np.all(np.isfinite(each.response.link_of(np.array([0.0, 1.0]))))


def test_latent_variances_are_those_of_the_paper():
    """Nakagawa, Johnson & Schielzeth (2017); log of a gamma has variance trigamma(shape)."""
    assert Bernoulli().latent_variance({}, 0.3) == pytest.approx(np.pi**2 / 3)
    assert Bernoulli("probit").latent_variance({}, 0.3) == 1
    logs = np.log(stats.gamma(2.6).rvs(200_000, random_state=1))
    gamma = Gamma().latent_variance({"shape": 2.6}, 1.0)
    assert gamma == pytest.approx(logs.var(), abs=5 * gamma * np.sqrt(5 / 200_000))
    assert Poisson().latent_variance({}, 2.0) == pytest.approx(special.zeta(2, 2.0))
    negative = NegativeBinomial().latent_variance({"dispersion": 1.5}, 2.0)
    assert negative == pytest.approx(special.zeta(2, 1 / (1 / 2 + 1 / 1.5)))
    assert Normal().latent_variance({"noise_scale": 2.0}, 0.0) == 4
    assert LogNormal().latent_variance({"noise_scale": 2.0}, 3.0) == 4
    heavy = StudentT().latent_variance({"noise_scale": 2.0, "df": 4.0}, 0.0)
    assert heavy == pytest.approx(stats.t(4, scale=2).var())


def test_scales_follow_y_where_the_line_does():
    own = {"noise_scale": 2.0, "df": 4.0}
    assert StudentT().scaled(own, 10.0) == {"noise_scale": 20.0, "df": 4.0}
    assert Gamma().scaled({"shape": 3.0}, 10.0) == {"shape": 3.0}
    assert StudentT().spread(own) == 2.0
    assert Poisson().spread({}) == 1.0
