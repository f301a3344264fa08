"""Scales with a sign: coordinates in which an effect that hardly varies has no edge at 0.

Where the posterior of a scale reaches down to 0 its logarithm reaches to minus infinity, and what
is known of the effect's correlations depends on it. Take ``L = diag(v) C`` with ``v`` of either
sign, ``tau = |v|``: a change of sign together with the effect's correlations leaves Sigma alone, so
the posterior extends to negative ``v`` as an even function, smooth through 0. Each sign carries
half of it, which leaves the integral, and all that is said of ``tau``, what it was.

In theta a correlation matrix is that of ``tanh`` partial correlations, row by row; a change of an
effect's sign changes the signs of its own and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skhier.inference.importance import covariance_root
from skhier.inference.mode import Laplace
from skhier.kernels.records import ModelSpec
from skhier.responses.numerics import TINY

__all__ = ["Signs", "no_signs", "places_of_factor", "scale_entries", "signs_for"]


class Signs(NamedTuple):
    """Which entries of theta are signed scales, and what changes sign with them.

    Attributes
    ----------
    signed : bool array of shape (d,)
    flips : array of shape (d, d)
        1 where the entry of the row changes sign with the signed scale of the column.
    """

    signed: np.ndarray
    flips: np.ndarray

    @property
    def are_plain(self) -> bool:
        """Whether these are the coordinates of theta itself."""
        return not self.signed.any()

    def to_theta(self, points: np.ndarray) -> np.ndarray:
        """Theta, whose scales are logarithms, at points (..., d) of these coordinates."""
        if self.are_plain:
            return points
        log_scale = np.log(np.maximum(np.abs(points), TINY))
        return np.where(self.signed, log_scale, points * self._parity(points < 0))

    def log_volume(self, points: np.ndarray) -> np.ndarray:
        """What the log density gains in these coordinates, (n,); each sign counts one half."""
        of_signed = np.abs(points[:, self.signed])
        return -np.log(2 * np.maximum(of_signed, TINY)).sum(1)

    def density(
        self, log_densities: Callable[[np.ndarray], np.ndarray]
    ) -> Callable[[np.ndarray], np.ndarray]:
        """The log density of these coordinates, from that of theta."""
        return lambda points: log_densities(self.to_theta(points)) + self.log_volume(points)

    def pulled_back(self, points: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Gradients (n, d) of the log density of these coordinates, from theta's there."""
        parity = self._parity(points < 0)
        return np.where(
            self.signed, (slopes - 1) / np.where(self.signed, points, 1), slopes * parity
        )

    def flipped(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same points of the posterior, each sign either with equal chances."""
        if self.are_plain:
            return points
        return points * self._parity(rng.integers(2, size=points.shape))

    def _parity(self, negative):
        return 1 - 2 * ((negative @ self.flips.T) % 2)

    def even(self, normal: Laplace) -> Laplace:
        """The normal with the moments that are left if every sign is either with equal chances.

        What changes sign has mean 0, and covaries only with what changes sign just as it does.
        """
        if self.are_plain:
            return normal
        changes = self.flips.any(1)
        mean = np.where(changes, 0.0, normal.mean)
        off = normal.mean - mean
        _, kind = np.unique(self.flips[:, self.signed], axis=0, return_inverse=True)
        alike = kind.reshape(-1, 1) == kind.ravel()
        cov = alike * (normal.root @ normal.root.T + np.outer(off, off))
        return Laplace(mean, covariance_root(cov))

    def from_theta(self, normal: Laplace) -> Laplace:
        """A normal approximation in theta carried over, to first order, to these coordinates."""
        scale = np.where(self.signed, np.exp(normal.mean), 1.0)
        mean = np.where(self.signed, scale, normal.mean)
        return self.even(Laplace(mean, scale[:, None] * normal.root))


def no_signs(size: int) -> Signs:
    """Theta itself."""
    return Signs(np.zeros(size, bool), np.zeros((size, size)))


def scale_entries(spec: ModelSpec, sites: dict[str, range]) -> list[dict[int, int]]:
    """Per factor, the entry of theta of each effect's scale, where it has one of its own."""
    return [
        {
            effect: place
            for i, block in enumerate(getattr(factor.covariance, "scale_blocks", ()))
            for effect, place in zip(block, sites.get(f"group_scale_{k}_{i}", ()), strict=False)
        }
        for k, factor in enumerate(spec.factors)
    ]


def places_of_factor(spec: ModelSpec, sites: dict[str, range], k: int) -> np.ndarray | None:
    """Where the k-th factor's scales stand in theta, on the diagonal, and its partial correlations,
    below, (q, q); None where it has none or an effect has no scale of its own.
    """
    scales, q = scale_entries(spec, sites)[k], spec.factors[k].n_effects
    corr = sites.get(f"group_corr_chol_{k}")
    if corr is None or len(scales) < q:
        return None
    places = np.zeros((q, q), int)
    places[np.tril_indices(q, -1)] = corr
    places[np.diag_indices(q)] = [scales[effect] for effect in range(q)]
    return places


def signs_for(spec: ModelSpec, sites: dict[str, range], signed: np.ndarray) -> Signs:
    """The signs of some scales.

    Parameters
    ----------
    spec : ModelSpec
    sites : dict of str to range
        Entries of theta of each site of the model.
    signed : bool array of shape (d,)
        Scales, as :func:`scale_entries` has them.
    """
    flips = np.diag(signed.astype(float))
    for k, places in enumerate(scale_entries(spec, sites)):
        corr, q = sites.get(f"group_corr_chol_{k}"), spec.factors[k].n_effects
        if corr is None or not places:
            continue
        for entry, row, column in zip(corr, *np.tril_indices(q, -1), strict=True):
            for effect in (int(row), int(column)):
                flips[entry, places[effect]] = signed[places[effect]]
    return Signs(signed, flips)
