"""Counts that scatter more than Poisson's: mean ``mu = e^line``, variance ``mu + mu^2 / phi``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skhier.responses.exponential import ExponentialForm
from skhier.responses.log_link import LogLink, check_counts, draw_counts
from skhier.responses.numerics import held_exp, log_rising, special

__all__ = ["NegativeBinomial"]

DISPERSION = "dispersion"


class NegativeBinomial(LogLink):
    """See :class:`~skhier.responses.base.Response`.

    Parameters
    ----------
    dispersion : None, number or Distribution
        ``phi``; large ones are near Poisson. Default: ``1/phi ~ Exponential(1)``. The presets:
        Bambi ``HalfCauchy(1)`` (``bambi/defaults/families.py``), brms ``Gamma(0.01, 0.01)``
        (``?set_prior``), rstanarm ``Exponential(1)`` ("Prior distributions for rstanarm models").

    Examples
    --------
    >>> from skhier.responses import NegativeBinomial
    >>> NegativeBinomial(dispersion=2.0).fixed
    {'dispersion': 2.0}
    """

    name: ClassVar[str] = "negative_binomial"
    discrete: ClassVar[bool] = True
    parameters: ClassVar[dict[str, str]] = {DISPERSION: "dispersion phi"}
    _PRIORS: ClassVar = {
        DISPERSION: {
            "default": ("InverseGamma", 1.0, 1.0),
            "bambi": ("HalfCauchy", 1.0),
            "brms": ("Gamma", 0.01, 0.01),
            "rstanarm": ("Exponential", 1.0),
        }
    }

    def __init__(self, dispersion=None):
        self.dispersion = dispersion

    def check_target(self, y, weights=None):
        """Counts."""
        check_counts(y, self.name)

    def log_density(self, y, line, own, xp=np):
        """``y log p + phi log(1 - p)``, ``p = mu / (phi + mu)``, and the log of the coefficient."""
        phi = own[DISPERSION]
        odds = line - xp.log(phi)
        binomial = y * xp.logaddexp(0.0, -odds) + phi * xp.logaddexp(0.0, odds)
        return log_rising(phi, y, xp) - special(xp).gammaln(y + 1.0) - binomial

    def score(self, y, line, own, xp=np):
        """``y (1 - p) - phi p``."""
        p, rest = _shares(line, own, xp)
        return y * rest - own[DISPERSION] * p

    def curvature(self, y, line, own, xp=np):
        """``(y + phi) p (1 - p)``."""
        p, rest = _shares(line, own, xp)
        return (y + own[DISPERSION]) * p * rest

    def third(self, y, line, own, xp=np):
        """``(y + phi) p (1 - p) (1 - 2 p)``."""
        p, rest = _shares(line, own, xp)
        return (y + own[DISPERSION]) * p * rest * (rest - p)

    def exponential_form(self, y, line, own, xp=np):
        """``y t - (y + phi) log(1 + e^t)``, ``t = line - log phi``; mirrored where t > 0."""
        phi = own[DISPERSION]
        shift, size = xp.log(phi), y + phi
        up = line > shift
        slope = xp.where(up, -phi, y)
        return ExponentialForm(slope, xp.where(up, -1.0, 1.0), shift, size, True)

    def _in_mean(self, own):
        return 1.0, 1 / own[DISPERSION]

    def draw(self, line, own, rng, weights=None):
        """Poisson counts of gamma means."""
        phi = np.broadcast_to(own[DISPERSION], np.shape(line))
        return draw_counts(held_exp(line) * (rng.standard_gamma(phi) / phi), rng)

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``, an incomplete beta function."""
        _, rest = _shares(line, own, np)
        count = np.maximum(np.floor(y), 0.0)
        return np.where(
            np.asarray(y) < 0, 0.0, special(np).betainc(own[DISPERSION], count + 1, rest)
        )

    def support_step(self, weights=None):
        """Counts are 1 apart."""
        return 1.0

    def latent_variance(self, own, mean):
        """``trigamma(1 / (1/mean + 1/phi))``.

        Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14.
        """
        return special(np).polygamma(1, 1 / (1 / np.asarray(mean) + 1 / own[DISPERSION]))


def _shares(line, own, xp):
    """``p = mu / (phi + mu)`` and ``1 - p``, neither by subtraction."""
    odds = line - xp.log(own[DISPERSION])
    expit = special(xp).expit
    return expit(odds), expit(-odds)
