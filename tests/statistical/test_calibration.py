"""Simulation-based calibration: data simulated from the priors, ranks of the truth are uniform.

Talts et al. (2018), arXiv:1804.06788. The simulation below is written from the model's definition,
in the user's units, and shares nothing with the package.
"""

import warnings

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.stats import binom, kstest
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor, Prior

N_GROUPS, N_ROWS = 8, 60
PRIOR = Prior(
    intercept=dist.Normal(50.0, 10.0),
    coef=dist.Normal(0.0, 3.0),
    group_scale={"intercept": dist.HalfNormal(8.0), "x": dist.Exponential(0.5)},
    noise_scale=dist.LogNormal(1.0, 0.5),
)


def simulate(rng):
    """One data set from the prior with eta = 1, and the truth."""
    x = 3 + 2 * rng.normal(size=N_ROWS)
    codes = rng.integers(N_GROUPS, size=N_ROWS)
    truth = {
        "intercept": rng.normal(50, 10),
        "coef[x]": rng.normal(0, 3),
        "noise_scale": rng.lognormal(1.0, 0.5),
        "group_scale[g, intercept]": abs(rng.normal(0, 8)),
        "group_scale[g, x]": rng.exponential(2.0),
        "group_corr[g, intercept, x]": rng.uniform(-1, 1),  # LKJ(1) in two dimensions
    }
    rho = truth["group_corr[g, intercept, x]"]
    z = rng.normal(size=(2, N_GROUPS))
    b0 = truth["group_scale[g, intercept]"] * z[0]
    b1 = truth["group_scale[g, x]"] * (rho * z[0] + np.sqrt(1 - rho**2) * z[1])
    line = truth["intercept"] + b0[codes] + (truth["coef[x]"] + b1[codes]) * x
    y = line + truth["noise_scale"] * rng.normal(size=N_ROWS)
    first = codes.min()
    truth[f"group_effects[g, {first}, intercept]"] = b0[first]
    truth[f"group_effects[g, {first}, x]"] = b1[first]
    return pd.DataFrame({"x": x, "g": codes}), y, truth


def relative_ranks(n_fits, noncentered, seed):
    """Share of draws below the truth, (n_fits, n_parameters)."""
    rng = np.random.default_rng(seed)
    ranks = []
    for i in range(n_fits):
        X, y, truth = simulate(rng)
        model = HierarchicalSlopesRegressor(
            groups="g", eta=1.0, prior=PRIOR, noncentered=noncentered, n_warmup=300, n_draws=200,
            random_state=i,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # short runs
            draws = model.fit(X, y)._named_draws(group_effects=True)
        ranks.append([np.mean(draws[name] < value) for name, value in truth.items()])
    return np.array(ranks)


def assert_calibrated(ranks, level=1e-4):
    """Central intervals cover as often as they claim, each parameter, at this error rate."""
    n = len(ranks)
    for coverage in (0.5, 0.9):
        inside = (np.abs(ranks - 0.5) < coverage / 2).sum(0)
        low, high = binom.ppf([level, 1 - level], n, coverage)
        assert np.all((inside >= low) & (inside <= high)), (coverage, inside)


def test_intervals_cover_the_truth():
    assert_calibrated(relative_ranks(40, noncentered=True, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("noncentered", [True, False])
def test_ranks_of_the_truth_are_uniform(noncentered):
    ranks = relative_ranks(300, noncentered, seed=1)
    assert_calibrated(ranks)
    p_values = [kstest(column, "uniform").pvalue for column in ranks.T]
    assert min(p_values) > 1e-4, p_values


def test_calibration_notices_a_bug():
    """The check above can fail: ranks of a posterior that is half as wide as it should be."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 8))
    from scipy.stats import norm

    with pytest.raises(AssertionError):
        assert_calibrated(norm.cdf(2 * truth))
