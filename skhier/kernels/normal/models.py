"""The model as NumPyro programs: joint, and with all that is normal integrated out.

    y_i | b ~ Normal(x_i' beta + sum over factors of z_i' b_g(i), sigma^2)
    b_g ~ Normal(0, Sigma),  Sigma = diag(tau) Omega diag(tau),  Omega ~ LKJ(eta)

Every factor has its own Sigma; beta is one, the mean of all.

The sites live in internal coordinates (:mod:`skhier.statistics.records`), where the geometry is
benign whatever the units; the priors are those of the user's units, carried over by an affine map.
The likelihood needs the rows only through their cross-products (Bates et al. 2015, sec. 3), so
its cost does not depend on the number of rows and neither does the compiled program.

:func:`joint_model` samples every parameter. :func:`marginal_model` samples the variance parameters
and those coefficients whose prior is not normal; group effects and the other coefficients are
integrated out (:mod:`skhier.kernels.normal.collapse`). Both state the same posterior.
"""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpyro.distributions import constraints

from skhier.kernels.distributions import affine, is_flat, sample_blocks, site, unexpanded
from skhier.kernels.normal.collapse import ROUNDING, marginal_and_conditional
from skhier.kernels.records import (
    MIN_VARIANCE,
    CoefPrior,
    ModelSpec,
    Population,
    PopulationGivenTheta,
    PriorDists,
)
from skhier.responses.normal import SCALE
from skhier.statistics.elimination import Elimination
from skhier.statistics.records import GroupStats, Units

__all__ = [
    "given_theta",
    "joint_model",
    "log_likelihood",
    "marginal_model",
    "marginal_parameters",
    "parameters",
    "squared_error",
]

FUSED_SIZE = 512


def joint_model(spec: ModelSpec, stats: GroupStats, units: Units, prior: PriorDists):
    """Every parameter and the likelihood of the rows.

    Parameters
    ----------
    spec : ModelSpec
        Static: bind it with ``functools.partial``.
    stats : GroupStats
        Internal coordinates.
    units : Units
    prior : PriorDists
        In the user's units.
    """
    population, effects = parameters(spec, stats, units, prior)
    sigma = population.own[SCALE]
    numpyro.factor("log_likelihood", log_likelihood(stats, population.coef, effects, sigma))


def parameters(spec: ModelSpec, stats: GroupStats, units: Units, prior: PriorDists):
    """The prior: a program that samples every parameter.

    Returns
    -------
    population : Population
    effects : tuple of array of shape (q, n_levels)
        Per factor: group effects (deviations), the intercept's at the mean of x.

    Notes
    -----
    Centered: the sites are, of the first factor, the groups' coefficients
    ``beta + b_g ~ Normal(beta, L L')``, and of the others ``b_g ~ Normal(0, L L')``.
    Non-centered: ``b_g = L z_g``, ``z_g ~ Normal(0, I)``. The data know the average coefficients
    ``beta + sum over factors of mean_g b_g`` well and how they split hardly at all; so the
    non-centered sites are those averages and, in place of ``z``, its reflection that has the
    average as one coordinate.
    """
    population = _sample_variances(spec, units, prior)
    sample = _sample_noncentered if spec.noncentered else _sample_centered
    coef, effects = sample(spec, stats, units, prior, population.group_root)
    return population._replace(coef=coef), effects


def _sample_noncentered(spec, stats, units, prior, roots):
    moved, effects = jnp.zeros(spec.n_features + 1), []
    factors = zip(spec.factors, stats.factors, roots, strict=True)
    for k, (factor, products, root) in enumerate(factors):
        z = numpyro.sample(site("group_z", k), dist.Normal().expand(products.zy.shape).to_event(2))
        present = (products.zz[-1, -1] > 0).astype(float)
        b = _times(root, _reflect(z, present))
        moved = moved.at[_varying(spec, factor)].add((b * present).sum(1) / present.sum())
        effects.append(b)
    return _sample_beta(spec, units, prior, moved), tuple(effects)


def _sample_centered(spec, stats, units, prior, roots):
    beta = _sample_beta(spec, units, prior, jnp.zeros(spec.n_features + 1))
    effects = []
    factors = zip(spec.factors, stats.factors, roots, strict=True)
    for k, (factor, products, root) in enumerate(factors):
        mean = jnp.zeros(factor.n_effects)
        if k == 0:
            mean = beta[_varying(spec, factor)]
        normals = _SameNormals(mean, root, products.zy.shape[1])
        effects.append(numpyro.sample(site("group_coef", k), normals) - mean[:, None])
    return beta, tuple(effects)


