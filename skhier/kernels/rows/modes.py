"""Modes of the effects of many levels at once, by Newton's method.

With ``b = L u``, s and w the score and the curvature of the response in the line:

    u <- u + H^-1 (L'Z's - u),   H = I + L'Z'WZ L = R R'

A step that lowers the density is halved. Where the curvature is negative (heavy tails) it counts as
0 in H, which places nodes and does not change what they integrate. The last step, which is short,
is made without another look.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhier.kernels.cholesky import inverse_cholesky
from skhier.kernels.rows.blocks import (
    Block,
    of_chunks,
    of_one_logarithm,
    pairs,
    products,
    products_of_rows,
    symmetric,
    times,
    zeros_of,
)
from skhier.responses.base import Response

__all__ = ["CLOSE", "ROUGH", "ModeSearch", "level_modes", "start_of", "tolerance_of"]

MAX_STEPS, MAX_LOOKS = 60, 7
LONG = 1e300  # a step before the first one, in posterior sds
CLOSE = 1e-4  # of a step in posterior sds, after which one more is made: values may be subtracted
ROUGH = 0.1  # the same for values that need a hundredth of a nat
FARTHEST = 8.0  # prior sds from which an effect is no start


class ModeSearch(NamedTuple):
    """Where modes of the effects are looked for, and how closely.

    Attributes
    ----------
    effects : array of shape (q, G)
        Near the modes, of some other theta.
    tolerance : scalar
        In posterior sds: a step that is shorter is the last one. ``ROUGH`` leaves the nodes a
        hundredth from their best places; differences of values need ``CLOSE``.
    """

    effects: Any
    tolerance: Any


def tolerance_of(search: ModeSearch | None) -> Any:
    """Its tolerance; without a search a fine one."""
    return CLOSE if search is None else search.tolerance


def start_of(effects: Any | None, root: Any, n_levels: int) -> Any:
    """Starts ``u`` (q, G) of effects ``L u`` (q, G) by the root L (q, q); without any 0.

    Effects far out in the prior are no starts: of scales near 0 they are those of another theta.
    """
    q = len(root)
    if effects is None or not q:
        return jnp.zeros((q, n_levels))
    gram = root.T @ root
    half = inverse_cholesky(gram + (1e-10 * jnp.trace(gram) + 1e-200) * jnp.eye(q))
    u = half.T @ (half @ (root.T @ effects))
    return jnp.where((u**2).sum(0) < FARTHEST**2, u, 0.0)


def level_modes(
    response: Response,
    block: Block,
    line: Any,
    root: Any,
    own: Any,
    start: Any,
    tolerance: Any,
    repeated: bool,
) -> tuple[Any, Any]:
    """Mode ``u`` (q, K) of each level's effects, and ``R^-1`` (q, q, K) near it.

    Parameters
    ----------
    response : Response
    block : Block
    line : array of shape (C, M)
        Without effects.
    root : array of shape (q, q)
        ``L``.
    own : dict of str to scalar
    start : array of shape (q, K)
    tolerance : scalar
        See :class:`ModeSearch`.
    repeated : bool
        Whether weights may be other than 0 and 1.
    """
    q, n_levels = start.shape
    if not q:
        return start, jnp.zeros((0, 0, n_levels))
    search = _Search(response, block, line, root, own, repeated)
    if search.has_values_of_products:
        return _by_damped_steps(search, start, tolerance, False)
    quick, settled = _by_full_steps(search, start, tolerance)
    careful = _by_damped_steps(search, start, tolerance, settled)
    return jax.tree.map(lambda a, b: jnp.where(settled, a, b), quick, careful)


class _Search(NamedTuple):
    """The density of the effects of a block's levels."""

    response: Response
    block: Block
    line: Any
    root: Any
    own: Any
    repeated: bool

    @property
    def has_values_of_products(self):
        """Whether values take a logarithm for several rows: one loop has them, half as compiled."""
        form = self.response.exponential_form(self.block.y, self.line, self.own, jnp)
        return of_one_logarithm(form, self.repeated)

    def at(self, u, with_value):
        """Value (K,), if wanted, Newton's step ``R^-1 slope`` (q, K) in sds, and ``R^-1``."""
        line = self.line + self.block.of_rows(times(self.root[..., None], u))
        value, score, inner = self._sums(line, with_value)
        root = self.root[..., None]
        turned = jnp.swapaxes(root, 0, 1)
        slope = times(turned, score) - u
        gram = products(turned, products(inner, root)) + jnp.eye(len(u))[..., None]
        half = jnp.moveaxis(inverse_cholesky(jnp.moveaxis(gram, -1, 0)), 0, -1)
        if with_value:
            value = value - 0.5 * (u**2).sum(0)
        return value, times(half, slope), half

    def _sums(self, line, with_value):
        """Of levels: log density (K,) if wanted, score by z (q, K) and ``Z'WZ`` (q, q, K)."""
        response, block, own = self.response, self.block, self.own
        form = response.exponential_form(block.y, line, own, jnp)
        if form is not None:
            value, score, curvature = form.derivatives(line, jnp)
        else:
            value = response.log_density(block.y, line, own, jnp) if with_value else None
            score = response.score(block.y, line, own, jnp)
            curvature = jnp.maximum(response.curvature(block.y, line, own, jnp), 0.0)
        z, q = block.z, len(block.z)
        score, curvature = block.weight * score, block.weight * curvature
        parts = [score * z[j] for j in range(q)]
        parts += [curvature * z[i] * z[j] for i, j in pairs(q)]
        chunks = [of_chunks(part) for part in parts]
        if with_value and of_one_logarithm(form, self.repeated):
            chunks.append(_value_of_products(form, block.weight, line))
        elif with_value:
            chunks.append(of_chunks(block.weight * value))
        of_levels = block.sums(jnp.stack(chunks))
        return of_levels[-1], of_levels[:q], symmetric(of_levels[q:], q)


