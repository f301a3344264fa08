"""Noise of levels integrated out: against dense covariances on a fine grid of the noise."""

from functools import partial

import jax
import jax.flatten_util
import numpy as np
import pytest
from numpy.testing import assert_allclose
from runs import budget
from scipy.special import logsumexp

from skhier.kernels.normal.given_noise import levels_given, rows_given
from skhier.kernels.normal.level_noise import (
    joint_log_density,
    level_nodes,
    log_density,
    noise_moments,
    noise_rule,
)
from skhier.kernels.records import LevelNoises, Population
from skhier.responses.by_level import SPREAD
from skhier.responses.normal import SCALE
from skhier.statistics.level_roots import level_roots
from skhier.statistics.records import Units
from skhier.utils.training import Training

# nats by nodes, four times those that other levels of nine rows had: 7e-4, 5e-5, 8e-6, 1e-7
LARGEST_ERROR = {5: 2.8e-3, 7: 2e-4, 9: 3.2e-5, 15: 1e-6}
GRID = np.linspace(-9.0, 9.0, 6001)
LOG_MASS = -0.5 * GRID**2 + np.log((GRID[1] - GRID[0]) / np.sqrt(2 * np.pi))
SIZES = np.array([9, 9, 9, 1, 2, 5, 30, 9])
COLUMNS = [0, 2]  # of X, that vary by level
UNITS = Units(np.zeros(2), np.ones(2), 0.0, 1.0, (np.eye(2),))


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def rows_and_population(scale=0.7, spread=0.6, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(SIZES)), SIZES)
    x = np.column_stack([rng.normal(size=(len(codes), 2)), np.ones(len(codes))])
    root = np.array([[0.5, 0.0], [0.2, 0.8]])
    own = {SCALE: np.float64(scale), SPREAD: np.float64(spread)}
    everyone = Population(np.array([0.4, -0.3, 0.5]), (root,), own)
    sd = scale * np.exp(spread * rng.normal(size=len(SIZES)))
    effects = rng.normal(size=(len(SIZES), 2)) @ root.T
    y = x @ everyone.coef + (x[:, COLUMNS] * effects[codes]).sum(1)
    y += sd[codes] * rng.normal(size=len(codes))
    return Training(x[:, :-1], codes[:, None], y, np.ones(len(codes))), everyone


def levels_of(rows):
    return level_roots(rows, UNITS, (0,), len(SIZES))


def dense_level(rows, everyone, g, left_out=None):
    """Log densities (n_grid,) of a level's rows at every noise, less one row if so asked."""
    here = np.flatnonzero(rows.codes[:, 0] == g)
    here = here[here != left_out] if left_out is not None else here
    x = np.column_stack([rows.x[here], np.ones(len(here))])
    z = x[:, COLUMNS] @ everyone.group_root[0]
    off = rows.y[here] - x @ everyone.coef
    variances = (everyone.own[SCALE] * np.exp(everyone.own[SPREAD] * GRID)) ** 2
    values, vectors = np.linalg.eigh(z @ z.T)
    total = np.maximum(values, 0) + variances[:, None]  # of the covariance Z Sigma Z' + v I
    quadratic = ((off @ vectors) ** 2 / total).sum(1)
    return -0.5 * (np.log(2 * np.pi * total).sum(1) + quadratic)


nodes_of = jax.jit(level_nodes)


@pytest.mark.parametrize("n_nodes", list(LARGEST_ERROR))
def test_level_densities_match_dense_covariances(n_nodes):
    rows, everyone = rows_and_population()
    exact = [logsumexp(dense_level(rows, everyone, g) + LOG_MASS) for g in range(len(SIZES))]
    nodes = nodes_of(levels_of(rows), noise_rule(n_nodes), everyone)
    error = np.abs(np.asarray(nodes.log_density) - exact)
    assert error[SIZES == 9].max() < LARGEST_ERROR[n_nodes]
    assert error.max() < 10 * LARGEST_ERROR[n_nodes]  # levels of fewer rows are more skewed


@pytest.mark.parametrize(("scale", "spread"), [(1e-3, 0.6), (50.0, 0.1), (0.7, 2.0)])
def test_density_is_exact_wherever_the_noise_is(scale, spread):
    """Noise far below and above the effects', and levels of very different noises."""
    rows, everyone = rows_and_population(scale, spread)
    exact = [logsumexp(dense_level(rows, everyone, g) + LOG_MASS) for g in range(len(SIZES))]
    nodes = nodes_of(levels_of(rows), noise_rule(25), everyone)
    assert_allclose(nodes.log_density, exact, rtol=1e-6, atol=2e-3 * spread)


def test_no_spread_is_one_noise():
    rows, everyone = rows_and_population()
    equal = everyone._replace(own={SCALE: everyone.own[SCALE], SPREAD: np.float64(0.0)})
    nodes = nodes_of(levels_of(rows), noise_rule(3), equal)
    exact = [dense_level(rows, equal, g)[0] for g in range(len(SIZES))]
    assert_allclose(nodes.log_density, exact, rtol=1e-10)


def test_levels_without_rows_change_nothing():
    rows, everyone = rows_and_population()
    levels = levels_of(rows)
    whole = nodes_of(levels, noise_rule(7), everyone).log_density
    padded = np.asarray(nodes_of(levels.padded(), noise_rule(7), everyone).log_density)
    assert_allclose(padded[: len(SIZES)], whole, rtol=1e-14)
    assert not padded[len(SIZES) :].any()


