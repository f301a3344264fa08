"""From internal coordinates to the user's units; there the effects have the intercept first."""

from __future__ import annotations

import numpy as np

from skhier.kernels.types import Hyper, Units

__all__ = ["coef_to_user", "effect_scale", "in_user_units", "intercept_first"]


def in_user_units(
    hyper: Hyper, units: Units, slopes: tuple[int, ...] | None
) -> dict[str, np.ndarray]:
    """Population parameters, whatever the leading axes of ``hyper``.

    Returns
    -------
    dict
        ``intercept`` (at X = 0), ``coef``, ``noise_scale``; with a factor also ``group_scale``
        (..., q) and ``group_corr`` (..., q, q), intercept first.
    """
    at_zero = hyper.intercept - hyper.coef @ (units.x_mean / units.x_scale)
    found = {
        "intercept": units.y_mean + units.y_scale * at_zero,
        "coef": hyper.coef * (units.y_scale / units.x_scale),
        "noise_scale": units.y_scale * hyper.noise_scale,
    }
    if slopes is not None:
        order = intercept_first(len(slopes) + 1)
        corr = hyper.corr_chol @ np.swapaxes(hyper.corr_chol, -1, -2)
        scale = hyper.group_scale * effect_scale(units, slopes)
        found["group_scale"] = np.ascontiguousarray(scale[..., order])
        found["group_corr"] = np.ascontiguousarray(corr[..., order, :][..., order])
    return found


def coef_to_user(units: Units) -> np.ndarray:
    """Matrix (p, p) from internal beta to the user's, intercept at X = 0 last, less ``y_mean``."""
    matrix = np.diag(np.append(units.y_scale / units.x_scale, units.y_scale))
    matrix[-1, :-1] = -units.y_scale * units.x_mean / units.x_scale
    return matrix


def effect_scale(units: Units, slopes: tuple[int, ...] | None) -> np.ndarray:
    """Units of y per internal unit of each effect, intercept last."""
    return units.y_scale / np.append(units.x_scale[list(slopes or ())], 1.0)


def intercept_first(q: int) -> list[int]:
    """The user's order of q effects, given the kernels'."""
    return [q - 1, *range(q - 1)]
