"""Moments of each level's effects, from sums of powers of a rule's nodes.

At a level's cells ``u = mode + A x`` with the same x for every level, so that sums of products of
the x, each with its mass, tell all moments of u. The masses are relative to the largest one, for
each part of a rule its own.
"""

from collections.abc import Callable
from itertools import combinations_with_replacement, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhier.kernels.cholesky import inverse_cholesky
from skhier.kernels.rows.blocks import pairs, products, symmetric, times
from skhier.kernels.rows.rules import Part, ProductRule, monomials

__all__ = [
    "PowerSums",
    "exponential_sums",
    "no_sums",
    "over_parts",
    "power_sums",
    "raw_moments",
    "skewed_axes",
]

LOWEST = -1e300  # of a log mass: relative to it those of impossible cells are 0
NUGGET = 1e-14  # of a prior variance, so that a covariance of one node has a root
NO_SKEWNESS = 1e-9  # more than the rounding of third moments of standardised effects
N_TURNS = 4
FARTHEST = 150.0  # of an effect from its mode: products of a few exponentials are finite


class PowerSums(NamedTuple):
    """Sums over cells, times ``e^-top``; K levels.

    Attributes
    ----------
    top : array of shape (K,)
    sums : array of shape (n_monomials, K)
        Of mass times monomial; of a shorter list of them where fewer are asked for.
    """

    top: Any
    sums: Any

    @property
    def log_total(self) -> Any:
        """Log of all mass, (K,)."""
        return self.top + jnp.log(self.sums[0])


def power_sums(values: Any, powers: Any) -> PowerSums:
    """Of cells with log masses ``values`` (n_cells, K) and powers (n_cells, n_monomials)."""
    top = jnp.maximum(values.max(0), LOWEST)
    return PowerSums(top, jnp.einsum("km,kg->mg", powers, jnp.exp(values - top)))


def exponential_sums(values: Any, moves: Any, multiples: Any) -> PowerSums:
    """Of cells' masses times ``e^(m'moves)``, m a row of whole multiples.

    An exponential for each effect, of which powers are products.

    Parameters
    ----------
    values : array of shape (n_cells, K)
        Log masses.
    moves : array of shape (q, n_cells, K)
    multiples : int array of shape (D, q)
    """
    top = jnp.maximum(values.max(0), LOWEST)
    mass = jnp.exp(values - top)
    ahead = jnp.exp(jnp.clip(moves, -FARTHEST, FARTHEST))
    back = 1 / ahead
    sums = []
    for row in multiples:
        by = mass
        for j, multiple in enumerate(row):
            for _ in range(abs(int(multiple))):
                by = by * (ahead if multiple > 0 else back)[j]
        sums.append(by.sum(0))
    return PowerSums(top, jnp.stack(sums))


def over_parts(
    sums_of: Callable[[Part], list[PowerSums]], rule: ProductRule, start: list[PowerSums]
) -> list[PowerSums]:
    """Power sums of all parts of a rule together; ``start``: those of no cells."""
    if len(rule.parts.x) == 1:
        return sums_of(rule.whole)

    def step(k, before):
        part = jax.tree.map(lambda a: jnp.asarray(a)[k], rule.parts)
        return [_together(a, b) for a, b in zip(before, sums_of(part), strict=True)]

    return jax.lax.fori_loop(0, rule.n_parts, step, start)


def no_sums(zero: Any, n_monomials: int) -> PowerSums:
    """Those of no cells; ``zero`` (K,)."""
    return PowerSums(zero - jnp.inf, jnp.broadcast_to(zero, (n_monomials, *zero.shape)))


def _together(a, b):
    top = jnp.maximum(a.top, b.top)
    return PowerSums(top, a.sums * jnp.exp(a.top - top) + b.sums * jnp.exp(b.top - top))


def raw_moments(of_powers: PowerSums, q: int) -> tuple[Any, Any, Any]:
    """Of x: mean (q, K), covariance (q, q, K), third central moments (q, q, q, K)."""
    raw = dict(zip(monomials(q), of_powers.sums / of_powers.sums[0], strict=True))
    second = {(j, i): raw[j, i] - raw[j,] * raw[i,] for i, j in pairs(q)}
    third = {
        (i, j, k): raw[i, j, k]
        - raw[i,] * second[j, k]
        - raw[j,] * second[i, k]
        - raw[k,] * second[i, j]
        - raw[i,] * raw[j,] * raw[k,]
        for i, j, k in combinations_with_replacement(range(q), 3)
    }
    n_levels = of_powers.sums.shape[1:]
    mean = jnp.stack([raw[i,] for i in range(q)])
    cubes = [third[tuple(sorted(place))] for place in product(range(q), repeat=3)]  # type: ignore[index]
    cov = symmetric([second[j, i] for i, j in pairs(q)], q)
    return mean, cov, jnp.stack(cubes).reshape(q, q, q, *n_levels)


def skewed_axes(cov: Any, third: Any, steps: Any, root: Any) -> tuple[Any, Any]:
    """A root of the covariance of ``b`` (q, q, K) and the skewness along its columns (q, K).

    Standardised effects are turned so that the first column is where they are most skewed: a vector
    v that the third moments take to a multiple of itself, ``T(., v, v) = s v``, by iteration.

    Parameters
    ----------
    cov : array of shape (q, q, K)
        Of x.
    third : array of shape (q, q, q, K)
        Third central moments of x.
    steps : array of shape (q, q, K)
        ``A`` of ``u = mode + A x``.
    root : array of shape (q, q)
        ``L`` of ``b = L u``.
    """
    q = len(root)
    cov = products(products(steps, cov), jnp.swapaxes(steps, 0, 1)) + NUGGET * _identity(q)
    half = jnp.moveaxis(inverse_cholesky(jnp.moveaxis(cov, -1, 0)), 0, -1)
    third = _turned(products(half, steps), third)
    v = _most_skewed(third)
    # a reflection that takes the first axis to v
    away = _identity(q)[:, 0] - v
    size = (away**2).sum(0)
    turn = _identity(q) - away[:, None] * away[None] * jnp.where(size > 0, 2 / size, 0.0)
    turned = _turned(turn, third)
    skew = jnp.stack([turned[j, j, j] for j in range(q)])
    lower = products(cov, jnp.swapaxes(half, 0, 1))
    return products(root[..., None], products(lower, jnp.swapaxes(turn, 0, 1))), skew


def _most_skewed(third):
    q = len(third)

    def again(_, v):
        along = times(third.reshape(q * q, q, -1), v).reshape(q, q, -1)
        return _normalised(times(along, v))

    start = _normalised(sum(third[:, j, j] for j in range(q)))
    return jax.lax.fori_loop(0, N_TURNS, again, start)


def _turned(matrix, cube):
    """Third moments (q, q, q, K) in other coordinates, of which ``matrix`` (q, q, K) makes each."""
    for _ in range(3):
        first = sum(matrix[:, j, None, None] * cube[None, j] for j in range(len(matrix)))
        cube = jnp.moveaxis(first, 0, 2)
    return cube


def _identity(q):
    return jnp.eye(q)[..., None]


def _normalised(v):
    """Of unit length; the first axis where there is no length but rounding."""
    size = jnp.sqrt((v**2).sum(0))
    is_skewed = size > NO_SKEWNESS
    return jnp.where(is_skewed, v / jnp.where(is_skewed, size, 1.0), _identity(len(v))[:, 0])
