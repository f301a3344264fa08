"""Mode and curvature of densities whose mode and curvature are known."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from skhier.inference.mode import (
    STEP,
    find_modes,
    from_gradients,
    from_values,
    laplace,
    lowest,
    on_other_hills,
)
from skhier.utils.budget import USUAL

EPS = np.finfo(float).eps
SEARCH = USUAL.search


class Normal:
    """Log density and gradient of a normal, up to a constant."""

    def __init__(self, d, seed=0, constant=0.0):
        rng = np.random.default_rng(seed)
        sd = np.geomspace(0.05, 2, d) if d > 1 else np.array([0.3])
        corr = 0.9 + 0.1 * np.eye(d)
        self.mean = rng.normal(size=d)
        self.cov = corr * np.outer(sd, sd)
        self.precision = np.linalg.inv(self.cov)
        self.constant = constant

    def values(self, x):
        off = x - self.mean
        return self.constant - 0.5 * np.einsum("ni,ij,nj->n", off, self.precision, off)

    def with_gradient(self, x):
        return self.values(x), -(x - self.mean) @ self.precision


class LogGammas:
    """Independent logarithms of gamma variables, a_j theta_j - exp(theta_j), and a product."""

    a = np.array([0.5, 2.0, 9.0])

    def values(self, x):
        return x @ self.a - np.exp(x).sum(1) - 0.1 * (x[:, 0] * x[:, 1]) ** 2

    def gradient(self, x):
        found = self.a - np.exp(x)
        found[:, 0] -= 0.2 * x[:, 0] * x[:, 1] ** 2
        found[:, 1] -= 0.2 * x[:, 1] * x[:, 0] ** 2
        return found

    def hessian(self, x):
        found = -np.diag(np.exp(x))
        found[0, 0] -= 0.2 * x[1] ** 2
        found[1, 1] -= 0.2 * x[0] ** 2
        found[0, 1] = found[1, 0] = -0.4 * x[0] * x[1]
        return found


def by_values(target):
    return lambda x: from_values(target.values, x)


def by_gradients(target):
    return lambda x: from_gradients(target.with_gradient, x)


def rng():
    return np.random.default_rng(0)


def test_last_step_to_a_near_mode_is_made_without_a_look():
    target, budget = LogGammas(), replace(SEARCH, near_mode=0.3)
    looks = []

    def derivatives(x):
        looks.append(x)
        return from_values(target.values, x)

    start = np.array([0.2, 0.3, 1.0])
    (exact,) = find_modes(target.values, derivatives, start[None], rng())
    n_looks = len(looks)
    looks.clear()
    (near,) = find_modes(target.values, derivatives, start[None], rng(), budget=budget)
    assert len(looks) == n_looks - 1
    away = np.linalg.solve(exact.normal.root, near.normal.mean - exact.normal.mean)
    before = np.linalg.solve(exact.normal.root, looks[-1] - exact.normal.mean)
    assert np.linalg.norm(away) < 0.3 * np.linalg.norm(before) < 0.3**2
    assert_allclose(near.log_density, exact.log_density, atol=0.3**3)


def test_derivatives_match_calculus():
    target, at = LogGammas(), np.array([0.3, -1.2, 1.9])
    target.with_gradient = lambda x: (target.values(x), target.gradient(x))
    for found in (by_values(target)(at), by_gradients(target)(at)):
        # the error of a central difference is STEP^2 times a third or fourth derivative
        assert_allclose(found.value, target.values(at[None])[0], rtol=1e-14)
        assert_allclose(found.gradient, target.gradient(at[None])[0], atol=10 * STEP**2)
        assert_allclose(found.hessian, target.hessian(at), atol=10 * STEP**2)
        assert_allclose(found.hessian, found.hessian.T)


def test_values_are_asked_for_all_at_once():
    asked = []

    def values(x):
        asked.append(len(x))
        return -(x**2).sum(1)

    from_values(values, np.zeros(4))
    assert asked == [4**2 + 4 + 1]


def test_curvature_survives_the_size_of_a_log_likelihood():
    target = Normal(3, constant=-1e6)
    found = from_values(target.values, target.mean)
    # up to six values, each rounded to the last place of 1e6
    assert_allclose(found.hessian, -target.precision, rtol=1e-6, atol=6 * EPS * 1e6 / STEP**2)


@pytest.mark.parametrize("derivatives", [by_values, by_gradients])
@pytest.mark.parametrize("d", [1, 2, 6])
def test_normal_is_found_exactly(d, derivatives):
    target = Normal(d)
    found = laplace(derivatives(target), np.zeros(d), rng())
    assert np.linalg.norm(target.precision @ (found.mean - target.mean)) <= 1.01 * SEARCH.tolerance
    assert_allclose(found.root @ found.root.T, target.cov, rtol=1e-4)


def test_distant_mode_is_found():
    target = Normal(2)
    target.mean = np.array([60.0, -30.0])
    found = laplace(by_values(target), np.zeros(2), rng())
    assert np.linalg.norm(target.precision @ (found.mean - target.mean)) <= 1.01 * SEARCH.tolerance


def test_skewed_density_has_its_mode_and_curvature():
    """theta = log g, g ~ Gamma(a): the mode is log a, the curvature a."""
    a = np.array([0.5, 2.0, 9.0])
    found = laplace(
        lambda x: from_values(lambda t: t @ a - np.exp(t).sum(1), x), np.zeros(3), rng()
    )
    # the gradient is a - exp(theta)
    assert_allclose(np.exp(found.mean), a, atol=1.01 * SEARCH.tolerance)
    cov = found.root @ found.root.T
    assert_allclose(np.linalg.inv(cov), np.diag(np.exp(found.mean)), atol=1e-4)


def test_flat_direction_is_capped():
    """The density does not depend on theta_1 - theta_0."""
    found = laplace(lambda x: from_values(lambda t: -0.5 * t.sum(1) ** 2, x), np.zeros(2), rng())
    flat, steep = np.array([1, -1]) / np.sqrt(2), np.array([1, 1]) / np.sqrt(2)
    cov = found.root @ found.root.T
    assert_allclose(flat @ cov @ flat, SEARCH.max_sd**2, rtol=1e-6)
    assert_allclose(steep @ cov @ steep, 0.5, rtol=1e-4)


def test_upward_curvature_is_capped():
    """A saddle at 0, where the search starts and the gradient vanishes."""

    def saddle(x):
        return -0.5 * x[:, 0] ** 2 + 0.01 * x[:, 1] ** 2

    found = laplace(lambda x: from_values(saddle, x), np.zeros(2), rng())
    assert np.isfinite(found.mean).all()
    cov = found.root @ found.root.T
    assert_allclose(np.diag(cov), [1.0, SEARCH.max_sd**2], rtol=1e-4)


@pytest.mark.parametrize("nothing", [-np.inf, np.nan, np.inf])
def test_start_without_a_density_is_left(nothing):
    target = Normal(2)
    target.mean = np.array([1.0, -1.0])

    def values(x):
        return np.where(x[:, 0] < 0.4, nothing, target.values(x))

    found = laplace(lambda x: from_values(values, x), np.zeros(2), rng())
    assert np.linalg.norm(target.precision @ (found.mean - target.mean)) <= 1.01 * SEARCH.tolerance


def test_start_without_a_gradient_is_left():
    target = Normal(2)
    target.mean = np.array([1.0, -1.0])

    def with_gradient(x):
        values, gradients = target.with_gradient(x)
        return values, np.where(x[:, :1] < 0.4, np.nan, gradients)

    found = laplace(lambda x: from_gradients(with_gradient, x), np.zeros(2), rng())
    assert np.linalg.norm(target.precision @ (found.mean - target.mean)) <= 1.01 * SEARCH.tolerance


def test_search_stays_off_a_wall():
    """Newton's step from 0 leads to 3, past the end of the support at 1.2, near the mode at 1."""

    def values(x):
        with np.errstate(invalid="ignore"):
            return np.log(1.2 - x[:, 0]) - 0.5 * (x[:, 0] - 6) ** 2

    # the mode solves (6 - x) (1.2 - x) = 1
    mode = (7.2 - np.sqrt(7.2**2 - 4 * 6.2)) / 2
    found = laplace(lambda x: from_values(values, x), np.zeros(1), rng())
    curvature = 1 + (1.2 - mode) ** -2.0
    assert abs(found.mean[0] - mode) <= 1.01 * SEARCH.tolerance / curvature
    assert_allclose(found.root[0, 0] ** -2, curvature, rtol=0.01)