def _varying(spec, factor):
    """Columns of x that vary with the factor."""
    return np.array([*factor.slopes, spec.n_features], int)


def marginal_model(spec: ModelSpec, stats: Elimination, units: Units, prior: PriorDists):
    """The likelihood of the rows with the group effects and normal coefficients integrated out.

    Parameters
    ----------
    spec, units, prior
        As in :func:`joint_model`.
    stats : Elimination
    """
    log_marginal, _ = given_theta(spec, stats, *marginal_parameters(spec, stats, units, prior))
    numpyro.factor("log_marginal", log_marginal)


def given_theta(spec: ModelSpec, stats: Elimination, population: Population, prior: CoefPrior):
    """Log density of the rows, and the coefficients' distribution, given the variance parameters.

    Parameters
    ----------
    spec : ModelSpec
    stats : Elimination
    population : Population
        Without coefficients.
    prior : CoefPrior

    Returns
    -------
    log_density : scalar
    PopulationGivenTheta
    """
    sigma = population.own[SCALE]
    log_density, mean, root = marginal_and_conditional(
        stats, spec.plan, population.group_root, sigma, prior
    )
    # a smaller sigma acts like this one, and leaves exact conditionals without digits
    own = population.own | {SCALE: jnp.maximum(sigma, MIN_VARIANCE**0.5)}
    population = population._replace(coef=mean, own=own)
    return log_density, PopulationGivenTheta(population, root, prior.offset, prior.rows[:, -1])


def marginal_parameters(spec: ModelSpec, stats: Elimination, units: Units, prior: PriorDists):
    """The prior of :func:`marginal_model`: a program that samples what it does not integrate out.

    Returns
    -------
    Population
        Without coefficients.
    CoefPrior
        Of the coefficients with a normal or flat prior; the others' values.
    """
    return _sample_variances(spec, units, prior), _sample_other_coefs(spec, units, prior)


def _sample_variances(spec, units, prior) -> Population:
    sigma = numpyro.sample(SCALE, affine(prior.own[SCALE], 1 / units.y_scale))
    roots = []
    for k, factor in enumerate(spec.factors):
        unit = jnp.append(units.x_scale[np.array(factor.slopes, int)], 1.0) / units.y_scale
        root = factor.covariance.root(k, prior.covariances[k], unit, sigma * units.y_scale)
        roots.append(root if factor.at_mean else units.effects_at_mean[k] @ root)
    return Population(None, tuple(roots), {SCALE: sigma})


def _reflect(z, present):
    """Householder reflection that takes the first group to the average of those present."""
    v = -present / jnp.sqrt(present.sum())
    v = v.at[0].add(1.0)
    size = (v**2).sum()
    factor = jnp.where(size > 0, 2 / jnp.where(size > 0, size, 1.0), 0.0)
    return z - factor * (z @ v)[:, None] * v


class _SameNormals(dist.Distribution):
    """One multivariate normal for each of n groups, the groups on the last axis, (q, n).

    One inverse of the small factor serves all groups; NumPyro's repeats the factor for each.
    """

    support = constraints.independent(constraints.real, 2)

    def __init__(self, loc, scale_tril, n):
        self.loc, self.scale_tril = loc, scale_tril
        super().__init__((), (len(loc), n), validate_args=False)

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, sample_shape + self.event_shape)
        return self.loc[:, None] + self.scale_tril @ noise

    def log_prob(self, value):
        q, n = self.event_shape
        inverse = solve_triangular(self.scale_tril, jnp.eye(q), lower=True)
        white = _times(inverse, value - self.loc[:, None])
        log_det = jnp.log(jnp.diagonal(self.scale_tril)).sum()
        return -0.5 * (white**2).sum() - n * (log_det + 0.5 * q * jnp.log(2 * jnp.pi))


def _sample_beta(spec, units, prior, moved):
    """Population slopes and intercept, (p,); the sites are these plus ``moved``."""
    of_coef, of_intercept = moved[:-1], moved[-1]
    scale = units.x_scale / units.y_scale
    coef = sample_blocks("coef", prior.coef, spec.coef_blocks, scale, of_coef) - of_coef
    # the intercept at x = 0 is the one at the mean less mean'beta
    loc = 0.0 if spec.intercept_at_mean else (units.x_mean / units.x_scale) @ coef
    loc = loc - units.y_mean / units.y_scale + of_intercept
    sampled = numpyro.sample("intercept", affine(prior.intercept, 1 / units.y_scale, loc))
    return jnp.append(coef, sampled - of_intercept)


