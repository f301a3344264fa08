"""What is wrong with the columns of a lazy frame: by their types, and counted in a scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.categories import ENCODERS
from skhier.utils.cells import TOO_LARGE
from skhier.utils.schema import Schema
from skhier.utils.validation import check_total_weight
from skhier.utils.words import listed

__all__ = ["Columns", "Scan", "check_types", "sample", "scan", "spacing"]

Collect = Callable[[Callable[[], nw.LazyFrame[Any]]], nw.DataFrame[Any]]
TEXTS = (nw.String, nw.Categorical, nw.Enum, nw.Binary)
TIMES = (nw.Date, nw.Datetime, nw.Duration, nw.Time)


class Columns(NamedTuple):
    """Names of columns by what they are to the model; ``weight`` is None without one."""

    features: tuple[str, ...]
    labels: tuple[str, ...]
    y: str
    weight: str | None

    @property
    def numbers(self) -> tuple[str, ...]:
        """Features, then y."""
        return (*self.features, self.y)


class Scan(NamedTuple):
    """Of the rows with a weight: how many, if known, near which numbers, the largest weight.

    ``means`` (n_features + 1,), y's last: those of all rows, or of some.
    """

    n_rows: int | None
    means: np.ndarray
    largest_weight: float
    has_weightless: bool


def spacing(dtype: Any) -> float:
    """As :func:`skhier.utils.validation.relative_spacing`, of a column's type."""
    return float(np.finfo(np.float32).eps) if dtype == nw.Float32 else 0.0


def check_types(types: Any, columns: Columns, schema: Schema) -> None:
    """Raise for columns whose type holds no numbers, or no labels.

    Parameters
    ----------
    types : mapping of str to type
        narwhals' schema.
    columns : Columns
    schema : Schema

    Raises
    ------
    ValueError
        Strings or categories.
    TypeError
        Dates, nested types.
    """
    for name, as_group in zip(schema.feature_names, schema.as_groups, strict=True):
        advice = (
            f"If it is a grouping factor, {as_group}; if it is a feature, encode it with {ENCODERS}"
        )
        _forbid_no_numbers(types[name], f"Column {name!r} of X", advice)
    for named, what in ((columns.y, "y"), (columns.weight, "sample_weight")):
        if named is not None:
            _forbid_no_numbers(types[named], what, "Convert it to numbers first")
    for name in columns.labels:
        if types[name].is_nested() or types[name] in (nw.Object, nw.Unknown):
            raise TypeError(
                f"groups holds {types[name]} in column {name!r}: a label must be a string, a "
                "number, a boolean or a date."
            )


def _forbid_no_numbers(dtype: Any, what: str, advice: str) -> None:
    if isinstance(dtype, TEXTS) or dtype in TEXTS:
        content = "strings" if dtype == nw.String else f"categories or bytes ({dtype})"
        raise ValueError(f"{what} holds {content}. {advice}.")
    if isinstance(dtype, TIMES) or dtype in TIMES:
        raise TypeError(
            f"{what} holds datetime values (dtype {dtype}). Convert it to numbers first."
        )
    if not dtype.is_numeric() and dtype != nw.Boolean:
        raise TypeError(f"{what} holds {dtype}, which are no numbers. Convert it first.")


def sample(
    frame: nw.LazyFrame[Any],
    columns: Columns,
    types: Any,
    collect: Collect,
    budget: DataBudget = USUAL.data,
) -> Scan:
    """Means of the first rows; where these are no numbers, or none are there, as :func:`scan`.

    What is not there in them may be in others: only where the products are about.

    Parameters
    ----------
    frame, columns, types, collect
        As of :func:`scan`.
    budget : DataBudget
    """
    means = [
        nw.col(name).cast(nw.Float64).mean().alias(f"mean{j}")
        for j, name in enumerate(columns.numbers)
    ]
    row = _row(collect(lambda: frame.head(budget.first_rows).select(*means)))
    near = np.array([row[f"mean{j}"] for j in range(len(means))], dtype=float)
    if not (np.abs(near) <= TOO_LARGE).all():
        return scan(frame, columns, types, collect)
    return Scan(None, near, 1.0, False)


def scan(frame: nw.LazyFrame[Any], columns: Columns, types: Any, collect: Collect) -> Scan:
    """One scan that counts what must not be there, and takes the means.

    Parameters
    ----------
    frame : narwhals.LazyFrame
    columns : Columns
    types : mapping of str to type
    collect : callable
        Runs a query, given a function that states it.

    Raises
    ------
    ValueError
        No rows; missing labels; cells that are missing, infinite or too large, counted by another
        scan; weights that are no numbers of rows.
    """
    numbers = [*columns.numbers, *([columns.weight] if columns.weight else [])]
    row = _row(collect(lambda: frame.select(nw.len().alias("n"), *_facts(numbers, columns, types))))
    n = int(row["n"])
    if n == 0:
        shape = (0, len(columns.features) + len(columns.labels))
        raise ValueError(f"Found X with 0 sample(s) ({shape=}) while a minimum of 1 is required.")
    facts = [_Facts(*(row[f"{fact}{j}"] for fact in FACTS)) for j in range(len(numbers))]
    if any(fact.n_present < n or not np.isfinite(fact.total) for fact in facts):
        _forbid_non_finite(frame, columns, types, n, collect)
    for name, fact in zip(numbers, facts, strict=True):
        what = {columns.y: "y", columns.weight: "sample_weight"}.get(name)
        _forbid_too_large(what or f"Column {name!r} of X", max(fact.high, -fact.low))
    for j, name in enumerate(columns.labels):
        lacking = n - int(row[f"labels{j}"])
        if lacking:
            raise ValueError(
                f"groups contains {lacking} missing labels in column {name!r}. Drop the rows or "
                "give them a label."
            )
    if columns.weight is None:
        return Scan(n, np.array([fact.total for fact in facts]) / n, 1.0, False)
    return _weighted(frame, columns, facts, n, collect)


