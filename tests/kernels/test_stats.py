"""Group statistics: exact sums, whatever the order of the rows or the way weights are written."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skhier.kernels.stats import (
    change_units,
    group_stats,
    internal_units,
    merge,
    moments,
    moments_of,
    pad_groups,
    padded_size,
)

SLOPES = (0, 2)
N_GROUPS = 7


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    n = 300
    x = rng.normal(size=(n, 3)) * [1.0, 1e-4, 1e5] + [0.0, 3.0, 1e6]
    y = 1e4 + 3 * rng.normal(size=n)
    return x, y, rng.integers(1, 4, n).astype(float), rng.integers(0, N_GROUPS, n)


def reduce(x, y, weights, codes):
    units = internal_units(moments(x, weights), moments(y[:, None], weights), SLOPES)
    return group_stats(x, y, weights, codes, N_GROUPS, SLOPES, units), units


def test_moments_match_numpy_on_repeated_rows(rows):
    x, _, weights, _ = rows
    repeated = np.repeat(x, weights.astype(int), axis=0)
    found = moments(x, weights)
    assert_allclose(found.mean, repeated.mean(0), rtol=1e-14)
    assert_allclose(found.sd, repeated.std(0, ddof=1), rtol=1e-12)


def test_moments_survive_values_whose_squares_overflow():
    x = np.array([[1e200], [3e200]])
    assert_allclose(moments(x, np.ones(2)).sd, np.sqrt(2) * 1e200, rtol=1e-14)


def test_stats_match_naive_cross_products(rows):
    x, y, weights, codes = rows
    stats, units = reduce(*rows)
    xc = np.column_stack([(x - units.x_mean) / units.x_scale, np.ones(len(y))])
    yc = (y - units.y_mean) / units.y_scale
    z = xc[:, [*SLOPES, 3]]
    for g in range(N_GROUPS):
        w = np.diag(weights * (codes == g))
        assert_allclose(stats.zz[..., g], z.T @ w @ z, rtol=1e-11, atol=1e-11)
        assert_allclose(stats.zx[..., g], z.T @ w @ xc, rtol=1e-11, atol=1e-11)
        assert_allclose(stats.zy[..., g], z.T @ w @ yc, rtol=1e-11, atol=1e-11)
    w = np.diag(weights)
    assert_allclose(stats.xx, xc.T @ w @ xc, rtol=1e-11, atol=1e-11)
    assert_allclose(stats.xy, xc.T @ w @ yc, rtol=1e-11, atol=1e-11)
    assert_allclose(stats.yy, yc @ w @ yc, rtol=1e-11)
    assert stats.n == weights.sum()


def test_stats_are_bitwise_equal_for_permuted_rows(rows):
    order = np.random.default_rng(1).permutation(len(rows[1]))
    for found, expected in zip(reduce(*(a[order] for a in rows)), reduce(*rows), strict=True):
        for a, b in zip(found, expected, strict=True):
            assert_array_equal(a, b)


def test_integer_weights_are_bitwise_repeated_rows(rows):
    times = rows[2].astype(int)
    x, y, _, codes = (np.repeat(a, times, axis=0) for a in rows)
    repeated = reduce(x, y, np.ones(len(y)), codes)
    for found, expected in zip(reduce(*rows), repeated, strict=True):
        for a, b in zip(found, expected, strict=True):
            assert_array_equal(a, b)


def test_scales_are_powers_of_two_near_the_sd(rows):
    _, units = reduce(*rows)
    assert_array_equal(np.log2(units.x_scale) % 1, 0)
    ratio = rows[0].std(0) / units.x_scale
    assert np.all((ratio > 0.4) & (ratio <= 1.1))


def test_effects_at_mean_moves_the_intercept_to_the_mean(rows):
    _, units = reduce(*rows)
    slopes, intercept = np.array([0.3, -2.0]), 1.7  # per internal unit, at x = 0
    at_mean = intercept + (units.x_mean / units.x_scale)[list(SLOPES)] @ slopes
    assert_allclose(units.effects_at_mean @ [*slopes, intercept], [*slopes, at_mean], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 100, 1000, 12345])
def test_padded_size_adds_at_most_a_quarter(n):
    assert n <= padded_size(n) <= 1.25 * n


def test_padded_sizes_are_few():
    assert len({padded_size(n) for n in range(1, 10_001)}) < 50


def test_padding_appends_zero_groups(rows):
    x, y, weights, codes = rows
    codes = np.arange(len(y)) % 19
    units = internal_units(moments(x, weights), moments(y[:, None], weights), SLOPES)
    stats = group_stats(x, y, weights, codes, 19, SLOPES, units)
    padded = pad_groups(stats)
    for name in ("zz", "zx", "zy"):
        assert getattr(padded, name).shape[-1] == 20
        assert_array_equal(getattr(padded, name)[..., :19], getattr(stats, name))
        assert_array_equal(getattr(padded, name)[..., 19:], 0)


@pytest.mark.parametrize("slopes", [None, (), (1,), (0, 2)])
def test_merged_parts_are_the_whole_in_any_units(slopes):
    rng = np.random.default_rng(0)
    n, n_groups = 60, 0 if slopes is None else 5
    x, y = 1e3 + rng.normal(size=(n, 3)) * [1, 10, 0.1], 1e4 + rng.normal(size=n)
    weights = rng.integers(1, 4, n).astype(float)
    codes = None if slopes is None else rng.integers(n_groups, size=n)

    def of(rows, units):
        some = None if codes is None else codes[rows]
        return group_stats(x[rows], y[rows], weights[rows], some, n_groups, slopes, units)

    everything = np.arange(n)
    of_x, of_y = moments(x, weights), moments(y[:, None], weights)
    units = internal_units(of_x, of_y, slopes)
    parts = [of(everything[k::3], units) for k in range(3)]
    for found, expected in zip(merge(*parts), of(everything, units), strict=True):
        assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    kept = np.setdiff1d(everything, everything[::3])
    some_x, some_y = moments(x[kept], weights[kept]), moments(y[kept, None], weights[kept])
    fold = internal_units(some_x, some_y, slopes)
    training = merge(*parts[1:])
    for found, expected in zip(moments_of(training, units), (some_x, some_y), strict=True):
        assert_allclose(found.mean, expected.mean, rtol=1e-14)
        assert_allclose(found.sd, expected.sd, rtol=1e-12)
    moved = change_units(training, units, fold, slopes)
    for found, expected in zip(moved, of(kept, fold), strict=True):
        assert_allclose(found, expected, rtol=1e-10, atol=1e-11)
