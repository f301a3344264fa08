"""From internal coordinates to the user's units; there the effects have the intercept first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skhier.kernels.records import Hyper
from skhier.statistics.records import Units

__all__ = ["chols_at_mean", "coef_to_user", "effect_scale", "in_user_units", "intercept_first"]


def in_user_units(
    hyper: Hyper, units: Units, slopes: Sequence[tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Population parameters, whatever the leading axes of ``hyper``.

    Returns
    -------
    dict
        ``intercept`` (at X = 0), ``coef``, ``noise_scale``; of the k-th factor ``group_scale_k``
        (..., q) and ``group_corr_k`` (..., q, q), intercept first.
    """
    at_zero = hyper.intercept - hyper.coef @ (units.x_mean / units.x_scale)
    found = {
        "intercept": units.y_mean + units.y_scale * at_zero,
        "coef": hyper.coef * (units.y_scale / units.x_scale),
        "noise_scale": units.y_scale * hyper.noise_scale,
    }
    for k, varying in enumerate(slopes):
        order = intercept_first(len(varying) + 1)
        corr = hyper.corr_chol[k] @ np.swapaxes(hyper.corr_chol[k], -1, -2)
        scale = hyper.group_scale[k] * effect_scale(units, varying)
        found[f"group_scale_{k}"] = np.ascontiguousarray(scale[..., order])
        found[f"group_corr_{k}"] = np.ascontiguousarray(corr[..., order, :][..., order])
    return found


def coef_to_user(units: Units) -> np.ndarray:
    """Matrix (p, p) from internal beta to the user's, intercept at X = 0 last, less ``y_mean``."""
    matrix = np.diag(np.append(units.y_scale / units.x_scale, units.y_scale))
    matrix[-1, :-1] = -units.y_scale * units.x_mean / units.x_scale
    return matrix


def effect_scale(units: Units, slopes: tuple[int, ...]) -> np.ndarray:
    """Units of y per internal unit of each of a factor's effects, intercept last."""
    return units.y_scale / np.append(units.x_scale[list(slopes)], 1.0)


def chols_at_mean(
    units: Units, group_scale: Sequence[np.ndarray], corr_chol: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Per factor: Cholesky factors (n, q, q) with the intercept at the mean of x, internal."""
    return tuple(
        at_mean @ (scale[:, :, None] * corr)
        for at_mean, scale, corr in zip(units.effects_at_mean, group_scale, corr_chol, strict=True)
    )


def intercept_first(q: int) -> list[int]:
    """The user's order of q effects, given the kernels'."""
    return [q - 1, *range(q - 1)]
