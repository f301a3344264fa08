"""Group effects of one factor integrated out by adaptive Gauss-Hermite quadrature.

Given the population the levels are independent. With ``b = L u``, ``u ~ Normal(0, I)``,
``T = Z L``, and s, w the score and the curvature of the response in the line:

    mode:   u <- u + H^-1 (T's - u),  H = I + T'WT = R R'
    nodes:  u_k = u + R^-T x_k,  x_k and w_k a product rule for Normal(0, I)
    log p(y_g) = logsumexp_k [log p(y_g | u_k) - u_k'u_k / 2 + x_k'x_k / 2 + log w_k] - log|R|

A step that lowers the density is halved. Where the curvature is negative (heavy tails) it counts as
0 in H, which places the nodes and does not change what they integrate.
Pinheiro and Bates (1995), J. Comput. Graph. Stat. 4; Rabe-Hesketh, Skrondal and Pickles (2005),
J. Econometrics 128.
"""

from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ops import segment_sum

from skhier.kernels.cholesky import inverse_cholesky
from skhier.kernels.records import Population
from skhier.responses.base import Response
from skhier.statistics.rows import RowBlocks

__all__ = [
    "LevelNodes",
    "Rule",
    "effect_moments",
    "level_nodes",
    "log_densities_without_row",
    "log_density",
    "rule_of",
]

MAX_STEPS = 60
TOLERANCE = 0.01  # of a step in posterior sds: it moves the nodes, hardly what they add up to
LEAST_WEIGHT = 1e-7  # of a cell; lighter ones are left out


class Rule(NamedTuple):
    """A product rule for a standard normal: ``x`` (n_cells, q) and ``log_weight`` (n_cells,)."""

    x: Any
    log_weight: Any


class LevelNodes(NamedTuple):
    """What the rule makes of each level; n_cells cells, q effects, G levels.

    Attributes
    ----------
    log_density : array of shape (G,)
        Of the level's rows, effects integrated out.
    u : array of shape (n_cells, q, G)
        Nodes.
    log_share : array of shape (n_cells, G)
        Log posterior mass of each node; sums to 1 over cells.
    """

    log_density: Any
    u: Any
    log_share: Any


def rule_of(n_nodes: int, q: int) -> Rule:
    """Gauss-Hermite with so many nodes a dimension, cells without weight left out."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    weights = weights / weights.sum()
    cells = np.array(list(product(range(n_nodes), repeat=q)), int)
    weight = weights[cells].prod(1)
    kept = weight > LEAST_WEIGHT
    return Rule(nodes[cells[kept]], np.log(weight[kept] / weight[kept].sum()))


def level_nodes(
    response: Response, rule: Rule, rows: RowBlocks, z: Any, population: Population
) -> LevelNodes:
    """Integrate the effects of one factor out.

    Parameters
    ----------
    response : Response
    rule : Rule
    rows : RowBlocks
    z : array of shape (q, C, N)
        The columns of ``rows.x`` that vary by level.
    population : Population
    """
    line, t = _parts(rows, z, population)
    sums = _summing(rows)
    u, half = _mode(response, rows, line, t, population.own, sums)
    line = line + _of_chunks(t, u, rows)
    spread = jnp.einsum("icn,jin->jcn", t, half[..., rows.level])  # T R^-T

    def cell(_, at):
        x, log_weight = at
        u_k = u + jnp.einsum("jig,j->ig", half, x)
        density = response.log_density(
            rows.y, line + jnp.einsum("jcn,j->cn", spread, x), population.own, jnp
        )
        density = sums(rows.weight * density)
        return None, (density - 0.5 * (u_k**2).sum(0) + 0.5 * (x**2).sum() + log_weight, u_k)

    _, (values, nodes) = jax.lax.scan(
        cell, None, (jnp.asarray(rule.x), jnp.asarray(rule.log_weight))
    )
    total = jax.scipy.special.logsumexp(values, axis=0)
    log_det = jnp.log(jnp.diagonal(half)).sum(-1) if len(u) else 0.0
    return LevelNodes(total + log_det, nodes, values - total)


def _parts(rows, z, population):
    """The line without effects (C, N), and ``T`` (q, C, N)."""
    line = jnp.einsum("pcn,p->cn", rows.x, population.coef) + rows.offset
    if not population.group_root:
        return line, jnp.zeros((0, *line.shape))
    return line, jnp.einsum("acn,aj->jcn", z, population.group_root[0])


def _summing(rows):
    """A function from values of rows (..., C, N) to sums of levels (..., G)."""

    def sums(a):
        of_chunks = jnp.moveaxis(a.sum(-2), -1, 0)
        n_levels = len(rows.present)
        out = segment_sum(of_chunks, rows.level, n_levels, indices_are_sorted=True)
        return jnp.moveaxis(out, 0, -1)

    return sums


def _of_chunks(t, u, rows):
    """``T u`` at the rows, (C, N)."""
    return jnp.einsum("jcn,jn->cn", t, u[:, rows.level])


def _mode(response, rows, line, t, own, sums):
    """Mode ``u`` (q, G) of each level's effects, and ``R^-1`` (q, q, G) there."""
    q, n_levels = len(t), len(rows.present)
    if not q:
        return jnp.zeros((0, n_levels)), jnp.zeros((0, 0, n_levels))

    def at(u):
        eta = line + _of_chunks(t, u, rows)
        density = response.log_density(rows.y, eta, own, jnp)
        score = rows.weight * response.score(rows.y, eta, own, jnp)
        curvature = rows.weight * jnp.maximum(response.curvature(rows.y, eta, own, jnp), 0.0)
        value = sums(rows.weight * density) - 0.5 * (u**2).sum(0)
        gram = sums(t[:, None] * t[None] * curvature) + jnp.eye(q)[..., None]
        half = jnp.moveaxis(inverse_cholesky(jnp.moveaxis(gram, -1, 0)), 0, -1)
        white = jnp.einsum("ijg,jg->ig", half, sums(t * score) - u)
        return value, white, half

    def step(state):
        u, value, delta, size, half, k = state
        new, white, new_half = at(u + delta)
        rises = new >= value - 1e-9 * (1 + jnp.abs(value))
        towards = jnp.einsum("jig,jg->ig", new_half, white)
        moved = jnp.where(rises, u + delta, u)
        return (
            moved,
            jnp.where(rises, new, value),
            jnp.where(rises, towards, 0.5 * delta),
            jnp.where(rises, jnp.sqrt((white**2).sum(0)), size),
            jnp.where(rises, new_half, half),
            k + 1,
        )

    def goes_on(state):
        *_, size, _, k = state
        return (k < MAX_STEPS) & jnp.any(size > TOLERANCE)

    nowhere = jnp.full(n_levels, -jnp.inf), jnp.full(n_levels, jnp.inf)
    start = jnp.zeros((q, n_levels))
    state = (start, nowhere[0], start, nowhere[1], jnp.zeros((q, q, n_levels)), 0)
    u, _, _, _, half, _ = jax.lax.while_loop(goes_on, step, state)
    return jax.lax.stop_gradient(u), jax.lax.stop_gradient(half)


