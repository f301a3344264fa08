"""The likelihood without group effects and coefficients, against dense normals of the rows."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import budget

from skhier.inference import runtime
from skhier.kernels.normal.collapse import marginal_and_conditional
from skhier.kernels.records import MIN_VARIANCE, CoefPrior
from skhier.statistics.addition import added
from skhier.statistics.elimination import Elimination, arrange
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.products import group_stats
from skhier.statistics.records import FactorStats, GroupStats, Plan
from skhier.statistics.units import internal_units
from skhier.utils.budget import USUAL

F = np.float64
SIZES = (12, 7, 3, 2, 1, 1, 0, 4)  # rows of 8 groups: fewer than effects, one, none
NATS_PER_ROW = 1e-9
PLAN = Plan((0,), ())


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


class Data(NamedTuple):
    """Rows: design of the coefficients, of the effects, response, group, weight."""

    x: np.ndarray
    z: np.ndarray
    y: np.ndarray
    codes: np.ndarray
    weights: np.ndarray

    def repeated(self):
        again = np.repeat(np.arange(len(self.y)), self.weights)
        return Data(*(a[again] for a in self))._replace(weights=np.ones(len(again), int))


def rows(q, p, sizes=SIZES, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(codes), p))
    y = x.sum(1) + rng.normal(size=len(codes)) + rng.normal(size=len(sizes))[codes]
    weights = rng.integers(1, 4, len(y)) if weighted else np.ones(len(y), int)
    return Data(x, x[:, p - q :], y, codes, weights)


def statistics(data, n_groups=8) -> Elimination:
    """Weighted sums of products, one group at a time; their number is rounded up."""
    x, z, y, codes, w = data

    def sums(a, b):
        return np.stack([a[codes == g].T @ b[codes == g] for g in range(n_groups)], -1)

    wx, wy = w[:, None] * x, w * y
    return ordered(
        (
            FactorStats(
                sums(z, w[:, None] * z), sums(z, wx), sums(z, wy), np.zeros((0, 0, n_groups))
            ),
        ),
        xx=x.T @ wx,
        xy=x.T @ wy,
        yy=F(y @ wy),
        n=F(w.sum()),
    )


def ordered(factors, **totals):
    """In the order of elimination, of at most one factor."""
    return arrange(GroupStats(factors, (), **totals), PLAN if factors else Plan((), ()))


def coef_prior(p, integrated, seed=0):
    """Normal with correlations on some coefficients, values for the others."""
    rng = np.random.default_rng(seed)
    k = len(integrated)
    root = np.triu(rng.normal(size=(k, k)) / 5) + np.diag(1 + rng.uniform(size=k))
    mean = rng.normal(size=k)
    offset = rng.normal(size=p)
    basis = np.eye(p)[:, list(integrated)] + 0.1 * rng.normal(size=(p, k))
    rows_ = np.column_stack([root, root @ mean])
    return CoefPrior(basis, offset, rows_, F(-np.log(np.diag(root)).sum()))


def effects_factor(q, kind, seed=0):
    """Lower triangular square roots of Sigma, most of them singular."""
    rng = np.random.default_rng(seed)
    chol = np.tril(rng.normal(size=(q, q)))
    if kind == "first is zero":
        chol[0] = 0
    if kind == "last is zero":
        chol[-1] = 0
    if kind == "perfect correlation":
        chol[:, 1:] = 0
    if kind == "zero":
        chol[:] = 0
    return chol


KINDS = ["regular", "first is zero", "last is zero", "perfect correlation", "zero"]


def prior_moments(prior):
    """Mean and covariance of the integrated coefficients; values of all if those are 0."""
    k = prior.basis.shape[1]
    root = prior.rows[:, :k]
    return np.linalg.solve(root, prior.rows[:, k]), np.linalg.inv(root.T @ root)


def group_covariance(data, chol, sigma):
    """V = sigma^2 I + Z Sigma Z', rows of one group correlated."""
    same = data.codes[:, None] == data.codes
    return sigma**2 * np.eye(len(data.y)) + same * (data.z @ chol @ chol.T @ data.z.T)


def log_normal(residual, cov):
    sign, log_det = np.linalg.slogdet(cov)
    assert sign == 1
    quadratic = residual @ np.linalg.solve(cov, residual)
    return -0.5 * (len(residual) * np.log(2 * np.pi) + log_det + quadratic)


