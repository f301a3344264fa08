"""Rows in the partitions of a Dask frame: each is reduced where it is, and sums meet in a tree."""

from __future__ import annotations

from typing import Any

from skhier.statistics.contents import Contents, contents_of_block, merged
from skhier.utils.engines import naming
from skhier.utils.frames import as_table
from skhier.utils.named_columns import check_named, split_named

__all__ = ["contents_of_partitions"]

FAN_IN = 16  # sums that meet in one task


def contents_of_partitions(
    X: Any, y: str, sample_weight: str | None, groups: Any, slopes: Any
) -> Contents:
    """A Dask DataFrame becomes statistics; workers need NumPy and pandas, and no JAX.

    Parameters
    ----------
    X : dask.dataframe.DataFrame
    y, sample_weight : str
        Names of columns.
    groups, slopes
        The estimator's parameters.

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.statistics.training.read_training`, with the partition.
    RuntimeError
        What Dask raised.
    """
    from dask.base import compute
    from dask.delayed import delayed

    check_named(list(X.columns), y, sample_weight)
    arguments = y, sample_weight, groups, slopes
    with naming("Dask"):
        partitions = X.to_delayed()
    n = len(partitions)
    reduce_rows, add_up = delayed(_reduced, pure=False), delayed(_sum, pure=False)
    parts = [reduce_rows(rows, k, n, *arguments) for k, rows in enumerate(partitions)]
    while len(parts) > 1:
        parts = [add_up(parts[at : at + FAN_IN]) for at in range(0, len(parts), FAN_IN)]
    try:
        (whole,) = compute(*parts)
    except _Refused as refused:
        raise refused.args[0](refused.args[1]) from None
    except Exception as error:
        raise RuntimeError(
            f"Dask could not read the rows: {type(error).__name__}: {error}"
        ) from error
    if whole is None:
        shape = (0, len(X.columns) - 1 - (sample_weight is not None))
        raise ValueError(f"Found X with 0 sample(s) ({shape=}) while a minimum of 1 is required.")
    return whole


class _Refused(Exception):
    """A kind of error of ours, and its message, from a worker."""


def _reduced(rows, k, n, y, sample_weight, groups, slopes) -> Contents | None:
    """Of one partition; None if it is empty."""
    if not len(rows):
        return None
    X, target, weights = split_named(rows, y, sample_weight)
    try:
        names = list(X.columns)
        return contents_of_block(as_table(X), target, weights, names, groups, slopes)
    except (ValueError, TypeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise _Refused(kind, f"{error} (In partition {k} of {n}.)") from error


def _sum(parts: list[Contents | None]) -> Contents | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    try:
        return merged(present)
    except ValueError as error:
        raise _Refused(ValueError, str(error)) from error
