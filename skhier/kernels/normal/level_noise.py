"""Levels with a noise of their own: effects integrated out exactly, the noise by quadrature.

Of level g, ``r = y - X beta``, ``sigma_g = sigma e^(omega u)`` with ``u ~ N(0, 1)``, and with the
roots of its cross-products (:mod:`skhier.statistics.level_roots`), ``Z = Q F``:

    log p(y_g | u) = -[n log 2 pi + (n - q) log v + log|N| + rss / v + s' N^-1 s] / 2
    v = sigma_g^2,   N = F L L' F' + v I,   s = Q'r,   rss = |r - Q Q'r|^2

Every term is a sum of positive ones. The integral over u is adaptive Gauss-Hermite, its nodes
placed at the mode by the curvature there (Liu and Pierce 1994, Biometrika 81). Where the curvature
is negative that of the prior alone places them, which does not change what they integrate.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels.cholesky import inverse_cholesky
from skhier.kernels.records import MIN_VARIANCE, Population
from skhier.responses.by_level import SPREAD
from skhier.responses.normal import SCALE
from skhier.responses.numerics import LOG_2PI
from skhier.statistics.level_roots import LevelRoots
from skhier.utils.hermite import normal_rule

__all__ = [
    "NoiseNodes",
    "NoiseRule",
    "joint_log_density",
    "level_nodes",
    "log_density",
    "noise_moments",
    "noise_rule",
]

STEPS_TO_NOISE = 40  # of Newton's method, so that it ends
LAST_STEP = 0.01  # of a step in posterior sds: it moves the nodes, hardly what they add up to
NOISE_ROUNDING = 2.0**-50  # of effects' variance, of which a smaller noise would leave no digit
LARGEST_LOG_NOISE = 50.0  # in y's sds; its powers are numbers


class NoiseRule(NamedTuple):
    """A rule for a standard normal: ``x`` (K,) and ``log_weight`` (K,)."""

    x: Any
    log_weight: Any


class NoiseNodes(NamedTuple):
    """What the rule makes of each level; K nodes, G levels.

    Attributes
    ----------
    log_density : array of shape (G,)
        Of the level's rows, effects and noise integrated out.
    u : array of shape (K, G)
        Nodes.
    log_share : array of shape (K, G)
        Log posterior mass of each node; sums to 1 over nodes.
    """

    log_density: Any
    u: Any
    log_share: Any


def noise_rule(n_nodes: int) -> NoiseRule:
    """Gauss-Hermite with so many nodes."""
    x, weight = normal_rule(n_nodes)
    return NoiseRule(x, np.log(weight))


class _Level(NamedTuple):
    """A level given the population: ``s`` (q, G), ``rss`` (G,), ``F L L' F'`` (G, q, q), n (G,)."""

    seen: Any
    rss: Any
    spread: Any
    n: Any
    log_sd: Any
    omega: Any

    def variance(self, u):
        log_sd = jnp.minimum(self.log_sd + self.omega * u, LARGEST_LOG_NOISE)
        return jnp.exp(2 * log_sd) + MIN_VARIANCE


class _Given(NamedTuple):
    """Log density at a variance, and its first two derivatives in u, (G,) each."""

    value: Any
    slope: Any
    bend: Any


def level_nodes(levels: LevelRoots, rule: NoiseRule, population: Population) -> NoiseNodes:
    """Integrate effects and noise of each level out.

    Parameters
    ----------
    levels : LevelRoots
    rule : NoiseRule
        Of one dimension.
    population : Population
        Its own parameters are the noise's scale and spread.
    """
    level = _level(levels, population)
    u, width = _mode(level)

    def node(_, at):
        x, log_weight = at
        u_k = u + width * x
        value = _half(level, u_k)[0] - 0.5 * u_k**2 + 0.5 * x**2 + log_weight
        return None, (value, u_k)

    _, (values, nodes) = jax.lax.scan(
        node, None, (jnp.asarray(rule.x), jnp.asarray(rule.log_weight))
    )
    total = jax.scipy.special.logsumexp(values, axis=0)
    return NoiseNodes((total + jnp.log(width)) * (level.n > 0), nodes, values - total)


def _level(levels, population) -> _Level:
    off = jnp.append(-population.coef, 1.0)
    rest = jnp.einsum("kcg,c->kg", levels.rest, off[levels.columns])
    reached = jnp.einsum("iag,aj->gij", levels.root, population.group_root[0])
    return _Level(
        jnp.einsum("icg,c->ig", levels.seen, off),
        (rest**2).sum(0),
        reached @ jnp.swapaxes(reached, 1, 2),
        levels.n,
        jnp.log(population.own[SCALE]),
        population.own[SPREAD],
    )


def _half(level, u):
    """Log density given u, the variance, ``R^-1`` of ``N = R R'`` (q, q, G) and ``R^-1 s``."""
    v, q = level.variance(u), level.seen.shape[0]
    least = v + NOISE_ROUNDING * jnp.trace(level.spread, axis1=1, axis2=2)
    matrix = level.spread + least[:, None, None] * jnp.eye(q)
    half = jnp.moveaxis(inverse_cholesky(matrix), 0, -1)
    white = (half * level.seen).sum(1)
    log_det = -2 * jnp.log(jnp.diagonal(half)).sum(-1)
    total = level.n * LOG_2PI + (level.n - q) * jnp.log(v) + log_det
    return -0.5 * (total + level.rss / v + (white**2).sum(0)), v, half, white