def test_density_that_is_nowhere_finite_is_an_error():
    with pytest.raises(RuntimeError, match="no valid starting point"):
        laplace(lambda x: from_values(lambda t: np.full(len(t), np.nan), x), np.zeros(2), rng())


class Hills:
    """Normals far apart, each with a share of the mass."""

    def __init__(self, means, sds, log_masses):
        self.means, self.sds = np.array(means, float), np.array(sds, float)
        self.log_masses = np.array(log_masses, float)
        self.calls = 0

    def values(self, x):
        z = (x[:, None] - self.means) / self.sds
        d = x.shape[1]
        log_det = np.log(self.sds).sum(1) + 0.5 * d * np.log(2 * np.pi)
        return logsumexp(self.log_masses - 0.5 * (z**2).sum(2) - log_det, axis=1)

    def derivatives(self, x):
        self.calls += 1
        return from_values(self.values, x)


THREE = Hills([[0, 0], [8, 0], [0, -9]], [[0.5, 1.0], [0.1, 0.2], [2.0, 1.5]], [0.0, -3.0, 1.0])


def scattered(hills=THREE, n=30, seed=0):
    """Starts on every hill, and anywhere."""
    noise = np.random.default_rng(seed).normal(size=(n, 2))
    on_hills = hills.means + 1.5 * hills.sds * [1, -1]
    return np.concatenate([6 * noise, on_hills])


