"""The joint model of several factors, against rows and dense normals; against the marginal one."""

from functools import cache, partial

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from dense import n_levels
from numpy.testing import assert_allclose
from numpyro.infer.util import log_density
from programs import marginal_at
from reduced import EVERY, population, reduce, with_empty_levels
from scipy import stats as sp

from skhier.inference import runtime
from skhier.kernels.covariance import Lkj
from skhier.kernels.normal.conditional import condition, draw_others
from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.models import joint_model, log_likelihood
from skhier.kernels.records import FactorSpec, ModelSpec, PriorDists
from skhier.responses.normal import NORMAL, SCALE
from skhier.statistics.elimination import arrange
from skhier.statistics.padding import pad_groups

F = np.float64
NAMES = ["nested_deep", "partially_crossed"]
ETA = 1.7
SCALES = (15.0, 20.0, 6.0)  # of the group scales' priors
both_ways = pytest.mark.parametrize("noncentered", [False, True])


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


@cache
def rows(name):
    """A design of two features, far from 0."""
    design = EVERY[name](np.random.default_rng(0))
    return design._replace(x=design.x * [3.0, 0.1] + 5, y=200 + 20 * design.y)


def model(name, noncentered=False):
    """Spec, statistics, units and prior."""
    design = rows(name)
    _, stats, units, plan = reduce(design)
    sizes = [len(slopes) + 1 for slopes in design.slopes]
    covariances = [Lkj(q, (tuple(range(q)),)) for q in sizes]
    at_mean = [k % 2 == 1 for k in range(len(sizes))]
    factors = tuple(map(FactorSpec, design.slopes, covariances, at_mean))
    spec = ModelSpec(2, factors, plan, noncentered, False, ((0,), (1,)), NORMAL.kind)
    scales = [dist.HalfNormal(np.full(q, s)) for s, q in zip(SCALES, sizes, strict=False)]
    prior = PriorDists(
        intercept=dist.Normal(F(180.0), F(40.0)),
        own={SCALE: dist.HalfNormal(F(25.0))},
        coef=(dist.Normal(F(0.0), F(4.0)), dist.Laplace(F(1.0), F(30.0))),
        covariances=tuple(((scale,), F(ETA)) for scale in scales),
    )
    return spec, stats, units, prior


def correlation(rng, q):
    root = rng.normal(size=(q, q + 2))
    cov = root @ root.T
    return cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))


@cache
def joint(spec):
    return jax.jit(lambda data, sites: log_density(partial(joint_model, spec), data, {}, sites)[0])


def varying(factor):
    return [*factor.slopes, 2]


def joint_sites(spec, stats, beta, effects, chols):
    """Sites of coefficients and effects, the intercepts at the mean, and log |d sites|."""
    sites, log_det, moved = {}, 0.0, np.array(beta)
    parts = zip(spec.factors, stats.factors, effects, chols, strict=True)
    for k, (factor, found, b, chol) in enumerate(parts):
        z = varying(factor)
        if not spec.noncentered:
            sites[f"group_coef_{k}"] = b + (beta[z, None] if k == 0 else 0)
            continue
        present, n = found.zz[-1, -1] > 0, b.shape[1]
        moved[z] += b[:, present].mean(1)
        # the reflection that takes the first level to the average of those present
        v = np.eye(n)[0] - present / np.sqrt(present.sum())
        reflection = np.eye(n) - 2 * np.outer(v, v) / (v @ v)
        sites[f"group_z_{k}"] = np.linalg.solve(chol, b) @ reflection
        log_det -= n * np.linalg.slogdet(chol)[1]
    return sites | {"coef_0": moved[:1], "coef_1": moved[1:2], "intercept": moved[2]}, log_det


def variance_sites(sigma, scales, corrs):
    """Internal coordinates."""
    sites = {"noise_scale": sigma}
    for k, (scale, corr) in enumerate(zip(scales, corrs, strict=True)):
        sites[f"group_scale_{k}_0"] = scale
        if len(scale) > 1:
            sites[f"group_corr_chol_{k}"] = np.linalg.cholesky(corr)
    return sites


