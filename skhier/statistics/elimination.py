"""In which order group effects are integrated out, and the indices that this needs.

Effects of different levels of one factor are independent given all others. So a *chain* of factors,
each nested in the next (cafes in states), is eliminated level by level: what a level leaves behind
concerns its own parents only. Factors that are crossed with the chain stay behind as one *dense*
block of effects; each level of the chain meets only few of them.

    chain:  leaf -> parent -> ... -> top        one small matrix a level
    dense:  all effects of the other factors    one large matrix

One factor is a chain of one; nested factors a chain of all; of two crossed factors the one with
more effects is the chain. Bates et al. (2015), sec. 5.1; Papaspiliopoulos and Zanella (2017).
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from skhier.statistics.products import padded, padded_size, total_products
from skhier.statistics.records import GroupStats, Plan

__all__ = [
    "Crossing",
    "Elimination",
    "Step",
    "ancestors",
    "arrange",
    "crossing",
    "dense_block",
    "dense_size",
    "elimination_plan",
    "later_products",
    "pair_products",
]

MAX_SLOTS = 64  # seats in a row
ROW = 8  # what a row costs, in seats
DENSE_BITS = 6  # the cost of dense effects grows with the cube of their number
SCATTER = 200.0  # what adding a number where it belongs costs, in multiplications of matrices


class Crossing(NamedTuple):
    """Cross-products of one factor of the chain with the dense effects, where they are not zero.

    Attributes
    ----------
    z : array of shape (q, n)
    level : int array of shape (n,)
        Of the chain's factor.
    column : int array of shape (n,)
        Of the dense block: factor by factor, effect by effect, level by level.
    lifts : tuple of int array of shape (n,)
        Per later factor of the chain: the entry of its own crossing that has the ancestor's.
    """

    z: np.ndarray
    level: np.ndarray
    column: np.ndarray
    lifts: tuple[np.ndarray, ...]


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


def elimination_plan(stats: GroupStats) -> Plan:
    """The chain that leaves the fewest dense effects; every level has rows."""
    size = [found.zy.size for found in stats.factors]
    n_levels = [found.zy.shape[-1] for found in stats.factors]
    nested = {
        (k, other)
        for (one, two), pair in zip(combinations(range(len(size)), 2), stats.pairs, strict=True)
        for k, other in ((one, two), (two, one))
        if len(pair.first) == n_levels[k]
    }

    def chains_from(*chain):
        yield chain
        for k in range(len(size)):
            if (chain[-1], k) in nested and k not in chain:
                yield from chains_from(*chain, k)

    chain = max(
        (chain for k in range(len(size)) for chain in chains_from(k)),
        key=lambda chain: (sum(size[k] for k in chain), size[chain[0]], len(chain)),
        default=(),
    )
    return Plan(chain, tuple(k for k in range(len(size)) if k not in chain))


def dense_size(stats: GroupStats, plan: Plan) -> int:
    """Number of dense effects."""
    return sum(stats.factors[k].zy.size for k in plan.dense)


def pair_products(stats: GroupStats, one: int, other: int):
    """Levels of two factors that share rows and their products, ``one`` first."""
    both = list(combinations(range(len(stats.factors)), 2))
    pair = stats.pairs[both.index((min(one, other), max(one, other)))]
    if one < other:
        return pair.first, pair.second, pair.zz
    return pair.second, pair.first, np.swapaxes(pair.zz, 0, 1)


def ancestors(stats: GroupStats, plan: Plan, i: int) -> tuple[np.ndarray, ...]:
    """Per later factor of the chain: the level in which each level of the i-th is nested.

    A level without rows has the last one.
    """
    found = []
    for k in plan.chain[i + 1 :]:
        first, second, _ = pair_products(stats, plan.chain[i], k)
        last = stats.factors[k].zy.shape[-1] - 1
        of_level = np.full(stats.factors[plan.chain[i]].zy.shape[-1], last)
        of_level[first] = second
        found.append(of_level)
    return tuple(found)


def later_products(stats: GroupStats, plan: Plan, i: int) -> tuple[np.ndarray, ...]:
    """Per later factor of the chain: (q, q_later, n_levels), each level's with its ancestor's."""
    products = []
    for k in plan.chain[i + 1 :]:
        first, _, of_pairs = pair_products(stats, plan.chain[i], k)
        block = np.zeros((*of_pairs.shape[:2], stats.factors[plan.chain[i]].zy.shape[-1]))
        block[..., first] = of_pairs
        products.append(block)
    return tuple(products)


def crossing(
    stats: GroupStats,
    plan: Plan,
    i: int,
    above: tuple[np.ndarray, ...],
    n_levels: dict[int, int],
) -> Crossing:
    """Of the i-th factor of the chain.

    Parameters
    ----------
    stats : GroupStats
    plan : Plan
    i : int
    above : tuple of int array
        Its :func:`ancestors`.
    n_levels : dict of int to int
        Of each dense factor, empty levels included.
    """
    q = len(stats.factors[plan.chain[i]].zy)
    later = plan.chain[i + 1 :]
    z, level, column = [np.zeros((q, 0))], [np.zeros(0, int)], [np.zeros(0, int)]
    lifts: list[list[np.ndarray]] = [[np.zeros(0, int)] for _ in later]
    offset, starts = 0, [0] * len(later)
    for k in plan.dense:
        first, second, products = pair_products(stats, plan.chain[i], k)
        width = products.shape[1]
        effect = np.arange(width)[:, None]
        z.append(products.reshape(q, -1))
        level.append(np.tile(first, width))
        column.append((offset + effect * n_levels[k] + second).ravel())
        for j, (upper, ancestor) in enumerate(zip(later, above, strict=True)):
            one, other, _ = pair_products(stats, upper, k)
            keys = one * n_levels[k] + other
            order = np.argsort(keys)
            at = order[np.searchsorted(keys, ancestor[first] * n_levels[k] + second, sorter=order)]
            lifts[j].append((starts[j] + effect * len(keys) + at).ravel())
            starts[j] += width * len(keys)
        offset += width * n_levels[k]
    return Crossing(
        np.concatenate(z, axis=1),
        np.concatenate(level),
        np.concatenate(column),
        tuple(np.concatenate(parts) for parts in lifts),
    )


def dense_block(stats: GroupStats, plan: Plan, n_levels: dict[int, int]):
    """Cross-products of the dense effects, (m, m), and per factor theirs with x and y."""
    width = {k: len(stats.factors[k].zy) for k in plan.dense}
    offset, size = {}, 0
    for k in plan.dense:
        offset[k], size = size, size + width[k] * n_levels[k]
    gram = np.zeros((size, size))

    def columns(k, levels):
        return offset[k] + np.arange(width[k])[:, None] * n_levels[k] + levels

    for k in plan.dense:
        at = columns(k, np.arange(stats.factors[k].zy.shape[-1]))
        gram[at[:, None], at[None]] = stats.factors[k].zz
    for k, other in combinations(plan.dense, 2):
        first, second, products = pair_products(stats, k, other)
        row, column = columns(k, first), columns(other, second)
        gram[row[:, None], column[None]] = products
        gram[column[None], row[:, None]] = products
    d = []
    for k in plan.dense:
        against = stats.factors[k].z_xy
        out = np.zeros((width[k], n_levels[k], against.shape[1]))
        out[:, : against.shape[2]] = np.swapaxes(against, 1, 2)
        d.append(out)
    return gram, tuple(d)


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


def arrange(stats: GroupStats, plan: Plan) -> Elimination:
    """The statistics as the density takes them; few shapes for many data."""
    n_levels = {k: padded_size(stats.factors[k].zy.shape[-1], DENSE_BITS) for k in plan.dense}
    above = [ancestors(stats, plan, i) for i in range(len(plan.chain))]
    seats = [
        _seats(of_level, stats.factors[k].zy.shape[-1])
        for k, of_level in zip(plan.chain, above, strict=True)
    ]
    steps = tuple(_step(stats, plan, i, seats, above[i], n_levels) for i in range(len(seats)))
    gram, d = dense_block(stats, plan, n_levels)
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


def _step(stats, plan, i, seats, above, n_levels):
    factor, seat = stats.factors[plan.chain[i]], seats[i]
    products = [*later_products(stats, plan, i), factor.z_xy]
    owners = tuple(
        padded(later.place[ancestor[seat.heads]])
        for later, ancestor in zip(seats[i + 1 :], above, strict=True)
    )
    cross = crossing(stats, plan, i, above, n_levels)
    cross = cross._replace(level=seat.place[cross.level])
    columns = sum(stats.factors[k].zy.shape[0] * n_levels[k] for k in plan.dense)
    table, pairs = _meetings(cross, seat.size, columns)
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


def _meetings(cross, n_levels, n_columns):
    """Which entries of a crossing share a level: a table, or a list where the table is sparse."""
    spare = n = len(cross.level)
    order = np.argsort(cross.level, kind="stable")
    sizes = np.bincount(cross.level, minlength=1)
    if n and SCATTER * (sizes * (sizes + 1) / 2).sum() < n_levels * float(n_columns) ** 2:
        rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        begin = np.arange(n) - rank
        one = np.repeat(np.arange(n), rank + 1)
        before = np.arange(len(one)) - np.repeat(np.cumsum(rank + 1) - (rank + 1), rank + 1)
        one, other = order[one], order[begin[one] + before]
        target = cross.column[one] * n_columns + cross.column[other]
        found = np.stack([one, other, target])[:, np.argsort(target, kind="stable")]
        filling = np.array([[spare], [spare], [n_columns**2 - 1]])
        filling = np.repeat(filling, padded_size(len(one)) - len(one), axis=1)
        return np.zeros((0, 0), int), np.concatenate([found, filling], axis=1)
    table = np.full((n_levels if n else 0, n_columns), spare)
    if n:
        table[cross.level, cross.column] = np.arange(n)
    return table, np.zeros((3, 0), int)
