"""From X to the arrays of the model: features, codes of the grouping factor, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from skhier.utils.columns import column_name, resolve_groups, resolve_slopes
from skhier.utils.frames import label_column, numeric_block
from skhier.utils.groups import Levels, encode, fit_levels
from skhier.utils.validation import TOO_LARGE

__all__ = ["Design", "Factor", "Rows", "design_warnings", "drop_rows", "fit_design", "read_rows"]

SAME_COLUMN = 1e-10  # share of a column's variance that others leave unexplained


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
    unseen: Any = ()


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
    column = resolve_groups(groups, slopes, names, n_columns, table)
    features = [j for j in range(n_columns) if column is None or j != column.position]
    feature_names = [column_name(j, names) for j in features]
    x = _features(table, features, feature_names)
    if column is None:
        resolve_slopes(slopes, features, names, n_columns)
        return Design(features, feature_names, None), Rows(x, None)
    varying = resolve_slopes(column.slopes, features, names, n_columns)
    if "intercept" in [feature_names[j] for j in varying]:
        raise ValueError(
            "Column 'intercept' of X has the name of the varying intercept. Rename it, or leave it "
            "out of `slopes`."
        )
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
    if design.factor is None or rows.codes is None:
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
    found += _rank_warning(names[~constant], gram[~constant][:, ~constant], x_mean[~constant])
    if group_rows is not None and len(group_rows) == 1:
        found.append("1 group: between-group sd is set by its prior.")
    elif group_rows is not None and group_rows.max() <= 1:
        found.append("Every group has one row: only the priors tell group effects from noise.")
    return found


def _rank_warning(names: np.ndarray, gram: np.ndarray, mean: np.ndarray) -> list[str]:
    """Columns that are linear combinations of earlier ones and, perhaps, of the constant."""
    size = np.sqrt(np.diag(gram))
    corr = gram / np.outer(size, size)
    kept, redundant = _split_columns(corr)
    if not len(redundant):
        return []
    # redundant columns = kept columns @ weights, in units of their norms; so must be their means
    weights = np.linalg.solve(corr[kept][:, kept], corr[kept][:, redundant])
    scaled = mean / size
    off = scaled[redundant] - scaled[kept] @ weights
    needs_constant = np.abs(off).max() > 1e-6 * np.abs(scaled).max()
    rank, p = len(kept) + int(needs_constant), len(corr)
    what = f"X has rank {rank} of {p}"
    if rank == p:  # one-hot columns that add up to 1, for example
        what = f"X and the intercept have rank {p} of {p + 1}"
    return [
        f"{what}: only the priors tell apart the slopes of these columns and of others that "
        f"determine them: {_listed(names[redundant])}."
    ]


def _split_columns(corr: np.ndarray) -> tuple[list[int], list[int]]:
    """Columns that are no linear combination of those before them, and the others.

    Cholesky decomposition of a correlation matrix that leaves out rows with no residual.
    """
    p = len(corr)
    root = np.zeros((p, p))
    kept: list[int] = []
    for j in range(p):
        k = len(kept)
        row = solve_triangular(root[:k, :k], corr[kept, j], lower=True) if k else np.zeros(0)
        rest = corr[j, j] - row @ row
        if rest > SAME_COLUMN * p:
            root[k, :k], root[k, k] = row, np.sqrt(rest)
            kept.append(j)
    return kept, [j for j in range(p) if j not in kept]


def _listed(names) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
