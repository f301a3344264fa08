"""Figures and axes; Matplotlib loads with the first."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["axes_of", "pyplot"]


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
