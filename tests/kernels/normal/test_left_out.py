"""Leaving a row, or a group, out: against dense normal distributions of the rows."""

import numpy as np
import precise
import pytest
from dense import DESIGNS, Prior, n_levels, random_theta
from dense import leave_rows_out as dense_rows_out
from dense import posterior as dense_posterior
from numpy.testing import assert_allclose
from reduced import CHAINS, CROSSINGS, EVERY, population
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.information import level_rows, others_information, total_information
from skhier.kernels.normal.left_out import (
    InternalRows,
    LeftOut,
    given_all,
    leave_groups_out,
    leave_rows_out,
    levels_alone,
    rows_alone,
    smoothed,
)
from skhier.kernels.normal.left_out_of_several import leave_rows_out_of_several
from skhier.kernels.records import CoefPriors, Components
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.plan import elimination_plan
from skhier.statistics.products import group_stats, level_pairs
from skhier.statistics.units import internal_units

CODES = np.repeat([0, 1, 2, 3], [9, 6, 2, 1])
N_GROUPS, P, S = 5, 3, 4


class Case:
    """Rows of five groups (the last is empty), variance parameters, a normal prior of beta."""

    def __init__(self, q, singular=False):
        rng = np.random.default_rng(q)
        self.x = np.column_stack([rng.normal(size=(len(CODES), P - 1)), np.ones(len(CODES))])
        self.z = self.x[:, P - q :]
        self.y = rng.normal(size=len(CODES))
        self.sigma = np.exp(rng.normal(size=S) / 2)
        self.chol = np.tril(rng.normal(size=(S, q, q)))
        if singular:
            self.chol[:, :, -1] = 0
        root = rng.normal(size=(P, P))
        self.prior_cov, self.prior_mean = root @ root.T, rng.normal(size=P)

    def levels(self):
        return self.level_rows(np.arange(len(CODES)))

    def level_rows(self, rows):
        """Of some rows, perhaps several times."""
        codes, z, w = CODES[rows], self.z[rows], np.column_stack([self.x, self.y])[rows]
        of = [g == codes for g in range(N_GROUPS)]
        return level_rows(
            np.stack([z[i].T @ z[i] for i in of], -1),
            np.stack([z[i].T @ w[i] for i in of], -1),
            np.stack([w[i].T @ w[i] for i in of], -1),
            np.bincount(codes, minlength=N_GROUPS).astype(float),
        )

    def rows_out(self, components):
        levels = self.levels()
        _, coefs = given_all(levels, components)
        rows = InternalRows(self.x, (self.z,), self.y, CODES[:, None], np.ones(len(CODES)))
        return leave_rows_out(levels, coefs, components, rows, np.arange(len(CODES)))

    def groups_out(self, components):
        levels = self.levels()
        whole = given_all(levels, components)
        return leave_groups_out(levels, *whole, components, np.arange(N_GROUPS))

    def v(self, s):
        same = CODES[:, None] == CODES
        sigma2 = self.sigma[s] ** 2 * np.eye(len(CODES))
        return same * (self.z @ self.chol[s] @ self.chol[s].T @ self.z.T) + sigma2

    def marginal(self, s):
        """Mean and covariance of y with beta integrated out."""
        return self.x @ self.prior_mean, self.v(s) + self.x @ self.prior_cov @ self.x.T

    def components(self):
        weights = np.arange(1.0, S + 1) / np.arange(1.0, S + 1).sum()
        means, covs = [], []
        for s in range(S):
            precise = np.linalg.solve(self.v(s), self.x)
            before = np.linalg.inv(self.prior_cov)
            covs.append(np.linalg.inv(self.x.T @ precise + before))
            means.append(covs[-1] @ (precise.T @ self.y + before @ self.prior_mean))
        means, covs = np.stack(means), np.stack(covs)
        return Components(weights, population(means, self.sigma, [self.chol]), covs, self.prior())

    def prior(self):
        root = np.linalg.inv(np.linalg.cholesky(self.prior_cov))
        target = np.tile(root @ self.prior_mean, (S, 1))
        return CoefPriors(np.eye(P), root, np.zeros((S, P)), target)


def density_of(part, mean, cov, y):
    """Log density of y[part] given the other entries."""
    rest = ~part
    gain = np.linalg.solve(cov[np.ix_(rest, rest)], cov[np.ix_(rest, part)]).T
    at = mean[part] + gain @ (y[rest] - mean[rest])
    left = cov[np.ix_(part, part)] - gain @ cov[np.ix_(rest, part)]
    return multivariate_normal(at, left).logpdf(y[part])


