"""The posterior of theta against dense normals, priors and Jacobians; against the joint model."""

from functools import partial

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from numpyro.infer.util import log_density
from programs import marginal_at
from reduced import population
from scipy import stats as sp
from scipy.special import gammaln

from skhier.inference import runtime
from skhier.inference.target import Marginal, density_and_gradient, evaluate, origin
from skhier.kernels import flat
from skhier.kernels.covariance import Decov, Independent, Lkj
from skhier.kernels.normal.conditional import condition
from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.models import joint_model, marginal_model
from skhier.kernels.records import FactorSpec, ModelSpec, PriorDists
from skhier.responses.normal import NORMAL as RESPONSE
from skhier.responses.normal import SCALE
from skhier.statistics.elimination import arrange
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.products import group_stats
from skhier.statistics.records import FactorStats, Plan
from skhier.statistics.units import internal_units

F = np.float64
NATS_PER_ROW = 1e-9


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


def user_rows(seed=0, sizes=(9, 5, 2, 1, 6)):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(codes), 2)) * [3.0, 0.1] + [5.0, 2.0]
    y = 200 + x @ [2.0, -30.0] + 8 * rng.normal(size=len(sizes))[codes]
    return x, y + 12 * rng.normal(size=len(y)), codes


NORMAL = dist.Normal(np.array([0.5, 1.0]), np.array([4.0, 50.0]))
STUDENT = dist.StudentT(F(4.0), F(0.5), np.array([3.0, 40.0]))
FLAT = dist.ImproperUniform(dist.constraints.real, (2,), ())
FLAT_NUMBER = dist.ImproperUniform(dist.constraints.real, (), ())
STUDENT_INTERCEPT = dist.StudentT(F(3.0), F(180.0), F(40.0))
LAPLACE_INTERCEPT = dist.Laplace(F(180.0), F(40.0))
MIXED = (dist.Laplace(F(1.0), np.array([3.0])), dist.Normal(np.array([2.0]), np.array([40.0])))
APART = {"coef_blocks": ((0,), (1,)), "coef": MIXED}
DECOV = {"decov": (F(1.3), F(0.8), F(0.5))}
AT_MEAN = {"intercept_at_mean": True}
GROUPS_AT_MEAN = {"groups_at_mean": True, "slopes": (0, 1)}

# changes to the model with one of two slopes varying, normal priors, the intercept's at X = 0
CASES = {
    "normal": {},
    "normal, at the mean": AT_MEAN,
    "independent": {"correlated": False},
    "all slopes": {"slopes": (0, 1)},
    "all slopes, independent": {"slopes": (0, 1), "correlated": False},
    "no slope": {"slopes": ()},
    "no groups": {"slopes": None},
    "no groups, at the mean": {"slopes": None} | AT_MEAN,
    "decov": DECOV,
    "decov, all slopes, independent": DECOV | {"slopes": (0, 1), "correlated": False},
    "decov, no slope": DECOV | {"slopes": ()},
    "groups at the mean": GROUPS_AT_MEAN,
    "groups at the mean, independent": GROUPS_AT_MEAN | {"correlated": False},
    "all at the mean": GROUPS_AT_MEAN | AT_MEAN,
    "Student": {"coef": (STUDENT,)},
    "Student, at the mean": {"coef": (STUDENT,)} | AT_MEAN,
    "Laplace and normal": APART,
    "Laplace and normal, at the mean": APART | AT_MEAN,
    "normal and Laplace": {"coef_blocks": ((1,), (0,)), "coef": MIXED[::-1]},
    "half-normal slope": APART | {"coef": (dist.HalfNormal(np.array([3.0])), MIXED[1])},
    "Student intercept": {"intercept": STUDENT_INTERCEPT},
    "Student intercept, at the mean": {"intercept": STUDENT_INTERCEPT} | AT_MEAN,
    "half-normal intercept": {"intercept": dist.HalfNormal(F(300.0))},
    "nothing integrated": {"coef": (STUDENT,), "intercept": LAPLACE_INTERCEPT},
    "nothing integrated, no groups": {
        "slopes": None,
        "coef": (STUDENT,),
        "intercept": LAPLACE_INTERCEPT,
    },
    "flat slopes": {"coef": (FLAT,)},
    "flat slopes, at the mean": {"coef": (FLAT,)} | AT_MEAN,
    "flat intercept": {"intercept": FLAT_NUMBER},
    "all flat": {"coef": (FLAT,), "intercept": FLAT_NUMBER},
    "all flat, no groups": {"coef": (FLAT,), "intercept": FLAT_NUMBER, "slopes": None},
    "brms": {"coef": (FLAT,), "intercept": STUDENT_INTERCEPT} | AT_MEAN,
    "expanded": {
        "coef": (dist.Normal(F(0.5), F(4.0)).expand([2]),),
        "intercept": dist.Normal(F(180.0), F(40.0)).expand([]),
    },
    "one normal for all": {"coef": (dist.Normal(F(0.5), F(4.0)),)},
}


