"""A block of whole levels out of all rows, small enough to stay in a processor's cache."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ops import segment_sum

from skhier.statistics.rows import RowBlocks

__all__ = [
    "Block",
    "in_pairs",
    "made",
    "of_chunks",
    "of_one_logarithm",
    "over_blocks",
    "pairs",
    "products",
    "products_of_rows",
    "symmetric",
    "times",
    "zeros_of",
]

FACTORS = 8  # of a product whose logarithm is taken: each may reach e^88
LARGEST_SUM = 1e300  # of a chunk's sum: infinity times 0 would spoil other levels


class Block(NamedTuple):
    """Rows of a few levels, and where each chunk belongs; C rows a chunk, M chunks, K levels.

    Attributes
    ----------
    x : array of shape (p, C, M)
    z : array of shape (q, C, M)
        Columns that vary by level.
    y, weight, offset : array of shape (C, M)
    level : int array of shape (M,)
        Place of each chunk's level in the block; chunks without rows are of the last.
    indicator : array of shape (M, K) or None
        1 where a chunk is of a level; None in blocks of many levels.
    n_levels : array of shape (K,)
        Of zeros: for its size.
    """

    x: Any
    z: Any
    y: Any
    weight: Any
    offset: Any
    level: Any
    indicator: Any
    n_levels: Any

    def sums(self, of_chunks: Any) -> Any:
        """Of levels (..., K), from those of chunks (..., M)."""
        if self.indicator is not None:
            return jnp.clip(of_chunks, -LARGEST_SUM, LARGEST_SUM) @ self.indicator
        first = jnp.moveaxis(of_chunks, -1, 0)
        out = segment_sum(first, self.level, len(self.n_levels))
        return jnp.moveaxis(out, 0, -1)

    def of_rows(self, effects: Any) -> Any:
        """``z' b`` of each row (..., C, M), from effects (..., q, K) of the levels."""
        if not len(self.z):
            return jnp.zeros((*effects.shape[:-2], *self.y.shape))
        if self.indicator is None:
            by_chunk = effects[..., self.level]
        else:
            by_chunk = jnp.where(jnp.isfinite(effects), effects, 0.0) @ self.indicator.T
        return sum(self.z[a] * by_chunk[..., a, None, :] for a in range(len(self.z)))


def of_chunks(rows: Any) -> Any:
    """Sums over the rows of each chunk, (..., M) from (..., C, M).

    Written out, they are part of the one loop that makes the terms; a reduction is not.
    """
    return in_pairs(operator.add, [rows[..., c, :] for c in range(rows.shape[-2])])


def made(arrays: Any) -> Any:
    """The same arrays, made once and not in every loop that reads them."""
    return jax.lax.optimization_barrier(arrays)


def in_pairs(operation: Callable, terms: list[Any]) -> Any:
    """All terms put together, neighbours first."""
    while len(terms) > 1:
        pairs = [operation(*pair) for pair in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
    return terms[0]


def products_of_rows(factors: Any) -> Any:
    """Of so many rows of each chunk at a time, (C / FACTORS, M), from (C, M)."""
    rows = list(factors)
    some = [rows[begin : begin + FACTORS] for begin in range(0, len(rows), FACTORS)]
    return jnp.stack([in_pairs(operator.mul, part) for part in some])


def of_one_logarithm(form: Any, repeated: bool) -> bool:
    """Whether rows of an exponential form, or None, have one logarithm: :func:`products_of_rows`.

    ``repeated``: whether weights may be other than 0 and 1.
    """
    return form is not None and form.logarithmic and form.size is None and not repeated


def products(a: Any, b: Any) -> Any:
    """Of small matrices, the levels last: (i, k, ...) from (i, j, ...) and (j, k, ...).

    Plain operations over the levels: a product with a batch of tiny matrices is a slow loop.
    """
    if not len(b):
        return jnp.zeros((len(a), *b.shape[1:]))
    return sum(a[:, j, None] * b[None, j] for j in range(len(b)))


def times(matrix: Any, vector: Any) -> Any:
    """Of small matrices and vectors, the levels last: (i, ...) from (i, j, ...) and (j, ...)."""
    return products(matrix, vector[:, None])[:, 0]


def pairs(q: int) -> list[tuple[int, int]]:
    """Places in the lower triangle of a (q, q) matrix, row by row."""
    return [(i, j) for i in range(q) for j in range(i + 1)]


def symmetric(entries: Any, q: int) -> Any:
    """Matrices (q, q, ...) of the entries at :func:`pairs`."""
    place = {at: k for k, at in enumerate(pairs(q))}
    rows = [[entries[place[max(i, j), min(i, j)]] for j in range(q)] for i in range(q)]
    return jnp.stack([jnp.stack(row) for row in rows])


def zeros_of(a: Any) -> Any:
    """Zeros of its shape that vary with what it varies with.

    A map traces a loop once more where it learns only from the results what varies.
    """
    return a - a


def over_blocks(
    function: Callable, rows: RowBlocks, z: Any, of_levels: Any = (), shape: Any = None
) -> Any:
    """A function of each block, one after the other; its results by level.

    Parameters
    ----------
    function : callable
        Takes a Block and arrays (..., K) of its levels, and returns a tree of arrays (..., K).
    rows : RowBlocks
    z : array of shape (q, C, N)
    of_levels : tree of array of shape (..., G)
    shape : tuple of int or None
        Of a result that is one array, without the levels; None: the function is traced once more.

    Returns
    -------
    tree of array of shape (..., G)
    """
    rows, z = jax.tree.map(jnp.asarray, (rows, z))
    n_blocks, width = rows.levels.shape
    length = rows.y.shape[-1] // n_blocks

    def block_at(b):
        def part(a):
            return jax.lax.dynamic_slice_in_dim(a, b * length, length, a.ndim - 1)

        level = rows.place[part(rows.level)] - b * width
        level = jnp.where((level >= 0) & (level < width), level, width - 1)
        indicator = None
        if rows.indicated is not None:
            indicator = (level[:, None] == jnp.arange(width)).astype(float)
        x, y, weight, offset = (part(a) for a in (rows.x, rows.y, rows.weight, rows.offset))
        block = Block(x, part(z), y, weight, offset, level, indicator, jnp.zeros(width))
        return block, jax.tree.map(lambda a: a[..., rows.levels[b]], of_levels)

    def unless_empty(b):
        # cut out here and not in the branch, where each loop would read at a place that it does
        # not know, which is slow
        block = block_at(b)
        if shape is None:
            shapes = jax.eval_shape(function, *block)
            nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        else:
            nothing = jnp.zeros((*shape, width))
        has_levels = rows.levels[b, 0] < len(rows.present) - 1
        return jax.lax.cond(has_levels, function, lambda *_: nothing, *block)

    if n_blocks == 1:
        parts = jax.tree.map(lambda a: a[None], function(*block_at(0)))
    else:
        parts = jax.lax.map(unless_empty, jnp.arange(n_blocks))

    def by_level(a):
        together = jnp.moveaxis(a, 0, -2)
        return together.reshape(*together.shape[:-2], n_blocks * width)[..., rows.place]

    return jax.tree.map(by_level, parts)
