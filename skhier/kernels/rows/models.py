"""Models of rows as NumPyro programs, whatever the response.

    y_i | b ~ response(eta_i, own),   eta_i = offset_i + x_i' beta + sum over factors of z_i' b_g(i)

:func:`population` is the prior of what is left once group effects are integrated out
(:mod:`skhier.kernels.rows.quadrature`); :func:`joint_model` samples every parameter.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from skhier.kernels.distributions import affine
from skhier.kernels.prior_programs import sample_coef, sample_effects, sample_roots
from skhier.kernels.records import MIN_VARIANCE, ModelSpec, Population, PriorDists
from skhier.responses.by_level import of_levels
from skhier.responses.normal import SCALE
from skhier.statistics.records import Units

__all__ = [
    "JointRows",
    "joint_model",
    "log_likelihood",
    "parameters",
    "population",
]


class JointRows(NamedTuple):
    """Rows of any number of factors, internal coordinates.

    Attributes
    ----------
    x : array of shape (n_rows, p)
        The constant last.
    y, weight, offset : array of shape (n_rows,)
    codes : int array of shape (n_rows, n_factors)
    present : tuple of array of shape (n_levels,)
        Per factor: 1 where a level has rows, else 0.
    """

    x: Any
    y: Any
    weight: Any
    offset: Any
    codes: Any
    present: tuple[Any, ...]


def population(spec: ModelSpec, units: Units, prior: PriorDists, fixed: dict) -> Population:
    """Sample the population.

    Parameters
    ----------
    spec : ModelSpec
        Static: bind it with ``functools.partial``.
    units : Units
    prior : PriorDists
        In the user's units.
    fixed : dict of str to scalar
        The response's own parameters that are known, in the user's units.
    """
    own, roots = _own_and_roots(spec, units, prior, fixed)
    coef = sample_coef(spec, units, prior, jnp.zeros(spec.n_features + 1))
    return Population(coef, roots, own)


def _own_and_roots(spec, units, prior, fixed):
    response = spec.response
    one = response.scaled(dict.fromkeys(response.parameters, 1.0), units.y_scale)
    own = {name: value / one[name] for name, value in fixed.items()}
    for name, family in prior.own.items():
        own[name] = numpyro.sample(name, affine(family, 1 / one[name]))
    spread = response.spread(response.scaled(own, units.y_scale))
    return own, sample_roots(spec, units, prior, spread)


def parameters(spec: ModelSpec, rows: JointRows, units: Units, prior: PriorDists, fixed: dict):
    """The prior of :func:`joint_model`: a program that samples every parameter.

    Returns
    -------
    population : Population
    effects : tuple of array of shape (q, n_levels)
    deviations : array of shape (n_levels,) or ()
        Of the logs of the noises of the levels that have their own, in ``noise_spread``.
    """
    own, roots = _own_and_roots(spec, units, prior, fixed)
    coef, effects = sample_effects(spec, rows.present, units, prior, roots)
    deviations: Any = ()
    if spec.noise_by is not None:
        shape = rows.present[spec.noise_by].shape
        deviations = numpyro.sample("noise_z", dist.Normal().expand(shape).to_event(1))
    return Population(coef, roots, own), effects, deviations


def joint_model(spec: ModelSpec, rows: JointRows, units: Units, prior: PriorDists, fixed: dict):
    """Every parameter and the likelihood of the rows."""
    everyone, effects, deviations = parameters(spec, rows, units, prior, fixed)
    density = log_likelihood(spec, rows, everyone, effects, deviations)
    numpyro.factor("log_likelihood", density)


def log_likelihood(spec: ModelSpec, rows: JointRows, everyone: Population, effects, deviations):
    """Of all rows, given what :func:`parameters` returns."""
    line = rows.x @ everyone.coef + rows.offset
    for k, b in enumerate(effects):
        z = rows.x[:, spec.varying_columns(k)]
        line = line + (z.T * b[:, rows.codes[:, k]]).sum(0)
    own = everyone.own
    if spec.noise_by is not None:
        own = of_levels(own, deviations[rows.codes[:, spec.noise_by]], jnp)
        own[SCALE] = jnp.sqrt(own[SCALE] ** 2 + MIN_VARIANCE)
    density = spec.response.log_density(rows.y, line, own, jnp)
    return (rows.weight * density).sum()
