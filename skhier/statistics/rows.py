"""Rows in the order in which a likelihood without sufficient statistics reads them.

Sorted by the level of one factor and cut into chunks of a few rows of one level, padded with rows
of weight 0: sums over a chunk are plain reductions, and those over a level run over few chunks.
Chunks lie in blocks of whole levels, small enough to stay in a processor's cache while all that
depends on them is computed. Equal rows are one row, their weights added: a table of categories has
few different ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skhier.utils.budget import USUAL, RowBudget

__all__ = ["RowBlocks", "arrange_rows", "merge_equal_rows"]

SHORT_CHUNK, LONG_CHUNK = 8, 16  # rows of a chunk; the larger where most chunks are full


class RowBlocks(NamedTuple):
    """Rows in chunks, internal coordinates; C rows a chunk, N chunks, G levels, B blocks.

    Attributes
    ----------
    x : array of shape (p, C, N)
        Features, then the constant.
    y, weight, offset : array of shape (C, N)
        ``offset`` is added to the line.
    level : int array of shape (N,)
        Of each chunk; that of an empty one is the last.
    present : array of shape (G,)
        1 where a level has rows, else 0. The last one has none: padding belongs to it.
    levels : int array of shape (B, K)
        Of each block, which is ``N / B`` chunks; places without a level have the last.
    place : int array of shape (G,)
        Of each level in ``levels``, row by row.
    repeated : array of shape () or None
        None where all weights are 1, which a compiled program may then know.
    indicated : array of shape () or None
        Not None where a block has so few levels that an indicator adds its chunks up faster.
    """

    x: Any
    y: Any
    weight: Any
    offset: Any
    level: Any
    present: Any
    levels: Any
    place: Any
    repeated: Any
    indicated: Any


def merge_equal_rows(
    x: Any, codes: Any, y: Any, weights: Any, offset: Any, budget: RowBudget = USUAL.rows
) -> tuple[Any, Any, Any, Any, Any]:
    """The different rows, in the order of their first, with the sums of their weights.

    Parameters
    ----------
    x : array of shape (n_rows, n_features)
    codes : int array of shape (n_rows, n_factors)
    y, weights, offset : array of shape (n_rows,)
    budget : RowBudget
    """
    table = np.column_stack([x, codes, y, offset])
    # equal rows have equal keys; different ones with equal keys are looked for below
    key = table @ np.random.default_rng(0).standard_normal(table.shape[1])
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    if len(first) > budget.least_saving * len(y) or not np.array_equal(table[first[which]], table):
        return x, codes, y, weights, offset
    order = np.argsort(first)
    kept = first[order]
    return x[kept], codes[kept], y[kept], np.bincount(which, weights)[order], offset[kept]


def arrange_rows(
    x: np.ndarray,
    codes: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    offset: np.ndarray,
    n_levels: int,
    budget: RowBudget = USUAL.rows,
    on_cpu: bool = True,
) -> tuple[RowBlocks, np.ndarray]:
    """Rows in chunks, and the seat of each row, chunk by chunk, (n_rows,).

    Parameters
    ----------
    x : array of shape (n_rows, p)
        The constant last; internal coordinates.
    codes : int array of shape (n_rows,)
        Levels of the factor whose effects are integrated out.
    y, weights, offset : array of shape (n_rows,)
    n_levels : int
    budget : RowBudget
    on_cpu : bool
        Where blocks are small; a GPU's are large.
    """
    n_rows = np.bincount(codes, minlength=n_levels)
    size = LONG_CHUNK if len(codes) >= 4 * LONG_CHUNK * max(n_levels, 1) else SHORT_CHUNK
    chunks = -(-n_rows // size)
    least = budget.chunks_of_block if on_cpu else budget.chunks_on_gpu
    length, ends = _blocks(chunks, least, budget.few_blocks)
    n_blocks, width = rounded_up(len(ends)), rounded_up(n_levels + 1)
    begins = np.append(0, ends[:-1])
    block = np.repeat(np.arange(len(ends)), ends - begins)  # of each level
    before = np.cumsum(chunks) - chunks
    first = block * length + before - before[begins[block]]  # chunk of each level
    order = np.argsort(codes, kind="stable")
    within = np.arange(len(codes)) - (np.cumsum(n_rows) - n_rows)[codes[order]]
    seat = first[codes[order]] * size + within  # chunk by chunk

    def seated(a):
        out = np.zeros(n_blocks * length * size)
        out[seat] = a[order]
        return np.ascontiguousarray(out.reshape(-1, size).T)

    # what stands in an empty seat must be a possible y: another row's
    filled = seated(y)
    filled[seated(np.ones(len(y))) == 0] = y[order[0]]
    level = np.full(n_blocks * length, width - 1, dtype=np.int32)
    level[seat // size] = codes[order]
    levels = np.full((n_blocks, rounded_up((ends - begins).max() + 1)), width - 1, np.int32)
    place = np.full(width, levels.shape[1] - 1, np.int32)
    place[:n_levels] = block * levels.shape[1] + np.arange(n_levels) - begins[block]
    levels.ravel()[place[:n_levels]] = np.arange(n_levels)
    present = np.zeros(width)
    present[:n_levels] = n_rows > 0
    columns = np.stack([seated(column) for column in x.T])
    seats = np.empty(len(codes), dtype=int)
    seats[order] = seat
    repeated = None if np.all(weights == 1) else np.ones(())
    of_rows = columns, filled, seated(weights), seated(offset), level, present
    indicated = np.ones(()) if levels.shape[1] <= budget.dense_levels else None
    return RowBlocks(*of_rows, levels, place, repeated, indicated), seats


def _blocks(chunks: np.ndarray, block: int, few_blocks: int) -> tuple[int, np.ndarray]:
    """Chunks of a block, and where each block of whole levels ends; the least padding wins."""
    total, least = int(chunks.sum()), max(block, int(chunks.max(initial=1)))
    if total <= few_blocks * least:
        return rounded_up(total), np.array([len(chunks)])
    lengths = [rounded_up(least + extra) for extra in (0, block // 4, block // 2)]
    packed = [(length, _packed(chunks, length)) for length in lengths]
    return min(packed, key=lambda pair: pair[0] * rounded_up(len(pair[1])))


def _packed(chunks, length):
    """Ends of blocks that have as many levels as fit, and not more than chunks."""
    passed = np.cumsum(chunks)
    ends, begin, before = [], 0, 0
    while begin < len(chunks):
        end = min(np.searchsorted(passed, before + length, side="right"), begin + length)
        ends.append(int(end))
        begin, before = int(end), passed[end - 1]
    return np.array(ends)


def rounded_up(n: int) -> int:
    """The next number of three binary digits: few sizes, so few programs to compile."""
    unit = 2 ** max(int(n).bit_length() - 3, 0)
    return -(-n // unit) * unit
