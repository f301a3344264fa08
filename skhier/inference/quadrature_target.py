"""What is sampled where quadrature integrates each level out: theta holds the coefficients too.

As :mod:`skhier.inference.target`. A new ``program`` or ``spec``, or other shapes, compile a new
program; data, priors and the nodes of the rule do not. ``seen`` is what the program's likelihood
takes beside the population, the rule among it, and ``model`` what its prior takes beside ``spec``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels import flat
from skhier.kernels.records import ModelSpec, Population

__all__ = [
    "Joint",
    "LevelProgram",
    "Marginal",
    "density_and_gradient",
    "evaluate",
    "populations",
    "prior_profiles",
    "sites",
    "size",
]


class LevelProgram(NamedTuple):
    """A model whose levels are independent given the population; all of it static.

    Attributes
    ----------
    population : callable
        ``(spec, *model)``: NumPyro program of the population.
    log_density : callable
        ``(spec, seen, population)``: of all rows, levels integrated out; has a gradient.
    evaluate : callable
        The same without one for several populations (n, ...), and what was learnt of the levels on
        the way.
    parameters, joint_model : callable
        ``(spec, rows, *model)``: programs that sample every parameter, without and with the
        likelihood; they return what ``recorded`` takes to what is kept of a draw.
    recorded : callable
    """

    population: Callable[..., Population]
    log_density: Callable[..., Any]
    evaluate: Callable[..., tuple[Any, Any]]
    parameters: Callable[..., Any]
    joint_model: Callable[..., Any]
    recorded: Callable[[Any], Any]


class Joint(NamedTuple):
    """Every parameter; ``data`` is ``(rows, *model)``."""

    program: LevelProgram
    spec: ModelSpec

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        return flat.size(partial(self.program.parameters, self.spec), data)

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point to start from, nearer to 0 after so many that were not possible."""
        return 0.9**tries * jax.random.uniform(key, (size,), minval=-1.0, maxval=1.0)

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        return flat.log_density(partial(self.program.joint_model, self.spec), data, position)

    def record(self, data: tuple, position: Any) -> Any:
        """What is kept of a draw."""
        values = flat.values(partial(self.program.parameters, self.spec), data, position)
        return self.program.recorded(values)


class Marginal(NamedTuple):
    """``theta = centre + root position``; ``data`` is ``(seen, model, centre, root)``."""

    program: LevelProgram
    spec: ModelSpec

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        return len(data[-1])

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point of the normal that centre and root describe, ever closer to its centre."""
        return 0.9**tries * jax.random.normal(key, (size,))

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        return _log_density(data[:2], self.program, self.spec, self.record(data, position))

    def record(self, data: tuple, position: Any) -> Any:
        """``theta``."""
        *_, centre, root = data
        return centre + root @ position


def size(model: tuple, program: LevelProgram, spec: ModelSpec) -> int:
    """Number of entries of theta."""
    return _zeros.eval_shape(model, program, spec).size


@partial(jax.jit, static_argnames=("program", "spec"))  # for its memory: it is never compiled
def _zeros(model, program, spec):
    return jnp.zeros(flat.size(partial(program.population, spec), model))


def sites(model: tuple, program: LevelProgram, spec: ModelSpec) -> dict[str, int]:
    """Number of entries of theta of each site of the model, in their order."""
    shapes = _sites.eval_shape(model, program, spec)
    return {name: int(np.prod(of_site.shape)) for name, of_site in shapes.items()}


@partial(jax.jit, static_argnames=("program", "spec"))  # never compiled either
def _sites(model, program, spec):
    return flat.zeros(partial(program.population, spec), model)


@partial(jax.jit, static_argnames=("program", "spec"))
def prior_profiles(
    grids: Any, model: tuple, program: LevelProgram, spec: ModelSpec
) -> dict[str, Any]:
    """Log prior density of each entry of ``theta`` alone at ``grids`` (n_grid, d), per site."""
    return flat.profiles(partial(program.population, spec), model, grids)


@partial(jax.jit, static_argnames=("structure", "program", "spec"))
def populations(
    thetas: Any, numbers: list[Any], structure: Any, program: LevelProgram, spec: ModelSpec
) -> tuple[Any, Population]:
    """Log prior densities (n,), and the population at each row of ``thetas``, an axis n first.

    ``numbers`` and ``structure`` are the model, as :func:`jax.tree.flatten` takes it apart.
    """
    model = jax.tree.unflatten(structure, numbers)

    def at(theta):
        of_theta = _population(model, program, spec, theta)
        return _log_prior(model, program, spec, theta), of_theta

    return jax.vmap(at)(thetas)


def _population(model, program, spec, theta):
    return flat.values(partial(program.population, spec), model, theta)


def _log_prior(model, program, spec, theta):
    return flat.log_density(partial(program.population, spec), model, theta)


def _log_density(data, program, spec, theta):
    seen, model = data
    likelihood = program.log_density(spec, seen, _population(model, program, spec, theta))
    return _log_prior(model, program, spec, theta) + likelihood


@partial(jax.jit, static_argnames=("program", "spec"))
def evaluate(
    everyone: Population, seen: tuple, program: LevelProgram, spec: ModelSpec
) -> tuple[Any, Any]:
    """Log likelihoods (n,), but for constants of y, and what is learnt of levels.

    ``everyone``: of :func:`populations`, which are of a program of their own: asked for by
    themselves too, they are compiled once.
    """
    return program.evaluate(spec, seen, everyone)


@partial(jax.jit, static_argnames=("program", "spec"))
def density_and_gradient(
    thetas: Any, data: tuple, program: LevelProgram, spec: ModelSpec
) -> tuple[Any, Any]:
    """Log densities (n,) and gradients (n, d) at each row of ``thetas``."""
    return jax.vmap(jax.value_and_grad(partial(_log_density, data, program, spec)))(thetas)
