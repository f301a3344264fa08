"""Log densities of a block's levels at every node of a product rule, and the mean gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels.records import Population
from skhier.kernels.rows.blocks import Block
from skhier.responses.base import Response

__all__ = ["expected_gradient", "log_density_at_cells"]

FACTORS = 4  # of a product whose logarithm is taken: each may reach e^177
REACH = 700.0  # of all exponents together, below float64's end
LARGEST = np.exp(700.0)


def log_density_at_cells(
    response: Response,
    block: Block,
    line: Any,
    spread: Any,
    own: Any,
    rule: Any,
    repeated: bool,
) -> Any:
    """Of the rows of each level at each cell, (n_cells, K).

    Parameters
    ----------
    response : Response
    block : Block
    line : array of shape (C, M)
        At the modes.
    spread : array of shape (q, C, M)
        What one step along each axis of the rule adds to the line.
    own : dict of str to scalar
    rule : ProductRule
    repeated : bool
        Whether weights may be other than 0 and 1.
    """
    form = response.exponential_form(block.y, line, own, jnp)
    if form is None:
        return _one_by_one(response, block, line, spread, own, rule)
    rest = _rests(form, block, line, spread, rule, repeated)
    slope = block.weight * form.slope
    linear = block.sums(jnp.stack([(slope * a).sum(0) for a in (line - form.shift, *spread)]))
    constant = _without_line(response, block, own)
    along = jnp.einsum("kj,jg->kg", rule.x, linear[1:])
    return along + linear[0] - block.sums(rest - constant)


def _one_by_one(response, block, line, spread, own, rule):
    def cell(_, x):
        at = line + sum(spread[j] * x[j] for j in range(len(spread)))
        density = response.log_density(block.y, at, own, jnp)
        return None, (block.weight * density).sum(0)

    return block.sums(jax.lax.scan(cell, None, jnp.asarray(rule.x))[1])


def _without_line(response, block, own):
    """Of each chunk, what its log densities have besides the exponential form, (M,)."""
    zero = jnp.zeros_like(block.y)
    form = response.exponential_form(block.y, zero, own, jnp)
    rest = response.log_density(block.y, zero, own, jnp) - form.derivatives(zero, jnp)[0]
    return (block.weight * rest).sum(0)


def _rests(form, block, line, spread, rule, repeated):
    """``size g(E)``, weighted and added up over each chunk, (n_cells, M)."""
    q = len(spread)
    once = form.logarithmic and form.size is None and not repeated
    e = form.exponential(line, jnp)
    e = jnp.where(block.weight > 0, e, 0.0) if once else e
    # one factor for each place on an axis; the line's own exponential is at most e^700
    reach = REACH / max(q, 1)
    exponents = [form.sign * a * rule.axis[:, None, None] for a in spread]
    factors = [jnp.exp(jnp.clip(exponent, -reach, reach)) for exponent in exponents]
    weight = block.weight if form.size is None else block.weight * form.size

    def cell(_, place):
        at = e
        for j, factor in enumerate(factors):
            at = at * factor[place[j]]
        at = jnp.minimum(at, LARGEST)
        if once:
            parts = (1 + at).reshape(-1, FACTORS, at.shape[-1])
            product = (parts[:, 0] * parts[:, 1]) * (parts[:, 2] * parts[:, 3])
            return None, jnp.log(product).sum(0)
        return None, (weight * (jnp.log1p(at) if form.logarithmic else at)).sum(0)

    return jax.lax.scan(cell, None, jnp.asarray(rule.cells))[1]


def expected_gradient(
    response: Response, block: Block, line: Any, nodes: Any, population: Population
) -> Population:
    """Gradient of ``log p(y | u)`` by the population, averaged over the nodes of each level.

    Parameters
    ----------
    response : Response
    block : Block
    line : array of shape (C, M)
        Without effects.
    nodes : LevelNodes
    population : Population

    Returns
    -------
    Population
        Each array with the levels as a last axis.
    """
    roots, own = population.group_root, population.own

    def cell(sums, node):
        of_rows, of_root, of_own = sums
        u, log_share = node
        share = jnp.exp(log_share)
        at = line + block.of_rows(roots[0] @ u) if roots else line
        weight = block.weight * share[block.level]
        score = weight * _score(response, block.y, at, own)
        of_z = block.sums((block.z * score).sum(1))  # (q, K)
        return (
            of_rows + score,
            of_root + of_z[:, None] * u[None],
            {k: of_own[k] + weight * _slope(response, block.y, at, own, k) for k in own},
        ), None

    q = len(block.z)
    nothing = jnp.zeros_like(line)
    of_root = jnp.zeros((q, q, len(block.n_levels)))
    start = nothing, of_root, dict.fromkeys(own, nothing)
    (of_rows, of_root, of_own), _ = jax.lax.scan(cell, start, (nodes.u, nodes.log_share))
    return Population(
        block.sums((block.x * of_rows).sum(1)),
        (of_root,) if roots else (),
        {k: block.sums(a.sum(0)) for k, a in of_own.items()},
    )


def _score(response, y, line, own):
    form = response.exponential_form(y, line, own, jnp)
    return response.score(y, line, own, jnp) if form is None else form.derivatives(line, jnp)[1]


def _slope(response, y, line, own, name):
    """Of the log density by one of the response's own parameters."""

    def density(value):
        return response.log_density(y, line, {**own, name: value}, jnp)

    return jax.jvp(density, (own[name],), (jnp.ones_like(own[name]),))[1]
