"""Which level means the estimator's ``group_means`` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any

from skhier.utils.columns import find_column, is_all, resolve_columns
from skhier.utils.design import Design
from skhier.utils.group_means import MeansOfFactor
from skhier.utils.levels import Factor, place_of_factor
from skhier.utils.table import Table

__all__ = ["wanted_means"]


def wanted_means(group_means: Any, table: Table, design: Design) -> tuple[MeansOfFactor, ...]:
    """What the estimator's ``group_means`` asks for, per factor of a design.

    Parameters
    ----------
    group_means : None, "all", list or dict
        Features, for every factor; or a dict from factor, by its name or as ``groups`` has it, to
        either.
    table : Table
        The columns that the design is of; no cell is read.
    design : Design

    Raises
    ------
    ValueError, TypeError
        There is no factor, or no such one; or a column that is no feature.
    """
    factors = design.factors
    if group_means is None:
        return (MeansOfFactor((), False),) * len(factors)
    if not factors:
        raise ValueError(
            f"`group_means={short(group_means)}` asks for means over the levels of grouping "
            "factors, and groups=None has none. Name a grouping column in `groups`, or set "
            "group_means=None."
        )
    of_factors: list[Any] = [group_means] * len(factors)
    if isinstance(group_means, Mapping):
        of_factors = [None] * len(factors)
        for key, wanted in group_means.items():
            of_factors[_factor_at(key, factors, table)] = wanted
    columns = design.feature_positions, table.names, table.n_columns, table.index
    side = None if design.side is None else (design.side.parameter, design.side.position)
    return tuple(
        MeansOfFactor(resolve_columns(wanted, *columns, "group_means", side), is_all(wanted))
        for wanted in of_factors
    )


def _factor_at(key: Any, factors: Sequence[Factor], table: Table) -> int:
    place = place_of_factor(key, factors, table.names, table.n_columns)
    if place is not None:
        return place
    for column in key if isinstance(key, tuple) else (key,):  # which is perhaps no column at all
        find_column(column, table.names, table.n_columns, "group_means", table.index)
    raise ValueError(
        f"`group_means` has the key {short(key)}, which is not a factor of `groups`. Factors: "
        f"{', '.join(repr(factor.name) for factor in factors)}."
    )
