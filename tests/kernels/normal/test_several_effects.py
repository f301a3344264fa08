"""Group effects of several factors given the rest, and their moments, against dense normals."""

import dense
import numpy as np
import pytest
from dense import Prior
from numpy.testing import assert_allclose
from reduced import (
    CHAINS,
    CROSSINGS,
    conditioned,
    normal_prior,
    places,
    population,
    problem,
    stacked,
    thetas,
    with_empty_levels,
)
from runs import budget

from skhier.kernels.normal.conditional import (
    condition,
    draw_others,
    log_marginal,
)
from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.moments import group_moments, line_moments
from skhier.kernels.records import Components
from skhier.utils.budget import USUAL

WIDE, SPARSE = USUAL.kernels.max_wide, 0
MANY, ONE = 2**19, 1  # entries: many points at a time, or one
WAYS = [(name, WIDE) for name in (*CHAINS, *CROSSINGS)] + [(name, SPARSE) for name in CROSSINGS]
in_both_ways = pytest.mark.parametrize(("name", "max_wide"), WAYS)
in_batches = pytest.mark.parametrize("entries", [MANY, ONE])


def laid_out(stats, plan, max_wide=WIDE):
    """With crossings as full matrices, or sparse."""
    return layout_of(stats, plan, budget(max_wide=max_wide).kernels)


def eliminating(entries):
    """A budget with so large temporary arrays of an elimination."""
    return budget(elimination_entries=entries).memory


def some_draws(design):
    """Three draws of the coefficients for each of two points of the variance parameters."""
    points = thetas(design)[:2] * 3
    beta = np.random.default_rng(4).normal(size=(len(points), design.x.shape[1] + 1))
    return points, population(beta, *stacked(points))


@in_batches
@in_both_ways
def test_log_marginal_of_draws_matches_dense_normal(name, max_wide, entries):
    design, stats, _, plan = problem(name)
    points, draws = some_draws(design)
    layout = laid_out(with_empty_levels(stats), plan, max_wide)
    found = log_marginal(layout, draws, eliminating(entries))
    known = [Prior(beta, np.zeros((len(beta), len(beta)))) for beta in draws.coef]
    expected = map(dense.log_marginal, [design] * len(points), points, known)
    assert_allclose(found, list(expected), rtol=1e-10, atol=1e-9)


def mixture(design, uncertain):
    """Three components, weights, and each one's dense moments of beta and all effects."""
    points, prior = thetas(design), normal_prior(design)
    at, (of_beta, of_effects) = stacked(points), places(design)
    posteriors = [dense.posterior(design, theta, prior) for theta in points]
    means, covs = map(np.stack, zip(*posteriors, strict=True))
    p, weights = len(of_beta), np.array([0.5, 0.2, 0.3])
    if uncertain:
        of_points = population(means[:, :p], *at)
        return Components(weights, of_points, covs[:, :p, :p]), means, covs
    beta = means[:, :p] + 0.5
    b = np.concatenate([b.ravel() for b in of_effects])
    for s in range(len(points)):
        means[s, b], rest = conditioned(means[s], covs[s], of_beta, beta[s], b)
        means[s, :p], covs[s] = beta[s], 0.0
        covs[s][np.ix_(b, b)] = rest
    return Components(weights, population(beta, *at)), means, covs


@pytest.mark.parametrize("uncertain", [True, False])
@in_both_ways
def test_group_moments_match_dense_normal(name, max_wide, uncertain):
    design, stats, _, plan = problem(name)
    components, means, covs = mixture(design, uncertain)
    weights = components.weights
    mean = weights @ means
    off = means - mean
    cov = np.tensordot(weights, covs, 1) + (weights[:, None] * off).T @ off
    of_beta, of_effects = places(design)
    layout = laid_out(with_empty_levels(stats), plan, max_wide)
    for entries in (MANY, ONE):
        memory = budget(moment_entries=entries, slope_entries=entries).memory
        found = group_moments(layout, components, memory)
        for moments, at, chol in zip(found, of_effects, components.group_root, strict=True):
            assert len(moments.mean) == len(at) + 1
            for g, level in enumerate(at):
                assert_allclose(moments.mean[g], mean[level], rtol=0, atol=1e-9)
                assert_allclose(moments.cov[g], cov[np.ix_(level, level)], rtol=0, atol=1e-9)
                assert_allclose(moments.cross[g], cov[np.ix_(of_beta, level)], rtol=0, atol=1e-9)
            # the level without rows is the population's Normal(0, Sigma)
            sigma = np.einsum("s,sij,skj->ik", weights, chol, chol)
            assert_allclose(moments.mean[-1], 0, atol=1e-12)
            assert_allclose(moments.cov[-1], sigma, rtol=1e-12, atol=1e-12)
            assert_allclose(moments.cross[-1], 0, atol=1e-12)


def in_a_row(effects_of, factors):
    """Draws of the effects (q, S, n_levels) of some factors, (S, m), a level's effects together."""
    parts = [np.moveaxis(effects_of[k], 0, -1) for k in factors]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def unit_noise(layout, others):
    """None at all, and then 1 in one place after the other, (q, 1 + m, n_levels) per factor."""
    shapes = [layout.stats.factors[k].zy.shape for k in others]
    sizes = [int(np.prod(shape)) for shape in shapes]
    rows = np.vstack([np.zeros(sum(sizes)), np.eye(sum(sizes))])
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return {
        k: np.swapaxes(part.reshape(-1, *shape), 0, 1)
        for k, part, shape in zip(others, parts, shapes, strict=True)
    }