def test_gradient_is_that_of_the_integral():
    rows, everyone = rows_and_population()
    levels, rule = levels_of(rows), noise_rule(25)
    flat, back = jax.flatten_util.ravel_pytree(everyone)
    slope = jax.grad(lambda point: log_density(levels, rule, back(point)))(flat)

    def value(point):
        return float(nodes_of(levels, rule, back(point)).log_density.sum())

    step = 1e-5
    differences = [
        (value(flat + step * e) - value(flat - step * e)) / (2 * step) for e in np.eye(len(flat))
    ]
    assert_allclose(slope, differences, rtol=1e-6, atol=1e-6)


def test_joint_density_is_that_of_the_rows():
    rows, everyone = rows_and_population()
    rng = np.random.default_rng(1)
    effects, u = rng.normal(size=(2, len(SIZES))), rng.normal(size=len(SIZES))
    x, codes = np.column_stack([rows.x, np.ones(len(rows.y))]), rows.codes[:, 0]
    line = x @ everyone.coef + (x[:, COLUMNS] * effects.T[codes]).sum(1)
    sd = (everyone.own[SCALE] * np.exp(everyone.own[SPREAD] * u))[codes]
    exact = (-0.5 * ((rows.y - line) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)).sum()
    assert_allclose(joint_log_density(levels_of(rows), everyone, effects, u), exact, rtol=1e-10)


def noises_and_population(rows, everyone):
    """As the engine keeps them, of one component."""
    nodes = nodes_of(levels_of(rows), noise_rule(15), everyone)
    mean, sd, skew = (np.asarray(a)[None] for a in noise_moments(nodes, everyone))
    density = np.asarray(nodes.log_density)[None]
    one = Population(
        everyone.coef[None],
        (everyone.group_root[0][None],),
        {name: value[None] for name, value in everyone.own.items()},
    )
    noises = LevelNoises(levels_of(rows), mean, sd, skew, density, np.zeros((1, 1), int))
    return noises, one


def on_grid(rows, everyone, g):
    """Masses of the grid's noises given the level, and the noises' sds."""
    total = dense_level(rows, everyone, g) + LOG_MASS
    share = np.exp(total - logsumexp(total))
    return share, everyone.own[SCALE] * np.exp(everyone.own[SPREAD] * GRID)


def test_moments_of_noise_match_a_grid():
    rows, everyone = rows_and_population()
    noises, _ = noises_and_population(rows, everyone)
    for g in range(len(SIZES)):
        share, sd = on_grid(rows, everyone, g)
        mean = share @ np.log(sd)
        off = np.log(sd) - mean
        exact = np.sqrt(share @ off**2)
        assert_allclose(noises.log_sd[0, g], mean, atol=1e-5)
        assert_allclose(noises.spread[0, g], exact, rtol=1e-4)
        assert_allclose(noises.skew[0, g], share @ off**3 / exact**3, atol=2e-3)


def test_effects_match_a_grid():
    rows, everyone = rows_and_population()
    noises, one = noises_and_population(rows, everyone)
    given = levels_given(noises, one, np.arange(len(SIZES)), 9)
    share = np.exp(given.log_share[0])
    mean = np.einsum("nk,ank->ka", share, given.mean[:, 0])
    second = np.einsum("nk,abnk,cbnk->kac", share, given.root[:, :, 0], given.root[:, :, 0])
    second += np.einsum("nk,ank,cnk->kac", share, given.mean[:, 0], given.mean[:, 0])
    for g in range(len(SIZES)):
        exact, exact_second = _dense_effects(rows, everyone, g)
        assert_allclose(mean[g], exact, atol=1e-4)
        assert_allclose(second[g], exact_second, atol=1e-4)


def _dense_effects(rows, everyone, g):
    share, sds = (a[::20] for a in on_grid(rows, everyone, g))
    share = share / share.sum()
    here = rows.codes[:, 0] == g
    x = np.column_stack([rows.x[here], np.ones(here.sum())])
    z, root = x[:, COLUMNS], everyone.group_root[0]
    prior = root @ root.T
    first, second = np.zeros(2), np.zeros((2, 2))
    for mass, sd in zip(share, sds, strict=True):
        gain = prior @ z.T @ np.linalg.inv(z @ prior @ z.T + sd**2 * np.eye(len(z)))
        mean = gain @ (rows.y[here] - x @ everyone.coef)
        first += mass * mean
        second += mass * (prior - gain @ z @ prior + np.outer(mean, mean))
    return first, second


def test_rows_left_out_match_grids_without_them():
    rows, everyone = rows_and_population()
    noises, one = noises_and_population(rows, everyone)
    x = np.column_stack([rows.x, np.ones(len(rows.y))])
    xy = np.column_stack([x, rows.y])
    order = np.argsort(rows.codes[:, 0], kind="stable")
    codes = rows.codes[order, 0]
    arguments = noises, one, codes, xy[order], x[order][:, COLUMNS], 9
    pair = rows_given(*arguments)
    row_by_row = budget(noise_entries=1, noise_row_entries=1).memory
    assert_allclose(rows_given(*arguments, row_by_row), pair, rtol=1e-12, atol=1e-12)
    for g in (0, 4, 5, 6):
        here, without = order[codes == g], pair[0][codes == g, 0]
        whole = logsumexp(dense_level(rows, everyone, g) + LOG_MASS)
        rest = partial(dense_level, rows, everyone, g)
        exact = [whole - logsumexp(rest(left_out=row) + LOG_MASS) for row in here]
        # 1 / p of a row that a level's noise depends on is large beyond the last node
        assert_allclose(without, exact, atol=0.02)
