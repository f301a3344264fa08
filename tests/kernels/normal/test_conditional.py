"""Group effects given the rest, against Bayes' rule on the rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reduced import population
from runs import budget

from skhier.kernels.linalg import inverse_root
from skhier.kernels.normal.conditional import coef_moments, condition
from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.moments import group_moments
from skhier.kernels.records import Components
from skhier.responses.normal import SCALE
from skhier.statistics.records import FactorStats, GroupStats, Plan

P, N_GROUPS, N_DRAWS = 4, 5, 6
EVERY = slice(None)


def problem(q, seed=0):
    """Rows of five groups (the last has none, the one before a single row) and some draws."""
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2, 3], [12, 7, 2, 1])
    x = rng.normal(size=(len(codes), max(P, q)))
    y = rng.normal(size=len(codes))
    z = x[:, :q]
    per_group = [codes == g for g in range(N_GROUPS)]
    factor = FactorStats(
        zz=np.stack([z[i].T @ z[i] for i in per_group], -1),
        zx=np.stack([z[i].T @ x[i] for i in per_group], -1),
        zy=np.stack([z[i].T @ y[i] for i in per_group], -1),
        xy_xy=np.zeros((0, 0, N_GROUPS)),
    )
    stats = GroupStats(
        factors=(factor,),
        pairs=(),
        xx=x.T @ x,
        xy=x.T @ y,
        yy=y @ y,
        n=float(len(y)),
    )
    draws = population(
        beta=rng.normal(size=(N_DRAWS, x.shape[1])),
        sigma=np.exp(rng.normal(size=N_DRAWS)),
        chols=(np.tril(rng.normal(size=(N_DRAWS, q, q))),),
    )
    return x, z, y, per_group, layout_of(stats, Plan((0,), ())), draws


@pytest.mark.parametrize("q", [1, 2, 3, 6, 9])
def test_condition_matches_bayes_rule_on_rows(q):
    x, z, y, per_group, layout, draws = problem(q)
    given = condition(layout, draws, EVERY, {})
    (chol,) = draws.group_root
    for s in range(N_DRAWS):
        prior_cov = chol[s] @ chol[s].T
        for g, rows in enumerate(per_group):
            # Normal-normal updating with the dense covariance of the group's rows
            dense = z[rows] @ prior_cov @ z[rows].T + draws.own[SCALE][s] ** 2 * np.eye(rows.sum())
            gain = np.linalg.solve(dense, z[rows] @ prior_cov).T
            mean = gain @ (y[rows] - x[rows] @ draws.coef[s])
            cov = prior_cov - gain @ z[rows] @ prior_cov
            scale = np.abs(prior_cov).max()
            assert_allclose(given.mean[:, s, g], mean, rtol=1e-8, atol=1e-9 * scale)
            root = given.root[:, :, s, g]
            assert_allclose(root @ root.T, cov, rtol=1e-8, atol=1e-9 * scale)


def test_condition_accepts_a_singular_factor():
    *_, layout, draws = problem(2)
    draws.group_root[0][:, 1] = 0  # the second effect does not vary
    given = condition(layout, draws, EVERY, {})
    assert_allclose(given.mean[1], 0, atol=1e-15)
    assert_allclose(given.root[1], 0, atol=1e-15)


def components(draws, uncertain, seed=2):
    """Unequal weights; the coefficients known, or normal with a covariance of their own."""
    rng = np.random.default_rng(seed)
    p = draws.coef.shape[1]
    root = rng.normal(size=(N_DRAWS, p, p))
    cov = root @ np.swapaxes(root, 1, 2) if uncertain else None
    weights = rng.dirichlet(np.ones(N_DRAWS))
    return Components(weights, draws, cov)


@pytest.mark.parametrize("uncertain", [False, True])
def test_moments_are_those_of_exact_draws(uncertain):
    *_, layout, draws = problem(2)
    mixture = components(draws, uncertain)
    (found,) = group_moments(layout, mixture)
    rng = np.random.default_rng(1)
    n = 100_000
    which = rng.choice(N_DRAWS, n, p=mixture.weights)
    beta = draws.coef[which]
    if uncertain:
        root = np.linalg.cholesky(mixture.coef_cov)[which]
        beta = beta + np.einsum("sij,sj->si", root, rng.normal(size=beta.shape))
    given = condition(layout, draws.take(which)._replace(coef=beta), EVERY, {})
    noise = rng.normal(size=(2, n, N_GROUPS))
    b = given.mean + np.einsum("ijsk,jsk->isk", given.root, noise)
    for g in range(N_GROUPS):
        both = np.concatenate([b[..., g].T, beta], axis=1)
        off = both - both.mean(0)
        mean_error = off.std(0) / np.sqrt(n)
        assert np.all(np.abs(both.mean(0) - means_of(found, mixture, g)) < 5 * mean_error)
        products = off[:, :2, None] * off[:, None, :]
        expected = np.concatenate([found.cov[g], found.cross[g].T], axis=1)
        error = products.std(0) / np.sqrt(n)
        assert np.all(np.abs(products.mean(0) - expected) < 5 * error)


def means_of(found, mixture, g):
    """Means of the group's effects and of the coefficients."""
    return np.append(found.mean[g], coef_moments(mixture)[0])