def log_density(
    response: Response, rule: Rule, rows: RowBlocks, z: Any, population: Population
) -> Any:
    """Log density of all rows, a scalar; with the gradient that the nodes give.

    The gradient is that of the integral (Fisher's identity), to the rule's accuracy:
    ``E[grad log p(y | u)]`` over the nodes' masses, the nodes held fixed.
    """
    fixed = jax.tree.map(jax.lax.stop_gradient, population)
    nodes = level_nodes(response, rule, rows, z, fixed)
    total = jax.lax.stop_gradient(nodes.log_density.sum())
    expected = _expected(response, rows, z, population, jax.lax.stop_gradient(nodes))
    return total + expected - jax.lax.stop_gradient(expected)


def _expected(response, rows, z, population, nodes):
    """``E[log p(y | u)]``, nodes and their masses held fixed."""
    line, t = _parts(rows, z, population)

    @jax.checkpoint
    def cell(sum_, at):
        u, log_share = at
        eta = line + _of_chunks(t, u, rows)
        density = rows.weight * response.log_density(rows.y, eta, population.own, jnp)
        return sum_ + (jnp.exp(log_share)[rows.level] * density.sum(0)).sum(), None

    return jax.lax.scan(cell, jnp.zeros(()), (nodes.u, nodes.log_share))[0]


def effect_moments(nodes: LevelNodes, population: Population) -> tuple[Any, Any]:
    """Mean (q, G) and covariance (q, q, G) of each level's effects."""
    if not population.group_root:
        n_levels = len(nodes.log_density)
        return jnp.zeros((0, n_levels)), jnp.zeros((0, 0, n_levels))
    share = jnp.exp(nodes.log_share)
    mean = jnp.einsum("kg,kig->ig", share, nodes.u)
    off = nodes.u - mean
    cov = jnp.einsum("kg,kig,kjg->ijg", share, off, off)
    root = population.group_root[0]
    return root @ mean, jnp.einsum("ai,ijg,bj->abg", root, cov, root)


def log_densities_without_row(
    response: Response, rule: Rule, rows: RowBlocks, z: Any, population: Population
) -> tuple[Any, Any]:
    """Log density of each row given the others of its level, and given all, (C, N) each.

    ``p(y_i | y_-i) = 1 / E[1 / p(y_i | u)]`` over the nodes' masses; one copy of a row goes.
    """
    nodes = level_nodes(response, rule, rows, z, population)
    line, t = _parts(rows, z, population)

    def cell(sums, at):
        without, within = sums
        u, log_share = at
        eta = line + _of_chunks(t, u, rows)
        density = response.log_density(rows.y, eta, population.own, jnp)
        mass = log_share[rows.level]
        return (jnp.logaddexp(without, mass - density), jnp.logaddexp(within, mass + density)), None

    nothing = jnp.full(rows.y.shape, -jnp.inf)
    (without, within), _ = jax.lax.scan(cell, (nothing, nothing), (nodes.u, nodes.log_share))
    return -without, within
