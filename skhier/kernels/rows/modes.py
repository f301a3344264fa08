"""Modes of the effects of many levels at once, by Newton's method.

With ``b = L u``, s and w the score and the curvature of the response in the line:

    u <- u + H^-1 (L'Z's - u),   H = I + L'Z'WZ L = R R'

A step that lowers the density is halved. Where the curvature is negative (heavy tails) it counts as
0 in H, which places nodes and does not change what they integrate. The last step, which is short,
is made without another look.

A look at effects c makes of a level's rows a normal in b,

    log p(y_g | b) = (b - c)'Z's - (b - c)'P(b - c) / 2 + a constant,  P = Z'WZ

whose mode times the prior's is where the step goes. As theta changes c, Z's and a root of P change
slowly, and hardly with L, so that those of another theta are where a search begins.

Where the density is not log-concave a close search begins at those or, where that is higher, at the
end of a path from the mode of a smoothed density to one of its own (graduated non-convexity: Blake
and Zisserman 1987, Visual Reconstruction, ch. 7).
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
from skhier.kernels.rows.logarithm import log
from skhier.responses.base import Response

__all__ = ["CLOSE", "NEVER", "ROUGH", "ModeSearch", "level_modes", "n_normals", "tolerance_of"]

MAX_NEWTON_STEPS, MAX_LOOKS = 60, 7
PATH = 10  # steps from a smoothed density to its own
LONG = 1e300  # a step before the first one, in posterior sds
CLOSE = 1e-4  # of a step in posterior sds, after which one more is made: values may be subtracted
ROUGH = 0.1  # the same for values that need a hundredth of a nat
NEVER = float("inf")  # no look is made: nodes lie where the normals put them


class ModeSearch(NamedTuple):
    """Where modes of the effects are looked for, and how closely.

    Attributes
    ----------
    normals : array of shape (n_normals(q), G)
        What rows say of effects, of some other theta: c, then Z's and the lower triangle of a root
        of P.
    tolerance : scalar
        In posterior sds: a step that is shorter is the last one. ``ROUGH`` leaves the nodes a
        hundredth from their best places; differences of values need ``CLOSE``.
    """

    normals: Any
    tolerance: Any


def n_normals(q: int) -> int:
    """Numbers of a level's normal."""
    return 2 * q + len(pairs(q))


def tolerance_of(search: ModeSearch | None) -> Any:
    """Its tolerance; without a search a fine one."""
    return CLOSE if search is None else search.tolerance


def level_modes(
    response: Response,
    block: Block,
    line: Any,
    root: Any,
    own: Any,
    start: Any,
    tolerance: Any,
    repeated: bool,
) -> tuple[Any, Any, Any]:
    """Mode ``u`` (q, K) of each level's effects, ``R^-1`` (q, q, K) near it, and the normals.

    Parameters
    ----------
    response : Response
    block : Block
    line : array of shape (C, M)
        Without effects.
    root : array of shape (q, q)
        ``L``.
    own : dict of str to scalar
    start : array of shape (n_normals(q), K)
    tolerance : scalar
        See :class:`ModeSearch`.
    repeated : bool
        Whether weights may be other than 0 and 1.
    """
    if not len(root):
        return start, jnp.zeros((0, 0, start.shape[1])), start
    search = _Search(response, block, line, root, own, repeated)
    if search.has_values_of_products:
        return _by_damped_steps(search, start, tolerance, False)
    if not response.log_concave:
        start = _or_from_afar(search, start, tolerance)
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

    def top(self, normals):
        """Where the prior times the normals has its mode ``u`` (q, K), and ``R^-1`` (q, q, K)."""
        q = len(self.root)
        at, score, lower = normals[:q], normals[q : 2 * q], _lower(normals[2 * q :], q)
        precision = products(lower, jnp.swapaxes(lower, 0, 1))
        half = self._half(precision)
        linear = times(jnp.swapaxes(self.root[..., None], 0, 1), score + times(precision, at))
        return times(jnp.swapaxes(half, 0, 1), times(half, linear)), half

    def at(self, u, with_value):
        """Value (K,), if wanted, Newton's step ``R^-1 slope`` (q, K) in sds, ``R^-1``, normals."""
        root = self.root[..., None]
        b = times(root, u)
        value, score, precision = self._sums(self.line + self.block.of_rows(b), with_value)
        slope = times(jnp.swapaxes(root, 0, 1), score) - u
        half = self._half(precision)
        if with_value:
            value = value - 0.5 * (u**2).sum(0)
        return value, times(half, slope), half, jnp.concatenate([b, score, _root_of(precision)])

    def _half(self, precision):
        """``R^-1`` of ``I + L'PL = R R'``."""
        root = self.root[..., None]
        gram = products(jnp.swapaxes(root, 0, 1), products(precision, root))
        gram = gram + jnp.eye(len(self.root))[..., None]
        return jnp.moveaxis(inverse_cholesky(jnp.moveaxis(gram, -1, 0)), 0, -1)

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
        if not with_value:
            of_rows = None
        elif of_one_logarithm(form, self.repeated):
            of_rows = _value_of_products(form, block.weight, line)
        else:
            of_rows = of_chunks(block.weight * value)
        return self._of_levels(of_rows, score, curvature)

    def smoothed(self, u, smoothness):
        """Value (K,) at ``u``, and normals of a smoothed density of which none is above it."""
        response, block, own = self.response, self.block, self.own
        b = times(self.root[..., None], u)
        line = self.line + block.of_rows(b)
        value = of_chunks(block.weight * response.log_density(block.y, line, own, jnp))
        how = smoothness, block.weight, jnp
        value, score, precision = self._of_levels(
            value, *response.smoothed(block.y, line, own, *how)
        )
        normals = jnp.concatenate([b, score, _root_of(precision)])
        return value - 0.5 * (u**2).sum(0), normals

    def _of_levels(self, value, score, curvature):
        """Sums over levels: of values of chunks (M,), or None, and of rows' slopes (C, M)."""
        z, q = self.block.z, len(self.block.z)
        score, curvature = self.block.weight * score, self.block.weight * curvature
        parts = [score * z[j] for j in range(q)]
        parts += [curvature * z[i] * z[j] for i, j in pairs(q)]
        chunks = [of_chunks(part) for part in parts] + ([] if value is None else [value])
        of_levels = self.block.sums(jnp.stack(chunks))
        return of_levels[-1], of_levels[:q], symmetric(of_levels[q:], q)


