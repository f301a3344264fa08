"""Rows that an engine has, equal ones merged into one with their number, for fits that need rows.

A weight of 2 is the row twice, so that the merged rows are all rows.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from skhier.statistics.lazy_checks import check_types, scan
from skhier.statistics.lazy_sums import opened
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.lazy_engines import naming
from skhier.utils.named_columns import check_named

__all__ = ["N_EQUAL", "merged_rows"]

N_EQUAL = "number of equal rows"  # the column of weights


def merged_rows(
    X: Any,
    y: str,
    sample_weight: str | None,
    groups: Any,
    engine: str,
    why: str,
    y_is_number: bool = True,
    budget: DataBudget = USUAL.data,
) -> pd.DataFrame:
    """The distinct rows of a lazy frame, sorted, with ``N_EQUAL`` in place of the weights.

    Parameters
    ----------
    X : lazy frame
    y, sample_weight : str
        Names of columns.
    groups
        The estimator's parameter.
    engine : str
        As of :func:`skhier.utils.lazy_engines.lazy_engine`.
    why : str
        What needs rows, for the error.
    y_is_number : bool
        Or else a label.
    budget : DataBudget

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.statistics.lazy.contents_of_lazy`, of Dask with counts of merged rows; more
        distinct rows than ``budget.distinct_rows``.
    RuntimeError
        What the engine raised.
    """
    if engine == "Dask":
        table = _merged_by_dask(X, y, sample_weight, budget)
    else:
        table = _merged_by_query(X, y, sample_weight, groups, engine, y_is_number, budget)
    if isinstance(table, int):
        raise ValueError(
            f"{why} needs the rows, of which {table} remain when {engine} has merged equal ones, "
            f"more than {budget.distinct_rows}. Leave columns out, round features, or fit fewer "
            "groups."
        )
    return table.sort_values(table.columns.tolist(), ignore_index=True)


def _merged_by_query(
    X, y, sample_weight, groups, engine, y_is_number, budget
) -> pd.DataFrame | int:
    slopes = "all" if groups is not None else None
    frame = opened(X, y, sample_weight, groups, slopes, engine, budget)
    query, types, names, schema, columns = frame
    if y_is_number:
        check_types(types, columns, schema)
        if scan(query.frame, columns, types, query.collect).has_weightless:
            query.frame = query.frame.filter(nw.col(sample_weight or "") > 0)
    by = [*names, y]
    number = nw.len() if sample_weight is None else nw.col(sample_weight).sum()

    def merged() -> nw.LazyFrame[Any]:
        return query.frame.group_by(by).agg(number.alias(N_EQUAL))

    table = query.collect(lambda: merged().head(budget.distinct_rows + 1))
    if len(table) > budget.distinct_rows:
        return int(query.collect(lambda: merged().select(nw.len().alias("n")))["n"][0])
    return table.to_pandas()


def _merged_by_dask(X, y, sample_weight, budget) -> pd.DataFrame | int:
    check_named(list(X.columns), y, sample_weight)
    names = [name for name in X.columns if name not in (y, sample_weight)]
    number = {N_EQUAL: 1 if sample_weight is None else X[sample_weight]}
    with naming("Dask"):
        grouped = X.assign(**number).groupby([*names, y], dropna=False, observed=True, sort=False)
        table = grouped[N_EQUAL].sum().reset_index().persist()
        n = len(table)
        return n if n > budget.distinct_rows else table.compute()
