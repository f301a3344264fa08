"""Where the mean of ``e^(z'b)`` of a level's effects is known under a log link, and in between.

Effects that data bound on one side are no normals, and how far the mean of an exponential of theirs
is from a normal's differs from row to row: a row of the data bounds its own line. So it is known
for several rows ``z``: of values of the features with varying slopes, in sds about their means.
"""

from __future__ import annotations

from itertools import product

import numpy as np

__all__ = ["directions", "stretch_at"]

ONE_SLOPE = (-3.0, -1.5, 0.0, 1.5, 3.0)
SLOPES = (-2.5, 0.0, 2.5)


def directions(q: int) -> np.ndarray:
    """Rows ``z`` (D, q) of q effects, the constant last."""
    return np.array([(*at, 1.0) for at in product(_places(q), repeat=q - 1)]).reshape(-1, q)


def stretch_at(stretch: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What is known at :func:`directions` at other rows: linear between, beyond as at the edge.

    Parameters
    ----------
    stretch : array of shape (S, D, K)
    z : array of shape (K, q)

    Returns
    -------
    array of shape (S, K)
    """
    places = np.asarray(_places(z.shape[1]))
    shares = np.ones((len(z), 1))
    for column in z.T[:-1]:
        left = np.clip(np.searchsorted(places, column) - 1, 0, len(places) - 2)
        part = np.clip((column - places[left]) / np.diff(places)[left], 0.0, 1.0)
        of_column = np.zeros((len(z), len(places)))
        rows = np.arange(len(z))
        of_column[rows, left], of_column[rows, left + 1] = 1 - part, part
        shares = np.einsum("kd,kp->kdp", shares, of_column)
        shares = shares.reshape(len(z), shares.shape[1] * shares.shape[2])
    return np.einsum("sdk,kd->sk", stretch, shares)


def _places(q):
    return ONE_SLOPE if q <= 2 else SLOPES
