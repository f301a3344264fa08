"""Group statistics: exact sums, whatever the order of the rows or the way weights are written."""

from fractions import Fraction
from functools import partial

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import budget

from skhier.statistics.addition import added
from skhier.statistics.mean_sd import mean_sd_of_products, mean_sd_of_rows
from skhier.statistics.padding import pad_groups, padded_size
from skhier.statistics.products import group_stats, level_pairs
from skhier.statistics.sums import exact_parts, exact_sum, sums_by_code
from skhier.statistics.units import change_units, internal_units

SLOPES = ((0, 2), (1,))
N_LEVELS = (7, 4)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    n = 300
    x = rng.normal(size=(n, 3)) * [1.0, 1e-4, 1e5] + [0.0, 3.0, 1e6]
    y = 1e4 + 3 * rng.normal(size=n)
    return x, y, rng.integers(1, 4, n).astype(float), rng.integers(N_LEVELS, size=(n, 2))


def units_of(x, y, weights, slopes):
    of_x, of_y = mean_sd_of_rows(x, weights), mean_sd_of_rows(y[:, None], weights)
    return internal_units(of_x, of_y, slopes)


def reduce(x, y, weights, codes, slopes=SLOPES):
    units = units_of(x, y, weights, slopes)
    sizes, pairs = N_LEVELS[: len(slopes)], level_pairs(codes)
    return group_stats(x, y, weights, codes, sizes, slopes, units, pairs), units