QUICK = {
    "normal",
    "normal, at the mean",
    "independent",
    "all slopes",
    "no slope",
    "no groups",
    "decov",
    "groups at the mean",
    "Laplace and normal",
    "Student intercept",
    "nothing integrated",
    "flat slopes",
    "brms",
    "expanded",
}


def case(name):
    """Spec, data of the marginal program, rows."""
    spec, (stats, *rest), rows = joint_case(name)
    return spec, (arrange(stats, spec.plan), *rest), rows


def joint_case(name):
    """Spec, data of the joint program, rows."""
    changes = {"slopes": (1,)} | CASES[name]
    slopes = () if changes["slopes"] is None else (changes["slopes"],)
    at_mean, correlated = changes.get("groups_at_mean", False), changes.get("correlated", True)
    factors: tuple[FactorSpec, ...] = ()
    numbers: tuple[tuple, ...] = ()
    if slopes:
        q, eta = len(slopes[0]) + 1, F(1.7)
        kind = Lkj if correlated else Independent
        covariance = kind(q, (tuple(range(q)),))
        numbers = (((dist.HalfNormal(np.array([3.0, 20.0, 15.0])[3 - q :]),), eta),)
        if "decov" in changes:
            covariance, numbers = Decov(q, correlated), ((*changes["decov"], eta),)
        factors = (FactorSpec(slopes[0], covariance, at_mean),)
    plan = Plan((0,) if slopes else (), ())
    spec = ModelSpec(2, factors, plan, True, False, ((0, 1),), RESPONSE.kind)
    spec = spec._replace(**{k: v for k, v in changes.items() if k in ModelSpec._fields})
    intercept, noise = dist.Normal(F(180.0), F(40.0)), dist.HalfNormal(F(25.0))
    prior = PriorDists(intercept, {SCALE: noise}, (NORMAL,), numbers)
    prior = prior._replace(**{k: v for k, v in changes.items() if k in PriorDists._fields})
    x, y, codes = user_rows()
    ones = np.ones(len(y))
    units = internal_units(mean_sd_of_rows(x, ones), mean_sd_of_rows(y[:, None], ones), slopes)
    levels, n_levels = np.repeat(codes[:, None], len(slopes), axis=1), [5] * len(slopes)
    stats = group_stats(x, y, ones, levels, n_levels, slopes, units, ())
    return spec, (stats, units, prior), (x, y, codes)


def n_effects(spec):
    """Of the only factor, or 0 without one."""
    return sum(factor.n_effects for factor in spec.factors)


def has_correlations(spec):
    covariances = [factor.covariance for factor in spec.factors if factor.n_effects > 1]
    return any(isinstance(c, Lkj) or getattr(c, "correlated", False) for c in covariances)


def decov_of(spec, prior):
    """Concentration, shape, scale and eta of the only factor's covariance, or None."""
    is_decov = [isinstance(factor.covariance, Decov) for factor in spec.factors]
    return prior.covariances[0] if any(is_decov) else None


def varying(spec):
    """Columns with group effects, the constant last."""
    return [j for factor in spec.factors for j in (*factor.slopes, 2)]


