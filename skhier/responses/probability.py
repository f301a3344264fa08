"""Responses whose mean is a probability: Bernoulli and binomial share all but their trials."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from skhier.presets import unit_of_line
from skhier.responses.links import LINKS
from skhier.responses.member import Member

__all__ = ["Probability"]


class Probability(Member):
    """y is a share of events in ``weights`` trials, one where these are not told.

    Parameters
    ----------
    link : {"logit", "probit"}, default="logit"
    """

    discrete: ClassVar[bool] = True

    def __init__(self, link="logit"):
        self.link = link

    @property
    def _link(self):
        if not isinstance(self.link, str) or self.link not in LINKS:
            known = ", ".join(map(repr, LINKS))
            raise ValueError(
                f"`link` of a {self.name} response must be one of {known}. "
                f"Got {self.link!r} instead."
            )
        return LINKS[self.link]

    @property
    def kind(self):
        """The link; no parameters of its own."""
        return super().kind if self._link else None

    def log_density(self, y, line, own, xp=np):
        """``y log p + (1 - y) log(1 - p)``, of one trial."""
        return self._link.log_density(y, line, xp)

    def score(self, y, line, own, xp=np):
        """Derivative of the log density with respect to the line."""
        return self._link.score(y, line, xp)

    def curvature(self, y, line, own, xp=np):
        """Minus the second derivative."""
        return self._link.curvature(y, line, xp)

    def third(self, y, line, own, xp=np):
        """Derivative of the curvature."""
        return self._link.third(y, line, xp)

    def exponential_form(self, y, line, own, xp=np):
        """That of the logit link."""
        return self._link.exponential_form(y, line, xp)

    def mean(self, line, own):
        """Probability of an event."""
        return self._link.p(line)

    def variance(self, line, own, weights=None):
        """``p (1 - p)`` over the trials."""
        return self._link.p(line) * self._link.p(-np.asarray(line)) / _trials(weights)

    def mean_over(self, mean, sd, own):
        """Probability of an event where the line is normal."""
        return self._link.average(mean, sd)

    def variance_over(self, mean, sd, own, weights=None):
        """``E[p (1 - p)]`` over the trials, and the variance of p."""
        p, pq = self._link.average(mean, sd), self._link.curvature_average(mean, sd)
        return pq / _trials(weights) + np.maximum(p * (1 - p) - pq, 0.0)

    def link_of(self, mean):
        """The line of a probability, finite for 0 and 1."""
        edge = np.finfo(float).eps
        return self._link.line(np.clip(mean, edge, 1 - edge))

    def open_side(self, y):
        """Where all trials of a row had one outcome."""
        return np.where(y >= 1, 1.0, np.where(y <= 0, -1.0, 0.0))

    def start(self, y, weights=None):
        """The line of the share of events, with half an event more of each outcome."""
        weights = np.ones(len(y)) if weights is None else np.asarray(weights, float)
        return float(self.link_of((weights @ y + 0.5) / (weights.sum() + 1)))

    def latent_variance(self, own, mean):
        """Of the variable that passes a threshold: ``pi^2 / 3`` for logit, 1 for probit.

        Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14.
        """
        return self._link.latent_variance

    def prior_scales(self, scales: Any, preset: str = "default", rows: Any = None):
        """Location 0 and unit scale, for every preset.

        References
        ----------
        rstanarm, "Prior distributions for rstanarm models"; ``bambi/priors/scaler.py``; brms's
        ``def_scale_prior``, which raises the mad to 2.5.
        """
        unit = unit_of_line(preset, scales.n)
        return scales._replace(y_mean=0.0, y_sd=unit, y_median=0.0, y_mad=0.0)


def _trials(weights):
    return 1.0 if weights is None else np.asarray(weights, float)
