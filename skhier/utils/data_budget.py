"""Tuning constants of rows and of what becomes of them: sums, blocks, arrays of a kernel."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DataBudget", "KernelBudget", "RowBudget"]


@dataclass(frozen=True)
class DataBudget:
    """Reading rows, and adding up what they become.

    Attributes
    ----------
    rows_compared : int
        At a time, where it is asked which features vary within levels: most do in the first rows.
    rows_summed : int
        At a time, exactly: they stay in a processor's cache.
    few_levels : int
        Of a part of a sum, up to which one operation on all of its products takes less than one on
        each.
    level_products : int
        Entries of all levels' full cross-products, above which they are not kept. A sum has them
        where all of its parts do.
    first_rows : int
        Of a lazy frame, whose means the products are about: near those of all rows is enough.
    long_frame : int
        Rows of a Polars frame, from which on memory counts for more than time.
    batch_cells, slice_cells : int
        Of such a frame that are summed at once, and that are read by one query, of a single file.
    waiting_sums : int
        Tables of such sums that wait to be added.
    distinct_rows : int
        Of a lazy frame that come into memory where a fit needs rows; more are refused.
    sums_of_task : int
        Sums of partitions that meet in one task.
    waiting_blocks : int
        Of ``partial_fit``, merged at once: one sort of their labels instead of one for each.
    predicted_rows : int
        Of frames that come in batches, at a time.
    """

    rows_compared: int = 2**14
    rows_summed: int = 2**14
    few_levels: int = 64
    level_products: int = 2**22
    first_rows: int = 2**14
    long_frame: int = 2**24
    batch_cells: int = 2**23
    slice_cells: int = 2**24
    waiting_sums: int = 8
    distinct_rows: int = 2**20
    sums_of_task: int = 16
    waiting_blocks: int = 32
    predicted_rows: int = 2**17


@dataclass(frozen=True)
class RowBudget:
    """How rows of a likelihood without sufficient statistics lie in memory.

    Attributes
    ----------
    least_saving : float
        Share of rows left, above which merging equal ones is not worth a copy.
    chunks_of_block, chunks_on_gpu : int
        At least, where there are as many: a block stays in a processor's cache, or is work enough
        for a GPU.
    few_blocks : int
        Of so many chunks all are one block.
    dense_levels : int
        Of a block, up to which a product with an indicator adds its chunks up faster.
    """

    least_saving: float = 0.9
    chunks_of_block: int = 64
    chunks_on_gpu: int = 2**14
    few_blocks: int = 2
    dense_levels: int = 96


@dataclass(frozen=True)
class KernelBudget:
    """How the elimination of the effects is laid out; what is compiled is compiled for these.

    Attributes
    ----------
    unrolled_effects, unrolled_columns : int
        Of a level, up to which its elimination is written out entry by entry and one loop over
        the levels does all of it; beyond, levels are products of matrices.
    many_effects : int
        Of a level, from which it is eliminated by the inverse of their covariance: half the work,
        and a longer program.
    effect_classes : tuple of int
        Of a level, beyond those written out: fits of fewer take the programs of the next of these
        numbers, which spares them seconds of compiling.
    chunk, chunk_factorised : int
        Levels at a time, which keeps them in cache; of those written out and of the others.
    entries_on_cpu, entries_on_gpu : int
        Of the arrays over points and levels that are evaluated together.
    scatter : float
        What adding a number where it belongs costs, in multiplications of matrices.
    lapack_rows : int
        Rows of a matrix above which LAPACK is faster, and the program it spares takes seconds to
        compile.
    work_of_a_thread : float
        Multiplications of a point, from which batches of points run side by side where levels are
        products of matrices.
    max_wide : int
        Entries of a crossing as a full matrix, above which it stays sparse.
    full_share, wider : float, int
        Of such a matrix that is not 0, from which so many times the entries are no obstacle.
    """

    unrolled_effects: int = 4
    unrolled_columns: int = 32
    many_effects: int = 13
    effect_classes: tuple[int, ...] = (6, 8, 11, 16, 21, 26, 31)
    chunk: int = 1024
    chunk_factorised: int = 64
    entries_on_cpu: int = 2**18
    entries_on_gpu: int = 2**26
    scatter: float = 200.0
    lapack_rows: int = 64
    work_of_a_thread: float = 1e5
    max_wide: int = 2**16
    full_share: float = 0.5
    wider: int = 2**5
