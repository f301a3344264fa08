"""Counts of levels with varying intercepts, slowly: sums over a grid of the population.

With ``m = a + b_g`` the density of a level's rows is, for each coefficient c of x,

    p(y_g | a, c, tau) = integral of prod_i Poisson(y_i; e^(m + c x_i)) Normal(m; a, tau^2) over m,

by the trapezoidal rule; sums over (a, c, log tau) of products over levels give p(y), and p(y) over
the same without a row or level what leaving it out means.
"""

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logsumexp

A, C = np.linspace(-2.0, 4.0, 60), np.linspace(-0.4, 1.2, 60)
LOG_TAU = np.linspace(np.log(0.08), np.log(6.0), 60)
M = np.linspace(-6.0, 7.0, 500)


class CountsOnGrid:
    """The posterior under ``a ~ Normal(0, 2), c ~ Normal(0, 1), tau ~ Exponential(rate)``."""

    def __init__(self, X, y, rate, exposure=1.0):
        """``rate`` of tau's prior; ``exposure`` (n_samples,) or of all rows."""
        tau = np.exp(LOG_TAU)
        prior = stats.norm.logpdf(A, 0, 2)[:, None, None] + stats.norm.logpdf(C)[:, None]
        self.prior = prior + LOG_TAU - rate * tau  # but for constants, which all share
        self.of_m = stats.norm.pdf(M[:, None, None], A[:, None], tau) * (M[1] - M[0])
        line = M[:, None] + C * X["x"].to_numpy()[:, None, None]
        line = line + np.log(np.broadcast_to(exposure, len(y)))[:, None, None]
        self.rows = stats.poisson.logpmf(y[:, None, None], np.exp(line))
        self.level = pd.factorize(X["g"])[0]
        self.levels = [self._integral(self.level == g) for g in range(self.level.max() + 1)]
        self.total = self.prior + sum(self.levels)

    def _integral(self, rows):
        """Log density of some rows of one level, (A, C, tau)."""
        density = self.rows[rows].sum(0)
        top = density.max(0)
        integral = np.einsum("mc,mat->act", np.exp(density - top), self.of_m, optimize=True)
        return np.log(np.maximum(integral, 1e-300)) + top[:, None]  # far below all that counts

    def _score(self, without):
        return logsumexp(self.total) - logsumexp(without)

    def logo(self):
        return np.array([self._score(self.total - level) for level in self.levels])

    def loo(self):
        def rest(i):
            g = self.level[i]
            others = (self.level == g) & (np.arange(len(self.level)) != i)
            return self.total - self.levels[g] + self._integral(others)

        return np.array([self._score(rest(i)) for i in range(len(self.level))])

    def of_new_level(self, functional):
        """Mean and sd, over the posterior, of E[functional(a, c, b)] over ``b ~ Normal(0, tau)``.

        ``functional`` broadcasts over its arguments.
        """
        mass = np.exp(self.total - logsumexp(self.total))
        z, weight = np.polynomial.hermite_e.hermegauss(40)
        b = np.exp(LOG_TAU)[:, None] * z
        given = functional(A[:, None, None, None], C[:, None, None], b) @ (weight / weight.sum())
        mean = (mass * given).sum()
        return mean, np.sqrt((mass * (given - mean) ** 2).sum())
