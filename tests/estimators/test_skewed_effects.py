"""Effects of levels with few rows and rare events, against dense integration given each component.

    p(b | y_g, component) ~ Normal(b; 0, L L') prod_i p(y_i | x_i'beta + z_i'b)

on a grid of u, ``b = L u``: moments, quantiles and draws of the mean of y at a row of the level.
"""

import copy

import numpy as np
import pandas as pd
import pytest

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor

N_COMPONENTS, N_DRAWS = 64, 40_000
LEVELS = np.array([0.05, 0.95])


def rare(q, response):
    """Twenty levels of six rows: x, level, y."""
    rng = np.random.default_rng(4)
    code, x = np.repeat(np.arange(20), 6), rng.normal(size=120)
    effects = rng.normal(0, [1.5, 0.8], (20, 2))[code]
    line = -1.8 + effects[:, 0] + (0.4 + (q - 1) * effects[:, 1]) * x
    if response == "poisson":
        y = rng.poisson(np.exp(line))
    else:
        y = (rng.random(120) < 1 / (1 + np.exp(-line))) * 1
    return pd.DataFrame({"x": x, "g": code}), y


def fitted(q, response):
    """The posterior of a few components, and the rows."""
    X, y = rare(q, response)
    settings = {"slopes": ["x"] if q == 2 else None, "random_state": 0}
    if response == "poisson":
        model = HierarchicalSlopesRegressor("g", response="poisson", **settings)
    else:
        model = HierarchicalSlopesClassifier("g", **settings)
    posterior = copy.copy(model.fit(X, y)._fitted.posterior)
    posterior.rule = posterior.rule.first(N_COMPONENTS)
    effects = posterior.effects
    weights = posterior.rule.weights
    place = np.random.default_rng(0).choice(N_COMPONENTS, (1, N_DRAWS), p=weights)
    first = {
        name: tuple(a[:N_COMPONENTS] for a in getattr(effects, name))
        for name in ("mean", "root", "skew", "stretch")
        if getattr(effects, name) is not None
    }
    posterior.effects = effects._replace(place=place, **first)
    return posterior, X, np.asarray(y, float)


def on_grid(posterior, X, y, level, row, q):
    """Values of the mean of y at a row of the level, and the mass of each."""
    u = np.linspace(-7, 7, 1401 if q == 1 else 121)
    u = np.stack(np.meshgrid(*[u] * q, indexing="ij")).reshape(q, -1)
    units, response = posterior.units, posterior.response
    x = np.column_stack([(X["x"].to_numpy() - units.x_mean) / units.x_scale, np.ones(len(X))])
    z = x if q == 2 else x[:, 1:]
    values, masses = [], []
    for s, weight in enumerate(posterior.rule.weights):
        line = z @ posterior.rule.group_root[0][s] @ u + (x @ posterior.rule.coef[s])[:, None]
        here = X["g"].to_numpy() == level
        log_p = response.log_density(y[here, None], line[here], {}).sum(0) - (u**2).sum(0) / 2
        mass = np.exp(log_p - log_p.max())
        masses.append(weight * mass / mass.sum())
        values.append(response.mean(line[row], {}))
    return np.concatenate(values), np.concatenate(masses)


