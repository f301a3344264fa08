"""A block's levels around the modes of their effects: log masses at a rule's nodes, and moments.

In the coordinates of the curvature ``u = mode + R^-T x`` at a rule's node x, for ``H = R R'``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhier.kernels.rows.at_nodes import densities_at_cells
from skhier.kernels.rows.blocks import pairs, products, times, zeros_of
from skhier.kernels.rows.directions import directions, multiples, spacing
from skhier.kernels.rows.moments import (
    exponential_sums,
    no_sums,
    over_parts,
    power_sums,
    raw_moments,
    skewed_axes,
)
from skhier.kernels.rows.rules import monomials

__all__ = ["Around", "LevelNodes", "effects_of"]


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


class Around:
    """A block's levels around the modes of their effects.

    Parameters
    ----------
    response : Response
    block : Block
    line : array of shape (C, M)
        Without effects.
    root : array of shape (q, q)
        ``L`` of ``b = L u``.
    own : dict of str to scalar
    u : array of shape (q, K)
        The modes.
    half : array of shape (q, q, K)
        ``R^-1`` there.
    repeated : bool
        Whether weights may be other than 0 and 1.
    """

    def __init__(self, response, block, line, root, own, u, half, repeated):
        self.block, self.line, self.root, self.u = block, line, root, u
        self.steps = jnp.swapaxes(half, 0, 1)  # R^-T: its columns are those along each axis
        self.of_b = products(root[..., None], self.steps)
        both = jnp.concatenate([effects_of(root, u)[None], jnp.swapaxes(self.of_b, 0, 1)])
        of_modes, *spread = block.of_rows(both)
        at_modes = line + of_modes
        self._density = densities_at_cells(response, block, at_modes, spread, own, repeated)
        # of -u'u / 2 at a cell, by its x
        self._linear = times(half, u)
        self._square = products(half, self.steps)
        log_det = sum(jnp.log(half[j, j]) for j in range(len(u)))
        self._constant = log_det - 0.5 * (u**2).sum(0)

    def log_masses(self, part):
        """Log masses of the cells of part of a rule, (n_cells, K)."""
        x = jnp.asarray(part.x)
        outer = 0.5 * (x**2).sum(1) + part.log_weight
        inner = self._constant - sum(x[:, j, None] * self._linear[j] for j in range(x.shape[1]))
        for i, j in pairs(x.shape[1]):
            once = 0.5 if i == j else 1.0
            inner = inner - once * (x[:, i] * x[:, j])[:, None] * self._square[i, j]
        return self._density(part) + inner + outer[:, None]

    def nodes(self, part):
        """LevelNodes of a rule."""
        values = self.log_masses(part)
        total = jax.scipy.special.logsumexp(values, axis=0)
        x, q = jnp.asarray(part.x), len(self.u)
        u = self.u + sum((self.steps[:, j] * x[:, None, None, j] for j in range(q)), 0.0)
        return LevelNodes(total, u + jnp.zeros((len(x), 1, 1)), values - total)

    def moments(self, rule, with_log_exp):
        """Of LevelMoments all but the modes."""
        q, n_levels = self.u.shape
        n_exp = len(directions(q)) if with_log_exp and q else 0
        n_monomials = [len(monomials(q))] + [n_exp] * (n_exp > 0)

        def sums_of(part):
            values = self.log_masses(part)
            of_powers = power_sums(values, part.powers)
            if not n_exp:
                return [of_powers]
            moves = jnp.einsum("kj,ajg->akg", part.x, self.of_b) * spacing(q)[:, None, None]
            return [of_powers, exponential_sums(values, moves, multiples(q))]

        nothing = [no_sums(zeros_of(self._constant), n) for n in n_monomials]
        of_powers, *of_exp = over_parts(sums_of, rule, nothing)
        total, log_exp = of_powers.log_total, jnp.zeros((n_exp, n_levels))
        if not q:
            return total, self.u, jnp.zeros((0, 0, n_levels)), self.u, log_exp
        mean, cov, third = raw_moments(of_powers, q)
        if of_exp:
            of_modes = jnp.einsum("da,ag->dg", directions(q), effects_of(self.root, self.u))
            log_exp = of_modes + of_exp[0].top + jnp.log(of_exp[0].sums) - total
        mean = effects_of(self.root, self.u + times(self.steps, mean))
        return total, mean, *skewed_axes(cov, third, self.steps, self.root), log_exp


def effects_of(root, u):
    """``L u`` of each level, (q, G)."""
    return times(root[..., None], u)
