"""What is sampled: the joint posterior of every parameter, or the marginal one of ``theta``.

``theta`` are the parameters of :func:`~skhier.kernels.normal.models.marginal_model`, unconstrained:
variance parameters and the coefficients whose prior is not normal. Its density is evaluated for
many points at once by the compiled functions below; a new value of ``spec`` compiles a new program,
data and prior values do not. They take the data, ``(stats, units, prior)``, as
:func:`jax.tree.flatten` takes it apart, ``numbers`` and ``structure``: once for many calls.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from skhier.inference.bartlett import Bartlett
from skhier.kernels import flat
from skhier.kernels.bartlett import theta_and_log_volume
from skhier.kernels.normal.models import (
    given_theta,
    joint_model,
    marginal_parameters,
    parameters,
)
from skhier.kernels.records import CoefPrior, ModelSpec, Population, PopulationGivenTheta
from skhier.responses.numerics import TINY

__all__ = [
    "Joint",
    "Marginal",
    "density_and_gradient",
    "evaluate",
    "origin",
    "prior_profiles",
    "site_values",
]


class Joint(NamedTuple):
    """Every parameter of the joint model; ``data`` is ``(stats, units, prior)``."""

    spec: ModelSpec

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        return flat.size(partial(parameters, self.spec), data)

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point to start from, after so many that were not possible."""
        return jax.random.uniform(key, (size,), minval=-2.0, maxval=2.0)

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        return flat.log_density(partial(joint_model, self.spec), data, position)

    def record(self, data: tuple, position: Any) -> Population:
        """What is kept of a draw."""
        return flat.values(partial(parameters, self.spec), data, position)[0]


class Marginal(NamedTuple):
    """``data`` is ``(stats, units, prior, centre, root)``, the statistics in the order of
    elimination, and then the :class:`~skhier.inference.signs.Signs`, or Bartlett's coordinates
    (:mod:`skhier.inference.bartlett`), of ``centre + root position`` if it is not ``theta``.
    """

    spec: ModelSpec

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        return len(data[3])

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point of the normal that centre and root describe, ever closer to its centre."""
        return 0.9**tries * jax.random.normal(key, (size,))

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        model, coordinates, point = data[:3], data[5:], self.record(data, position)
        if not coordinates:
            return _log_density(model, self.spec, point)
        theta, log_volume = _in_theta(point, *coordinates)
        return _log_density(model, self.spec, theta) + log_volume

    def moving(self, data: tuple) -> Any:
        """Which coordinates move the point (d,): 1, and 0 of those of spare effects."""
        return jnp.where((data[4] != 0).any(0), 1.0, 0.0)

    def record(self, data: tuple, position: Any) -> Any:
        """``centre + root position``."""
        _, _, _, centre, root, *_ = data
        return centre + root @ position


def _in_theta(point, coordinates):
    """``theta`` and the log volume, as the coordinates have them."""
    if not isinstance(coordinates, Bartlett):
        return _without_signs(point, *coordinates)
    factors, take, signs, _ = coordinates
    point, of_signs = (point, 0.0) if signs is None else _without_signs(point, *signs)
    theta, log_volume = theta_and_log_volume(point, factors, take, jnp, _inverse_of_lower)
    return theta, log_volume + of_signs


def _without_signs(point, signed, flips):
    """The same of :class:`~skhier.inference.signs.Signs`."""
    scale = jnp.where(signed, jnp.maximum(jnp.abs(point), TINY), 1.0)
    parity = 1 - 2 * ((flips @ jnp.where(point < 0, 1.0, 0.0)) % 2)
    theta = jnp.where(signed, jnp.log(scale), point * parity)
    return theta, -jnp.where(signed, jnp.log(2 * scale), 0.0).sum()


def _inverse_of_lower(a):
    return solve_triangular(a, jnp.eye(len(a)), lower=True)


_compiled = partial(jax.jit, static_argnames=("structure", "spec"))


@partial(_compiled, keep_unused=True)  # else it is dispatched slowly
def origin(numbers: list[Any], structure: Any, spec: ModelSpec) -> tuple[Any, CoefPrior]:
    """The point ``theta = 0``, shape (d,), and the coefficients' prior there."""
    program, data = partial(marginal_parameters, spec), jax.tree.unflatten(structure, numbers)
    zero = jnp.zeros(flat.size(program, data))
    return zero, flat.values(program, data, zero)[1]


@_compiled
def prior_profiles(
    grids: Any, numbers: list[Any], structure: Any, spec: ModelSpec
) -> dict[str, Any]:
    """Log prior density of each entry of ``theta`` alone at ``grids`` (n_grid, d), per site."""
    data = jax.tree.unflatten(structure, numbers)
    return flat.profiles(partial(marginal_parameters, spec), data, grids)


@_compiled  # else each of its operations is compiled alone
def site_values(thetas: Any, numbers: list[Any], structure: Any, spec: ModelSpec) -> Any:
    """Value of each entry of ``theta`` (n, d) by itself; NaN where several have one together."""
    data = jax.tree.unflatten(structure, numbers)
    return flat.own_values(partial(marginal_parameters, spec), data, thetas)


def _at(theta, data, spec):
    """Log density, and the population given ``theta``."""
    program = partial(marginal_parameters, spec)
    stats, *_ = data
    log_likelihood, population = given_theta(spec, stats, *flat.values(program, data, theta))
    return flat.log_density(program, data, theta) + log_likelihood, population


def _log_density(data, spec, theta):
    return _at(theta, data, spec)[0]


@_compiled
def evaluate(
    thetas: Any, numbers: list[Any], structure: Any, spec: ModelSpec
) -> tuple[Any, PopulationGivenTheta]:
    """Log densities, evidence included, and population parameters at each row of ``thetas``.

    Returns
    -------
    log_density : array of shape (n,)
    population : PopulationGivenTheta
        Each array with a leading axis n.
    """
    data = jax.tree.unflatten(structure, numbers)
    return jax.vmap(partial(_at, data=data, spec=spec))(thetas)


@_compiled
def density_and_gradient(
    theta: Any, numbers: list[Any], structure: Any, spec: ModelSpec
) -> tuple[Any, Any]:
    """Log density and its gradient at one ``theta`` (d,)."""
    data = jax.tree.unflatten(structure, numbers)
    return jax.value_and_grad(partial(_log_density, data, spec))(theta)
