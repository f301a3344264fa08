"""A few weighted components against all of them, for components made by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reduced import population

from skhier.kernels.records import Components
from skhier.posterior.mixture import mixture_quantiles
from skhier.posterior.rule import rule_by_lines

N, Q = 3000, np.array([0.01, 0.05, 0.5, 0.95, 0.99])


def components(rng, heavy=False):
    """Weighted points of theta, one factor of two effects."""
    tails = rng.standard_t(3, size=(N, 3)) if heavy else rng.normal(size=(N, 3))
    scale = np.exp(0.3 * tails)
    root = np.zeros((N, 2, 2))
    root[:, 0, 0], root[:, 1, 1], root[:, 1, 0] = scale[:, 0], scale[:, 1], 0.3 * scale[:, 1]
    coef = rng.normal(size=(N, 2))
    return Components(rng.dirichlet(np.full(N, 2.0)), population(coef, scale[:, 2], (root,)))


def of_lines(mixture, rng, n_rows):
    """Means and sds of normals that depend on theta as lines do."""
    z = rng.normal(size=(n_rows, 2))
    sd = np.sqrt((np.einsum("na,sab->nsb", z, mixture.group_root[0]) ** 2).sum(2))
    shrinkage = sd**2 / (1 + sd**2)
    return shrinkage * (z @ mixture.coef.T), np.sqrt(sd**2 + 0.1)


def places_of(rule, mixture):
    """Which components the rule holds: coefficients are all different."""
    return [int(np.flatnonzero(mixture.coef[:, 0] == first).item()) for first in rule.coef[:, 0]]


@pytest.mark.parametrize("heavy", [False, True])
def test_rule_has_the_quantiles_of_all_at_other_rows(heavy):
    rng = np.random.default_rng(0)
    mixture = components(rng, heavy)
    rule, error = rule_by_lines(mixture, *of_lines(mixture, rng, 60))
    mean, sd = of_lines(mixture, rng, 50)
    at = places_of(rule, mixture)
    assert len(at) < 260
    assert error < 0.01
    assert_allclose(rule.weights.sum(), 1, rtol=1e-12)
    assert np.all(rule.weights > 0)
    few = mixture_quantiles(mean[:, at].T, sd[:, at].T, Q, rule.weights)
    every = mixture_quantiles(mean.T, sd.T, Q, mixture.weights)
    centre = mean @ mixture.weights
    spread = np.sqrt((sd**2 + (mean - centre[:, None]) ** 2) @ mixture.weights)
    assert np.abs((few - every) / spread[:, None]).max() < 0.02


def test_lines_without_spread_keep_all_components():
    rng = np.random.default_rng(1)
    mixture = components(rng)
    mean = rng.normal(size=(60, N))  # steps, of which few give no distribution
    rule, error = rule_by_lines(mixture, mean, np.zeros_like(mean))
    assert len(rule.weights) == N
    assert error == 0


def test_constant_lines_are_no_failure():
    mixture = components(np.random.default_rng(2))
    rule, _ = rule_by_lines(mixture, np.ones((60, N)), np.zeros((60, N)))
    assert len(rule.weights) <= 257


def test_rule_of_a_size_has_the_moments_of_theta():
    mixture, rng = components(np.random.default_rng(3)), np.random.default_rng(4)
    rule, _ = rule_by_lines(mixture, *of_lines(mixture, rng, 60), most=60)
    assert len(rule.weights) <= 60
    for part in (lambda c: c.coef[:, 0], lambda c: np.log(c.group_root[0][:, 0, 0])):
        of_all, of_few = part(mixture), part(rule)
        mean = mixture.weights @ of_all
        sd = np.sqrt(mixture.weights @ (of_all - mean) ** 2)
        assert abs(rule.weights @ of_few - mean) < 0.02 * sd
        assert abs(np.sqrt(rule.weights @ (of_few - mean) ** 2) / sd - 1) < 0.02
