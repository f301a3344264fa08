"""Counts: ``y ~ Poisson(e^line)``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skhier.responses.exponential import ExponentialForm
from skhier.responses.log_link import LogLink, check_counts, draw_counts
from skhier.responses.numerics import held_exp, special

__all__ = ["Poisson"]


class Poisson(LogLink):
    """See :class:`~skhier.responses.base.Response`; no parameters of its own.

    Examples
    --------
    >>> from skhier.responses import Poisson
    >>> float(Poisson().mean(0.0, {}))
    1.0
    """

    name: ClassVar[str] = "poisson"
    discrete: ClassVar[bool] = True

    def check_target(self, y, weights=None):
        """Counts."""
        check_counts(y, self.name)

    def log_density(self, y, line, own, xp=np):
        """``y line - e^line - log y!``."""
        return y * line - held_exp(line, xp) - special(xp).gammaln(y + 1.0)

    def score(self, y, line, own, xp=np):
        """``y - e^line``."""
        return y - held_exp(line, xp)

    def curvature(self, y, line, own, xp=np):
        """``e^line``, whatever y."""
        return held_exp(line, xp) + xp.zeros_like(y * 1.0)

    def third(self, y, line, own, xp=np):
        """``e^line``, whatever y."""
        return self.curvature(y, line, own, xp)

    def exponential_form(self, y, line, own, xp=np):
        """``y line - e^line``."""
        return ExponentialForm(y, 1.0, 0.0, None, False)

    def _in_mean(self, own):
        return 1.0, 0.0

    def draw(self, line, own, rng, weights=None):
        """Poisson counts as float64."""
        return draw_counts(held_exp(line), rng)

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``."""
        probability = special(np).pdtr(np.maximum(np.floor(y), 0.0), held_exp(line))
        return np.where(np.asarray(y) < 0, 0.0, probability)

    def support_step(self, weights=None):
        """Counts are 1 apart."""
        return 1.0

    def latent_variance(self, own, mean):
        """``trigamma(mean)``.

        Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14.
        """
        return special(np).polygamma(1, mean)
