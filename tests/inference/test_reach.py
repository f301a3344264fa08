"""How many rounds and points importance sampling takes, by the weights that it sees."""

from types import SimpleNamespace

import numpy as np
import pytest

from skhier.inference.importance import Mixture
from skhier.inference.reach import reach
from skhier.inference.signs import Signs, no_signs
from skhier.utils.budget import USUAL


class Counted(SimpleNamespace):
    """A density that stands for theta's, of no scales."""

    scales = ()

    def log_densities(self, points):
        self.sizes.append(len(points))
        return self.density(points)

    def signs(self, wanted):
        return no_signs(self.size)

    def bartlett(self, mode, near_zero):
        return None


def theta_like(size, density):
    return Counted(size=size, density=density, sizes=[], budget=USUAL)


def normal_at_zero(size, sd=1.0):
    return Mixture(np.ones(1), np.zeros((1, size)), sd * np.eye(size)[None])


def normal_density(points):
    return -0.5 * (points**2).sum(1)


def laplace(points):
    return -np.abs(points).sum(1) - points.shape[1] * np.log(2)


def logistic(points):
    return -2 * np.logaddexp(points / 2, -points / 2).sum(1)


def test_many_parameters_are_no_obstacle():
    theta = theta_like(80, normal_density)
    reached = reach(theta, normal_at_zero(80), 4096, 400.0, np.random.default_rng(0))
    assert reached.weighted.ess >= 400
    assert reached.weighted.k_hat < 0.7
    assert abs(reached.weighted.log_evidence - 40 * np.log(2 * np.pi)) < 0.1
    assert sum(theta.sizes) <= 4 * 4096


def test_hopeless_weights_end_after_one_short_round():
    """Products of heavy tails, far from any normal."""
    theta = theta_like(80, lambda points: -np.log1p(25 * points**2).sum(1))
    reached = reach(theta, normal_at_zero(80), 4096, 400.0, np.random.default_rng(0))
    assert reached.weighted is None
    assert sum(theta.sizes) <= 4096


def test_more_points_where_only_their_number_is_short():
    """Logistic distributions: nearly normal, which no refitting makes better."""
    theta = theta_like(40, logistic)
    start, rng = normal_at_zero(40, 1.8), np.random.default_rng(0)
    few = reach(theta, start, 1024, 50.0, rng).weighted
    many = reach(theta, start, 1024, 500.0, rng).weighted
    assert len(few.points) == 1024
    assert few.ess >= 50
    assert len(many.points) > 1024
    assert many.ess >= 500
    assert abs(many.log_evidence) < 0.3  # each integrates to 1


@pytest.mark.parametrize("size", [20, 60])
def test_all_rounds_together_stay_within_their_budget(size):
    theta = theta_like(size, lambda points: -np.abs(points).sum(1))
    reach(theta, normal_at_zero(size, 1.4), 512, 500.0, np.random.default_rng(0))
    rounds_in_theta = USUAL.importance.max_rounds * 512 * (size <= USUAL.importance.plain_size)
    assert sum(theta.sizes) <= 2 * USUAL.importance.more_points * 512 + rounds_in_theta


@pytest.mark.parametrize(
    ("size", "density", "sd", "wanted"), [(20, laplace, 1.4, 300.0), (40, logistic, 1.8, 800.0)]
)
def test_best_proposal_has_as_many_points_again_if_these_are_enough(size, density, sd, wanted):
    """Densities that integrate to 1, whose shape no refitting makes normal."""
    budget, theta = USUAL.importance, theta_like(size, density)
    reached = reach(theta, normal_at_zero(size, sd), 512, wanted, np.random.default_rng(0))
    rounds_in_theta = budget.max_rounds * 512 * (size <= budget.plain_size)
    assert sum(theta.sizes) > budget.more_points * 512 + rounds_in_theta  # else it tells nothing
    assert reached.weighted.ess >= wanted
    assert abs(reached.weighted.log_evidence) < 4 / np.sqrt(wanted)


class Steep(Signs):
    """Coordinates in which no normal is like the density: its gradient is nowhere 0."""

    def gradients(self, gradients):
        return lambda points: (points.sum(1), np.full(points.shape, 100.0))

    def in_partials(self):
        return self


class Heavy(Steep):
    """Coordinates in which the density has heavy tails."""

    def gradients(self, gradients):
        return lambda points: (normal_density(points), -points)

    def in_partials(self):
        return Steep(*self)


@pytest.mark.parametrize("coordinates", [Steep, Heavy])
def test_chains_move_in_the_last_coordinates_with_a_normal_like_the_density(coordinates):
    theta = theta_like(80, lambda points: -np.log1p(25 * points**2).sum(1))
    theta.gradients = None
    theta.bartlett = lambda mode, near_zero: coordinates(*no_signs(80))
    reached = reach(theta, normal_at_zero(80), 1024, 400.0, np.random.default_rng(0))
    assert reached.weighted is None
    assert type(reached.coordinates) is coordinates
    assert np.abs(reached.modes.means).max() < 1
