"""Quantiles of new responses at rows whose lines are mixtures of many normals.

The distribution function of y is an average over the line of ``P(Y <= y | line)``, which falls
where the line passes y. Under a log link few points of the line carry it, not nodes of each normal:

* Where y says little of its line all of the line counts. The trapezoidal rule of a smooth function
  is exact to ``e^(-2 (pi w / step)^2)``, w the width of what varies fastest: of the density,
  the narrowest normal's sd, and of the falling function y's own sd on the scale of the line.
* Where y says much, cells around the quantile do, half that sd wide, with the mixture's mass of
  each: what is below all of them counts whole, what is above not at all.

An own parameter differs between the normals and has nodes: :mod:`skhier.posterior.own_nodes`. Noise
added to the line has ways of its own: :mod:`skhier.posterior.noise_sums`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

from skhier.posterior.line_grid import GRID_STEP, ends, grid_sizes, shares_at
from skhier.posterior.mixture import mixture_quantiles
from skhier.posterior.noise_sums import quantiles_of_sums
from skhier.posterior.own_nodes import own_nodes
from skhier.posterior.reached import reached
from skhier.responses.base import Response
from skhier.responses.by_level import SPREAD
from skhier.utils.budget import MemoryBudget
from skhier.utils.hermite import normal_rule
from skhier.utils.slices import slices

__all__ = ["response_quantiles"]

MOST_GRID_POINTS = 128  # where more were needed cells around the quantile are as exact
CELLS, CELL_WIDTH = 41, 0.5  # their number and width, in sds of y on the scale of the line
NODES_OF_NORMAL = 7  # of a normal with nodes of its own
BELOW_ALL = -1.0  # below all values of a response with a link


class _Points(NamedTuple):
    """Points of n quantiles: lines (J, n), own parameters and shares of each of B nodes (B, J, n).

    ``base`` (n,) is the share of lines below all points.
    """

    line: np.ndarray
    own: tuple[dict[str, Any], ...]
    shares: np.ndarray
    base: np.ndarray


class _Line(NamedTuple):
    """Of k rows, each a mixture of C normals; ``own``, ``shares`` (B, C): of the own parameters."""

    mean: np.ndarray
    sd: np.ndarray
    own: tuple[dict[str, Any], ...]
    shares: np.ndarray


def response_quantiles(
    response: Response,
    mean: np.ndarray,
    sd: np.ndarray,
    own: dict[str, np.ndarray],
    weights: np.ndarray,
    q: np.ndarray,
    budget: MemoryBudget,
) -> np.ndarray:
    """Quantiles (k, len(q)) of new responses.

    Of a discrete response the smallest value that has at least that probability up to it.

    Parameters
    ----------
    response : Response
    mean, sd : array of shape (C, k)
        Of the normals that each row's line is a mixture of.
    own : dict of str to array of shape (C, 1) or (C, k)
        Positive.
    weights : array of shape (C,)
        Positive, sum 1.
    q : array of shape (n_levels,)
        In (0, 1).
    budget : MemoryBudget
    """
    if response.link == "identity":
        return _of_sums(response, mean, sd, own, weights, q, budget)
    return _of_points(response, mean, sd, own, weights, q, budget)


def _of_sums(response, mean, sd, own, weights, q, budget):
    """Of noise that is the same at rows of the same own parameters, as those of a level are."""
    own = {name: np.broadcast_to(a, (len(mean), a.shape[1])) for name, a in own.items()}
    n_kinds = max(a.shape[1] for a in own.values())
    every = np.concatenate([np.broadcast_to(a, (len(mean), n_kinds)) for a in own.values()])
    _, first, kind = np.unique(every, axis=1, return_index=True, return_inverse=True)
    kind = np.broadcast_to(kind.ravel(), mean.shape[1])
    out = np.empty((mean.shape[1], len(q)))
    for k, column in enumerate(first):
        rows = np.flatnonzero(kind == k)
        of_kind = {name: a[:, [min(column, a.shape[1] - 1)]] for name, a in own.items()}
        # of a row whose noise is told how those of all levels spread says nothing
        of_noise = {name: a for name, a in of_kind.items() if name != SPREAD}
        line, how = (mean[:, rows], sd[:, rows]), (weights, q, budget)
        values, others = quantiles_of_sums(response, *line, of_noise, *how)
        if others.any():
            line = mean[:, rows[others]], sd[:, rows[others]]
            values[others] = _of_points(response, *line, of_kind, *how)
        out[rows] = values
    return out


def _of_points(response, mean, sd, own, weights, q, budget):
    """By points of the line around quantiles, or of each of its normals."""
    latent = _latent_sd(response, mean, own)
    near = mixture_quantiles(mean, np.hypot(sd, latent), q, weights)
    out = np.empty_like(near)
    varying = [name for name, values in own.items() if np.ptp(values)]
    sizes = np.zeros(near.shape, int)
    line = _Line(mean, sd, (own,), weights[None])
    if response.link == "log" and len(varying) <= 1:
        line = _Line(mean, sd, *own_nodes(own, varying, weights))
        width = np.min([_latent_sd(response, near, of_own) for of_own in line.own], axis=0)
        sizes = _sizes(mean, sd, width)
    for size in np.unique(sizes):
        rows, level = np.nonzero(sizes == size)
        n_entries = len(mean) * abs(size or NODES_OF_NORMAL)
        for part in slices(len(rows), max(budget.line_entries // n_entries, 1)):
            at = rows[part], level[part]
            if size > 0:
                points = _on_grid(line, size, at[0])
            elif size < 0:
                points = _in_cells(line, near[at], width[at], at[0])
            else:
                points = _at_nodes(mean, sd, own, weights, at[0])
            out[at] = _reached(response, points, q[at[1]], near[at], latent[:, at[0]], weights)
    return out


def _reached(response, points, levels, near, latent, weights):
    """Where the average over points reaches each level, (n,)."""

    def below(y, at):
        line, total = points.line[:, at], points.base[at]
        for own, shares in zip(points.own, points.shares, strict=True):
            here = {k: a[:, at] if np.ndim(a) and a.shape[1] > 1 else a for k, a in own.items()}
            total = total + (shares[:, at] * response.cdf(y, line, here)).sum(0)
        return total

    typical = weights @ latent
    if response.link == "identity":
        return reached(below, levels, near, 0.1 * typical, response.discrete)
    start = response.mean(near, {})
    width = response.mean(near + 0.1 * np.minimum(typical, 1.0), {}) - start
    return reached(below, levels, start, width, response.discrete, BELOW_ALL)


def _latent_sd(response, line, own):
    """Sd of y on the scale of the line, of the shape of ``line``; where there is none 1.

    Under a log link of a discrete y as of a mean of at least 1: what is below lies at 0.
    """
    if response.discrete and response.link == "log":
        line = np.maximum(line, 0.0)
    variance = response.latent_variance(own, response.mean(line, own))
    sd = np.sqrt(np.broadcast_to(variance, np.shape(line)))
    return np.where(np.isfinite(sd), sd, 1.0)


def _sizes(mean, sd, width):
    """Points of the grid of each row and level (k, n_levels); -1: cells, 0: each normal's nodes."""
    low, high = ends(mean, sd)
    narrowest = sd.min(0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        fastest = narrowest * width / np.hypot(narrowest, width)
        wanted = (high - low)[:, None] / (GRID_STEP * fastest)
    of_grid = grid_sizes(wanted, MOST_GRID_POINTS)
    return np.where(of_grid > 0, of_grid, np.where(width < narrowest / 2, -1, 0))


def _on_grid(line, size, rows):
    mean, sd = line.mean[:, rows], line.sd[:, rows]
    low, high = ends(mean, sd)
    at = low + (high - low) * np.linspace(0, 1, size)[:, None]
    return _Points(at, line.own, shares_at(at, mean, sd, line.shares), np.zeros(len(rows)))


def _in_cells(line, near, width, rows):
    mean, sd = line.mean[:, rows], line.sd[:, rows]
    edges = near + CELL_WIDTH * width * (np.arange(CELLS + 1) - CELLS / 2)[:, None]
    passed = np.tensordot(line.shares, ndtr((edges - mean[:, None]) / sd[:, None]), 1)
    middles = (edges[1:] + edges[:-1]) / 2
    return _Points(middles, line.own, np.diff(passed, axis=1), passed[:, 0].sum(0))


def _at_nodes(mean, sd, own, weights, rows):
    """Each normal by nodes of its own; a point is one."""
    mean, sd = mean[:, rows], sd[:, rows]
    nodes, of_nodes = normal_rule(NODES_OF_NORMAL if sd.any() else 1)
    line = (mean + nodes[:, None, None] * sd).reshape(-1, len(rows))
    shares = np.broadcast_to((of_nodes[:, None] * weights).reshape(1, -1, 1), (1, *line.shape))
    here = {
        name: np.tile(a[:, rows] if a.shape[1] > 1 else a, (len(nodes), 1))
        for name, a in own.items()
    }
    return _Points(line, (here,), shares, np.zeros(len(rows)))
