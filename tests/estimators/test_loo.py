"""Leave-one-out and leave-one-group-out: against refits, and every way to call them."""

import pickle
import tracemalloc
import warnings

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from runs import budget, slow, spending
from scipy.special import logsumexp
from sklearn.base import clone

from skhier import HierarchicalSlopesRegressor, Prior, compare
from skhier.datasets import load_sleepstudy
from skhier.posterior import leaving_out

# explicit, so that a refit without some rows has the same
PRIOR = Prior(
    intercept=dist.Normal(250, 100),
    coef=dist.Normal(0, 30),
    group_scale={"intercept": dist.Exponential(1 / 40), "Days": dist.Exponential(1 / 10)},
    noise_scale=dist.Exponential(1 / 40),
)


def model(**params):
    return HierarchicalSlopesRegressor("Subject", prior=PRIOR, random_state=0, **params)


@pytest.fixture(scope="module")
def sleepstudy():
    return load_sleepstudy(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module")
def fit(sleepstudy):
    return model().fit(*sleepstudy)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [8, 30])
def test_loo_is_the_density_that_refits_give(fit, sleepstudy, n_rows):
    X, y = sleepstudy
    found = fit.loo().pointwise
    assert found["pareto_k"].max() < 0.7
    rows = np.random.default_rng(0).choice(len(y), n_rows, replace=False)
    z = []
    for i in rows:
        kept = np.arange(len(y)) != i
        refits = [model().set_params(random_state=seed).fit(X[kept], y[kept]) for seed in range(2)]
        exact = [m.log_predictive_density(X[~kept], y[~kept])[0] for m in refits]
        z.append((found["elpd"][i] - np.mean(exact)) / np.hypot(found["mcse"][i], 0.004))
    assert np.abs(z).max() < 4
    assert np.sqrt(np.mean(np.square(z))) < 1.5


def joint_log_density(refit, X, y):
    """Of all rows of a new group: a dense normal per draw."""
    draws = refit.posterior_
    z = np.column_stack([np.ones(len(X)), X["Days"]])
    tau = draws["group_scale"]["Subject"].reshape(-1, 2)
    corr = draws["group_corr"]["Subject"].reshape(-1, 2, 2)
    cov = np.einsum("ia,sab,jb->sij", z, tau[:, :, None] * corr * tau[:, None], z)
    cov += draws["noise_scale"].reshape(-1, 1, 1) ** 2 * np.eye(len(X))
    rest = y.to_numpy() - draws["intercept"].reshape(-1, 1)
    rest = rest - draws["coef"].reshape(-1, 1) * X["Days"].to_numpy()
    quadratic = np.einsum("si,si->s", rest, np.linalg.solve(cov, rest[..., None])[..., 0])
    log_density = -0.5 * (quadratic + np.linalg.slogdet(cov)[1] + len(X) * np.log(2 * np.pi))
    top = log_density.max()
    weight = np.exp(log_density - top)
    return top + np.log(weight.mean()), weight.std() / weight.mean() / np.sqrt(len(weight))


def by_nuts(X, y):
    return model(inference="nuts", target_accept=0.95).fit(X, y)


@pytest.mark.parametrize("inference", ["auto", *slow("nuts")])
def test_logo_is_the_density_that_refits_give(sleepstudy, fit, inference):
    X, y = sleepstudy
    found = (fit if inference == "auto" else by_nuts(X, y)).logo().pointwise
    z = []
    for level in found.index:
        left = X["Subject"] == level
        refit = model().fit(X[~left], y[~left])
        exact, error = joint_log_density(refit, X[left], y[left])
        z.append((found.loc[level, "elpd"] - exact) / np.hypot(found.loc[level, "mcse"], error))
    good = found["pareto_k"].to_numpy() < 0.7
    assert good.sum() >= 12
    assert np.abs(np.array(z)[good]).max() < 4


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_conditional_loo_is_psis_of_arvizs_log_likelihood(fit):
    az = pytest.importorskip("arviz")
    ours = fit.loo(conditional=True)
    theirs = az.loo(fit.to_arviz(), pointwise=True)
    total = theirs.elpd_loo if hasattr(theirs, "elpd_loo") else theirs.elpd
    good = ours.pointwise["pareto_k"] < 0.5
    assert good.sum() > 160
    pointwise = np.asarray(theirs.loo_i if hasattr(theirs, "loo_i") else theirs.elpd_i)
    # ArviZ's tail is longer or shorter by its relative efficiency
    assert_allclose(ours.pointwise["elpd"][good], pointwise[good], atol=0.02)
    assert_allclose(ours.elpd, total, atol=1.0)
    assert "given drawn group effects" in repr(ours)