@pytest.mark.parametrize(("q", "singular"), [(1, False), (2, False), (2, True), (3, False)])
def test_row_left_out_is_the_dense_conditional(q, singular):
    case = Case(q, singular)
    found = case.rows_out(case.components())
    for s in range(S):
        mean, cov = case.marginal(s)
        for i in range(len(CODES)):
            expected = density_of(np.arange(len(CODES)) == i, mean, cov, case.y)
            assert_allclose(found.without[s, i], expected, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(set(DESIGNS) - {"weighted"}))
def test_row_left_out_of_several_factors_is_the_dense_conditional(name):
    rng = np.random.default_rng(0)
    design = DESIGNS[name](rng)
    x, y, weights, codes = design.x, design.y, design.weights, np.column_stack(design.codes)
    slopes = tuple(map(tuple, design.slopes))
    p = x.shape[1] + 1
    units = internal_units(
        mean_sd_of_rows(x, weights), mean_sd_of_rows(y[:, None], weights), slopes
    )
    units = units._replace(  # so that internal coordinates are the user's
        x_mean=0 * units.x_mean, x_scale=0 * units.x_scale + 1, y_mean=0.0, y_scale=1.0
    )
    stats = group_stats(x, y, weights, codes, n_levels(design), slopes, units, level_pairs(codes))
    layout = layout_of(stats, elimination_plan(stats))
    prior = Prior(np.zeros(p), np.eye(p))
    thetas = [random_theta(design, rng) for _ in range(2)]
    found = [dense_posterior(design, theta, prior) for theta in thetas]
    components = Components(
        np.full(2, 0.5),
        population(
            np.stack([mean[:p] for mean, _ in found]),
            np.array([theta.sigma for theta in thetas]),
            (np.stack(chols) for chols in zip(*(t.chols for t in thetas), strict=True)),
        ),
        np.stack([cov[:p, :p] for _, cov in found]),
    )
    design_x = np.column_stack([x, np.ones(len(x))])
    zs = [design_x[:, [*varying, p - 1]] for varying in slopes]
    rows = InternalRows(design_x, tuple(zs), y, codes, weights)
    left = leave_rows_out_of_several(layout, components, rows, np.arange(len(y)))
    for s, theta in enumerate(thetas):
        assert_allclose(left.without[s], dense_rows_out(design, theta, prior), rtol=1e-8)


@pytest.mark.parametrize(("q", "singular"), [(1, False), (2, False), (2, True), (3, False)])
def test_group_left_out_is_the_dense_conditional(q, singular):
    case = Case(q, singular)
    found = case.groups_out(case.components())
    for s in range(S):
        mean, cov = case.marginal(s)
        for g in range(N_GROUPS - 1):
            expected = density_of(g == CODES, mean, cov, case.y)
            assert_allclose(found.without[s, g], expected, rtol=1e-9)
    assert_allclose(found.without[:, -1], 0, atol=1e-12)  # no rows, no density


def test_data_seen_again_have_their_posterior_predictive_density():
    case = Case(2)
    components = case.components()
    rows = case.rows_out(components)
    groups = case.groups_out(components)
    n = len(CODES)
    for s in range(S):
        mean, cov = case.marginal(s)
        lines = cov - case.sigma[s] ** 2 * np.eye(n)  # of a new y at the same lines, and y itself
        gain = np.linalg.solve(cov, lines).T
        after, spread = mean + gain @ (case.y - mean), lines - gain @ lines
        for i in range(n):
            again = multivariate_normal(after[i], spread[i, i] + case.sigma[s] ** 2)
            assert_allclose(rows.within[s, i], again.logpdf(case.y[i]), rtol=1e-9)
        for g in range(N_GROUPS - 1):  # a new group with the same rows, effects of its own
            x = case.x[g == CODES]
            cov_g = case.v(s)[np.ix_(g == CODES, g == CODES)]
            again = multivariate_normal(
                x @ components.coef[s], cov_g + x @ components.coef_cov[s] @ x.T
            )
            assert_allclose(groups.within[s, g], again.logpdf(case.y[g == CODES]), rtol=1e-9)


def test_without_a_covariance_the_coefficients_are_draws():
    case = Case(2)
    components = case.components()._replace(coef_cov=None, prior=None)
    rows = case.rows_out(components)
    groups = case.groups_out(components)
    for s in range(S):
        mean = case.x @ components.coef[s]
        for i in range(len(CODES)):
            expected = density_of(np.arange(len(CODES)) == i, mean, case.v(s), case.y)
            assert_allclose(rows.without[s, i], expected, rtol=1e-9)
        for g in range(N_GROUPS - 1):
            expected = density_of(g == CODES, mean, case.v(s), case.y)
            assert_allclose(groups.without[s, g], expected, rtol=1e-9)


