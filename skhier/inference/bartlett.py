"""Covariances of effects that vary, in coordinates where their posterior is nearly normal.

:mod:`skhier.kernels.bartlett` has the coordinates. Correlations and logarithms of scales have
skewed posteriors that depend on each other, the more of them the fewer points have a weight; these
entries are nearly normal and independent for as few as some 20 levels. Normal approximations carry
over with the curvature of the change of coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.mode import STEP, Laplace
from skhier.inference.signs import Signs
from skhier.kernels.bartlett import (
    PartialsOfFactor,
    RootOfFactor,
    pulled_back,
    root_at,
    theta_and_log_volume,
)
from skhier.utils.budget import USUAL
from skhier.utils.slices import slices

__all__ = ["Bartlett", "bartlett_at", "places_taken"]

LEAST_CURVATURE = 0.1  # in units of what it was before the change of coordinates

Gradients = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Bartlett(NamedTuple):
    """Coordinates of theta; the interface is that of :class:`~skhier.inference.signs.Signs`.

    Attributes
    ----------
    factors : tuple of RootOfFactor or PartialsOfFactor
    take : int array of shape (d,)
        See :func:`~skhier.kernels.bartlett.theta_and_log_volume`.
    signs : Signs or None
        Of scales of other factors.
    at_once : int
        Points that are carried over to theta together.
    """

    factors: tuple[RootOfFactor | PartialsOfFactor, ...]
    take: np.ndarray
    signs: Signs | None = None
    at_once: int = USUAL.importance.carried_points

    @property
    def are_plain(self) -> bool:
        """Whether these are the coordinates of theta itself."""
        return False

    def in_partials(self) -> Bartlett:
        """Scales and partial correlations in the same frame, in place of Bartlett's entries."""
        return self._replace(factors=tuple(PartialsOfFactor(*factor) for factor in self.factors))

    def to_theta(self, points: np.ndarray) -> np.ndarray:
        """Theta at points (..., d) of these coordinates."""
        return self._carried(points)[0]

    def log_volume(self, points: np.ndarray) -> np.ndarray:
        """What the log density gains in these coordinates, (n,)."""
        return self._carried(points)[1]

    def density(
        self, log_densities: Callable[[np.ndarray], np.ndarray]
    ) -> Callable[[np.ndarray], np.ndarray]:
        """The log density of these coordinates, from that of theta."""

        def of_points(points):
            theta, log_volume = self._carried(points)
            return log_densities(theta) + log_volume

        return of_points

    def gradients(self, gradients: Gradients) -> Gradients:
        """Log densities (n,) of these coordinates and their gradients (n, d), from theta's."""

        def of_points(points):
            theta, log_volume = self._carried(points)
            values, slopes = gradients(theta)
            unsigned = points if self.signs is None else self.signs.to_theta(points)
            slopes = pulled_back(unsigned, self.factors, slopes, 1.0)
            if self.signs is not None:
                slopes = self.signs.pulled_back(points, slopes)
            return values + log_volume, slopes

        return of_points

    def flipped(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same points of the posterior, each sign either with equal chances."""
        return points if self.signs is None else self.signs.flipped(points, rng)

    def even(self, normal: Laplace) -> Laplace:
        """The normal with the moments that are left if every sign is either."""
        return normal if self.signs is None else self.signs.even(normal)

    def from_theta(self, normal: Laplace) -> Laplace:
        """A normal approximation at a mode in theta, where B is the identity, carried over.

        The change of volume moves the mode by a Newton step and adds its curvature.
        """
        if self.signs is not None:
            normal = self.signs.from_theta(normal)
        d = len(normal.mean)
        mean = normal.mean.copy()
        for places, root, _ in self.factors:
            mean[places[np.tril_indices(len(root))]] = 0.0
        still = np.broadcast_to(mean, (d, d))
        root = np.linalg.solve(pulled_back(still, self.factors, np.eye(d), 0.0), normal.root)

        def slopes(points):
            return pulled_back(points, self.factors, np.zeros(points.shape), 1.0) @ root

        ahead, behind = slopes(mean + STEP * root.T), slopes(mean - STEP * root.T)
        curvature = (ahead - behind) / (2 * STEP)
        values, vectors = np.linalg.eigh(np.eye(d) - (curvature + curvature.T) / 2)
        values = np.maximum(values, LEAST_CURVATURE)
        step = vectors @ (vectors.T @ slopes(mean[None])[0] / values)
        return Laplace(mean + root @ step, root @ (vectors / np.sqrt(values)))

    def _carried(self, points):
        of_signs: Any = 0.0
        if self.signs is not None:
            of_signs = self.signs.log_volume(points.reshape(-1, points.shape[-1]))
            points = self.signs.to_theta(points)
        flat = points.reshape(-1, points.shape[-1])
        parts = [
            theta_and_log_volume(flat[part], self.factors, self.take, np, np.linalg.inv)
            for part in slices(max(len(flat), 1), self.at_once)
        ]
        theta, log_volume = (np.concatenate(part) for part in zip(*parts, strict=True))
        log_volume = log_volume + of_signs
        return theta.reshape(points.shape), log_volume.reshape(points.shape[:-1])


def bartlett_at(
    mode: np.ndarray,
    all_places: Sequence[np.ndarray],
    signs: Signs | None = None,
    at_once: int = USUAL.importance.carried_points,
) -> Bartlett:
    """The coordinates around a mode (d,) of theta of factors with such ``places`` (q, q) in it;
    ``signs`` of scales of other factors; ``at_once``: points that are carried over together.
    """
    factors = tuple(
        RootOfFactor(places, root_at(mode, places), np.ones(len(places))) for places in all_places
    )
    return Bartlett(factors, places_taken(len(mode), all_places), signs, at_once)


def places_taken(size: int, all_places: Sequence[np.ndarray]) -> np.ndarray:
    """``take`` of such a long theta with these places of factors."""
    take, begin = np.arange(size), size
    for places in all_places:
        lower = np.tril_indices(len(places))
        take[places[lower]] = begin + np.ravel_multi_index(lower, places.shape)
        begin += places.size
    return take
