"""What the columns of X are to the model: features, grouping factors, varying slopes.

Names and positions only; no cell is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from skhier.utils.columns import column_name, is_all, resolve_columns, resolve_groups
from skhier.utils.side_column import SideColumn, Wanted, resolve_side_column
from skhier.utils.table import Table

__all__ = ["FactorColumns", "Schema", "read_schema"]


class FactorColumns(NamedTuple):
    """A grouping factor's columns of X, their names and its own, and the features that vary.

    Several ``positions`` are a nesting. ``slopes`` index the features; ``automatic``: the user left
    them to the data (``slopes="all"``), and here they are all features.
    """

    positions: tuple[int, ...]
    names: tuple[str, ...]
    name: str
    slopes: tuple[int, ...]
    automatic: bool


class Schema(NamedTuple):
    """Positions and names of the features, and the grouping factors.

    ``as_groups``: what the user would write for each feature to make it a grouping factor.
    ``side``: a column that is neither.
    """

    feature_positions: list[int]
    feature_names: list[str]
    factors: tuple[FactorColumns, ...]
    as_groups: list[str]
    side: SideColumn | None = None


def read_schema(table: Table, groups: Any, slopes: Any, side: Wanted | None = None) -> Schema:
    """Resolve ``groups`` and ``slopes`` against X's columns.

    Parameters
    ----------
    table : Table
    groups, slopes
        The estimator's parameters.
    side : Wanted or None
        Its ``exposure`` or ``known_noise``.

    Raises
    ------
    ValueError, TypeError
        No such columns.
    """
    names, n_columns, index = table.names, table.n_columns, table.index
    columns = resolve_groups(groups, slopes, names, n_columns, table.native, index)
    grouping = {position for column in columns for position in column.positions}
    beside = resolve_side_column(side, names, n_columns, table.native, index, sorted(grouping))
    at = None if beside is None else (beside.parameter, beside.position)
    features = [j for j in range(n_columns) if j not in grouping and not (at and j == at[1])]
    feature_names = [column_name(j, names) for j in features]
    if not columns:
        resolve_columns(slopes, features, names, n_columns, index, side=at)
    factors = []
    for positions, name, wanted in columns:
        varying = resolve_columns(wanted, features, names, n_columns, index, side=at)
        _check_effects([feature_names[j] for j in varying])
        called = tuple(column_name(position, names) for position in positions)
        factors.append(FactorColumns(positions, called, name, varying, is_all(wanted)))
    as_groups = _as_groups(features, names, bool(columns))
    return Schema(features, feature_names, tuple(factors), as_groups, beside)


def _as_groups(features: Sequence[int], names: Sequence[str] | None, has_groups: bool) -> list[str]:
    """What to write for each feature to become a grouping factor."""
    columns = [repr(str(names[j])) if names is not None else str(j) for j in features]
    return [f"add {at} to `groups`" if has_groups else f"pass groups={at}" for at in columns]


def _check_effects(varying: list[str]) -> None:
    if "intercept" in varying:
        raise ValueError(
            "Column 'intercept' of X has the name of the varying intercept. Rename it, or leave it "
            "out of `slopes`."
        )
