"""Leaving a row, or a group, out: against dense normal distributions of the rows."""

import numpy as np
import pytest
from dense import DESIGNS, Prior, n_levels, random_theta
from dense import leave_rows_out as dense_rows_out
from dense import posterior as dense_posterior
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from skhier.kernels.normal.conditional import Components
from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.left_out import (
    GroupProducts,
    LeftOut,
    leave_groups_out,
    leave_rows_out,
    smoothed,
)
from skhier.statistics.elimination import elimination_plan
from skhier.statistics.products import group_stats, internal_units, level_pairs, moments
from skhier.statistics.records import FactorStats, GroupStats, Plan

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

    def layout(self):
        of = [g == CODES for g in range(N_GROUPS)]
        x, z, y = self.x, self.z, self.y
        factor = FactorStats(
            zz=np.stack([z[i].T @ z[i] for i in of], -1),
            zx=np.stack([z[i].T @ x[i] for i in of], -1),
            zy=np.stack([z[i].T @ y[i] for i in of], -1),
        )
        stats = GroupStats((factor,), (), x.T @ x, x.T @ y, y @ y, float(len(y)))
        return layout_of(stats, Plan((0,), ()))

    def rows_out(self, components):
        z, codes = [self.z], CODES[:, None]
        return leave_rows_out(self.layout(), components, self.x, z, self.y, codes)

    def groups(self):
        rows = np.column_stack([self.x, self.y])
        products = np.stack([rows[g == CODES].T @ rows[g == CODES] for g in range(N_GROUPS)], -1)
        return GroupProducts(products, np.bincount(CODES, minlength=N_GROUPS).astype(float))

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
        return Components(weights, np.stack(means), np.stack(covs), self.sigma, (self.chol,))


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
    units = internal_units(moments(x, weights), moments(y[:, None], weights), slopes)
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
        np.stack([mean[:p] for mean, _ in found]),
        np.stack([cov[:p, :p] for _, cov in found]),
        np.array([theta.sigma for theta in thetas]),
        tuple(np.stack(chols) for chols in zip(*(t.chols for t in thetas), strict=True)),
    )
    design_x = np.column_stack([x, np.ones(len(x))])
    zs = [design_x[:, [*varying, p - 1]] for varying in slopes]
    left = leave_rows_out(layout, components, design_x, zs, y, codes)
    for s, theta in enumerate(thetas):
        assert_allclose(left.without[s], dense_rows_out(design, theta, prior), rtol=1e-8)


@pytest.mark.parametrize(("q", "singular"), [(1, False), (2, False), (2, True), (3, False)])
def test_group_left_out_is_the_dense_conditional(q, singular):
    case = Case(q, singular)
    found = leave_groups_out(case.layout(), case.components(), case.groups())
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
    groups = leave_groups_out(case.layout(), components, case.groups())
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
                x @ components.beta[s], cov_g + x @ components.beta_cov[s] @ x.T
            )
            assert_allclose(groups.within[s, g], again.logpdf(case.y[g == CODES]), rtol=1e-9)


def test_without_a_covariance_the_coefficients_are_draws():
    case = Case(2)
    components = case.components()._replace(beta_cov=None)
    rows = case.rows_out(components)
    groups = leave_groups_out(case.layout(), components, case.groups())
    for s in range(S):
        mean = case.x @ components.beta[s]
        for i in range(len(CODES)):
            expected = density_of(np.arange(len(CODES)) == i, mean, case.v(s), case.y)
            assert_allclose(rows.without[s, i], expected, rtol=1e-9)
        for g in range(N_GROUPS - 1):
            expected = density_of(g == CODES, mean, case.v(s), case.y)
            assert_allclose(groups.without[s, g], expected, rtol=1e-9)


def test_a_group_that_alone_decides_a_coefficient_has_no_density():
    case = Case(2)
    case.x[:, 0] = CODES == 0  # only the first group
    case.z = case.x[:, 1:]
    case.prior_cov = 1e14 * np.eye(P)  # flat
    components = case.components()
    found = leave_groups_out(case.layout(), components, case.groups()).without
    assert np.all(np.isneginf(found[:, 0]))
    assert np.all(np.isfinite(found[:, 1:]))


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