def test_what_alone_decides_a_flat_coefficient():
    case = Case(2)
    case.x[:, 0] = CODES == 3  # the only row of its level
    flat = CoefPriors(np.eye(P), np.diag([0.0, 1.0, 0.0]), np.zeros((S, P)), np.zeros((S, P)))
    of_levels = np.stack([case.x[g == CODES].T @ case.x[g == CODES] for g in range(N_GROUPS)], -1)
    xx = case.x.T @ case.x
    np.testing.assert_array_equal(levels_alone(xx, of_levels, flat), np.arange(N_GROUPS) == 3)
    np.testing.assert_array_equal(rows_alone(xx, case.x, flat), CODES == 3)
    proper = flat._replace(root=np.diag([1e-7, 1.0, 0.0]))
    assert not levels_alone(xx, of_levels, proper).any()
    assert not rows_alone(xx, case.x, proper).any()
    twice = xx + case.x[-1:].T @ case.x[-1:]  # a row that is there twice is not alone
    assert not rows_alone(twice, case.x, flat).any()


def test_smoothed_averages_are_importance_sampling():
    rng = np.random.default_rng(0)
    n = 4000
    theta = rng.normal(size=n)
    y = 0.3
    density = -0.5 * (y - theta) ** 2 - 0.5 * np.log(2 * np.pi)
    elpd, lpd, k_hat, mcse = smoothed(
        LeftOut(0.1 * density[:, None], density[:, None]), np.full(n, 1 / n)
    )
    exact = -np.log(np.mean(np.exp(-0.1 * density)))
    assert k_hat < 0.1 + 3 * 1.1 / np.sqrt(3 * np.sqrt(n))  # the exact shape is 0.1
    assert_allclose(elpd, exact, atol=4 * mcse.item())
    assert_allclose(lpd, logsumexp(density) - np.log(n))
    assert_allclose(mcse, np.std(0.1 * density) / np.sqrt(n), rtol=0.2)


def of_one_row(rng):
    """Every row a level of its own, two effects."""
    return np.arange(12), rng.normal(size=(12, 2)), 2


def of_one_or_two_rows(rng):
    codes = np.repeat(np.arange(10), [1, 2, 2, 1, 1, 2, 1, 1, 2, 1])
    return codes, rng.normal(size=(len(codes), 2)), 2


def with_a_feature_that_does_not_vary(rng):
    return np.arange(12), rng.normal(size=(12, 3)), 1


def with_as_many_coefficients_as_rows(rng):
    return np.arange(4), rng.normal(size=(4, 4)), 1


def of_many_rows(rng):
    codes = np.repeat(np.arange(5), [8, 7, 3, 2, 6])
    return codes, rng.normal(size=(len(codes), 3)), 2


def with_a_row_far_out(rng):
    x = rng.normal(size=(26, 2))
    x[3, 0] = 1e3
    return np.repeat(np.arange(4), [8, 7, 5, 6]), x, 2


def with_a_row_that_alone_has_a_feature(rng):
    x = rng.normal(size=(20, 3))
    x[:, 0] = np.arange(20) == 5
    return np.repeat(np.arange(5), 4), x, 1


def without_groups(rng):
    return np.zeros(9, int), rng.normal(size=(9, 4)), 0


FEW = (
    of_one_row,
    of_one_or_two_rows,
    with_a_feature_that_does_not_vary,
    with_as_many_coefficients_as_rows,
)
MORE = (
    of_many_rows,
    with_a_row_far_out,
    with_a_row_that_alone_has_a_feature,
    without_groups,
)


