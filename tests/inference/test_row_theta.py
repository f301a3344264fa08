"""Where searches for modes of the effects begin, against modes that are linear in theta."""

import numpy as np
from numpy.testing import assert_allclose

from skhier.inference.mode import Laplace
from skhier.inference.row_theta import RowTheta
from skhier.utils.budget import USUAL

D, Q, N_LEVELS, N_NUMBERS = 3, 2, 5, 12  # numbers of a level: LevelMoments of two effects


class LinearModes(RowTheta):
    """Modes that are ``constant + slopes theta``, those of the last level nowhere finite."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.q, self.size, self.batch, self.rows, self.rule = Q, D, 4, None, None
        self.effects, self.along, self.budget = np.zeros((Q, N_LEVELS)), None, USUAL
        self.constant = rng.normal(size=(Q, N_LEVELS))
        self.slopes = rng.normal(size=(Q, N_LEVELS, D))

    def modes_at(self, points):
        return self.constant + np.moveaxis(self.slopes @ points.T, -1, 0)

    def evaluated(self, points, seen_at):
        numbers = np.zeros((len(points), N_NUMBERS, N_LEVELS))
        numbers[:, -Q:] = self.modes_at(points)
        numbers[..., -1] = np.nan
        return np.zeros(len(points)), [numbers]


def test_searches_begin_where_modes_go_as_theta_changes():
    theta, rng = LinearModes(), np.random.default_rng(1)
    root = np.tril(rng.normal(size=(D, D))) + 2 * np.eye(D)
    normal = Laplace(rng.normal(size=D), root)
    points = normal.mean + rng.uniform(-3, 3, (7, D)) @ root.T
    before = theta._seen_at(points, closely=False)[-1].effects
    assert_allclose(before, np.zeros((7, Q, N_LEVELS)))
    theta.follow(normal)
    starts = theta._seen_at(points, closely=False)[-1].effects
    assert_allclose(starts[..., :-1], theta.modes_at(points)[..., :-1], atol=1e-10)
    assert_allclose(starts[..., -1], 0.0)