def _value_of_products(form, weight, line):
    """Log density of each chunk's rows, (M,)."""
    e = jnp.where(weight > 0, form.exponential(line, jnp), 0.0)
    linear = of_chunks(weight * form.slope * (line - form.shift))
    return linear - log(products_of_rows(1 + e)).sum(0)


def _lower(entries, q):
    """Lower triangular matrices (q, q, K) of the entries at :func:`pairs`."""
    place, zero = {at: k for k, at in enumerate(pairs(q))}, zeros_of(entries[0])
    rows = [[entries[place[i, j]] if j <= i else zero for j in range(q)] for i in range(q)]
    return jnp.stack([jnp.stack(row) for row in rows])


def _root_of(matrix):
    """Entries at :func:`pairs` of a lower triangular root; of a matrix that may be singular."""
    root: dict[tuple[int, int], Any] = {}
    for i, j in pairs(len(matrix)):
        rest = matrix[i, j] - sum(root[i, k] * root[j, k] for k in range(j))
        if i == j:
            root[i, j] = jnp.sqrt(jnp.maximum(rest, 0.0))
        else:
            root[i, j] = jnp.where(root[j, j] > 0, rest / root[j, j], 0.0)
    return jnp.stack(list(root.values()))


def _or_from_afar(search, start, tolerance):
    """Of each level the normals whose top is highest: the start's, or those on a path from afar."""

    def step(state):
        normals, best, highest, k = state
        value, onward = search.smoothed(search.top(normals)[0], 1 - (k - 1) / PATH)
        rises = value > highest
        best, highest = jnp.where(rises, normals, best), jnp.where(rises, value, highest)
        return jnp.where(k == 0, 0.0, onward), best, highest, k + 1

    def goes_on(state):
        return (tolerance <= CLOSE) & (state[-1] < PATH + 3)

    state = (start, start, zeros_of(start)[0] - jnp.inf, 0)
    return jax.lax.while_loop(goes_on, step, state)[1]


def _by_full_steps(search, start, tolerance):
    """Modes, ``R^-1`` and normals, and whether each step was shorter than half of the one before.

    Near the modes that is so, and a look costs no logarithms.
    """

    def look(state):
        u, step, size, *_, k = state
        u = u + step
        _, white, half, normals = search.at(u, with_value=False)
        step = times(jnp.swapaxes(half, 0, 1), white)
        return u, step, jnp.sqrt((white**2).sum(0)), size, half, normals, k + 1

    def goes_on(state):
        _, _, size, before, *_, k = state
        falls = (size <= tolerance) | (size < 0.5 * before)
        return (k < MAX_LOOKS) & jnp.any(size > tolerance) & jnp.all(falls)

    # one place for the look, so that it is compiled once: the first one is after a step of 0
    u, half = search.top(start)
    zero = zeros_of(u)
    state = (u, zero, zero[0] + LONG, zero[0] + jnp.inf, half, start, 0)
    u, step, size, _, half, normals, _ = jax.lax.while_loop(goes_on, look, state)
    return (u + step, half, normals), jnp.all(size <= jnp.minimum(tolerance, LONG))


def _by_damped_steps(search, start, tolerance, settled):
    """The same with steps halved that lower the density; at the start if ``settled``."""

    def step(state):
        u, value, delta, size, half, normals, k = state
        new, white, new_half, new_normals = search.at(u + delta, with_value=True)
        rises = new >= value - 1e-9 * (1 + jnp.abs(value))
        towards = times(jnp.swapaxes(new_half, 0, 1), white)
        return (
            jnp.where(rises, u + delta, u),
            jnp.where(rises, new, value),
            jnp.where(rises, towards, 0.5 * delta),
            jnp.where(rises, jnp.sqrt((white**2).sum(0)), size),
            jnp.where(rises, new_half, half),
            jnp.where(rises, new_normals, normals),
            k + 1,
        )

    def goes_on(state):
        *_, size, _, _, k = state
        return jnp.logical_not(settled) & (k < MAX_NEWTON_STEPS) & jnp.any(size > tolerance)

    u, half = search.top(start)
    zero = zeros_of(u)
    state = (u, zero[0] - jnp.inf, zero, zero[0] + jnp.inf, half, start, 0)
    u, _, delta, size, half, normals, _ = jax.lax.while_loop(goes_on, step, state)
    return jnp.where(size <= tolerance, u + delta, u), half, normals
