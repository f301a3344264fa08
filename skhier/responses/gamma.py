"""Positive y: mean ``e^line``, variance ``mean^2 / shape``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skhier.responses.checks import check_rows
from skhier.responses.exponential import ExponentialForm
from skhier.responses.log_link import LogLink
from skhier.responses.numerics import TINY, held_exp, held_expm1, held_log, special, stirling_rest

__all__ = ["Gamma"]

SHAPE = "shape"


class Gamma(LogLink):
    """See :class:`~skhier.responses.base.Response`.

    Parameters
    ----------
    shape : None, number or Distribution
        Default: ``Gamma(2, 0.1)``. The presets: Bambi ``HalfCauchy(1)``
        (``bambi/defaults/families.py``), brms ``Gamma(0.01, 0.01)`` (``?set_prior``), rstanarm
        ``Exponential(1)`` ("Prior distributions for rstanarm models").

    Examples
    --------
    >>> from skhier.responses import Gamma
    >>> float(Gamma(shape=4.0).variance(0.0, {"shape": 4.0}))
    0.25
    """

    name: ClassVar[str] = "gamma"
    parameters: ClassVar[dict[str, str]] = {SHAPE: "shape"}
    _PRIORS: ClassVar = {
        SHAPE: {
            "default": ("Gamma", 2.0, 0.1),
            "bambi": ("HalfCauchy", 1.0),
            "brms": ("Gamma", 0.01, 0.01),
            "rstanarm": ("Exponential", 1.0),
        }
    }

    def __init__(self, shape=None):
        self.shape = shape

    def check_target(self, y, weights=None):
        """Positive numbers."""
        check_rows(y, y <= 0, self.name, "positive")

    def log_density(self, y, line, own, xp=np):
        """``shape (u + 1 - e^u)``, ``u = log y - line``, and what does not depend on the line."""
        shape, log_y = own[SHAPE], held_log(y, xp)
        u = log_y - line
        constant = 0.5 * (xp.log(shape) - np.log(2 * np.pi)) - stirling_rest(shape, xp) - log_y
        return shape * (u - held_expm1(u, xp)) + constant

    def score(self, y, line, own, xp=np):
        """``shape (y e^-line - 1)``."""
        return own[SHAPE] * held_expm1(held_log(y, xp) - line, xp)

    def curvature(self, y, line, own, xp=np):
        """``shape y e^-line``."""
        return own[SHAPE] * held_exp(held_log(y, xp) - line, xp)

    def third(self, y, line, own, xp=np):
        """``-shape y e^-line``."""
        return -self.curvature(y, line, own, xp)

    def exponential_form(self, y, line, own, xp=np):
        """``-shape line - shape e^(log y - line)``."""
        shape = own[SHAPE]
        return ExponentialForm(-shape, -1.0, held_log(y, xp), shape, False)

    def _in_mean(self, own):
        return 0.0, 1 / own[SHAPE]

    def draw(self, line, own, rng, weights=None):
        """Gamma draws; those that underflow are float64's smallest positive number."""
        shape = np.broadcast_to(own[SHAPE], np.shape(line))
        relative = rng.standard_gamma(shape) / shape
        return np.maximum(held_exp(line) * relative, TINY)

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``, an incomplete gamma function."""
        relative = held_exp(held_log(y) - line)
        probability = special(np).gammainc(own[SHAPE], own[SHAPE] * relative)
        return np.where(np.asarray(y) <= 0, 0.0, probability)

    def latent_variance(self, own, mean):
        """``trigamma(shape)``, the variance of log y.

        Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14.
        """
        return special(np).polygamma(1, own[SHAPE])
