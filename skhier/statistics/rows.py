"""Rows in the order in which a likelihood without sufficient statistics reads them.

Sorted by the level of one factor and cut into chunks of a few rows of one level, padded with rows
of weight 0: sums over a chunk are plain reductions, and those over a level run over few chunks.
Equal rows are one row, their weights added: a table of categories has few different ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["RowBlocks", "arrange_rows", "merge_equal_rows"]

SMALL, LARGE = 8, 16  # rows of a chunk; the larger where most chunks are full
LEAST_SAVING = 0.9  # share of rows left, above which merging is not worth a copy


class RowBlocks(NamedTuple):
    """Rows in chunks, internal coordinates; C rows a chunk, N chunks, G levels.

    Attributes
    ----------
    x : array of shape (p, C, N)
        Features, then the constant.
    y, weight, offset : array of shape (C, N)
        ``offset`` is added to the line.
    level : int array of shape (N,)
        Of each chunk; sorted.
    present : array of shape (G,)
        1 where a level has rows, else 0. The last one has none: padding belongs to it.
    """

    x: Any
    y: Any
    weight: Any
    offset: Any
    level: Any
    present: Any


def merge_equal_rows(
    x: Any, codes: Any, y: Any, weights: Any, offset: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """The different rows, in the order of their first, with the sums of their weights.

    Parameters
    ----------
    x : array of shape (n_rows, n_features)
    codes : int array of shape (n_rows, n_factors)
    y, weights, offset : array of shape (n_rows,)
    """
    table = np.column_stack([x, codes, y, offset])
    # equal rows have equal keys; different ones with equal keys are looked for below
    key = table @ np.random.default_rng(0).standard_normal(table.shape[1])
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    if len(first) > LEAST_SAVING * len(y) or not np.array_equal(table[first[which]], table):
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
    """
    n_rows = np.bincount(codes, minlength=n_levels)
    size = LARGE if len(codes) >= 4 * LARGE * max(n_levels, 1) else SMALL
    chunks = -(-n_rows // size)
    n_chunks, width = rounded_up(chunks.sum() + 1), rounded_up(n_levels + 1)
    order = np.argsort(codes, kind="stable")
    begin = np.cumsum(n_rows) - n_rows
    within = np.arange(len(codes)) - begin[codes[order]]
    first = np.cumsum(chunks) - chunks
    seat = (first[codes[order]] * size) + within  # chunk by chunk

    def seated(a):
        out = np.zeros(n_chunks * size)
        out[seat] = a[order]
        return np.ascontiguousarray(out.reshape(n_chunks, size).T)

    # what stands in an empty seat must be a possible y: another row's
    filled = seated(y)
    filled[seated(np.ones(len(y))) == 0] = y[order[0]]
    level = np.full(n_chunks, width - 1, dtype=np.int32)
    level[: chunks.sum()] = np.repeat(np.arange(n_levels), chunks)
    present = np.zeros(width)
    present[:n_levels] = n_rows > 0
    columns = np.stack([seated(column) for column in x.T])
    seats = np.empty(len(codes), dtype=int)
    seats[order] = seat
    blocks = RowBlocks(columns, filled, seated(weights), seated(offset), level, present)
    return blocks, seats


def rounded_up(n: int) -> int:
    """The next number of three binary digits: few sizes, so few programs to compile."""
    unit = 2 ** max(int(n).bit_length() - 3, 0)
    return -(-n // unit) * unit
