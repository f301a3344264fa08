"""Where a posterior density of a few parameters has its modes, and how wide it is there.

Several starts; each leads to another mode only if the way from it to every known mode passes
through a valley (Ursem 1999, "Multinational evolutionary algorithms"), which takes a few values and
spares the descents that would end where others did.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import Bounds, minimize

from skhier.utils.budget import USUAL, SearchBudget

__all__ = [
    "Derivatives",
    "Laplace",
    "Mode",
    "find_modes",
    "from_gradients",
    "from_values",
    "laplace",
    "lowest",
    "on_other_hills",
]

STEP = 1e-3  # of the differences: rounding and curvature both grow with the number of rows
IMPOSSIBLE = 1e100  # minus a log density that is not finite: a wall with a finite square


class Laplace(NamedTuple):
    """A normal approximation: ``mean`` (d,) and ``root`` (d, d), with covariance ``root root'``."""

    mean: np.ndarray
    root: np.ndarray


class Mode(NamedTuple):
    """A normal approximation and the log density at its mean."""

    normal: Laplace
    log_density: float

    @property
    def log_mass(self) -> float:
        """Log integral of the density, were it as its curvature says."""
        d = len(self.normal.mean)
        log_det = np.linalg.slogdet(self.normal.root)[1]
        return float(self.log_density + log_det + 0.5 * d * np.log(2 * np.pi))


