"""What statistics of rows are about: the table's columns, the levels, the sums; read and combined.

Two kinds of slopes: those that the sums *hold*, every feature where ``slopes="all"``, so that any
blocks of rows add up; and those that a fit then takes, which vary within levels of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.statistics.reduction import Reduction, axes_of, check_alike, merge, reduce_block
from skhier.statistics.slopes import flat_features, with_slopes
from skhier.statistics.subtraction import difference
from skhier.utils.columns import is_all
from skhier.utils.design import Design
from skhier.utils.labels import Levels
from skhier.utils.level_union import unite_levels
from skhier.utils.nesting import NestedLevels
from skhier.utils.schema import FactorColumns, Schema, read_schema
from skhier.utils.table import Table, table_of
from skhier.utils.training import Training, read_block
from skhier.utils.words import listed

__all__ = [
    "Contents",
    "check_addable",
    "contents_of_block",
    "contents_of_fit",
    "contents_of_rows",
    "merged",
    "settled",
    "without",
]


class Contents(NamedTuple):
    """Statistics and what it takes to read further rows of the same table.

    Attributes
    ----------
    names : tuple of str or None
        Of all columns of the table; None: an array's.
    n_columns : int
    design : Design
        With the levels of the reduction, and the slopes that it holds.
    reduction : Reduction
    n_rows : int
        With a weight.
    largest_weight : float
        A level has at least its sum of weights divided by this many rows.
    """

    names: tuple[str, ...] | None
    n_columns: int
    design: Design
    reduction: Reduction
    n_rows: int
    largest_weight: float

    @property
    def table(self) -> Table:
        """The columns, of which there are no rows."""
        return table_of(np.empty((0, self.n_columns)), self.names)

    def replaced(self, reduction: Reduction, **others: Any) -> Contents:
        """With another reduction, whose levels the design takes over."""
        factors = tuple(
            factor._replace(levels=axis.levels)
            for factor, axis in zip(self.design.factors, reduction.axes.factors, strict=True)
        )
        design = self.design._replace(factors=factors)
        return self._replace(design=design, reduction=reduction, **others)


def contents_of_block(
    table: Table, y: Any, sample_weight: Any, groups: Any, slopes: Any
) -> Contents:
    """A block of rows, perhaps of one row, becomes statistics.

    Parameters
    ----------
    table, y, sample_weight, groups, slopes
        As of :func:`skhier.utils.training.read_training`.

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.training.read_block`.
    """
    design, training = read_block(table, y, sample_weight, groups, slopes)
    return contents_of_rows(design, training, table.names, table.n_columns)


def contents_of_rows(
    design: Design, training: Training, names: Sequence[str] | None, n_columns: int
) -> Contents:
    """Rows that were read with a design become statistics of its slopes."""
    factors = (factor._replace(automatic=False, flat=()) for factor in design.factors)
    design = design._replace(factors=tuple(factors))
    largest = float(training.weights.max(initial=0.0))
    named = None if names is None else tuple(map(str, names))
    reduction = reduce_block(axes_of(design), training)
    return Contents(named, n_columns, design, reduction, len(training.y), largest)


def contents_of_fit(
    design: Design,
    training: Training | None,
    reduction: Reduction,
    names: Sequence[str] | None,
    n_columns: int,
    n_rows: int,
) -> Contents:
    """Statistics of a fit, of rows that are in memory or, out of a pickle, of their products.

    Parameters
    ----------
    design : Design
        Of the fit, its slopes settled.
    training : Training or None
    reduction : Reduction
        Of the fit.
    names, n_columns, n_rows
        Of the table.

    Raises
    ------
    ValueError
        The rows are gone, and a feature whose slopes might vary with more rows has no products.
    """
    every = tuple(range(len(design.feature_names)))
    factors = [
        factor._replace(slopes=every if factor.automatic else factor.slopes)
        for factor in design.factors
    ]
    if training is not None:
        wide = design._replace(factors=tuple(factors))
        return contents_of_rows(wide, training, names, n_columns)
    left_out = [name for of_factor in design.slopes_left_out().values() for name in of_factor]
    if left_out:
        raise ValueError(
            'slopes="all" left out features that more rows might make vary, and a pickled fit '
            f"holds no products of them: {listed(map(repr, left_out))}. Fit again by partial_fit "
            "or fit_statistics, whose pickles hold them, or name the `slopes`."
        )
    plain = tuple(factor._replace(automatic=False, flat=()) for factor in design.factors)
    named = None if names is None else tuple(map(str, names))
    return Contents(
        named, n_columns, design._replace(factors=plain), reduction, n_rows, float("inf")
    )


def check_addable(one: Contents, other: Contents) -> None:
    """Raise ValueError unless :func:`merged` can add them; no sum is formed."""
    _check_columns(one, other)
    check_alike(one.reduction.axes, other.reduction.axes)
    for mine, theirs in zip(one.design.factors, other.design.factors, strict=True):
        unite_levels([_example(mine.levels), _example(theirs.levels)], mine.name)


def _example(levels: Levels | NestedLevels) -> Levels | NestedLevels:
    return levels.keep(np.arange(min(1, len(levels.labels))))


def merged(parts: Sequence[Contents]) -> Contents:
    """Statistics of all rows of several parts, whose rows are disjoint; levels unite.

    Raises
    ------
    ValueError
        Tables of other columns; other grouping factors, slopes or kinds of labels.
    """
    first, *others = parts
    for other in others:
        _check_columns(first, other)
    designs = [part.design for part in parts]
    united = first.replaced(
        merge(*(part.reduction for part in parts)),
        n_rows=sum(part.n_rows for part in parts),
        largest_weight=max(part.largest_weight for part in parts),
    )
    eps = tuple(map(max, zip(*(design.eps for design in designs), strict=True)))
    y_eps = max(design.y_eps for design in designs)
    return united._replace(design=united.design._replace(eps=eps, y_eps=y_eps))


def without(whole: Contents, part: Contents) -> Contents:
    """The statistics of the rows of ``whole`` that are not in ``part``.

    Raises
    ------
    ValueError
        As :func:`merged`; or rows that were never in the whole.
    """
    _check_columns(whole, part)
    if part.n_rows > whole.n_rows:
        raise ValueError(
            f"These statistics hold {part.n_rows} rows and the whole {whole.n_rows}: only rows "
            "that were added can be taken away."
        )
    rest = difference(whole.reduction, part.reduction)
    return whole.replaced(rest, n_rows=whole.n_rows - part.n_rows)


def _check_columns(one: Contents, other: Contents) -> None:
    if one.names != other.names or one.n_columns != other.n_columns:
        shown = " and ".join(_columns(part) for part in (one, other))
        raise ValueError(f"Statistics of tables with different columns do not add up: {shown}.")


def _columns(part: Contents) -> str:
    if part.names is None:
        return f"{part.n_columns} columns without names"
    return listed(map(repr, part.names))


def settled(contents: Contents, groups: Any, slopes: Any) -> tuple[Design, Reduction]:
    """What a model of ``groups`` and ``slopes`` takes of the statistics.

    Returns
    -------
    design : Design
        With the slopes that vary within levels where ``slopes="all"``.
    reduction : Reduction
        Of these slopes.

    Raises
    ------
    ValueError
        Statistics of other grouping factors, or that hold not all of the slopes.
    """
    schema = _schema(contents, groups, slopes)
    factors = []
    for k, (factor, wanted) in enumerate(zip(contents.design.factors, schema.factors, strict=True)):
        flat = tuple(j for j in flat_features(contents.reduction, k) if j in wanted.slopes)
        varying = tuple(j for j in wanted.slopes if not (wanted.automatic and j in flat))
        factors.append(factor._replace(slopes=varying, automatic=wanted.automatic, flat=flat))
    design = contents.design._replace(factors=tuple(factors))
    return design, with_slopes(contents.reduction, [factor.slopes for factor in factors])


def _schema(contents: Contents, groups: Any, slopes: Any) -> Schema:
    """The model's, where the statistics have what it asks for."""
    if callable(groups):  # it looked at the rows, which are gone
        return _schema_of_sums(contents, slopes)
    schema = read_schema(contents.table, groups, slopes)
    names = [factor.name for factor in schema.factors]
    known = [factor.name for factor in contents.design.factors]
    if names != known or schema.feature_positions != contents.design.feature_positions:
        raise ValueError(
            f"The statistics are of groups {known} and features {contents.design.feature_names}, "
            f"the model of groups {names} and features {schema.feature_names}. Summarise the rows "
            "with this model's `groups`."
        )
    for wanted, factor in zip(schema.factors, contents.design.factors, strict=True):
        lacking = [schema.feature_names[j] for j in wanted.slopes if j not in factor.slopes]
        if lacking:
            raise ValueError(
                f"The statistics hold no varying slopes of {factor.name!r} for "
                f"{listed(map(repr, lacking))}. Summarise the rows with this model's `slopes`."
            )
    return schema


def _schema_of_sums(contents: Contents, slopes: Any) -> Schema:
    design = contents.design
    factors = [
        FactorColumns(factor.positions, (), factor.name, factor.slopes, is_all(slopes))
        for factor in design.factors
    ]
    return Schema(design.feature_positions, design.feature_names, tuple(factors), [])
