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

from skhier.posterior.mixture import mixture_moments, mixture_quantiles
from skhier.posterior.own_nodes import own_nodes
from skhier.posterior.reached import reached
from skhier.responses.base import Response
from skhier.utils.budget import MemoryBudget
from skhier.utils.slices import slices

__all__ = ["GRID_REACH", "GRID_STEP", "quantiles_of_sums"]

MOST_VARYING = 2  # own parameters with nodes
NOISE_WIDTH = (
    0.5  # of the noise's scale: a width that heavy tails, whose functions have poles, have too
)
GRID_STEP = 1.25  # of a grid, in widths of what varies fastest: an error below 1e-5
GRID_REACH = 5.0  # sds of each normal
MOST_POINTS = 96  # of a grid over the line; more are fewer in tails
MOST_IN_TAILS = 2048
SINH_STEP = 0.3  # of v
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
    line = mean, sd, shares
    size, in_tails = _sizes(mean, sd, NOISE_WIDTH * noise.scale)
    for of_size in np.unique(size[size > 0]):
        rows = np.flatnonzero(size == of_size)
        for part in slices(len(rows), max(budget.line_entries // (len(mean) * of_size), 1)):
            at = rows[part]
            points = _on_grid(line, of_size, at)
            centre, variance = mixture_moments(mean[:, at], sd[:, at], weights)
            spread = np.sqrt(variance + noise.scale**2)
            for j, level in enumerate(q):
                start = centre + spread * ndtri(level)
                out[at, j] = _reached(noise, points, level, start, 0.3 * spread)
    for of_size in np.unique(in_tails[in_tails > 0]):
        rows = np.flatnonzero(in_tails == of_size)
        for part in slices(len(rows), max(budget.line_entries // (len(mean) * of_size), 1)):
            out[rows[part]] = _in_tails(noise, line, weights, of_size, q, rows[part])
    return out, (size == 0) & (in_tails == 0)


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
    low, high = (mean - GRID_REACH * sd).min(0), (mean + GRID_REACH * sd).max(0)
    narrowest = sd.min(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = (high - low) / (GRID_STEP * narrowest * width / np.hypot(narrowest, width))
        step = np.minimum(SINH_STEP, GRID_STEP * narrowest / (high - low))
        of_tails = 2 * np.arcsinh((high - low) / width) / step
    size = _rounded(wanted, MOST_POINTS, 4)
    return size, np.where(size == 0, _rounded(of_tails, MOST_IN_TAILS, 32), 0)


def _rounded(wanted, most, to):
    rounded = to * np.ceil(np.minimum(wanted, most) / to) + 1
    return np.where(wanted <= most, rounded, 0).astype(int)


def _on_grid(line, size, rows) -> _Points:
    mean, sd, shares = line[0][:, rows], line[1][:, rows], line[2]
    low, high = (mean - GRID_REACH * sd).min(0), (mean + GRID_REACH * sd).max(0)
    at = low + (high - low) * np.linspace(0, 1, size)[:, None]
    return _Points(at, _shares(at, mean, sd, shares, 1.0))


def _shares(at, mean, sd, shares, volume):
    """Of the points (J, n) with so much of the line each, sum 1 in each row."""
    density = at - mean[:, None]
    density /= sd[:, None]
    density *= density
    density *= -0.5
    np.exp(density, out=density)
    density /= sd[:, None]
    of_points = np.tensordot(shares, density, 1) * volume
    return of_points / of_points.sum((0, 1))


def _in_tails(noise, line, weights, size, q, rows):
    """Quantiles (n, len(q)) by points around each."""
    mean, sd, shares = line[0][:, rows], line[1][:, rows], line[2]
    low, high = (mean - GRID_REACH * sd).min(0), (mean + GRID_REACH * sd).max(0)
    width = NOISE_WIDTH * noise.scale
    near = mixture_quantiles(mean, np.hypot(sd, noise.scale), q, weights)
    for j, level in enumerate(q):
        for _ in range(RECENTRED):
            middle = np.clip(near[:, j], low, high)
            v = np.linspace(
                np.arcsinh((low - middle) / width), np.arcsinh((high - middle) / width), size
            )
            at = middle + width * np.sinh(v)
            points = _Points(at, _shares(at, mean, sd, shares, np.cosh(v)))
            near[:, j] = _reached(noise, points, level, near[:, j], width)
    return near
