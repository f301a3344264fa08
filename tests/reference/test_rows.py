"""Responses without sufficient statistics, against exact integration, brms and lme4's glmer."""

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from runs import slow

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.inference.row_engines import engine_rows
from skhier.kernels.records import Population
from skhier.kernels.rows.quadrature import level_nodes
from skhier.kernels.rows.rules import product_rule
from skhier.responses import Bernoulli, Poisson
from skhier.statistics.rows import arrange_rows


@pytest.fixture(scope="module")
def figures(reference):
    return reference("cbpp")


@pytest.fixture(scope="module")
def cbpp(figures):
    """X (dummies of the periods, herd), shares of cases, sizes of herds."""
    table = pd.DataFrame(figures["data"])
    X = pd.DataFrame({f"period{k}": (table["period"] == k).astype(float) for k in "234"})
    return X.assign(herd=table["herd"]), table["incidence"] / table["size"], table["size"]


@pytest.fixture(scope="module")
def cbpp_fit(cbpp):
    prior = Prior(
        intercept=dist.Normal(0.0, 2.5),
        coef={f"period{k}": dist.Normal(0.0, 2.5) for k in "234"},
        group_scale=dist.Exponential(1.0),
    )
    X, y, size = cbpp
    model = HierarchicalSlopesRegressor(
        "herd", slopes=None, response="binomial", prior=prior, random_state=0
    )
    return model.fit(X, y, sample_weight=size)


@pytest.mark.parametrize("source", ["exact", "brms"])
def test_cbpp_is_the_posterior_of(source, figures, cbpp_fit, assert_agrees):
    effects = {  # an sd's error is no larger than the mean's, which stands in for it
        f"group_effects[herd, {herd}, intercept]": [mean, sd, mcse, mcse]
        for herd, (mean, sd, mcse) in figures[source]["effects"].items()
    }
    assert_agrees(cbpp_fit, figures[source]["parameters"] | effects)


def test_cbpp_evidence_is_exact(figures, cbpp_fit):
    assert abs(cbpp_fit.log_evidence_ - figures["exact"]["log_evidence"]) < 0.02


def test_cbpp_probabilities_are_those_of_brms(figures, cbpp_fit):
    predictions = figures["predictions"]
    new = pd.DataFrame(predictions["newdata"])
    X = pd.DataFrame({f"period{k}": (new["period"] == k).astype(float) for k in "234"})
    expected = np.array(predictions["expected_response"]["mean"]) / new["size"]
    with pytest.warns(UserWarning, match="'NEW'"):
        ours = cbpp_fit.predict(X.assign(herd=new["herd"]))
    assert np.abs(ours - expected).max() < 0.005


MODELS = {
    "logit": ("clustered_binary", Bernoulli(), lambda of: of["glmer"]),
    "probit": ("clustered_binary", Bernoulli("probit"), lambda of: of["glmer"]["probit"]),
    "poisson": ("clustered_counts", Poisson(), lambda of: of["glmer"]),
}


def glmer_rows(table, n_levels):
    codes = np.unique(table["group"], return_inverse=True)[1]
    x = np.column_stack([table["x"], np.ones(len(codes))])
    offset = np.log(table.get("exposure", np.ones(len(codes))))
    weights, y = np.ones(len(codes)), np.asarray(table["y"], float)
    return arrange_rows(x, codes, y, weights, offset, n_levels)[0]


def log_likelihood(response, rows, rule, columns):
    """A function of the coefficients and the root of the effects' covariance."""

    def value(coef, root):
        everyone = Population(coef, (root,), {})
        return level_nodes(response, rule, rows, rows.x[columns], everyone).log_density.sum()

    return jax.jit(value)


@pytest.mark.parametrize("name", ["logit", *slow("probit"), "poisson"])
def test_glmer_estimates_maximise_the_likelihood(name, reference):
    table, response, choose = MODELS[name]
    of = reference("clustered")[table]
    estimate = choose(of)
    n_levels = len(set(of["data"]["group"]))
    with jax.enable_x64(True):
        value = log_likelihood(
            response, glmer_rows(of["data"], n_levels), product_rule(15, 1), np.array([1])
        )
        fixed = estimate["fixef"]
        at = np.array([fixed["x"], fixed["(Intercept)"], estimate["sd"]])

        def density(point):
            return float(value(point[:2], point[2].reshape(1, 1)))

        for j, h in enumerate(0.02 * np.eye(3)):
            up, here, down = density(at + h), density(at), density(at - h)
            curvature = (2 * here - up - down) / 0.02**2
            step = (up - down) / 0.04 / curvature
            # differences' own error is some h^2 / 6; glmer stops at a tolerance
            assert curvature > 0
            assert abs(step) < 0.02 / np.sqrt(curvature), (j, step)


@pytest.mark.slow
def test_estimator_with_exposure_has_glmer_s_mode(reference):
    """Under flat priors the estimator's density of its rows is at its highest at lme4's fit."""
    of = reference("clustered")["clustered_counts"]
    table, estimate = pd.DataFrame(of["data"]), of["glmer"]
    model = HierarchicalSlopesRegressor(
        "group", slopes=None, response="poisson", exposure="exposure", random_state=0
    ).fit(table[["group", "x", "exposure"]], table["y"])
    units = model._fitted.posterior.units
    x, codes, y, weights, offset = engine_rows(units, model._fitted.training)
    rows = arrange_rows(x, codes[:, 0], y, weights, offset, 50)[0]
    slope = estimate["fixef"]["x"]
    at_mean = estimate["fixef"]["(Intercept)"] + slope * units.x_mean[0]
    at = np.array([slope * units.x_scale[0], at_mean, estimate["sd"]])
    with jax.enable_x64(True):
        value = log_likelihood(Poisson(), rows, product_rule(15, 1), np.array([1]))
        for h in 0.02 * np.eye(3):
            points = (at + h, at, at - h)
            up, here, down = (float(value(p[:2], p[2].reshape(1, 1))) for p in points)
            curvature = (2 * here - up - down) / 0.02**2
            assert abs((up - down) / 0.04 / curvature) < 0.02 / np.sqrt(curvature)
    # and the posterior under weak priors lies around it
    summary = model.summary()
    for name, ours in {"intercept": estimate["fixef"]["(Intercept)"], "coef[x]": slope}.items():
        assert abs(summary.loc[name, "mean"] - ours) < 0.1 * summary.loc[name, "sd"]


@pytest.mark.parametrize("name", ["logit", "poisson"])
def test_one_node_is_glmer_s_laplace(name, reference):
    table, response, _ = MODELS[name]
    of = reference("clustered")[table]
    laplace = of["glmer"].get("laplace") or of["glmer"]["laplace_slopes"]
    n_levels = len(set(of["data"]["group"]))
    fixed = laplace["fixef"]
    coef = np.array([fixed["x"], fixed["(Intercept)"]])
    if name == "logit":
        root, columns = np.array([[laplace["sd"]]]), np.array([1])
    else:  # intercept and slope correlate by 1: a root of rank one; the slope comes first
        intercept_sd, slope_sd = laplace["sd"]
        root, columns = np.array([[slope_sd, 0.0], [intercept_sd, 0.0]]), np.array([0, 1])
    with jax.enable_x64(True):
        rows = glmer_rows(of["data"], n_levels)
        value = log_likelihood(response, rows, product_rule(1, len(columns)), columns)
        assert_allclose(value(coef, root), laplace["logLik"], atol=1e-2)
