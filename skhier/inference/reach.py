"""As far as importance sampling carries: which coordinates, how many rounds, how many points.

Measured shapes and sizes of the weights decide, not the number of parameters. Where scales may be 0
they get a sign: :mod:`skhier.inference.signs`; where many vary, :mod:`skhier.inference.bartlett`.
More points where only their number is short; an end where further rounds would not help, so that
chains are not kept waiting.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from skhier.inference import importance as weights
from skhier.inference.bartlett import Bartlett
from skhier.inference.centring import centred
from skhier.inference.importance import (
    Mixture,
    WeightedPoints,
    fitted_mixture,
    importance_of_scales,
    pooled,
    steadied,
    weighted_points,
)
from skhier.inference.signs import Signs, no_signs
from skhier.inference.theta import Theta
from skhier.utils.budget import ImportanceBudget

__all__ = ["Reached", "reach"]


class Reached(NamedTuple):
    """Weighted points of theta, or where its modes are.

    Attributes
    ----------
    weighted : WeightedPoints or None
        In theta; None: no weights to rely on.
    k_hat : float
        Of the round that was best, if none was good; of those in theta itself if there were any.
    coordinates : Signs or Bartlett
        Of ``modes``.
    modes : Mixture
        Fitted to the weighted points if they are good for that.
    """

    weighted: WeightedPoints | None
    k_hat: float
    coordinates: Signs | Bartlett
    modes: Mixture


def reach(
    theta: Theta,
    modes: Mixture,
    n_points: int,
    min_ess: float,
    rng: np.random.Generator,
    ess_of_chains: float | None = None,
    good_ess: float = 0.0,
) -> Reached:
    """Importance sampling of theta from its modes.

    Parameters
    ----------
    theta : Theta
    modes : Mixture
    n_points : int
        As many as are wanted in the end, if their weights are good; a power of two.
    min_ess : float
    rng : Generator
    ess_of_chains : float or None
        Effective points of a long theta that stand for chains; None: ``min_ess``.
    good_ess : float
        Effective points of a short theta that are worth another round.
    """
    budget, sds = theta.budget.importance, np.sqrt((modes.roots[0] ** 2).sum(1))
    near_zero = sds > budget.near_zero
    if theta.size > budget.plain_size and len(modes.shares) == 1:
        coordinates = theta.bartlett(modes.means[0], near_zero)
        if coordinates is not None:
            enough = min_ess if ess_of_chains is None else ess_of_chains
            return _from_one_proposal(theta, coordinates, modes, n_points, enough, rng)
    signs = _signs(theta, modes, near_zero)
    if theta.size > theta.budget.engine.max_importance_size:
        return Reached(None, np.nan, signs, _carried_over(modes, signs))
    if theta.size > budget.plain_size or signs.signed.any():
        return _rounds(theta, modes, signs, n_points, min_ess, rng)
    how = theta.scales, n_points, rng, budget, good_ess
    weighted = importance_of_scales(theta.log_densities, modes, *how)
    modes = fitted_mixture(weighted)
    if weights.trustworthy(weighted, min_ess):
        return Reached(weighted, weighted.k_hat, signs, modes)
    reached = _rounds(theta, modes, signs, n_points, min_ess, rng)
    return reached if reached.weighted is not None else reached._replace(k_hat=weighted.k_hat)


class _Begun(NamedTuple):
    """A proposal, and what its points say of it so far."""

    coordinates: Signs | Bartlett
    proposal: Mixture
    budget: ImportanceBudget
    drawn: WeightedPoints

    def missing(self, min_ess) -> float:
        """Points, to be so many effective ones."""
        drawn = self.drawn
        return len(drawn.points) * (self.budget.margin * min_ess / drawn.ess - 1)

    def with_more(self, theta, n, rng) -> _Begun:
        """The same with n points more."""
        density = self.coordinates.density(theta.log_densities)
        of_self = self.proposal, n, rng, self.budget, self.drawn
        return self._replace(drawn=weighted_points(density, *of_self))


def _from_one_proposal(theta, coordinates, modes, n_points, min_ess, rng) -> Reached:
    """In Bartlett's coordinates or, where they do badly, in scales and partial correlations of the
    same frame. A proposal there is as good at once as its rounds would make it, and what may be
    missing is points.
    """
    budget = theta.budget.importance
    if theta.size > theta.budget.engine.max_importance_size:
        frame = _centred(theta, coordinates, modes, rng) or _carried_over(modes, coordinates)
        return Reached(None, np.nan, coordinates, frame)
    n, left = max(n_points // budget.probe, budget.n_blocks), budget.more_points * n_points
    partials = coordinates.in_partials(), replace(budget, df_per_entry=budget.df_of_partials)
    begun = None
    for of_frame in ((coordinates, budget), partials):
        proposal = _centred(theta, of_frame[0], modes, rng)
        if proposal is None:
            continue
        begun, left = _begun(theta, proposal, *of_frame, n, rng), left - n
        if weights.trustworthy(begun.drawn, 0.0) and begun.missing(min_ess) <= left:
            break
    if begun is None:
        return Reached(None, np.nan, coordinates, _carried_over(modes, coordinates))
    return _with_more_points(theta, begun, left, min_ess, rng)


def _centred(theta, coordinates, modes, rng) -> Mixture | None:
    gradients = coordinates.gradients(theta.gradients)
    begin = coordinates.from_theta(modes.normals()[0])
    budgets = theta.budget.importance, theta.budget.search
    normal = centred(gradients, begin, rng, *budgets)
    return None if normal is None else steadied(modes.with_normals([coordinates.even(normal)]))


def _begun(theta, proposal, coordinates, budget, n, rng) -> _Begun:
    density = coordinates.density(theta.log_densities)
    drawn = weighted_points(density, proposal, n, rng, budget)
    return _Begun(coordinates, proposal, budget, drawn)


def _with_more_points(theta, begun, left, min_ess, rng) -> Reached:
    """At most ``left`` more, and none if these would not be enough."""
    budget = begun.budget
    while not weights.trustworthy(begun.drawn, min_ess):
        missing, n_drawn = begun.missing(min_ess), len(begun.drawn.points)
        is_poor = begun.drawn.k_hat > budget.poor_k_hat
        if is_poor or max(missing, budget.n_blocks) > left:
            return Reached(None, begun.drawn.k_hat, begun.coordinates, begun.proposal)
        wanted = np.ceil(np.log2(max(n_drawn, missing)))
        n = int(2 ** min(wanted, np.floor(np.log2(left))))
        begun, left = begun.with_more(theta, n, rng), left - n
    drawn, coordinates = begun.drawn, begun.coordinates
    in_theta = _in_theta(drawn, coordinates)
    return Reached(in_theta, drawn.k_hat, coordinates, fitted_mixture(drawn))


def _signs(theta, modes, near_zero) -> Signs:
    """Of the scales that may be 0, where the posterior has a single mode; of a few in a short theta
    logarithms do.
    """
    if len(modes.shares) > 1:
        return no_signs(theta.size)
    budget, signs = theta.budget.importance, theta.signs(near_zero)
    few = theta.size <= budget.plain_size and signs.signed.sum() < budget.many_signs
    return no_signs(theta.size) if few else signs


def _rounds(theta, modes, signs, n_points, min_ess, rng) -> Reached:
    budget, fitted = theta.budget.importance, partial(_fitted, signs)
    density = signs.density(theta.log_densities)
    begin = proposal = _carried_over(modes, signs)
    rounds: list[WeightedPoints] = []
    trusted: WeightedPoints | None = None
    best: _Begun | None = None
    total, best_share = 0, 0.0
    is_long = theta.size > budget.plain_size
    n = max(n_points // budget.probe, budget.n_blocks) if is_long else n_points
    while total + n <= budget.more_points * n_points:
        last = weighted_points(density, proposal, n, rng, budget)
        rounds, total = [*rounds, last], total + n
        if n >= n_points and weights.trustworthy(last, min_ess):
            better = trusted is None or last.ess > budget.min_gain * trusted.ess
            trusted = max([last, *([trusted] if trusted else [])], key=lambda one: one.ess)
            enough = min(budget.good_efficiency * n, budget.plenty * min_ess)
            # of a short theta another round costs little
            if is_long or last.ess >= enough or not better:
                break
        share = last.ess / n
        gained = share > budget.round_gain * best_share
        if share > best_share and weights.trustworthy(last, 0.0):
            best_share, best = share, _Begun(signs, proposal, budget, last)
        if _is_hopeless(last, gained, budget):
            break
        wanted = 2 ** np.ceil(np.log2(budget.margin * min_ess / max(best_share, 1 / n)))
        proposal = fitted(pooled(rounds))
        if gained:
            n = max(n, n_points)
        elif wanted <= 2 * max(n, n_points):  # refitting from few points may make it worse
            proposal, n = best.proposal if best else begin, max(int(wanted), n_points)
        else:
            n *= 2
    if trusted is not None:
        return Reached(_in_theta(trusted, signs), trusted.k_hat, signs, fitted(trusted))
    if best is not None:  # chains cost more than as many points again
        reached = _with_more_points(theta, best, budget.more_points * n_points, min_ess, rng)
        if reached.weighted is not None:
            return reached
    largest = max(rounds, key=lambda last: last.ess)
    is_frame = largest.ess >= budget.frame_ess * theta.size
    return Reached(None, largest.k_hat, signs, fitted(pooled(rounds)) if is_frame else begin)


def _carried_over(modes, coordinates) -> Mixture:
    return modes.with_normals([coordinates.from_theta(normal) for normal in modes.normals()])


def _fitted(signs, weighted) -> Mixture:
    mixture = fitted_mixture(weighted)
    return mixture.with_normals([signs.even(normal) for normal in mixture.normals()])


def _is_hopeless(last, gained, budget) -> bool:
    """Far from the proposal, or poor and no better than a round before."""
    share = last.ess / len(last.points)
    far = last.k_hat > budget.hopeless_k_hat and share < budget.hopeless_share
    return far or (last.k_hat > budget.poor_k_hat and not gained)


def _in_theta(weighted, coordinates) -> WeightedPoints:
    return weighted._replace(
        points=coordinates.to_theta(weighted.points),
        log_density=weighted.log_density - coordinates.log_volume(weighted.points),
    )