FACTS = ("n_present", "total", "low", "high")


class _Facts(NamedTuple):
    n_present: int
    total: float
    low: float
    high: float


def _facts(numbers: Sequence[str], columns: Columns, types: Any) -> list[nw.Expr]:
    exprs = []
    for j, name in enumerate(numbers):
        cells = nw.col(name).cast(nw.Float64)
        values = (cells.count(), cells.sum(), cells.min(), cells.max())
        exprs += [value.alias(f"{fact}{j}") for fact, value in zip(FACTS, values, strict=True)]
    for j, name in enumerate(columns.labels):
        present = ~nw.col(name).is_null()
        if types[name].is_float():
            present = present & ~nw.col(name).is_nan()
        exprs.append(present.cast(nw.Int64).sum().alias(f"labels{j}"))
    return exprs


def _row(frame: nw.DataFrame[Any]) -> dict[str, Any]:
    """Of a frame of one row; what has no value is NaN."""
    row = frame.to_dict(as_series=False)
    return {name: np.nan if cells[0] is None else cells[0] for name, cells in row.items()}


def _forbid_too_large(what: str, largest: float) -> None:
    if largest > TOO_LARGE:
        raise ValueError(f"{what} is too large for float64 arithmetic: {largest:.3g}. Rescale it.")


def _forbid_non_finite(
    frame: nw.LazyFrame[Any], columns: Columns, types: Any, n: int, collect: Collect
) -> None:
    """Raise ValueError with the counts of cells that are missing or infinite, if there are any."""
    for of_cell, what, fix in (
        (_is_missing, "NaN", "fill the cells"),
        (
            _is_infinite,
            "infinity or a value too large for dtype('float64')",
            "give the cells finite numbers",
        ),
    ):
        for name, called in ((columns.y, "y"), (columns.weight, "sample_weight")):
            if name is None:
                continue
            bad = of_cell(name, types).cast(nw.Int64).sum().alias("bad")
            count = int(np.nan_to_num(_row(collect(partial(frame.select, bad)))["bad"]))
            if count:
                raise ValueError(
                    f"Input {called} contains {what} in {_rows(count)} of {n} (column {name!r})."
                )
        if columns.features:
            _forbid_in_features(frame, columns, types, n, collect, (of_cell, what, fix))


def _forbid_in_features(frame, columns, types, n, collect, kind) -> None:
    of_cell, what, fix = kind
    cells = [of_cell(name, types).alias(f"bad{j}") for j, name in enumerate(columns.features)]
    names = [f"bad{j}" for j in range(len(cells))]
    flags = frame.select(*cells).with_columns(
        nw.any_horizontal(*names, ignore_nulls=True).alias("bad")
    )
    sums = [nw.col(name).cast(nw.Int64).sum() for name in (*names, "bad")]
    row = _row(collect(lambda: flags.select(*sums)))
    counts = [int(np.nan_to_num(row[name])) for name in names]
    if any(counts):
        shown = listed(
            f"{name!r} ({_rows(count)})"
            for name, count in zip(columns.features, counts, strict=True)
            if count
        )
        raise ValueError(
            f"Input X contains {what} in {_rows(int(row['bad']))} of {n}. Columns: {shown}. Drop "
            f"these rows, or {fix}."
        )


def _is_missing(name: str, types: Any) -> nw.Expr:
    missing = nw.col(name).is_null()
    if types[name].is_float():
        missing = missing | nw.when(nw.col(name).is_null()).then(nw.lit(False)).otherwise(
            nw.col(name).is_nan()
        )
    return missing


def _is_infinite(name: str, types: Any) -> nw.Expr:
    cells = nw.col(name).cast(nw.Float64)
    return (cells == float("inf")) | (cells == float("-inf"))


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _weighted(frame, columns, facts, n, collect) -> Scan:
    weight = facts[-1]
    if weight.low < 0:
        raise ValueError("Negative values in data passed to `sample_weight`.")
    if weight.high == 0:
        raise ValueError("Sample weights must contain at least one non-zero number.")
    sums = [fact.total for fact in facts[:-1]]
    if weight.low == 0:
        rows = frame.filter(nw.col(columns.weight) > 0)
        means = [nw.col(name).cast(nw.Float64).sum() for name in columns.numbers]
        named = [each.alias(f"sum{j}") for j, each in enumerate(means)]
        row = _row(collect(lambda: rows.select(nw.len().alias("n"), *named)))
        n, sums = int(row["n"]), [row[f"sum{j}"] for j in range(len(means))]
    check_total_weight(weight.total, n)
    return Scan(n, np.array(sums) / n, weight.high, weight.low == 0)
