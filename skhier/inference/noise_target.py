"""Levels with a noise of their own as a program, and what is kept of them."""

from typing import Any

import jax

from skhier.inference.quadrature_target import LevelProgram
from skhier.kernels.normal.level_noise import level_nodes, log_density, noise_moments
from skhier.kernels.normal.level_noise_models import joint_model, parameters, population
from skhier.kernels.records import Population

__all__ = ["LEVELS", "moments"]


def _log_density(spec, seen, everyone):
    levels, rule = seen
    return log_density(levels, rule, everyone)


def _evaluate(spec, seen, everyone):
    levels, rule = seen

    def at(population):
        return level_nodes(levels, rule, population).log_density.sum(), ()

    return jax.vmap(at)(everyone)


def _population(values):
    return values[0]


# ``seen`` is ``(levels, rule)``, ``model`` ``(units, prior)``
LEVELS = LevelProgram(population, _log_density, _evaluate, parameters, joint_model, _population)


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
