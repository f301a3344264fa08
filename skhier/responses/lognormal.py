"""Positive y whose logarithm is normal: ``log y ~ Normal(line, noise_scale^2)``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from skhier.responses.checks import check_rows
from skhier.responses.log_link import lognormal_moments
from skhier.responses.member import SCALE, Member
from skhier.responses.normal import NORMAL
from skhier.responses.numerics import TINY, held_exp, held_log, special

__all__ = ["LogNormal"]


class LogNormal(Member):
    """See :class:`~skhier.responses.base.Response`; the line is the median of y, on the log scale.

    Engines take ``transformed(y)``, the log of y, which is normal, and whose scales priors see;
    densities are of y itself.

    Examples
    --------
    >>> from skhier.responses import LogNormal
    >>> round(float(LogNormal().mean(0.0, {"noise_scale": 1.0})), 4)
    1.6487
    """

    name: ClassVar[str] = "lognormal"
    conjugate: ClassVar[bool] = True
    standardises: ClassVar[bool] = True
    parameters: ClassVar[dict[str, str]] = {SCALE: "residual sd of log y"}
    link: Any = "log"

    def check_target(self, y, weights=None):
        """Positive numbers."""
        check_rows(y, y <= 0, self.name, "positive")

    def transformed(self, y):
        """``log y``."""
        return np.log(y)

    def untransformed(self, t):
        """``e^t``."""
        return held_exp(t)

    def log_jacobian(self, t):
        """``-log y``."""
        return -np.asarray(t)

    def mean_shift(self, own):
        """``noise_scale^2 / 2``."""
        return 0.5 * np.square(own[SCALE])

    def log_density(self, y, line, own, xp=np):
        """The normal one of log y, less the Jacobian's ``log y``."""
        log_y = held_log(y, xp)
        return NORMAL.log_density(log_y, line, own, xp) - log_y

    def score(self, y, line, own, xp=np):
        """``(log y - line) / noise_scale^2``."""
        return NORMAL.score(held_log(y, xp), line, own, xp)

    def curvature(self, y, line, own, xp=np):
        """``1 / noise_scale^2``, whatever y."""
        return NORMAL.curvature(y, line, own, xp)

    def third(self, y, line, own, xp=np):
        """0: the curvature does not depend on the line."""
        return NORMAL.third(y, line, own, xp)

    def mean(self, line, own):
        """``e^(line + noise_scale^2 / 2)``."""
        return self.mean_over(line, 0.0, own)

    def variance(self, line, own, weights=None):
        """``mean^2 (e^(noise_scale^2) - 1)``."""
        return self.variance_over(line, 0.0, own)

    def draw(self, line, own, rng, weights=None):
        """Draws of log y, taken back."""
        return np.maximum(held_exp(NORMAL.draw(line, own, rng)), TINY)

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``."""
        z = (held_log(y) - line) / own[SCALE]
        return np.where(np.asarray(y) <= 0, 0.0, special(np).ndtr(z))

    def mean_over(self, mean, sd, own):
        """Still lognormal: the variances add."""
        return lognormal_moments(mean, np.hypot(sd, own[SCALE]))[0]

    def variance_over(self, mean, sd, own, weights=None):
        """Still lognormal: the variances add."""
        return lognormal_moments(mean, np.hypot(sd, own[SCALE]))[1]

    def over_lines(self, mean, sd, own):
        """Mean and sd of log y."""
        return NORMAL.over_lines(mean, sd, own)

    def link_of(self, mean):
        """``log mean``."""
        return held_log(mean)

    def start(self, y, weights=None):
        """The weighted mean of log y."""
        return float(np.average(np.log(y), weights=weights))

    def latent_variance(self, own, mean):
        """``noise_scale^2``, the variance of log y."""
        return np.square(own[SCALE])

    def spread(self, own):
        """The noise's standard deviation, of log y."""
        return own[SCALE]