class Precise:
    """Rows of one level each or of many, a single point of the parameters, y drawn from it."""

    def __init__(self, table, sigma, tau, weights=None):
        rng = np.random.default_rng(3)
        codes, x, q = table(rng)
        x[:, -1] = 1
        n, p = x.shape
        chol = tau * (np.eye(q) + 0.4 * np.tril(rng.normal(size=(q, q)), -1))
        prior_sd = rng.uniform(1, 3, p)
        z = x[:, p - q :]
        self.v = precise.covariance(x, [z], [codes], [chol], sigma, np.diag(prior_sd**2))
        self.y = (precise.cholesky(self.v) @ rng.standard_normal(n)).astype(float)
        self.codes, self.n_levels = codes, codes.max() + 1
        w = np.column_stack([x, self.y])
        chols = (chol[None],) if q else ()
        prior = CoefPriors(np.eye(p), np.diag(1 / prior_sd), np.zeros((1, p)), np.zeros((1, p)))
        self.components = Components(
            np.ones(1),
            population(np.zeros((1, p)), np.array([sigma]), chols),
            np.zeros((1, p, p)),
            prior,
        )
        self.levels = level_rows(
            *(self.sums(a, b) for a, b in ((z, z), (z, w), (w, w))), np.bincount(codes) * 1.0
        )
        of_factor = codes[:, None] if q else np.zeros((n, 0), int)
        self.rows = InternalRows(x, (z,) if q else (), self.y, of_factor, np.ones(n))

    def sums(self, a, b):
        return np.stack(
            [a[self.codes == g].T @ b[self.codes == g] for g in range(self.n_levels)], -1
        )

    def rows_out(self):
        _, coefs = given_all(self.levels, self.components)
        which = np.arange(len(self.y))
        found = leave_rows_out(self.levels, coefs, self.components, self.rows, which)
        exact = [precise.conditional(self.v, self.y, which == i) for i in which]
        return found.without[0], exact

    def groups_out(self):
        whole = given_all(self.levels, self.components)
        which = np.arange(self.n_levels)
        found = leave_groups_out(self.levels, *whole, self.components, which)
        exact = [precise.conditional(self.v, self.y, self.codes == g) for g in which]
        return found.without[0], exact


