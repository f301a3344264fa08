"""Figures, axes, colours and keywords of the displays; Matplotlib loads with the first figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "BOLD",
    "FAINT",
    "REFERENCE",
    "add_legend",
    "draw_intervals",
    "draw_line",
    "figure_and_axes",
    "pyplot",
    "styled",
]

BOLD, FAINT, REFERENCE = "C0", "0.65", "0.35"


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


def figure_and_axes(
    ax: Any, n: int, n_columns: int | None = None, **layout: Any
) -> tuple[Any, np.ndarray]:
    """Figure and ``n`` axes, open at the top and the right: the user's, or new ones."""
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
        axes = axes.ravel()[:n]
    else:
        axes = np.ravel(np.asarray(ax, dtype=object))
        if len(axes) != n:
            raise ValueError(f"`ax` must hold {n} axes, one a panel. Got {len(axes)}.")
        figure = axes[0].figure
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


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


def add_legend(
    figure: Any, axis: Any, own_figure: bool, ncols: int, title: str | None = None
) -> None:
    """Of an axis's artists, the faint ones in full.

    Above a figure of one's own, inside the axes of somebody else's.
    """
    handles, labels = axis.get_legend_handles_labels()
    style: dict[str, Any] = {"frameon": False, "title": title}
    if own_figure:
        made = figure.legend(handles, labels, loc="outside upper center", ncols=ncols, **style)
    else:
        made = axis.legend(handles, labels, fontsize="small", **style)
    for handle in made.legend_handles:
        if hasattr(handle, "set_markersize"):
            handle.set(alpha=1.0, markersize=max(5.0, handle.get_markersize()))
        if hasattr(handle, "get_segments") or getattr(handle, "get_linewidth", float)() > 0:
            handle.set(alpha=1.0, linewidth=max(1.2, np.max(handle.get_linewidth())))


def draw_line(axis: Any, x: Any, y: Any, style: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    """``Axes.plot`` with the display's style and the user's in its place."""
    from matplotlib.lines import Line2D

    axis.plot(x, y, **styled(Line2D, style, user))


def draw_intervals(
    axis: Any, at: Any, low: Any, high: Any, style: Mapping[str, Any], user: Mapping[str, Any]
) -> None:
    """``Axes.hlines`` with the display's style and the user's in its place."""
    from matplotlib.collections import LineCollection

    axis.hlines(at, low, high, **styled(LineCollection, style, user))


def _full_names(artist, style):
    from matplotlib.cbook import normalize_kwargs

    style = normalize_kwargs(dict(style), artist)
    for alias in ("c", "colors"):  # Axes.hlines and collections have no such alias
        if alias in style:
            if "color" in style:
                raise TypeError(f"Got both 'color' and {alias!r}, which are one keyword.")
            style["color"] = style.pop(alias)
    return style
