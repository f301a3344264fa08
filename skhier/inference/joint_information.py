"""What rows say of coefficients and of effects of few levels together; in plain NumPy.

The other factors' effects are integrated out, as normal ones given their covariance. Each of these
factors widens what is left: they are taken for independent, so that what they add to the entries'
covariance is summed. Of one such factor, or of balanced crossed ones, that is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import block_diag, solve_triangular

from skhier.inference.row_information import RowSlopes
from skhier.kernels.records import JointInformation, LevelInformation, ModelSpec

if TYPE_CHECKING:
    from skhier.kernels.rows.models import JointRows

__all__ = ["LocalCoef", "joint_information", "joint_zeta_of", "no_information"]

RIDGE = 1e-9  # of the mean curvature: what rows leave open has a covariance
ROUNDING = 1e-12  # of the largest curvature


class LocalCoef(NamedTuple):
    """The coefficients' unconstrained parameters (c,) near a point.

    Attributes
    ----------
    values : array of shape (c,)
    jacobian : array of shape (p, c)
        Of the coefficients.
    slope, precision : array of shape (c,), (c, c)
        Gradient of their log prior, and minus its curvature.
    """

    values: np.ndarray
    jacobian: np.ndarray
    slope: np.ndarray
    precision: np.ndarray


def no_information(shapes: Sequence[tuple[int, int]], is_few, n_coef: int) -> JointInformation:
    """In whose coordinates coefficients are their parameters and effects standard normal."""
    f = n_coef + sum(q * n for (q, n), here in zip(shapes, is_few, strict=True) if here)
    precision = np.diag(np.where(np.arange(f) < f - n_coef, 0.0, 1.0))
    coupling = tuple(
        None if here else np.zeros((q, f, n)) for (q, n), here in zip(shapes, is_few, strict=True)
    )
    return JointInformation(precision, np.zeros(f), np.zeros(f), coupling)


def joint_information(
    spec: ModelSpec,
    rows: JointRows,
    slopes: RowSlopes,
    coef: LocalCoef,
    levels: Sequence[tuple[np.ndarray, LevelInformation, np.ndarray]],
    is_few: Sequence[bool],
) -> JointInformation:
    """Near a point.

    Parameters
    ----------
    spec : ModelSpec
    rows : JointRows
    slopes : RowSlopes
        There.
    coef : LocalCoef
    levels : sequence of tuple
        Of each factor, and last of levels' noises if they have their own: a root of the effects'
        covariance, LevelInformation, and the effects (q, n_levels) there.
    is_few : sequence of bool
        Whether each of them is among the entries.
    """
    few = [k for k, here in enumerate(is_few) if here]
    sums = _Sums(spec, rows, coef.jacobian, few)
    place = np.concatenate([*(levels[k][2].ravel() for k in few), coef.values])
    columns = [slopes.curvature * column for column in sums.columns()]
    precision = np.array([sums.of_entries(column) for column in columns])
    coupling: list[np.ndarray | None] = [None] * len(levels)
    widened = []
    for k in (k for k in range(len(spec.factors)) if k not in few):
        coupling[k] = np.stack([sums.of_levels(column, k) for column in columns], axis=1)
        widened.append(_integrated(coupling[k], *levels[k][:2]))
    precision = _without(precision, widened)
    c = len(coef.values)
    precision[-c:, -c:] += coef.precision
    pull = sums.of_entries(slopes.score) + precision @ place
    pull[-c:] += coef.slope
    return JointInformation(_positive(precision), pull, place, tuple(coupling))


class _Sums(NamedTuple):
    """Sums of rows by the entries: effects of the few levels, then coefficients."""

    spec: ModelSpec
    rows: JointRows
    jacobian: np.ndarray
    few: Sequence[int]

    def columns(self):
        """What a row's line gains by a unit of each entry, (n_rows,) each."""
        for k in self.few:
            codes = self.rows.codes[:, k]
            for z in self.rows.x[:, self.spec.varying_columns(k)].T:
                for level in range(len(self.rows.present[k])):
                    yield np.where(codes == level, z, 0.0)
        yield from (self.rows.x @ self.jacobian).T

    def of_levels(self, values, k):
        """Of each effect of the levels of a factor, (q, n_levels)."""
        codes, n_levels = self.rows.codes[:, k], len(self.rows.present[k])
        z = self.rows.x[:, self.spec.varying_columns(k)].T
        return np.stack([np.bincount(codes, values * of, n_levels) for of in z])

    def of_entries(self, values):
        """Of each entry, (f,)."""
        parts = [self.of_levels(values, k).ravel() for k in self.few]
        return np.concatenate([*parts, (values @ self.rows.x) @ self.jacobian])


def _integrated(coupling, root, level: LevelInformation) -> np.ndarray:
    """What integrating out a factor's effects takes from the entries' precision, (f, f)."""
    inner = np.einsum("ji,jkg,kl->gil", root, level.precision, root)
    half = np.linalg.cholesky(np.eye(len(root)) + inner)
    white = np.linalg.solve(half, np.einsum("ji,jfg->gif", root, coupling))
    white = white.reshape(-1, white.shape[-1])
    return white.T @ white


def _without(precision, taken: Sequence[np.ndarray]) -> np.ndarray:
    """The precision (f, f) once so much is taken from it by each factor."""
    if len(taken) < 2:
        return precision - sum(taken)
    ridge = RIDGE * max(np.trace(precision) / len(precision), 1.0) * np.eye(len(precision))
    alone = np.linalg.inv(precision + ridge)
    wider = [np.linalg.inv(precision + ridge - part) - alone for part in taken]
    return np.linalg.inv(alone + sum(wider)) - ridge


def _positive(precision: np.ndarray) -> np.ndarray:
    """Next to a precision, symmetric and not negative beyond rounding."""
    values, vectors = np.linalg.eigh((precision + precision.T) / 2)
    least = ROUNDING * max(values.max(), 1.0)
    return (vectors * np.maximum(values, least)) @ vectors.T


def joint_zeta_of(
    information: JointInformation, levels: Sequence[tuple[np.ndarray, np.ndarray]], coef: np.ndarray
) -> np.ndarray:
    """The inverse of :func:`~skhier.kernels.rows.jointly_centered.coefs_and_effects`, (f,).

    Parameters
    ----------
    information : JointInformation
    levels : sequence of tuple
        Of each factor of few levels: a root (q, q) and z (q, n_levels).
    coef : array of shape (c,)
    """
    blocks = [np.kron(root, np.eye(z.shape[1])) for root, z in levels]
    spread = block_diag(*blocks, np.eye(len(coef)))
    x = np.concatenate([*(z.ravel() for _, z in levels), coef])
    prior = np.where(np.arange(len(x)) < len(x) - len(coef), 1.0, 0.0)
    half = np.linalg.cholesky(spread.T @ information.precision @ spread + np.diag(prior))
    return half.T @ x - solve_triangular(half, spread.T @ information.pull, lower=True)
