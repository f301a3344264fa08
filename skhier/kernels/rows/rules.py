"""Product rules for a level's effects, whole or in parts of one shape.

Their nodes are those of Gauss and Hermite or, where a level's effects may have several modes,
evenly spaced ones (``lattice``): the trapezoidal rule of a normal density is exact to
``2 e^(-2 (pi / step)^2)``, and its nodes reach as far as they are many.

A program is compiled for rules of one shape. A finer rule is several such rules, each with some of
its nodes, so that it needs no program of its own.
"""

from itertools import combinations_with_replacement, product
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.hermite import normal_rule

__all__ = ["Part", "ProductRule", "monomials", "product_rule", "rule_in_parts"]

LEAST_WEIGHT = 1e-7  # of a cell; lighter ones are left out, but of a lattice, which is for far ones
LATTICE_STEP = (
    1.5  # an error of 3e-4 in a level's density, the same for all theta but for its modes
)


class Part(NamedTuple):
    """A rule over the product of its nodes; of several parts each array has them as a first axis.

    Attributes
    ----------
    x : array of shape (n_cells, q)
    log_weight : array of shape (n_cells,)
        Minus infinity where a cell counts in another part, or in none.
    axis : array of shape (q, n_nodes)
        The nodes of each dimension, which are symmetric.
    cells : int array of shape (n_cells, q)
        Places on the axes: ``x[., j] = axis[j, cells[., j]]``.
    powers : array of shape (n_cells, n_monomials)
        Of x, in the order of :func:`monomials`.
    """

    x: Any
    log_weight: Any
    axis: Any
    cells: Any
    powers: Any


class ProductRule(NamedTuple):
    """A rule for a standard normal: parts, of which the first ``n_parts`` count, a scalar."""

    parts: Part
    n_parts: Any

    @property
    def whole(self) -> Part:
        """The only part there is; ValueError where there is room for more."""
        (x,), *others = self.parts
        return Part(x, *(a[0] for a in others))


def monomials(q: int) -> list[tuple[int, ...]]:
    """Variables of each monomial of q variables, of degree 0 to 3; ``(0, 0, 1)`` is a^2 b."""
    return [m for degree in range(4) for m in combinations_with_replacement(range(q), degree)]


def product_rule(n_nodes: int, q: int, lattice: bool = False) -> ProductRule:
    """A rule with so many nodes a dimension in one part, cells without weight left out."""
    nodes, weights = _axis(n_nodes, lattice)
    cells = _grid(n_nodes, q)
    weight = weights[cells].prod(1)
    kept = weight > _least(lattice)
    return _rule(np.broadcast_to(nodes, (1, q, n_nodes)), weight[None, kept], cells[kept])


def rule_in_parts(
    n_nodes: int, q: int, width: int, most: int = 0, lattice: bool = False
) -> ProductRule:
    """The same in parts of ``width`` nodes a dimension.

    All are odd, and ``width`` is at least 3. Rules of up to ``most`` nodes a dimension, or
    ``width + 2``, are of one shape.
    """
    nodes, weights = _axis(n_nodes, lattice)
    half, n_sides = width // 2, -(-(max(most, width + 2) // 2) // (width // 2))
    sides = [_side(nodes, weights, width, first) for first in range(1, n_nodes // 2 + 1, half)]
    cells = _grid(width, q)
    of_axes = [zip(*part, strict=True) for part in product(sides, repeat=q)]
    axis, masses = (np.array(list(side)) for side in zip(*of_axes, strict=True))
    weight = masses[:, np.arange(q), cells].prod(2)
    return _rule(axis, np.where(weight > _least(lattice), weight, 0.0), cells, n_sides**q)


def _axis(n_nodes, lattice):
    """Nodes and weights of a dimension."""
    if not lattice:
        return normal_rule(n_nodes)
    nodes = LATTICE_STEP * (np.arange(n_nodes) - n_nodes // 2)
    return nodes, LATTICE_STEP * np.exp(-0.5 * nodes**2) / np.sqrt(2 * np.pi)


def _least(lattice):
    return 0.0 if lattice else LEAST_WEIGHT


def _grid(n_nodes, q):
    return np.array(list(product(range(n_nodes), repeat=q)), int).reshape(n_nodes**q, q)


def _side(nodes, weights, width, first):
    """Nodes and weights of a part of an axis: pairs from the ``first`` one on, and the middle."""
    n_nodes = len(nodes)
    centre = n_nodes // 2
    places = centre + np.arange(first, first + width // 2)
    is_node = places < n_nodes
    at = np.minimum(places, n_nodes - 1)
    above, mass = np.where(is_node, nodes[at], 1.0), np.where(is_node, weights[at], 0.0)
    middle = weights[centre] if first == 1 else 0.0  # which the first part has
    return np.r_[-above[::-1], 0.0, above], np.r_[mass[::-1], middle, mass]


def _rule(axis, weight, cells, room=1) -> ProductRule:
    """Parts without weight left out, and room for so many."""
    counts = weight.any(1)
    axis, weight = axis[counts], weight[counts]
    n_parts, q = len(axis), axis.shape[1]
    which = np.minimum(np.arange(room), n_parts - 1)
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight / weight.sum())
    x = axis[:, np.arange(q), cells]
    powers = np.stack([x[..., list(m)].prod(-1) for m in monomials(q)], axis=-1)
    places = np.broadcast_to(cells.astype(np.int32), (n_parts, *cells.shape))
    parts = (a[which] for a in (x, log_weight, axis, places, powers))
    return ProductRule(Part(*parts), np.int32(n_parts))
