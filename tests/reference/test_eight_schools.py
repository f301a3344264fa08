"""Meta-analysis of eight schools: known standard errors, a study a level; Rubin (1981)."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

from skhier import HierarchicalSlopesRegressor, Prior


@pytest.fixture(scope="module")
def figures(reference):
    return reference("eight_schools")


@pytest.fixture(scope="module")
def schools(figures):
    data = figures["data"]
    return pd.DataFrame({"school": data["school"], "error": data["error"]}), data["effect"]


@pytest.fixture(scope="module", params=["marginal", pytest.param("nuts", marks=pytest.mark.slow)])
def eight(request, schools):
    prior = Prior(intercept=dist.Normal(0.0, 5.0), group_scale=dist.HalfCauchy(5.0))
    model = HierarchicalSlopesRegressor(
        "school", known_noise="error", prior=prior, inference=request.param, random_state=0
    )
    return model.fit(*schools)


def test_posterior_is_posteriordb_s(eight, figures):
    mean, sd, mcse, mcse_of_sd = np.array(list(figures["parameters"].values())).T
    ours = eight.summary().loc[list(figures["parameters"])]
    off = np.abs(ours["mean"] - mean)
    assert (off < 5 * np.hypot(ours["mcse"], mcse)).all()
    assert (off < 0.1 * sd).all()
    assert (np.abs(ours["sd"] - sd) < 5 * 2 * mcse_of_sd).all()
    assert (ours["ess_bulk"] > 1000).all()
    assert eight.diagnostics_["warnings"] == []


def test_schools_are_posteriordb_s(eight, figures):
    mean, sd, mcse, mcse_of_sd = np.array(list(figures["schools"].values())).T
    ours, ours_sd = eight.group_coef_["school"], eight.group_coef_std_["school"]
    assert ours.index.tolist() == list(figures["schools"])
    # both of some thousands of draws of the variance parameter
    assert (np.abs(ours["intercept"] - mean) < 5 * 2 * mcse).all()
    assert (np.abs(ours_sd["intercept"] - sd) < 5 * 2 * mcse_of_sd).all()


def test_evidence_is_an_integral_over_tau(eight, figures):
    if eight.diagnostics_["engine"] == "nuts":
        assert np.isnan(eight.log_evidence_)
        return
    y, error = (np.array(figures["data"][name]) for name in ("effect", "error"))

    def density(tau):
        """``N(y; 0, diag(error^2 + tau^2) + 5^2 11') HalfCauchy(tau; 5)``."""
        cov = np.diag(error**2 + tau**2) + 25.0
        return stats.multivariate_normal(np.zeros(8), cov).pdf(y) * stats.halfcauchy(0, 5).pdf(tau)

    parts = [integrate.quad(density, *ends, epsrel=1e-10)[0] for ends in ((0, 20), (20, np.inf))]
    assert_allclose(eight.log_evidence_, np.log(sum(parts)), atol=0.005)
