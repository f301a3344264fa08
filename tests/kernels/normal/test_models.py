"""The joint model's density, against the rows and against dense multivariate normals."""

from functools import partial

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy import stats as sp

from skhier.kernels.covariance import Decov, Lkj
from skhier.kernels.normal.models import joint_model, log_likelihood, parameters
from skhier.kernels.records import FactorSpec, ModelSpec, PriorDists
from skhier.responses.normal import NORMAL, SCALE
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.padding import pad_groups
from skhier.statistics.products import group_stats
from skhier.statistics.records import Plan
from skhier.statistics.units import internal_units

F = np.float64


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def rows(n_groups=3, n_features=2, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), 4 + np.arange(n_groups))
    x = rng.normal(size=(len(codes), n_features)) * [3.0, 0.1][:n_features] + 5
    return x, 200 + 20 * rng.normal(size=len(codes)), codes


def reduced(x, y, codes, slopes):
    ones = np.ones(len(y))
    units = internal_units(mean_sd_of_rows(x, ones), mean_sd_of_rows(y[:, None], ones), (slopes,))
    n_levels = [codes.max() + 1]
    return group_stats(x, y, ones, codes[:, None], n_levels, (slopes,), units, ()), units


def prior_dists(**changes):
    dists = {
        "intercept": dist.Normal(F(180.0), F(40.0)),
        "own": {SCALE: dist.HalfNormal(F(25.0))},
        "coef": (dist.Normal(F(0.0), F(4.0)), dist.Laplace(F(1.0), F(30.0))),
        "covariances": (((dist.HalfNormal(np.array([3.0, 20.0, 15.0])),), F(1.7)),),
    }
    return PriorDists(**(dists | changes))


FACTOR = FactorSpec((0, 1), Lkj(3, ((0, 1, 2),)), at_mean=False)
SPEC = ModelSpec(2, (FACTOR,), Plan((0,), ()), False, False, ((0,), (1,)), NORMAL.kind)


def user_values(seed=1):
    """Parameters in the user's units at x = 0; slopes first, intercept last.

    ``tau`` and ``corr`` are of the effects where their prior sits.
    """
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 5))
    corr = root @ root.T
    corr /= np.sqrt(np.outer(np.diag(corr), np.diag(corr)))
    return {
        "beta": np.array([2.0, -7.0, 190.0]),
        "sigma": 18.0,
        "tau": np.array([1.5, 12.0, 9.0]),
        "corr": corr,
        "b": rng.normal(size=(3, 3)) * [[1.0], [8.0], [6.0]],
    }


def sites_of(v, units, centered, at_mean):
    """The same point as values of the model's sites."""
    scale = np.append(units.x_scale, 1.0) / units.y_scale
    shift = units.x_mean / units.x_scale
    beta = v["beta"] * scale
    beta[-1] += shift @ beta[:-1] - units.y_mean / units.y_scale
    chol = np.linalg.cholesky(v["corr"])
    (to_mean,) = units.effects_at_mean
    b = to_mean @ (v["b"] * scale[:, None])
    full = (v["tau"] * scale)[:, None] * chol
    if not at_mean:
        full = to_mean @ full
    sites = {
        "noise_scale": v["sigma"] / units.y_scale,
        "group_scale_0_0": v["tau"] * scale,
        "group_corr_chol_0": chol,
    }
    if centered:
        moved = beta
        sites["group_coef_0"] = beta[:, None] + b
    else:
        moved = beta + b.mean(1)
        # the reflection in e_0 - 1/sqrt(G) is its own inverse
        n = b.shape[1]
        u = np.eye(n)[0] - 1 / np.sqrt(n)
        sites["group_z_0"] = np.linalg.solve(full, b) @ (np.eye(n) - 2 * np.outer(u, u) / (u @ u))
    return sites | {"coef_0": moved[:1], "coef_1": moved[1:2], "intercept": moved[2]}


