"""What is sampled where levels have a noise of their own: theta holds the coefficients too.

As :mod:`skhier.inference.target`; a new value of ``spec`` or other shapes compile a new program,
data, priors and the nodes of the rule do not. ``model`` is ``(units, prior)``.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhier.kernels import flat
from skhier.kernels.normal.level_noise import level_nodes, log_density, noise_moments
from skhier.kernels.normal.level_noise_models import joint_model, parameters, population
from skhier.kernels.records import ModelSpec, Population

__all__ = [
    "JointOfLevels",
    "MarginalOfLevels",
    "density_and_gradient",
    "evaluate",
    "moments",
    "populations",
    "prior_profiles",
    "size",
]


class JointOfLevels(NamedTuple):
    """Every parameter, effects and noises too; ``data`` is ``(levels, units, prior)``."""

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

    def record(self, data: tuple, position: Any) -> Population:
        """The population."""
        return flat.values(partial(parameters, self.spec), data, position)[0]


class MarginalOfLevels(NamedTuple):
    """``theta = centre + root position``; ``data`` is ``(levels, rule, model, centre, root)``."""

    spec: ModelSpec

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        return len(data[-1])

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point of the normal that centre and root describe, ever closer to its centre."""
        return 0.9**tries * jax.random.normal(key, (size,))

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        return _log_density(data[:3], self.spec, self.record(data, position))

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


def _log_density(data, spec, theta):
    levels, rule, model = data
    prior = flat.log_density(partial(population, spec), model, theta)
    return prior + log_density(levels, rule, _population(model, spec, theta))


def _value(data, spec, theta):
    levels, rule, model = data
    nodes = level_nodes(levels, rule, _population(model, spec, theta))
    return flat.log_density(partial(population, spec), model, theta) + nodes.log_density.sum()


@partial(jax.jit, static_argnames=("spec",))
def evaluate(thetas: Any, data: tuple, spec: ModelSpec) -> Any:
    """Log densities (n,) at each row of ``thetas``, of y in internal units."""
    return jax.vmap(partial(_value, data, spec))(thetas)


@partial(jax.jit, static_argnames=("spec",))
def density_and_gradient(theta: Any, data: tuple, spec: ModelSpec) -> tuple[Any, Any]:
    """Log density and its gradient at one ``theta`` (d,)."""
    return jax.value_and_grad(partial(_log_density, data, spec))(theta)


@jax.jit
def moments(populations: Population, levels: Any, rule: Any) -> tuple[Any, Any, Any, Any]:
    """Of the log of each level's noise sd at n populations, arrays (n, G) each.

    Returns
    -------
    mean, sd, skew, log_density
        The last of the level's rows.
    """

    def at(everyone):
        nodes = level_nodes(levels, rule, everyone)
        return *noise_moments(nodes, everyone), nodes.log_density

    return jax.vmap(at)(populations)