def test_every_mode_is_found_the_heaviest_first():
    modes = find_modes(THREE.values, THREE.derivatives, scattered(), rng())
    order = [2, 0, 1]
    assert len(modes) == 3
    for mode, k in zip(modes, order, strict=True):
        assert_allclose(mode.normal.mean, THREE.means[k], atol=1.01 * SEARCH.tolerance * 4)
        assert_allclose(
            mode.normal.root @ mode.normal.root.T, np.diag(THREE.sds[k] ** 2), atol=0.01
        )
        assert_allclose(mode.log_density, THREE.values(mode.normal.mean[None])[0])
        assert_allclose(mode.log_mass, THREE.log_masses[k], atol=0.01)


@pytest.mark.parametrize(("more", "n_modes"), [(-0.5, 2), (0.5, 1)])
def test_light_modes_are_left_out_by_mass_not_height(more, n_modes):
    """The narrow one is e^4.6 times as high for its mass."""
    behind = SEARCH.less_mass + more
    hills = Hills([[0, 0], [8, 0]], [[1, 1], [0.1, 0.1]], [0.0, -behind])
    modes = find_modes(hills.values, hills.derivatives, scattered(hills), rng())
    assert len(modes) == n_modes


def test_one_hill_takes_one_descent():
    target = Hills([[1.0, -2.0]], [[0.3, 2.0]], [0.0])
    starts = scattered(target)
    (mode,) = find_modes(target.values, target.derivatives, starts, rng())
    together = target.calls
    best = starts[target.values(starts).argmax()]
    alone = laplace(target.derivatives, best, rng())
    assert target.calls == 2 * together
    assert_allclose(mode.normal.mean, alone.mean)
    assert_allclose(mode.normal.root, alone.root)


