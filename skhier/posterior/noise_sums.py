"""Quantiles of a line that is a mixture of normals, plus noise of the same distribution anywhere.

The distribution function of the sum averages the noise's over points of the line, the same for all
levels of a row. The trapezoidal rule is exact to ``e^(-2 (pi w / step)^2)``, w the width of the
narrowest normal and of the noise together (Trefethen and Weideman 2014, SIAM Review 56):

* A grid over all of the line where few points are that near.
* Where noise is far narrower than the line, ``near + w sinh(v)`` and a grid of v: points are near
  each other where the noise's function rises, and farther and farther apart in its tails.

Own parameters, up to two, have nodes; at each one the noise's function is a table, in the inverse
hyperbolic sine of the noise: the tails of any power are smooth in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtri

from skhier.posterior.line_grid import GRID_STEP, ends, grid_sizes, shares_at
from skhier.posterior.mixture import mixture_moments, mixture_quantiles
from skhier.posterior.own_nodes import own_nodes
from skhier.posterior.reached import reached
from skhier.responses.base import Response
from skhier.utils.budget import MemoryBudget
from skhier.utils.slices import slices

__all__ = ["quantiles_of_sums"]

MOST_VARYING = 2  # own parameters with nodes
NOISE_WIDTH = 0.5  # of the noise's scale: heavy tails, whose functions have poles, are as wide
MOST_POINTS = 96  # of a grid over the line; more are fewer in tails
MOST_IN_TAILS = 2048
SINH_STEP = 0.3  # of v
START_WIDTH = 0.3  # sds of a sum, between a quantile and where its search starts
RECENTRED = 2  # times that a quantile is the middle of points that find it
TABLE_STEP, TABLE_REACH = 0.05, 28.0  # of the inverse hyperbolic sine
TABULATED = 1e-9  # from both ends of the table: of levels


class _Noise(NamedTuple):
    """Distribution functions of the noise at B nodes of own parameters.

    ``coefs`` (B, 4, n): of cubic polynomials between places of the table, highest power first.
    """

    scale: float
    coefs: np.ndarray

    def below(self, noise: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Sum over nodes and points of shares (B, J, n) of the functions at noises (J, n)."""
        place = (np.arcsinh(noise / self.scale) + TABLE_REACH) / TABLE_STEP
        place = np.clip(place, 0, self.coefs.shape[-1] - 1e-6)
        interval = place.astype(np.intp)
        off = place - interval
        total = np.zeros(noise.shape)
        for coefs, of_node in zip(self.coefs, shares, strict=True):
            value = coefs[0][interval]
            for coef in coefs[1:]:
                value *= off
                value += coef[interval]
            value *= of_node
            total += value
        return total.sum(0)


class _Line(NamedTuple):
    """Of n rows, each a mixture of C normals; ``shares`` (B, C): of nodes and components."""

    mean: np.ndarray
    sd: np.ndarray
    shares: np.ndarray
    weights: np.ndarray


class _Points(NamedTuple):
    """Of n rows: places of the line (J, n), and their shares of each node (B, J, n)."""

    line: np.ndarray
    shares: np.ndarray


