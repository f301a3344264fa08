"""From internal coordinates to the user's units; there the effects have the intercept first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skhier.kernels.records import Population
from skhier.responses.base import Response
from skhier.statistics.records import Units

__all__ = [
    "coef_to_user",
    "effects_to_user",
    "in_user_units",
    "intercept_first",
    "scale_and_directions",
]


def in_user_units(
    population: Population, units: Units, slopes: Sequence[tuple[int, ...]], response: Response
) -> dict[str, np.ndarray]:
    """Population parameters, whatever their leading axes.

    Returns
    -------
    dict
        ``intercept`` (at X = 0), ``coef``, the response's own; of the k-th factor ``group_scale_k``
        (..., q) and ``group_corr_k`` (..., q, q), intercept first.
    """
    coef = population.coef[..., :-1]
    at_zero = population.coef[..., -1] - coef @ (units.x_mean / units.x_scale)
    parameters = {
        "intercept": units.y_mean + units.y_scale * at_zero,
        "coef": coef * (units.y_scale / units.x_scale),
        **response.scaled(population.own, units.y_scale),
    }
    for k, varying in enumerate(slopes):
        order = intercept_first(len(varying) + 1)
        root = effects_to_user(units, k, varying) @ population.group_root[k]
        scale, directions = scale_and_directions(root)
        corr = directions @ np.swapaxes(directions, -1, -2)
        parameters[f"group_scale_{k}"] = np.ascontiguousarray(scale[..., order])
        parameters[f"group_corr_{k}"] = np.ascontiguousarray(corr[..., order, :][..., order])
    return parameters


def coef_to_user(units: Units) -> np.ndarray:
    """Matrix (p, p) from internal beta to the user's, intercept at X = 0 last, less ``y_mean``."""
    matrix = np.diag(np.append(units.y_scale / units.x_scale, units.y_scale))
    matrix[-1, :-1] = -units.y_scale * units.x_mean / units.x_scale
    return matrix


def effects_to_user(
    units: Units, k: int, slopes: tuple[int, ...], at_mean: bool = False
) -> np.ndarray:
    """Matrix (q, q) from a factor's internal effects to the user's, intercept last.

    The internal intercept is the one at the mean of x; the user's is that at X = 0, or with
    ``at_mean`` also the one at the mean.
    """
    scale = units.y_scale / np.append(units.x_scale[list(slopes)], 1.0)
    return np.diag(scale) if at_mean else scale[:, None] * np.linalg.inv(units.effects_at_mean[k])


def scale_and_directions(root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations (..., q), and the root of the correlations (..., q, q), of a covariance.

    ``root`` (..., q, q) is any square root of it. An effect without spread has no correlation.
    """
    scale = np.sqrt((root**2).sum(-1))
    spread = scale[..., None] > 0
    directions = root / np.where(spread, scale[..., None], 1.0)
    return scale, np.where(spread, directions, np.eye(root.shape[-1]))


def intercept_first(q: int) -> list[int]:
    """The user's order of q effects, given the kernels'."""
    return [q - 1, *range(q - 1)]
