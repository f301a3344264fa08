"""Quantiles of a mixture of normals plus heavy-tailed noise, against dense integration."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skhier.posterior.noise_sums import quantiles_of_sums
from skhier.posterior.own_nodes import own_nodes
from skhier.posterior.response_quantiles import response_quantiles
from skhier.responses import StudentT
from skhier.utils.budget import USUAL

LEVELS = np.array([0.005, 0.05, 0.5, 0.95, 0.995])
C = 12


def components(df, scale, seed=0, n_rows=1):
    """Own parameters that vary together, and lines that vary with them."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(C, 1))
    mean = 0.3 * rng.normal(size=(C, n_rows)) + 0.2 * shared
    sd = np.exp(0.3 * rng.normal(size=(C, n_rows)))
    own = {
        "noise_scale": scale * np.exp(0.05 * shared + 0.03 * rng.normal(size=(C, 1))),
        "df": df * np.exp(0.2 * shared + 0.1 * rng.normal(size=(C, 1))),
    }
    return mean, sd, own, rng.dirichlet(np.full(C, 2.0))


def dense(mean, sd, own, weights, y):
    """P(Y <= y) of one row: over the narrower of the two, finely, of what the other has below."""
    below = 0.0
    for m, s, df, scale, weight in zip(
        mean, sd, own["df"][:, 0], own["noise_scale"][:, 0], weights, strict=True
    ):
        if s < 3 * scale:
            u = np.linspace(-8, 8, 4001)
            mass = np.exp(-0.5 * u**2)
            of_one = mass @ stats.t.cdf((y - m - s * u) / scale, df) / mass.sum()
        else:
            v = np.linspace(-22, 22, 8001)
            mass = stats.t.pdf(np.sinh(v), df) * np.cosh(v) * (v[1] - v[0])
            of_one = mass @ stats.norm.cdf((y - m - scale * np.sinh(v)) / s)
        below += weight * of_one
    return below


@pytest.mark.parametrize("scale", [0.02, 0.4, 4.0])
@pytest.mark.parametrize("df", [2.2, 4.0, 60.0])
def test_quantiles_are_those_of_dense_integration(df, scale):
    row = components(df, scale)
    mean, sd, own, weights = row
    out, others = quantiles_of_sums(StudentT(), *row, LEVELS, USUAL.memory)
    assert not others.any()
    size = np.sqrt((sd**2).mean() + scale**2)
    one = mean[:, 0], sd[:, 0], own, weights
    for level, y in zip(LEVELS, out[0], strict=True):
        below, step = dense(*one, y), 1e-3 * size
        slope = (dense(*one, y + step) - dense(*one, y - step)) / (2 * step)
        assert abs(below - level) < 1e-5
        assert abs(below - level) / slope < 1e-3 * size


def test_quantiles_are_those_of_draws():
    row = components(3.0, 0.7)
    mean, sd, own, weights = row
    rng, n = np.random.default_rng(1), 400_000
    of = rng.choice(C, n, p=weights)
    noise = own["noise_scale"][of, 0] * rng.standard_t(own["df"][of, 0])
    y = mean[of, 0] + sd[of, 0] * rng.normal(size=n) + noise
    out, _ = quantiles_of_sums(StudentT(), *row, LEVELS, USUAL.memory)
    error = np.sqrt(LEVELS * (1 - LEVELS) / n)
    assert (np.abs((y[:, None] <= out).mean(0) - LEVELS) < 5 * error).all()


def test_rows_do_not_depend_on_each_other():
    mean, sd, own, weights = components(4.0, 0.3, n_rows=6)
    sd = sd * np.array([1.0, 10.0, 0.1, 1.0, 50.0, 1e-3])
    together = response_quantiles(StudentT(), mean, sd, own, weights, LEVELS, USUAL.memory)
    for i in range(6):
        one = mean[:, [i]], sd[:, [i]], own, weights, LEVELS, USUAL.memory
        assert_allclose(response_quantiles(StudentT(), *one), together[[i]], rtol=1e-9)


def test_lines_that_are_points_have_the_average_of_the_noise():
    mean, sd, own, weights = components(4.0, 0.3)
    out = response_quantiles(StudentT(), mean, 0 * sd, own, weights, LEVELS, USUAL.memory)
    below = [
        weights @ stats.t.cdf((y - mean[:, 0]) / own["noise_scale"][:, 0], own["df"][:, 0])
        for y in out[0]
    ]
    assert_allclose(below, LEVELS, atol=1e-9)


def test_noise_is_asked_for_tables_alone(monkeypatch):
    """The distribution function of the noise costs as much for a thousand rows as for one."""
    asked = []
    usual = StudentT.cdf

    def counted(self, y, line, own, weights=None):
        asked.append(np.size(y))
        return usual(self, y, line, own, weights)

    monkeypatch.setattr(StudentT, "cdf", counted)
    for n_rows in (1, 1000):
        row = components(4.0, 0.5, n_rows=n_rows)
        response_quantiles(StudentT(), *row, LEVELS, USUAL.memory)
    assert sum(asked[: len(asked) // 2]) == sum(asked[len(asked) // 2 :]) < 50_000


@pytest.mark.parametrize("varying", [["a"], ["a", "b"]])
def test_averages_of_polynomials_are_exact(varying):
    """Of logs of own parameters, and what goes with them; others stay."""
    rng = np.random.default_rng(2)
    log_a, with_a = 0.3 * rng.normal(size=30), rng.normal(size=30)
    log_b = 0.5 * log_a + 0.2 * rng.normal(size=30) if "b" in varying else np.zeros(30)
    own = {"a": np.exp(log_a)[:, None], "b": np.exp(log_b)[:, None], "c": np.full((30, 1), 2.0)}
    weights = rng.dirichlet(np.ones(30))
    nodes, shares = own_nodes(own, varying, weights)
    assert all(at["c"] == 2.0 for at in nodes)
    assert_allclose(shares.sum(0), weights, atol=1e-12)
    for power_a, power_b in ((1, 0), (2, 0), (0, 2), (1, 1)):
        at_nodes = [np.log(at["a"]) ** power_a * np.log(at["b"]) ** power_b for at in nodes]
        exact = weights @ (with_a * log_a**power_a * log_b**power_b)
        assert_allclose(at_nodes @ (shares @ with_a), exact, atol=1e-12)