def is_normal(family):
    return isinstance(getattr(family, "base_dist", family), dist.Normal)


def is_flat(family):
    return isinstance(family, dist.ImproperUniform)


def families(spec, prior):
    """Blocks of coefficients and their priors; the intercept is the last."""
    return [*zip(spec.coef_blocks, prior.coef, strict=True), ((2,), prior.intercept)]


def other_coefs(spec, prior):
    """Columns of the coefficients that stay in theta."""
    blocks = families(spec, prior)
    return [j for at, f in blocks if not (is_normal(f) or is_flat(f)) for j in at]


def user_values(found, units, spec):
    """Parameters at each theta in the user's units; intercepts, last, where their priors sit."""
    z = varying(spec)
    size = units.y_scale / np.append(units.x_scale, 1.0)
    to_user = np.diag(size)
    if not spec.intercept_at_mean:
        to_user[2, :2] = -units.x_mean * size[:2]
    cov = np.zeros((len(found.coef_root), 0, 0))
    for factor, chol, to_mean in zip(
        spec.factors, found.population.group_root, units.effects_at_mean, strict=True
    ):
        root = np.asarray(chol) if factor.at_mean else np.linalg.inv(to_mean) @ np.asarray(chol)
        cov = size[z, None] * (root @ np.swapaxes(root, 1, 2)) * size[z]
    tau = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    return {
        "sigma": units.y_scale * np.asarray(found.population.own[SCALE]),
        "tau": tau,
        "corr": cov / (tau[:, :, None] * tau[:, None, :]),
        "beta": np.asarray(found.population.coef) @ to_user.T + np.array([0, 0, units.y_mean]),
        "beta_root": to_user @ np.asarray(found.coef_root),
    }


def free_values(v, spec, prior):
    """What theta stands for, as one vector per theta."""
    q = n_effects(spec)
    scales = v["tau"]
    decov = decov_of(spec, prior)
    if decov:  # t and all shares but the last
        share = scales**2 / (scales**2).sum(1, keepdims=True)
        t = np.sqrt((scales**2).sum(1) / q) / (v["sigma"] * decov[2])
        scales = np.column_stack([t, share[:, :-1]])
    i, j = np.tril_indices(q, -1)
    corr = v["corr"][:, i, j] if has_correlations(spec) else np.empty((len(scales), 0))
    beta = v["beta"][:, other_coefs(spec, prior)]
    return np.column_stack([v["sigma"], scales, corr, beta])


def log_lkj(corr, eta):
    """Lewandowski, Kurowicka and Joe (2009), eq. 16."""
    d = len(corr)
    k = np.arange(1, d)
    constant = (k / 2 * np.log(np.pi) + gammaln(eta + (d - 1 - k) / 2)).sum()
    constant -= (d - 1) * gammaln(eta + (d - 1) / 2)
    return (eta - 1) * np.linalg.slogdet(corr)[1] - constant


SCIPY = {
    dist.Normal: lambda d: sp.norm(d.loc, d.scale),
    dist.StudentT: lambda d: sp.t(d.df, d.loc, d.scale),
    dist.Laplace: lambda d: sp.laplace(d.loc, d.scale),
    dist.HalfNormal: lambda d: sp.halfnorm(scale=d.scale),
}


def scipy_of(family):
    family = getattr(family, "base_dist", family)
    return SCIPY[type(family)](family)


def log_prior(v, free, spec, prior):
    """Of the free values, in the user's units."""
    found = scipy_of(prior.own[SCALE]).logpdf(v["sigma"])
    if has_correlations(spec):
        found += log_lkj(v["corr"], prior.covariances[0][-1])
    for block, family in families(spec, prior):
        if not (is_normal(family) or is_flat(family)):
            found += scipy_of(family).logpdf(v["beta"][list(block)]).sum()
    decov = decov_of(spec, prior)
    if decov:
        concentration, shape, *_ = decov
        share = np.append(free[2 : 1 + n_effects(spec)], 0)
        share[-1] = 1 - share.sum()
        found += sp.gamma.logpdf(free[1], shape)
        if n_effects(spec) > 1:
            found += sp.dirichlet.logpdf(share, np.full(len(share), concentration))
    elif spec.factors:
        found += scipy_of(prior.covariances[0][0][0]).logpdf(v["tau"]).sum()
    return found


