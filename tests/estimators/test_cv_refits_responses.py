"""Rows and groups left out in searches where y is not normal: against a grid of the population."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from counts_on_grid import CountsOnGrid
from numpy.testing import assert_allclose
from runs import slow

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


@pytest.fixture(scope="module")
def counts():
    """X (x, g) and counts of ten levels; g9 is one row, far from all others."""
    rng = np.random.default_rng(0)
    code = np.append(np.repeat(np.arange(9), 6), 9)
    x = rng.normal(size=55)
    y = rng.poisson(np.exp(0.8 + 0.4 * x + rng.normal(0, 0.2, 10)[code])).astype(float)
    y[-1] = 90
    return pd.DataFrame({"x": x, "g": [f"g{c}" for c in code]}), y


@pytest.mark.parametrize("cv", ["logo", *slow("loo")])
def test_counts_left_out_have_the_density_of_a_grid(counts, cv):
    search = HierarchicalSlopesRegressorCV(cv=cv, param_grid=GRID, **PARAMS).fit(*counts)
    results = search.cv_results_
    assert (results["n_refits"] > 0).any()
    assert (results["n_refits"] == results["n_bad_pareto_k"]).all()
    assert all(len(left) == 0 for left in results["unreliable"])
    for rate, params, score in zip(RATES, results["params"], search.scores_[:, 0], strict=True):
        exact = getattr(CountsOnGrid(*counts, rate), cv)()
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "params", [{"response": "student_t"}, {"response": "normal", "noise_by": "g"}]
)
def test_groups_left_out_are_differences_of_evidences(counts, params):
    X, y = counts
    y = np.log(y + 0.5)
    y[-1] += 3
    prior = Prior(dist.Normal(0.0, 2.0), {"x": dist.Normal(0.0, 1.0)}, *[dist.Exponential(1.0)] * 2)
    settings = PARAMS | {"prior": prior} | params
    search = HierarchicalSlopesRegressorCV(cv="logo", param_grid={"eta": [2.0]}, **settings)
    found = search.fit(X, y)
    assert found.cv_results_["n_refits"][0] > 0
    plain = HierarchicalSlopesRegressor(**settings).fit(X, y)
    logo = plain.logo()
    exact = logo.pointwise["elpd"].copy()
    for level in logo.pointwise.index[logo.pointwise["pareto_k"] > logo.good_k]:
        rest = HierarchicalSlopesRegressor(**settings).fit(X[X["g"] != level], y[X["g"] != level])
        exact[level] = plain.log_evidence_ - rest.log_evidence_
    assert_allclose(found.scores_[0, 0], exact.sum(), atol=0.2)
