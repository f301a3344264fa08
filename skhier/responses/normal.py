"""Normal noise: ``y ~ Normal(line, noise_scale^2)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

__all__ = ["NORMAL", "SCALE", "Normal"]

SCALE = "noise_scale"


@dataclass(frozen=True)
class Normal:
    """See :class:`~skhier.responses.base.Response`; the line is the mean of y."""

    name: ClassVar[str] = "normal"
    conjugate: ClassVar[bool] = True
    parameters: ClassVar[dict[str, str]] = {SCALE: "residual sd"}

    def scaled(self, own, y_scale):
        """The noise grows with y."""
        return {SCALE: y_scale * own[SCALE]}

    def check_target(self, y):
        """Every finite number is possible."""

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

    def mean(self, line, own):
        """The line itself."""
        return line

    def variance(self, line, own):
        """``noise_scale^2``, whatever the line."""
        return own[SCALE] ** 2 + np.zeros_like(line, dtype=float)

    def draw(self, line, own, rng):
        """The line and noise; one array beside the line."""
        y = rng.standard_normal(np.shape(line))
        y *= own[SCALE]
        y += line
        return y

    def dispersion(self, own):
        """The noise's standard deviation."""
        return own[SCALE]

    def over_lines(self, mean, sd, own):
        """Still normal: the variances add."""
        return mean, np.hypot(sd, own[SCALE])


NORMAL = Normal()
