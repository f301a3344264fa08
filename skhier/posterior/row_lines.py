"""The line at rows given each component, where moments of levels' effects are all that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from skhier.kernels.rows.directions import stretch_at
from skhier.posterior.designs import OUT, internal_rows, side_of
from skhier.posterior.few import Behind
from skhier.statistics.records import Units
from skhier.utils.slices import slices

__all__ = ["are_new", "row_lines"]


def are_new(codes: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Which codes (n,) of a factor are of levels without rows.

    ``present`` (n_levels + 1,): whether each known level has rows, and False for all others.
    """
    return (codes != OUT) & ~present[np.minimum(codes, len(present) - 1)]


def row_lines(
    behind: Behind,
    units: Units,
    slopes: Sequence[Sequence[int]],
    present: Sequence[np.ndarray],
    x: np.ndarray,
    codes: np.ndarray,
    of_response: bool,
    entries: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Moments of the line at rows, a slice at a time.

    Parameters
    ----------
    behind : Behind
    units : Units
    slopes : sequence of sequence of int
        Per factor.
    present : sequence of array
        Per factor, see :func:`are_new`.
    x : array of shape (n_rows, n_features) or (n_rows, n_features + 1)
        The last column then logs of exposures.
    codes : int array of shape (n_rows, n_factors)
    of_response : bool
        Under a log link with the variance that gives a normal line the mean of y.
    entries : int
        Of arrays of components x rows.

    Yields
    ------
    rows : int array of shape (k,)
    mean, sd : array of shape (S, k)
    third : array of shape (S, k) or None
        Central moments; None of normal lines.
    """
    rule, effects = behind
    offset = side_of(units, x)
    x, zs = internal_rows(units, slopes, x)
    stretch = effects.stretch if of_response else None
    skew = None if stretch is not None else effects.skew
    for here in slices(len(x), entries // len(rule.weights)):
        rows = np.arange(len(x))[here]
        mean, variance = rule.coef @ x[rows].T, np.zeros((len(rule.coef), len(rows)))
        third = np.zeros_like(mean)
        for k, z in enumerate(zs):
            code, z = codes[rows, k], z[rows]
            is_new = are_new(code, present[k])
            old, new = np.flatnonzero((code != OUT) & ~is_new), np.flatnonzero(is_new)
            level = code[old]
            mean[:, old] += np.einsum("sak,ka->sk", effects.mean[k][..., level], z[old])
            spread = np.einsum("sabk,ka->sbk", effects.root[k][..., level], z[old])
            by = 1.0 if stretch is None else stretch_at(stretch[k][..., level], z[old])
            variance[:, old] += by * (spread**2).sum(1)
            if skew is not None:
                third[:, old] += (skew[k][..., level] * spread**3).sum(1)
            root = rule.group_root[k]
            variance[:, new] += (np.einsum("sab,ka->sbk", root, z[new]) ** 2).sum(1)
        mean = units.y_mean + units.y_scale * mean
        if offset is not None:
            mean += offset[rows]
        third_or_none = None if skew is None else units.y_scale**3 * third
        yield rows, mean, units.y_scale * np.sqrt(variance), third_or_none