def _value_of_products(form, weight, line):
    """Log density of each chunk's rows, (M,)."""
    e = jnp.where(weight > 0, form.exponential(line, jnp), 0.0)
    linear = of_chunks(weight * form.slope * (line - form.shift))
    return linear - jnp.log(products_of_rows(1 + e)).sum(0)


def _by_full_steps(search, start, tolerance):
    """Modes and ``R^-1``, and whether each step was shorter than half of the one before.

    Near the modes that is so, and a look costs no logarithms.
    """

    def look(state):
        u, step, size, _, _, k = state
        u = u + step
        _, white, half = search.at(u, with_value=False)
        step = times(jnp.swapaxes(half, 0, 1), white)
        return u, step, jnp.sqrt((white**2).sum(0)), size, half, k + 1

    def goes_on(state):
        _, _, size, before, _, k = state
        falls = (size <= tolerance) | (size < 0.5 * before)
        return (k < MAX_LOOKS) & jnp.any(size > tolerance) & jnp.all(falls)

    # one place for the look, so that it is compiled once: the first one is after a step of 0
    zero = zeros_of(start)
    state = (start, zero, zero[0] + LONG, zero[0] + jnp.inf, zero[:, None] * zero, 0)
    u, step, size, _, half, _ = jax.lax.while_loop(goes_on, look, state)
    return (u + step, half), jnp.all(size <= tolerance)


def _by_damped_steps(search, start, tolerance, settled):
    """The same with steps halved that lower the density; at the start if ``settled``."""

    def step(state):
        u, value, delta, size, half, k = state
        new, white, new_half = search.at(u + delta, with_value=True)
        rises = new >= value - 1e-9 * (1 + jnp.abs(value))
        towards = times(jnp.swapaxes(new_half, 0, 1), white)
        return (
            jnp.where(rises, u + delta, u),
            jnp.where(rises, new, value),
            jnp.where(rises, towards, 0.5 * delta),
            jnp.where(rises, jnp.sqrt((white**2).sum(0)), size),
            jnp.where(rises, new_half, half),
            k + 1,
        )

    def goes_on(state):
        *_, size, _, k = state
        return jnp.logical_not(settled) & (k < MAX_STEPS) & jnp.any(size > tolerance)

    zero = zeros_of(start)
    state = (start, zero[0] - jnp.inf, zero, zero[0] + jnp.inf, zero[:, None] * zero, 0)
    u, _, delta, size, half, _ = jax.lax.while_loop(goes_on, step, state)
    return jnp.where(size <= tolerance, u + delta, u), half
