"""The oracle itself, against quadrature, mixed-model equations, lme4 and conditional normals."""

import itertools

import numpy as np
import pytest
from dense import (
    DESIGNS,
    Design,
    Prior,
    Theta,
    leave_rows_out,
    log_marginal,
    n_levels,
    posterior,
    random_theta,
    repeated,
    split,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

EVERY = pytest.mark.parametrize("name", DESIGNS)
ROOT_2PI = np.sqrt(2 * np.pi)


def problem(name, seed=0):
    rng = np.random.default_rng(seed)
    design = DESIGNS[name](rng)
    p = design.x.shape[1] + 1
    root = np.eye(p) + np.tril(rng.normal(scale=0.3, size=(p, p)), -1)
    return design, random_theta(design, rng), Prior(rng.normal(size=p), root @ root.T)


def tiny():
    """Four rows, two crossed factors of two levels, no features: five unknowns to integrate."""
    codes = [np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])]
    y = np.array([0.3, -0.8, 1.9, 0.6])
    design = Design(np.zeros((4, 0)), y, np.array([1, 2, 1, 1]), codes, [(), ()])
    return design, Theta(1.5, [np.array([[0.7]]), np.array([[0.5]])])


def quadrature(design, theta, prior, n_nodes=16):
    """Gauss-Hermite over the prior of [beta, b_1, b_2]: log p(y), posterior mean and covariance."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    grid = np.array(list(itertools.product(nodes, repeat=5)))
    log_weight = sum(np.log(w) for w in np.meshgrid(*[weights / ROOT_2PI] * 5, indexing="ij"))
    sds = np.array([np.sqrt(prior.cov[0, 0]), *np.repeat([c[0, 0] for c in theta.chols], 2)])
    u = grid * sds + np.array([prior.mean[0], 0, 0, 0, 0])
    first, second = design.codes
    mean = u[:, :1] + u[:, 1 + first] + u[:, 3 + second]
    log_density = -0.5 * ((design.y - mean) / theta.sigma) ** 2 - np.log(theta.sigma * ROOT_2PI)
    joint = log_weight.ravel() + log_density @ design.weights
    share = np.exp(joint - logsumexp(joint))
    moment = share @ u
    return logsumexp(joint), moment, (u - moment).T * share @ (u - moment)


def test_dense_matches_quadrature():
    design, theta = tiny()
    prior = Prior(np.array([0.4]), np.array([[0.8]]))
    log_p, mean, cov = quadrature(design, theta, prior)
    assert_allclose(log_marginal(design, theta, prior), log_p, rtol=1e-7)
    ours = posterior(design, theta, prior)
    assert_allclose(ours[0], mean, atol=1e-6)
    assert_allclose(ours[1], cov, atol=1e-6)


@EVERY
def test_flat_prior_is_the_limit_of_wide_ones(name):
    design, theta, prior = problem(name)
    p = len(prior.mean)
    wide = prior._replace(cov=1e6 * np.eye(p))
    expected = log_marginal(design, theta, wide) + p / 2 * np.log(2 * np.pi * 1e6)
    assert_allclose(log_marginal(design, theta), expected, atol=1e-3)
    for ours, limit in zip(posterior(design, theta), posterior(design, theta, wide), strict=True):
        assert_allclose(ours, limit, atol=1e-3)


@EVERY
@pytest.mark.parametrize("flat", [False, True])
def test_posterior_solves_the_mixed_model_equations(name, flat):
    # [X'X + s^2 P0, X'Z; Z'X, Z'Z + s^2 D^-1] [beta; b] = [X'y + s^2 P0 m; Z'y]
    design, theta, prior = problem(name)
    rows = repeated(design)
    x = np.column_stack([rows.x, np.ones(len(rows.y))])
    columns, precisions = [x], [np.zeros((x.shape[1],) * 2) if flat else np.linalg.inv(prior.cov)]
    for codes, slopes, chol in zip(rows.codes, rows.slopes, theta.chols, strict=True):
        for level in range(codes.max() + 1):
            columns.append((codes == level)[:, None] * x[:, [*slopes, -1]])
            precisions.append(np.linalg.inv(chol @ chol.T))
    xz = np.hstack(columns)
    precision = xz.T @ xz / theta.sigma**2
    pull = xz.T @ rows.y / theta.sigma**2
    pull[: x.shape[1]] += precisions[0] @ prior.mean
    start = 0
    for block in precisions:
        end = start + len(block)
        precision[start:end, start:end] += block
        start = end
    mean, cov = posterior(design, theta, None if flat else prior)
    assert_allclose(mean, np.linalg.solve(precision, pull), rtol=1e-8, atol=1e-9)
    assert_allclose(cov, np.linalg.inv(precision), rtol=1e-7, atol=1e-9)


@EVERY
def test_log_marginal_is_bayes_rule_at_any_point(name):
    # p(y) = p(y | u) p(u) / p(u | y) for every u = [beta, b]
    design, theta, prior = problem(name)
    rng = np.random.default_rng(1)
    mean, cov = posterior(design, theta, prior)
    u = mean + 0.1 * rng.normal(size=len(mean))
    beta, effects = split(design, u)
    columns = np.column_stack([design.x, np.ones(len(design.y))])
    fitted = columns @ beta
    log_prior = log_normal(beta - prior.mean, prior.cov)
    for codes, slopes, chol, b in zip(
        design.codes, design.slopes, theta.chols, effects, strict=True
    ):
        fitted = fitted + np.sum(columns[:, [*slopes, -1]] * b[codes], axis=1)
        log_prior += sum(log_normal(row, chol @ chol.T) for row in b)
    rest = (design.y - fitted) / theta.sigma
    log_rows = design.weights @ (-0.5 * rest**2 - np.log(theta.sigma * ROOT_2PI))
    expected = log_rows + log_prior - log_normal(u - mean, cov)
    assert_allclose(log_marginal(design, theta, prior), expected, rtol=1e-9)


def log_normal(rest, cov):
    root = np.linalg.cholesky(cov)
    white = np.linalg.solve(root, rest)
    return -0.5 * white @ white - np.log(np.diag(root)).sum() - len(rest) * np.log(ROOT_2PI)


@EVERY
def test_leave_rows_out_is_the_posterior_predictive_of_the_others(name):
    # y_i | y_-i ~ Normal(a_i' E[u | y_-i], sigma^2 + a_i' Cov[u | y_-i] a_i)
    design, theta, prior = problem(name)
    ours = leave_rows_out(design, theta, prior)
    assert ours.shape == design.y.shape
    for i in range(0, len(design.y), 7):
        weights = design.weights.copy()
        weights[i] -= 1
        mean, cov = posterior(design._replace(weights=weights), theta, prior)
        a = selector(design, i)
        variance = theta.sigma**2 + a @ cov @ a
        expected = -0.5 * ((design.y[i] - a @ mean) ** 2 / variance + np.log(variance))
        assert_allclose(ours[i], expected - np.log(ROOT_2PI), rtol=1e-8)


def selector(design, i):
    """Row i of [X Z_1 Z_2 ...]."""
    row = np.append(design.x[i], 1.0)
    parts = [row]
    for codes, slopes, size in zip(design.codes, design.slopes, n_levels(design), strict=True):
        block = np.zeros((size, len(slopes) + 1))
        block[codes[i]] = row[[*slopes, -1]]
        parts.append(block.ravel())
    return np.concatenate(parts)


def test_weights_are_repeated_rows():
    design, theta, prior = problem("weighted")
    again = repeated(design)
    assert len(again.y) == design.weights.sum() > len(design.y)
    first = np.cumsum(design.weights) - design.weights
    for p in (prior, None):
        assert_allclose(log_marginal(design, theta, p), log_marginal(again, theta, p))
        assert_allclose(
            leave_rows_out(design, theta, p), leave_rows_out(again, theta, p)[first], rtol=1e-9
        )


def test_zero_weight_removes_the_row_and_keeps_its_level():
    design, theta, prior = problem("one_row_levels")
    level = design.codes[1][0]
    design.weights[0] = 0
    mean, cov = posterior(design, theta, prior)
    at = len(mean) - 30 + level
    assert_allclose(mean[at], 0, atol=1e-12)
    assert_allclose(cov[at, at], theta.chols[1][0, 0] ** 2)


def test_singular_covariance_is_an_effect_that_is_zero():
    design, theta, prior = problem("crossed")
    off = theta._replace(chols=[theta.chols[0], np.zeros((1, 1))])
    without = design._replace(codes=design.codes[:1], slopes=design.slopes[:1])
    alone = theta._replace(chols=theta.chols[:1])
    assert_allclose(log_marginal(design, off, prior), log_marginal(without, alone, prior))
    mean, cov = posterior(design, off, prior)
    k = len(posterior(without, alone, prior)[0])
    assert_allclose(mean[k:], 0, atol=1e-14)
    assert_allclose(cov[k:], 0, atol=1e-14)


def test_same_factor_twice_adds_the_covariances():
    design, theta, prior = problem("same_twice")
    both = np.linalg.cholesky(sum(chol @ chol.T for chol in theta.chols))
    once = design._replace(codes=design.codes[:1], slopes=design.slopes[:1])
    expected = log_marginal(once, theta._replace(chols=[both]), prior)
    assert_allclose(log_marginal(design, theta, prior), expected)


def test_disconnected_blocks_factorise_given_the_coefficients():
    design, theta, prior = problem("disconnected")
    known = prior._replace(cov=np.zeros((2, 2)))
    whole = log_marginal(design, theta, known)
    block = design.codes[0] > 2
    parts = [
        log_marginal(design._replace(weights=w.astype(int)), theta, known) for w in (block, ~block)
    ]
    assert_allclose(whole, sum(parts))


def test_flat_log_marginal_matches_lme4(sleepstudy):
    # lmer(Reaction ~ Days + (Days | Subject), sleepstudy): Bates et al. (2015), sec. 5.2
    x, y = sleepstudy
    codes = np.unique(x["Subject"], return_inverse=True)[1]
    design = Design(
        x[["Days"]].to_numpy(float), y.to_numpy(float), np.ones(180, int), [codes], [(0,)]
    )
    cov = np.outer(*[[5.922, 24.740]] * 2) * [[1, 0.066], [0.066, 1]]
    theta = Theta(25.592, [np.linalg.cholesky(cov)])
    assert_allclose(-2 * log_marginal(design, theta), 1743.628, atol=2e-3)


# lme4 1.1-31's REML criterion, its sigma and fixed effects at these relative covariance factors
ROOTS = {
    1: np.array([[0.6]]),
    2: np.array([[0.7, 0], [0.3, 0.5]]),
    3: np.array([[0.7, 0, 0], [0.3, 0.5, 0], [-0.2, 0.1, 0.4]]),
}
LME4 = {
    "nested_deep": (
        193.586725571263,
        1.27409617445911,
        [0.821922926630, 0.767737972393, 0.350856565384],
    ),
    "partially_crossed": (
        192.793502471357,
        1.26387756832859,
        [0.796824323542, 0.635027115674, 1.412145841310],
    ),
}


@pytest.mark.parametrize("name", LME4)
def test_flat_matches_lme4_with_several_factors(name):
    criterion, sigma, beta = LME4[name]
    design = DESIGNS[name](np.random.default_rng(0))
    intercept_last = {q: np.roll(root, -1, axis=0) for q, root in ROOTS.items()}
    roots = [intercept_last[len(slopes) + 1] for slopes in design.slopes]
    theta = Theta(sigma, [sigma * root for root in roots])
    assert_allclose(-2 * log_marginal(design, theta), criterion, rtol=1e-11)
    assert_allclose(posterior(design, theta)[0][:3], np.roll(beta, -1), rtol=1e-9)


@EVERY
def test_design_is_what_it_says(name):
    design = DESIGNS[name](np.random.default_rng(3))
    n = len(design.y)
    assert design.x.shape[0] == len(design.weights) == n <= 60
    for codes in design.codes:
        assert_array_equal(np.unique(codes), np.arange(codes.max() + 1))
    for slopes in design.slopes:
        assert list(slopes) == sorted(set(slopes))
    again = DESIGNS[name](np.random.default_rng(3))
    assert_array_equal(design.y, again.y)


def cells(design, first=0, second=1):
    table = np.zeros(np.array(n_levels(design))[[first, second]], int)
    np.add.at(table, (design.codes[first], design.codes[second]), 1)
    return table


def made(name):
    return DESIGNS[name](np.random.default_rng(0))


def test_designs_relate_their_factors_as_named():
    assert ((cells(made("nested")) > 0).sum(0) == 1).all()
    for pair in ((0, 1), (1, 2)):
        assert ((cells(made("nested_deep"), *pair) > 0).sum(0) == 1).all()
    assert (cells(made("crossed")) == 2).all()
    assert_allclose((cells(made("partially_crossed")) > 0).mean(), 0.3)
    near = (cells(made("three_crossed"), 1, 2) > 0).sum(1)
    assert near.max() > 1
    sizes = cells(made("unbalanced")).sum(1)
    assert sizes.max() >= 10 * sizes.min()
    blocks = cells(made("disconnected"))
    assert blocks[:3, 4:].sum() == blocks[3:, :4].sum() == 0
    assert n_levels(made("one_level"))[0] == 1
    assert n_levels(made("one_row_levels"))[1] == 30