@pytest.mark.parametrize(
    ("q", "response"),
    [
        (1, "bernoulli"),
        *(pytest.param(2, name, marks=pytest.mark.slow) for name in ("bernoulli", "poisson")),
    ],
)
def test_levels_of_rare_events_have_the_means_and_quantiles_of_exact_effects(q, response):
    posterior, X, y = fitted(q, response)
    totals = np.bincount(X["g"], y)
    rows = [6 * level + 2 for level in (totals.argmin(), totals.argmax(), 7)]
    x, codes = X[["x"]].to_numpy()[rows], X[["g"]].to_numpy()[rows]
    mean = posterior.mean(x, codes)
    ends = posterior.quantiles(x, codes, LEVELS, "mean")
    lines = posterior.sample_lines(x, codes, slice(None), None)
    drawn = posterior.response.mean(lines, {})
    for i, row in enumerate(rows):
        values, masses = on_grid(posterior, X, y, X["g"][row], row, q)
        exact = masses @ values
        order = np.argsort(values)
        passed = np.cumsum(masses[order])
        quantiles = values[order][np.searchsorted(passed, LEVELS)]
        # of a probability; of a rate, relative to its upper end, 0.025 and 0.05
        near = np.array([0.005, 0.01]) * (1 if response == "bernoulli" else 5 * quantiles[1])
        assert abs(mean[i] - exact) < near[0]
        assert np.abs(ends[i] - quantiles).max() < near[1]
        error = 5 * drawn[:, i].std() / np.sqrt(N_DRAWS)
        assert abs(drawn[:, i].mean() - exact) < near[0] + error
        # five standard errors of a quantile, by the slope between its neighbours
        beside = values[order][np.searchsorted(passed, LEVELS[:, None] + np.array([-0.01, 0.01]))]
        error = 5 * np.sqrt(0.05 * 0.95 / N_DRAWS) * np.ptp(beside, axis=1) / 0.02
        assert (np.abs(np.quantile(drawn[:, i], LEVELS) - quantiles) < near[1] + error).all()


def rare_counts(seed):
    """Ten levels of twelve rows, a count in fifty: levels of zeros."""
    rng = np.random.default_rng(seed)
    code = np.arange(120) % 10
    return pd.DataFrame({"x": rng.normal(size=120), "g": code}), rng.poisson(0.02, 120)


def test_means_of_rare_counts_with_slopes_are_those_of_a_grid():
    """A row of zeros bounds its own line, how wide the slopes may be; ``stretch_at``."""
    X, y = rare_counts(3)
    model = HierarchicalSlopesRegressor("g", response="poisson", random_state=0).fit(X, y)
    posterior = model._fitted.posterior
    widest = posterior.rule.group_root[0][:, 0, 0]
    which = np.flatnonzero((posterior.rule.weights > 1e-4) & (widest < 2.5))[::50]
    extreme = np.argsort(X["x"].to_numpy())[[0, 3, 60, 116, 119]]
    x, codes = X[["x"]].to_numpy()[extreme], X["g"].to_numpy()[extreme, None]
    ((_, mean, sd),) = posterior.line_mixture(x, codes, of_response=True)
    for at, (row, level) in enumerate(zip(extreme, codes[:, 0], strict=True)):
        for s in which:
            truth = np.log(mean_on_grid(posterior, X, y, level, row, s))
            log_mean = mean[s, at] + 0.5 * sd[s, at] ** 2
            assert abs(log_mean - truth) < 0.35  # by few nodes, the line's sd some 5
    # and no component of little weight, whose lines may have any width, makes the mean
    assert model.predict(X).max() < 0.1
    assert abs(model.predict(X).sum() - y.sum()) < 0.4


def mean_on_grid(posterior, X, y, level, row, s):
    """Mean of ``e^line`` at a row given a component, by a dense grid of the level's effects."""
    u = np.linspace(-7, 7, 281)
    u = np.stack(np.meshgrid(u, u, indexing="ij")).reshape(2, -1)
    units = posterior.units
    x = np.column_stack([(X["x"].to_numpy() - units.x_mean) / units.x_scale, np.ones(len(X))])
    rows = np.flatnonzero(X["g"] == level)
    lines = x[rows] @ (posterior.rule.coef[s][:, None] + posterior.rule.group_root[0][s] @ u)
    log_mass = -0.5 * (u**2).sum(0)
    log_mass += (y[rows, None] * lines - np.exp(lines)).sum(0)
    mass = np.exp(log_mass - log_mass.max())
    return np.exp(lines[list(rows).index(row)]) @ mass / mass.sum()


def test_points_far_out_without_moments_do_not_fail_a_fit():
    """Two points of weight 1e-18 and less have a covariance without a root."""
    X, y = rare_counts(5)
    model = HierarchicalSlopesRegressor("g", response="poisson", random_state=0).fit(X, y)
    assert np.isfinite(model.group_coef_["g"].to_numpy()).all()
    assert abs(model.predict(X).sum() / y.sum() - 1) < 0.2
