"""Which grouping factor ``noise_by`` means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skhier.utils.design import Design
from skhier.utils.levels import place_of_factor
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
    n_columns = len(names) if names is not None else _n_columns(design)
    place = place_of_factor(noise_by, design.factors, names, n_columns)
    if place is not None:
        return place
    known = listed(repr(factor.name) for factor in design.factors)
    raise ValueError(
        f"noise_by={noise_by!r} is not a grouping factor of this model, whose factors are "
        f"{known}. Noise can differ between levels of a factor that effects vary by: add it to "
        "`groups`."
    )


def _n_columns(design) -> int:
    return len({*design.feature_positions, *(at for f in design.factors for at in f.positions)})
