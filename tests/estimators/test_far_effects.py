"""Levels whose effects are far from normal, against dense integration given each component.

    p(b | y_g, component) ~ Normal(b; 0, L L') prod_i p(y_i | x_i'beta + z_i'b)

on a grid of u, ``b = L u``: mean and sd of the line at rows of the level.
"""

import numpy as np
import pandas as pd
import pytest
from runs import SHORT, budget, spending

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor
from skhier.utils.budget import USUAL

REACH, STEP = 7.0, 0.05


def outliers():
    """Three of 16 levels have as many bad readings as good ones: modes far from each other."""
    rng = np.random.default_rng(8)
    code, x = rng.integers(0, 16, 200), rng.normal(size=200)
    line = 10 + 2 * x + rng.normal(0, 2, 16)[code] + rng.normal(0, 1, 16)[code] * x
    y = line + rng.normal(0, 0.7, 200)
    bad = (code < 3) & (rng.random(200) < 0.5)
    y[bad] += rng.normal(0, 15, bad.sum())
    return pd.DataFrame({"x": x, "g": code}), y


def strong():
    """Effects so strong that most levels' rows are nearly separated."""
    rng = np.random.default_rng(0)
    code, x = rng.integers(0, 25, 350), rng.normal(size=350)
    line = -0.3 + 0.5 * x + rng.normal(0, 2.5, 25)[code] + rng.normal(0, 1.25, 25)[code] * x
    return pd.DataFrame({"x": x, "g": code}), (rng.random(350) < 1 / (1 + np.exp(-line))) * 1


def dense_lines(posterior, X, y, level, at, which):
    """Means and sds of the line at ``at`` given each of some components."""
    units = posterior.units
    u = np.arange(-REACH, REACH + STEP / 2, STEP)
    u = np.stack(np.meshgrid(u, u, indexing="ij")).reshape(2, -1)
    here = X["g"].to_numpy() == level
    z = np.column_stack([(X["x"] - units.x_mean[0]) / units.x_scale[0], np.ones(len(X))])[here]
    new = np.array([(at - units.x_mean[0]) / units.x_scale[0], 1.0])
    y = (np.asarray(y, float)[here] - units.y_mean) / units.y_scale
    own = posterior.rule.population.own
    out = []
    for s in which:
        b = posterior.rule.group_root[0][s] @ u
        coef = posterior.rule.coef[s]
        line = (z @ coef)[:, None] + z @ b
        given = {name: values[s] for name, values in own.items()}
        log_p = posterior.response.log_density(y[:, None], line, given).sum(0)
        log_p -= 0.5 * (u**2).sum(0)
        mass = np.exp(log_p - log_p.max())
        mass /= mass.sum()
        value = new @ coef + new @ b
        mean = mass @ value
        out.append((mean, np.sqrt(mass @ (value - mean) ** 2)))
    mean, sd = units.y_scale * np.array(out).T
    return units.y_mean + mean, sd


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (HierarchicalSlopesRegressor("g", response="student_t", random_state=0), outliers),
        (HierarchicalSlopesClassifier("g", random_state=0), strong),
    ],
)
def test_lines_have_the_means_and_sds_of_exact_effects(model, rows):
    X, y = rows()
    posterior = model.fit(X, y)._fitted.posterior
    rng = np.random.default_rng(1)
    weights = posterior.rule.weights
    which = rng.choice(len(weights), 24, p=weights / weights.sum())
    for level in range(6):
        for at in (-1.0, 1.0):
            x, codes = np.array([[at]]), np.array([[level]])
            ((_, mean, sd, _),) = posterior._line_moments(x, codes, posterior.every, False)
            exact, exact_sd = dense_lines(posterior, X, y, level, at, which)
            apart = (mean[which, 0] - exact) / exact_sd
            assert np.sqrt((apart**2).mean()) < 0.05
            assert np.sqrt(((sd[which, 0] / exact_sd - 1) ** 2).mean()) < 0.05


@pytest.mark.slow
def test_nodes_reach_far_only_where_effects_have_other_modes():
    model = HierarchicalSlopesRegressor("g", response="student_t", random_state=0)
    first = USUAL.quadrature.nodes_of_lattice(2)[0]
    rng = np.random.default_rng(3)
    code, x = rng.integers(0, 20, 600), rng.normal(size=600)
    line = x + rng.normal(0, 1, 20)[code] + rng.normal(0, 0.5, 20)[code] * x
    plain = model.fit(pd.DataFrame({"x": x, "g": code}), line + rng.standard_t(4, 600))
    assert plain.diagnostics_["nodes"] < first
    assert plain.diagnostics_["quadrature_error"] < USUAL.engine.quadrature_error
    assert model.fit(*outliers()).diagnostics_["nodes"] >= first


def narrow():
    """Noise a thousandth of the effects, which the few rows of a level know to as much."""
    rng = np.random.default_rng(5)
    code, x = np.repeat(np.arange(12), 8), rng.normal(size=96)
    line = x + rng.normal(0, 0.7, 12)[code] + rng.normal(0, 0.5, 12)[code] * x
    return pd.DataFrame({"x": x, "g": code}), line + 7e-4 * rng.standard_t(20, 96)


def test_effects_that_rows_know_closely_take_few_nodes():
    model = HierarchicalSlopesRegressor("g", response="student_t", random_state=0)
    fit = model.fit(*narrow())
    assert fit.diagnostics_["nodes"] < USUAL.quadrature.nodes_of_lattice(2)[0]
    assert fit.diagnostics_["quadrature_error"] < USUAL.engine.quadrature_error
    noise = np.log(fit.posterior_["noise_scale"])
    assert abs(noise.mean() - np.log(7e-4)) < 3 * noise.std()  # one data set: its truth


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # short chains
def test_effects_are_sampled_where_integrals_over_them_are_too_coarse():
    model = HierarchicalSlopesClassifier("g", slopes=None, **SHORT)
    never = spending(model, budget(quadrature_error=1e-15))
    X, y = strong()
    fit = never.fit(X[:80], y[:80])
    assert fit.diagnostics_["engine"] == "nuts"
    fit = never.set_params(inference="marginal").fit(X[:80], y[:80])
    assert fit.diagnostics_["engine"] == "marginal"
    assert any("nats only" in warning for warning in fit.diagnostics_["warnings"])
