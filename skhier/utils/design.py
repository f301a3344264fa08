"""From X to the arrays of the model: features, codes of the grouping factor, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.utils.frames import label_column, numeric_block
from skhier.utils.groups import (
    Levels,
    column_name,
    encode,
    fit_levels,
    resolve_groups,
    resolve_slopes,
)
from skhier.utils.validation import TOO_LARGE

__all__ = ["Design", "Factor", "Rows", "design_warnings", "drop_rows", "fit_design", "read_rows"]


class Factor(NamedTuple):
    """A grouping factor: its column, name, levels and the features whose slopes vary."""

    position: int
    name: str
    levels: Levels
    slopes: tuple[int, ...]


class Design(NamedTuple):
    """What fit learned of X's columns."""

    feature_positions: list[int]
    feature_names: list[str]
    factor: Factor | None

    @property
    def effects(self) -> list[str]:
        """Names of the group effects, the varying intercept first."""
        slopes = self.factor.slopes if self.factor else ()
        return ["intercept", *(self.feature_names[j] for j in slopes)]


class Rows(NamedTuple):
    """Rows of X as the model sees them.

    ``x`` (n_samples, n_features), float64, the user's units; ``codes`` (n_samples,) or None;
    ``unseen``: labels that fit never saw, the k-th with code ``n_levels + k``.
    """

    x: np.ndarray
    codes: np.ndarray | None
    unseen: Sequence[Any] = ()


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
    """
    n_columns = table.shape[1]
    column = resolve_groups(groups, slopes, names, n_columns, table)
    features = [j for j in range(n_columns) if column is None or j != column.position]
    feature_names = [column_name(j, names) for j in features]
    x = _features(table, features, feature_names)
    if column is None:
        resolve_slopes(slopes, features, names, n_columns)
        return Design(features, feature_names, None), Rows(x, None)
    varying = resolve_slopes(column.slopes, features, names, n_columns)
    levels, codes = fit_levels(label_column(table, column.position), column.name)
    factor = Factor(column.position, column.name, levels, varying)
    return Design(features, feature_names, factor), Rows(x, codes)


def read_rows(table: Any, design: Design) -> Rows:
    """Rows of a new X with the columns of ``design``."""
    x = _features(table, design.feature_positions, design.feature_names)
    if design.factor is None:
        return Rows(x, None)
    labels = label_column(table, design.factor.position)
    return Rows(x, *encode(labels, design.factor.levels, design.factor.name))


def _features(table, positions, names):
    x = numeric_block(table, positions, names)
    largest = np.abs(x).max(initial=0.0)
    if largest > TOO_LARGE:
        raise ValueError(f"X is too large for float64 arithmetic: {largest:.3g}. Rescale it.")
    return x


def drop_rows(design: Design, rows: Rows, kept: np.ndarray) -> tuple[Design, Rows]:
    """The design and the rows as if only some rows had been there."""
    if kept.all():
        return design, rows
    if design.factor is None:
        return design, Rows(rows.x[kept], None)
    factor = design.factor
    present, codes = np.unique(rows.codes[kept], return_inverse=True)
    levels = factor.levels._replace(labels=factor.levels.labels[present])
    return design._replace(factor=factor._replace(levels=levels)), Rows(rows.x[kept], codes)


def design_warnings(
    design: Design, x_mean: np.ndarray, gram: np.ndarray, group_rows: np.ndarray | None
) -> list[str]:
    """What the data cannot tell: constant and redundant columns, groups that hold no information.

    Parameters
    ----------
    design : Design
    x_mean : array of shape (n_features,)
        In internal units.
    gram : array of shape (n_features, n_features)
        Cross-products of the centred features, internal units.
    group_rows : array of shape (n_groups,) or None
        Rows per group; None without a factor.
    """
    names = np.array(design.feature_names, dtype=object)
    found = []
    constant = np.diag(gram) == 0
    if constant.any():
        found.append(
            "Constant columns carry no information on their slope, which keeps its prior: "
            f"{_listed(names[constant])}."
        )
    rank, redundant = _rank(gram[~constant][:, ~constant], x_mean[~constant])
    if len(redundant):
        found.append(
            f"X has rank {rank} of {(~constant).sum()}: only the priors tell apart the slopes of "
            f"these columns and of others that determine them: "
            f"{_listed(names[~constant][redundant])}."
        )
    if design.factor is not None and len(group_rows) == 1:
        found.append("1 group: between-group sd is set by its prior.")
    elif design.factor is not None and group_rows.max() <= 1:
        found.append("Every group has one row: only the priors tell group effects from noise.")
    return found


def _rank(gram, mean):
    """Rank of the columns and the redundant ones, from centred cross-products.

    Pivoted Cholesky of the correlation matrix; a mean outside the row space adds one.
    """
    from scipy.linalg.lapack import dpstrf

    size = np.sqrt(np.diag(gram))
    corr = gram / np.outer(size, size)
    if not len(corr):
        return 0, np.array([], int)
    root, pivots, rank, _ = dpstrf(corr, tol=1e-10 * len(corr))
    if rank == len(corr):
        return rank, np.array([], int)
    pivots = pivots - 1
    kept, redundant = pivots[:rank], pivots[rank:]
    # redundant columns = kept columns @ weights, in units of their norms; so must be their means
    weights = np.linalg.lstsq(corr[kept][:, kept], corr[kept][:, redundant], rcond=None)[0]
    scaled = mean / size
    off = scaled[redundant] - scaled[kept] @ weights
    outside = np.abs(off).max() > 1e-6 * np.abs(scaled).max()
    return rank + int(outside), np.sort(redundant)


def _listed(names) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
