"""In which order group effects are integrated out, and what meets what on the way.

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

from skhier.statistics.records import GroupStats, Plan

__all__ = [
    "Crossing",
    "ancestors",
    "crossing",
    "dense_block",
    "dense_size",
    "elimination_plan",
    "later_products",
    "pair_products",
]


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


def elimination_plan(stats: GroupStats) -> Plan:
    """The chain that leaves the fewest dense effects; every level has rows."""
    size = [factor.zy.size for factor in stats.factors]
    n_levels = [factor.zy.shape[-1] for factor in stats.factors]
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
    above = []
    for k in plan.chain[i + 1 :]:
        first, second, _ = pair_products(stats, plan.chain[i], k)
        last = stats.factors[k].zy.shape[-1] - 1
        of_level = np.full(stats.factors[plan.chain[i]].zy.shape[-1], last)
        of_level[first] = second
        above.append(of_level)
    return tuple(above)


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