def log_normal(residual, cov):
    sign, log_det = np.linalg.slogdet(cov)
    assert sign == 1
    quadratic = residual @ np.linalg.solve(cov, residual)
    return -0.5 * (len(residual) * np.log(2 * np.pi) + log_det + quadratic)


def covariance(v, rows, spec):
    """sigma^2 I + Z Sigma Z', rows of one group correlated."""
    x, y, codes = rows
    cov = v["sigma"] ** 2 * np.eye(len(y))
    if any(factor.at_mean for factor in spec.factors):
        x = x - x.mean(0)
    z = np.column_stack([x, np.ones(len(y))])[:, varying(spec)]
    sigma = v["corr"] * np.outer(v["tau"], v["tau"])
    return cov + (codes[:, None] == codes) * (z @ sigma @ z.T)


def regression(v, rows, spec, prior):
    """y = known + X b + e: prior moments of the integrated b (infinite if flat), and the rest."""
    x, y, _ = rows
    design = np.column_stack([x, np.ones(len(y))])
    if spec.intercept_at_mean:
        design[:, :2] -= x.mean(0)
    known, mean, sd = np.zeros(len(y)), np.zeros(3), np.zeros(3)
    for block, family in families(spec, prior):
        at = list(block)
        if is_normal(family):
            mean[at], sd[at] = scipy_of(family).mean(), scipy_of(family).std()
        elif is_flat(family):
            sd[at] = np.inf
        else:
            known += design[:, at] @ v["beta"][at]
    return known, design, mean, sd


def log_likelihood(v, rows, spec, prior):
    """Density of y given the free values.

    Normal coefficients add X C X' to the covariance. Flat ones have density 1:
    int N(y; X b, W) db = N(y; X b_hat, W) |2 pi (X'W^-1 X)^-1|^(1/2).
    """
    known, design, mean, sd = regression(v, rows, spec, prior)
    proper, flat_ones = design[:, np.isfinite(sd)], design[:, np.isinf(sd)]
    residual = rows[1] - known - design @ mean
    cov = covariance(v, rows, spec) + proper * sd[np.isfinite(sd)] ** 2 @ proper.T
    information = flat_ones.T @ np.linalg.solve(cov, flat_ones)
    fitted = np.linalg.solve(information, flat_ones.T @ np.linalg.solve(cov, residual))
    integral = 0.5 * (len(fitted) * np.log(2 * np.pi) - np.linalg.slogdet(information)[1])
    return log_normal(residual - flat_ones @ fitted, cov) + integral


def coefs_given(v, rows, spec, prior):
    """Posterior moments of the coefficients given the free values: P = X'V^-1 X + P0."""
    known, design, mean, sd = regression(v, rows, spec, prior)
    on = sd > 0
    design, precision = design[:, on], np.diag(sd[on] ** -2.0)
    weighted = np.linalg.solve(covariance(v, rows, spec), design)
    after = np.zeros((3, 3))
    after[np.ix_(on, on)] = np.linalg.inv(weighted.T @ design + precision)
    found = np.array(v["beta"])
    score = weighted.T @ (rows[1] - known) + precision @ mean[on]
    found[on] = after[np.ix_(on, on)] @ score
    return found, after


def points(size, n, seed=0):
    return 0.5 * np.random.default_rng(seed).normal(size=(n, size))


STEP = 2e-3


def stencil(theta):
    """theta, and points one and two steps to both sides along each axis."""
    one = STEP * np.eye(len(theta))
    return theta + np.concatenate([0 * one[:1], one, -one, 2 * one, -2 * one])


