"""Draws from the prior against what the prior says, and the same prior before and after fit."""

import pickle
import tracemalloc

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import psutil
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skhier import (
    DecovPrior,
    HierarchicalSlopesClassifier,
    HierarchicalSlopesRegressor,
    Prior,
)
from skhier.inference.prior import draw_parameters
from skhier.posterior.prior_draws import prior_without_fit

EXPLICIT = Prior(
    intercept=dist.Normal(3.0, 2.0),
    coef={"a": dist.StudentT(5.0, 1.0, 0.5), "b": dist.Uniform(-1.0, 4.0)},
    group_scale={"intercept": dist.HalfNormal(2.0), "a": dist.Gamma(2.0, 4.0), "b": dist.Gamma(3)},
    noise_scale=dist.Exponential(0.5),
)
N = 1000


@pytest.fixture(scope="module")
def table():
    """X (a, b, g) and y: five groups, eight rows each."""
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal([5.0, 0.0], [2.0, 1.0], size=(40, 2)), columns=["a", "b"])
    return X.assign(g=np.repeat(list("vwxyz"), 8)), rng.normal(10.0, 3.0, size=40)


def parameters(X, y=None, **params):
    model = HierarchicalSlopesRegressor("g", **params)
    drawn = draw_parameters(prior_without_fit(model, X, y)[0], N, np.random.default_rng(7))
    (scale,), (root,) = drawn.group_scale, drawn.corr_root
    return drawn._replace(group_scale=scale, corr_root=root)


def at_the_mean(drawn, mean):
    """Scales and correlations of the effects, the intercept, which is first, at the mean of X."""
    to_mean = np.eye(len(mean) + 1)
    to_mean[0, 1:] = mean
    root = to_mean @ (drawn.group_scale[:, :, None] * drawn.corr_root)
    cov = root @ np.swapaxes(root, 1, 2)
    scale = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    return scale, cov / (scale[:, :, None] * scale[:, None, :])


def assert_distributed(values, distribution):
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-3


def test_explicit_priors_are_drawn_from(table):
    X, _ = table
    drawn = parameters(X, prior=EXPLICIT)
    assert_distributed(drawn.intercept, stats.norm(3, 2))
    assert_distributed(drawn.coef[:, 0], stats.t(5, 1, 0.5))
    assert_distributed(drawn.coef[:, 1], stats.uniform(-1, 5))
    assert_distributed(drawn.own["noise_scale"], stats.expon(scale=2))
    assert_distributed(drawn.group_scale[:, 0], stats.halfnorm(scale=2))
    assert_distributed(drawn.group_scale[:, 1], stats.gamma(2, scale=0.25))
    assert_distributed(drawn.group_scale[:, 2], stats.gamma(3))


@pytest.mark.parametrize("eta", [1.0, 2.0, 8.0])
def test_correlations_have_the_lkj_margins(table, eta):
    """(r + 1) / 2 ~ Beta(eta - 1 + q / 2, the same) (Lewandowski et al. 2009, sec. 3)."""
    X, _ = table
    root = parameters(X, prior=EXPLICIT, eta=eta).corr_root
    corr = root @ np.swapaxes(root, 1, 2)
    assert_allclose(np.diagonal(corr, axis1=1, axis2=2), 1, rtol=1e-9)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert_distributed((corr[:, i, j] + 1) / 2, stats.beta(eta + 0.5, eta + 0.5))


def test_default_priors_are_those_of_the_summary(table):
    X, y = table
    drawn = parameters(X, y)
    sd, of_x, mean = y.std(ddof=1), X[["a", "b"]].std().to_numpy(), X[["a", "b"]].mean().to_numpy()
    assert_distributed(drawn.intercept + drawn.coef @ mean, stats.norm(y.mean(), 2.5 * sd))
    assert_distributed(drawn.own["noise_scale"], stats.expon(scale=sd))
    scale, corr = at_the_mean(drawn, mean)
    assert_distributed(scale[:, 0], stats.expon(scale=sd))
    for j in range(2):
        assert_distributed(drawn.coef[:, j], stats.norm(0, 2.5 * sd / of_x[j]))
        assert_distributed(scale[:, 1 + j], stats.expon(scale=sd / of_x[j]))
        assert_distributed((corr[:, 1 + j, 0] + 1) / 2, stats.beta(2.5, 2.5))


def test_decov_shares_out_the_variance(table):
    X, y = table
    prior = DecovPrior(concentration=2.0, shape=3.0, scale=0.5)
    drawn = parameters(X, y, prior=prior, slopes=["a"])
    variance = (drawn.group_scale / (0.5 * drawn.own["noise_scale"][:, None])) ** 2
    assert_distributed(np.sqrt(variance.sum(1) / 2), stats.gamma(3))
    assert_distributed(variance[:, 0] / variance.sum(1), stats.beta(2, 2))


