"""Rows whose noise is known: the weights that make it one scale, and what densities then lack.

With ``w_i = c_i s^2 / se_i^2``, c the rows' counts and s a typical standard error, the rows' sums
are those of noise s. Their density then counts ``sum w`` rows of variance s^2, where there are
``sum c`` of variances ``se_i^2``; the difference depends on the rows alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skhier.utils.training import Training

__all__ = ["RowNoise", "check_noise", "row_noise_of"]

LEAST_ERROR = 1e-5  # of a typical error, in sds of y; kernels take none below a tenth of it


class RowNoise(NamedTuple):
    """Of all rows of fit, and of each level of the only factor; units of y.

    Attributes
    ----------
    scale : float
        s: ``1 / s^2`` is the weighted mean of the rows' ``1 / se^2``.
    log_density : float
        What the log density of all rows lacks.
    n_rows : array of shape (n_levels,)
        Sums of the counts; empty without a factor or of several.
    of_levels : array of shape (n_levels,)
        What the log density of each level's rows lacks.
    """

    scale: float
    log_density: float
    n_rows: np.ndarray
    of_levels: np.ndarray


def check_noise(noise: RowNoise, training: Training, y_sd: float) -> None:
    """Raise ValueError where errors are so small beside y that sums would have lost the others."""
    if noise.scale >= LEAST_ERROR * y_sd or training.side is None:
        return
    raise ValueError(
        f"Known standard errors down to {training.side.min():.3g} are too small beside y's sd, "
        f"{y_sd:.3g}, for float64 arithmetic. Give rows that are exact an error of "
        f"{LEAST_ERROR:g} of that or more, or drop them."
    )


def row_noise_of(training: Training) -> RowNoise | None:
    """Of the rows of fit; None where their noise is not known."""
    if training.precision is None or training.side is None:
        return None
    scale = float(training.side[0] * np.sqrt(training.precision[0]))
    lacking = 0.5 * training.weights * np.log(training.precision)
    # the counts and the weights have one sum over all rows, but not over those of a level
    constant = -0.5 * np.log(2 * np.pi) - np.log(scale)
    of_rows = lacking + constant * (training.weights - training.of_sums)
    codes = training.codes.T[0] if training.codes.shape[1] == 1 else np.empty(0, int)
    by_level = [np.bincount(codes, a[: len(codes)]) for a in (training.weights, of_rows)]
    return RowNoise(scale, float(of_rows.sum()), *by_level)
