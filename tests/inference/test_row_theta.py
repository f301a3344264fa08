"""Where searches for modes of the effects begin, against normals that are linear in theta."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.inference.mode import Laplace
from skhier.inference.quadrature_theta import QuadratureTheta
from skhier.inference.row_theta import RowTheta
from skhier.kernels.rows.modes import NEVER, ROUGH, n_normals
from skhier.utils.budget import USUAL

D, Q, N_LEVELS, N_NORMALS = 3, 2, 5, n_normals(2)
N_NUMBERS = 9 + N_NORMALS  # of a level: LevelMoments of two effects, the normals last


class LinearNormals(RowTheta):
    """Normals that are ``constant + slopes theta``, those of the last level nowhere finite."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.q, self.size, self.batch, self.rows, self.rule = Q, D, 4, None, None
        self.along, self.foretells, self.budget = None, False, USUAL
        self.lattice, self.told = False, None
        self.spec = SimpleNamespace(response=SimpleNamespace(log_concave=True, link="logit"))
        self.normals = np.zeros((N_NORMALS, N_LEVELS))
        self.constant = rng.normal(size=(N_NORMALS, N_LEVELS))
        self.slopes = rng.normal(size=(N_NORMALS, N_LEVELS, D))

    def normals_at(self, points):
        return self.constant + np.moveaxis(self.slopes @ points.T, -1, 0)

    def evaluated(self, points, seen_at, n_learnt=0):
        numbers = np.zeros((len(points), N_NUMBERS, N_LEVELS))
        numbers[:, -N_NORMALS:] = self.normals_at(points)
        numbers[..., -1] = np.nan
        return np.zeros(len(points)), numbers[:n_learnt]

    def rule_of(self, n_nodes):
        return n_nodes


def test_searches_begin_where_normals_go_as_theta_changes():
    theta, rng = LinearNormals(), np.random.default_rng(1)
    root = np.tril(rng.normal(size=(D, D))) + 2 * np.eye(D)
    normal = Laplace(rng.normal(size=D), root)
    points = normal.mean + rng.uniform(-3, 3, (7, D)) @ root.T
    before = theta._seen_at(points, closely=False)[-1]
    assert_allclose(before.normals, np.zeros((7, N_NORMALS, N_LEVELS)))
    assert before.tolerance == ROUGH
    theta.follow(normal)
    search = theta._seen_at(points, closely=False)[-1]
    assert_allclose(search.normals[..., :-1], theta.normals_at(points)[..., :-1], atol=1e-10)
    assert_allclose(search.normals[..., -1], 0.0)
    assert search.tolerance == NEVER


def test_looks_are_made_before_nodes_are_added():
    theta = LinearNormals()
    theta.use(3)
    theta.follow(Laplace(np.zeros(D), np.eye(D)))
    stages = []
    while theta.improve(7):
        stages.append((theta.n_nodes, theta.foretells))
    assert stages == [(3, False), (5, True), (5, False), (7, True), (7, False)]
    assert not theta.foretells


@pytest.mark.parametrize(("n_levels", "thorough"), [(199, True), (200, False)])
def test_modes_of_theta_are_looked_for_less_thoroughly_where_levels_are_many(n_levels, thorough):
    theta = LinearNormals()
    theta.n_levels = n_levels
    assert (theta.search == USUAL.search) == thorough
    assert (theta.search.climbs > 0) == thorough
    assert (theta.search.near_mode == 0) == thorough


class Learning(LinearNormals):
    """Its log density is the sum of theta; what it learns of each level is theta."""

    evaluated = QuadratureTheta.evaluated
    device = program = spec = None

    def __init__(self):
        super().__init__()
        self.n_evaluations, self.check = 0, lambda: None
        self.known, self.target = (np.zeros((0, D)), []), self

    def _given(self, points):
        return np.zeros(len(points)), points

    def evaluate(self, everyone, *_):
        return everyone.sum(1), np.repeat(everyone[..., None], N_LEVELS, axis=-1)


@pytest.mark.parametrize("n_learnt", [0, 1, 4, 6, 11])
def test_no_more_of_the_levels_is_kept_than_is_asked_for(n_learnt):
    theta = Learning()
    points = np.random.default_rng(2).normal(size=(11, D))  # batches of four
    values, learnt = theta.evaluated(points, lambda part: (), n_learnt)
    assert_allclose(values, points.sum(1))
    assert len(learnt) == n_learnt
    for level in range(N_LEVELS if n_learnt else 0):
        assert_allclose(learnt[..., level], points[:n_learnt])
