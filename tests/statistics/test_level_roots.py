"""Roots of each level's cross-products, against least squares by level."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skhier.statistics.level_roots import level_roots, roots_of_products, without_residual
from skhier.statistics.products import group_stats
from skhier.statistics.records import Units
from skhier.utils.training import Training

SIZES = np.array([9, 1, 2, 30, 4])
SLOPES = (1,)
UNITS = Units(np.array([0.5, -1.0, 2.0]), np.array([2.0, 1.0, 0.5]), 3.0, 4.0, (np.eye(2),))
BETA = np.array([0.4, -1.2, 0.3, 0.7])


def training(apart=1.0, noise=1.0, seed=0):
    """The first feature is constant in each level, the second has varying slopes."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(SIZES)), SIZES)
    x = rng.normal(size=(len(codes), 3))
    x[:, 0] = rng.normal(size=len(SIZES))[codes]
    y = 2 * x[:, 1] + apart * rng.normal(size=len(SIZES))[codes] + noise * rng.normal(size=len(x))
    return Training(x, codes[:, None], y, rng.integers(1, 4, len(x)).astype(float))


def internal(rows):
    x = np.column_stack([(rows.x - UNITS.x_mean) / UNITS.x_scale, np.ones(len(rows.y))])
    return x, x[:, [*SLOPES, 3]], (rows.y - UNITS.y_mean) / UNITS.y_scale


def of_levels(rows):
    return level_roots(rows, UNITS, SLOPES, len(SIZES))


def of_products(rows):
    x, codes, y, weights = rows[:4]
    stats = group_stats(x, y, weights, codes, [len(SIZES)], [SLOPES], UNITS, ())
    return roots_of_products(stats.factors[0], SLOPES)


def residuals(levels, beta):
    """Residual sums of squares of each level, (n_levels,)."""
    rest = np.einsum("kcg,c->kg", levels.rest, np.append(-beta, 1.0)[levels.columns])
    return (rest**2).sum(0)


@pytest.mark.parametrize("roots", [of_levels, of_products])
def test_roots_have_the_levels_cross_products(roots):
    rows = training()
    levels, (x, z, y) = roots(rows), internal(rows)
    for g in range(len(SIZES)):
        here = rows.codes[:, 0] == g
        w, xy = rows.weights[here, None], np.column_stack([x, y])[here]
        root, seen = levels.root[..., g], levels.seen[..., g]
        assert_allclose(root.T @ root, z[here].T @ (w * z[here]), atol=1e-10)
        assert_allclose(root.T @ seen, z[here].T @ (w * xy), atol=1e-10)
        assert levels.n[g] == rows.weights[here].sum()


@pytest.mark.parametrize("roots", [of_levels, of_products])
def test_rest_is_what_a_levels_own_regression_leaves(roots):
    rows = training()
    levels, (x, z, y) = roots(rows), internal(rows)
    for g in range(len(SIZES)):
        here = rows.codes[:, 0] == g
        w = np.sqrt(rows.weights[here])
        r = w * (y - x @ BETA)[here]
        b = np.linalg.lstsq(w[:, None] * z[here], r, rcond=None)[0]
        exact = ((r - w[:, None] * z[here] @ b) ** 2).sum()
        assert_allclose(residuals(levels, BETA)[g], exact, rtol=1e-10, atol=1e-12)


def test_features_that_effects_explain_have_no_columns():
    assert_array_equal(of_levels(training()).columns, [2, 4])


def test_levels_far_apart_cost_no_digits():
    near, far = training(), training(apart=1e9)
    assert_allclose(residuals(of_levels(far), BETA), residuals(of_levels(near), BETA), 1e-6, 1e-12)


def test_weight_two_is_the_row_twice():
    rows = training()._replace(weights=np.full(SIZES.sum(), 2.0))
    once = rows._replace(weights=np.ones(SIZES.sum()))
    twice = once.take(np.tile(np.arange(SIZES.sum()), 2))
    for a, b in zip(of_levels(rows), of_levels(twice), strict=True):
        assert_array_equal(a, b)


def test_padded_levels_are_empty():
    padded = of_levels(training()).padded()
    assert len(padded.n) >= len(SIZES)
    for a in (padded.root, padded.seen, padded.rest):
        assert not a[..., len(SIZES) :].any()


def test_levels_without_residual_are_those_that_fit_exactly():
    rows = training()._replace(weights=np.ones(SIZES.sum()))
    x = internal(rows)[0]
    assert not len(without_residual(of_levels(rows), 1e-12))
    y = np.where(rows.codes[:, 0] == 3, 3.0 + 4 * x[:, 1], rows.y)  # a line in 30 rows
    assert_array_equal(without_residual(of_levels(rows._replace(y=y)), 1e-12), [3])


def test_statistics_without_sums_of_squares_are_refused():
    x, codes, y, weights = training()[:4]
    stats = group_stats(x, y, weights, codes, [len(SIZES)], [SLOPES], UNITS, ())
    factor = stats.factors[0]
    lacking = factor._replace(xy_xy=np.zeros((0, 0, len(SIZES))))
    with pytest.raises(ValueError, match="noise_by needs the sum of squares of y for each level"):
        roots_of_products(lacking, SLOPES)


def test_slopes_of_features_far_from_their_mean_keep_their_digits():
    rows = training()
    shifted = rows._replace(x=rows.x + 1e6 * np.arange(len(SIZES))[rows.codes[:, 0]][:, None])
    flat = shifted._replace(x=shifted.x * [0.1, 1.0, 1.0])
    for a, b in zip(of_levels(flat).rest[-1, -1], of_levels(rows).rest[-1, -1], strict=True):
        assert_allclose(a, b, rtol=1e-6, atol=1e-7)
