"""From X to the arrays of the model: features, codes of the grouping factors, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.categories import forbid_labels
from skhier.utils.columns import column_name, is_all, resolve_groups, resolve_slopes
from skhier.utils.frames import column_of, index_names, label_column, numeric_block
from skhier.utils.labels import Levels, encode, fit_levels
from skhier.utils.nesting import NestedLevels, encode_nested, fit_nested
from skhier.utils.rank import linear_dependence
from skhier.utils.validation import TOO_LARGE, relative_spacing

__all__ = [
    "Design",
    "Factor",
    "Rows",
    "design_warnings",
    "drop_rows",
    "fit_design",
    "read_rows",
    "settle_slopes",
    "slope_notes",
    "slope_warnings",
]

CHUNK = 2**14  # rows; most features differ within levels of the first ones


class Factor(NamedTuple):
    """A grouping factor: its columns, name, levels and the features whose slopes vary.

    ``positions`` are several columns of X for a nesting, whose ``levels`` are combinations.
    ``automatic``: the user left the slopes to the data (``slopes="all"``). ``flat``: features that
    were asked for and are constant within every level; among ``slopes`` unless ``automatic``.
    """

    positions: tuple[int, ...]
    name: str
    levels: Levels | NestedLevels
    slopes: tuple[int, ...]
    automatic: bool = False
    flat: tuple[int, ...] = ()


class Design(NamedTuple):
    """What fit learned of X's columns.

    ``eps``: relative spacing of each feature's numbers as they came, such as float32's; ``y_eps``:
    y's.
    """

    feature_positions: list[int]
    feature_names: list[str]
    factors: tuple[Factor, ...]
    eps: tuple[float, ...] = ()
    y_eps: float = 0.0

    def effects(self, k: int) -> list[str]:
        """Names of the k-th factor's effects, the varying intercept first."""
        return ["intercept", *(self.feature_names[j] for j in self.factors[k].slopes)]

    def slopes_left_out(self) -> dict[str, list[str]]:
        """Per factor the features to which ``slopes="all"`` gave no varying slope."""
        return {
            factor.name: [self.feature_names[j] for j in factor.flat if factor.automatic]
            for factor in self.factors
        }

    def unread(self, counting: Sequence[int]) -> list[int]:
        """Positions of the grouping columns that only factors other than these need."""
        read = {position for k in counting for position in self.factors[k].positions}
        every = {position for factor in self.factors for position in factor.positions}
        return sorted(every - read)


class Rows(NamedTuple):
    """Rows of X as the model sees them.

    ``x`` (n_samples, n_features), float64, the user's units; ``codes`` (n_samples, n_factors),
    int64, a column per factor (Fortran order); ``unseen``: per factor the labels that fit never
    saw, the k-th with code ``n_levels + k``.
    """

    x: np.ndarray
    codes: np.ndarray
    unseen: tuple[np.ndarray, ...]


def fit_design(
    table: Any, names: Sequence[str] | None, groups: Any, slopes: Any
) -> tuple[Design, Rows]:
    """Resolve ``groups`` and ``slopes`` against X and read its rows.

    Parameters
    ----------
    table : DataFrame or 2-D array
        As :func:`skhier.utils.frames.as_table` returns it.
    names : sequence of str or None
        Column names.
    groups, slopes
        The estimator's parameters.

    Raises
    ------
    ValueError, TypeError
        No such columns, columns that hold no numbers, or labels that are missing or mixed.
    """
    n_columns = table.shape[1]
    columns = resolve_groups(groups, slopes, names, n_columns, table)
    grouping = {position for column in columns for position in column.positions}
    features = [j for j in range(n_columns) if j not in grouping]
    feature_names = [column_name(j, names) for j in features]
    index = index_names(table)
    if not columns:
        resolve_slopes(slopes, features, names, n_columns, index)
    forbid_labels(table, features, feature_names, _as_groups(features, names, bool(columns)))
    x = _features(table, features, feature_names)
    factors, codes = [], []
    for positions, name, wanted in columns:
        varying = resolve_slopes(wanted, features, names, n_columns, index)
        _check_effects([feature_names[j] for j in varying])
        called = [column_name(position, names) for position in positions]
        levels, of_rows = _fit_levels(_labels(table, positions), called)
        factors.append(Factor(positions, name, levels, varying, is_all(wanted)))
        codes.append(of_rows)
    unseen = tuple(factor.levels.labels[:0] for factor in factors)
    eps = tuple(relative_spacing(column_of(table, j)) for j in features)
    design = Design(features, feature_names, tuple(factors), eps)
    return design, Rows(x, _side_by_side(codes, len(x)), unseen)


