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

from itertools import combinations_with_replacement, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels.cholesky import inverse_cholesky
from skhier.kernels.records import Population
from skhier.kernels.rows.at_nodes import expected_gradient, log_density_at_cells
from skhier.kernels.rows.blocks import over_blocks, pairs, products, symmetric, times
from skhier.kernels.rows.modes import ModeSearch, level_modes, start_of
from skhier.responses.base import Response
from skhier.statistics.rows import RowBlocks
from skhier.utils.hermite import normal_rule

__all__ = [
    "LevelMoments",
    "LevelNodes",
    "ProductRule",
    "effect_moments",
    "level_moments",
    "level_nodes",
    "log_densities_without_row",
    "log_density",
    "product_rule",
]

TINY = 1e-14  # of a prior variance, so that a covariance of one node has a root
N_TURNS = 4
LEAST_WEIGHT = 1e-7  # of a cell; lighter ones are left out


class ProductRule(NamedTuple):
    """A product rule for a standard normal.

    Attributes
    ----------
    x : array of shape (n_cells, q)
    log_weight : array of shape (n_cells,)
    axis : array of shape (n_nodes,)
        The nodes of one dimension.
    cells : int array of shape (n_cells, q)
        Places on the axis, ``x = axis[cells]``.
    """

    x: Any
    log_weight: Any
    axis: Any
    cells: Any


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
    log_exp : array of shape (G,)
        Log mean of ``e^b`` of the intercept.
    mode : array of shape (q, G)
    """

    log_density: Any
    mean: Any
    root: Any
    skew: Any
    log_exp: Any
    mode: Any


def product_rule(n_nodes: int, q: int) -> ProductRule:
    """Gauss-Hermite with so many nodes a dimension, cells without weight left out."""
    nodes, weights = normal_rule(n_nodes)
    cells = np.array(list(product(range(n_nodes), repeat=q)), int)
    weight = weights[cells].prod(1)
    kept = weight > LEAST_WEIGHT
    log_weight = np.log(weight[kept] / weight[kept].sum())
    return ProductRule(nodes[cells[kept]], log_weight, nodes, cells[kept].astype(np.int32))


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
    rows : RowBlocks
    z : array of shape (q, C, N)
        The columns of ``rows.x`` that vary by level.
    population : Population
    search : ModeSearch or None
        None: from 0, closely.
    """

    def reduced(block, line, nodes):
        return nodes

    return _by_level(response, rule, rows, z, population, search, reduced)[0]


def level_moments(
    response: Response,
    rule: ProductRule,
    rows: RowBlocks,
    z: Any,
    population: Population,
    search: ModeSearch | None = None,
) -> LevelMoments:
    """As :func:`level_nodes`, of which the moments are kept and not the nodes."""

    def reduced(block, line, nodes):
        mean, _, log_exp = effect_moments(nodes, population)
        return nodes.log_density, mean, *_axes(nodes, _root(population)), log_exp

    parts, mode = _by_level(response, rule, rows, z, population, search, reduced)
    density, mean, root, skew, log_exp = parts
    return LevelMoments(density, mean, root, skew, log_exp, mode)


def _by_level(response, rule, rows, z, population, search, reduced):
    """By level: what ``reduced`` makes of a block, its line and its nodes; modes of the effects."""
    root = _root(population)
    start, tolerance = start_of(search, root, len(rows.present))

    def of_block(block, start):
        line = _without_effects(block.x, block.offset, population.coef)
        u, half = level_modes(response, block, line, root, population.own, start, tolerance)
        nodes = _nodes(response, rule, block, line, root, population.own, u, half, rows.repeated)
        return reduced(block, line, nodes), _effects(root, u)

    return over_blocks(of_block, rows, z, start)


def _root(population):
    return population.group_root[0] if population.group_root else jnp.zeros((0, 0))