def assert_bitwise_equal(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_array_equal(a, b)


def test_mean_sd_matches_numpy_on_repeated_rows(rows):
    x, _, weights, _ = rows
    repeated = np.repeat(x, weights.astype(int), axis=0)
    found = mean_sd_of_rows(x, weights)
    assert_allclose(found.mean, repeated.mean(0), rtol=1e-14)
    assert_allclose(found.sd, repeated.std(0, ddof=1), rtol=1e-12)


def test_mean_sd_survives_values_whose_squares_overflow():
    x = np.array([[1e200], [3e200]])
    assert_allclose(mean_sd_of_rows(x, np.ones(2)).sd, np.sqrt(2) * 1e200, rtol=1e-14)


def test_stats_match_naive_cross_products(rows):
    x, y, weights, codes = rows
    stats, units = reduce(*rows)
    xc = np.column_stack([(x - units.x_mean) / units.x_scale, np.ones(len(y))])
    yc = (y - units.y_mean) / units.y_scale
    close = partial(assert_allclose, rtol=1e-11, atol=1e-11)
    z = [xc[:, [*slopes, 3]] for slopes in SLOPES]
    for k, found in enumerate(stats.factors):
        for g in range(N_LEVELS[k]):
            w = np.diag(weights * (codes[:, k] == g))
            close(found.zz[..., g], z[k].T @ w @ z[k])
            close(found.zx[..., g], z[k].T @ w @ xc)
            close(found.zy[..., g], z[k].T @ w @ yc)
    (pair,) = stats.pairs
    together = [(int(one), int(two)) for one, two in zip(pair.first, pair.second, strict=True)]
    assert together == sorted(set(map(tuple, codes.tolist())))
    for at, both in enumerate(together):
        w = np.diag(weights * (codes == both).all(1))
        close(pair.zz[..., at], z[0].T @ w @ z[1])
    w = np.diag(weights)
    close(stats.xx, xc.T @ w @ xc)
    close(stats.xy, xc.T @ w @ yc)
    assert_allclose(stats.yy, yc @ w @ yc, rtol=1e-11)
    assert stats.n == weights.sum()


@pytest.mark.parametrize("slopes", [(), (1,), (0, 1, 2)])
def test_only_factor_has_all_products_of_its_levels(rows, slopes):
    x, y, weights, codes = rows
    units = units_of(x, y, weights, (slopes,))
    stats = group_stats(x, y, weights, codes[:, :1], N_LEVELS[:1], (slopes,), units, ())
    columns = [(x - units.x_mean) / units.x_scale, np.ones(len(y))]
    columns = np.column_stack([*columns, (y - units.y_mean) / units.y_scale])
    (factor,) = stats.factors
    for g in range(N_LEVELS[0]):
        mine = codes[:, 0] == g
        expected = (weights[mine, None] * columns[mine]).T @ columns[mine]
        assert_allclose(factor.xy_xy[..., g], expected, rtol=1e-11, atol=1e-11)


def test_products_of_levels_that_would_be_too_many_are_not_kept(rows):
    few = budget(level_products=5 * 5 * N_LEVELS[0] - 1).data
    x, y, weights, codes = rows
    for slopes, size in (((), 0), ((0, 1, 2), 5)):  # those are there anyway
        units = units_of(x, y, weights, (slopes,))
        levels = codes[:, :1], N_LEVELS[:1], (slopes,)
        found = group_stats(x, y, weights, *levels, units, (), few)
        assert found.factors[0].xy_xy.shape == (size, size, N_LEVELS[0])
        moved = change_units(added(found, found), units, units, (slopes,))
        assert moved.factors[0].xy_xy.shape == (size, size, N_LEVELS[0])


@pytest.mark.parametrize("slopes", [SLOPES, ((1,),)])
def test_stats_are_bitwise_equal_for_permuted_rows(rows, slopes):
    order = np.random.default_rng(1).permutation(len(rows[1]))
    rows = (*rows[:3], rows[3][:, : len(slopes)])
    assert_bitwise_equal(reduce(*(a[order] for a in rows), slopes), reduce(*rows, slopes))


def test_integer_weights_are_bitwise_repeated_rows(rows):
    times = rows[2].astype(int)
    x, y, _, codes = (np.repeat(a, times, axis=0) for a in rows)
    assert_bitwise_equal(reduce(*rows), reduce(x, y, np.ones(len(y)), codes))


@pytest.mark.parametrize("n", [1, 2**14, 40_000])
def test_sums_are_exact_however_many_rows(n):
    """Against sums of fractions, also where most of the values cancel."""
    rng = np.random.default_rng(n)
    values = rng.normal(size=n) * 10.0 ** rng.integers(-8, 9, n)
    values[n // 2 :] -= values.sum() / n
    weights, order = rng.integers(1, 4, n).astype(float), rng.permutation(n)
    exact = float(sum(Fraction(v) * int(w) for v, w in zip(values, weights, strict=True)))
    found = exact_sum(values, weights)
    assert abs(found - exact) <= 2**-60 * np.abs(values).max() + 2**-52 * abs(exact)
    assert found == exact_sum(values[order], weights[order])
    codes = rng.integers(0, 9, n)
    parts = exact_parts(values, weights)
    again = sums_by_code(codes[order], exact_parts(values[order], weights[order]), 9)
    assert_array_equal(sums_by_code(codes, parts, 9), again)
    of_few_rows = exact_parts(values, weights, budget=budget(rows_summed=1 + n // 7).data)
    assert_array_equal(of_few_rows, parts)


def test_scales_are_powers_of_two_near_the_sd(rows):
    _, units = reduce(*rows)
    assert_array_equal(np.log2(units.x_scale) % 1, 0)
    ratio = rows[0].std(0) / units.x_scale
    assert np.all((ratio > 0.4) & (ratio <= 1.1))


def test_effects_at_mean_moves_the_intercept_to_the_mean(rows):
    _, units = reduce(*rows)
    for slopes, to_mean in zip(SLOPES, units.effects_at_mean, strict=True):
        effects, intercept = np.array([0.3, -2.0])[: len(slopes)], 1.7  # internal units, x = 0
        at_mean = intercept + (units.x_mean / units.x_scale)[list(slopes)] @ effects
        assert_allclose(to_mean @ [*effects, intercept], [*effects, at_mean], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 100, 1000, 12345])
def test_padded_size_adds_at_most_a_quarter(n):
    assert n <= padded_size(n) <= 1.25 * n


def test_padded_sizes_are_few():
    assert len({padded_size(n) for n in range(1, 10_001)}) < 50


def test_padding_appends_zero_groups(rows):
    x, y, weights, codes = rows
    codes = np.column_stack([np.arange(len(y)) % 19, codes[:, 0]])
    pairs = level_pairs(codes)
    units = units_of(x, y, weights, SLOPES)
    stats = group_stats(x, y, weights, codes, (19, 7), SLOPES, units, pairs)
    padded = pad_groups(stats)
    assert [found.zy.shape[-1] for found in padded.factors] == [20, 7]
    assert len(padded.pairs[0].first) == padded_size(len(pairs[0].first)) > len(pairs[0].first)
    both = (stats.factors, stats.pairs), (padded.factors, padded.pairs)
    for one, other in zip(*map(jax.tree.leaves, both), strict=True):
        n = one.shape[-1]
        assert_array_equal(other[..., :n], one)
        assert_array_equal(other[..., n:], 0)


@pytest.mark.parametrize("slopes", [(), ((),), ((1,),), ((0, 2),), ((0, 2), (1,)), ((), (2,), ())])
def test_merged_parts_are_the_whole_in_any_units(slopes):
    rng = np.random.default_rng(0)
    n, n_levels = 60, (5, 4, 3)[: len(slopes)]
    x, y = 1e3 + rng.normal(size=(n, 3)) * [1, 10, 0.1], 1e4 + rng.normal(size=n)
    weights = rng.integers(1, 4, n).astype(float)
    codes = rng.integers(n_levels, size=(n, len(slopes)))
    pairs = level_pairs(codes)

    def of(rows, units):
        of_rows = [pair._replace(of_row=pair.of_row[rows]) for pair in pairs]
        part = x[rows], y[rows], weights[rows], codes[rows]
        return group_stats(*part, n_levels, slopes, units, of_rows)

    def assert_close(found, expected, **tolerances):
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert_allclose(one, other, **tolerances)

    everything = np.arange(n)
    of_x, of_y = mean_sd_of_rows(x, weights), mean_sd_of_rows(y[:, None], weights)
    units = internal_units(of_x, of_y, slopes)
    parts = [of(everything[k::3], units) for k in range(3)]
    assert_close(added(*parts), of(everything, units), rtol=1e-12, atol=1e-12)
    kept = np.setdiff1d(everything, everything[::3])
    some_x, some_y = (
        mean_sd_of_rows(x[kept], weights[kept]),
        mean_sd_of_rows(y[kept, None], weights[kept]),
    )
    fold = internal_units(some_x, some_y, slopes)
    training = added(*parts[1:])
    for found, expected in zip(mean_sd_of_products(training, units), (some_x, some_y), strict=True):
        assert_allclose(found.mean, expected.mean, rtol=1e-14)
        assert_allclose(found.sd, expected.sd, rtol=1e-12)
    moved = change_units(training, units, fold, slopes)
    assert_close(moved, of(kept, fold), rtol=1e-10, atol=1e-11)
