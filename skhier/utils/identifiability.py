"""What the data cannot tell: redundant columns and factors, groups that hold no information."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from skhier.utils.design import Design, Factor
from skhier.utils.rank import linear_dependence
from skhier.utils.words import listed

__all__ = ["design_warnings", "mean_notes", "mean_warnings", "slope_notes", "slope_warnings"]


def design_warnings(
    design: Design,
    x_mean: np.ndarray,
    gram: np.ndarray,
    group_rows: Sequence[np.ndarray],
    pairs: Sequence[Any],
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
    pairs : sequence
        Of factors (0, 1), (0, 2), ..., (1, 2), ...: ``first`` and ``second``, the levels that share
        rows of fit, (n_pairs,) each; every level occurs.
    """
    names = np.array(design.feature_names, dtype=object)
    messages = []
    constant = np.diag(gram) == 0
    if constant.any():
        messages.append(
            "Constant columns carry no information on their slope, which keeps its prior: "
            f"{listed(map(repr, names[constant]))}."
        )
    messages += _rank_warning(names[~constant], gram[~constant][:, ~constant], x_mean[~constant])
    several = len(design.factors) > 1
    for factor, n_rows in zip(design.factors, group_rows, strict=True):
        messages += _group_warning(repr(factor.name) if several else "", n_rows)
    return messages + _same_partition_warnings(design.factors, pairs)


def slope_notes(design: Design) -> list[str]:
    """A sentence for each factor to which ``slopes="all"`` did not give every slope."""
    return [
        f'slopes="all" gives {name!r} no varying slope of features that are constant within each '
        f"of its levels: {listed(map(repr, features))}."
        for name, features in design.slopes_left_out().items()
        if features
    ]


def mean_notes(design: Design) -> list[str]:
    """A sentence for each factor to which ``group_means="all"`` did not give every mean."""
    return [f'group_means="all" gives no {what}.' for what in _means_left_out(design, True)]


def mean_warnings(design: Design) -> list[str]:
    """A sentence for each factor of which ``group_means`` names features that can have no mean."""
    return [
        f"`group_means` names columns that can have no {what}. They are left out."
        for what in _means_left_out(design, False)
    ]


def _means_left_out(design: Design, automatic: bool) -> list[str]:
    left_out = design.group_means_left_out()
    return [
        f"mean over the levels of {factor.name!r} to features that are constant within each of "
        f"these, or whose mean is the same in all: {listed(map(repr, left_out[factor.name]))}"
        for factor, flat in zip(design.factors, design.means_left_out, strict=False)
        if flat.features and flat.automatic == automatic
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
    messages = []
    for k, (factor, n_rows) in enumerate(zip(design.factors, group_rows, strict=True)):
        if factor.flat and not factor.automatic:
            names = listed(repr(design.feature_names[j]) for j in factor.flat)
            messages.append(
                "`slopes` names columns that are constant within every level of "
                f"{factor.name!r}, so that their varying slopes cannot be told from the varying "
                f"intercept: {names}. Leave them out of `slopes`."
            )
        name = repr(factor.name) if len(design.factors) > 1 else ""
        messages += _few_rows_warning(name, n_rows, design.effects(k))
    return messages


def _few_rows_warning(name: str, n_rows: np.ndarray, effects: list[str]) -> list[str]:
    """``name`` is empty for the only factor."""
    most, q = n_rows.max(), len(effects)
    if len(n_rows) == 1 or most <= 1 or most > q:  # the first two are told by another warning
        return []
    most_slopes = int(np.ceil(most)) - 2
    fewer = f", or at most {most_slopes} of the slopes" if most_slopes > 0 else ""
    return [
        f"No group{f' of {name}' if name else ''} has more rows ({most:g} at most) than it has "
        f"effects ({q}: {listed(map(repr, effects))}): only the priors tell group effects from "
        "noise. Write slopes=None (in a dict of `groups`, None) for varying intercepts "
        f"alone{fewer}."
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


def _same_partition_warnings(factors: Sequence[Factor], pairs: Sequence[Any]) -> list[str]:
    """As many pairs as levels of both, all of which occur: a map that is one to one."""
    return [
        f"{one.name!r} and {other.name!r} group the rows identically: only the "
        "priors tell their effects apart."
        for (one, other), pair in zip(combinations(factors, 2), pairs, strict=True)
        if len(one.levels.labels) == len(other.levels.labels) == len(pair.first)
    ]


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
        f"determine them: {listed(map(repr, names[redundant]))}."
    ]
