"""Normal noise: ``y ~ Normal(line, noise_scale^2)``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skhier.responses.member import SCALE, Member
from skhier.responses.numerics import special

__all__ = ["NORMAL", "SCALE", "Normal"]


class Normal(Member):
    """See :class:`~skhier.responses.base.Response`; the line is the mean of y."""

    name: ClassVar[str] = "normal"
    conjugate: ClassVar[bool] = True
    standardises: ClassVar[bool] = True
    parameters: ClassVar[dict[str, str]] = {SCALE: "residual sd"}

    def log_density(self, y, line, own, xp=np):
        """Log density of y, constants included."""
        z = (y - line) / own[SCALE]
        return -0.5 * z**2 - xp.log(own[SCALE]) - 0.5 * np.log(2 * np.pi)

    def score(self, y, line, own, xp=np):
        """``(y - line) / noise_scale^2``."""
        return (y - line) / own[SCALE] ** 2

    def curvature(self, y, line, own, xp=np):
        """``1 / noise_scale^2``, whatever y."""
        return 1 / own[SCALE] ** 2 + xp.zeros_like(y - line)

    def third(self, y, line, own, xp=np):
        """0: the curvature does not depend on the line."""
        return xp.zeros_like(self.curvature(y, line, own, xp))

    def mean(self, line, own):
        """The line itself."""
        return line

    def variance(self, line, own, weights=None):
        """``noise_scale^2``, whatever the line."""
        return own[SCALE] ** 2 + np.zeros_like(line, dtype=float)

    def draw(self, line, own, rng, weights=None):
        """The line and noise; one array beside the line."""
        y = rng.standard_normal(np.shape(line))
        y *= own[SCALE]
        y += line
        return y

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``."""
        return special(np).ndtr((y - line) / own[SCALE])

    def mean_over(self, mean, sd, own):
        """The line's mean."""
        return mean

    def variance_over(self, mean, sd, own, weights=None):
        """The variances add."""
        return np.square(sd) + np.square(own[SCALE]) + np.zeros_like(mean, dtype=float)

    def over_lines(self, mean, sd, own):
        """Still normal: the variances add."""
        return mean, np.hypot(sd, own[SCALE])

    def latent_variance(self, own, mean):
        """``noise_scale^2``."""
        return np.square(own[SCALE])

    def spread(self, own):
        """The noise's standard deviation."""
        return own[SCALE]


NORMAL = Normal()
