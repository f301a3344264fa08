"""Nodes of a response's own parameters, which differ between the components of a posterior.

The average over components of what is smooth in the parameters is that of a polynomial through the
nodes of Gauss rules (Golub and Welsch 1969, Math. Comp. 23), of each principal axis of their logs.
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from typing import Any

import numpy as np

__all__ = ["own_nodes"]

OWN_NODES = 3, 5  # of an axis, the fewer where the sd of its log is below that
NARROW_OWN = 0.15
NO_AXIS = 1e-9  # sds of logs that are rounding


def own_nodes(
    own: dict[str, np.ndarray], varying: list[str], weights: np.ndarray
) -> tuple[tuple[dict[str, Any], ...], np.ndarray]:
    """Own parameters at B nodes, and the share (B, C) that each component has in each of these.

    Parameters
    ----------
    own : dict of str to array of shape (C, 1)
        Positive.
    varying : list of str
        Those that differ between components.
    weights : array of shape (C,)
        Positive, sum 1. The shares sum to it.
    """
    fixed = {name: values[0, 0] for name, values in own.items()}
    if not varying:
        return (fixed,), weights[None]
    values = np.log(np.concatenate([own[name] for name in varying], axis=1))
    centre = weights @ values
    covariance = (weights[:, None] * (values - centre)).T @ (values - centre)
    variances, axes = np.linalg.eigh(covariance)
    axes = axes[:, np.sqrt(np.maximum(variances, 0)) > NO_AXIS]
    along = (values - centre) @ axes
    nodes = [_gauss_nodes(a, weights) for a in along.T]
    of_axes = [
        np.stack([_through_one(at, b, a) for b in range(len(at))])
        for at, a in zip(nodes, along.T, strict=True)
    ]
    shares = reduce(lambda a, b: (a[:, None] * b).reshape(-1, len(weights)), of_axes)
    points = np.exp(centre + np.array(list(product(*nodes))) @ axes.T)
    at = tuple({**fixed, **dict(zip(varying, point, strict=True))} for point in points)
    return at, shares * weights


def _gauss_nodes(values, weights):
    """Nodes of the Gauss rule of a distribution of points, by Lanczos's method."""
    centre = weights @ values
    scale = np.sqrt(weights @ (values - centre) ** 2)
    z, basis = (values - centre) / scale, [np.sqrt(weights / weights.sum())]
    n_nodes = min(OWN_NODES[int(scale > NARROW_OWN)], len(np.unique(values)))
    for _ in range(n_nodes - 1):
        new = z * basis[-1]
        for _ in range(2):  # once more for what rounding left
            new = new - sum((old @ new) * old for old in basis)
        basis.append(new / np.linalg.norm(new))
    every = np.stack(basis)
    return centre + scale * np.linalg.eigvalsh((every * z) @ every.T)


def _through_one(nodes, b, values):
    """The polynomial (Lagrange's) that is 1 at the b-th node and 0 at the others, at values."""
    others = np.delete(nodes, b)
    return np.prod((values[:, None] - others) / (nodes[b] - others), axis=1)
