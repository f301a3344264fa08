"""Predictions with crossed and nested factors, of seen and unseen levels; scores by folds."""

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import slow
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV

pytestmark = pytest.mark.filterwarnings("ignore:.*unseen group")

DESIGNS = ["on_crossed", "on_nested"]
N_DRAWS = 4000


@pytest.fixture
def on_crossed(crossed, crossed_fit):
    return case_of(crossed, crossed_fit)


@pytest.fixture
def on_nested(nested, nested_fit):
    return case_of(nested, nested_fit)


def case_of(sim, model):
    return SimpleNamespace(X=sim.data, y=sim.target, groups=sim.groups, model=model)


@pytest.fixture
def case(request):
    return request.getfixturevalue(request.param)


def mixed(X):
    """Six rows: all levels seen, then either or both unseen."""
    first, second = X.columns[-2:]
    rows = X.iloc[[3, 17, 40, 41, 80, 99]].reset_index(drop=True)
    rows.loc[[2, 4], first] = "new"
    rows.loc[[3, 4], second] = "new"
    rows.loc[5, second] = "newer"
    return rows


def labels_of(factor, X):
    """A row's level as ``group_levels_`` has it."""
    columns = factor.split(":")
    return list(X[columns].itertuples(index=False, name=None)) if len(columns) > 1 else X[factor]


def design(effects, X):
    return np.column_stack([np.ones(len(X)), *(X[name] for name in effects[1:])])


def mean_of_tables(model, X, counting):
    """Population line and, of the levels that are known, the posterior means of z'b."""
    mean = model.intercept_ + X[model.coef_names_].to_numpy() @ model.coef_
    for factor in counting:
        table = model.group_effects_[factor]
        known = dict(zip(table.index, table.to_numpy(), strict=True))
        z = design(list(table.columns), X)
        zero = np.zeros(z.shape[1])
        mean = mean + [z[i] @ known.get(g, zero) for i, g in enumerate(labels_of(factor, X))]
    return mean


def explicit_draws(model, X, counting, seed=0):
    """Draws (4000, n_rows) of the line from the public draws; new levels' effects ~ N(0, Sigma)."""
    rng = np.random.default_rng(seed)
    draws = model.posterior_
    coef = draws["coef"].reshape(N_DRAWS, -1)
    line = draws["intercept"].reshape(-1, 1) + coef @ X[model.coef_names_].to_numpy().T
    for factor in counting:
        effects = list(model.group_coef_[factor].columns)
        levels = list(model.group_levels_[factor])
        tau = draws["group_scale"][factor].reshape(N_DRAWS, -1)
        corr = draws["group_corr"][factor].reshape(N_DRAWS, len(effects), -1)
        root = tau[:, :, None] * np.linalg.cholesky(corr)
        b, new = model.sample_group_effects(factor), {}
        for i, (label, z) in enumerate(zip(labels_of(factor, X), design(effects, X), strict=True)):
            if label in levels:
                of_level = b[:, levels.index(label)]
            else:
                noise = rng.standard_normal((N_DRAWS, len(effects), 1))
                of_level = new.setdefault(label, (root @ noise)[..., 0])
            line[:, i] += of_level @ z
    return line


def unseen_variance(model, factor, X):
    """E[z' Sigma z] of each row."""
    tau = model.posterior_["group_scale"][factor]
    cov = tau[..., :, None] * model.posterior_["group_corr"][factor] * tau[..., None, :]
    z = design(list(model.group_coef_[factor].columns), X)
    return np.einsum("ni,ij,nj->n", z, cov.mean((0, 1)), z)


def variance_error(draws, ess):
    """Standard error of the variance of draws (axis 0)."""
    square = (draws - draws.mean(0)) ** 2
    return square.std(0) / np.sqrt(ess)


