"""The model as NumPyro programs: joint, and with all that is normal integrated out.

    y_i | b ~ Normal(x_i' beta + sum over factors of z_i' b_g(i), sigma^2)
    b_g ~ Normal(0, Sigma),  Sigma = diag(tau) Omega diag(tau),  Omega ~ LKJ(eta)

Every factor has its own Sigma; beta is one, the mean of all.

The prior is that of :mod:`skhier.kernels.prior_programs`. The likelihood needs the rows only
through their cross-products (Bates et al. 2015, sec. 3), so its cost does not depend on the number
of rows and neither does the compiled program.

:func:`joint_model` samples every parameter. :func:`marginal_model` samples the variance parameters
and those coefficients whose prior is not normal; group effects and the other coefficients are
integrated out (:mod:`skhier.kernels.normal.collapse`). Both state the same posterior.
"""

from itertools import combinations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from skhier.kernels.distributions import affine, is_flat, unexpanded
from skhier.kernels.normal.collapse import RESIDUAL_ROUNDING, marginal_and_conditional
from skhier.kernels.prior_programs import FUSED_SIZE, sample_effects, sample_roots
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
    """
    population = _sample_variances(spec, units, prior)
    present = [(of_factor.zz[-1, -1] > 0).astype(float) for of_factor in stats.factors]
    coef, effects = sample_effects(spec, present, units, prior, population.group_root)
    return population._replace(coef=coef), effects


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
        stats, spec.plan, population.group_root, sigma, prior, spec.budget
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
    noise = prior.own[SCALE]
    if SCALE in spec.kind.fixed:
        sigma = noise / units.y_scale
    else:
        sigma = numpyro.sample(SCALE, affine(noise, 1 / units.y_scale))
    roots = sample_roots(spec, units, prior, sigma * units.y_scale)
    return Population(None, roots, {SCALE: sigma})


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
    return jnp.maximum(sse, RESIDUAL_ROUNDING * stats.n)


def _times_each(matrices, columns):
    """The same with a matrix of its own per column, (q, p, n), and (p, n) or (p, 1) columns."""
    if matrices.shape[0] * matrices.shape[2] <= FUSED_SIZE:
        return (matrices * columns[None]).sum(1)
    if columns.shape[1] == 1:
        return jnp.einsum("ijn,j->in", matrices, columns[:, 0])
    return jnp.einsum("ijn,jn->in", matrices, columns)
