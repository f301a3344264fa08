"""Designs of `dense` as the kernels take them: statistics in internal coordinates."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from dense import DESIGNS, Design, Prior, Theta, n_levels, random_theta, split

from skhier.kernels.records import CoefPrior, Population
from skhier.responses.normal import SCALE
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.plan import elimination_plan
from skhier.statistics.products import group_stats, level_pairs
from skhier.statistics.records import FactorStats, GroupStats, Plan, Units
from skhier.statistics.units import internal_units

__all__ = [
    "CHAINS",
    "CROSSINGS",
    "EVERY",
    "Reduced",
    "coef_prior",
    "conditioned",
    "normal_prior",
    "places",
    "population",
    "problem",
    "reduce",
    "relabelled",
    "stacked",
    "thetas",
    "with_empty_levels",
]


class Reduced(NamedTuple):
    """Rows in internal coordinates, and what the kernels see of them."""

    design: Design
    stats: GroupStats
    units: Units
    plan: Plan


def reduce(design: Design) -> Reduced:
    """Rows become statistics."""
    weights, codes = design.weights.astype(float), np.column_stack(design.codes)
    of_x, of_y = mean_sd_of_rows(design.x, weights), mean_sd_of_rows(design.y[:, None], weights)
    units = internal_units(of_x, of_y, design.slopes)
    sizes, pairs = n_levels(design), level_pairs(codes)
    rows = design.x, design.y, weights, codes
    stats = group_stats(*rows, sizes, design.slopes, units, pairs)
    x, y = (design.x - units.x_mean) / units.x_scale, (design.y - units.y_mean) / units.y_scale
    return Reduced(design._replace(x=x, y=y), stats, units, elimination_plan(stats))


def _rows(rng, codes, slopes, n_features=1, weights=None) -> Design:
    """Rows whose effects are as large as their noise."""
    codes = [np.unique(c, return_inverse=True)[1] for c in codes]
    n = len(codes[0])
    x = rng.normal(size=(n, n_features)) + 0.5
    y = x.sum(1) + rng.normal(size=n) + sum(rng.normal(size=c.max() + 1)[c] for c in codes)
    return Design(x, y, np.ones(n, int) if weights is None else weights, codes, slopes)


def one(rng):
    """One factor, weighted rows."""
    codes = rng.integers(7, size=40)
    return _rows(rng, [codes], [(0,)], weights=rng.integers(1, 4, 40))


def nested_unevenly(rng):
    """Parents of 4, 3 and 8 children: a row of seats for children stays empty here and there."""
    child = np.append(np.arange(15), rng.integers(15, size=45))
    return _rows(rng, [np.repeat([0, 1, 2], [4, 3, 8])[child], child], [(0,), ()])


def deep_in_crossed(rng):
    """Three nested factors, unevenly, and two crossed with all of them and with each other."""
    child = np.append(np.arange(30), rng.integers(30, size=50))
    parent = np.repeat([0, 1, 2, 3, 4], [8, 4, 7, 3, 8])[child]
    crossed = [rng.integers(5, size=80), rng.integers(4, size=80)]
    codes = [crossed[0], parent, child, crossed[1], parent // 2]
    slopes = [(1,), (), (0,), (0,), (1,)]
    return _rows(rng, codes, slopes, n_features=2, weights=rng.integers(1, 3, 80))


def many_effects(rng):
    """Five effects of each level, of a nested factor, its parent and a crossed one."""
    child, slopes = np.append(np.arange(12), rng.integers(12, size=60)), (0, 1, 2, 3)
    codes = [child // 3, rng.integers(5, size=72), child]
    return _rows(rng, codes, [slopes, slopes, slopes], n_features=4)


EVERY: dict[str, Callable[[np.random.Generator], Design]] = DESIGNS | {
    maker.__name__: maker for maker in (one, nested_unevenly, deep_in_crossed, many_effects)
}
CROSSINGS = [
    "crossed",
    "partially_crossed",
    "three_crossed",
    "unbalanced",
    "weighted",
    "disconnected",
    "deep_in_crossed",
    "many_effects",
]
CHAINS = [name for name in EVERY if name not in CROSSINGS]


def problem(name: str) -> Reduced:
    """A design by its name."""
    return reduce(EVERY[name](np.random.default_rng(0)))


def thetas(design: Design, n: int = 3) -> list[Theta]:
    """Random variance parameters; of the last the first factor's effects do not vary."""
    rng = np.random.default_rng(1)
    found = [random_theta(design, rng) for _ in range(n)]
    found[-1].chols[0][:] = 0
    return found


def normal_prior(design: Design) -> Prior:
    """With correlations."""
    rng = np.random.default_rng(2)
    p = design.x.shape[1] + 1
    root = np.eye(p) + np.tril(rng.normal(scale=0.3, size=(p, p)), -1)
    return Prior(rng.normal(size=p), root @ root.T)


def coef_prior(prior: Prior) -> CoefPrior:
    """All coefficients integrated out."""
    root = np.linalg.cholesky(prior.cov)
    inverse, p = np.linalg.inv(root), len(root)
    rows = np.column_stack([inverse, inverse @ prior.mean])
    return CoefPrior(np.eye(p), np.zeros(p), rows, np.linalg.slogdet(root)[1])


def population(beta, sigma, chols) -> Population:
    """Of the normal response."""
    return Population(beta, tuple(chols), {SCALE: sigma})


def with_empty_levels(stats: GroupStats, n: int = 1) -> GroupStats:
    """Levels without rows after the others, of every factor."""
    factors = [
        FactorStats(*(np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, n)]) for a in found))
        for found in stats.factors
    ]
    return stats._replace(factors=tuple(factors))


def relabelled(design: Design) -> Design:
    """The same rows in another order, and the levels numbered in another way."""
    rng = np.random.default_rng(3)
    order = rng.permutation(len(design.y))
    codes = [
        rng.permutation(size)[old][order]
        for size, old in zip(n_levels(design), design.codes, strict=True)
    ]
    x, y, weights = (a[order] for a in design[:3])
    return Design(x, y, weights, codes, design.slopes)


def stacked(points: list[Theta]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Noise, and per factor the square roots, of several points."""
    chols = zip(*(theta.chols for theta in points), strict=True)
    return np.array([theta.sigma for theta in points]), tuple(map(np.stack, chols))


def places(design: Design) -> tuple[np.ndarray, list[np.ndarray]]:
    """Where beta, and the effects of each factor (levels, q), stand in the dense posterior."""
    n_effects = sum(
        size * (len(slopes) + 1)
        for size, slopes in zip(n_levels(design), design.slopes, strict=True)
    )
    return split(design, np.arange(design.x.shape[1] + 1 + n_effects))


def conditioned(mean, cov, known, values, wanted) -> tuple[np.ndarray, np.ndarray]:
    """Moments of some entries of a normal vector given others."""
    gain = np.linalg.solve(cov[np.ix_(known, known)], cov[np.ix_(known, wanted)]).T
    rest = cov[np.ix_(wanted, wanted)] - gain @ cov[np.ix_(known, wanted)]
    return mean[wanted] + gain @ (values - mean[known]), rest