def choices(model):
    """``level`` and the factors that it makes count."""
    one, two = model.group_coef_
    return [("group", [one, two]), ("population", []), ([], []), ([one], [one]), ([two], [two])]


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_mean_is_the_population_line_and_the_known_levels_effects(case):
    m = case.model
    for X in (case.X, mixed(case.X)):
        for level, counting in choices(m):
            expected = mean_of_tables(m, X, counting)
            assert_allclose(m.predict(X, level=level), expected, rtol=1e-9)


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_levels_of_all_factors_are_the_group_level(case):
    m, X = case.model, mixed(case.X)
    every = list(m.group_coef_)
    for level in (every, every[::-1], tuple(every)):
        assert_array_equal(
            m.predict(X, return_std=True, level=level), m.predict(X, return_std=True)
        )
    none, population = (m.predict(X, return_std=True, level=x) for x in ([], "population"))
    assert_array_equal(none, population)


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_std_is_that_of_explicit_draws(case):
    m = case.model
    ess, noise = m.diagnostics_["ess_importance"], np.mean(m.posterior_["noise_scale"] ** 2)
    for X in (case.X[:30], mixed(case.X)):
        for level, counting in choices(m):
            draws = explicit_draws(m, X, counting)
            std = m.predict(X, return_std=True, level=level)[1]
            error = variance_error(draws, ess)
            assert np.all(np.abs(draws.var(0) - (std**2 - noise)) < 5 * np.sqrt(2) * error)
            expected = np.sqrt(draws.var(0) + noise)
            assert_allclose(std, expected, rtol=0.1)


def test_std_of_an_unseen_level_grows_by_its_scale(on_crossed):
    """No data say anything of its effects: their variance E[z' Sigma z] adds to the others'."""
    m, X = on_crossed.model, on_crossed.X[:30]
    ess = m.diagnostics_["ess_importance"]
    for new, known in ("ab", "ba"):
        std = m.predict(X.assign(**{new: "new"}), return_std=True)[1]
        others = m.predict(X, return_std=True, level=[known])[1]
        added = std**2 - others**2
        expected = unseen_variance(m, new, X)
        error = variance_error(explicit_draws(m, X.assign(**{new: "new"}), ["a", "b"]), ess)
        assert np.all(np.abs(added - expected) < 5 * error)
        assert_allclose(added, expected, rtol=0.1)


def test_a_new_cafe_in_a_known_state_has_the_states_effects(on_nested):
    m, X = on_nested.model, on_nested.X[:10]
    new = X.assign(cafe="new")
    assert_allclose(m.predict(new), m.predict(X, level=["state"]), rtol=1e-9)
    added = m.predict(new, return_std=True)[1] ** 2
    added = added - m.predict(X, return_std=True, level=["state"])[1] ** 2
    error = variance_error(
        explicit_draws(m, new, ["state", "state:cafe"]), m.diagnostics_["ess_importance"]
    )
    assert np.all(np.abs(added - unseen_variance(m, "state:cafe", X)) < 5 * error)
    # a known label in a new state is another cafe
    elsewhere = X.assign(state="new")
    assert_allclose(m.predict(elsewhere), m.predict(X, level="population"), rtol=1e-9)


def assert_variance(draws, expected):
    """Of draws with known mean 0, within five standard errors."""
    square = draws**2
    error = square.std() / np.sqrt(len(draws))
    assert abs(square.mean() - expected) < 5 * error, (square.mean(), expected, error)


@pytest.mark.parametrize("new", ["a", "b"])
def test_rows_of_a_new_level_share_its_draw(on_crossed, new):
    """Differences of rows alike: noise alone, or the effects of two levels too."""
    m = on_crossed.model
    row = on_crossed.X.iloc[[3]]
    X = pd.concat([row.assign(**{new: label}) for label in ("one", "one", "two", row[new].item())])
    X = pd.concat([X, row], ignore_index=True)
    y = m.sample_y(X, N_DRAWS, random_state=0)
    noise = 2 * np.mean(m.posterior_["noise_scale"] ** 2)
    of_level = unseen_variance(m, new, row).item()
    assert_variance(y[0] - y[1], noise)
    assert_variance(y[0] - y[2], noise + 2 * of_level)
    assert_variance(y[3] - y[4], noise)  # of a known one
    error = y.std(1) / np.sqrt(min(N_DRAWS, m.diagnostics_["ess_importance"]))
    assert np.all(np.abs(y.mean(1) - m.predict(X)) < 5 * error)