def test_parts_add_up(fit):
    for found in (fit.loo(), fit.logo()):
        table = found.pointwise
        assert_allclose(found.elpd, table["elpd"].sum())
        assert_allclose(found.p, table["p"].sum())
        assert_allclose(found.se, np.sqrt(len(table) * table["elpd"].var(ddof=0)))
    assert list(fit.logo().pointwise.index) == list(fit.group_levels_["Subject"])
    assert "elpd" in repr(fit.loo())


def test_arviz_takes_it(fit):
    exchanged = fit.loo().to_arviz()
    total = exchanged.elpd_loo if hasattr(exchanged, "elpd_loo") else exchanged.elpd
    assert_allclose(total, fit.loo().elpd)
    assert "180" in str(exchanged)


def test_y_in_other_units_shifts_the_density(fit, sleepstudy):
    X, y = sleepstudy
    default = HierarchicalSlopesRegressor("Subject", random_state=0).fit(X, y)
    scaled = HierarchicalSlopesRegressor("Subject", random_state=0).fit(X, 1024 * y)
    assert_allclose(scaled.loo().elpd, default.loo().elpd - 180 * np.log(1024))
    assert_allclose(scaled.logo().elpd, default.logo().elpd - 180 * np.log(1024))


def test_a_weight_of_two_is_the_row_twice(sleepstudy):
    X, y = sleepstudy
    weight = np.where(np.arange(len(y)) % 3, 1, 2)
    twice = np.repeat(np.arange(len(y)), weight)
    weighted = model().fit(X, y, sample_weight=weight)
    repeated = model().fit(X.iloc[twice], y.iloc[twice])
    for method in ("loo", "logo"):
        found, expected = getattr(weighted, method)(), getattr(repeated, method)()
        assert_allclose(found.elpd, expected.elpd, rtol=1e-10)
        assert_allclose(found.se, expected.se, rtol=1e-10)
        assert_allclose(found.p, expected.p, rtol=1e-8)


@pytest.mark.parametrize(
    "params",
    [
        {"slopes": None},
        {"correlated": False},
        {"prior": "brms"},
        {"prior": "rstanarm"},
        {"prior": Prior(coef=dist.Laplace(0, 10))},
    ],
)
def test_every_model_has_scores(sleepstudy, params):
    fitted = HierarchicalSlopesRegressor("Subject", random_state=0, **params).fit(*sleepstudy)
    assert -930 < fitted.loo().elpd < -850
    assert -930 < fitted.logo().elpd < -870


def test_without_groups_there_is_loo_only(sleepstudy):
    X, y = sleepstudy
    fitted = HierarchicalSlopesRegressor(random_state=0).fit(X[["Days"]], y)
    assert -970 < fitted.loo().elpd < -940
    with pytest.raises(ValueError, match="not a grouping factor"):
        fitted.logo()


def test_what_cannot_be_scored_says_why(fit, sleepstudy):
    X, y = sleepstudy
    with pytest.raises(ValueError, match="rows of fit"):
        pickle.loads(pickle.dumps(fit)).loo()
    with pytest.raises(ValueError, match="not a grouping factor"):
        fit.logo("Days")
    with pytest.raises(ValueError, match="whole numbers"):
        model().fit(X, y, sample_weight=np.full(180, 1.5)).loo()
    with pytest.warns(UserWarning, match="constant"):
        still = HierarchicalSlopesRegressor("Subject").fit(X, np.ones(180))
    with pytest.raises(ValueError, match="constant"):
        still.loo()


def test_a_level_that_alone_decides_a_flat_coefficient_is_an_error(sleepstudy):
    X, y = sleepstudy
    X = X.assign(only=np.where(X["Subject"] == X["Subject"].iloc[0], 1.0, 0.0))
    flat = dist.ImproperUniform(dist.constraints.real, (), ())
    fitted = HierarchicalSlopesRegressor(
        "Subject", slopes=["Days"], prior=Prior(intercept=flat, coef=flat), random_state=0
    ).fit(X, y)
    with pytest.raises(ValueError, match="no proper distribution"):
        fitted.logo()


