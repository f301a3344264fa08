"""Which factor, effects and feature of a fit a display shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skhier.plotting._fit import index_of

__all__ = ["chosen_effects", "chosen_factor", "chosen_feature"]


def chosen_factor(model: Any, factor: str | None) -> str:
    """The grouping factor's name; None stands for the only one.

    Raises
    ------
    ValueError
        There is none, several to choose from, or none of this name.
    """
    known = list(model.group_levels_)
    if factor is None and len(known) == 1:
        return known[0]
    if not known:
        raise ValueError("This model has no grouping factor (groups=None): no groups to draw.")
    if factor is None:
        raise ValueError(f"`factor` must name one of {', '.join(map(repr, known))}.")
    index_of(model, factor)
    return factor


def chosen_effects(model: Any, factor: str, effects: str | Sequence[str] | None) -> list[str]:
    """Names of a factor's effects, ``"intercept"`` and features; None stands for all.

    Raises
    ------
    ValueError
        None at all, one twice, or not an effect of the factor.
    """
    known = list(model.group_coef_[factor].columns)
    names = known if effects is None else [effects] if isinstance(effects, str) else list(effects)
    for name in names:
        if name not in known:
            shown = ", ".join(map(repr, known))
            raise ValueError(f"{name!r} is not an effect of {factor!r}. Effects: {shown}.")
    if len(names) != len(set(names)) or not names:
        raise ValueError(f"`effects` must name effects, each once. Got {names!r}.")
    return names


def chosen_feature(model: Any, factor: str | None, feature: str | None) -> str:
    """A name in ``coef_names_``; None stands for the first with a varying slope, else the first.

    Raises
    ------
    ValueError
        The model has no features, or none of this name.
    """
    known = model.coef_names_
    if not known:
        raise ValueError("This model has no features: there is nothing to draw lines against.")
    if feature is None:
        varying = list(model.group_coef_[factor].columns[1:]) if factor else []
        return varying[0] if varying else known[0]
    if feature not in known:
        shown = ", ".join(map(repr, known[:20]))
        raise ValueError(f"`feature={feature!r}` is not a feature of this fit. Features: {shown}.")
    return feature