class Derivatives(NamedTuple):
    """Value, gradient (d,) and Hessian (d, d) of a function at a point."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray


def from_values(
    function: Callable[[np.ndarray], np.ndarray], point: np.ndarray, steps: Any = STEP
) -> Derivatives:
    """Derivatives by central differences of values at ``d^2 + d + 1`` points, all at once."""
    d = len(point)
    steps = np.broadcast_to(steps, d)
    one = np.diag(steps)
    i, j = np.triu_indices(d, 1)
    two = one[i] + one[j]
    values = function(point + np.concatenate([np.zeros((1, d)), one, -one, two, -two]))
    centre = values[0]
    with np.errstate(invalid="ignore"):  # infinity less infinity, seen by the caller
        up, down, up2, down2 = np.split(values[1:] - centre, np.cumsum([d, d, len(i)]))
        hessian = np.diag(up + down)
        hessian[i, j] = hessian[j, i] = (up2 + down2 - (up + down)[i] - (up + down)[j]) / 2
    return Derivatives(centre, (up - down) / (2 * steps), hessian / np.outer(steps, steps))


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
    derivatives: Callable[[np.ndarray], Derivatives],
    start: np.ndarray,
    rng: np.random.Generator,
    budget: SearchBudget = USUAL.search,
) -> Laplace:
    """Mode by Newton steps within a trust region, curvature there.

    Parameters
    ----------
    derivatives : callable
        Of the log density, at a point (d,).
    start : array of shape (d,)
    rng : Generator
        Of other starts, where the density is not finite at the first.
    budget : SearchBudget

    Raises
    ------
    RuntimeError
        No point with a finite density and gradient was found.
    """
    return _by_newton(derivatives, start, rng, budget).mode(budget).normal


class _Top(NamedTuple):
    """Where an ascent ended; the curvature of minus the log density is asked for if it is new."""

    point: np.ndarray
    log_density: float
    curvature: Callable[[], np.ndarray]

    def mode(self, budget: SearchBudget) -> Mode:
        normal = Laplace(self.point, _root(self.curvature(), budget.max_sd))
        return Mode(normal, self.log_density)


def _by_gradients(gradients, derivatives, start, rng, budget, is_known=None) -> _Top:
    """L-BFGS: of many parameters a Hessian a step would be most of the work."""

    def downhill(x):
        (value,), (slope,) = gradients(x[None])
        return -value, -slope

    def height(x):
        value, slope = downhill(x)
        return value if np.isfinite(value) and np.isfinite(slope).all() else IMPOSSIBLE

    start = _possible(height, start, rng, budget)
    end, value = lowest(downhill, start, budget, callback=_looks(is_known, budget))
    return _Top(end, -value, lambda: _negative(derivatives(end)).hessian)


def lowest(
    downhill: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    budget: SearchBudget = USUAL.search,
    longest: float = np.inf,
    callback: Any = None,
) -> tuple[np.ndarray, float]:
    """A minimum, by L-BFGS, of a function with places where it is not finite; its value there.

    Such places are a wall a little above the highest value met: against one as high as numbers go
    a line search ends where it began, which looks like a minimum. A descent that ends on a slope
    begins anew from there.

    Parameters
    ----------
    downhill : callable
        Takes a point (d,) to the value and its gradient (d,).
    start : array of shape (d,)
        The value there is finite.
    budget : SearchBudget
    longest : float
        No coordinate gets larger.
    callback : callable or None
        As :func:`scipy.optimize.minimize` has it: ``StopIteration`` ends the search.
    """
    highest, is_over = -np.inf, False

    def walled(x):
        nonlocal highest
        value, slope = downhill(x)
        if np.isfinite(value) and np.isfinite(slope).all():
            highest = max(highest, float(value))
            return value, slope
        return highest + 1.0, np.zeros_like(slope)

    def watched(intermediate_result):
        nonlocal is_over
        try:
            callback(intermediate_result)
        except StopIteration:
            is_over = True
            raise

    how: Any = {"method": "L-BFGS-B", "jac": True, "bounds": Bounds(-longest, longest)}
    how["callback"] = watched if callback else None
    left, value = budget.max_gradients, np.inf
    while not is_over and left > 0:
        of_search: Any = {"maxiter": left, "maxfun": left, "gtol": budget.tolerance}
        descent: Any = minimize(walled, start, options=of_search, **how)
        gain = value - float(descent.fun)
        start, value, left = descent.x, float(descent.fun), left - descent.nfev
        slope = start - np.clip(start - descent.jac, -longest, longest)
        is_over |= np.abs(slope).max() <= budget.tolerance or gain < budget.tolerance
    return start, value


def _possible(height, start, rng, budget):
    """The start, or a random one if the density is not finite there."""
    for _ in range(budget.start_tries):
        if height(start) < IMPOSSIBLE:
            return start
        start = rng.uniform(-2, 2, len(start))
    raise RuntimeError(
        f"no valid starting point: the log density or its gradient is not finite at "
        f"{budget.start_tries} random points. Check that the priors' supports allow the data."
    )


def _looks(is_known, budget):
    """Ends an ascent, at a look every few steps, on the hill of a mode that is known."""
    steps = count(1)

    def look(intermediate_result):
        if next(steps) % budget.steps_to_look == 0 and is_known(intermediate_result.x):
            raise StopIteration

    return None if is_known is None else look


def _by_newton(derivatives, start, rng, budget, is_known=None) -> _Top:
    last: dict[bytes, Derivatives] = {}

    def at(point: Any) -> Derivatives:
        key = point.tobytes()
        if key not in last:
            last.clear()
            last[key] = _negative(derivatives(point))
        return last[key]

    def slope(point: Any) -> np.ndarray:
        here = at(point)  # flat near a mode: the descent ends there
        return here.gradient if _step(here, budget) is None else np.zeros_like(here.gradient)

    start = _possible(lambda x: at(x).value, start, rng, budget)
    descent = minimize(  # type: ignore[call-overload]  # the stubs know no such Hessian
        lambda x: float(at(x).value),
        start,
        jac=slope,
        hess=lambda x: at(x).hessian,
        method="trust-exact",
        tol=budget.tolerance,  # of the gradient
        options={"maxiter": budget.max_iterations},
        callback=_looks(is_known, budget),
    )
    end = at(descent.x)
    step = _step(end, budget)
    if step is None:
        return _Top(descent.x, -float(end.value), lambda: end.hessian)
    height = -float(end.value) - 0.5 * float(end.gradient @ step)
    return _Top(descent.x + step, height, lambda: end.hessian)


def _step(here, budget) -> np.ndarray | None:
    """Newton's, where it is one to a mode that is near; ``here`` is of minus the log density."""
    if not budget.near_mode or here.value >= IMPOSSIBLE:
        return None
    values, vectors = np.linalg.eigh(here.hessian)
    if values[0] <= budget.max_sd**-2:
        return None
    white = vectors.T @ here.gradient / np.sqrt(values)
    is_near = np.linalg.norm(white) <= budget.near_mode
    return -vectors @ (white / np.sqrt(values)) if is_near else None


