"""Shares of events in a known number of trials: ``weights * y ~ Binomial(weights, p(line))``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skhier.responses.checks import check_rows
from skhier.responses.numerics import special
from skhier.responses.probability import Probability

__all__ = ["Binomial"]

_EVENTS_ROUNDING = 1e-6  # of a count of events, relative: shares may have been float32


class Binomial(Probability):
    """See :class:`~skhier.responses.base.Response`; y is a share, a row's weight its trials.

    Densities are of one trial, without the binomial coefficient, which is in ``row_normaliser``:
    times the weight, and with it, they are those of the share.

    Parameters
    ----------
    link : {"logit", "probit"}, default="logit"

    Examples
    --------
    >>> import numpy as np
    >>> from skhier.responses import Binomial
    >>> Binomial().draw(np.zeros(3), {}, np.random.default_rng(0), weights=4)
    array([0.5 , 0.25, 0.  ])
    """

    name: ClassVar[str] = "binomial"
    weights_are_trials: ClassVar[bool] = True

    def check_target(self, y, weights=None):
        """Shares in [0, 1], whole trials, whole counts of events."""
        weights = np.ones(len(y)) if weights is None else np.asarray(weights, float)
        check_rows(y, (y < 0) | (y > 1), self.name, "shares in [0, 1]")
        partial = (weights < 0) | (weights != np.floor(weights))
        if partial.any():
            rows = np.flatnonzero(partial)
            raise ValueError(
                "The weights of a binomial response are its trials and must be whole numbers; "
                f"{len(rows)} of {len(y)} are not, the first is {weights[rows[0]]:.10g} in row "
                f"{rows[0]}."
            )
        events = y * weights
        whole = np.abs(events - np.round(events)) <= _EVENTS_ROUNDING * np.maximum(events, 1.0)
        expected = "a whole number of events over the trials, which are the weights"
        check_rows(y, ~whole, self.name, expected)

    def row_normaliser(self, y, weights=None):
        """Log of the binomial coefficient of each row."""
        log_gamma = special(np).gammaln
        trials = np.ones(np.shape(y)) if weights is None else np.asarray(weights, float)
        events = np.round(np.asarray(y) * trials)
        return log_gamma(trials + 1) - log_gamma(events + 1) - log_gamma(trials - events + 1)

    def draw(self, line, own, rng, weights=None):
        """Shares of events; rows without trials have share 0."""
        trials = np.asarray(1 if weights is None else weights).astype(np.int64)
        return rng.binomial(trials, self.mean(line, own)) / np.maximum(trials, 1)

    def cdf(self, y, line, own, weights=None):
        """``P(Y <= y)``, an incomplete beta function."""
        trials = np.asarray(1.0 if weights is None else weights, float)
        events = np.floor(np.asarray(y) * trials * (1 + _EVENTS_ROUNDING) + _EVENTS_ROUNDING)
        below = np.clip(events, 0.0, np.maximum(trials - 1, 0.0))
        none = self.mean(-np.asarray(line), own)
        inside = special(np).betainc(np.maximum(trials - below, 1.0), below + 1, none)
        return np.where(events < 0, 0.0, np.where(events >= trials, 1.0, inside))

    def support_step(self, weights=None):
        """One event in the trials."""
        return 1.0 / np.asarray(1.0 if weights is None else weights, float)
