"""Models of levels with a noise of their own as NumPyro programs.

    y_i | b, u ~ Normal(x_i' beta + z_i' b_g(i), sigma^2 e^(2 omega u_g(i))),   u_g ~ Normal(0, 1)

The likelihood needs the rows through the roots of each level's cross-products alone
(:mod:`skhier.statistics.level_roots`). :func:`population` is the prior of what is left once effects
and noises are integrated out (:mod:`skhier.kernels.normal.level_noise`); :func:`joint_model`
samples every parameter.
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from skhier.kernels.distributions import affine
from skhier.kernels.normal.level_noise import joint_log_density
from skhier.kernels.prior_programs import sample_coef, sample_effects, sample_roots
from skhier.kernels.records import ModelSpec, Population, PriorDists
from skhier.responses.by_level import SPREAD
from skhier.responses.normal import SCALE
from skhier.statistics.level_roots import LevelRoots
from skhier.statistics.records import Units

__all__ = ["joint_model", "parameters", "population"]


def population(spec: ModelSpec, units: Units, prior: PriorDists) -> Population:
    """Sample the population, coefficients too.

    Parameters
    ----------
    spec : ModelSpec
        Static: bind it with ``functools.partial``.
    units : Units
    prior : PriorDists
        In the user's units.
    """
    everyone = _own_and_roots(spec, units, prior)
    return everyone._replace(coef=sample_coef(spec, units, prior, jnp.zeros(spec.n_features + 1)))


def _own_and_roots(spec, units, prior) -> Population:
    scale, spread = (prior.own[name] for name in (SCALE, SPREAD))
    own = {SCALE: numpyro.sample(SCALE, affine(scale, 1 / units.y_scale))}
    own[SPREAD] = numpyro.sample(SPREAD, affine(spread, jnp.ones(())))
    return Population(None, sample_roots(spec, units, prior, own[SCALE] * units.y_scale), own)


def parameters(spec: ModelSpec, levels: LevelRoots, units: Units, prior: PriorDists):
    """The prior of :func:`joint_model`: a program that samples every parameter.

    Returns
    -------
    population : Population
    effects : array of shape (q, n_levels)
    u : array of shape (n_levels,)
        How far the logs of the levels' noise sds deviate, in ``noise_spread``.
    """
    present = (levels.n > 0).astype(float)
    everyone = _own_and_roots(spec, units, prior)
    coef, (effects,) = sample_effects(spec, (present,), units, prior, everyone.group_root)
    u = numpyro.sample("noise_z", dist.Normal().expand(present.shape).to_event(1))
    return everyone._replace(coef=coef), effects, u


def joint_model(spec: ModelSpec, levels: LevelRoots, units: Units, prior: PriorDists):
    """Every parameter and the likelihood of the rows."""
    everyone, effects, u = parameters(spec, levels, units, prior)
    numpyro.factor("log_likelihood", joint_log_density(levels, everyone, effects, u))