def find_modes(
    log_densities: Callable[[np.ndarray], np.ndarray],
    derivatives: Callable[[np.ndarray], Derivatives],
    starts: np.ndarray,
    rng: np.random.Generator,
    steps: Any = STEP,
    budget: SearchBudget = USUAL.search,
    gradients: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
) -> list[Mode]:
    """The modes that the starts lead to, the heaviest first.

    Those with ``less_mass`` less than the heaviest are left out. By mass, not by height: a low
    mode may be wide, and heights depend on the coordinates.

    Parameters
    ----------
    log_densities : callable
        Takes (n, d) points to n log densities.
    derivatives : callable
        Of the log density, at a point (d,).
    starts : array of shape (n_starts, d)
    rng : Generator
    steps : float or array of shape (d,)
        Of differences; well below the narrowest width.
    budget : SearchBudget
    gradients : callable or None
        Takes (n, d) points to log densities and their gradients, to go up by; None: Newton steps.

    Raises
    ------
    RuntimeError
        No point with a finite density and gradient was found.
    """
    ascend = partial(_by_gradients, gradients) if gradients else _by_newton
    heights = _finite(log_densities(starts))
    modes = [ascend(derivatives, starts[heights.argmax()], rng, budget).mode(budget)]
    points, heights = _climb(log_densities, starts, heights, steps, budget)
    kept = on_other_hills(log_densities, points, modes[0].normal.mean[None], budget)
    in_vain = 0
    for _ in range(budget.max_descents):
        points, heights = points[kept], heights[kept]
        if not len(points) or in_vain == budget.max_in_vain:
            break
        start = points[heights.argmax()]
        means = np.array([known.normal.mean for known in modes])
        is_known = partial(_is_on_hill, log_densities, means, budget)
        end = ascend(derivatives, start, rng, budget, is_known)
        if not is_known(end.point):
            modes, in_vain, top = [*modes, end.mode(budget)], 0, end.point
        else:  # a curved hill: others there look as far away
            in_vain, top = in_vain + 1, start
        kept = on_other_hills(log_densities, points, top[None], budget)
    modes.sort(key=lambda mode: -mode.log_mass)
    # also where a mass is not finite, of which later steps say so
    return [mode for mode in modes if not mode.log_mass < modes[0].log_mass - budget.less_mass]


def on_other_hills(
    log_densities: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    tops: np.ndarray,
    budget: SearchBudget = USUAL.search,
) -> np.ndarray:
    """Whether a valley lies between a point and each top, shape (n,).

    Parameters
    ----------
    log_densities : callable
    points : array of shape (n, d)
        Those without a finite density are on no hill.
    tops : array of shape (n_tops, d)
    budget : SearchBudget
    """
    n, d = points.shape
    part = np.linspace(0, 1, budget.stops + 2)
    # the points themselves are part of each way: all values come from one call
    ways = points[:, None, None] + part[:, None] * (tops[:, None] - points[:, None, None])
    values = _finite(log_densities(ways.reshape(-1, d))).reshape(n, len(tops), len(part))
    ends = np.minimum(values[..., 0], values[..., -1])
    return (np.isfinite(values[..., 0]) & (values.min(2) < ends - budget.valley)).all(1)


def _is_on_hill(log_densities, tops, budget, point) -> bool:
    """Of any top."""
    return not on_other_hills(log_densities, point[None], tops, budget)[0]


def _climb(log_densities, points, heights, steps, budget):
    """Points some steps further up, by each coordinate's own slope and curvature."""
    points, heights = points[np.isfinite(heights)], heights[np.isfinite(heights)]
    n, d = points.shape
    steps = np.broadcast_to(steps, d)
    offsets = np.concatenate([np.diag(steps), -np.diag(steps)])
    fractions = 0.5 ** np.arange(4)
    for _ in range(budget.climbs):
        around = log_densities((points[:, None] + offsets).reshape(-1, d)).reshape(n, -1)
        with np.errstate(invalid="ignore"):
            ahead, behind = np.split(around - heights[:, None], 2, axis=1)
            slope, curvature = (ahead - behind) / (2 * steps), -(ahead + behind) / steps**2
            step = slope / np.maximum(np.abs(curvature), budget.max_sd**-2)
        longest = budget.longest_climb
        step = np.clip(np.where(np.isfinite(step), step, 0.0), -longest, longest)
        places = points[:, None] + fractions[:, None] * step[:, None]
        values = _finite(log_densities(places.reshape(-1, d))).reshape(n, -1)
        best = values.argmax(1)
        higher = values.max(1) > heights
        points = np.where(higher[:, None], places[np.arange(n), best], points)
        heights = np.maximum(heights, values.max(1))
    return points, heights


def _finite(values):
    """What is not finite is impossible."""
    return np.where(np.isfinite(values), values, -np.inf)


def _negative(derivatives):
    """Of minus the function; a wall where it is not finite."""
    if all(np.isfinite(part).all() for part in derivatives):
        return Derivatives(*(-part for part in derivatives))
    flat = np.zeros_like(derivatives.gradient)
    return Derivatives(IMPOSSIBLE, flat, np.diag(flat))


def _root(curvature, max_sd):
    """A square root of its inverse; directions that are flat, or curved upwards, end at max_sd."""
    values, vectors = np.linalg.eigh(curvature)
    return vectors / np.sqrt(np.maximum(values, max_sd**-2))
