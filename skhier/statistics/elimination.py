"""The statistics arranged for the density: the chain's levels in rows of seats, the dense block.

In the order of :mod:`skhier.statistics.plan`; indices are made once, so that the density, which is
evaluated many times, only multiplies and adds.
"""

from typing import NamedTuple

import numpy as np

from skhier.statistics.padding import padded, padded_size
from skhier.statistics.plan import Crossing, ancestors, crossing, dense_block, later_products
from skhier.statistics.products import total_products
from skhier.statistics.records import GroupStats, Plan
from skhier.utils.budget import USUAL, KernelBudget

__all__ = ["Elimination", "Step", "arrange"]

MAX_SLOTS = 64  # seats in a row
ROW = 8  # what a row costs, in seats
DENSE_BITS = 6  # the cost of dense effects grows with the cube of their number


class Step(NamedTuple):
    """What it takes to eliminate one factor of the chain; levels without rows fill up the shapes.

    Attributes
    ----------
    zz : array of shape (q, q, n_levels)
    d : array of shape (q, w + p + 1, n_levels)
        Products with the later factors' effects (of the level's own ancestors), ``x`` and ``y``.
    owners : tuple of int array of shape (n_rows,)
        Per later factor of the chain: the ancestor of each ``n_levels / n_rows`` levels in turn.
    cross : Crossing
    table : int array of shape (n_levels, m)
        Entry of ``cross`` for each dense column, the number of entries where there is none; empty
        if there are so many levels and columns that ``pairs`` are cheaper.
    pairs : int array of shape (3, n_pairs)
        Two entries of ``cross`` of the same level, and where in the flat matrix of dense columns
        their product belongs; in its order, since additions in order are three times as fast.
    """

    zz: np.ndarray
    d: np.ndarray
    owners: tuple[np.ndarray, ...]
    cross: Crossing
    table: np.ndarray
    pairs: np.ndarray


class Elimination(NamedTuple):
    """The statistics in the order of elimination.

    Attributes
    ----------
    steps : tuple of Step
        One per factor of the chain.
    gram : array of shape (m, m)
        Cross-products of the columns of all dense effects.
    d : tuple of array of shape (q, n_levels, p + 1)
        Per dense factor: their products with ``x`` and ``y``.
    total : array of shape (p + 1, p + 1)
        Of ``x`` and ``y``.
    n : scalar
        Sum of the sample weights.
    """

    steps: tuple[Step, ...]
    gram: np.ndarray
    d: tuple[np.ndarray, ...]
    total: np.ndarray
    n: np.ndarray


class _Seats(NamedTuple):
    """Where the levels of a factor of the chain sit: children of one parent in rows of their own.

    Rows of many seats make sums over children cheap; empty seats must not be many. ``place``
    (n_levels,); ``heads``: a level of each row; ``slots``: seats in a row.
    """

    place: np.ndarray
    heads: np.ndarray
    slots: int

    @property
    def size(self) -> int:
        return padded_size(len(self.heads)) * self.slots


def arrange(stats: GroupStats, plan: Plan, budget: KernelBudget = USUAL.kernels) -> Elimination:
    """The statistics as the density takes them; few shapes for many data."""
    n_levels = {k: padded_size(stats.factors[k].zy.shape[-1], DENSE_BITS) for k in plan.dense}
    above = [ancestors(stats, plan, i) for i in range(len(plan.chain))]
    seats = [
        _seats(of_level, stats.factors[k].zy.shape[-1])
        for k, of_level in zip(plan.chain, above, strict=True)
    ]
    gram, d = dense_block(stats, plan, n_levels)
    steps = tuple(
        _step(stats, plan, i, seats, above[i], n_levels, len(gram), budget.scatter)
        for i in range(len(seats))
    )
    return Elimination(steps, gram, d, total_products(stats), stats.n)


def _seats(above, n_levels):
    levels = np.arange(n_levels)
    if not above:
        return _Seats(levels, levels, 1)
    order = np.lexsort(above)
    parent = above[0][order]
    n_children = np.bincount(parent)
    widths = np.unique([padded_size(width) for width in range(1, MAX_SLOTS + 1)])  # few shapes
    n_rows = np.array([(-(-n_children // width)).sum() for width in widths])
    slots = int(widths[np.argmin(n_rows * (widths + ROW))])
    first = np.flatnonzero(np.diff(parent, prepend=-1))
    rank = levels - np.repeat(first, np.diff(first, append=n_levels))
    begins = rank % slots == 0
    place = np.empty(n_levels, int)
    place[order] = (np.cumsum(begins) - 1) * slots + rank % slots
    return _Seats(place, order[begins], slots)


def _step(stats, plan, i, seats, above, n_levels, n_columns, scatter):
    factor, seat = stats.factors[plan.chain[i]], seats[i]
    products = [*later_products(stats, plan, i), factor.z_xy]
    owners = tuple(
        padded(later.place[ancestor[seat.heads]])
        for later, ancestor in zip(seats[i + 1 :], above, strict=True)
    )
    cross = crossing(stats, plan, i, above, n_levels)
    cross = cross._replace(level=seat.place[cross.level])
    table, pairs = _meetings(cross, seat.size, n_columns, scatter)
    return Step(
        _seated(factor.zz, seat),
        _seated(np.concatenate(products, axis=1), seat),
        owners,
        Crossing(
            _with_spare(cross.z),
            _with_spare(cross.level),
            _with_spare(cross.column),
            tuple(map(_with_spare, cross.lifts)),
        ),
        table,
        pairs,
    )


def _seated(a, seat):
    out = np.zeros((*a.shape[:-1], seat.size))
    out[..., seat.place] = a
    return out


def _with_spare(a):
    """Padded, by one entry at least: what is missing elsewhere points there."""
    return padded(np.concatenate([a, np.zeros_like(a[..., :0], shape=(*a.shape[:-1], 1))], -1))


def _meetings(cross, n_levels, n_columns, scatter):
    """Which entries of a crossing share a level: a table, or a list where the table is sparse."""
    spare = n = len(cross.level)
    order = np.argsort(cross.level, kind="stable")
    sizes = np.bincount(cross.level, minlength=1)
    if n and scatter * (sizes * (sizes + 1) / 2).sum() < n_levels * float(n_columns) ** 2:
        rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        begin = np.arange(n) - rank
        one = np.repeat(np.arange(n), rank + 1)
        before = np.arange(len(one)) - np.repeat(np.cumsum(rank + 1) - (rank + 1), rank + 1)
        one, other = order[one], order[begin[one] + before]
        target = cross.column[one] * n_columns + cross.column[other]
        met = np.stack([one, other, target])[:, np.argsort(target, kind="stable")]
        filling = np.array([[spare], [spare], [n_columns**2 - 1]])
        filling = np.repeat(filling, padded_size(len(one)) - len(one), axis=1)
        return np.zeros((0, 0), int), np.concatenate([met, filling], axis=1)
    table = np.full((n_levels if n else 0, n_columns), spare)
    if n:
        table[cross.level, cross.column] = np.arange(n)
    return table, np.zeros((3, 0), int)
