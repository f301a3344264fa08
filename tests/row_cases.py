"""Levels of a few rows, and their effects integrated out on a dense grid: an oracle.

    log p(y_g) = log of the integral of p(y_g | eta = offset + X beta + Z L u) N(u; 0, I) over u

by the trapezoidal rule, which for functions that fall off like a normal is exact to rounding once
the step is below the narrowest sd.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from skhier.kernels.records import Population
from skhier.statistics.rows import arrange_rows
from skhier.utils.budget import USUAL

N_LEVELS = 8
N_GRID = {1: 400, 2: 400, 3: 90}  # a dimension
REACH = 8.5  # sds of the prior


class Rows(NamedTuple):
    """``x`` (n, p), the constant last; ``columns`` of it vary by level."""

    x: np.ndarray
    y: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    columns: tuple[int, ...]

    def blocks(self, n_levels=N_LEVELS, budget=USUAL.rows):
        """As the kernels read them, and the columns that vary."""
        blocks, seats = arrange_rows(
            self.x, self.codes, self.y, self.weights, self.offset, n_levels, budget
        )
        return blocks, blocks.x[list(self.columns)], seats


class Level(NamedTuple):
    """Of one level: log density, mean (q,) and covariance (q, q) of the effects."""

    log_density: float
    mean: np.ndarray
    cov: np.ndarray


def make_rows(response, own, q, size=6, seed=0):
    """Rows of the model, and the population that they are of."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(N_LEVELS), size)
    x = np.column_stack([rng.normal(size=(len(codes), 2)), np.ones(len(codes))])
    columns = ((2,), (0, 2), (0, 1, 2))[q - 1]
    root = np.tril(rng.normal(scale=0.4, size=(q, q)), -1) + np.diag(rng.uniform(0.5, 1.0, q))
    everyone = Population(np.array([0.4, -0.3, 0.5]), (root,), own)
    effects = rng.normal(size=(N_LEVELS, q)) @ root.T
    offset = rng.uniform(-0.3, 0.3, len(codes))
    line = offset + x @ everyone.coef + (x[:, list(columns)] * effects[codes]).sum(1)
    y = response.draw(line, own, rng).astype(float)
    return Rows(x, y, codes, np.ones(len(codes)), offset, columns), everyone


def grid(q):
    """Points (q, n_points) of a product grid and the log of the prior's mass at each."""
    axis = np.linspace(-REACH, REACH, N_GRID[q])
    u = np.stack(np.meshgrid(*[axis] * q, indexing="ij")).reshape(q, -1)
    log_mass = -0.5 * (u**2).sum(0) + q * np.log((axis[1] - axis[0]) / np.sqrt(2 * np.pi))
    return u, log_mass


def level_on_grid(response, rows, everyone, level, left_out=None):
    """The level, without one of its rows if so asked."""
    here = rows.codes == level
    if left_out is not None:
        here[left_out] = False
    u, log_mass = grid(len(rows.columns))
    effects = everyone.group_root[0] @ u
    line = rows.offset[here] + rows.x[here] @ everyone.coef
    total = log_mass
    for i, at in enumerate(np.flatnonzero(here)):
        eta = line[i] + rows.x[at, list(rows.columns)] @ effects
        density = response.log_density(rows.y[at], eta, everyone.own)
        total = total + rows.weights[at] * density
    log_density = logsumexp(total)
    share = np.exp(total - log_density)
    mean = effects @ share
    off = effects - mean[:, None]
    return Level(float(log_density), mean, (off * share) @ off.T)