def dense_log_joint(v, x, y, codes, units, spec):
    """The density at the same point from rows and dense normals, moved to the sites' units."""
    z = np.column_stack([x, np.ones(len(y))])
    line = z @ v["beta"] + np.einsum("nj,jn->n", z, v["b"][:, codes])
    cov = v["corr"] * np.outer(v["tau"], v["tau"])
    log_lik = sp.norm.logpdf(y, line, v["sigma"]).sum()
    moved = v["b"].copy()  # to where the prior sits
    if spec.factors[0].at_mean:
        moved[2] += x.mean(0) @ v["b"][:2]
    effects = sum(sp.multivariate_normal.logpdf(b, np.zeros(3), cov) for b in moved.T)
    priors = (
        sp.norm.logpdf(v["beta"][0], 0, 4)
        + sp.laplace.logpdf(v["beta"][1], 1, 30)
        + sp.norm.logpdf(v["beta"][2], 180, 40)
        + sp.halfnorm.logpdf(v["sigma"], scale=25)
        + sp.halfnorm.logpdf(v["tau"], scale=[3, 20, 15]).sum()
        + float(dist.LKJCholesky(3, F(1.7)).log_prob(np.linalg.cholesky(v["corr"])))
    )
    scale = np.append(units.x_scale, 1.0) / units.y_scale
    jacobian = -2 * np.log(scale).sum() + np.log(units.y_scale)  # beta, tau and sigma
    if not spec.noncentered:
        jacobian -= 3 * np.log(scale).sum()
    else:  # the sites are standard normal: |db/dz| = det of the factor, in the user's units
        jacobian += 3 * 0.5 * np.linalg.slogdet(cov)[1]
    return log_lik + len(y) * np.log(units.y_scale) + effects + priors + jacobian


@pytest.mark.parametrize("at_mean", [False, True])
@pytest.mark.parametrize("noncentered", [False, True])
def test_joint_density_equals_rows_and_dense_normals(noncentered, at_mean):
    x, y, codes = rows()
    stats, units = reduced(x, y, codes, (0, 1))
    spec = SPEC._replace(noncentered=noncentered, factors=(FACTOR._replace(at_mean=at_mean),))
    v = user_values()
    found, _ = log_density(
        partial(joint_model, spec),
        (stats, units, prior_dists()),
        {},
        sites_of(v, units, not noncentered, at_mean),
    )
    assert_allclose(found, dense_log_joint(v, x, y, codes, units, spec), rtol=1e-10)


