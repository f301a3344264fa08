"""Rows and groups left out by a refit: against quadrature, dense normals and importance weights."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reduced import population
from runs import budget, spending
from scipy.special import logsumexp
from scipy.stats import expon, multivariate_normal

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV
from skhier.datasets import load_sleepstudy
from skhier.estimators._left_out import normal_density
from skhier.estimators._refits import checked, problem_without
from skhier.inference.prior import PriorSetting
from skhier.kernels.records import Components
from skhier.posterior.fitted import fitted_of
from skhier.statistics.problem import reduce_rows
from skhier.utils.table import read_table
from skhier.utils.training import read_training

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*Every group has one row"),
]


@pytest.fixture(scope="module")
def sleepstudy():
    return load_sleepstudy(return_X_y=True, as_frame=True)


class Fitted:
    """A fit to all rows, and its scores with every Pareto k above the limit at chosen places."""

    def __init__(self, X, y, groups, kind, weights=None, **params):
        self.model = HierarchicalSlopesRegressor(
            groups, n_chains=1, n_draws=1024, random_state=0, **params
        )
        design, training = read_training(read_table(X), y, weights, groups, self.model.slopes)
        self.design, self.training = design, training
        self.problem = reduce_rows(design, training)
        self.result = self.sample(self.problem)
        prior = PriorSetting.of(self.model, self.problem.scales, design)
        fit = fitted_of(design, self.problem, self.result, prior, 0, training)
        self.elpd = fit.loo() if kind == "loo" else fit.logo()

    def sample(self, problem, rows=None):
        return self.model._sample(self.design, problem, 0)[-1]

    def checked(self, places):
        k_hat = np.zeros(len(self.elpd.pointwise))
        k_hat[places] = 1.0
        doubtful = replace(self.elpd, pointwise=self.elpd.pointwise.assign(pareto_k=k_hat))
        return checked(doubtful, self.training, self.problem, self.result, self.sample)


@pytest.mark.parametrize(("kind", "places"), [("loo", [0, 37, 120, 179]), ("logo", [0, 7, 12])])
def test_refits_agree_with_importance_weights_where_k_is_low(sleepstudy, kind, places):
    fitted = Fitted(*sleepstudy, "Subject", kind)
    assert fitted.elpd.pointwise["pareto_k"].iloc[places].max() < 0.5
    found = fitted.checked(places)
    assert sorted(found.refitted) == places
    assert len(found.unreliable) == 0
    before, after = fitted.elpd.pointwise.iloc[places], found.elpd.pointwise.iloc[places]
    error = np.hypot(before["mcse"], after["mcse"])
    assert (after["mcse"] < 0.1).all()
    assert (np.abs(after["elpd"] - before["elpd"]) < 5 * error).all()
    assert_allclose(after["elpd"] + after["p"], before["elpd"] + before["p"])
    others = np.delete(np.arange(len(fitted.elpd.pointwise)), places)
    assert fitted.elpd.pointwise.iloc[others]["elpd"].equals(
        found.elpd.pointwise.iloc[others]["elpd"]
    )
    assert_allclose(found.elpd.elpd, found.elpd.pointwise["elpd"].sum())
    assert_allclose(found.elpd.se, np.sqrt(_spread(found.elpd.pointwise)))


@pytest.mark.parametrize("name", ["crossed", "nested"])
def test_rows_of_several_factors_are_refitted_too(name, request):
    problem = request.getfixturevalue(name)
    fitted = Fitted(problem.data, problem.target, problem.groups, "loo")
    places = list(np.argsort(fitted.elpd.pointwise["pareto_k"].to_numpy())[:2])
    before = fitted.elpd.pointwise.iloc[places]
    after = fitted.checked(places).elpd.pointwise.iloc[places]
    error = np.hypot(before["mcse"], after["mcse"])
    assert (np.abs(after["elpd"] - before["elpd"]) < 5 * error).all()
    assert (np.abs(after["elpd"] - before["elpd"]) < 0.1).all()


def _spread(table):
    return len(table) * table["elpd"].var(ddof=0)


def small_groups():
    """Groups of one to three rows, of which one row is far off."""
    rng = np.random.default_rng(4)
    codes = np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 5])
    y = rng.normal(size=6)[codes] + 0.5 * rng.normal(size=11)
    y[5] = 7.0
    return codes, y


def log_evidence(codes, y, weights, scales):
    """Quadrature over log sigma and log tau of the default prior of ``scales = (mean, sd)``.

    Dense: ``y ~ Normal(mean, tau^2 Z Z' + 2.5^2 sd^2 1 1' + sigma^2 I)``, rows repeated; all sigma
    at once by the eigenvectors of the part without noise.
    """
    mean, sd = scales
    codes, rest = np.repeat(codes, weights), np.repeat(y, weights) - mean
    same = (codes[:, None] == codes).astype(float)
    log_scale = np.linspace(-9, 4, 200)
    scale = np.exp(log_scale)
    prior = expon.logpdf(scale, scale=sd) + log_scale
    log_density = np.empty((200, 200))
    for j, tau in enumerate(scale):
        values, vectors = np.linalg.eigh(tau**2 * same + (2.5 * sd) ** 2)
        variance = values + scale[:, None] ** 2
        density = np.log(2 * np.pi * variance) + (vectors.T @ rest) ** 2 / variance
        log_density[:, j] = -0.5 * density.sum(1) + prior + prior[j]
    return logsumexp(log_density) + 2 * np.log(log_scale[1] - log_scale[0])


@pytest.mark.parametrize(("kind", "places"), [("loo", [5, 0, 10]), ("logo", [2, 1])])
def test_refits_give_the_density_by_quadrature(kind, places):
    codes, y = small_groups()
    weights = np.where(np.arange(11) == 0, 2, 1)
    fitted = Fitted(pd.DataFrame({"g": codes}), y, "g", kind, weights.astype(float))
    assert (fitted.elpd.pointwise["pareto_k"].iloc[places[0]]) > fitted.elpd.good_k
    found = fitted.checked(places).elpd.pointwise.iloc[places]
    twice = np.repeat(y, weights)
    scales = twice.mean(), twice.std(ddof=1)
    whole = log_evidence(codes, y, weights, scales)
    exact = []
    for place in places:
        rest = weights.copy()
        if kind == "loo":
            rest[place] -= 1
        else:
            rest[codes == place] = 0
        exact.append(whole - log_evidence(codes, y, rest, scales))
    assert (found["mcse"] < 0.15).all()
    assert (np.abs(found["elpd"] - exact) < 5 * found["mcse"]).all()


def test_what_is_left_out_keeps_the_prior_and_the_digits():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=40), "g": np.arange(40) % 5})
    y = X["x"].to_numpy() + rng.normal(size=40)
    y[3] = 1e9
    design, training = read_training(read_table(X), y, None, "g", "all")
    problem = reduce_rows(design, training)
    weights = np.ones(40)
    weights[3] = 0
    rest = problem_without(problem, training, weights)
    assert rest.scales is problem.scales
    assert rest.units.x_mean is problem.units.x_mean
    others = np.delete(y, 3)
    variance = (rest.stats.yy - rest.stats.xy[-1] ** 2 / 39) * rest.units.y_scale**2
    assert_allclose(variance, others.var() * 39, rtol=1e-12)
    assert rest.stats.n == 39
    constant = training._replace(y=np.where(np.arange(40) == 3, 1.0, 2.0))
    assert problem_without(problem, constant, weights) is None
    assert problem_without(problem, training, (np.arange(40) == 3).astype(float)) is None


@pytest.mark.parametrize("n_rows", [1, 2, 30])
@pytest.mark.parametrize("sigma", [0.7, 1e-3])
def test_group_density_is_that_of_a_dense_normal(n_rows, sigma):
    rng = np.random.default_rng(n_rows)
    X = pd.DataFrame(rng.normal(size=(50, 2)), columns=["a", "b"]).assign(g=np.arange(50) % 5)
    y = rng.normal(size=50)
    design, training = read_training(read_table(X), y, None, "g", ["a"])
    problem = reduce_rows(design, training)
    root, chol = rng.normal(size=(2, 3, 3)), np.tril(rng.normal(size=(2, 2, 2)))
    components = Components(
        np.full(2, 0.5),
        population(rng.normal(size=(2, 3)), np.full(2, sigma), [chol]),
        root @ np.swapaxes(root, 1, 2),
    )
    counts = rng.integers(1, 3, n_rows)
    x, new = training.x[:n_rows], y[:n_rows]
    found = normal_density(problem, components, x, None, new, counts, 2**10)
    units = problem.units
    again = np.repeat(np.arange(n_rows), counts)
    design = np.column_stack([(x - units.x_mean) / units.x_scale, np.ones(n_rows)])[again]
    internal = ((new - units.y_mean) / units.y_scale)[again]
    for s in range(2):
        z = design[:, [0, 2]] @ chol[s]
        cov = z @ z.T + design @ components.coef_cov[s] @ design.T + sigma**2 * np.eye(len(again))
        expected = multivariate_normal.logpdf(internal, design @ components.coef[s], cov)
        # the dense covariance's condition is up to 1 / sigma^2
        assert_allclose(found[s] + len(again) * np.log(units.y_scale), expected, rtol=1e-5)


def test_a_fit_by_chains_is_not_refitted(sleepstudy):
    fitted = Fitted(*sleepstudy, "Subject", "loo")
    fitted.result = fitted.result._replace(facts={"sampler": "nuts"})
    found = fitted.checked([3, 5])
    assert list(found.unreliable) == [3, 5]
    assert found.elpd.elpd == fitted.elpd.elpd


def search(cv, grid, **params):
    return HierarchicalSlopesRegressorCV("g", cv=cv, param_grid=grid, random_state=0, **params)


@pytest.mark.parametrize("cv", ["loo", "logo"])
def test_search_reports_k_and_refits_what_is_not_reliable(cv):
    codes, y = small_groups()
    X = pd.DataFrame({"g": codes})
    found = search(cv, {"prior__group_scale": [0.2, 1.0]}).fit(X, y)
    results = found.cv_results_
    assert (results["max_pareto_k"] > 0.7).any()
    assert (results["n_bad_pareto_k"] > 0).any()
    assert (results["n_refits"] == results["n_bad_pareto_k"]).all()
    assert all(len(rows) == 0 for rows in results["unreliable"])
    assert (results["se_test_score"] > 0).all()
    assert np.isfinite(found.scores_).all()
    scales = y.mean(), y.std(ddof=1)
    whole, weights = log_evidence(codes, y, np.ones(11, int), scales), np.ones(11, int)
    left = [np.arange(11) == i for i in range(11)]
    if cv == "logo":
        left = [codes == g for g in range(6)]
    exact = [whole - log_evidence(codes, y, weights * ~rows, scales) for rows in left]
    # refits' Monte Carlo errors are some 0.02 each
    assert_allclose(found.scores_[1, 0], sum(exact), atol=0.3)


@pytest.mark.parametrize("cv", ["loo", "logo"])
def test_search_names_what_it_could_not_refit(cv):
    codes, y = small_groups()
    X = pd.DataFrame({"g": np.array(list("abcdef"))[codes]})
    model = search(cv, {"prior__group_scale": [1.0, 1.05]})
    with pytest.warns(UserWarning, match=f"cv='{cv}' cannot tell") as caught:
        found = spending(model, budget(max_refits=0)).fit(X, y)
    (message,) = [str(w.message) for w in caught if "cannot tell" in str(w.message)]
    assert message in found.diagnostics_["warnings"]
    assert "rests on these" in message
    assert "at most 0 " in message
    assert "rows 5" in message if cv == "loo" else "groups c" in message
    unreliable = found.cv_results_["unreliable"]
    assert [len(a) for a in unreliable] == list(found.cv_results_["n_bad_pareto_k"])
    assert unreliable[0][0] == (5 if cv == "loo" else "c")


def test_rows_are_named_by_their_place_in_X():
    codes, y = small_groups()
    X = pd.DataFrame({"g": np.append([9], codes)})
    weights = np.append([0.0], np.ones(11))
    model = spending(search("loo", {"eta": [2.0]}), budget(max_refits=0))
    with pytest.warns(UserWarning, match="rows 6"):
        found = model.fit(X, np.append([0.0], y), sample_weight=weights)
    assert found.cv_results_["unreliable"][0][0] == 6


@pytest.mark.parametrize("cv", ["loo", "logo", "evidence"])
def test_a_constant_y_has_no_such_score(cv):
    with pytest.raises(ValueError, match="nothing to score: y is constant"):
        search(cv, {"eta": [2.0]}).fit(pd.DataFrame({"g": [0, 0, 1, 1]}), np.full(4, 3.0))


def test_one_group_cannot_be_left_out():
    with pytest.raises(ValueError, match="needs two or more"):
        search("logo", {"eta": [2.0]}).fit(pd.DataFrame({"g": [0, 0, 0]}), np.arange(3.0))