def test_data_frames_with_any_index(sleepstudy):
    X, y = sleepstudy
    index = pd.Index(np.arange(180) + 1000)
    fitted = model().fit(X.set_axis(index), y.set_axis(index))
    assert_allclose(fitted.loo().elpd, model().fit(X, y).loo().elpd)


def few_rows(seed, sizes):
    """Levels of so many rows, y that owes nothing to them."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    X = pd.DataFrame({"x": rng.standard_normal(len(codes)), "g": codes})
    return X, rng.standard_normal(len(codes))


def quiet_fit(estimator, X, y):
    """Fit without the warnings of data that say little, or of chains too short to converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return estimator.fit(X, y)


def assert_finite(found):
    assert np.isfinite(found.pointwise[["elpd", "p", "mcse"]].to_numpy()).all()
    assert np.isfinite([found.elpd, found.se, found.p]).all()


@pytest.mark.parametrize("n", [10, 12])
@pytest.mark.parametrize("seed", [3, 10, 12, 14, 15, 17, 18, 23])
def test_rows_and_groups_of_one_row_score_the_same(seed, n):
    fitted = quiet_fit(HierarchicalSlopesRegressor("g", random_state=0), *few_rows(seed, [1] * n))
    rows, groups = fitted.loo(), fitted.logo()
    assert_finite(rows)
    assert_allclose(rows.pointwise["elpd"], groups.pointwise["elpd"], rtol=1e-8)
    assert_allclose(rows.pointwise["pareto_k"], groups.pointwise["pareto_k"], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_groups_of_one_or_two_rows_have_finite_scores(seed):
    sizes = np.random.default_rng(seed).integers(1, 3, 30)
    fitted = quiet_fit(HierarchicalSlopesRegressor("g", random_state=0), *few_rows(seed, sizes))
    rows, groups = fitted.loo(), fitted.logo()
    assert_finite(rows)
    assert_finite(groups)
    alone = np.repeat(sizes == 1, sizes)
    assert_allclose(rows.pointwise["elpd"][alone], groups.pointwise["elpd"][sizes == 1], rtol=1e-8)


def log_normal(r, cov):
    """Log densities at r of normals, one per matrix."""
    quadratic = np.einsum("i,sij,j->s", r, np.linalg.inv(cov), r)
    return -0.5 * (quadratic + np.linalg.slogdet(cov)[1] + len(r) * np.log(2 * np.pi))


@pytest.mark.parametrize(
    ("seed", "sizes"),
    [(15, [1] * 10), pytest.param(2, [1, 2, 1, 2, 2, 1, 1, 2, 1, 1], marks=pytest.mark.slow)],
)
def test_scores_are_those_of_quadrature(seed, sizes):
    """Two variance parameters: p(y_i | y_-i) = p(y) / p(y_-i), each a double integral."""
    X, y = few_rows(seed, sizes)
    half = dist.HalfNormal(1.0)
    prior = Prior(intercept=dist.Normal(0, 2), group_scale=half, noise_scale=half)
    fitted = quiet_fit(HierarchicalSlopesRegressor("g", prior=prior, random_state=0), X[["g"]], y)
    node, weight = np.polynomial.legendre.leggauss(150)
    sd, weight = 3 * (node + 1), 3 * weight  # the prior beyond 6 is 1e-9
    density = weight * np.sqrt(2 / np.pi) * np.exp(-(sd**2) / 2)
    sigma, tau = (a.ravel() for a in np.meshgrid(sd, sd))
    log_prior = np.log(np.outer(density, density).ravel())
    codes = X["g"].to_numpy()
    same, eye = (codes[:, None] == codes) * 1.0, np.eye(len(y))
    cov = 4 + tau[:, None, None] ** 2 * same + sigma[:, None, None] ** 2 * eye

    def log_density(kept):
        return logsumexp(log_prior + log_normal(y[kept], cov[:, kept][:, :, kept]))

    whole = log_density(np.ones(len(y), bool))
    for found, units in ((fitted.loo(), np.arange(len(y))), (fitted.logo(), codes)):
        table = found.pointwise
        exact = [whole - log_density(units != k) for k in range(len(table))]
        z = (table["elpd"].to_numpy() - exact) / table["mcse"].to_numpy()
        good = table["pareto_k"].to_numpy() <= found.good_k
        assert good.sum() >= 8
        assert np.abs(z[good]).max() < 5
        tenth = 0.1  # of a nat, where the posterior sd of a log density is some 1
        assert np.abs(table["elpd"].to_numpy() - exact)[good].max() < tenth


@pytest.mark.parametrize("inference", ["auto", "nuts"])
@pytest.mark.parametrize("slopes", ["all", None])
def test_logo_needs_no_rows(sleepstudy, slopes, inference):
    X, y = sleepstudy
    settings = {} if inference == "auto" else {"n_chains": 2, "n_warmup": 100, "n_draws": 100}
    fitted = HierarchicalSlopesRegressor(
        "Subject", slopes=slopes, inference=inference, random_state=0, **settings
    )
    quiet_fit(fitted, X, y)
    here = fitted.logo()
    twin = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(fitted))))
    there = twin.logo()
    pd.testing.assert_frame_equal(there.pointwise, here.pointwise, rtol=1e-12)
    assert there.rows_id == here.rows_id
    table = compare(here=fitted, there=twin, by="logo")
    assert_allclose(table["elpd_diff"], 0, atol=1e-10)
    other = pickle.loads(pickle.dumps(HierarchicalSlopesRegressor("Subject").fit(X, y + X["Days"])))
    with pytest.raises(ValueError, match="different rows"):
        compare(twin, other, by="logo")
    quiet_fit(twin, X, y + X["Days"])  # what is new counts, not what the pickle brought
    assert twin.logo().rows_id == other.logo().rows_id


