"""What is sampled where rows have no sufficient statistics: theta holds the coefficients too.

As :mod:`skhier.inference.target`; a new value of ``spec`` or other shapes compile a new program,
data, priors and the nodes of the rule do not.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhier.kernels import flat
from skhier.kernels.records import ModelSpec, Population
from skhier.kernels.rows.models import joint_model, parameters, population, varying_columns
from skhier.kernels.rows.quadrature import (
    LevelMoments,
    level_moments,
    log_densities_without_row,
    log_density,
)

__all__ = [
    "JointOfRows",
    "MarginalOfRows",
    "density_and_gradient",
    "evaluate",
    "level_densities",
    "populations",
    "prior_profiles",
    "size",
    "without_rows",
]


class JointOfRows(NamedTuple):
    """Every parameter; ``data`` is ``(rows, units, prior, fixed)``, of :class:`JointRows`."""

    spec: ModelSpec

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        return flat.size(partial(parameters, self.spec), data)

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point to start from, nearer to 0 after so many that were not possible."""
        return 0.9**tries * jax.random.uniform(key, (size,), minval=-1.0, maxval=1.0)

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        return flat.log_density(partial(joint_model, self.spec), data, position)

    def record(self, data: tuple, position: Any) -> Any:
        """The population and all effects."""
        return flat.values(partial(parameters, self.spec), data, position)


class MarginalOfRows(NamedTuple):
    """``theta = centre + root position``; ``data`` is ``(rows, rule, model, search, centre,
    root)``, where ``model`` is ``(units, prior, fixed)`` and ``search`` a ModeSearch.
    """

    spec: ModelSpec

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        return len(data[-1])

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point of the normal that centre and root describe, ever closer to its centre."""
        return 0.9**tries * jax.random.normal(key, (size,))

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        *of_rows, centre, root = data
        return _log_density(tuple(of_rows), self.spec, centre + root @ position)

    def record(self, data: tuple, position: Any) -> Any:
        """``theta``."""
        *_, centre, root = data
        return centre + root @ position


@partial(jax.jit, static_argnames=("spec",))
def size(model: tuple, spec: ModelSpec) -> Any:
    """Zeros of the shape of theta."""
    return jnp.zeros(flat.size(partial(population, spec), model))


@partial(jax.jit, static_argnames=("spec",))
def prior_profiles(grids: Any, model: tuple, spec: ModelSpec) -> dict[str, Any]:
    """Log prior density of each entry of ``theta`` alone at ``grids`` (n_grid, d), per site."""
    return flat.profiles(partial(population, spec), model, grids)


@partial(jax.jit, static_argnames=("spec",))
def populations(thetas: Any, model: tuple, spec: ModelSpec) -> Population:
    """The population at each row of ``thetas``; arrays with a leading axis n."""
    return jax.vmap(partial(_population, model, spec))(thetas)


def _population(model, spec, theta):
    return flat.values(partial(population, spec), model, theta)


def _z(rows, spec):
    return rows.x[varying_columns(spec, 0)] if spec.factors else rows.x[:0]


def _log_density(data, spec, theta):
    rows, rule, model, search = data
    everyone = _population(model, spec, theta)
    likelihood = log_density(spec.response, rule, rows, _z(rows, spec), everyone, search)
    return flat.log_density(partial(population, spec), model, theta) + likelihood


@partial(jax.jit, static_argnames=("spec",))
def evaluate(thetas: Any, data: tuple, spec: ModelSpec) -> tuple[Any, LevelMoments]:
    """Log densities (n,), but for constants of y, and levels' moments (n, ...), of each theta."""

    def at(theta):
        rows, rule, model, search = data
        everyone = _population(model, spec, theta)
        moments = level_moments(spec.response, rule, rows, _z(rows, spec), everyone, search)
        prior = flat.log_density(partial(population, spec), model, theta)
        return prior + moments.log_density.sum(), moments

    return jax.vmap(at)(thetas)


@partial(jax.jit, static_argnames=("spec",))
def density_and_gradient(thetas: Any, data: tuple, spec: ModelSpec) -> tuple[Any, Any]:
    """Log densities (n,) and gradients (n, d) at each row of ``thetas``."""
    return jax.vmap(jax.value_and_grad(partial(_log_density, data, spec)))(thetas)


@partial(jax.jit, static_argnames=("kind", "varying"))
def without_rows(
    populations: Population, rows: Any, rule: Any, kind: Any, varying: tuple[int, ...]
) -> tuple[Any, Any]:
    """Log density of each row without it and with it given each population, (n, N, C) each."""
    z = rows.x[jnp.array(varying, int)]

    def at(everyone):
        pair = log_densities_without_row(kind.response(), rule, rows, z, everyone)
        return tuple(a.T for a in pair)

    return jax.lax.map(at, populations)


@partial(jax.jit, static_argnames=("kind", "varying"))
def level_densities(
    populations: Population, rows: Any, rule: Any, kind: Any, varying: tuple[int, ...]
) -> tuple[Any]:
    """Log density of each level's rows given each population, (n, G)."""
    z = rows.x[jnp.array(varying, int)]

    def at(everyone):
        return level_moments(kind.response(), rule, rows, z, everyone).log_density

    return (jax.lax.map(at, populations),)