def _given(level, u) -> _Given:
    value, v, half, white = _half(level, u)
    q = len(white)
    inverse = (half[:, :, None] * half[:, None]).sum(0)
    once = (half * white[:, None]).sum(0)  # N^-1 s
    twice = (half * once).sum(1)
    first = (level.n - q) / v + (half**2).sum((0, 1)) - level.rss / v**2 - (once**2).sum(0)
    second = -(level.n - q) / v**2 - (inverse**2).sum((0, 1))
    second = second + 2 * level.rss / v**3 + 2 * (twice**2).sum(0)
    step = 2 * level.omega * (v - MIN_VARIANCE)  # dv / du
    return _Given(
        value, -0.5 * first * step, -0.5 * (second * step**2 + first * 2 * level.omega * step)
    )


def _start(level):
    """Near the mode: the residual variance and the prior, each as exact as it is."""
    m = jnp.maximum(level.n - len(level.seen), 0.0)
    residual = 0.5 * jnp.log(level.rss / jnp.where(m > 0, m, 1.0) + MIN_VARIANCE)
    omega = jnp.maximum(level.omega, 1e-100)
    u = omega * 2 * m * (residual - level.log_sd) / (1 + 2 * m * omega**2)
    return jnp.maximum(u, -m * omega)


def _mode(level):
    """Mode ``u`` (G,) of each level's noise, and the sd that the curvature there says."""

    def at(u):
        given = _given(level, u)
        curvature = 1 + jnp.maximum(-given.bend, 0.0)
        return given.value - 0.5 * u**2, (given.slope - u) / curvature, curvature**-0.5

    def step(state):
        u, value, delta, size, width, k = state
        new, towards, new_width = at(u + delta)
        rises = new >= value - 1e-9 * (1 + jnp.abs(value))
        return (
            jnp.where(rises, u + delta, u),
            jnp.where(rises, new, value),
            jnp.where(rises, towards, 0.5 * delta),
            jnp.where(rises, jnp.abs(towards) / new_width, size),
            jnp.where(rises, new_width, width),
            k + 1,
        )

    def goes_on(state):
        *_, size, _, k = state
        return (k < STEPS_TO_NOISE) & jnp.any(size > LAST_STEP)

    start = _start(level)
    nowhere = jnp.full_like(start, -jnp.inf), jnp.full_like(start, jnp.inf)
    state = (start, nowhere[0], jnp.zeros_like(start), nowhere[1], jnp.ones_like(start), 0)
    u, *_, width, _ = jax.lax.while_loop(goes_on, step, state)
    return jax.lax.stop_gradient(u), jax.lax.stop_gradient(width)


def log_density(levels: LevelRoots, rule: NoiseRule, population: Population) -> Any:
    """Log density of all rows, a scalar; with the gradient that the nodes give.

    That of the integral (Fisher's identity), to the rule's accuracy: the mean of
    ``grad log p(y | u)`` over the nodes' masses, the nodes held fixed.
    """
    fixed = jax.tree.map(jax.lax.stop_gradient, population)
    nodes = jax.lax.stop_gradient(level_nodes(levels, rule, fixed))
    level = _level(levels, population)

    @jax.checkpoint
    def node(total, at):
        u, log_share = at
        return total + (jnp.exp(log_share) * _half(level, u)[0] * (level.n > 0)).sum(), None

    expected = jax.lax.scan(node, jnp.zeros(()), (nodes.u, nodes.log_share))[0]
    return nodes.log_density.sum() + expected - jax.lax.stop_gradient(expected)


def noise_moments(nodes: NoiseNodes, population: Population) -> tuple[Any, Any, Any]:
    """Of the log of each level's noise sd: mean, sd and skewness, (G,) each."""
    share = jnp.exp(nodes.log_share)
    log_sd = jnp.log(population.own[SCALE]) + population.own[SPREAD] * nodes.u
    log_sd = 0.5 * jnp.logaddexp(2 * jnp.minimum(log_sd, LARGEST_LOG_NOISE), jnp.log(MIN_VARIANCE))
    mean = (share * log_sd).sum(0)
    off = log_sd - mean
    sd = jnp.sqrt((share * off**2).sum(0))
    third = (share * off**3).sum(0)
    return mean, sd, third / jnp.maximum(sd, 1e-100) ** 3


def joint_log_density(levels: LevelRoots, population: Population, effects: Any, u: Any) -> Any:
    """Log density of all rows given effects (q, G) and the noises' deviations u (G,), a scalar."""
    off = jnp.append(-population.coef, 1.0)
    rest = jnp.einsum("kcg,c->kg", levels.rest, off[levels.columns])
    seen = jnp.einsum("icg,c->ig", levels.seen, off)
    seen = seen - jnp.einsum("iag,ag->ig", levels.root, effects)
    log_sd = jnp.log(population.own[SCALE]) + population.own[SPREAD] * u
    v = jnp.exp(2 * log_sd) + MIN_VARIANCE
    squares = (rest**2).sum(0) + (seen**2).sum(0)
    return -0.5 * (levels.n * (LOG_2PI + jnp.log(v)) + squares / v).sum()
