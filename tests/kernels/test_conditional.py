"""Group effects given the rest, against Bayes' rule on the rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.kernels.conditional import PopulationDraws, condition, group_moments, take_groups
from skhier.kernels.linalg import inverse_cholesky
from skhier.kernels.types import GroupStats

P, N_GROUPS, N_DRAWS = 4, 5, 6


def problem(q, seed=0):
    """Rows of five groups (the last has none, the one before a single row) and some draws."""
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2, 3], [12, 7, 2, 1])
    x = rng.normal(size=(len(codes), max(P, q)))
    y = rng.normal(size=len(codes))
    z = x[:, :q]
    per_group = [codes == g for g in range(N_GROUPS)]
    stats = GroupStats(
        zz=np.stack([z[i].T @ z[i] for i in per_group], -1),
        zx=np.stack([z[i].T @ x[i] for i in per_group], -1),
        zy=np.stack([z[i].T @ y[i] for i in per_group], -1),
        xx=x.T @ x,
        xy=x.T @ y,
        yy=y @ y,
        n=float(len(y)),
    )
    draws = PopulationDraws(
        beta=rng.normal(size=(N_DRAWS, x.shape[1])),
        sigma=np.exp(rng.normal(size=N_DRAWS)),
        chol=np.tril(rng.normal(size=(N_DRAWS, q, q))),
    )
    return x, z, y, per_group, stats, draws


@pytest.mark.parametrize("q", [1, 2, 3, 6, 9])
def test_condition_matches_bayes_rule_on_rows(q):
    x, z, y, per_group, stats, draws = problem(q)
    given = condition(stats, draws)
    for s in range(N_DRAWS):
        prior_cov = draws.chol[s] @ draws.chol[s].T
        for g, rows in enumerate(per_group):
            # Normal-normal updating with the dense covariance of the group's rows
            dense = z[rows] @ prior_cov @ z[rows].T + draws.sigma[s] ** 2 * np.eye(rows.sum())
            gain = np.linalg.solve(dense, z[rows] @ prior_cov).T
            mean = gain @ (y[rows] - x[rows] @ draws.beta[s])
            cov = prior_cov - gain @ z[rows] @ prior_cov
            scale = np.abs(prior_cov).max()
            assert_allclose(given.mean[:, s, g], mean, rtol=1e-8, atol=1e-9 * scale)
            root = given.root[:, :, s, g]
            assert_allclose(root @ root.T, cov, rtol=1e-8, atol=1e-9 * scale)


def test_condition_accepts_a_singular_factor():
    *_, stats, draws = problem(2)
    draws.chol[:, 1] = 0  # the second effect does not vary
    given = condition(stats, draws)
    assert_allclose(given.mean[1], 0, atol=1e-15)
    assert_allclose(given.root[1], 0, atol=1e-15)


def test_moments_are_those_of_exact_draws():
    *_, stats, draws = problem(2)
    found = group_moments(stats, draws)
    given = condition(stats, draws)
    rng = np.random.default_rng(1)
    n = 200_000
    which = rng.integers(N_DRAWS, size=n)
    noise = rng.normal(size=(2, n, N_GROUPS))
    b = given.mean[:, which] + np.einsum("ijsk,jsk->isk", given.root[:, :, which], noise)
    for g in range(N_GROUPS):
        sd = b[..., g].std(1)
        assert np.all(np.abs(b[..., g].mean(1) - found.mean[g]) < 5 * sd / np.sqrt(n))
        assert_allclose(np.cov(b[..., g]), found.cov[g], atol=5 * 2 * sd.max() ** 2 / np.sqrt(n))
        cross = np.cov(draws.beta[which].T, b[..., g])[:P, P:]
        spread = draws.beta.std(0)[:, None] * sd
        assert np.all(np.abs(cross - found.cross[g]) < 5 * 2 * spread / np.sqrt(n))


def test_moments_do_not_depend_on_the_slicing():
    *_, stats, draws = problem(3)
    for one, other in zip(
        group_moments(stats, draws), group_moments(stats, draws, budget=1), strict=True
    ):
        assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_take_groups_keeps_the_totals():
    *_, stats, _ = problem(2)
    taken = take_groups(stats, [3, 1])
    assert_allclose(taken.zy, stats.zy[:, [3, 1]])
    assert taken.yy == stats.yy


@pytest.mark.parametrize("q", [1, 2, 5, 8, 9, 12])
def test_inverse_cholesky_matches_numpy(q):
    rng = np.random.default_rng(q)
    root = rng.normal(size=(3, q, q)) + q * np.eye(q)
    m = root @ np.swapaxes(root, 1, 2)
    expected = np.linalg.inv(np.linalg.cholesky(m))
    assert_allclose(
        inverse_cholesky(np.moveaxis(m, 0, -1)), np.moveaxis(expected, 0, -1), atol=1e-12
    )