def test_responses_have_the_moments_of_the_prior(table):
    """Var y = sum of the parts' variances at the mean; E tau^2 = 2 mean^2 of an exponential."""
    X, y = table
    draws = HierarchicalSlopesRegressor("g", slopes=["a"]).sample_prior(X, N, 3, y=y)
    sd, of_x = y.std(ddof=1), X[["a", "b"]].std().to_numpy()
    x = X[["a", "b"]].to_numpy()
    off = (x - x.mean(0)) / of_x
    of_groups = 2 * (1 + off[:, 0] ** 2)
    variance = sd**2 * (2.5**2 * (1 + (off**2).sum(1)) + of_groups + 2)
    assert np.all(np.abs(draws.mean(1) - y.mean()) < 5 * np.sqrt(variance / N))
    squares = (draws - y.mean()) ** 2
    assert np.all(np.abs(squares.mean(1) - variance) < 5 * squares.std(1) / np.sqrt(N))


def test_rows_of_one_level_share_its_effects(table):
    X, _ = table
    quiet = Prior(
        intercept=dist.Normal(0, 1),
        coef=dist.Normal(0, 1),
        group_scale=dist.HalfNormal(1.0),
        noise_scale=dist.HalfNormal(1e-9),
    )
    same = X.assign(a=1.0, b=2.0)
    model = HierarchicalSlopesRegressor("g", slopes=["a", "b"], prior=quiet)
    draws = model.sample_prior(same, 3, 0)
    assert draws.shape == (40, 3)
    assert_allclose(draws.reshape(5, 8, 3).std(1), 0, atol=1e-7)
    assert np.all(draws[::8].std(0) > 1e-3)
    # E tau^2 = 1 of each of the three effects, x = (1, 1, 2): 6 for the line and 6 for the level
    draws = model.sample_prior(same, N, 0)
    cov = np.cov(draws[[0, 1, 8]])
    assert_allclose(cov[0, 1], cov[0, 0], rtol=1e-6)
    assert_allclose(cov[0, 0], 12.0, rtol=0.3)
    assert_allclose(cov[0, 2], 6.0, rtol=0.3)


def test_uncorrelated_effects_are_drawn_without_correlations(table):
    X, y = table
    _, corr = at_the_mean(parameters(X, y, correlated=False), X[["a", "b"]].mean().to_numpy())
    assert_allclose(corr, np.broadcast_to(np.eye(3), (N, 3, 3)), atol=1e-12)
    drawn = parameters(X, prior=EXPLICIT, correlated=False)
    assert_array_equal(drawn.corr_root, np.broadcast_to(np.eye(3), (N, 3, 3)))


@pytest.mark.parametrize("prior", [None, "mcelreath", "bambi", "rstanarm", EXPLICIT])
@pytest.mark.parametrize("groups", ["g", None])
def test_presets_are_drawn_from(table, prior, groups):
    X, y = table
    if groups is None:
        X = X[["a", "b"]]
        prior = Prior(coef={"a": dist.Normal(0, 1)}) if prior is EXPLICIT else prior
    model = HierarchicalSlopesRegressor(groups, prior=prior)
    draws = model.sample_prior(X, 50, 0, y=y)
    assert draws.shape == (40, 50)
    assert np.isfinite(draws).all()


def test_fitted_and_unfitted_models_draw_the_same(people, fitted, short_run):
    X, y = people
    expected = short_run().sample_prior(X, 20, 5, y=y)
    assert_array_equal(fitted.sample_prior(X, 20, 5), expected)
    assert_array_equal(fitted.sample_prior(X, 20, 5, y=y), expected)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).sample_prior(X, 20, 5), expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fit_keeps_its_prior_and_y_asks_for_another(people, short_run):
    X, y = people
    model = short_run(prior=Prior(coef=0.5)).fit(X, y)
    before = model.sample_prior(X, 5, 0)
    model.set_params(prior__coef=8.0, eta=1.0)
    assert_array_equal(model.sample_prior(X, 5, 0), before)
    assert not np.array_equal(model.sample_prior(X, 5, 0, y=y), before)


def test_explicit_priors_need_no_y(table, people):
    X, y = table
    model = HierarchicalSlopesRegressor("g", prior=EXPLICIT)
    assert_array_equal(model.sample_prior(X, 5, 0), model.sample_prior(X, 5, 0, y=y))
    decov = DecovPrior(dist.Normal(0, 1), dist.Normal(0, 1), dist.HalfNormal(1))
    assert model.set_params(prior=decov).sample_prior(X.iloc[:1], 4, 0).shape == (1, 4)


@pytest.mark.parametrize("prior", [None, "brms", "rstanarm", Prior(coef=dist.Normal(0, 1))])
def test_priors_scaled_by_an_unknown_y_are_errors(table, prior):
    with pytest.raises(ValueError, match="scaled by y, which is not known before fit"):
        HierarchicalSlopesRegressor("g", prior=prior).sample_prior(table[0])