@pytest.mark.parametrize("sigma", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("tau", [1.0, 280.0])
@pytest.mark.parametrize("table", FEW, ids=lambda table: table.__name__)
def test_levels_of_few_rows_lose_no_digit_where_sigma_is_small(table, tau, sigma):
    case = Precise(table, sigma, tau)
    assert_allclose(*case.rows_out(), rtol=1e-10, atol=1e-10)
    assert_allclose(*case.groups_out(), rtol=1e-10, atol=1e-10)


def rounding(case, sigma):
    """What the last digit of the cross-products is in units of the noise's variance."""
    largest = np.square(case.y).sum() + np.square(case.rows.x).sum()
    return np.finfo(float).eps * largest / sigma**2


@pytest.mark.parametrize("sigma", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("table", MORE, ids=lambda table: table.__name__)
def test_rows_that_a_line_fits_lose_no_more_than_the_products_do(table, sigma):
    case = Precise(table, sigma, 1.0)
    tolerance = 1e-12 + rounding(case, sigma)
    assert_allclose(*case.rows_out(), rtol=1e-9, atol=tolerance)
    if case.n_levels > 1:
        assert_allclose(*case.groups_out(), rtol=1e-9, atol=10 * tolerance)


@pytest.mark.parametrize("sigma", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("name", [*CHAINS, *CROSSINGS])
def test_rows_of_several_factors_lose_no_more_than_the_products_do(name, sigma):
    rng = np.random.default_rng(0)
    design = EVERY[name](rng)
    slopes, n, p = tuple(map(tuple, design.slopes)), len(design.y), design.x.shape[1] + 1
    weights, codes = np.ones(n), np.column_stack(design.codes)
    x = np.column_stack([design.x, np.ones(n)])
    zs = [x[:, [*varying, p - 1]] for varying in slopes]
    prior_sd, theta = rng.uniform(1, 2, p), random_theta(design, rng)
    cov = np.diag(prior_sd**2)
    v = precise.covariance(x, zs, design.codes, theta.chols, sigma, cov)
    root = precise.cholesky(v)
    y = (root @ rng.standard_normal(n)).astype(float)
    half = precise.solve_lower(root, np.eye(n, dtype=precise.Wide))
    g, c = half.T @ (half @ y), (half**2).sum(0)
    exact = (0.5 * (np.log(c) - g**2 / c - np.log(2 * precise.Wide(np.pi)))).astype(float)
    units = internal_units(
        mean_sd_of_rows(design.x, weights), mean_sd_of_rows(y[:, None], weights), slopes
    )
    units = units._replace(
        x_mean=0 * units.x_mean, x_scale=0 * units.x_scale + 1, y_mean=0.0, y_scale=1.0
    )
    sizes, pairs = n_levels(design), level_pairs(codes)
    stats = group_stats(design.x, y, weights, codes, sizes, slopes, units, pairs)
    explained = half @ x @ cov
    components = Components(
        np.ones(1),
        population(
            (cov @ x.T @ g).astype(float)[None],
            np.array([sigma]),
            (chol[None] for chol in theta.chols),
        ),
        (cov - explained.T @ explained).astype(float)[None],
        CoefPriors(np.eye(p), np.diag(1 / prior_sd), np.zeros((1, p)), np.zeros((1, p))),
    )
    layout = layout_of(stats, elimination_plan(stats))
    rows = InternalRows(x, tuple(zs), y, codes, weights)
    found = leave_rows_out_of_several(layout, components, rows, np.arange(n)).without[0]
    largest = np.square(y).sum() + np.square(x).sum()
    assert_allclose(found, exact, rtol=0, atol=np.finfo(float).eps * largest / sigma**2)


def test_one_copy_of_a_row_of_weight_two_is_left_out():
    once = Case(2)
    twice = np.append(np.arange(len(CODES)), [2, 17])  # of a long level, and of one of one row
    weights = np.bincount(twice).astype(float)
    levels = once.level_rows(twice)
    components = once.components()
    _, coefs = given_all(levels, components)
    rows = InternalRows(once.x, (once.z,), once.y, CODES[:, None], weights)
    found = leave_rows_out(levels, coefs, components, rows, np.arange(len(CODES))).without
    x, z, y, codes = (a[twice] for a in (once.x, once.z, once.y, CODES))
    for s in range(S):
        v = precise.covariance(
            x, [z], [codes], [once.chol[s]], once.sigma[s], once.prior_cov
        ).astype(float)
        for i in range(len(CODES)):
            out = np.arange(len(twice)) == i
            expected = density_of(out, x @ once.prior_mean, v, y)
            assert_allclose(found[s, i], expected, rtol=1e-9)


def test_coefficients_that_are_sampled_are_known():
    """The intercept is a draw; the others' prior moves with it."""
    case = Case(2)
    components = case.components()
    basis, rng = np.eye(P)[:, :2], np.random.default_rng(1)
    basis[2] = [0.3, -0.2]
    root, offset = rng.normal(size=(2, 2)), rng.normal(size=(S, P))
    target = rng.normal(size=(S, 2))
    components = components._replace(prior=CoefPriors(basis, root, offset, target))
    rows, groups = case.rows_out(components), case.groups_out(components)
    for s in range(S):
        mean = case.x @ (offset[s] + basis @ np.linalg.solve(root, target[s]))
        spread = case.x @ basis @ np.linalg.inv(root)
        cov = case.v(s) + spread @ spread.T
        for i in range(len(CODES)):
            expected = density_of(np.arange(len(CODES)) == i, mean, cov, case.y)
            assert_allclose(rows.without[s, i], expected, rtol=1e-9)
        for g in range(N_GROUPS - 1):
            expected = density_of(g == CODES, mean, cov, case.y)
            assert_allclose(groups.without[s, g], expected, rtol=1e-9)


def test_what_is_left_out_does_not_depend_on_how_many_components_are_at_once():
    case = Case(3)
    components, levels = case.components(), case.levels()
    rows = InternalRows(case.x, (case.z,), case.y, CODES[:, None], np.ones(len(CODES)))
    total, coefs = given_all(levels, components, 1)
    which, groups = np.arange(len(CODES)), np.arange(N_GROUPS)
    one_by_one = leave_rows_out(levels, coefs, components, rows, which, 1)
    assert_allclose(one_by_one, case.rows_out(components), rtol=1e-12)
    one_by_one = leave_groups_out(levels, total, coefs, components, groups, 1)
    assert_allclose(one_by_one, case.groups_out(components), rtol=1e-12)


@pytest.mark.parametrize("entries", [1, 2**19])
def test_others_information_is_the_sum_without_a_level(entries):
    case, which = Case(3), np.array([0, 3, 4])
    levels, chol = case.levels(), case.chol
    total = total_information(levels, case.sigma, chol, entries)
    others = others_information(levels, case.sigma, chol, which, entries)
    rows = np.column_stack([case.x, case.y])
    for s in range(S):
        precision = np.linalg.inv(case.v(s))
        assert_allclose(total[s], rows.T @ precision @ rows, rtol=1e-9)
        for k, g in enumerate(which):
            kept = g != CODES
            expected = rows[kept].T @ precision[np.ix_(kept, kept)] @ rows[kept]
            assert_allclose(others[s, k], expected, rtol=1e-9)


def test_smoothed_averages_of_extreme_densities_are_finite():
    rng = np.random.default_rng(0)
    without = rng.normal(size=(1000, 4)) * [1.0, 1e3, 1e6, 1e12]
    weights = rng.dirichlet(np.ones(1000))
    weights[:10] = 0
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for found in smoothed(LeftOut(without, without), weights / weights.sum()):
            assert np.isfinite(found).all()