def test_logo_of_products_that_were_not_kept_needs_the_rows(sleepstudy):
    X, y = sleepstudy
    levels = HierarchicalSlopesRegressor("Subject", slopes=None, random_state=0)
    expected = levels.fit(X, y).logo()
    fitted = spending(clone(levels), budget(level_products=0)).fit(X, y)
    assert_allclose(fitted.logo().pointwise["elpd"], expected.pointwise["elpd"], rtol=1e-10)
    with pytest.raises(ValueError, match="rows of fit"):
        pickle.loads(pickle.dumps(fitted)).logo()


def test_a_row_that_alone_decides_a_flat_coefficient_is_an_error(sleepstudy):
    X, y = sleepstudy
    X = X.assign(only=np.where(np.arange(len(X)) == 7, 1.0, 0.0))
    flat = dist.ImproperUniform(dist.constraints.real, (), ())
    fitted = HierarchicalSlopesRegressor(
        "Subject", slopes=["Days"], prior=Prior(intercept=flat, coef=flat), random_state=0
    ).fit(X, y)
    with pytest.raises(ValueError, match=r"without row 7 .* no proper distribution"):
        fitted.loo()


@pytest.mark.parametrize(
    ("groups", "noise"),
    [(None, 0.0), ("g", 0.0), ("g", 1e-6), ("g", 1e-3), (["g", "h"], 1e-3)],
)
def test_y_that_a_line_fits_has_finite_scores(groups, noise):
    rng = np.random.default_rng(0)
    g, h, x = np.repeat(np.arange(6), 5), rng.integers(4, size=30), rng.standard_normal(30)
    X = pd.DataFrame({"x": x, "g": g, "h": h})
    b = rng.standard_normal((6, 2))
    y = 1 + x + b[g, 0] + b[g, 1] * x if groups else 1 + x
    y = y + noise * rng.standard_normal(30)
    columns = ["x", *sorted({"g", "h"} & set(str(groups)))] if groups else ["x"]
    fitted = quiet_fit(HierarchicalSlopesRegressor(groups, random_state=0), X[columns], y)
    assert_finite(fitted.loo())
    if groups == "g":
        assert_finite(fitted.logo())
        assert_finite(fitted.loo(conditional=True))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [2**22, 2**25])
def test_memory_is_bounded_as_the_guard_says(at_once, monkeypatch):
    rng = np.random.default_rng(0)
    n = 1500
    X = pd.DataFrame({"a": rng.integers(60, size=n), "b": rng.integers(8, size=n)})
    model = HierarchicalSlopesRegressor(["a", "b"], random_state=0)
    fitted = spending(model, budget(at_once_of_several=at_once)).fit(X, rng.normal(size=n))
    guarded = []
    monkeypatch.setattr(leaving_out, "require_memory", lambda size, what: guarded.append(size))
    tracemalloc.start()
    fitted.loo()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < guarded[0] < 1.5 * peak
