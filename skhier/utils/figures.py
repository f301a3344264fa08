"""Figures and axes; Matplotlib loads with the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["axes_of", "pyplot", "styled"]


def pyplot() -> Any:
    """``matplotlib.pyplot``, or an ImportError that says what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays are drawn by matplotlib, which is not installed: pip install matplotlib, or "
            "skhier with its extra, skhier[plot]."
        ) from error
    return plt


def axes_of(ax: Any, n: int, n_columns: int | None = None, **layout: Any) -> tuple[Any, np.ndarray]:
    """Figure and ``n`` axes: the user's, or new ones."""
    plt = pyplot()
    if ax is None:
        columns = n_columns or n
        figure, axes = plt.subplots(
            -(-n // columns), columns, squeeze=False, layout="constrained", **layout
        )
        for unused in axes.flat[n:]:
            unused.remove()
        for last in axes.flat[max(0, n - columns) : n]:
            last.tick_params(labelbottom=True)
        return figure, axes.ravel()[:n]
    axes = np.ravel(np.asarray(ax, dtype=object))
    if len(axes) != n:
        raise ValueError(f"`ax` must hold {n} axes, one a panel. Got {len(axes)}.")
    return axes[0].figure, axes


def styled(artist: Any, defaults: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords for an artist: the defaults, and the user's in their place.

    Matplotlib refuses ``lw`` beside ``linewidth``, so both are brought to full names first.

    Parameters
    ----------
    artist : Artist subclass
        Whose keywords they are.
    defaults, user : mapping
        By any name that the artist knows; colours also by ``c`` and ``colors``.

    Raises
    ------
    TypeError
        The user gave one keyword by two names.
    """
    return _full_names(artist, defaults) | _full_names(artist, user)


def _full_names(artist, style):
    from matplotlib.cbook import normalize_kwargs

    style = normalize_kwargs(dict(style), artist)
    for alias in ("c", "colors"):  # Axes.hlines and collections have no such alias
        if alias in style:
            if "color" in style:
                raise TypeError(f"Got both 'color' and {alias!r}, which are one keyword.")
            style["color"] = style.pop(alias)
    return style
