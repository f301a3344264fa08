"""Responses whose mean is ``e^line``: what follows from a normal line, which makes it lognormal."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from skhier.presets import unit_of_line
from skhier.responses.checks import check_rows
from skhier.responses.member import Member
from skhier.responses.numerics import held_exp, held_expm1, held_log

__all__ = ["LogLink", "check_counts", "draw_counts", "lognormal_moments"]

_LARGEST_COUNT = 1e15  # above, float64 knows no halves and NumPy soon no Poisson


class LogLink(Member):
    """``E[y] = e^line``. A subclass states ``variance`` as ``a mu + b mu^2`` by ``_in_mean``."""

    takes_exposure: ClassVar[bool] = True
    link: Any = "log"

    def _in_mean(self, own):
        """``a`` and ``b`` of ``Var[y] = a mu + b mu^2``."""
        raise NotImplementedError

    def mean(self, line, own):
        """``e^line``."""
        return held_exp(line)

    def variance(self, line, own, weights=None):
        """``a mu + b mu^2``."""
        a, b = self._in_mean(own)
        mean = held_exp(line)
        with np.errstate(over="ignore"):
            return a * mean + b * mean**2

    def mean_over(self, mean, sd, own):
        """``e^(mean + sd^2/2)``, of a lognormal."""
        return lognormal_moments(mean, sd)[0]

    def variance_over(self, mean, sd, own, weights=None):
        """``E[Var[y | line]] + Var[E[y | line]]``, from the lognormal's moments."""
        a, b = self._in_mean(own)
        average, variance, square = lognormal_moments(mean, sd)
        with np.errstate(over="ignore", invalid="ignore"):
            # a Poisson's b is 0, and 0 times a square beyond all numbers is no number
            of_square = np.where(np.asarray(b) > 0, b * square, 0.0)
            return a * average + of_square + variance

    def link_of(self, mean):
        """``log mean``."""
        return held_log(mean)

    def open_side(self, y):
        """Downwards, where y is 0."""
        return np.where(y == 0, -1.0, 0.0)

    def start(self, y, weights=None):
        """``log`` of the weighted mean; all zeros count as half an event."""
        weights = np.ones(len(y)) if weights is None else np.asarray(weights, float)
        total = weights.sum()
        return float(self.link_of(max(weights @ y, 0.5) / total))

    def prior_scales(self, scales, preset="default", rows=None):
        """The line's: location ``log mean(y)`` of one exposure, 0 for Bambi and rstanarm; scale 1.

        ``y_median`` and ``y_mad`` are of log y, zeros taken for 0.1, as brms has them
        (``def_scale_prior``); without ``rows`` the latter is 0, which brms raises to 2.5.

        References
        ----------
        rstanarm, "Prior distributions for rstanarm models"; ``bambi/priors/scaler.py``.
        """
        centre = 0.0
        if preset not in ("bambi", "rstanarm"):
            exposure = 1.0 if rows is None else rows.mean_exposure
            centre = float(self.link_of(max(scales.y_mean, 0.5 / scales.n) / exposure))
        median, mad, offset = float(np.log(scales.y_median or 0.1)), 0.0, 0.0
        if rows is not None:
            logs = rows._replace(y=np.log(np.where(rows.y == 0, 0.1, rows.y)))
            (median, mad), offset = logs.medians(), rows.mean_log_exposure
        unit = unit_of_line(preset, scales.n)
        return scales._replace(y_mean=centre, y_sd=unit, y_median=median, y_mad=mad, offset=offset)


def lognormal_moments(mean, sd):
    """Mean, variance and mean square of ``e^line``, the line normal."""
    variance = np.square(sd)
    average = held_exp(mean + 0.5 * variance)
    relative = held_expm1(variance)
    with np.errstate(over="ignore"):
        return average, average**2 * relative, average**2 * (1 + relative)


def check_counts(y, name):
    """Raise ValueError where y is no count."""
    check_rows(y, (y < 0) | (y != np.floor(y)), name, "counts (0, 1, 2 and so on)")


def draw_counts(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poisson draws as float64; those of means beyond 1e15 by the normal distribution."""
    mean = np.asarray(mean, float)
    large = mean > _LARGEST_COUNT
    counts = np.asarray(rng.poisson(np.where(large, 1.0, mean)), float)
    if large.any():
        normal = mean + np.sqrt(mean) * rng.standard_normal(mean.shape)
        counts = np.where(large, np.round(normal), counts)
    return counts
