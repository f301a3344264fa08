"""Noise with heavy tails: ``(y - line) / noise_scale ~ StudentT(df)``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skhier.responses.member import SCALE, Member
from skhier.responses.numerics import log_rising, special

__all__ = ["StudentT"]

DF = "df"


class StudentT(Member):
    """See :class:`~skhier.responses.base.Response`; its curvature is negative in the tails.

    Parameters
    ----------
    df : None, number or Distribution
        Degrees of freedom, at least 1. Default: ``Gamma(2, 0.1)`` above 1, as in brms
        (``?set_prior``); with Bambi's preset not truncated (``bambi/defaults/families.py``).
        The noise scale's prior is that of :class:`~skhier.Prior`.

    Examples
    --------
    >>> from skhier.responses import StudentT
    >>> StudentT(df=4.0).sampled
    ('noise_scale',)
    """

    name: ClassVar[str] = "student_t"
    standardises: ClassVar[bool] = True
    log_concave: ClassVar[bool] = False
    parameters: ClassVar[dict[str, str]] = {SCALE: "residual scale", DF: "degrees of freedom"}
    _PRIORS: ClassVar = {DF: {"default": ("gamma_above_one", 0.1), "bambi": ("Gamma", 2.0, 0.1)}}
    _LEAST: ClassVar = {DF: 1.0}

    def __init__(self, df=None):
        self.df = df

    def log_density(self, y, line, own, xp=np):
        """Log density of y, constants included."""
        df, scale = own[DF], own[SCALE]
        z = (y - line) / scale
        constant = log_rising(0.5 * df, 0.5, xp) - 0.5 * xp.log(np.pi * df) - xp.log(scale)
        return constant - 0.5 * (df + 1) * xp.log1p(z**2 / df)

    def score(self, y, line, own, xp=np):
        """``(df + 1) z / (df + z^2) / noise_scale``."""
        df, scale = own[DF], own[SCALE]
        z = (y - line) / scale
        return (df + 1) * z / (df + z**2) / scale

    def curvature(self, y, line, own, xp=np):
        """``(df + 1) (df - z^2) / (df + z^2)^2 / noise_scale^2``."""
        df, scale = own[DF], own[SCALE]
        square = ((y - line) / scale) ** 2
        return (df + 1) * (df - square) / (df + square) ** 2 / scale**2

    def third(self, y, line, own, xp=np):
        """``2 (df + 1) z (3 df - z^2) / (df + z^2)^3 / noise_scale^3``."""
        df, scale = own[DF], own[SCALE]
        z = (y - line) / scale
        return 2 * (df + 1) * z * (3 * df - z**2) / (df + z**2) ** 3 / scale**3

    def smoothed(self, y, line, own, smoothness, weight, xp=np):
        """Of a noise as wide as the farthest row is away, to the power of ``smoothness``.

        The curvature is that of a scale mixture of normals: Lange, Little and Taylor (1989), JASA
        84, section 3.
        """
        rest = y - line
        farthest = xp.where(weight > 0, xp.abs(rest), 0.0).max() / own[SCALE]
        scale = own[SCALE] * xp.maximum(farthest, 1.0) ** smoothness
        curvature = (own[DF] + 1) / (own[DF] * scale**2 + rest**2)
        return curvature * rest, curvature

    def mean(self, line, own):
        """The line itself, the centre; with df = 1 there is no mean."""
        return line

    def variance(self, line, own, weights=None):
        """``noise_scale^2 df / (df - 2)``, infinite for df up to 2."""
        return _variance(own) + np.zeros_like(line, dtype=float)

    def draw(self, line, own, rng, weights=None):
        """The line and noise."""
        df = np.broadcast_to(own[DF], np.shape(line))
        return line + own[SCALE] * rng.standard_t(df)

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``."""
        return special(np).stdtr(own[DF], (y - line) / own[SCALE])

    def mean_over(self, mean, sd, own):
        """The line's mean."""
        return mean

    def variance_over(self, mean, sd, own, weights=None):
        """The variances add."""
        return np.square(sd) + _variance(own) + np.zeros_like(mean, dtype=float)

    def start(self, y, weights=None):
        """The weighted median: a mean has no bounds to what one row does to it."""
        weights = np.ones(len(y)) if weights is None else np.asarray(weights, float)
        order = np.argsort(y)
        passed = np.cumsum(weights[order])
        return float(y[order][np.searchsorted(passed, 0.5 * passed[-1])])

    def latent_variance(self, own, mean):
        """The variance of the noise, infinite for df up to 2."""
        return _variance(own)

    def spread(self, own):
        """The noise's scale."""
        return own[SCALE]


def _variance(own):
    df, scale = np.asarray(own[DF], float), own[SCALE]
    heavy = df <= 2
    return np.where(heavy, np.inf, scale**2 * df / np.where(heavy, 1.0, df - 2))
