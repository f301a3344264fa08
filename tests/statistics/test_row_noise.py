"""Rows of known noise as rows of one noise: what their density lacks."""

import numpy as np
from numpy.testing import assert_allclose
from scipy import stats

from skhier.statistics.row_noise import row_noise_of
from skhier.utils.design import Design, Factor, Rows
from skhier.utils.labels import fit_levels
from skhier.utils.side_column import SideColumn
from skhier.utils.training import Training, training_of


def make_training(se, counts, y, codes):
    levels = fit_levels(np.arange(codes.max() + 1), "g")[0]
    side = SideColumn("known_noise", 1, "se")
    design = Design([], [], (Factor((0,), "g", levels, ()),), side=side)
    return training_of(design, Rows(se[:, None], codes[:, None], ()), y, counts)


def test_density_of_weighted_rows_lacks_a_constant():
    rng = np.random.default_rng(0)
    se, y = np.exp(rng.normal(0, 2, 12)), rng.normal(size=12)
    counts, codes = rng.integers(1, 4, 12).astype(float), np.arange(12) % 4
    training = make_training(se, counts, y, codes)
    noise, weights = row_noise_of(training), training.of_sums
    assert_allclose(weights.sum(), counts.sum())
    assert_allclose(weights / counts * se**2, noise.scale**2)
    exact = counts * stats.norm.logpdf(y, 0.3, se)
    as_weighted = weights * stats.norm.logpdf(y, 0.3, noise.scale)
    assert_allclose(noise.log_density, (exact - as_weighted).sum())
    of_levels = np.bincount(codes, exact - as_weighted)
    assert_allclose(noise.of_levels, of_levels)
    assert_allclose(noise.n_rows, np.bincount(codes, counts))


def test_other_rows_have_none():
    rows = Training(np.zeros((2, 0)), np.zeros((2, 0), int), np.arange(2.0), np.ones(2))
    assert row_noise_of(rows) is None
    assert rows.of_sums is rows.weights
    assert rows.columns is rows.x


def test_parts_keep_the_noise_of_all_rows():
    se, y = np.array([0.1, 1.0, 5.0]), np.zeros(3)
    training = make_training(se, np.ones(3), y, np.zeros(3, int))
    part = training.take(np.array([1, 2]))
    assert_allclose(row_noise_of(part).scale, row_noise_of(training).scale)
