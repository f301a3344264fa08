"""What a finer rule adds, told from a few points."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.inference.importance import Mixture
from skhier.inference.quadrature_engine import refine
from skhier.utils.budget import USUAL


class Rules(SimpleNamespace):
    """Log densities by rules of several numbers of nodes; ``error(nodes, z)`` is each one's."""

    budget, is_exact, n_nodes = USUAL, False, 3

    def improve(self, most):
        self.n_nodes += 2
        return self.n_nodes <= most

    def rough_log_densities(self, points):
        z = (points - self.mean) @ np.linalg.inv(self.root).T
        return -0.5 * (z**2).sum(1) + self.error(self.n_nodes, z)

    def finer_log_densities(self, points):
        finer = Rules(**vars(self) | {"n_nodes": self.n_nodes + 2})
        return finer.rough_log_densities(points)


def rules(d, error):
    rng = np.random.default_rng(0)
    root = np.tril(rng.normal(size=(d, d))) + 2 * np.eye(d)
    return Rules(size=d, mean=rng.normal(size=d), root=root, error=error)


def modes(theta, n=1):
    return Mixture(np.full(n, 1 / n), np.tile(theta.mean, (n, 1)), np.tile(theta.root, (n, 1, 1)))


def smooth(nodes, z):
    return (nodes == 3) * (0.8 + 0.2 * z[:, 0] - 0.1 * z[:, -1] ** 2)


def rough(nodes, z):
    return (nodes == 3) * 0.5 * np.sin(7 * z[:, 0])


def test_smooth_gap_is_known_at_other_points():
    theta = rules(4, smooth)
    gap = refine(theta, modes(theta), 15, 0)
    assert theta.n_nodes == 3
    z = np.random.default_rng(1).uniform(-3, 3, (50, 4))
    assert_allclose(gap.at(theta.mean + z @ theta.root.T), -smooth(3, z), atol=1e-9)


def test_gap_without_a_smooth_form_takes_more_nodes():
    theta = rules(4, rough)
    gap = refine(theta, modes(theta), 15, 0)
    assert theta.n_nodes == 5
    assert_allclose(gap.at(theta.mean[None]), 0.0, atol=1e-9)


@pytest.mark.parametrize(("d", "n_modes"), [(USUAL.quadrature.points_compared // 2, 1), (4, 2)])
def test_gap_is_not_told_from_few_points_nor_around_one_of_several_modes(d, n_modes):
    theta = rules(d, smooth)
    assert refine(theta, modes(theta, n_modes), 15, 0) is None
    assert theta.n_nodes == 5
