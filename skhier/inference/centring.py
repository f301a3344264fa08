"""A normal approximation whose mean is the density's and not its mode.

In many dimensions the mode of a skewed density is far from its mean, and few points around it have
a weight; weights that few points have cannot tell the mean. Gradients can: the normal closest to
the density (in the divergence that variational methods take) has E[gradient] = 0. At pairs of
points opposite each other all that is odd in a gradient cancels, its linear part first of all, and
few pairs tell the rest. Opper and Archambeau (2009), Neural Comput. 21.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from skhier.inference.mode import Laplace, find_modes, from_gradients
from skhier.utils.budget import USUAL, ImportanceBudget, SearchBudget

__all__ = ["centred"]

Gradients = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def centred(
    gradients: Gradients,
    normal: Laplace,
    rng: np.random.Generator,
    budget: ImportanceBudget = USUAL.importance,
    search: SearchBudget = USUAL.search,
) -> Laplace | None:
    """The normal approximation, moved to where the gradient's mean under it is 0.

    Where that is far away the curvature is another too; the mode is then sought from there, and the
    curvature taken at it. None where it stays far away: no such normal is like the density.

    Parameters
    ----------
    gradients : callable
        Takes (n, d) points to log densities (n,) and their gradients (n, d).
    normal : Laplace
    rng : Generator
    budget : ImportanceBudget
    search : SearchBudget
    """
    was_far, length = False, 0.0
    for _ in range(budget.centrings):
        step = _mean_gradient(gradients, normal, budget.centring_pairs, rng)
        length = np.sqrt(step @ step)
        if length > budget.far_mean and not was_far:
            normal, was_far = _at_mode(gradients, normal, rng, search), True
            continue
        normal = normal._replace(mean=normal.mean + normal.root @ step)
        if length < budget.near_mean:
            break
    return normal if length <= budget.far_mean else None


def _mean_gradient(gradients, normal, n_pairs, rng):
    """Under the normal, in its own units: how far away the mean is, were its curvature right."""
    half = rng.standard_normal((n_pairs, len(normal.mean)))
    z = np.concatenate([half, -half])
    slopes = gradients(normal.mean + z @ normal.root.T)[1] @ normal.root
    even = (slopes[:n_pairs] + slopes[n_pairs:]) / 2
    possible = np.isfinite(even).all(1)
    return even[possible].mean(0) if possible.any() else np.zeros(len(normal.mean))


def _at_mode(gradients, normal, rng, search):
    """The approximation at the mode, which is sought in the coordinates of the one there is."""

    def in_frame(z):
        values, slopes = gradients(normal.mean + z @ normal.root.T)
        return values, slopes @ normal.root

    start = np.zeros((1, len(normal.mean)))
    (top,) = find_modes(
        lambda z: in_frame(z)[0],
        partial(from_gradients, in_frame),
        start,
        rng,
        budget=replace(search, climbs=0, max_descents=0),
        gradients=in_frame,
    )
    mean, root = top.normal
    return Laplace(normal.mean + normal.root @ mean, normal.root @ root)
