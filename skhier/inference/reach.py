"""As far as importance sampling carries: which coordinates, how many rounds, how many points.

Measured shapes and sizes of the weights decide, not the number of parameters. Where some scales
may be 0 and the first round in theta is poor, the scales get a sign (:mod:`~.signs`). More points
where only their number is short; an end where further rounds would not help.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skhier.inference.importance import (
    N_BLOCKS,
    Mixture,
    WeightedPoints,
    fitted_mixture,
    importance,
    pooled,
    trustworthy,
    weighted_points,
)
from skhier.inference.signs import Signs, no_signs
from skhier.inference.theta import Theta

__all__ = ["Reached", "reach"]

PLAIN_SIZE = 30  # up to which rounds in theta itself come first
NEAR_ZERO = 0.25  # sd of a log scale: within some 4 sds of 0
HOPELESS_K_HAT, HOPELESS_SHARE = 1.2, 0.01  # of the points, effective ones
POOR_K_HAT = 1.0
MIN_GAIN = 1.2
PROBE = 4  # of a long theta the first round has a fourth of the points
FRAME = 2  # effective points per parameter, from which their covariance is a good frame
MAX_MORE, MARGIN = 8, 1.3  # times the points that are wanted: in all; of what seems to be enough


class Reached(NamedTuple):
    """Weighted points of theta, or where its modes are.

    Attributes
    ----------
    found : WeightedPoints or None
        In theta; None: no weights to rely on.
    k_hat : float
        The best that was seen; NaN: none.
    signs : Signs
        The coordinates of ``modes``.
    modes : Mixture
        Fitted to the weighted points if they are good for that.
    """

    found: WeightedPoints | None
    k_hat: float
    signs: Signs
    modes: Mixture


def reach(
    theta: Theta, modes: Mixture, n_points: int, min_ess: float, rng: np.random.Generator
) -> Reached:
    """Importance sampling of theta from its modes.

    Parameters
    ----------
    theta : Theta
    modes : Mixture
    n_points : int
        As many as are wanted in the end, if their weights are good.
    min_ess : float
    rng : Generator
    """
    plain = no_signs(theta.size)
    signs = signs_near_zero(theta, modes)
    if theta.size <= PLAIN_SIZE:
        needed = min_ess if signs.signed.any() else 0.0
        found = importance(theta.log_densities, modes, n_points, rng, first_ess=needed)
        if trustworthy(found, min_ess):
            return Reached(found, found.k_hat, plain, fitted_mixture(found))
        if not signs.signed.any():
            modes = fitted_mixture(found)
    return _rounds(theta, modes, signs, n_points, min_ess, rng)


def signs_near_zero(theta: Theta, modes: Mixture) -> Signs:
    """Of the scales that may be 0, where the posterior has a single mode."""
    if len(modes.shares) > 1:
        return no_signs(theta.size)
    sds = np.sqrt((modes.roots[0] ** 2).sum(1))
    return theta.signs(sds > NEAR_ZERO)


def _rounds(theta, modes, signs, n_points, min_ess, rng) -> Reached:
    def log_densities(points):
        return theta.log_densities(signs.to_theta(points)) + signs.log_volume(points)

    def fitted(found):
        mixture = fitted_mixture(found)
        normals = [signs.even(normal) for normal in mixture.normals()]
        return mixture.with_normals(normals)

    begin = modes.with_normals([signs.from_theta(normal) for normal in modes.normals()])
    proposal, rounds, total = begin, [], 0
    n = n_points if theta.size <= PLAIN_SIZE else max(n_points // PROBE, N_BLOCKS)
    best_share = 0.0
    while total + n <= MAX_MORE * n_points:
        found = weighted_points(log_densities, proposal, n, rng)
        rounds, total = [*rounds, found], total + n
        if n >= n_points and trustworthy(found, min_ess):
            return Reached(_in_theta(found, signs), found.k_hat, signs, fitted(found))
        share = found.ess / n
        gained = share > MIN_GAIN * best_share
        best_share = max(share, best_share)
        if _is_hopeless(found, share, gained):
            break
        enough = n_points if gained else MARGIN * min_ess / best_share
        n = max(n, n_points, 2 ** int(np.ceil(np.log2(enough))))
        proposal = fitted(pooled(rounds))
    k_hat = min(found.k_hat for found in rounds)
    good = max(found.ess for found in rounds) >= FRAME * theta.size
    return Reached(None, k_hat, signs, fitted(pooled(rounds)) if good else begin)


def _is_hopeless(found, share, gained):
    """Far from a proposal, or poor and no better than the round before."""
    far = found.k_hat > HOPELESS_K_HAT and share < HOPELESS_SHARE
    return far or (found.k_hat > POOR_K_HAT and not gained)


def _in_theta(found, signs) -> WeightedPoints:
    return found._replace(
        points=signs.to_theta(found.points),
        log_density=found.log_density - signs.log_volume(found.points),
    )
