"""The order of elimination, and the likelihood it gives, against dense normals of the rows."""

from functools import partial
from itertools import product

import dense
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import Theta
from numpy.testing import assert_allclose
from reduced import (
    CHAINS,
    CROSSINGS,
    EVERY,
    coef_prior,
    normal_prior,
    problem,
    reduce,
    relabelled,
    thetas,
    with_empty_levels,
)
from runs import budget

from skhier.inference import runtime
from skhier.kernels.cholesky import log_det_and_schur
from skhier.kernels.normal.collapse import marginal_and_conditional
from skhier.statistics.elimination import arrange
from skhier.statistics.plan import elimination_plan
from skhier.statistics.records import Plan
from skhier.utils.budget import USUAL

TABLE, LIST = np.inf, 0.0
WAYS = [
    *product(CHAINS, [TABLE]),
    *product(CROSSINGS, [TABLE]),
    *product(["partially_crossed", "three_crossed", "disconnected"], [LIST]),
    *product(["deep_in_crossed", "many_effects"], [LIST]),
    pytest.param("crossed", LIST, marks=pytest.mark.slow),
    pytest.param("unbalanced", LIST, marks=pytest.mark.slow),
    pytest.param("weighted", LIST, marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


@pytest.mark.parametrize(
    ("name", "chain", "dense_ones"),
    [
        ("one", (0,), ()),
        ("nested", (1, 0), ()),
        ("nested_deep", (2, 1, 0), ()),
        ("one_row_levels", (1, 0), ()),
        ("one_level", (1, 0), ()),  # all is nested in a factor of one level
        ("same_twice", (0, 1), ()),
        ("crossed", (0,), (1,)),  # 4 levels of two effects, 5 of one
        ("partially_crossed", (1,), (0,)),
        ("disconnected", (1,), (0,)),
        ("three_crossed", (0,), (1, 2)),
        ("deep_in_crossed", (2, 1, 4), (0, 3)),
        ("many_effects", (2, 0), (1,)),
    ],
)
def test_plan_is_the_longest_chain(name, chain, dense_ones):
    assert problem(name).plan == Plan(chain, dense_ones)


def test_plan_leaves_the_fewest_effects_dense():
    """12 levels in 4 are fewer than 17."""
    child, other = np.arange(204) % 12, np.arange(204) % 17
    design = EVERY["one"](np.random.default_rng(0))
    design = design._replace(x=np.arange(204.0)[:, None], y=np.sin(np.arange(204.0)))
    design = design._replace(weights=np.ones(204, int), codes=[child // 3, child, other])
    assert reduce(design._replace(slopes=[(), (), ()])).plan == Plan((2,), (0, 1))
    assert reduce(design._replace(slopes=[(), (0,), ()])).plan == Plan((1, 0), (2,))


def test_no_factor_leaves_nothing_to_plan():
    _, stats, *_ = problem("one")
    assert elimination_plan(stats._replace(factors=(), pairs=())) == Plan((), ())


def at_points(stats, plan, chols, sigma, prior, budget=USUAL):
    """Many points at once, as in `targets.evaluate`."""

    def at_point(*variances):
        return marginal_and_conditional(stats, plan, *variances, prior, budget.kernels)

    return jax.vmap(at_point)(chols, sigma)


compiled = jax.jit(at_points, static_argnums=(1, 5))


def stacked(points):
    """Per factor, the points' square roots; their noise."""
    chols = zip(*(theta.chols for theta in points), strict=True)
    return tuple(map(np.stack, chols)), np.array([theta.sigma for theta in points])


def assert_dense(found, design, points, prior):
    p = design.x.shape[1] + 1
    for theta, value, mean, root in zip(points, *found, strict=True):
        assert_allclose(value, dense.log_marginal(design, theta, prior), rtol=0, atol=1e-9)
        expected, cov = dense.posterior(design, theta, prior)
        assert_allclose(mean, expected[:p], rtol=0, atol=1e-9)
        assert_allclose(root @ root.T, cov[:p, :p], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "scatter"), WAYS)
def test_marginal_matches_dense_normal(name, scatter):
    design, stats, _, plan = problem(name)
    points, prior = thetas(design), normal_prior(design)
    elimination = arrange(stats, plan, budget(scatter=scatter).kernels)
    assert (elimination.steps[0].table.size > 0) is (name in CROSSINGS and scatter == TABLE)
    assert_dense(
        compiled(elimination, plan, *stacked(points), coef_prior(prior)), design, points, prior
    )


def test_large_dense_block_is_factorised_by_lapack():
    design, stats, _, plan = problem("crossed")
    points, prior = thetas(design), normal_prior(design)
    at = arrange(stats, plan), plan, *stacked(points), coef_prior(prior), budget(lapack_rows=2)
    assert "cholesky" in str(jax.make_jaxpr(at_points, static_argnums=(1, 5))(*at))
    assert_dense(compiled(*at), design, points, prior)


@pytest.mark.parametrize("large", [2, 64])
def test_schur_complement_and_its_gradient_match_numpy(large):
    rng, k, step = np.random.default_rng(0), 5, 1e-5
    root = rng.normal(size=(3, 8, 8))
    systems, change = root @ np.swapaxes(root, 1, 2) + np.eye(8), rng.normal(size=(8, 8))

    def expected(m):
        p, d = m[:k, :k], m[:k, k:]
        return np.linalg.slogdet(p)[1], m[k:, k:] - d.T @ np.linalg.solve(p, d)

    def score(m):
        log_det, schur, _ = log_det_and_schur(m, k, large)
        return log_det + jnp.sin(schur).sum()

    found = jax.jit(jax.vmap(lambda m: log_det_and_schur(m, k, large)))(systems)
    gradients = jax.jit(jax.vmap(jax.grad(score)))(systems)
    change = change + change.T
    for m, *values, inverse, gradient in zip(systems, *found, gradients, strict=True):
        for value, wanted in zip(values, expected(m), strict=True):
            assert_allclose(value, wanted, rtol=1e-10, atol=1e-10)
        assert_allclose(inverse, np.linalg.inv(np.linalg.cholesky(m[:k, :k])), atol=1e-10)
        ends = [expected(m + h * change) for h in (step, -step)]
        up, down = (log_det + np.sin(schur).sum() for log_det, schur in ends)
        assert_allclose((gradient * change).sum(), (up - down) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("name", ["nested_unevenly", "crossed", "deep_in_crossed"])
def test_order_of_rows_and_levels_changes_rounding_only(name):
    design, stats, _, plan = problem(name)
    points, prior = stacked(thetas(design)), coef_prior(normal_prior(design))
    other = reduce(relabelled(design))
    assert other.plan == plan
    found = compiled(arrange(other.stats, plan), plan, *points, prior)
    expected = compiled(arrange(stats, plan), plan, *points, prior)
    for one, two in zip(found, expected, strict=True):
        assert_allclose(one, two, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "n"), [("nested_unevenly", 1), ("crossed", 3)])
def test_levels_without_rows_change_nothing(name, n):
    design, stats, _, plan = problem(name)
    points, prior = thetas(design), normal_prior(design)
    longer = arrange(with_empty_levels(stats, n), plan)
    found = compiled(longer, plan, *stacked(points), coef_prior(prior))
    assert_dense(found, design, points, prior)


def slopes_along(f, at, step=1e-3):
    """Central differences along each entry, extrapolated: the error is of order step^4."""

    def slope(direction, h):
        return (f(at + h * direction) - f(at - h * direction)) / (2 * h)

    axes = np.eye(len(at))
    return np.array([(4 * slope(e, step) - slope(e, 2 * step)) / 3 for e in axes])


def gradient_at(name, budget):
    """Derivatives by chols and sigma at one point, the lower triangles in a row; by differences."""
    design, stats, _, plan = problem(name)
    theta, prior = thetas(design, 2)[0], normal_prior(design)
    lower = [np.tril_indices(len(chol)) for chol in theta.chols]
    of_coefs, elimination = coef_prior(prior), arrange(stats, plan, budget.kernels)

    def flat(chols, sigma):
        return np.concatenate([*(c[at] for c, at in zip(chols, lower, strict=True)), [sigma]])

    def expected(numbers):
        parts = np.split(numbers[:-1], np.cumsum([len(at[0]) for at in lower])[:-1])
        chols = [np.zeros_like(chol) for chol in theta.chols]
        for chol, at, part in zip(chols, lower, parts, strict=True):
            chol[at] = part
        return dense.log_marginal(design, Theta(numbers[-1], chols), prior)

    @partial(jax.grad, argnums=(0, 1))
    def gradient(chols, sigma, stats, prior):
        return marginal_and_conditional(stats, plan, chols, sigma, prior, budget.kernels)[0]

    found = jax.jit(gradient)(tuple(theta.chols), theta.sigma, elimination, of_coefs)
    return flat(*jax.tree.map(np.asarray, found)), slopes_along(
        expected, flat(theta.chols, theta.sigma)
    )


@pytest.mark.parametrize(
    ("name", "scatter", "large", "chunk"),
    [
        ("nested_deep", TABLE, 64, 4),
        ("three_crossed", TABLE, 64, 1024),
        ("deep_in_crossed", LIST, 2, 1024),
        pytest.param("many_effects", TABLE, 64, 4, marks=pytest.mark.slow),
    ],
)
def test_gradient_matches_differences_of_dense_normal(name, scatter, large, chunk):
    sizes = {"scatter": scatter, "lapack_rows": large, "chunk": chunk, "chunk_factorised": chunk}
    found, expected = gradient_at(name, budget(**sizes))
    assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["nested_deep", "many_effects"])
def test_chunks_of_levels_match_dense_normal(name):
    in_chunks = budget(chunk=4, chunk_factorised=4)
    design, stats, _, plan = problem(name)
    points, prior = thetas(design), normal_prior(design)
    elimination = arrange(stats, plan)
    assert elimination.steps[0].d.shape[-1] > 2 * 4  # more than are taken whole
    found = compiled(elimination, plan, *stacked(points), coef_prior(prior), in_chunks)
    assert_dense(found, design, points, prior)
