"""Where a posterior density of a few parameters has its mode, and how wide it is there."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

__all__ = ["Laplace", "laplace"]

STEP = 0.02  # of the finite differences, in standard deviations
MAX_SD = 5.0  # theta are logarithms and the like: wider is a flat direction
START_TRIES = 100
IMPOSSIBLE = 1e100


class Laplace(NamedTuple):
    """A normal approximation: ``mean`` (d,) and ``root`` (d, d), with covariance ``root root'``."""

    mean: np.ndarray
    root: np.ndarray


def laplace(
    density_and_gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    size: int,
    rng: np.random.Generator,
) -> Laplace:
    """Mode by BFGS, curvature by central differences of the gradient.

    Parameters
    ----------
    density_and_gradient : callable
        Takes (n, size) points to n log densities and (n, size) gradients.
    size : int
    rng : Generator
        Used if the density is not finite at 0, where the search starts.

    Raises
    ------
    RuntimeError
        No point with a finite density and gradient was found.
    """

    def objective(point):
        value, gradient = density_and_gradient(point[None])
        if np.isfinite(value[0]) and np.isfinite(gradient[0]).all():
            return -value[0], -gradient[0]
        return IMPOSSIBLE, np.zeros(size)

    start = np.zeros(size)
    for _ in range(START_TRIES):
        if objective(start)[0] < IMPOSSIBLE:
            break
        start = rng.uniform(-2, 2, size)
    else:
        raise RuntimeError(
            f"no valid starting point: the log density or its gradient is not finite at "
            f"{START_TRIES} random points. Check that the priors' supports allow the data."
        )
    found = minimize(objective, start, jac=True, method="BFGS")
    sd = np.sqrt(np.clip(np.diagonal(found.hess_inv), 1e-12, MAX_SD**2))
    return Laplace(found.x, _root(_curvature(density_and_gradient, found.x, STEP * sd)))


def _curvature(density_and_gradient, mode, steps):
    """Minus the Hessian at the mode."""
    offsets = np.diag(steps)
    _, gradients = density_and_gradient(np.concatenate([mode + offsets, mode - offsets]))
    ahead, behind = np.split(gradients, 2)
    hessian = (behind - ahead) / (2 * steps[:, None])
    hessian = np.where(np.isfinite(hessian), hessian, 0.0)
    return (hessian + hessian.T) / 2


def _root(curvature):
    """A square root of its inverse; directions that are flat, or curved upwards, end at MAX_SD."""
    values, vectors = np.linalg.eigh(curvature)
    return vectors / np.sqrt(np.maximum(values, MAX_SD**-2))
