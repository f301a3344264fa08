"""The contrast of effects within and between levels, against dense generalised least squares."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from runs import budget, slow

from skhier import HierarchicalSlopesRegressor
from skhier.posterior.within_between import contrasts
from skhier.statistics.group_means import add_group_means
from skhier.statistics.problem import reduce_rows
from skhier.utils.table import read_table
from skhier.utils.training import read_training

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Features whose effect between levels"),
]

SETTINGS = {"n_chains": 2, "n_draws": 200, "random_state": 0}
GROUPS = {
    "one": {"g": ["a"]},
    "crossed": {"g": ["a"], "h": None},
    "nested": {"s": None, ("s", "g"): ["a"]},
}


def panel(between=1.5, n=300, n_groups=30, seed=0):
    rng = np.random.default_rng(seed)
    g = np.append(np.arange(n_groups), rng.integers(n_groups, size=n - n_groups))
    h = rng.integers(5, size=n)
    a, b = rng.normal(size=(2, n_groups))[:, g] + rng.normal(size=(2, n))
    mean = (np.bincount(g, a) / np.bincount(g))[g]
    y = 3 + a + between * mean + 0.5 * b + 0.4 * rng.normal(size=n_groups)[g]
    y += 0.5 * rng.normal(size=5)[h] + rng.normal(size=n)
    return pd.DataFrame({"a": a, "b": b, "g": g, "h": h, "s": g // 10}), y


def used(X, groups):
    keys = [key if isinstance(key, tuple) else (key,) for key in groups]
    return X[["a", "b", *sorted({column for key in keys for column in key})]]


def dense_contrasts(model, X, y):
    """By the covariance of all rows, in the user's units."""
    fit = model._fitted
    rows, components = fit.training, fit.mixture
    assert np.array_equal(rows.y, y)
    units, n = fit.posterior.units, len(y)
    noise = fit.posterior.observation_variance().mean()
    covariance, predictive = noise * np.eye(n), noise
    if model.noise_by is not None:
        precision = fit.posterior.moments.precision / units.y_scale**2
        covariance = np.diag(1 / precision[rows.codes[:, 0]])
    for k, factor in enumerate(fit.design.factors):
        z = (rows.x[:, list(factor.slopes)] - units.x_mean[list(factor.slopes)]) / units.x_scale[
            list(factor.slopes)
        ]
        z = units.y_scale * np.column_stack([z, np.ones(n)])
        root = components.group_root[k]
        sigma = np.einsum("s,sij,skj->ik", components.weights, root, root)
        of_rows = z @ sigma @ z.T
        covariance += np.where(rows.codes[:, [k]] == rows.codes[:, k], of_rows, 0)
        predictive += np.diag(of_rows).mean()
    precision, table = np.linalg.inv(covariance), {}
    for k, factor in enumerate(fit.design.factors):
        table[factor.name] = {}
        codes = rows.codes[:, k]
        for j, name in enumerate(["a", "b"]):
            column = (np.bincount(codes, rows.x[:, j]) / np.bincount(codes))[codes]
            others = [c for c in rows.x.T if not np.allclose(c, column)]
            base = np.column_stack([*others, np.ones(n)])
            design = np.column_stack([base, column])
            cov = np.linalg.inv(design.T @ precision @ design)
            gamma = (cov @ design.T @ precision @ y)[-1]
            shares = np.linalg.solve(base.T @ precision @ base, base.T @ precision @ column)
            move = np.sqrt(np.mean((gamma * (column - base @ shares)) ** 2) / predictive)
            table[factor.name][name] = gamma / np.sqrt(cov[-1, -1]), move
    return table


@pytest.mark.parametrize("group_means", [None, ["a"]])
@pytest.mark.parametrize("groups", ["one", "nested", *slow("crossed", "noise_by")])
def test_contrasts_are_those_of_dense_least_squares(groups, group_means):
    X, y = panel()
    noise_by = "g" if groups == "noise_by" else None
    groups = "one" if noise_by else groups
    X = used(X, GROUPS[groups])
    model = HierarchicalSlopesRegressor(
        GROUPS[groups], group_means=group_means, noise_by=noise_by, **SETTINGS
    )
    expected = dense_contrasts(model.fit(X, y), X, y)
    table = model.diagnostics_["within_between"]
    assert table.keys() == expected.keys()
    for factor, of_factor in expected.items():
        assert list(table[factor]) == ["a", "b"]
        for name, (z, _) in of_factor.items():
            assert_allclose(table[factor][name], z, rtol=1e-6)