def test_starts_on_the_same_hill_share_a_descent():
    """Fifty on three hills: as many calls as the longest way takes, three times."""
    target = Hills(THREE.means, THREE.sds, THREE.log_masses)
    starts = scattered(n=50)
    find_modes(target.values, target.derivatives, starts, rng())
    together, each = target.calls, []
    for start in starts:
        before = target.calls
        laplace(target.derivatives, start, rng())
        each.append(target.calls - before)
    assert together <= 3 * max(each)


def test_curved_hill_is_one_mode():
    """A banana: straight ways between its ends leave it, and the descents end at one top."""

    def values(x):
        return -0.5 * (x[:, 0] / 2) ** 2 - 0.5 * ((x[:, 1] - x[:, 0] ** 2) / 0.3) ** 2

    starts = np.array([[-3.0, 9.0], [3.0, 9.0], [2.0, 4.0], [-2.0, 4.0], [0.5, 0.0]])
    assert on_other_hills(values, starts[:1], starts[1:2]).all()
    modes = find_modes(values, lambda x: from_values(values, x), starts, rng())
    assert len(modes) == 1
    assert_allclose(modes[0].normal.mean, 0, atol=0.05)


def test_starts_without_a_density_are_passed_over():
    def values(x):
        return np.where(x[:, 0] > 3, np.nan, THREE.values(x))

    starts = np.concatenate([[[5.0, 0.0], [np.nan, 0.0]], scattered()])
    modes = find_modes(values, lambda x: from_values(values, x), starts, rng())
    assert {round(mode.normal.mean[1]) for mode in modes} == {0, -9}


def test_spike_narrower_than_the_usual_steps_is_a_mode():
    hills = Hills([[0, 0], [2, 0]], [[1e-4, 1], [0.5, 0.5]], [0.0, 0.0])
    steps = np.array([1e-5, STEP])
    starts = np.array([[0.0, 0.7], [1.5, 0.3]])
    modes = find_modes(
        hills.values, lambda x: from_values(hills.values, x, steps), starts, rng(), steps
    )
    assert len(modes) == 2
    for mode in modes:
        assert_allclose(mode.log_mass, 0.0, atol=0.01)


def test_valleys_tell_hills_apart():
    tops = THREE.means
    points = np.add(tops, [[0.3, 0.3], [0.05, 0.1], [-1.0, 1.0]])
    for k in range(3):
        others = np.delete(tops, k, axis=0)
        apart = on_other_hills(THREE.values, points, tops[k : k + 1])
        np.testing.assert_array_equal(apart, np.arange(3) != k)
        assert not on_other_hills(THREE.values, points[np.arange(3) != k], others).any()
    assert not on_other_hills(lambda x: np.full(len(x), -np.inf), points, tops).any()


@pytest.mark.parametrize("seed", [6, 12, 21, 27, 32, 50])
def test_descent_does_not_end_at_a_wall(seed):
    """Line searches meet the wall at 1.02 on the way to minima on this side of it."""
    rng = np.random.default_rng(seed)
    scale, minimum = np.exp(rng.normal(0, 2.5, 6)), rng.uniform(-1, 1, 6)
    walls = [0]

    def downhill(x):
        if np.abs(x).max() > 1.02:
            walls[0] += 1
            return np.nan, np.full(6, np.nan)
        z = 3 * (x - minimum)
        return (scale * (np.cosh(z) - 1)).sum(), 3 * scale * np.sinh(z)

    point, value = lowest(downhill, rng.uniform(-1, 1, 6))
    assert walls[0] > 0
    slope = downhill(point)[1]
    assert np.abs(slope).max() <= SEARCH.tolerance
    # z sinh z >= 2 (cosh z - 1) >= z^2, and a sum of as many terms as coordinates
    assert value <= (slope**2 / (9 * scale)).sum() / 2


def test_descent_goes_no_further_than_allowed():
    def downhill(x):
        return ((x - 5) ** 2).sum(), 2 * (x - 5)

    point, value = lowest(downhill, np.zeros(3), longest=2.0)
    assert_allclose(point, 2.0)
    assert_allclose(value, 27.0)