def quantiles_of_sums(
    response: Response,
    mean: np.ndarray,
    sd: np.ndarray,
    own: dict[str, np.ndarray],
    weights: np.ndarray,
    q: np.ndarray,
    budget: MemoryBudget,
) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles (k, len(q)), NaN where points of the line are no way to them; and which these are.

    That is where some normals are far narrower than others, levels are next to 0 or 1, or more than
    two own parameters vary.

    Parameters
    ----------
    response : Response
        With an identity link, continuous.
    mean, sd : array of shape (C, k)
        Of the normals that each row's line is a mixture of.
    own : dict of str to array of shape (C, 1)
        Positive.
    weights : array of shape (C,)
        Positive, sum 1.
    q : array of shape (n_levels,)
    budget : MemoryBudget
    """
    varying = [name for name, values in own.items() if np.ptp(values)]
    out = np.full((mean.shape[1], len(q)), np.nan)
    if len(varying) > MOST_VARYING or q.min() < TABULATED or q.max() > 1 - TABULATED:
        return out, np.ones(len(out), bool)
    nodes, shares = own_nodes(own, varying, weights)
    noise = _tabulated(response, nodes)
    on_grid, in_tails = _sizes(mean, sd, NOISE_WIDTH * noise.scale)
    for sizes, quantiles in ((on_grid, _by_grid), (in_tails, _by_tails)):
        for size in np.unique(sizes[sizes > 0]):
            rows = np.flatnonzero(sizes == size)
            for part in slices(len(rows), max(budget.line_entries // (len(mean) * size), 1)):
                line = _Line(mean[:, rows[part]], sd[:, rows[part]], shares, weights)
                out[rows[part]] = quantiles(noise, line, size, q)
    return out, (on_grid == 0) & (in_tails == 0)


def _by_grid(noise, line, size, q):
    """Quantiles (n, len(q)) by points of all of the line."""
    low, high = ends(line.mean, line.sd)
    at = low + (high - low) * np.linspace(0, 1, size)[:, None]
    points = _Points(at, shares_at(at, line.mean, line.sd, line.shares))
    centre, variance = mixture_moments(line.mean, line.sd, line.weights)
    spread = np.sqrt(variance + noise.scale**2)
    out = np.empty((len(centre), len(q)))
    for j, level in enumerate(q):
        start = centre + spread * ndtri(level)
        out[:, j] = _reached(noise, points, level, start, START_WIDTH * spread)
    return out


def _by_tails(noise, line, size, q):
    """Quantiles (n, len(q)) by points around each."""
    width, (low, high) = NOISE_WIDTH * noise.scale, ends(line.mean, line.sd)
    near = mixture_quantiles(line.mean, np.hypot(line.sd, noise.scale), q, line.weights)
    for j, level in enumerate(q):
        for _ in range(RECENTRED):
            middle = np.clip(near[:, j], low, high)
            first, last = (np.arcsinh((end - middle) / width) for end in (low, high))
            v = np.linspace(first, last, size)
            at = middle + width * np.sinh(v)
            of_points = shares_at(at, line.mean, line.sd, line.shares, np.cosh(v))
            points = _Points(at, of_points)
            near[:, j] = _reached(noise, points, level, near[:, j], width)
    return near


def _reached(noise, points, level, start, width):
    def below(y, at):
        return noise.below(y - points.line[:, at], points.shares[..., at])

    levels, widths = np.full(len(start), level), np.broadcast_to(width, start.shape)
    return reached(below, levels, start, widths, False)


def _tabulated(response, nodes: tuple[dict[str, Any], ...]) -> _Noise:
    scale = float(np.min([response.spread(own) for own in nodes]))
    places = np.arange(-TABLE_REACH, TABLE_REACH + TABLE_STEP / 2, TABLE_STEP)
    noise = scale * np.sinh(places)
    columns = [response.cdf(noise, 0.0, own) for own in nodes]
    coefs = CubicSpline(TABLE_STEP * np.arange(len(places)), np.stack(columns, axis=1)).c
    by_place = TABLE_STEP ** np.arange(3, -1, -1)[:, None, None]
    return _Noise(scale, np.ascontiguousarray(np.moveaxis(coefs * by_place, 2, 0)))


def _sizes(mean, sd, width):
    """Points of each row's grid over its line, and of that in tails; 0: not by it."""
    low, high = ends(mean, sd)
    narrowest = sd.min(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = (high - low) / (GRID_STEP * narrowest * width / np.hypot(narrowest, width))
        step = np.minimum(SINH_STEP, GRID_STEP * narrowest / (high - low))
        of_tails = 2 * np.arcsinh((high - low) / width) / step
    size = grid_sizes(wanted, MOST_POINTS)
    return size, np.where(size == 0, grid_sizes(of_tails, MOST_IN_TAILS, 32), 0)
