"""Leave-one-out and leave-one-group-out: against refits, and every way to call them."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.datasets import load_sleepstudy

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


def test_loo_is_the_density_that_refits_give(fit, sleepstudy):
    X, y = sleepstudy
    found = fit.loo().pointwise
    assert found["pareto_k"].max() < 0.7
    rows = np.random.default_rng(0).choice(len(y), 30, replace=False)
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


@pytest.mark.parametrize("inference", ["auto", "nuts"])
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
