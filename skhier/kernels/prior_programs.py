"""The prior as NumPyro programs that every response shares: covariances, coefficients, effects.

The sites live in internal coordinates (:mod:`skhier.statistics.records`), where the geometry is
benign whatever the units; the priors are those of the user's units, carried over by an affine map.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpyro.distributions import constraints

from skhier.kernels.distributions import affine, sample_blocks, site
from skhier.kernels.records import ModelSpec, PriorDists
from skhier.statistics.records import Units

__all__ = ["FUSED_SIZE", "fused_product", "sample_coef", "sample_effects", "sample_roots"]

FUSED_SIZE = 512  # entries up to which a sum fuses with the operations around it


def sample_roots(spec: ModelSpec, units: Units, prior: PriorDists, dispersion):
    """Per factor the root (q, q) of its effects' covariance, the intercept at the mean of x.

    ``dispersion``: the response's scale given its mean, in the user's units.
    """
    roots = []
    for k, factor in enumerate(spec.factors):
        unit = jnp.append(units.x_scale[np.array(factor.slopes, int)], 1.0) / units.y_scale
        root = factor.covariance.root(k, prior.covariances[k], unit, dispersion)
        roots.append(root if factor.at_mean else units.effects_at_mean[k] @ root)
    return tuple(roots)


def sample_effects(spec: ModelSpec, present, units: Units, prior: PriorDists, roots):
    """Coefficients and group effects.

    Parameters
    ----------
    spec, units, prior
        As of the models.
    present : sequence of array of shape (n_levels,)
        Per factor: 1 where a level has rows, else 0.
    roots : sequence of array of shape (q, q)

    Returns
    -------
    coef : array of shape (p,)
    effects : tuple of array of shape (q, n_levels)
        Deviations, the intercept's at the mean of x.

    Notes
    -----
    Centered: the sites are, of the first factor, the groups' coefficients
    ``beta + b_g ~ Normal(beta, L L')``, and of the others ``b_g ~ Normal(0, L L')``.
    Non-centered: ``b_g = L z_g``, ``z_g ~ Normal(0, I)``. The data know the average coefficients
    ``beta + sum over factors of mean_g b_g`` well and how they split hardly at all; so the
    non-centered sites are those averages and, in place of ``z``, its reflection that has the
    average as one coordinate.
    """
    sample = _sample_noncentered if spec.noncentered else _sample_centered
    return sample(spec, present, units, prior, roots)


def _sample_noncentered(spec, present, units, prior, roots):
    moved, effects = jnp.zeros(spec.n_features + 1), []
    factors = zip(spec.factors, present, roots, strict=True)
    for k, (factor, here, root) in enumerate(factors):
        shape = factor.n_effects, len(here)
        z = numpyro.sample(site("group_z", k), dist.Normal().expand(shape).to_event(2))
        b = fused_product(root, _reflect(z, here))
        moved = moved.at[_varying(spec, factor)].add((b * here).sum(1) / here.sum())
        effects.append(b)
    return sample_coef(spec, units, prior, moved), tuple(effects)


def _sample_centered(spec, present, units, prior, roots):
    beta = sample_coef(spec, units, prior, jnp.zeros(spec.n_features + 1))
    effects = []
    factors = zip(spec.factors, present, roots, strict=True)
    for k, (factor, here, root) in enumerate(factors):
        mean = jnp.zeros(factor.n_effects)
        if k == 0:
            mean = beta[_varying(spec, factor)]
        normals = _SameNormals(mean, root, len(here))
        effects.append(numpyro.sample(site("group_coef", k), normals) - mean[:, None])
    return beta, tuple(effects)


def _varying(spec, factor):
    """Columns of x that vary with the factor."""
    return np.array([*factor.slopes, spec.n_features], int)


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
        white = fused_product(inverse, value - self.loc[:, None])
        log_det = jnp.log(jnp.diagonal(self.scale_tril)).sum()
        return -0.5 * (white**2).sum() - n * (log_det + 0.5 * q * jnp.log(2 * jnp.pi))


def sample_coef(spec, units, prior, moved):
    """Population slopes and intercept, (p,); the sites are these plus ``moved``."""
    of_coef, of_intercept = moved[:-1], moved[-1]
    scale = units.x_scale / units.y_scale
    coef = sample_blocks("coef", prior.coef, spec.coef_blocks, scale, of_coef) - of_coef
    # the intercept at x = 0 is the one at the mean less mean'beta
    loc = 0.0 if spec.intercept_at_mean else (units.x_mean / units.x_scale) @ coef
    loc = loc - units.y_mean / units.y_scale + of_intercept
    sampled = numpyro.sample("intercept", affine(prior.intercept, 1 / units.y_scale, loc))
    return jnp.append(coef, sampled - of_intercept)


def fused_product(matrix, columns):
    """``matrix @ columns``; small ones as a sum, which fuses with the operations around it."""
    if columns.size <= FUSED_SIZE:
        return (matrix[:, :, None] * columns[None]).sum(1)
    return matrix @ columns