def _sample_other_coefs(spec, units, prior) -> CoefPrior:
    """Sample the coefficients whose prior is not normal; the normal priors of the others.

    The intercept's prior is on ``intercept - shift'coef``: at x = 0 a change of ``coef`` moves it.
    """
    last = spec.n_features
    scale = jnp.append(units.x_scale, 1.0) / units.y_scale
    loc = jnp.zeros(last + 1).at[last].set(-units.y_mean / units.y_scale)
    offset, mean, root, log_scale = jnp.zeros(last + 1), loc, 0 * loc, jnp.zeros(())
    kept: list[int] = []
    blocks = [*zip(spec.coef_blocks, prior.coef, strict=True), ((last,), prior.intercept)]
    for i, (block, family) in enumerate(blocks):
        at, family = np.array(block, int), unexpanded(family)
        if type(family) is dist.Normal:
            sd = jnp.broadcast_to(scale[at] * family.scale, at.shape)
            mean = mean.at[at].add(scale[at] * family.loc)
            root = root.at[at].set(1 / sd)
            log_scale = log_scale + jnp.log(sd).sum()
        elif is_flat(family):
            log_scale = log_scale + jnp.log(scale[at] / jnp.sqrt(2 * jnp.pi)).sum()
        else:
            moved = affine(family, scale[at], loc[at]).to_event(1)
            offset = offset.at[at].set(numpyro.sample(f"coef_{i}", moved))
            continue
        kept += block
    shift = jnp.zeros(last + 1)
    if not spec.intercept_at_mean:
        shift = shift.at[:last].set(units.x_mean / units.x_scale)
    order = np.array(sorted(kept), int)
    return _coef_prior(order, offset, mean, root, shift, log_scale)


def _coef_prior(kept, offset, mean, root, shift, log_scale) -> CoefPrior:
    """``(u - mean) * root ~ Normal(0, 1)`` for the kept coefficients, each on its own scale."""
    last = len(offset) - 1
    basis = jnp.eye(last + 1)[:, kept]
    rows = jnp.concatenate([basis[kept], mean[kept, None]], axis=1)
    moved = shift @ offset  # what the sampled coefficients add to the intercept at the mean
    if last in kept:
        rows = rows.at[-1, :-1].add(-shift[kept]).at[-1, -1].add(moved)
    else:
        basis = basis.at[last].add(shift[kept])
        offset = offset.at[last].add(moved)
    return CoefPrior(basis, offset, root[kept, None] * rows, log_scale)


def log_likelihood(stats: GroupStats, beta, effects, sigma):
    """Log density of the rows given every parameter, in internal coordinates.

    Parameters
    ----------
    stats : GroupStats
    beta : array of shape (p,)
        Population coefficients, intercept last.
    effects : sequence of array of shape (q, n_levels)
        Per factor: group effects (deviations).
    sigma : scalar
    """
    sse = squared_error(stats, beta, effects)
    return -0.5 * (stats.n * jnp.log(2 * jnp.pi * sigma**2) + sse / sigma**2)


def squared_error(stats: GroupStats, beta, effects):
    """Weighted sum of squared residuals, from the cross-products.

    Never below their rounding error: a perfect fit would leave the density without a bound.
    """
    sse = stats.yy - 2 * stats.xy @ beta + beta @ stats.xx @ beta
    for products, b in zip(stats.factors, effects, strict=True):
        rest = products.zy - _times_each(products.zx, beta[:, None])
        sse = sse + ((_times_each(products.zz, b) - 2 * rest) * b).sum()
    both = combinations(effects, 2)
    for pair, (b, other) in zip(stats.pairs, both, strict=True):
        fitted = _times_each(pair.zz, other[:, pair.second])
        sse = sse + 2 * (b[:, pair.first] * fitted).sum()
    return jnp.maximum(sse, ROUNDING * stats.n)


def _times(matrix, columns):
    """``matrix @ columns``; small ones as a sum, which fuses with the operations around it."""
    if columns.size <= FUSED_SIZE:
        return (matrix[:, :, None] * columns[None]).sum(1)
    return matrix @ columns


def _times_each(matrices, columns):
    """The same with a matrix of its own per column, (q, p, n), and (p, n) or (p, 1) columns."""
    if matrices.shape[0] * matrices.shape[2] <= FUSED_SIZE:
        return (matrices * columns[None]).sum(1)
    if columns.shape[1] == 1:
        return jnp.einsum("ijn,j->in", matrices, columns[:, 0])
    return jnp.einsum("ijn,jn->in", matrices, columns)
