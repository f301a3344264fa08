"""A grid over lines that are mixtures of normals, and what each of its points stands for."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["GRID_STEP", "ends", "grid_sizes", "shares_at"]

GRID_STEP = 1.25  # of a grid, in widths of what varies fastest: an error below 1e-5
GRID_REACH = 5.0  # sds of each normal


def ends(mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Below and above all of each line, (n,), of normals (C, n)."""
    return (mean - GRID_REACH * sd).min(0), (mean + GRID_REACH * sd).max(0)


def grid_sizes(wanted: np.ndarray, most: int, multiple: int = 4) -> np.ndarray:
    """Points of grids that want so many, in few sizes; 0 where that is more than ``most``."""
    size = multiple * np.ceil(np.minimum(wanted, most) / multiple) + 1
    return np.where(wanted <= most, size, 0).astype(int)


def shares_at(
    at: np.ndarray, mean: np.ndarray, sd: np.ndarray, shares: np.ndarray, volume: Any = 1.0
) -> np.ndarray:
    """Of points (J, n) that stand for so much of n lines, (B, J, n), sum 1 in each line.

    ``shares`` (B, C): of B nodes and the C normals, whose ``mean`` and ``sd`` are (C, n).
    """
    density = at - mean[:, None]
    density /= sd[:, None]
    density *= density
    density *= -0.5
    np.exp(density, out=density)
    density /= sd[:, None]
    of_points = np.tensordot(shares, density, 1) * volume
    return of_points / of_points.sum((0, 1))
