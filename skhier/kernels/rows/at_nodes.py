"""Log densities of a block's levels at every node of a product rule, and the mean gradient."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels.records import Population
from skhier.kernels.rows.blocks import (
    Block,
    made,
    of_chunks,
    of_one_logarithm,
    products_of_rows,
)
from skhier.kernels.rows.logarithm import log, log1p
from skhier.kernels.rows.rules import Part
from skhier.responses.base import Response
from skhier.responses.numerics import LARGEST_EXPONENT

__all__ = ["densities_at_cells", "expected_gradient"]

FEW_CELLS = 3  # cells that no loop goes over
NODES_WRITTEN_OUT = 7  # nodes of an axis up to which those along the last one share a loop


def densities_at_cells(
    response: Response, block: Block, line: Any, spread: Any, own: Any, repeated: bool
) -> Callable[[Part], Any]:
    """A function of part of a rule: of the rows of each level at each of its cells, (n_cells, K).

    Parameters
    ----------
    response : Response
    block : Block
    line : array of shape (C, M)
        At the modes.
    spread : list of q arrays of shape (C, M)
        What one step along each axis of the rule adds to the line.
    own : dict of str to scalar
    repeated : bool
        Whether weights may be other than 0 and 1.
    """
    form = response.exponential_form(block.y, line, own, jnp)
    if form is None:
        return partial(_one_by_one, response, block, line, spread, own)
    slope = block.weight * form.slope
    linear = block.sums(jnp.stack([of_chunks(slope * a) for a in (line - form.shift, *spread)]))
    at_modes = linear[0] + block.sums(_without_line(response, block, own))
    rests = _rests(form, block, line, spread, repeated)

    def at(part):
        along = jnp.einsum("kj,jg->kg", part.x, linear[1:])
        return along + at_modes - block.sums(rests(part))

    return at


def _one_by_one(response, block, line, spread, own, part):
    def cell(_, x):
        at = line + sum(spread[j] * x[j] for j in range(len(spread)))
        density = response.log_density(block.y, at, own, jnp)
        return None, of_chunks(block.weight * density)

    return block.sums(jax.lax.scan(cell, None, jnp.asarray(part.x))[1])


def _without_line(response, block, own):
    """Of each chunk, what its log densities have besides the exponential form, (M,)."""
    zero = jnp.zeros_like(block.y)
    form = response.exponential_form(block.y, zero, own, jnp)
    rest = response.log_density(block.y, zero, own, jnp) - form.derivatives(zero, jnp)[0]
    return of_chunks(block.weight * rest)


def _rests(form, block, line, spread, repeated):
    """``size g(E)``, weighted and added up over each chunk, (n_cells, M), by part of a rule."""
    once = of_one_logarithm(form, repeated)
    weight = block.weight if form.size is None else block.weight * form.size
    e = form.exponential(line, jnp)
    e = made(jnp.where(weight > 0, e if form.logarithmic else weight * e, 0.0))

    def of_cell(at):
        if once:
            return products_of_rows(1 + at)
        return of_chunks(weight * log1p(at)) if form.logarithmic else of_chunks(at)

    def at(part):
        reach = LARGEST_EXPONENT / max(len(spread), 1)
        nodes = zip(spread, part.axis, strict=True)
        factors = [_at_nodes(form.sign * a, axis, reach) for a, axis in nodes]
        out = _over_cells(of_cell, e, factors, part)
        return log(out).sum(-2) if once else out

    return at


def _at_nodes(exponent, axis, reach):
    """``e^(exponent x)`` at each node x of an axis, which is symmetric; a list of (C, M).

    The line's own exponential is at most e^700, and so are all of these together.
    """
    n = len(axis)
    above = [jnp.exp(jnp.clip(exponent * axis[k], -reach, reach)) for k in range((n + 1) // 2, n)]
    above = made(above)  # else the compiler writes 1 / e^x as e^-x, at the price of another one
    return [1 / a for a in reversed(above)] + [jnp.ones_like(exponent)] * (n % 2) + above


def _over_cells(of_cell, e, factors, part):
    """``of_cell`` of e times the factors of each cell, the cells first."""
    n, cells = part.axis.shape[-1], jnp.asarray(part.cells)
    if not factors or n > NODES_WRITTEN_OUT:
        return _one_after_the_other(of_cell, e, factors, cells)
    *others, last = factors

    def along_last(at):
        return jnp.stack(made([of_cell(at * a) for a in last]))

    rest = np.array(list(product(range(n), repeat=len(others))), np.int32)
    out = _one_after_the_other(along_last, e, others, rest)
    out = out.reshape(-1, *out.shape[2:])
    is_full = len(cells) == len(out)
    return out if is_full else out[cells @ n ** np.arange(len(factors))[::-1]]


def _one_after_the_other(function, e, factors, cells):
    """``function`` of e times the factors at each cell; a loop where there are many cells."""
    if len(cells) <= FEW_CELLS:
        places = cells if isinstance(cells, np.ndarray) else np.zeros((len(cells), 0), int)
        return jnp.stack([function(_at(e, factors, place)) for place in places])
    stacked = [jnp.stack(made(factor)) for factor in factors]
    return jax.lax.scan(lambda _, place: (None, function(_at(e, stacked, place))), None, cells)[1]


def _at(e, factors, place):
    for j, factor in enumerate(factors):
        e = e * factor[place[j]]
    return e


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
