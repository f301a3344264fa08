"""Sums by group of a very long Polars frame, in the memory of a batch of rows and of the groups.

Polars' streaming ``group_by`` puts aside what does not find its group in a small table, so that of
many groups it holds memory that grows with the rows: 10 GiB for 10^8 rows in 10^5 groups. Batches
of columns as they are, which are multiplied and summed one after the other, take neither that
memory nor more time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw

from skhier.utils.budget import USUAL, DataBudget

__all__ = ["is_long", "sums_in_batches"]


def is_long(frame: Any, budget: DataBudget = USUAL.data) -> bool:
    """Whether a LazyFrame's plan expects very many rows; not where it says nothing of them."""
    expected = map(int, re.findall(r"ESTIMATED ROWS: (\d+)", frame.explain()))
    return max(expected, default=0) > budget.long_frame


def sums_in_batches(
    frame: Any,
    cells: Sequence[nw.Expr],
    by: Sequence[str],
    sums: Sequence[nw.Expr],
    budget: DataBudget = USUAL.data,
) -> nw.DataFrame[Any]:
    """What ``frame.select(*cells).group_by(*by).agg(*sums)`` collects.

    Parameters
    ----------
    frame : polars.LazyFrame
        Of the columns that the cells read, and no others: batches of it are held.
    cells : sequence of expressions
        Of single rows, ``by`` among them.
    by : sequence of str
    sums : sequence of expressions
        Sums and counts, which add up.
    budget : DataBudget
    """
    parts: list[Any] = []
    waiting: list[Any] = []
    n_columns = len(frame.collect_schema())

    def reduce_waiting() -> None:
        rows = nw.concat([nw.from_native(batch) for batch in waiting]).lazy()
        # Polars' other engine takes twice as long here
        table = rows.select(*cells).group_by(*by).agg(*sums).collect(engine="streaming")
        # counts of a batch are narrow integers
        counts = [name for name, dtype in table.schema.items() if dtype == nw.UInt32]
        counts = [name for name in counts if name not in by]
        parts.append(table.with_columns(nw.col(name).cast(nw.Int64) for name in counts))
        waiting.clear()

    for batch in _batches(frame, budget.slice_cells // n_columns):
        waiting.append(batch)
        if sum(map(len, waiting)) * n_columns >= budget.batch_cells:
            reduce_waiting()
            if len(parts) >= budget.waiting_sums:
                parts[:] = [_added(parts, by)]
    if waiting or not parts:
        waiting = waiting or [frame.head(0).collect()]
        reduce_waiting()
    return _added(parts, by)


def _batches(frame: Any, rows_of_slice: int) -> Iterator[Any]:
    """All rows, of one Parquet file slice by slice.

    Polars maps a file into memory, and the pages that were read count as the process' own until
    the query ends.
    """
    if not _is_one_file(frame.slice(0, rows_of_slice)):
        yield from frame.collect_batches(maintain_order=False, engine="streaming")
        return
    start, n = 0, rows_of_slice
    while n == rows_of_slice:
        n = 0
        part = frame.slice(start, rows_of_slice)
        for batch in part.collect_batches(maintain_order=False, engine="streaming"):
            n += len(batch)
            yield batch
        start += n


def _is_one_file(frame: Any) -> bool:
    """Whether a plan reads some of the rows of one Parquet file, and does nothing else."""
    plan = re.match(r"Parquet SCAN \[(.+)\]\n(.*\n)*?SLICE: ", frame.explain())
    return plan is not None and Path(plan[1]).is_file()


def _added(parts: Sequence[Any], by: Sequence[str]) -> Any:
    table = nw.concat(parts)
    others = [name for name in table.columns if name not in by]
    return table.group_by(*by).agg(nw.col(name).sum() for name in others)
