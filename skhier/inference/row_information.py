"""What rows say of the effects of each level, near given ones; in plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skhier.inference.row_theta import fit_without_groups
from skhier.kernels.records import MIN_VARIANCE, LevelInformation, ModelSpec
from skhier.responses.normal import SCALE

if TYPE_CHECKING:
    from skhier.kernels.rows.models import JointRows

__all__ = ["RowSlopes", "information_of_rows", "slopes_of_rows", "start_of_rows", "zeta_of"]

SWEEPS, HALVINGS = 5, 12  # of all factors; of a level's step
LOG_NOISE_STEP = 1e-3  # of logarithms of noises, of which responses state no derivatives


class RowSlopes(NamedTuple):
    """Of a row's weighted log density by its line, (n_rows,) each; ``line`` and ``own`` of rows."""

    line: np.ndarray
    own: Any
    score: np.ndarray
    curvature: np.ndarray


def slopes_of_rows(
    spec: ModelSpec, rows: JointRows, everyone: Any, effects: Sequence[np.ndarray]
) -> RowSlopes:
    """Where the curvature is negative (heavy tails) it counts as 0.

    Parameters
    ----------
    spec : ModelSpec
    rows : JointRows
    everyone : Population
        At one point.
    effects : sequence of array of shape (q, n_levels)
        Of each factor; last, where levels have noises of their own, the logs of these over the
        noise scale, (1, n_levels).
    """
    line = rows.x @ everyone.coef + rows.offset
    for k in range(len(spec.factors)):
        z = rows.x[:, spec.varying_columns(k)].T
        line = line + (z * effects[k][:, rows.codes[:, k]]).sum(0)
    own, response, weight = everyone.own, spec.response, rows.weight
    if spec.noise_by is not None:
        own = _moved(own, effects[-1][0, rows.codes[:, spec.noise_by]])
    score = weight * response.score(rows.y, line, own)
    curvature = weight * np.maximum(response.curvature(rows.y, line, own), 0.0)
    return RowSlopes(line, own, score, curvature)


def information_of_rows(
    spec: ModelSpec, rows: JointRows, slopes: RowSlopes, effects: Sequence[np.ndarray]
) -> tuple[LevelInformation, ...]:
    """Of each factor, and last of the levels' noises, given all the others.

    ``slopes`` are :func:`slopes_of_rows` at the effects.
    """
    of_levels = []
    for k in range(len(spec.factors)):
        z, codes = rows.x[:, spec.varying_columns(k)].T, rows.codes[:, k]
        of_levels.append(_summed(z, slopes.score, slopes.curvature, codes, effects[k]))
    if spec.noise_by is not None:
        up, here, down = (
            spec.response.log_density(rows.y, slopes.line, _moved(slopes.own, move))
            for move in (LOG_NOISE_STEP, 0.0, -LOG_NOISE_STEP)
        )
        score = rows.weight * (up - down) / (2 * LOG_NOISE_STEP)
        curvature = rows.weight * np.maximum(2 * here - up - down, 0.0) / LOG_NOISE_STEP**2
        one, which = np.ones((1, len(rows.y))), rows.codes[:, spec.noise_by]
        of_levels.append(_summed(one, score, curvature, which, effects[-1]))
    return tuple(of_levels)


def _moved(own, log_factor):
    """Own parameters with so many times the noise."""
    scale = own[SCALE] * np.exp(log_factor)
    return {**own, SCALE: np.sqrt(scale**2 + MIN_VARIANCE)}


def _summed(z, score, curvature, codes, effects) -> LevelInformation:
    """Of the levels of a factor, from scores and curvatures of the rows (n_rows,)."""
    q, n_levels = effects.shape
    precision = np.empty((q, q, n_levels))
    for i, j in np.ndindex(q, q):
        precision[i, j] = np.bincount(codes, curvature * z[i] * z[j], n_levels)
    pull = np.stack([np.bincount(codes, score * z[i], n_levels) for i in range(q)])
    return LevelInformation(precision, pull + np.einsum("ijg,jg->ig", precision, effects))


def zeta_of(root: np.ndarray, information: LevelInformation, z: np.ndarray) -> np.ndarray:
    """The inverse of :func:`~skhier.kernels.rows.partly_centered.standard_effects`, at z (q, G)."""
    inner = np.einsum("ji,jkg,kl->gil", root, information.precision, root)
    half = np.linalg.cholesky(np.eye(len(z)) + inner)
    towards = np.linalg.solve(half, (root.T @ information.pull).T[..., None])[..., 0]
    return np.einsum("gij,ig->jg", half, z) - towards.T


def start_of_rows(
    spec: ModelSpec, rows: JointRows, everyone: Any
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Coefficients (p,), and effects (q, n_levels) of each factor, near their mode.

    Coefficients and one factor after the other, given the covariances and own parameters of
    ``everyone``, by Newton's steps that no level's density falls by.
    """
    pairs = zip(spec.factors, rows.present, strict=True)
    standard = [np.zeros((factor.n_effects, len(here))) for factor, here in pairs]
    lines = np.zeros((len(standard), len(rows.y)))
    response, own = spec.response, everyone.own
    for _ in range(SWEEPS):
        offset = rows.offset + lines.sum(0)
        coef = fit_without_groups(response, rows.x.T, rows.y, rows.weight, offset, own)
        for k, root in enumerate(everyone.group_root):
            others = rows.x @ coef + rows.offset + lines.sum(0) - lines[k]
            z = rows.x[:, spec.varying_columns(k)].T
            level = _Levels(response, rows, own, others, root.T @ z, rows.codes[:, k])
            standard[k] = level.stepped(standard[k])
            lines[k] = level.line(standard[k])
    pairs = zip(everyone.group_root, standard, strict=True)
    return coef, [np.asarray(root) @ z for root, z in pairs]


class _Levels(NamedTuple):
    """The density of the levels of one factor, given the rest of the line.

    ``t`` (q, n_rows): what a row's line gains by a unit of each z of its level.
    """

    response: Any
    rows: JointRows
    own: Any
    others: np.ndarray
    t: np.ndarray
    codes: np.ndarray

    def line(self, standard):
        return (self.t * standard[:, self.codes]).sum(0)

    def heights(self, standard):
        line = self.others + self.line(standard)
        density = self.response.log_density(self.rows.y, line, self.own)
        of_rows = np.bincount(self.codes, self.rows.weight * density, standard.shape[1])
        return of_rows - 0.5 * (standard**2).sum(0)

    def stepped(self, standard):
        """A Newton's step of each level, halved until its density does not fall."""
        line, weight = self.others + self.line(standard), self.rows.weight
        score = weight * self.response.score(self.rows.y, line, self.own)
        curvature = self.response.curvature(self.rows.y, line, self.own)
        curvature = weight * np.maximum(curvature, 0.0)
        precision, pull = _summed(self.t, score, curvature, self.codes, 0 * standard)
        gram = np.moveaxis(precision, -1, 0) + np.eye(len(standard))
        step = np.linalg.solve(gram, (pull - standard).T[..., None])[..., 0].T
        before = self.heights(standard)
        for _ in range(HALVINGS):
            falls = ~(self.heights(standard + step) >= before)
            if not falls.any():
                break
            step = np.where(falls, step / 2, step)
        return standard + np.where(falls, 0.0, step)