def jacobian(values):
    """Derivatives, error of order STEP^4, of values (4 d + 1, k) at the points of a stencil."""
    up, down, up2, down2 = np.split(values[1:], 4)
    return ((8 * (up - down) - (up2 - down2)) / (12 * STEP)).T


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES]
)
def test_density_of_theta_matches_dense_normal_priors_and_jacobian(name):
    spec, data, rows = case(name)
    _, units, prior = data
    q = n_effects(spec)
    size = 1 + q + q * (q - 1) // 2 * has_correlations(spec) + len(other_coefs(spec, prior))
    zero, _ = origin(*jax.tree.flatten(data), spec)
    assert zero.shape == (size,)
    starts = points(size, 3)
    found, population = evaluate(
        np.concatenate([stencil(t) for t in starts]), *jax.tree.flatten(data), spec
    )
    values = user_values(population, units, spec)
    free = free_values(values, spec, prior)
    n = len(rows[1])
    for at in np.split(np.arange(len(found)), 3):
        v = {key: value[at[0]] for key, value in values.items()}
        to_theta = jacobian(free[at])
        assert to_theta.shape == (size, size)
        expected = log_likelihood(v, rows, spec, prior) + n * np.log(units.y_scale)
        expected += log_prior(v, free[at[0]], spec, prior) + np.linalg.slogdet(to_theta)[1]
        assert_allclose(found[at[0]], expected, rtol=0, atol=NATS_PER_ROW * n)
        mean, cov = coefs_given(v, rows, spec, prior)
        assert_allclose(v["beta"], mean, rtol=1e-8)
        assert_allclose(v["beta_root"] @ v["beta_root"].T, cov, rtol=1e-8, atol=1e-9 * cov.max())


def test_density_of_theta_is_that_of_the_marginal_program():
    spec, data, _ = case("Laplace and normal")
    zero, _ = origin(*jax.tree.flatten(data), spec)
    thetas = points(len(zero), 3)
    program = jax.jit(partial(flat.log_density, partial(marginal_model, spec), data))
    expected = [program(theta) for theta in thetas]
    assert_allclose(evaluate(thetas, *jax.tree.flatten(data), spec)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["Laplace and normal", "no groups"])
def test_gradient_of_theta_matches_central_differences(name):
    spec, data, _ = case(name)
    zero, _ = origin(*jax.tree.flatten(data), spec)
    theta = points(len(zero), 1)[0]
    values = np.asarray(evaluate(stencil(theta), *jax.tree.flatten(data), spec)[0])
    value, gradient = density_and_gradient(theta, *jax.tree.flatten(data), spec)
    assert_allclose(value, values[0], rtol=1e-12)
    assert_allclose(gradient, jacobian(values[:, None])[0], rtol=1e-6, atol=1e-6)


def test_marginal_target_is_the_density_in_its_own_frame():
    spec, data, _ = case("normal")
    rng = np.random.default_rng(0)
    centre, root, position = rng.normal(size=4) / 3, rng.normal(size=(4, 4)) / 3, rng.normal(size=4)
    target, frame = Marginal(spec), (*data, centre, root)
    theta = centre + root @ position
    assert target.size(frame) == 4
    assert_allclose(target.record(frame, position), theta)
    expected = evaluate(theta[None], *jax.tree.flatten(data), spec)[0][0]
    assert_allclose(jax.jit(target.log_density)(frame, position), expected, rtol=1e-12)
    keys = jax.random.split(jax.random.PRNGKey(0), 5000)
    starts = jax.vmap(lambda key: target.start(key, 4, 0))(keys)
    assert sp.kstest(np.ravel(starts), "norm").pvalue > 1e-6
    later = jax.vmap(lambda key: target.start(key, 4, 50))(keys)
    assert np.abs(later).max() < 0.1 * np.abs(starts).max()  # a centre that is possible is found