@in_batches
@in_both_ways
def test_draws_of_others_have_dense_moments(name, max_wide, entries):
    """A draw is mean + J noise: without noise the mean, and J J' is the covariance."""
    design, stats, _, plan = problem(name)
    layout, others = laid_out(stats, plan, max_wide), sorted((*plan.chain[1:], *plan.dense))
    if not others:
        assert draw_others(layout, some_draws(design)[1], {}, eliminating(entries)) == {}
        return
    points, draws = some_draws(design)
    noise = unit_noise(layout, others)
    n = noise[others[0]].shape[1]
    found = draw_others(layout, draws.take(np.zeros(n, int)), noise, eliminating(entries))
    drawn = in_a_row(found, others)
    posterior = dense.posterior(design, points[0], normal_prior(design))
    of_beta, of_effects = places(design)
    wanted = np.concatenate([of_effects[k].ravel() for k in others])
    mean, cov = conditioned(*posterior, of_beta, draws.coef[0], wanted)
    jacobian = (drawn[1:] - drawn[0]).T
    assert_allclose(drawn[0], mean, rtol=0, atol=1e-9)
    assert_allclose(jacobian @ jacobian.T, cov, rtol=0, atol=1e-9)


@in_batches
@pytest.mark.parametrize("name", ["nested_deep", "deep_in_crossed", "many_effects"])
def test_each_draw_has_its_own_parameters_and_noise(name, entries):
    design, stats, _, plan = problem(name)
    layout, others = laid_out(stats, plan), (*plan.chain[1:], *plan.dense)
    _, draws = some_draws(design)
    rng, n = np.random.default_rng(5), len(draws.coef)
    shapes = {k: stats.factors[k].zy.shape for k in others}
    noise = {k: rng.normal(size=(q, n, n_levels)) for k, (q, n_levels) in shapes.items()}
    together = draw_others(layout, draws, noise, eliminating(entries))
    for s in range(n):
        alone = {k: a[:, s : s + 1] for k, a in noise.items()}
        found = draw_others(layout, draws.take([s]), alone)
        for k in others:
            assert_allclose(together[k][:, s], found[k][:, 0], rtol=1e-10, atol=1e-10)


def of_leaf_alone(design, leaf, values, s):
    """The rows less the other factors' effects: one factor is left."""
    columns, y = np.column_stack([design.x, np.ones(len(design.y))]), design.y
    for k, b in values.items():
        z = columns[:, [*design.slopes[k], -1]]
        y = y - (z * b[:, s, design.codes[k]].T).sum(1)
    return design._replace(y=y, codes=[design.codes[leaf]], slopes=[design.slopes[leaf]])


@in_both_ways
def test_leaf_given_all_others_matches_dense_normal(name, max_wide):
    design, stats, _, plan = problem(name)
    leaf, *_ = plan.chain
    points, draws = some_draws(design)
    rng, stats = np.random.default_rng(6), with_empty_levels(stats)
    shapes = {k: found.zy.shape for k, found in enumerate(stats.factors) if k != leaf}
    values = {k: rng.normal(size=(q, len(points), n)) for k, (q, n) in shapes.items()}
    n_levels, prior = dense.n_levels(design)[leaf], normal_prior(design)
    levels = np.array([n_levels - 1, 0, n_levels])  # the last has no rows
    given = condition(laid_out(stats, plan, max_wide), draws, levels, values)
    for s, theta in enumerate(points):
        alone = of_leaf_alone(design, leaf, values, s)
        of_beta, (of_leaf,) = places(alone)
        moments = dense.posterior(alone, theta._replace(chols=[theta.chols[leaf]]), prior)
        for j, g in enumerate(levels[:2]):
            mean, cov = conditioned(*moments, of_beta, draws.coef[s], of_leaf[g])
            root = given.root[:, :, s, j]
            assert_allclose(given.mean[:, s, j], mean, rtol=0, atol=1e-9)
            assert_allclose(root @ root.T, cov, rtol=0, atol=1e-9)
        root = given.root[:, :, s, 2]
        assert_allclose(given.mean[:, s, 2], 0, atol=1e-15)
        assert_allclose(root @ root.T, theta.chols[leaf] @ theta.chols[leaf].T, rtol=1e-12)


@pytest.mark.parametrize("uncertain", [True, False])
@pytest.mark.parametrize("name", [*CHAINS, *CROSSINGS])
def test_line_moments_match_dense_normal(name, uncertain):
    design, stats, _, plan = problem(name)
    components, means, covs = mixture(design, uncertain)
    of_beta, of_effects = places(design)
    x = np.column_stack([design.x, np.ones(len(design.y))])
    zs = [x[:, [*slopes, -1]] for slopes in design.slopes]
    rows = np.zeros((len(x), means.shape[1]))
    rows[:, of_beta] = x
    for z, at, codes in zip(zs, of_effects, design.codes, strict=True):
        np.put_along_axis(rows, at[codes], z, axis=1)
    codes = np.column_stack(design.codes)
    for entries in (MANY, ONE):
        found = line_moments(laid_out(stats, plan), components, x, zs, codes, entries)
        variance = np.einsum("km,smr,kr->sk", rows, covs, rows, optimize=True)
        assert_allclose(found[0], means @ rows.T, rtol=0, atol=1e-9)
        assert_allclose(found[1], variance, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("full_share", "is_wide"), [(0.0, True), (1.0, False)])
def test_crossings_that_are_nearly_full_are_matrices(full_share, is_wide):
    _, stats, _, plan = problem(next(iter(CROSSINGS)))
    kernels = budget(max_wide=1, wider=10**6, full_share=full_share).kernels
    assert set(layout_of(stats, plan, kernels).wide) == {is_wide}
