"""Programs of a size class: what they say of a problem is what its own program says."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import thetas
from numpy.testing import assert_allclose
from runs import SHORT, budget, slow, spending

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.inference import engines, nuts, runtime
from skhier.inference.importance import Mixture
from skhier.inference.size_classes import size_of_class
from skhier.inference.target import Marginal

ALONE, OF_CLASS = budget(effect_classes=()), budget(effect_classes=(8,))


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


STUDENT = dist.StudentT(4.0, np.zeros(6), np.linspace(1.0, 3.0, 6))
HALF_CAUCHY = dist.HalfCauchy(np.linspace(0.5, 2.0, 7))
CASES = {
    "default": {},
    "some slopes": {"slopes": ["x4", "x0", "x1", "x2"]},
    "independent": {"correlated": False},
    "bambi": {"prior": "bambi"},
    "vectors in the user's units": {"prior": Prior(coef=STUDENT, group_scale=HALF_CAUCHY)},
    "an intercept apart": {
        "prior": Prior(intercept=dist.StudentT(3.0, 1.0, 2.0), group_scale={"intercept": 0.5})
    },
}


def both(monkeypatch, n_factors=1, **settings):
    """Theta by its own program and by that of its class."""
    X, y = thetas.table(6, n_factors, slope_sd=0.5)
    X = X.rename(columns={"g0": "g0"})
    alone = thetas.theta_of(monkeypatch, X, y, budget=ALONE, **settings)
    of_class = thetas.theta_of(monkeypatch, X, y, budget=OF_CLASS, **settings)
    assert alone.placement is None and of_class.placement is not None
    return alone, of_class


@pytest.mark.parametrize("name", ["default", "some slopes", *slow(*list(CASES)[2:])])
def test_program_of_a_class_says_what_a_problems_own_does(monkeypatch, name):
    alone, of_class = both(monkeypatch, **CASES[name])
    points = 0.7 * np.random.default_rng(0).standard_normal((5, alone.size))
    assert of_class.size == alone.size < of_class.placement.size
    expected = alone.log_densities(points)
    assert_allclose(of_class.log_densities(points), expected, rtol=1e-10)
    assert_allclose(
        of_class.gradients(points[:2])[1], alone.gradients(points[:2])[1], rtol=1e-7, atol=1e-7
    )
    for (_, one), (_, other) in zip(
        of_class.conditionals(points), alone.conditionals(points), strict=True
    ):
        covs = [root @ np.swapaxes(root, 1, 2) for root in (one.coef_root, other.coef_root)]
        assert_allclose(*covs, rtol=1e-8, atol=1e-12)
        parts = one._replace(coef_root=None), other._replace(coef_root=None)
        assert_leaves_close(*parts)


def assert_leaves_close(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["some slopes", *slow("default", "an intercept apart")])
def test_everything_but_the_program_is_the_problems_own(monkeypatch, name):
    alone, of_class = both(monkeypatch, **CASES[name])
    assert of_class.priors.sites == alone.priors.sites
    assert_leaves_close(of_class.priors.modes, alone.priors.modes)
    assert_allclose(of_class.steps, alone.steps)
    assert_leaves_close(of_class.units, alone.units)
    assert_allclose(of_class._structured_starts(), alone._structured_starts(), atol=1e-12)
    near_zero = np.arange(alone.size) % 2 == 0
    assert_leaves_close(of_class.signs(near_zero), alone.signs(near_zero))
    mode = 0.3 * np.random.default_rng(1).standard_normal(alone.size)
    nowhere = np.zeros(alone.size, bool)
    assert_leaves_close(of_class.bartlett(mode, nowhere), alone.bartlett(mode, nowhere))
    (basis, _, rows, _), (own_basis, _, own_rows, _) = of_class.coef_prior, alone.coef_prior
    assert_allclose(basis @ np.linalg.solve(rows[:, :-1], rows[:, -1]), (
        own_basis @ np.linalg.solve(own_rows[:, :-1], own_rows[:, -1])), atol=1e-10)


def coordinates_of(theta, kind, mode):
    if kind == "signs":
        return theta.signs(np.arange(theta.size) % 2 == 0)
    bartlett = theta.bartlett(mode, np.zeros(theta.size, bool))
    return bartlett if kind == "Bartlett" else bartlett.in_partials()


@pytest.mark.parametrize("kind", ["signs", "Bartlett", "partials"])
def test_chains_of_a_class_see_the_problems_density(monkeypatch, kind):
    """In each kind of coordinates, to the constant that their draws are given back without."""
    alone, of_class = both(monkeypatch, slopes=["x0", "x1", "x2", "x3"])
    rng, d = np.random.default_rng(2), alone.size
    mode = 0.3 * rng.standard_normal(d)
    coordinates = coordinates_of(alone, kind, mode)
    root = np.eye(d) + 0.05 * rng.standard_normal((d, d))
    modes = Mixture(np.ones(1), 0.1 * mode[None], 0.1 * root[None])
    ((_, frame),) = engines.frames_of(modes, of_class.data, 1, coordinates)
    placement = of_class.placement
    padded = placement.frame(frame)
    target, position = Marginal(of_class.program_spec), rng.standard_normal((d,))
    density = jax.jit(target.log_density)
    there = placement.points(position)
    point = 0.1 * (mode + root @ position)
    expected = coordinates.density(alone.log_densities)(point[None])[0]
    assert_allclose(density(padded, there) - placement.log_spare, expected, rtol=1e-10)
    assert_allclose(target.record(padded, there)[placement.entries], point)
    held = np.setdiff1d(np.arange(placement.size), placement.entries)
    assert not target.moving(padded)[held].any() and target.moving(padded).sum() == d
    elsewhere = there + np.isin(np.arange(placement.size), held)
    assert density(padded, elsewhere) == density(padded, there)