def test_rows_of_a_new_cafe_share_its_draw(on_nested):
    m, row = on_nested.model, on_nested.X.iloc[[3]]
    state = row["state"].item()
    other = "state_0" if state != "state_0" else "state_1"
    X = pd.concat(
        [
            row.assign(cafe="new"),
            row.assign(cafe="new"),
            row.assign(cafe="newer"),
            row.assign(cafe="new", state=other),
            row.assign(state="new"),
            row.assign(state="new"),
            row.assign(state="new", cafe="new"),
        ],
        ignore_index=True,
    )
    y = m.sample_y(X, N_DRAWS, random_state=0)
    noise = 2 * np.mean(m.posterior_["noise_scale"] ** 2)
    of_cafe = unseen_variance(m, "state:cafe", row).item()
    assert_variance(y[0] - y[1], noise)
    assert_variance(y[0] - y[2], noise + 2 * of_cafe)
    assert_variance(y[4] - y[5], noise)
    assert_variance(y[4] - y[6], noise + 2 * of_cafe)  # one new state, two cafes
    # two states' effects differ, and of the new cafes only the label is the same
    states = m.sample_group_effects("state", [state, other])
    between = (states[:, 0] - states[:, 1]) @ [1, row["x0"].item()]
    difference = y[0] - y[3]
    variance = between.var() + noise + 2 * of_cafe
    error = np.hypot(variance_error(difference, N_DRAWS), variance_error(between, 2000))
    assert abs(difference.var() - variance) < 5 * error


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_joint_draws_have_the_lines_covariance(case):
    """Of known rows: their coefficients' and effects' draws belong together."""
    m, X = case.model, case.X[:12]
    y = m.sample_y(X, N_DRAWS, random_state=1)
    line = explicit_draws(m, X, list(m.group_coef_)).T
    noise = np.mean(m.posterior_["noise_scale"] ** 2)
    off, off_line = y - y.mean(1)[:, None], line - line.mean(1)[:, None]
    found, expected = off @ off.T / N_DRAWS, off_line @ off_line.T / N_DRAWS
    expected += noise * np.eye(12)
    ess = min(m.diagnostics_["ess_importance"], N_DRAWS)
    error = (off[:, None] * off).std(-1) / np.sqrt(ess)
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(2) * error)


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_draws_given_a_level_leave_the_others_out(case):
    m, X = case.model, case.X[:12]
    for level, counting in choices(m):
        y = m.sample_y(X, N_DRAWS, random_state=0, level=level)
        mean, std = m.predict(X, return_std=True, level=level)
        ess = m.diagnostics_["ess_importance"]
        assert np.all(np.abs(y.mean(1) - mean) < 5 * std / np.sqrt(ess)), counting
        error = variance_error(y.T, ess)
        assert np.all(np.abs(y.var(1) - std**2) < 5 * np.sqrt(2) * error), counting


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_quantiles_split_explicit_draws(case):
    m, X = case.model, mixed(case.X)
    ess = m.diagnostics_["ess_importance"]
    q = np.array([0.05, 0.3, 0.95])
    noise = m.posterior_["noise_scale"].reshape(-1, 1) * np.random.default_rng(1).standard_normal(
        (N_DRAWS, len(X))
    )
    for level, counting in choices(m):
        line = explicit_draws(m, X, counting)
        for kind, draws in (("mean", line), ("response", line + noise)):
            found = m.predict_quantiles(X, q, kind=kind, level=level)
            below = (draws[..., None] < found).mean(0)
            assert np.all(np.abs(below - q) < 5 * np.sqrt(q * (1 - q) / ess)), (level, kind)
            interval = m.predict_interval(X, 0.9, kind=kind, level=level)
            assert_allclose(interval, found[:, [0, 2]], rtol=1e-7)


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_log_density_is_the_average_over_explicit_draws(case):
    m, X = case.model, mixed(case.X)
    y = m.predict(X) + np.linspace(-1, 1, len(X))
    sigma = m.posterior_["noise_scale"].reshape(-1, 1)
    line = explicit_draws(m, X, list(m.group_coef_))
    log_density = -0.5 * ((y - line) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi))
    expected = logsumexp(log_density, axis=0) - np.log(N_DRAWS)
    weights = np.exp(log_density - expected)
    error = weights.std(0) / np.sqrt(m.diagnostics_["ess_importance"])
    assert error.max() < 0.1
    assert np.all(np.abs(m.log_predictive_density(X, y) - expected) < 5 * error)


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_a_row_is_predicted_as_if_alone(case):
    m, X = case.model, mixed(case.X)
    y = np.arange(6.0)
    for predict in (
        m.predict,
        lambda X: np.column_stack(m.predict(X, return_std=True)),
        lambda X: m.predict_quantiles(X, [0.1, 0.5]),
        lambda X: m.log_predictive_density(X, y[X.index]),
    ):
        together = predict(X)
        reversed_rows = predict(X[::-1])[::-1]
        for i in range(6):
            assert_allclose(predict(X[i : i + 1])[0], together[i], rtol=1e-9)
        assert_allclose(reversed_rows, together, rtol=1e-9)


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_unknown_levels_name_their_factor(case):
    m = copy.deepcopy(case.model).set_params(handle_unknown="error")
    assert_array_equal(m.predict(case.X), case.model.predict(case.X))
    one, two = m.group_coef_
    column = case.X.columns[-1]
    new = case.X.assign(**{column: "new"})
    shown = r"\('state_\d', 'new'\)" if ":" in two else "'new'"
    with pytest.raises(ValueError, match=rf"unseen group.*of '{two}'.*{shown}"):
        m.predict(new)
    m.predict(new, level=[one])  # whose levels are known
    m.predict(new, level="population")
    with pytest.warns(UserWarning, match=rf"unseen group.*of '{two}'"):
        case.model.predict(new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.model.predict(new, level=[one])


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_bad_levels_say_what_there_is(case):
    m, X = case.model, case.X
    known = ", ".join(map(repr, m.group_coef_))
    with pytest.raises(ValueError, match=f"'c' is not a grouping factor.*{known}"):
        m.predict(X, level=["c"])
    one = next(iter(m.group_coef_))
    for wrong in (one, 1, None):
        with pytest.raises(ValueError, match="level"):
            m.predict(X, level=wrong)
    for method in (m.predict_interval, m.sample_y):
        with pytest.raises(ValueError, match="not a grouping factor"):
            method(X, level=["c"])


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_copies_predict_the_same_without_jax(case):
    m, X = case.model, mixed(case.X)
    twin = pickle.loads(pickle.dumps(m))
    assert_array_equal(twin.predict(X, return_std=True), m.predict(X, return_std=True))
    assert_array_equal(twin.predict_interval(X), m.predict_interval(X))
    assert_array_equal(twin.sample_y(X, 3, random_state=0), m.sample_y(X, 3, random_state=0))
    pd.testing.assert_frame_equal(twin.summary(True), m.summary(True), check_exact=True)
    code = (
        "import json, pickle, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "m, X = pickle.load(sys.stdin.buffer)\n"
        "found = [part.tolist() for part in m.predict(X, return_std=True)]\n"
        "m.predict_interval(X); m.sample_y(X); m.summary(True); m.variance_components()\n"
        "m.log_predictive_density(X, found[0])\n"
        "json.dump([found, sorted(sys.modules)], sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((m, X)),
        capture_output=True,
        timeout=120,
        env=os.environ,
        check=True,
    )
    found, loaded = json.loads(done.stdout)
    assert {name.split(".")[0] for name in loaded} & {"jax", "jaxlib", "numpyro", "arviz"} == set()
    assert_array_equal(found, m.predict(X, return_std=True))


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_copies_hold_no_row(case):
    stored = pickle.dumps(case.model)
    for column in (case.X["x0"].to_numpy(), case.y.to_numpy()):
        raw = np.ascontiguousarray(column).tobytes()
        assert not any(raw[i : i + 64] in stored for i in range(0, len(raw) - 56, 8))


GRID = {"eta": [1.0, 8.0], "prior__group_scale": [0.1, 1.0]}
LIGHT = {"n_chains": 2, "n_draws": 1000}


def log_predictive_density(model, X, y):
    return model.log_predictive_density(X, y).mean()


def split_scores(searches, case, **fit_params):
    """Scores (n_seeds, n_splits, n_candidates)."""
    found = [search.fit(case.X, case.y, **fit_params).cv_results_ for search in searches]
    return np.array([[scores[f"split{k}_test_score"] for k in range(3)] for scores in found])


# leaving states out leaves their cafes out too
FOLDS = {"rows": KFold(3, shuffle=True, random_state=0), "groups": GroupKFold(3)}


@pytest.mark.parametrize(
    ("case", "folds", "scoring"),
    [
        pytest.param("on_crossed", "rows", None, marks=pytest.mark.slow),
        pytest.param("on_crossed", "groups", "log_predictive_density", marks=pytest.mark.slow),
        pytest.param("on_nested", "rows", "log_predictive_density", marks=pytest.mark.slow),
        pytest.param("on_nested", "groups", None, marks=pytest.mark.slow),
    ],
    indirect=["case"],
)
def test_scores_are_those_of_grid_search(case, folds, scoring):
    """Averages over seeds, whose spread is the Monte Carlo error."""
    cv = FOLDS[folds]
    ours = [
        HierarchicalSlopesRegressorCV(
            case.groups, param_grid=GRID, cv=cv, scoring=scoring, random_state=seed, **LIGHT
        )
        for seed in range(6)
    ]
    theirs = [
        GridSearchCV(
            HierarchicalSlopesRegressor(case.groups, random_state=seed, **LIGHT),
            GRID,
            cv=cv,
            scoring=log_predictive_density if scoring else None,
            refit=False,
        )
        for seed in range(3)
    ]
    found = split_scores(ours, case)
    by_first = {"groups": case.X.iloc[:, -2]} if folds == "groups" else {}  # as ours does
    expected = split_scores(theirs, case, **by_first)
    variance = found.var(0, ddof=1) / 6 + expected.var(0, ddof=1) / 3
    error = np.sqrt(np.maximum(variance, variance.mean()))  # few seeds: at least the average
    assert error.max() < 0.02
    assert np.abs((found.mean(0) - expected.mean(0)) / error).max() < 5
    assert ours[0].cv_results_["params"] == theirs[0].cv_results_["params"]
    if folds == "rows":
        assert ours[0].best_params_["prior__group_scale"] == 1.0


@pytest.mark.parametrize("case", DESIGNS, indirect=True)
@pytest.mark.parametrize("cv", [*slow("loo"), "evidence"])
def test_scores_of_one_fit(case, cv):
    grid = {"prior__group_scale": [0.1, 1.0]}
    found = HierarchicalSlopesRegressorCV(
        case.groups, param_grid=grid, cv=cv, random_state=0, **LIGHT
    ).fit(case.X, case.y)
    for params, score in zip(found.cv_results_["params"], found.scores_[:, 0], strict=True):
        plain = HierarchicalSlopesRegressor(case.groups, random_state=1).set_params(**params)
        plain.fit(case.X, case.y)
        loo = plain.loo() if cv == "loo" else None
        expected = loo.elpd if loo else plain.log_evidence_
        error = np.sqrt((loo.pointwise["mcse"] ** 2).sum()) if loo else 0.02
        assert abs(score - expected) < 5 * np.hypot(1, 2) * error  # a quarter of the points
    assert_array_equal(found.predict(case.X).shape, (150,))


def test_one_factors_scores_are_refused(on_crossed):
    search = HierarchicalSlopesRegressorCV(on_crossed.groups, cv="logo", **LIGHT)
    with pytest.raises(ValueError, match="2 grouping factors"):
        search.fit(on_crossed.X, on_crossed.y)


@pytest.mark.slow
@pytest.mark.parametrize("case", DESIGNS, indirect=True)
def test_pipelines_and_joblib_take_several_factors(case):
    features = [name for name in case.X.columns if name.startswith("x")]
    scaled = ColumnTransformer(
        [("scale", StandardScaler(), features)],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    plain = HierarchicalSlopesRegressor(case.groups, random_state=0)
    chain = make_pipeline(scaled, plain).fit(case.X, case.y)
    error = case.model.predict(case.X, return_std=True)[1] / np.sqrt(1000)
    # coefficients' priors scale with the features: the same model but for Monte Carlo error
    assert np.all(np.abs(chain.predict(case.X) - case.model.predict(case.X)) < 5 * error)
    twin = clone(plain)
    assert twin.get_params()["groups"] == case.groups
    assert_array_equal(twin.fit(case.X, case.y).predict(case.X), case.model.predict(case.X))
    light = clone(plain).set_params(**LIGHT)
    with joblib.parallel_backend("loky", n_jobs=2):
        parallel = cross_val_score(light, case.X, case.y, cv=3, n_jobs=2)
    assert_allclose(parallel, cross_val_score(light, case.X, case.y, cv=3), rtol=1e-9)
