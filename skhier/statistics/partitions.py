"""Rows in the partitions of a Dask frame: each is reduced where it is, and sums meet in a tree."""

from __future__ import annotations

from typing import Any

from skhier.statistics.contents import Contents, contents_of_block, merged
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.labels import fit_levels
from skhier.utils.lazy_engines import naming
from skhier.utils.named_columns import check_named, split_named
from skhier.utils.table import Column, read_table

__all__ = ["contents_of_partitions"]


def contents_of_partitions(
    X: Any,
    y: str,
    sample_weight: str | None,
    groups: Any,
    slopes: Any,
    fold: str | None = None,
    budget: DataBudget = USUAL.data,
) -> dict[Any, Contents]:
    """A Dask DataFrame becomes statistics; workers need NumPy and pandas, and no JAX.

    Parameters
    ----------
    X : dask.dataframe.DataFrame
    y, sample_weight : str
        Names of columns.
    groups, slopes
        The estimator's parameters.
    fold : str or None
        A column that is no feature.
    budget : DataBudget

    Returns
    -------
    dict of Contents
        For each value of ``fold``, in their order; without one for None.

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.training.read_training`, with the partition.
    RuntimeError
        What Dask raised.
    """
    from dask.base import compute
    from dask.delayed import delayed

    check_named(list(X.columns), y, sample_weight, fold)
    arguments = y, sample_weight, groups, slopes, fold
    with naming("Dask"):
        partitions = X.to_delayed()
    n, several = len(partitions), budget.sums_of_task
    reduce_rows, add_up = delayed(_reduced, pure=False), delayed(_sum, pure=False)
    parts = [reduce_rows(rows, k, n, *arguments) for k, rows in enumerate(partitions)]
    while len(parts) > 1:
        parts = [add_up(parts[at : at + several]) for at in range(0, len(parts), several)]
    try:
        (whole,) = compute(*parts)
    except _Refused as refused:
        raise refused.args[0](refused.args[1]) from None
    except Exception as error:
        raise RuntimeError(
            f"Dask could not read the rows: {type(error).__name__}: {error}"
        ) from error
    if not whole:
        shape = (0, len(X.columns) - 1 - (sample_weight is not None) - (fold is not None))
        raise ValueError(f"Found X with 0 sample(s) ({shape=}) while a minimum of 1 is required.")
    return whole if fold is None else {label: whole[label] for label in sorted(whole)}


class _Refused(Exception):
    """A kind of error of ours, and its message, from a worker."""


def _reduced(rows, k, n, y, sample_weight, groups, slopes, fold) -> dict[Any, Contents]:
    """Of one partition, by its folds; none if it is empty."""
    if not len(rows):
        return {}
    try:
        if fold is None:
            return {None: _of_rows(rows, y, sample_weight, groups, slopes)}
        levels, codes = fit_levels(Column(rows[fold]).labels, fold)
        rest = rows.drop(columns=fold)
        return {
            label: _of_rows(rest[codes == at], y, sample_weight, groups, slopes)
            for at, label in enumerate(levels.labels.tolist())
        }
    except (ValueError, TypeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise _Refused(kind, f"{error} (In partition {k} of {n}.)") from error


def _of_rows(rows, y, sample_weight, groups, slopes) -> Contents:
    X, target, weights = split_named(rows, y, sample_weight)
    return contents_of_block(read_table(X), target, weights, groups, slopes)


def _sum(parts: list[dict[Any, Contents]]) -> dict[Any, Contents]:
    of_labels: dict[Any, list[Contents]] = {}
    for part in parts:
        for label, contents in part.items():
            of_labels.setdefault(label, []).append(contents)
    try:
        return {label: merged(several) for label, several in of_labels.items()}
    except ValueError as error:
        raise _Refused(ValueError, str(error)) from error