@pytest.mark.parametrize(
    ("prior", "found"),
    [
        ("brms", "`coef` of 'a', 'b' is flat"),
        (Prior(intercept=dist.ImproperUniform(dist.constraints.real, (), ())), "`intercept` is"),
        (
            Prior(group_scale={"b": dist.ImproperUniform(dist.constraints.positive, (), ())}),
            "`group_scale` of 'b' is flat",
        ),
    ],
)
def test_flat_priors_are_errors_that_name_the_parameter(table, prior, found):
    X, y = table
    with pytest.raises(ValueError, match=found):
        HierarchicalSlopesRegressor("g", prior=prior).sample_prior(X, y=y)


def test_levels_never_seen_are_like_any_other(people, fitted):
    X, _ = people
    new = X.assign(subject="new")
    assert fitted.sample_prior(new, 3, 0).shape == (80, 3)
    strict = pickle.loads(pickle.dumps(fitted)).set_params(handle_unknown="error")
    assert_array_equal(strict.sample_prior(new, 3, 0), fitted.sample_prior(new, 3, 0))


def test_nothing_but_the_draws_depends_on_the_seed(table):
    X, _ = table
    model = HierarchicalSlopesRegressor("g", prior=EXPLICIT)
    state, params = np.random.get_state()[1].copy(), dict(vars(model))
    first = model.sample_prior(X, 4, 0)
    assert_array_equal(first, model.sample_prior(X, 4, 0))
    assert not np.array_equal(first, model.sample_prior(X, 4, 1))
    assert_array_equal(np.random.get_state()[1], state)
    assert vars(model) == params


@pytest.mark.parametrize(
    ("n_levels", "n_features", "n_rows", "slopes"),
    [(10, 1, 4000, "all"), (2000, 6, 2000, "all"), (2000, 1, 4000, None), (1, 1, 3000, "all")],
    ids=["rows", "effects", "levels", "one level"],
)
def test_memory_of_draws_is_asked_for_in_full(monkeypatch, n_levels, n_features, n_rows, slopes):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n_rows, n_features))).add_prefix("x")
    X["g"] = np.arange(n_rows) % n_levels
    y = rng.normal(size=n_rows)
    asked = []
    monkeypatch.setattr(
        "skhier.posterior.prior_draws.require_memory", lambda size, *_: asked.append(size)
    )
    model = HierarchicalSlopesRegressor("g", slopes=slopes)
    model.sample_prior(X, 2, 0, y=y)  # what loads with the first call
    tracemalloc.start()
    model.sample_prior(X, 500, 0, y=y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.02 * asked[-1]
    assert peak > 0.8 * asked[-1]


def test_draws_beyond_the_memory_are_refused(monkeypatch, table):
    little = psutil.virtual_memory()._replace(available=10_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    model = HierarchicalSlopesRegressor("g", prior=EXPLICIT)
    with pytest.raises(MemoryError, match=r"\d\.\d GB.*available.*fewer rows or draws"):
        model.sample_prior(table[0], 10_000)


@pytest.mark.parametrize("n_samples", [0, 1.5, None])
def test_wrong_number_of_draws_is_an_error(table, n_samples):
    with pytest.raises(ValueError, match="'n_samples' parameter must be an int"):
        HierarchicalSlopesRegressor("g", prior=EXPLICIT).sample_prior(table[0], n_samples)


@pytest.fixture(scope="module")
def classes():
    """X (a, g) and two classes, 30 rows."""
    rng = np.random.default_rng(7)
    X = pd.DataFrame({"a": rng.normal(size=30), "g": np.arange(30) % 5})
    return X, np.where(rng.random(30) < 0.5, "no", "yes")


def test_default_priors_of_classes_need_no_y(classes):
    """Intercept Normal(0, 2.5), so as many events as not; labels once they are known."""
    X, y = classes
    model = HierarchicalSlopesClassifier("g", slopes=None)
    draws = model.sample_prior(X, N, 0)
    assert set(np.unique(draws)) == {0, 1}
    shares = draws.mean(0)
    assert abs(shares.mean() - 0.5) < 5 * shares.std() / np.sqrt(N)
    named = model.sample_prior(X, N, 0, y=y)
    assert_array_equal(named == "yes", draws == 1)


def test_prior_of_counts_is_that_of_their_line():
    """``log mean(y)`` is the intercept's centre, and 2.5 its sd; no unit of y comes in."""
    X, y = pd.DataFrame({"a": np.zeros(40)}), np.full(40, 3.0)
    y[:20] = 5.0
    model = HierarchicalSlopesRegressor(response="poisson")
    drawn = prior_without_fit(model, X, y)[0].resolve()
    assert float(drawn.intercept.mean) == pytest.approx(np.log(4))
    assert float(np.sqrt(drawn.intercept.variance)) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="not known before fit"):
        model.sample_prior(X)
