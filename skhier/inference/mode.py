"""Where a posterior density of a few parameters has its mode, and how wide it is there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

__all__ = ["Derivatives", "Laplace", "from_gradients", "from_values", "laplace"]

STEP = 1e-3  # of the differences: rounding and curvature both grow with the number of rows
MAX_SD = 5.0  # theta are logarithms and the like: wider is a flat direction
START_TRIES = 100
IMPOSSIBLE = 1e100
TOLERANCE = 1e-2  # of the gradient, in nats
MAX_ITERATIONS = 200


class Laplace(NamedTuple):
    """A normal approximation: ``mean`` (d,) and ``root`` (d, d), with covariance ``root root'``."""

    mean: np.ndarray
    root: np.ndarray


class Derivatives(NamedTuple):
    """Value, gradient (d,) and Hessian (d, d) of a function at a point."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray


def from_values(function: Callable[[np.ndarray], np.ndarray], point: np.ndarray) -> Derivatives:
    """Derivatives by central differences of values at ``d^2 + d + 1`` points, all at once."""
    d = len(point)
    one = STEP * np.eye(d)
    i, j = np.triu_indices(d, 1)
    two = one[i] + one[j]
    values = function(point + np.concatenate([np.zeros((1, d)), one, -one, two, -two]))
    centre = values[0]
    with np.errstate(invalid="ignore"):  # infinity less infinity, seen by the caller
        up, down, up2, down2 = np.split(values[1:] - centre, np.cumsum([d, d, len(i)]))
        hessian = np.diag(up + down)
        hessian[i, j] = hessian[j, i] = (up2 + down2 - (up + down)[i] - (up + down)[j]) / 2
    return Derivatives(centre, (up - down) / (2 * STEP), hessian / STEP**2)


def from_gradients(
    function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], point: np.ndarray
) -> Derivatives:
    """The same by central differences of the gradient, at ``2 d + 1`` points."""
    offsets = STEP * np.eye(len(point))
    values, gradients = function(np.concatenate([point[None], point + offsets, point - offsets]))
    ahead, behind = np.split(gradients[1:], 2)
    hessian = (ahead - behind) / (2 * STEP)
    return Derivatives(values[0], gradients[0], (hessian + hessian.T) / 2)


def laplace(
    derivatives: Callable[[np.ndarray], Derivatives], start: np.ndarray, rng: np.random.Generator
) -> Laplace:
    """Mode by Newton steps within a trust region, curvature there.

    Parameters
    ----------
    derivatives : callable
        Of the log density, at a point (d,).
    start : array of shape (d,)
    rng : Generator
        Of other starts, where the density is not finite at the first.

    Raises
    ------
    RuntimeError
        No point with a finite density and gradient was found.
    """
    last: dict[bytes, Derivatives] = {}

    def at(point: Any) -> Derivatives:
        key = point.tobytes()
        if key not in last:
            last.clear()
            last[key] = _negative(derivatives(point))
        return last[key]

    for _ in range(START_TRIES):
        if at(start).value < IMPOSSIBLE:
            break
        start = rng.uniform(-2, 2, len(start))
    else:
        raise RuntimeError(
            f"no valid starting point: the log density or its gradient is not finite at "
            f"{START_TRIES} random points. Check that the priors' supports allow the data."
        )
    found = minimize(  # type: ignore[call-overload]  # the stubs know no such Hessian
        lambda x: float(at(x).value),
        start,
        jac=lambda x: at(x).gradient,
        hess=lambda x: at(x).hessian,
        method="trust-exact",
        tol=TOLERANCE,  # of the gradient
        options={"maxiter": MAX_ITERATIONS},
    )
    return Laplace(found.x, _root(at(found.x).hessian))


def _negative(found):
    """Of minus the function; a wall where it is not finite."""
    if all(np.isfinite(part).all() for part in found):
        return Derivatives(*(-part for part in found))
    flat = np.zeros_like(found.gradient)
    return Derivatives(IMPOSSIBLE, flat, np.diag(flat))


def _root(curvature):
    """A square root of its inverse; directions that are flat, or curved upwards, end at MAX_SD."""
    values, vectors = np.linalg.eigh(curvature)
    return vectors / np.sqrt(np.maximum(values, MAX_SD**-2))
