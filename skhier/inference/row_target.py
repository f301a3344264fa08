"""Rows without sufficient statistics as a program of levels, and what is asked of them alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from skhier.inference.quadrature_target import LevelProgram
from skhier.kernels.records import Population
from skhier.kernels.rows.models import joint_model, parameters, population
from skhier.kernels.rows.quadrature import (
    level_moments,
    log_densities_without_row,
    log_density,
    moments_of_many,
)

__all__ = ["ROWS", "level_densities", "without_rows"]


def _z(rows, spec):
    return rows.x[spec.varying_columns(0)] if spec.factors else rows.x[:0]


def _log_density(spec, seen, everyone):
    rows, rule, search = seen
    return log_density(spec.response, rule, rows, _z(rows, spec), everyone, search)


def _evaluate(spec, seen, everyone):
    rows, rule, search = seen
    packed = moments_of_many(spec.response, rule, rows, _z(rows, spec), everyone, search)
    return packed[:, 0].sum(1), packed  # the first of each are log densities


def _everything(values):
    return values


# ``seen`` is ``(rows, rule, search)``, ``model`` ``(units, prior, fixed)``
ROWS = LevelProgram(population, _log_density, _evaluate, parameters, joint_model, _everything)


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
