"""Which grouping factor ``noise_by`` means."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from skhier.utils.design import Design
from skhier.utils.words import listed

__all__ = ["noise_factor"]


def noise_factor(noise_by: Any, design: Design, names: Sequence[str] | None) -> int | None:
    """Place of a grouping factor among those of a design; None for None.

    Parameters
    ----------
    noise_by : str, int, tuple or None
        The factor by its name, or as ``groups`` has it.
    design : Design
    names : sequence of str or None
        Column names of X, if it has any.

    Raises
    ------
    ValueError
        It is none of them.
    """
    if noise_by is None:
        return None
    if not design.factors:
        raise ValueError(
            f"noise_by={noise_by!r} takes a grouping factor, and this model has none. Name it in "
            f"`groups`: groups={noise_by!r}, slopes=None has varying intercepts alone."
        )
    for k, factor in enumerate(design.factors):
        if _is_factor(noise_by, factor, design, names):
            return k
    known = listed(repr(factor.name) for factor in design.factors)
    raise ValueError(
        f"noise_by={noise_by!r} is not a grouping factor of this model, whose factors are "
        f"{known}. Noise can differ between levels of a factor that effects vary by: add it to "
        "`groups`."
    )


def _is_factor(noise_by, factor, design, names) -> bool:
    if noise_by == factor.name:
        return True
    asked = noise_by if isinstance(noise_by, tuple | list) else (noise_by,)
    n_columns = len(names) if names is not None else _n_columns(design)
    columns = [factor.name] if names is None else [names[at] for at in factor.positions]
    if len(asked) != len(factor.positions):
        return False
    return all(
        one == column or (_is_integer(one) and one % n_columns == at)
        for one, column, at in zip(asked, columns, factor.positions, strict=False)
    )


def _is_integer(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _n_columns(design) -> int:
    return len({*design.feature_positions, *(at for f in design.factors for at in f.positions)})