@pytest.mark.parametrize("noncentered", [False, True])
def test_joint_density_integrates_to_dense_normal(noncentered):
    """Brute force over intercept and two group effects: y ~ N(m, s2 I + t2 ZZ' + v 11')."""
    rng = np.random.default_rng(3)
    codes = np.array([0, 0, 0, 1, 1])
    y = rng.normal(size=5) + 2.0 * codes
    x = np.empty((5, 0))
    stats, units = reduced(x, y, codes, ())
    sigma, tau, m0, s0 = 0.9, 0.7, 0.3, 1.1
    factor = FactorSpec((), Lkj(1, ((0,),)), at_mean=False)
    spec = ModelSpec(0, (factor,), Plan((0,), ()), noncentered, False, (), NORMAL.kind)
    prior = prior_dists(
        intercept=dist.Normal(F(m0), F(s0)),
        coef=(),
        covariances=(((dist.HalfNormal(F(20.0)),), F(1.7)),),
    )
    fixed = {
        "noise_scale": sigma / units.y_scale,
        "group_scale_0_0": np.array([tau / units.y_scale]),
    }
    name = "group_z_0" if noncentered else "group_coef_0"

    def density(point):
        sites = fixed | {"intercept": point[0], name: point[None, 1:]}
        return log_density(partial(joint_model, spec), (stats, units, prior), {}, sites)[0]

    # the trapezoidal rule is exact to rounding for normals on a fine grid
    fine, axis = np.linspace(-6, 6, 121), np.linspace(-9, 9, 91)
    grid = np.stack(np.meshgrid(fine, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    log_values = np.asarray(jax.jit(lambda g: jax.lax.map(density, g, batch_size=4096))(grid))
    log_integral = np.logaddexp.reduce(log_values) + 2 * np.log(axis[1] - axis[0])
    log_integral += np.log(fine[1] - fine[0])
    hyper = sp.halfnorm.logpdf(sigma, scale=25) + sp.halfnorm.logpdf(tau, scale=20)
    hyper += 2 * np.log(units.y_scale)
    z = np.eye(2)[codes]
    cov = sigma**2 * np.eye(5) + tau**2 * z @ z.T + s0**2
    dense = sp.multivariate_normal.logpdf(y, np.full(5, m0), cov)
    assert_allclose(log_integral - hyper - 5 * np.log(units.y_scale), dense, rtol=1e-9)


@pytest.mark.parametrize("offset", [1e9, 2.0**30])
def test_log_likelihood_is_unmoved_by_large_offsets(offset):
    rng = np.random.default_rng(0)
    x, y, codes = rows()
    y, x = np.round(y * 1024) / 1024, np.round(x * 1024) / 1024  # survive the offset unrounded
    base, units = reduced(x, y, codes, (0, 1))
    far, far_units = reduced(x + 1e8, y + offset, codes, (0, 1))
    assert far_units.y_scale == units.y_scale
    # the rounded means differ by more than the offset: the same line has another intercept there
    x_moved = (far_units.x_mean - 1e8 - units.x_mean) / units.x_scale
    y_moved = (far_units.y_mean - offset - units.y_mean) / units.y_scale
    assert 0 < np.abs(x_moved).max() < 1e-6
    for _ in range(20):
        beta, b = rng.normal(size=3), rng.normal(size=(3, 3))
        far_beta = beta + np.array([0, 0, x_moved @ beta[:2] - y_moved])
        far_b = b + np.outer([0, 0, 1], x_moved @ b[:2])
        sigma = np.exp(0.3 * rng.normal())
        near = log_likelihood(base, beta, (b,), sigma)
        assert abs(log_likelihood(far, far_beta, (far_b,), sigma) - near) < 1e-6


def test_padded_groups_add_only_their_prior():
    x, y, codes = rows(n_groups=9)
    stats, _ = reduced(x, y, codes, (0, 1))
    padded = pad_groups(stats)
    assert padded.factors[0].zy.shape[-1] == 10
    rng = np.random.default_rng(0)
    beta, b = rng.normal(size=3), rng.normal(size=(3, 10))
    found = log_likelihood(padded, beta, (b,), 0.7)
    assert_allclose(found, log_likelihood(stats, beta, (b[:, :9],), 0.7), rtol=1e-14)


def test_decov_scales_follow_the_simplex_and_the_noise():
    """tau_j = sigma scale t sqrt(q pi_j), the shares in the user's units (rstanarm)."""
    x, y, codes = rows()
    stats, units = reduced(x, y, codes, (0, 1))
    prior = prior_dists(covariances=((F(1.0), F(1.0), F(0.5), F(1.7)),))
    share, size, sigma = np.array([0.2, 0.3, 0.5]), 1.3, 0.4
    values = {"noise_scale": sigma, "decov_size_0": size, "decov_share_0": share}
    spec = SPEC._replace(factors=(FactorSpec((0, 1), Decov(3, True), at_mean=False),))
    seeded = handlers.seed(partial(parameters, spec), 0)
    hyper, _ = handlers.substitute(seeded, data=values)(stats, units, prior)
    root = np.linalg.solve(units.effects_at_mean[0], hyper.group_root[0])
    tau = np.linalg.norm(root, axis=1) * units.y_scale / np.append(units.x_scale, 1.0)
    assert_allclose(tau, sigma * units.y_scale * 0.5 * size * np.sqrt(3 * share), rtol=1e-12)


def test_perfect_fit_has_a_bounded_density():
    x, _, codes = rows()
    stats, _ = reduced(x, x @ [2.0, 30.0], codes, (0, 1))
    beta = np.linalg.lstsq(stats.xx, stats.xy, rcond=None)[0]
    b = np.zeros((3, 3))
    sigma = np.geomspace(1e-12, 1, 100)
    values = np.array([log_likelihood(stats, beta, (b,), s) for s in sigma])
    assert np.all(np.isfinite(values))
    assert 0 < values.argmax() < 99
