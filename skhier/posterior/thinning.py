"""A few components that stand for all: equal weights, chosen for what they say of the line.

Components are taken one after the other, each the one that brings the average of their features
nearest to that of all (herding: Welling 2009, ICML; Chen, Welling and Smola 2010, UAI). Features
are the distribution functions of lines at rows of all kinds of levels, and normal scores of theta
with their products, which stand for the rows that were not asked. Of others of these rows the
distribution functions tell how far the quantiles are from those of all components.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from skhier.kernels.normal.conditional import Components

__all__ = ["Thinned", "theta_features", "thinned_by_lines", "thinned_by_theta"]

FEWEST, MOST, ALL = 64, 1024, 4096
TOLERANCE = 0.01  # of a quantile, in sds
AT = ndtri([0.025, 0.25, 0.75, 0.975])  # where distributions are compared, in sds from the mean
LEAST_DENSITY = 0.02  # times the sd, that a probability is divided by
WIDTH = 64  # of the features, after a random projection
MAX_SQUARED = 2**11  # products of scores


class Thinned(NamedTuple):
    """Components of equal weight, and their quantiles' largest error in sds; NaN: not measured."""

    components: Components
    error: float


def thinned_by_lines(components: Components, mean, variance) -> Thinned:
    """As few as keep the error small, of lines with and without noise.

    Parameters
    ----------
    components : Components
    mean, variance : array of shape (n_rows, S)
        Of lines at rows of all kinds; every third row tells the error.
    """
    weights = components.weights
    noisy = variance + components.sigma**2
    both = [_distributions(weights, mean, v) for v in (variance, noisy)]
    features = np.concatenate(both, axis=0)  # (2 n_rows, n_at, S)
    to_check = np.arange(len(features)) % 3 == 2
    of_lines = _sketch(features[~to_check].reshape(-1, len(weights)).T)
    of_theta = _sketch(theta_features(components))
    size = [np.sqrt(np.mean(weights @ part**2)) or 1.0 for part in (of_lines, of_theta)]
    herd = _Herd(np.concatenate([of_lines, of_theta * (size[0] / size[1])], axis=1), weights)
    checked = features[to_check].reshape(-1, len(weights))
    n = FEWEST
    while n <= min(MOST, len(weights)):
        which = herd.first(n)
        error = float(np.abs(checked[:, which].mean(1)).max())
        if error <= TOLERANCE:
            return Thinned(_equal(components, which), error)
        n *= 2
    which = _systematic(weights, ALL)
    error = float(np.abs(checked[:, which].mean(1)).max())
    return Thinned(_equal(components, which), error)


def thinned_by_theta(components: Components, n: int) -> Thinned:
    """Without a look at lines: of many groups theta varies little, and what follows nearly linearly."""
    herd = _Herd(_sketch(theta_features(components)), components.weights)
    return Thinned(_equal(components, herd.first(n)), float("nan"))


def _equal(components, which):
    """In an order that makes any first few a choice as good."""
    return components.take(which)._replace(weights=np.full(len(which), 1 / len(which)))


def _systematic(weights, n):
    ends = np.cumsum(weights)
    which = np.searchsorted(ends, (np.arange(n) + 0.5) / n * ends[-1])
    return np.minimum(which, len(weights) - 1)


def _distributions(weights, mean, variance):
    """Each component's distribution functions less the mixture's, (n_rows, n_at, S).

    Times what makes of a probability a distance in sds.
    """
    centre = (mean @ weights)[:, None]
    spread = np.sqrt(variance @ weights + (mean - centre) ** 2 @ weights)[:, None]
    z = np.divide(mean - centre, spread, out=np.zeros_like(mean), where=spread > 0)
    sd = np.divide(np.sqrt(variance), spread, out=np.ones_like(mean), where=spread > 0)
    off = (AT[:, None] - z[:, None]) / np.maximum(sd, 1e-9)[:, None]
    below = ndtr(off)
    density = np.exp(-0.5 * off**2) / np.maximum(sd, 1e-9)[:, None] / np.sqrt(2 * np.pi)
    total = np.maximum(density @ weights, LEAST_DENSITY)
    return (below - (below @ weights)[..., None]) / total[..., None]


def theta_features(components: Components) -> np.ndarray:
    """Normal scores of theta and of the coefficients' means, and their products, (S, width).

    Scores have no tails, in which all of the choice would go.
    """
    weights, beta, _, sigma, chols, _ = components
    entries = [c[:, *np.tril_indices(c.shape[1])] for c in chols]
    raw = np.concatenate([sigma[:, None], *entries, beta], axis=1)
    order = np.argsort(raw, axis=0, kind="stable")
    ranks = np.empty_like(raw)
    np.put_along_axis(ranks, order, np.cumsum(weights[order], axis=0), axis=0)
    scores = ndtri(np.clip(ranks - weights[:, None] / 2, 1e-4, 1 - 1e-4))
    scores = scores[:, np.ptp(raw, axis=0) > 0]
    if scores.shape[1] ** 2 > MAX_SQUARED:
        products = scores**2
    else:
        one, two = np.triu_indices(scores.shape[1])
        products = scores[:, one] * scores[:, two] / 2
    features = np.concatenate([scores, products], axis=1)
    return features - weights @ features


def _sketch(features):
    """A few combinations of the columns at random, which keep distances."""
    n = features.shape[1]
    if n <= WIDTH:
        return features
    return features @ (np.random.default_rng(0).standard_normal((n, WIDTH)) / np.sqrt(WIDTH))


class _Herd:
    """Chooses one row of the features after the other, their average near 0."""

    def __init__(self, features, weights):
        self.at = np.flatnonzero(weights > 1e-4 / len(weights))
        self.features = np.ascontiguousarray(features[self.at], dtype=np.float32)
        self.cost = (self.features**2).sum(1)
        self.chosen: list[int] = []

    def first(self, n):
        while len(self.chosen) < n:
            best = int(self.cost.argmin())
            self.cost += 2 * (self.features @ self.features[best])
            self.chosen.append(best)
        return self.at[self.chosen]
