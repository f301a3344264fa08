"""Which groups of the data have a panel each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.plotting._fit import index_of
from skhier.plotting._numerics import population_coef
from skhier.plotting._text import LABEL_LENGTH, printed_labels
from skhier.utils.design import Rows

__all__ = ["Panels", "panels_of"]


class Panels(NamedTuple):
    """The groups that have a panel each.

    ``codes`` and ``titles``: a panel each; ``n_groups``: how many groups they were chosen from;
    ``of_rows`` (n_samples,): the code of each row's group.
    """

    codes: np.ndarray
    titles: list[str]
    n_groups: int
    of_rows: np.ndarray


def panels_of(
    model: Any,
    factor: str | None,
    feature: str,
    rows: Rows,
    levels: Sequence[Any] | None,
    max_groups: int,
) -> Panels:
    """One panel of all rows in a model without a factor, else one per chosen level.

    Parameters
    ----------
    model : BaseHierarchical
        Fitted.
    factor : str or None
    feature : str
        Whose coefficients order the groups.
    rows : Rows
        With unseen levels, if any.
    levels : sequence or None
        Labels of the panels; None: at most `max_groups`, at equal steps of rank.
    max_groups : int

    Raises
    ------
    ValueError
        `levels` that the rows do not hold.
    """
    if factor is None:
        return Panels(np.zeros(1, dtype=int), [""], 1, np.zeros(len(rows.x), dtype=int))
    k = index_of(model, factor)
    of_rows = rows.codes[:, k]
    known = [*model.group_levels_[factor], *rows.unseen[k]]
    present = np.unique(of_rows)
    if levels is None:
        codes = _at_steps_of_rank(model, factor, feature, len(rows.unseen[k]), present, max_groups)
    else:
        codes = _codes_in_data(factor, levels, {known[code]: code for code in present})
    titles = _titles(factor, [known[code] for code in codes])
    return Panels(codes, titles, len(present), of_rows)


def _codes_in_data(factor, levels, code_of) -> np.ndarray:
    """Codes of the levels that the user named."""
    missing = [label for label in levels if label not in code_of]
    if missing or not len(levels):
        shown = ", ".join(map(repr, missing[:5])) or "none were named"
        raise ValueError(f"`levels` must be levels of {factor!r} in X: {shown}.")
    return np.array([code_of[label] for label in levels])


def _at_steps_of_rank(model, factor, feature, n_unseen, present, max_groups) -> np.ndarray:
    """Of the codes present those at equal steps of rank by their coefficient.

    That of an unseen level is the population's.
    """
    table = model.group_coef_[factor]
    effect = feature if feature in table.columns[1:] else "intercept"
    newcomers = np.full(n_unseen, population_coef(model, [effect])[effect])
    size = np.concatenate([table[effect].to_numpy(), newcomers])[present]
    ranks = np.linspace(0, len(present) - 1, min(max_groups, len(present)))
    return present[np.argsort(size, kind="stable")[ranks.round().astype(int)]]


def _titles(factor, labels) -> list[str]:
    """Labels with the factor's name before them, where that adds something and has room."""
    short = printed_labels(labels)
    named = [f"{factor} {label}" for label in short]
    too_long = isinstance(labels[0], tuple) and max(map(len, named)) > LABEL_LENGTH
    return short if too_long or short[0].startswith(factor) else named