def sites_of_joint(spec, data, sites, beta, effects, chols):
    """Values of the joint model's sites, and log |d sites / d (beta, b)|."""
    stats, *_ = data
    sites, log_det, coefs, z = dict(sites), 0.0, np.array(beta), varying(spec)
    for found, b, chol in zip(stats.factors, effects, chols, strict=True):
        if not spec.noncentered:
            sites["group_coef_0"] = beta[z][:, None] + b
            continue
        present, n_groups = found.zz[-1, -1] > 0, b.shape[1]
        coefs[z] += b[:, present].mean(1)
        # the reflection that takes the first group to the average of those present
        v = np.eye(n_groups)[0] - present / np.sqrt(present.sum())
        reflection = np.eye(n_groups) - 2 * np.outer(v, v) / (v @ v)
        sites["group_z_0"] = np.linalg.solve(chol, b) @ reflection
        log_det -= n_groups * np.linalg.slogdet(chol)[1]
    sites |= {f"coef_{i}": coefs[list(block)] for i, block in enumerate(spec.coef_blocks)}
    return sites | {"intercept": coefs[2]}, log_det


def with_empty_level(found):
    return FactorStats(*(np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, 1)]) for a in found))


def drawn_given(layout, draws, rng):
    """Effects of the only factor drawn given one draw of the rest, and their log density."""
    given = condition(layout, draws, slice(None), {})
    roots, noise = np.moveaxis(given.root[:, :, 0], -1, 0), rng.normal(size=given.mean[:, 0].shape)
    b = given.mean[:, 0] + np.einsum("gij,jg->ig", roots, noise)
    return b, sp.norm.logpdf(noise).sum() - np.linalg.slogdet(roots)[1].sum()


@pytest.mark.parametrize(
    ("name", "noncentered"),
    [
        ("normal, at the mean", True),
        ("all slopes", False),
        ("Laplace and normal", False),
        ("nothing integrated", True),
        pytest.param("normal, at the mean", False, marks=pytest.mark.slow),
        pytest.param("all slopes", True, marks=pytest.mark.slow),
        pytest.param("decov", False, marks=pytest.mark.slow),
        pytest.param("no groups", False, marks=pytest.mark.slow),
    ],
)
def test_joint_density_is_marginal_times_conditionals(name, noncentered):
    """p(y | theta) = p(y, beta, b | theta) / (p(beta | theta, y) p(b | beta, theta, y))."""
    spec, (stats, units, prior), _ = joint_case(name)
    spec = spec._replace(noncentered=noncentered)
    stats = stats._replace(factors=tuple(map(with_empty_level, stats.factors)))
    data, rng = (stats, units, prior), np.random.default_rng(0)
    q = n_effects(spec)
    sites = {"noise_scale": 0.4}
    if decov_of(spec, prior):
        sites |= {"decov_size_0": 1.3, "decov_share_0": np.array([0.3, 0.7])}
    elif q:
        sites["group_scale_0_0"] = rng.uniform(0.2, 1, size=q)
    if has_correlations(spec):
        sites["group_corr_chol_0"] = np.linalg.cholesky(0.6 * np.eye(q) + 0.4)
    blocks = families(spec, prior)
    kept = [j for j in range(3) if j not in other_coefs(spec, prior)]
    other = {f"coef_{i}": np.array([0.3, -0.2, 0.1])[list(at)] for i, (at, _) in enumerate(blocks)}
    other = {
        f"coef_{i}": other[f"coef_{i}"] for i, (at, _) in enumerate(blocks) if at[0] not in kept
    }
    of_marginal = arrange(stats, spec.plan), units, prior
    expected, sigma, chols, mean, root = marginal_at(spec, of_marginal, sites | other)
    layout = layout_of(stats, spec.plan)
    joint = jax.jit(lambda *at: log_density(partial(joint_model, spec), at[0], {}, at[1])[0])
    for _ in range(3):
        noise = rng.normal(size=len(kept))
        beta = mean + root @ noise
        log_conditional = sp.norm.logpdf(noise).sum() - np.linalg.slogdet(root[kept])[1]
        effects = []
        if q:
            draws = population(beta[None], sigma[None], [chols[0][None]])
            b, log_density_of_b = drawn_given(layout, draws, rng)
            effects, log_conditional = [b], log_conditional + log_density_of_b
        joint_sites, log_det = sites_of_joint(spec, data, sites, beta, effects, chols)
        assert_allclose(joint(data, joint_sites) + log_det - log_conditional, expected, rtol=1e-10)