def dense_log_marginal(data, chol, sigma, prior):
    """log N(y; X (B m + o), V + X B C B'X'), u ~ N(m, C), beta = B u + o."""
    data = data.repeated()
    mean, cov = prior_moments(prior)
    design = data.x @ prior.basis
    residual = data.y - data.x @ prior.offset - design @ mean
    return log_normal(residual, group_covariance(data, chol, sigma) + design @ cov @ design.T)


def assert_nats(found, expected, n):
    assert_allclose(found, expected, rtol=0, atol=NATS_PER_ROW * n)


def of_one_factor(stats, chol, sigma, prior, budget=USUAL):
    return marginal_and_conditional(stats, PLAN, (chol,), sigma, prior, budget.kernels)[0]


compiled = jax.jit(of_one_factor, static_argnums=4)
IN_CHUNKS = budget(chunk=2, chunk_factorised=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("q", [1, 2, 3, 4, 5, 6, 9, 18])
def test_marginal_matches_dense_normal(q, kind):
    p = q + 1
    data, prior, chol = rows(q, p), coef_prior(p, range(p)), effects_factor(q, kind)
    for sigma in (0.05, 0.7, 20.0):
        found = compiled(statistics(data), chol, F(sigma), prior)
        assert_nats(found, dense_log_marginal(data, chol, sigma, prior), len(data.y))


@pytest.mark.parametrize("integrated", [(), (3,), (0, 2, 5), range(7)])
def test_marginal_matches_dense_normal_with_known_coefficients(integrated):
    data, prior, chol = rows(2, 7), coef_prior(7, integrated), effects_factor(2, "regular")
    found = compiled(statistics(data), chol, F(0.7), prior)
    assert_nats(found, dense_log_marginal(data, chol, 0.7, prior), len(data.y))


def test_marginal_matches_dense_normal_with_many_columns():
    data, prior = rows(2, 40, (30, 20, 9, 1, 3)), coef_prior(40, range(40))
    chol = effects_factor(2, "regular")
    found = compiled(statistics(data), chol, F(0.7), prior)
    assert_nats(found, dense_log_marginal(data, chol, 0.7, prior), len(data.y))


@pytest.mark.parametrize("sizes", [(1,), (9,), (1, 1, 1), (2,) * 5, (40, 1)])
@pytest.mark.parametrize("q", [1, 3, 6])
def test_marginal_matches_dense_normal_for_few_rows(q, sizes):
    data, prior = rows(q, q + 1, sizes), coef_prior(q + 1, range(q + 1))
    chol = effects_factor(q, "regular")
    found = compiled(statistics(data), chol, F(0.7), prior)
    assert_nats(found, dense_log_marginal(data, chol, 0.7, prior), len(data.y))


@pytest.mark.parametrize("q", [1, 3, 5])
def test_weights_are_repeated_rows(q):
    data, prior = rows(q, q + 1, weighted=True), coef_prior(q + 1, range(q + 1))
    chol = effects_factor(q, "regular")
    assert len(data.repeated().y) > 1.5 * len(data.y)
    found = compiled(statistics(data), chol, F(0.7), prior)
    assert_nats(found, dense_log_marginal(data, chol, 0.7, prior), len(data.repeated().y))


def test_no_groups_is_linear_regression():
    data, prior = rows(0, 3, (20,)), coef_prior(3, range(3))
    x, y = data.x, data.y
    stats = ordered((), xx=x.T @ x, xy=x.T @ y, yy=F(y @ y), n=F(20))
    compiled = jax.jit(marginal_and_conditional, static_argnums=1)
    found, *_ = compiled(stats, Plan((), ()), (), F(0.7), prior)
    assert_nats(found, dense_log_marginal(data, np.zeros((0, 0)), 0.7, prior), 20)


@pytest.mark.parametrize("q", [2, 5])
def test_padded_groups_add_nothing(q):
    sizes = (*SIZES, 5)
    data, prior = rows(q, q + 1, sizes), coef_prior(q + 1, range(q + 1))
    padded = statistics(data, len(sizes))
    assert padded.steps[0].zz.shape[-1] == len(sizes) + 1
    chol = effects_factor(q, "regular")
    for sigma in (0.05, 0.7, 20.0):
        found = compiled(padded, chol, F(sigma), prior)
        assert_nats(found, dense_log_marginal(data, chol, sigma, prior), len(data.y))


def is_in_chunks(f, *arguments):
    return "scan" in str(jax.make_jaxpr(f)(*arguments))


@pytest.mark.parametrize(("q", "n_groups"), [(2, 12), (2, 9), (2, 7), (5, 12)])
def test_chunks_of_groups_match_dense_normal(q, n_groups):
    sizes = np.random.default_rng(0).integers(0, 6, n_groups)
    data, prior = rows(q, q + 1, sizes), coef_prior(q + 1, range(q + 1))
    stats, chol = statistics(data, n_groups), effects_factor(q, "regular")
    assert is_in_chunks(partial(of_one_factor, budget=IN_CHUNKS), stats, chol, F(0.7), prior)
    found = compiled(stats, chol, F(0.7), prior, IN_CHUNKS)
    assert_nats(found, dense_log_marginal(data, chol, 0.7, prior), len(data.y))


@pytest.mark.parametrize("q", [2, 5])
def test_thousands_of_groups_match_dense_normals(q):
    """With the coefficients known the groups are independent: a small dense normal for each."""
    sizes = np.random.default_rng(1).integers(1, 6, 2500)
    data, prior = rows(q, q + 1, sizes), coef_prior(q + 1, ())
    chol = effects_factor(q, "regular")
    stats = statistics(data, 2500)
    assert is_in_chunks(of_one_factor, stats, chol, F(0.7), prior)
    apart = [Data(*(a[data.codes == g] for a in data)) for g in range(2500)]
    expected = sum(dense_log_marginal(group, chol, 0.7, prior) for group in apart)
    assert_nats(compiled(stats, chol, F(0.7), prior), expected, len(data.y))


def density_at(chol, sigma, offset, stats, prior, budget=USUAL):
    return of_one_factor(stats, chol, sigma, prior._replace(offset=offset), budget)


compiled_gradient = jax.jit(jax.grad(density_at, argnums=(0, 1, 2)))


def derivative(f, at, step=1e-3):
    """Central differences of each entry, extrapolated: the error is of order step^4."""

    def ahead(i, h):
        moved = np.array(at, float)
        moved.flat[i] += h
        return f(moved)

    def slope(i, h):
        return (ahead(i, h) - ahead(i, -h)) / (2 * h)

    found = [(4 * slope(i, step) - slope(i, 2 * step)) / 3 for i in range(np.size(at))]
    return np.reshape(found, np.shape(at))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("q", "p"), [(1, 3), (3, 5), (5, 7), (2, 36)])