@both_ways
@pytest.mark.parametrize("name", NAMES)
def test_joint_density_equals_rows_and_dense_normals(name, noncentered):
    """In the user's units where each factor's prior sits, and moved to the sites' units."""
    spec, stats, units, prior = model(name, noncentered)
    design, rng = rows(name), np.random.default_rng(1)
    beta, sigma = np.array([2.0, -7.0, 190.0]), 18.0
    columns = np.column_stack([design.x, np.ones(len(design.y))])
    scale = np.append(units.x_scale, 1.0) / units.y_scale
    line = columns @ beta
    density = sp.halfnorm.logpdf(sigma, scale=25) + sp.norm.logpdf(beta[0], 0, 4)
    density += sp.laplace.logpdf(beta[1], 1, 30) + sp.norm.logpdf(beta[2], 180, 40)
    jacobian = np.log(units.y_scale) - np.log(scale).sum()
    scales, corrs, chols, effects = [], [], [], []
    for k, (factor, codes) in enumerate(zip(spec.factors, design.codes, strict=True)):
        z, q, n = varying(factor), factor.n_effects, n_levels(design)[k]
        tau, corr = rng.uniform(1, 12, q), correlation(rng, q)
        cov, b = corr * np.outer(tau, tau), 8 * rng.normal(size=(q, n))
        line = line + np.einsum("nj,jn->n", columns[:, z], b[:, codes])
        moved = b.copy()
        if factor.at_mean:
            moved[-1] += np.average(design.x, 0, design.weights)[list(factor.slopes)] @ b[:-1]
        density += sp.multivariate_normal.logpdf(moved.T, np.zeros(q), cov).sum()
        density += sp.halfnorm.logpdf(tau, scale=SCALES[k]).sum()
        if q > 1:
            density += dist.LKJCholesky(q, F(ETA)).log_prob(np.linalg.cholesky(corr))
        jacobian -= np.log(scale[z]).sum()
        per_level = 0.5 * np.linalg.slogdet(cov)[1] if noncentered else -np.log(scale[z]).sum()
        jacobian += n * per_level
        to_mean = units.effects_at_mean[k]
        scales.append(tau * scale[z])
        corrs.append(corr)
        chol = scales[k][:, None] * np.linalg.cholesky(corr)
        chols.append(chol if factor.at_mean else to_mean @ chol)
        effects.append(to_mean @ (b * scale[z, None]))
    density += sp.norm.logpdf(design.y, line, sigma).sum() + len(line) * np.log(units.y_scale)
    inside = beta * scale
    inside[2] += units.x_mean / units.x_scale @ inside[:2] - units.y_mean / units.y_scale
    sites, _ = joint_sites(spec, stats, inside, effects, chols)
    sites |= variance_sites(sigma / units.y_scale, scales, corrs)
    found = joint(spec)((stats, units, prior), sites)
    assert_allclose(found, density + jacobian, rtol=1e-10)


def test_padding_of_levels_and_pairs_leaves_the_likelihood():
    design, stats, *_ = reduce(rows("nested_deep"))
    rng, padded = np.random.default_rng(0), pad_groups(with_empty_levels(stats))
    sizes = [found.zy.shape for found in padded.factors]
    effects = [rng.normal(size=size) for size in sizes]
    some = [b[:, :n] for b, n in zip(effects, n_levels(design), strict=True)]
    assert all(b.shape[1] > n for b, n in zip(effects, n_levels(design), strict=True))
    beta = rng.normal(size=3)
    found = log_likelihood(padded, beta, effects, 0.7)
    assert_allclose(found, log_likelihood(stats, beta, some, 0.7), rtol=1e-13)


def others_given(layout, draw, rng):
    """Effects of all factors but the leaf drawn given one draw of the rest; their log density.

    A draw is mean + J noise: J by noise of 1 in one place after the other.
    """
    leaf, stats = layout.plan.chain[0], layout.stats
    shapes = {k: found.zy.shape for k, found in enumerate(stats.factors) if k != leaf}
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    m = sum(sizes)
    rows = np.vstack([rng.normal(size=m), np.zeros(m), np.eye(m)])
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    noise = {
        k: np.moveaxis(part.reshape(m + 2, *shape), 0, 1)
        for (k, shape), part in zip(shapes.items(), parts, strict=True)
    }
    drawn = draw_others(layout, draw.take(np.zeros(m + 2, int)), noise)
    flat = np.hstack([np.moveaxis(b, 1, 0).reshape(m + 2, -1) for b in drawn.values()])
    log_det = np.linalg.slogdet(flat[2:] - flat[1])[1]
    return {k: b[:, :1] for k, b in drawn.items()}, sp.norm.logpdf(rows[0]).sum() - log_det


def leaf_given(layout, draw, others, rng):
    """The same of the leaf."""
    given = condition(layout, draw, slice(None), others)
    noise = rng.normal(size=given.mean[:, 0].shape)
    roots = np.moveaxis(given.root[:, :, 0], -1, 0)
    b = given.mean[:, 0] + np.einsum("gij,jg->ig", roots, noise)
    return b, sp.norm.logpdf(noise).sum() - np.linalg.slogdet(roots)[1].sum()


@both_ways
@pytest.mark.parametrize("name", NAMES)
def test_joint_density_is_marginal_times_conditionals(name, noncentered):
    """p(y | theta) = p(y, beta, b | theta) / (p(beta | theta, y) p(b | beta, theta, y))."""
    spec, stats, units, prior = model(name, noncentered)
    rng = np.random.default_rng(0)
    scales = [rng.uniform(0.2, 1, factor.n_effects) for factor in spec.factors]
    corrs = [correlation(rng, factor.n_effects) for factor in spec.factors]
    of_variances, sigma = variance_sites(0.4, scales, corrs), np.array([0.4])
    data = arrange(stats, spec.plan), units, prior
    at = of_variances | {"coef_1": np.array([-0.2])}
    expected, _, chols, mean, root = marginal_at(spec, data, at)
    layout, kept = layout_of(stats, spec.plan), [0, 2]
    for _ in range(2):
        noise = rng.normal(size=2)
        beta = mean + root @ noise
        draw = population(beta[None], sigma, (chol[None] for chol in chols))
        others, of_others = others_given(layout, draw, rng)
        leaf, of_leaf = leaf_given(layout, draw, others, rng)
        drawn = {k: b[:, 0] for k, b in others.items()} | {spec.plan.chain[0]: leaf}
        effects = [drawn[k] for k in sorted(drawn)]
        conditional = sp.norm.logpdf(noise).sum() - np.linalg.slogdet(root[kept])[1]
        conditional += of_others + of_leaf
        sites, log_det = joint_sites(spec, stats, beta, effects, chols)
        density = joint(spec)((stats, units, prior), of_variances | sites)
        assert_allclose(density + log_det - conditional, expected, rtol=1e-10)
