"""Yes or no: ``P(y = 1) = p(line)``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skhier.responses.checks import check_rows
from skhier.responses.probability import Probability

__all__ = ["Bernoulli"]


class Bernoulli(Probability):
    """See :class:`~skhier.responses.base.Response`; y is 0 or 1, and may be all of one kind.

    Parameters
    ----------
    link : {"logit", "probit"}, default="logit"

    Examples
    --------
    >>> from skhier.responses import Bernoulli
    >>> float(Bernoulli(link="probit").mean(0.0, {}))
    0.5
    """

    name: ClassVar[str] = "bernoulli"

    def check_target(self, y, weights=None):
        """0 or 1."""
        check_rows(y, (y != 0) & (y != 1), self.name, "0 or 1")

    def variance(self, line, own, weights=None):
        """``p (1 - p)``; weights repeat a row, and do not make it an average."""
        return super().variance(line, own)

    def variance_over(self, mean, sd, own, weights=None):
        """``E[p] (1 - E[p])``."""
        p = self.mean_over(mean, sd, own)
        return p * (1 - p)

    def log_density_over(self, y, mean, sd, own):
        """``log E[p]``, of no event ``log E[1 - p]``."""
        return self._link.log_average(np.where(np.asarray(y) > 0, mean, -mean), sd)

    def draw(self, line, own, rng, weights=None):
        """0.0 or 1.0."""
        return (rng.random(np.shape(line)) < self.mean(line, own)).astype(float)

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``."""
        y, none = np.asarray(y), self.mean(-np.asarray(line), own)
        return np.where(y < 0, 0.0, np.where(y < 1, none, 1.0))

    def support_step(self, weights=None):
        """From 0 to 1."""
        return 1.0