def _nodes(response, rule, block, line, root, own, u, half, repeated):
    """Of a block: log density, nodes and their masses."""
    turned = jnp.swapaxes(half, 0, 1)
    axes = products(root[..., None], turned)  # L R^-T, its columns the steps along each axis
    spread = [block.of_rows(axes[:, j]) for j in range(len(u))]
    line = line + block.of_rows(_effects(root, u))
    x = jnp.asarray(rule.x)
    density = log_density_at_cells(response, block, line, spread, own, rule, repeated is not None)
    u_k = u + jnp.zeros((len(x), 1, 1))
    u_k = u_k + sum(turned[:, j] * x[:, None, None, j] for j in range(len(u)))
    outer = 0.5 * (x**2).sum(1) + rule.log_weight
    values = density - 0.5 * (u_k**2).sum(1) + outer[:, None]
    total = jax.scipy.special.logsumexp(values, axis=0)
    log_det = jnp.log(jnp.diagonal(half)).sum(-1) if len(u) else 0.0
    return LevelNodes(total + log_det, u_k, values - total)


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

    def reduced(block, line, nodes):
        return nodes.log_density, expected_gradient(response, block, line, nodes, fixed)

    (density, by_level), _ = _by_level(response, rule, rows, z, fixed, search, reduced)
    gradient = jax.tree.map(lambda a: a.sum(-1), by_level)
    away = jax.tree.map(lambda a, b: a - b, population, fixed)  # 0, with a gradient
    parts = jax.tree.map(lambda a, b: (a * b).sum(), gradient, away)
    return density.sum() + sum(jax.tree.leaves(parts))


def effect_moments(nodes: LevelNodes, population: Population) -> tuple[Any, Any, Any]:
    """Of each level's effects: mean (q, G), covariance (q, q, G), log mean of ``e^b`` (G,).

    The last is of the intercept alone.
    """
    if not population.group_root:
        n_levels = len(nodes.log_density)
        return jnp.zeros((0, n_levels)), jnp.zeros((0, 0, n_levels)), jnp.zeros(n_levels)
    share = jnp.exp(nodes.log_share)[:, None]
    mean = (share * nodes.u).sum(0)
    off = nodes.u - mean
    cov = _second_moments(share[:, 0], off)
    root = population.group_root[0]
    intercepts = sum(root[-1, j] * nodes.u[:, j] for j in range(len(root)))
    log_exp = jax.scipy.special.logsumexp(nodes.log_share + intercepts, axis=0)
    roots = root[..., None]
    return _effects(root, mean), products(products(roots, cov), root.T[..., None]), log_exp


def _effects(root, u):
    """``L u`` of each level, (q, G)."""
    return times(root[..., None], u) if len(root) else u


def _second_moments(share, off):
    q = off.shape[1]
    return symmetric([(share * off[:, i] * off[:, j]).sum(0) for i, j in pairs(q)], q)


def _third_moments(share, off):
    q = off.shape[1]
    moments: dict[tuple[int, ...], Any] = {
        (i, j, k): (share * off[:, i] * off[:, j] * off[:, k]).sum(0)
        for i, j, k in combinations_with_replacement(range(q), 3)
    }
    every = [moments[tuple(sorted(place))] for place in product(range(q), repeat=3)]
    return jnp.stack(every).reshape(q, q, q, -1)


def _axes(nodes, root):
    """A root of the covariance of ``b`` (q, q, K) and the skewness along its columns (q, K).

    Standardised effects are turned so that the first column is where they are most skewed: a vector
    v that the third moments take to a multiple of itself, ``T(., v, v) = s v``, by iteration.
    """
    q = len(root)
    if not q:
        n_levels = len(nodes.log_density)
        return jnp.zeros((0, 0, n_levels)), jnp.zeros((0, n_levels))
    share = jnp.exp(nodes.log_share)
    off = nodes.u - (share[:, None] * nodes.u).sum(0)
    cov = _second_moments(share, off) + TINY * _identity(q)
    half = jnp.moveaxis(inverse_cholesky(jnp.moveaxis(cov, -1, 0)), 0, -1)
    white = _turned(half, off)
    third = _third_moments(share, white)
    v = _normalised(sum(third[:, j, j] for j in range(q)))
    for _ in range(N_TURNS):
        v = _normalised(sum(third[:, i, j] * v[i] * v[j] for i, j in product(range(q), repeat=2)))
    # a reflection that takes the first axis to v
    away = _identity(q)[:, 0] - v
    size = (away**2).sum(0)
    turn = _identity(q) - away[:, None] * away[None] * jnp.where(size > 0, 2 / size, 0.0)
    skew = (share[:, None] * _turned(turn, white) ** 3).sum(0)
    lower = products(cov, jnp.swapaxes(half, 0, 1))
    return products(root[..., None], products(lower, jnp.swapaxes(turn, 0, 1))), skew


def _turned(matrix, vectors):
    """(q, q, K) times each of (n, q, K)."""
    return sum(matrix[:, j] * vectors[:, j, None] for j in range(len(matrix)))


def _identity(q):
    return jnp.eye(q)[..., None]


def _normalised(v):
    """Of unit length; the first axis where there is no length."""
    size = jnp.sqrt((v**2).sum(0))
    return jnp.where(size > 0, v / jnp.where(size > 0, size, 1.0), _identity(len(v))[:, 0])


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