def test_gradient_matches_central_differences_of_dense_normal(q, p, kind):
    data, prior, chol = rows(q, p), coef_prior(p, range(1, p)), effects_factor(q, kind)
    stats, sigma = statistics(data), 0.7

    def dense_at(chol, sigma, offset):
        return dense_log_marginal(data, np.tril(chol), sigma, prior._replace(offset=offset))

    at = (chol, F(sigma), prior.offset)
    for i, gradient in enumerate(compiled_gradient(*at, stats, prior)):
        expected = derivative(lambda v, i=i: dense_at(*at[:i], v, *at[i + 1 :]), at[i])
        gradient = np.tril(gradient) if i == 0 else gradient
        assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("q", [3, 5])
def test_gradient_is_the_same_in_chunks(q):
    p = q + 2
    data, prior = rows(q, p), coef_prior(p, range(1, p))
    stats, chol = statistics(data), effects_factor(q, "regular")

    at = (chol, F(0.7), prior.offset, stats, prior)
    whole = compiled_gradient(*at)
    in_chunks = partial(density_at, budget=IN_CHUNKS)
    assert is_in_chunks(in_chunks, *at)
    for one, other in zip(whole, jax.jit(jax.grad(in_chunks, (0, 1, 2)))(*at), strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("q", [1, 2, 5])
def test_coefficients_given_the_rest_match_dense_posterior(q, kind):
    """Generalised least squares with the prior as rows: P = X'V^-1 X + C^-1."""
    p = q + 4
    data, prior = rows(q, p, weighted=True), coef_prior(p, range(2, p))
    chol, sigma = effects_factor(q, kind), 0.7
    given = jax.jit(marginal_and_conditional, static_argnums=1)
    _, mean, root = given(statistics(data), PLAN, (chol,), F(sigma), prior)
    again = data.repeated()
    design = again.x @ prior.basis
    before, cov = prior_moments(prior)
    precise = np.linalg.solve(group_covariance(again, chol, sigma), design)
    after = np.linalg.inv(precise.T @ design + np.linalg.inv(cov))
    score = precise.T @ (again.y - again.x @ prior.offset) + np.linalg.solve(cov, before)
    assert_allclose(mean, prior.offset + prior.basis @ after @ score, rtol=1e-9, atol=1e-9)
    assert_allclose(root @ root.T, prior.basis @ after @ prior.basis.T, rtol=1e-9, atol=1e-10)


def test_perfect_fit_has_a_bounded_density():
    data = rows(2, 3)
    data = data._replace(y=data.x @ [1.0, -2.0, 0.5])
    stats, prior = statistics(data), coef_prior(3, range(3))
    prior = prior._replace(rows=0.0 * prior.rows)
    sigma = np.geomspace(1e-12, 1, 100)
    chol = effects_factor(2, "zero")
    values = np.array([compiled(stats, chol, F(s), prior) for s in sigma])
    assert np.all(np.isfinite(values))
    as_small_as_matters = sigma**2 <= MIN_VARIANCE
    assert_array_equal(values[as_small_as_matters], values.max())
    assert np.all(np.diff(values[~as_small_as_matters]) < 0)


def user_rows(seed=0):
    """Rows on a grid, which large offsets leave unrounded."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 8, 60)
    x = np.round((rng.normal(size=(60, 2)) * [3.0, 0.1] + 5) * 2**20) / 2**20
    y = 200 + 4 * x[:, 0] + 9 * rng.normal(size=8)[codes] + 20 * rng.normal(size=60)
    return x, np.round(y * 2**10) / 2**10, codes


def reduced(x, y, codes, units=None):
    ones, slopes = np.ones(len(y)), ((0, 1),)
    if units is None:
        units = internal_units(mean_sd_of_rows(x, ones), mean_sd_of_rows(y[:, None], ones), slopes)
    return group_stats(x, y, ones, codes[:, None], [8], slopes, units, ()), units


def density(stats, chol, sigma, prior):
    return compiled(arrange(stats, PLAN), chol, F(sigma), prior)


@pytest.mark.parametrize(("x_offset", "y_offset"), [(0, 1e9), (0, 2.0**30), (1e8, 0), (-1e8, 1e9)])
def test_large_offsets_move_nothing(x_offset, y_offset):
    x, y, codes = user_rows()
    near, units = reduced(x, y, codes)
    far, far_units = reduced(x + x_offset, y + y_offset, codes)
    # the means are rounded to the grid of larger numbers, and parameters sit at the means
    dx = ((far_units.x_mean - x_offset) - units.x_mean) / units.x_scale
    dy = ((far_units.y_mean - y_offset) - units.y_mean) / units.y_scale
    moved = np.eye(3)
    moved[2, :2] = dx
    for seed in range(20):
        prior, chol = coef_prior(3, range(3), seed), effects_factor(3, "regular", seed)
        there = prior._replace(
            basis=moved @ prior.basis, offset=moved @ prior.offset - np.array([0, 0, dy])
        )
        sigma = F(np.exp(np.random.default_rng(seed).normal()))
        expected = density(near, chol, sigma, prior)
        assert_allclose(density(far, moved @ chol, sigma, there), expected, rtol=0, atol=1e-6)


def test_order_of_rows_and_groups_changes_rounding_only():
    x, y, codes = user_rows()
    rng = np.random.default_rng(1)
    order, labels = rng.permutation(60), rng.permutation(8)
    chol, prior = effects_factor(3, "regular"), coef_prior(3, range(3))
    stats, units = reduced(x, y, codes)
    other, other_units = reduced(x[order], y[order], labels[codes[order]])
    for one, two in zip(jax.tree.leaves(units), jax.tree.leaves(other_units), strict=True):
        assert_array_equal(one, two)
    expected = density(stats, chol, 0.7, prior)
    assert_allclose(density(other, chol, 0.7, prior), expected, rtol=1e-13)


def test_statistics_of_parts_add_up():
    x, y, codes = user_rows()
    stats, units = reduced(x, y, codes)
    part = np.random.default_rng(1).uniform(size=60) < 0.4
    parts = [reduced(x[i], y[i], codes[i], units)[0] for i in (part, ~part)]
    together = added(*parts)
    chol, prior = effects_factor(3, "regular"), coef_prior(3, range(3))
    expected = density(stats, chol, 0.7, prior)
    assert_allclose(density(together, chol, 0.7, prior), expected, rtol=1e-13)
