"""Rows and groups of counts left out in searches: against sums over a grid of the population.

With ``m = a + b_g`` the density of a level's rows is, for each coefficient c of x,

    p(y_g | a, c, tau) = integral of prod_i Poisson(y_i; e^(m + c x_i)) Normal(m; a, tau^2) over m,

by the trapezoidal rule; sums over (a, c, log tau) of products over levels give p(y), and p(y) over
the same without a row or level what leaving it out means.
"""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV, Prior

RATES = 1.0, 4.0  # of the exponential prior of tau
GRID = {"prior__group_scale": [dist.Exponential(rate) for rate in RATES]}
PARAMS = {
    "groups": "g",
    "slopes": None,
    "response": "poisson",
    "prior": Prior(dist.Normal(0.0, 2.0), {"x": dist.Normal(0.0, 1.0)}),
    "random_state": 0,
}
A, C = np.linspace(-2.0, 4.0, 60), np.linspace(-0.4, 1.2, 60)
LOG_TAU = np.linspace(np.log(0.08), np.log(6.0), 60)
M = np.linspace(-6.0, 7.0, 500)


@pytest.fixture(scope="module")
def counts():
    """X (x, g) and counts of ten levels; g9 is one row, far from all others."""
    rng = np.random.default_rng(0)
    code = np.append(np.repeat(np.arange(9), 6), 9)
    x = rng.normal(size=55)
    y = rng.poisson(np.exp(0.8 + 0.4 * x + rng.normal(0, 0.2, 10)[code])).astype(float)
    y[-1] = 90
    return pd.DataFrame({"x": x, "g": [f"g{c}" for c in code]}), y


class Exact:
    """Densities of what is left out given the rest, for one rate of tau's prior."""

    def __init__(self, X, y, rate):
        tau = np.exp(LOG_TAU)
        prior = stats.norm.logpdf(A, 0, 2)[:, None, None] + stats.norm.logpdf(C)[:, None]
        self.prior = prior + LOG_TAU - rate * tau  # but for constants, which all share
        self.of_m = stats.norm.pdf(M[:, None, None], A[:, None], tau) * (M[1] - M[0])
        self.rows = stats.poisson.logpmf(
            y[:, None, None], np.exp(M[:, None] + C * X["x"].to_numpy()[:, None, None])
        )
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


@pytest.mark.parametrize("cv", ["logo", "loo"])
def test_counts_left_out_have_the_density_of_a_grid(counts, cv):
    search = HierarchicalSlopesRegressorCV(cv=cv, param_grid=GRID, **PARAMS).fit(*counts)
    results = search.cv_results_
    assert (results["n_refits"] > 0).any()
    assert (results["n_refits"] == results["n_bad_pareto_k"]).all()
    assert all(len(left) == 0 for left in results["unreliable"])
    for rate, params, score in zip(RATES, results["params"], search.scores_[:, 0], strict=True):
        exact = getattr(Exact(*counts, rate), cv)()
        plain = HierarchicalSlopesRegressor(**PARAMS).set_params(**params).fit(*counts)
        found = getattr(plain, cv)()
        table, good = found.pointwise, found.pointwise["pareto_k"] <= found.good_k
        off = table["elpd"] - exact
        assert (off.abs() < 5 * table["mcse"] + 0.01)[good].all()
        # of a refit: two evidences, each of some 500 effective points
        error = np.where(good, table["mcse"], np.sqrt(2 / 500))
        assert abs(score - exact.sum()) < 5 * np.sqrt((error**2).sum())
        assert abs(score - exact.sum()) < 0.3
        if good.all():
            assert abs(score - found.elpd) < 5 * np.sqrt((error**2).sum())
