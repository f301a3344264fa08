"""Attributes of a fit that are a pandas table per grouping factor, and the arrays in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skhier.utils.design import Design
from skhier.utils.nesting import NestedLevels

__all__ = ["BY_EFFECT", "BY_LEVEL", "NOISE", "group_arrays", "group_tables"]

BY_LEVEL = ("group_effects_", "group_coef_", "group_coef_std_")
BY_EFFECT = ("group_scale_", "group_corr_")
LEVEL_LABELS = "group_levels_"
NOISE = "group_noise_"  # of a fit whose levels have a noise of their own

Arrays = Mapping[str, Mapping[str, np.ndarray]]


def group_tables(arrays: Arrays, design: Design) -> dict[str, dict[str, Any]]:
    """The attributes, labelled.

    Parameters
    ----------
    arrays : mapping of attribute to mapping of factor to array
        Of shape (n_levels, q) for the attributes in ``BY_LEVEL``, (q,) or (q, q) for those in
        ``BY_EFFECT``, the intercept first; and of ``"group_noise_"``, if it is there, (n_levels,
        2), the mean and sd.
    design : Design
        Of the same fit.

    Returns
    -------
    dict of attribute to dict of factor to DataFrame or Series
        And, for ``"group_levels_"``, to the labels.
    """
    import pandas as pd

    tables: dict[str, dict[str, Any]] = {name: {} for name in (*BY_LEVEL, *BY_EFFECT, LEVEL_LABELS)}
    for k, factor in enumerate(design.factors):
        name, effects, index = factor.name, design.effects(k), _index_of(factor)
        for attribute in BY_LEVEL:
            tables[attribute][name] = pd.DataFrame(arrays[attribute][name], index, effects)
        scale, corr = (arrays[attribute][name] for attribute in BY_EFFECT)
        tables["group_scale_"][name] = pd.Series(scale, effects, name=name)
        tables["group_corr_"][name] = pd.DataFrame(corr, effects, effects)
        tables[LEVEL_LABELS][name] = factor.levels.labels
        if name in arrays.get(NOISE, {}):
            noise = pd.DataFrame(arrays[NOISE][name], index, ["mean", "sd"])
            tables.setdefault(NOISE, {})[name] = noise
    return tables


def group_arrays(state: dict[str, Any]) -> Arrays:
    """Take the attributes of :func:`group_tables` out of an estimator's state.

    Returns
    -------
    dict
        What :func:`group_tables` makes them from; empty if there is no fit.
    """
    state.pop(LEVEL_LABELS, None)
    taken = {name: state.pop(name) for name in (*BY_LEVEL, *BY_EFFECT, NOISE) if name in state}
    return {
        attribute: {name: np.ascontiguousarray(table) for name, table in of_factors.items()}
        for attribute, of_factors in taken.items()
    }


def _index_of(factor):
    import pandas as pd

    levels = factor.levels
    if isinstance(levels, NestedLevels):
        return pd.MultiIndex.from_tuples(levels.labels, names=levels.columns)
    return pd.Index(levels.labels, name=factor.name)
