"""Where the mean of ``e^(z'b)`` of a level's effects is known under a log link, and in between.

Effects that data bound on one side are no normals, and how far the mean of an exponential of theirs
is from a normal's differs from row to row: a row of the data bounds its own line. So it is known
for several rows ``z``: of values of the features with varying slopes, in sds about their means.
"""

from __future__ import annotations

from itertools import product

import numpy as np

__all__ = ["directions", "multiples", "spacing", "stretch_at"]

ONE_SLOPE = 1.5, (-2, -1, 0, 1, 2)  # a spacing, and multiples of it
SLOPES = 2.5, (-1, 0, 1)


def directions(q: int) -> np.ndarray:
    """Rows ``z`` (D, q) of q effects, the constant last."""
    return multiples(q) * spacing(q)


def multiples(q: int) -> np.ndarray:
    """The same as whole multiples, (D, q), of the :func:`spacing`."""
    rows = product(_grid(q)[1], repeat=q - 1)
    return np.array([(*at, 1) for at in rows], int).reshape(-1, q)


def spacing(q: int) -> np.ndarray:
    """Of the rows' entries, (q,)."""
    return np.append(np.full(q - 1, _grid(q)[0]), 1.0)


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
    spaced, whole = _grid(z.shape[1])
    places = spaced * np.array(whole)
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


def _grid(q):
    return ONE_SLOPE if q <= 2 else SLOPES
