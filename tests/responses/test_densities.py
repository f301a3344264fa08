"""Densities of every response against SciPy, differences and JAX, to the ends of float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from response_cases import CASES, LINE, POSITIVE, YES_NO, of_continuous, of_discrete, of_each
from scipy import integrate, stats

from skhier.responses import Bernoulli, NegativeBinomial, StudentT


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