def _as_groups(features: Sequence[int], names: Sequence[str] | None, has_groups: bool) -> list[str]:
    """What to write for each feature to become a grouping factor."""
    columns = [repr(str(names[j])) if names is not None else str(j) for j in features]
    return [f"add {at} to `groups`" if has_groups else f"pass groups={at}" for at in columns]


def settle_slopes(design: Design, rows: Rows) -> Design:
    """The design with those slopes of ``slopes="all"`` that vary within levels of their factor.

    Parameters
    ----------
    design : Design
        As :func:`fit_design` returns it: with every feature where the data are to decide.
    rows : Rows
        Those that count in fit; every level occurs.
    """
    factors = []
    for factor, codes in zip(design.factors, rows.codes.T, strict=True):
        flat = _constant_within(rows.x, codes, len(factor.levels.labels), factor.slopes)
        slopes = factor.slopes
        if factor.automatic:
            slopes = tuple(j for j in slopes if j not in flat)
        factors.append(factor._replace(slopes=slopes, flat=flat))
    return design._replace(factors=tuple(factors))


def _constant_within(
    x: np.ndarray, codes: np.ndarray, n_levels: int, columns: tuple[int, ...]
) -> tuple[int, ...]:
    """Which columns have one value in all rows of each level; compared as they are, not summed."""
    first = np.empty(n_levels, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of repeated indices the last one counts
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        of_level = first[codes[rows]]
        columns = tuple(j for j in columns if (x[rows, j] == x[of_level, j]).all())
        if not columns:
            break
    return columns


def read_rows(table: Any, design: Design, counting: Sequence[int] | None = None) -> Rows:
    """Rows of a new X with the columns of ``design``.

    Parameters
    ----------
    table : DataFrame or 2-D array
    design : Design
    counting : sequence of int or None
        The factors whose labels are read; the others' codes are 0, whatever their columns hold.
        None: all.
    """
    forbid_labels(table, design.feature_positions, design.feature_names)
    x = _features(table, design.feature_positions, design.feature_names)
    codes, unseen = [], []
    for k, factor in enumerate(design.factors):
        of_rows, new = np.zeros(len(x), dtype=np.int64), factor.levels.labels[:0]
        if counting is None or k in counting:
            of_rows, new = _encode(_labels(table, factor.positions), factor)
        codes.append(of_rows)
        unseen.append(new)
    return Rows(x, _side_by_side(codes, len(x)), tuple(unseen))


def _check_effects(varying: list[str]) -> None:
    if "intercept" in varying:
        raise ValueError(
            "Column 'intercept' of X has the name of the varying intercept. Rename it, or leave it "
            "out of `slopes`."
        )


def _labels(table: Any, positions: tuple[int, ...]) -> list[np.ndarray]:
    return [label_column(table, position) for position in positions]


def _fit_levels(labels, names):
    return fit_levels(labels[0], names[0]) if len(labels) == 1 else fit_nested(labels, names)


def _encode(labels: list[np.ndarray], factor: Factor) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(factor.levels, NestedLevels):
        return encode_nested(labels, factor.levels)
    return encode(labels[0], factor.levels, factor.name)


def _side_by_side(codes: list[np.ndarray], n_samples: int) -> np.ndarray:
    """(n_samples, n_factors), also without factors; contiguous per factor."""
    found = np.empty((n_samples, len(codes)), dtype=np.int64, order="F")
    for k, of_rows in enumerate(codes):
        found[:, k] = of_rows
    return found


def _features(table, positions, names):
    x = numeric_block(table, positions, names)
    largest = np.abs(x).max(0, initial=0.0)
    for name, size in zip(names, largest, strict=True):
        if size > TOO_LARGE:
            raise ValueError(
                f"Column {name!r} of X is too large for float64 arithmetic: {size:.3g}. Rescale it."
            )
    return x


def drop_rows(design: Design, rows: Rows, kept: np.ndarray) -> tuple[Design, Rows]:
    """The design and the rows as if only some rows had been there."""
    if kept.all():
        return design, rows
    factors, codes = [], []
    for factor, of_rows in zip(design.factors, rows.codes.T, strict=True):
        present, places = np.unique(of_rows[kept], return_inverse=True)
        factors.append(factor._replace(levels=factor.levels.keep(present)))
        codes.append(places)
    x = rows.x[kept]
    design = design._replace(factors=tuple(factors))
    return design, rows._replace(x=x, codes=_side_by_side(codes, len(x)))


def design_warnings(
    design: Design,
    x_mean: np.ndarray,
    gram: np.ndarray,
    group_rows: Sequence[np.ndarray],
    codes: np.ndarray,
) -> list[str]:
    """What the data cannot tell: redundant columns and factors, groups that hold no information.

    Parameters
    ----------
    design : Design
    x_mean : array of shape (n_features,)
        In internal units.
    gram : array of shape (n_features, n_features)
        Cross-products of the centred features, internal units.
    group_rows : sequence of arrays of shape (n_groups,)
        Rows per group, for each factor.
    codes : int array of shape (n_samples, n_factors)
        Of the rows of fit; every level occurs.
    """
    names = np.array(design.feature_names, dtype=object)
    found = []
    constant = np.diag(gram) == 0
    if constant.any():
        found.append(
            "Constant columns carry no information on their slope, which keeps its prior: "
            f"{_listed(names[constant])}."
        )
    found += _rank_warning(names[~constant], gram[~constant][:, ~constant], x_mean[~constant])
    several = len(design.factors) > 1
    for factor, n_rows in zip(design.factors, group_rows, strict=True):
        found += _group_warning(repr(factor.name) if several else "", n_rows)
    return found + _same_partition_warnings(design.factors, codes)


def slope_notes(design: Design) -> list[str]:
    """A sentence for each factor to which ``slopes="all"`` did not give every slope."""
    return [
        f'slopes="all" gives {name!r} no varying slope of features that are constant within each '
        f"of its levels: {_listed(features)}."
        for name, features in design.slopes_left_out().items()
        if features
    ]


def slope_warnings(design: Design, group_rows: Sequence[np.ndarray]) -> list[str]:
    """Which varying slopes the rows cannot tell from something else.

    Parameters
    ----------
    design : Design
        With its slopes settled.
    group_rows : sequence of arrays of shape (n_groups,)
        Rows per group, for each factor.
    """
    found = []
    for k, (factor, n_rows) in enumerate(zip(design.factors, group_rows, strict=True)):
        if factor.flat and not factor.automatic:
            names = _listed([design.feature_names[j] for j in factor.flat])
            found.append(
                "`slopes` names columns that are constant within every level of "
                f"{factor.name!r}, so that their varying slopes cannot be told from the varying "
                f"intercept: {names}. Leave them out of `slopes`."
            )
        name = repr(factor.name) if len(design.factors) > 1 else ""
        found += _few_rows_warning(name, n_rows, design.effects(k))
    return found


def _few_rows_warning(name: str, n_rows: np.ndarray, effects: list[str]) -> list[str]:
    """``name`` is empty for the only factor."""
    most, q = n_rows.max(), len(effects)
    if len(n_rows) == 1 or most <= 1 or most > q:  # the first two are told by another warning
        return []
    most_slopes = int(np.ceil(most)) - 2
    fewer = f", or at most {most_slopes} of the slopes" if most_slopes > 0 else ""
    return [
        f"No group{f' of {name}' if name else ''} has more rows ({most:g} at most) than it has "
        f"effects ({q}: {_listed(effects)}): only the priors tell group effects from noise. Write "
        f"slopes=None (in a dict of `groups`, None) for varying intercepts alone{fewer}."
    ]


def _group_warning(name: str, n_rows: np.ndarray) -> list[str]:
    """``name`` is empty for the only factor."""
    if len(n_rows) == 1:
        groups = f"{name} has 1 group" if name else "1 group"
        return [f"{groups}: between-group sd is set by its prior."]
    if n_rows.max() <= 1:
        groups = f"Every group of {name}" if name else "Every group"
        return [f"{groups} has one row: only the priors tell group effects from noise."]
    return []


def _same_partition_warnings(factors: Sequence[Factor], codes: np.ndarray) -> list[str]:
    return [
        f"{factors[j].name!r} and {factors[k].name!r} group the rows identically: only the "
        "priors tell their effects apart."
        for j, k in combinations(range(len(factors)), 2)
        if _same_partition(codes[:, j], codes[:, k])
    ]


def _same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    n_levels = a.max() + 1
    if b.max() + 1 != n_levels:
        return False
    # as many levels on both sides and all occur: a map from a's to b's is one to one
    partner = np.empty(n_levels, dtype=b.dtype)
    partner[a] = b
    return bool((partner[a] == b).all())


def _rank_warning(names: np.ndarray, gram: np.ndarray, mean: np.ndarray) -> list[str]:
    kept, redundant, needs_constant = linear_dependence(gram, mean)
    if not redundant:
        return []
    rank, p = len(kept) + int(needs_constant), len(gram)
    what = f"X has rank {rank} of {p}"
    if rank == p:  # one-hot columns that add up to 1, for example
        what = f"X and the intercept have rank {p} of {p + 1}"
    return [
        f"{what}: only the priors tell apart the slopes of these columns and of others that "
        f"determine them: {_listed(names[redundant])}."
    ]


def _listed(names) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