def test_move_is_that_of_dense_lines_and_rounds_change_nothing(monkeypatch):
    X, y = panel()
    X = used(X, GROUPS["crossed"])
    model = HierarchicalSlopesRegressor(GROUPS["crossed"], **SETTINGS).fit(X, y)
    fit, groups = model._fitted, GROUPS["crossed"]
    design, training = read_training(read_table(X), y, None, groups, "all")
    problem = reduce_rows(design, training)
    arguments = (*add_group_means([], design, training, problem)[::2], fit.posterior, fit.mixture)
    whole = contrasts(*arguments)
    expected = dense_contrasts(model, X, y)
    names = [factor.name for factor in design.factors]
    for contrast in whole:
        _, move = expected[names[contrast.factor]]["ab"[contrast.feature]]
        assert_allclose(contrast.move, move, rtol=1e-6)
    fit.posterior.budget = budget(contrast_entries=1, contrasts_at_once=1)
    for one, other in zip(contrasts(*arguments), whole, strict=True):
        assert_allclose(one[:4], other[:4], rtol=1e-9)


def test_warning_names_the_features_and_the_argument():
    X, y = panel(between=2.5, n=600, n_groups=60)
    X = used(X, GROUPS["one"])
    model = HierarchicalSlopesRegressor("g", slopes=None, **SETTINGS)
    with pytest.warns(UserWarning, match=r"'a' by the levels of 'g' .*group_means=\['a'\]"):
        model.fit(X, y)
    assert any("group_means=['a']" in text for text in model.diagnostics_["warnings"])
    assert model.diagnostics_["within_between"]["g"]["a"] > 5
    assert abs(model.diagnostics_["within_between"]["g"]["b"]) < 4
    model.set_params(group_means=["a"]).fit(X, y)
    assert not any("group_means" in text for text in model.diagnostics_["warnings"])
    assert model.diagnostics_["within_between"]["g"]["a"] > 5


def test_argument_keeps_what_the_model_has():
    X, y = panel(between=2.5, n=600, n_groups=60)
    X = used(X, GROUPS["crossed"])
    with pytest.warns(UserWarning, match="predictions of new levels are off") as caught:
        HierarchicalSlopesRegressor(
            ["g", "h"], slopes=None, group_means={"h": ["b"]}, **SETTINGS
        ).fit(X, y)
    assert "group_means={'g': ['a'], 'h': ['b']}." in str(caught[0].message)
    with pytest.warns(UserWarning, match=r"group_means=\[0\]\."):
        HierarchicalSlopesRegressor(-1, slopes=None, **SETTINGS).fit(
            used(X, GROUPS["one"]).to_numpy(), y
        )


def test_no_contrast_where_there_is_nothing_to_tell():
    X, y = panel(n=60, n_groups=6)
    flat = X.assign(a=X["g"] * 0.5, b=X["a"])[["a", "b", "g"]]
    model = HierarchicalSlopesRegressor("g", slopes=None, **SETTINGS).fit(flat, y)
    assert list(model.diagnostics_["within_between"]["g"]) == ["b"]
    alone = HierarchicalSlopesRegressor(**SETTINGS).fit(X[["a", "b"]], y)
    assert alone.diagnostics_["within_between"] == {}
    with pytest.warns(UserWarning, match="y is constant"):
        model.fit(flat, np.ones(60))
    assert model.diagnostics_["within_between"] == {"g": {}}
    mean = X.groupby("g")["a"].transform("mean")
    by_hand = model.fit(X[["a", "g"]].assign(mean=mean), y)
    assert by_hand.diagnostics_["within_between"] == {"g": {}}


@pytest.mark.slow
@pytest.mark.parametrize("noise_by", [None, "g"])
def test_false_alarms_are_rare(noise_by):
    alarms = 0
    for seed in range(60):
        n_groups = [8, 40][seed % 2]
        X, y = panel(between=0.0, n=[120, 400][seed % 2], n_groups=n_groups, seed=seed)
        if noise_by is not None:
            rng = np.random.default_rng(seed)
            y += rng.normal(size=len(y)) * np.exp(rng.normal(size=n_groups))[X["g"]]
        slopes = [None, ["a"]][seed // 2 % 2]
        model = HierarchicalSlopesRegressor("g", slopes=slopes, noise_by=noise_by, **SETTINGS)
        model.fit(used(X, GROUPS["one"]), y)
        alarms += any("group_means" in text for text in model.diagnostics_["warnings"])
    assert alarms == 0