@pytest.mark.parametrize("q", [1, 2, 4])
def test_moments_with_covariances_are_those_of_sigma_points(q):
    """Of beta's distribution two moments matter: b's mean is linear in it, b's variance free of it.

    So the normal may be replaced by 2 p points, mean +- sqrt(p) times the columns of a root.
    """
    *_, layout, draws = problem(q)
    mixture = components(draws, uncertain=True)
    p = draws.coef.shape[1]
    roots = np.sqrt(p) * np.moveaxis(np.linalg.cholesky(mixture.coef_cov), 2, 1)
    beta = np.concatenate([draws.coef[:, None] + roots, draws.coef[:, None] - roots], axis=1)

    def repeated(a):
        return np.repeat(a, 2 * p, axis=0)

    points = Components(
        repeated(mixture.weights) / (2 * p),
        population(
            beta.reshape(-1, p), repeated(draws.own[SCALE]), [repeated(draws.group_root[0])]
        ),
    )
    for found, expected in zip(coef_moments(mixture), coef_moments(points), strict=True):
        assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    (found,), (expected,) = group_moments(layout, mixture), group_moments(layout, points)
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("uncertain", [False, True])
def test_moments_do_not_depend_on_the_slicing(uncertain):
    *_, layout, draws = problem(3)
    mixture = components(draws, uncertain)
    alone = budget(moment_entries=1).memory
    (whole,), (sliced,) = group_moments(layout, mixture), group_moments(layout, mixture, alone)
    for one, other in zip(whole, sliced, strict=True):
        assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("uncertain", [False, True])
def test_first_components_are_weighted_anew(uncertain):
    *_, draws = problem(2)
    mixture = components(draws, uncertain)
    first = mixture.first(4)
    assert_allclose(first.weights, mixture.weights[:4] / mixture.weights[:4].sum())
    assert (first.coef_cov is None) is not uncertain
    for name in ("coef", *(["coef_cov"] * uncertain)):
        assert_array_equal(getattr(first, name), getattr(mixture, name)[:4])
    assert_array_equal(first.group_root[0], mixture.group_root[0][:4])
    assert_array_equal(first.population.own[SCALE], mixture.population.own[SCALE][:4])
    everything = mixture.first(100)
    assert_allclose(everything.weights, mixture.weights, rtol=1e-15)
    assert len(everything.weights) == N_DRAWS


@pytest.mark.parametrize("some", [[3, 1], [4], []])
def test_some_levels_are_as_among_all(some):
    *_, layout, draws = problem(2)
    every = condition(layout, draws, EVERY, {})
    for found, expected in zip(condition(layout, draws, some, {}), every, strict=True):
        assert_allclose(found, expected[..., some], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("q", [1, 2, 5, 8, 9, 12])
def test_inverse_cholesky_matches_numpy(q):
    rng = np.random.default_rng(q)
    root = rng.normal(size=(3, q, q)) + q * np.eye(q)
    m = root @ np.swapaxes(root, 1, 2)
    expected = np.linalg.inv(np.linalg.cholesky(m))
    assert_allclose(inverse_root(np.moveaxis(m, 0, -1)), np.moveaxis(expected, 0, -1), atol=1e-12)
