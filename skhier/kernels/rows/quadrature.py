"""Group effects of one factor integrated out by adaptive Gauss-Hermite quadrature.

Given the population the levels are independent. With ``b = L u``, ``u ~ Normal(0, I)``,
``T = Z L``, and s, w the score and the curvature of the response in the line:

    mode:   u <- u + H^-1 (T's - u),  H = I + T'WT = R R'
    nodes:  u_k = u + R^-T x_k,  x_k and w_k a product rule for Normal(0, I)
    log p(y_g) = logsumexp_k [log p(y_g | u_k) - u_k'u_k / 2 + x_k'x_k / 2 + log w_k] - log|R|

Where the curvature is negative (heavy tails) it counts as 0 in H, which places the nodes and does
not change what they integrate. Blocks of levels come one after the other (:mod:`.blocks`).
Pinheiro and Bates (1995), J. Comput. Graph. Stat. 4; Rabe-Hesketh, Skrondal and Pickles (2005),
J. Econometrics 128.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhier.kernels.records import Population
from skhier.kernels.rows.around import Around, LevelNodes
from skhier.kernels.rows.at_nodes import expected_gradient
from skhier.kernels.rows.blocks import over_blocks
from skhier.kernels.rows.directions import directions
from skhier.kernels.rows.modes import ModeSearch, level_modes, n_normals, tolerance_of
from skhier.kernels.rows.rules import ProductRule
from skhier.responses.base import Response
from skhier.statistics.rows import RowBlocks

__all__ = [
    "LevelMoments",
    "level_moments",
    "level_nodes",
    "log_densities_without_row",
    "log_density",
    "moments_of_many",
    "unpacked",
]


class LevelMoments(NamedTuple):
    """Of each level's effects ``mean + root v``; q effects, G levels.

    Attributes
    ----------
    log_density : array of shape (G,)
        Of the level's rows, effects integrated out.
    mean : array of shape (q, G)
    root : array of shape (q, q, G)
        Of the covariance; along its columns the effects are skewed.
    skew : array of shape (q, G)
        Skewness of each entry of v.
    log_exp : array of shape (D, G)
        Log means of ``e^(z'b)`` at the rows z of :func:`~.directions.directions`; D is 0 where the
        link is not the log.
    normals : array of shape (n_normals(q), G)
        Where a search begins for another theta: see :class:`~.modes.ModeSearch`.
    """

    log_density: Any
    mean: Any
    root: Any
    skew: Any
    log_exp: Any
    normals: Any


def level_nodes(
    response: Response,
    rule: ProductRule,
    rows: RowBlocks,
    z: Any,
    population: Population,
    search: ModeSearch | None = None,
) -> LevelNodes:
    """Integrate the effects of one factor out.

    Parameters
    ----------
    response : Response
    rule : ProductRule
        In one part.
    rows : RowBlocks
    z : array of shape (q, C, N)
        The columns of ``rows.x`` that vary by level.
    population : Population
    search : ModeSearch or None
        None: from 0, closely.
    """

    def reduced(around):
        return around.nodes(rule.whole)

    return _by_level(response, rows, z, population, search, reduced)[0]


def level_moments(
    response: Response,
    rule: ProductRule,
    rows: RowBlocks,
    z: Any,
    population: Population,
    search: ModeSearch | None = None,
) -> LevelMoments:
    """As :func:`level_nodes`, of which the moments are kept and not the nodes; of any parts."""
    populations = jax.tree.map(lambda a: jnp.asarray(a)[None], population)
    if search is not None:
        search = search._replace(normals=jnp.asarray(search.normals)[None])
    (moments,) = moments_of_many(response, rule, rows, z, populations, search)
    return unpacked(moments, len(z), response.link)


def moments_of_many(
    response: Response,
    rule: ProductRule,
    rows: RowBlocks,
    z: Any,
    populations: Population,
    search: ModeSearch | None = None,
) -> Any:
    """The same of several populations (n, ...), packed: see :func:`unpacked`.

    ``search.normals`` (n, n_normals(q), G) are of each one. A map from outside would trace the
    loops over blocks several times.
    """

    def reduced(around):
        return around.moments(rule, response.link == "log")

    def of_block(block, starts):
        at = partial(_of_block, response, block, search, rows.repeated is not None, reduced)
        moments = jax.vmap(at)(populations, starts)
        flat = [a.reshape(len(a), -1, a.shape[-1]) for a in jax.tree.leaves(moments)]
        return jnp.concatenate(flat, 1)

    n, q = len(populations.coef), len(z)
    starts = _no_normals(rows, z, n) if search is None else search.normals
    n_numbers = sum(math.prod(shape) for shape in _shapes(q, response.link))
    return over_blocks(of_block, rows, z, starts, (n, n_numbers))


def unpacked(numbers: Any, q: int, link: str) -> LevelMoments:
    """LevelMoments of (..., n_numbers, G) numbers of each level, NumPy's or JAX's."""
    parts, first = [], 0
    for shape in _shapes(q, link):
        last = first + math.prod(shape)
        part = numbers[..., first:last, :]
        parts.append(part.reshape(*numbers.shape[:-2], *shape, numbers.shape[-1]))
        first = last
    return LevelMoments(*parts)


def _shapes(q, link):
    """Of the entries of LevelMoments, without the levels."""
    n_exp = len(directions(q)) if link == "log" and q else 0
    return (), (q,), (q, q), (q,), (n_exp,), (n_normals(q),)


def _no_normals(rows, z, *shape):
    return jnp.zeros((*shape, n_normals(len(z)), len(rows.present)))


def _by_level(response, rows, z, population, search, reduced):
    """By level: what ``reduced`` makes of the surroundings of a block's modes, and its normals."""

    def of_block(block, start):
        repeated = rows.repeated is not None
        return _of_block(response, block, search, repeated, reduced, population, start)

    start = _no_normals(rows, z) if search is None else search.normals
    return over_blocks(of_block, rows, z, start)


def _of_block(response, block, search, repeated, reduced, population, start):
    root, own = _root(population), population.own
    line = _without_effects(block.x, block.offset, population.coef)
    tolerance = tolerance_of(search)
    u, half, normals = level_modes(response, block, line, root, own, start, tolerance, repeated)
    around = Around(response, block, line, root, own, u, half, repeated)
    return reduced(around), normals


def _root(population):
    return population.group_root[0] if population.group_root else jnp.zeros((0, 0))


def _parts(rows, z, population):
    """The line without effects (C, N), and ``T`` (q, C, N)."""
    line = _without_effects(rows.x, rows.offset, population.coef)
    if not population.group_root:
        return line, jnp.zeros((0, *line.shape))
    return line, jnp.einsum("acn,aj->jcn", z, population.group_root[0])


def _without_effects(x, offset, coef):
    """The line but for effects (C, N). Of several coefficients theirs is the first axis."""
    return (coef @ x.reshape(len(x), -1)).reshape(offset.shape) + offset


def _of_chunks(t, u, rows):
    """``T u`` at the rows, (C, N)."""
    return jnp.einsum("jcn,jn->cn", t, u[:, rows.level])


def log_density(
    response: Response,
    rule: ProductRule,
    rows: RowBlocks,
    z: Any,
    population: Population,
    search: ModeSearch | None = None,
) -> Any:
    """Log density of all rows, a scalar; with the gradient that the nodes give.

    The gradient is that of the integral (Fisher's identity), to the rule's accuracy:
    ``E[grad log p(y | u)]`` over the nodes' masses, the nodes held fixed.
    """
    fixed = jax.tree.map(jax.lax.stop_gradient, population)

    def reduced(around):
        nodes = around.nodes(rule.whole)
        gradient = expected_gradient(response, around.block, around.line, nodes, fixed)
        return nodes.log_density, gradient

    (density, by_level), _ = _by_level(response, rows, z, fixed, search, reduced)
    gradient = jax.tree.map(lambda a: a.sum(-1), by_level)
    away = jax.tree.map(lambda a, b: a - b, population, fixed)  # 0, with a gradient
    parts = jax.tree.map(lambda a, b: (a * b).sum(), gradient, away)
    return density.sum() + sum(jax.tree.leaves(parts))


def log_densities_without_row(
    response: Response, rule: ProductRule, rows: RowBlocks, z: Any, population: Population
) -> tuple[Any, Any]:
    """Log density of each row given the others of its level, and given all, (C, N) each.

    ``p(y_i | y_-i) = 1 / E[1 / p(y_i | u)]`` over the nodes' masses; one copy of a row goes, or
    all its trials.
    """
    nodes = level_nodes(response, rule, rows, z, population)
    line, t = _parts(rows, z, population)

    def cell(sums, at):
        without, within = sums
        u, log_share = at
        eta = line + _of_chunks(t, u, rows)
        density = response.log_density(rows.y, eta, population.own, jnp)
        if response.weights_are_trials:
            density = rows.weight * density
        mass = log_share[rows.level]
        return (jnp.logaddexp(without, mass - density), jnp.logaddexp(within, mass + density)), None

    nothing = jnp.full(rows.y.shape, -jnp.inf)
    (without, within), _ = jax.lax.scan(cell, (nothing, nothing), (nodes.u, nodes.log_share))
    return -without, within
