"""Nested factors, and an interaction as a factor: lme4's fits, and Pastes' exact posterior.

With flat priors of coefficients the marginal density of (sigma, tau, Omega) is the REML criterion,
so its maximum, without the change of variables, is lme4's REML fit (Bates et al. 2015, sec. 3.4).
"""

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.kernels.normal.collapse import marginal_and_conditional
from skhier.kernels.records import CoefPrior
from skhier.statistics.elimination import arrange
from skhier.statistics.problem import reduce_rows
from skhier.utils.table import read_table
from skhier.utils.training import read_training

DIGITS = 1e-4


def cake(reference, formula):
    stored = reference("cake")
    table = pd.DataFrame({name: stored[name] for name in ("recipe", "replicate", "temp")})
    for recipe in "BC":
        table[f"recipe{recipe}"] = (table["recipe"] == recipe).astype(float)
        if "*" in formula:
            table[f"recipe{recipe}:temp"] = table[f"recipe{recipe}"] * table["temp"]
    return table, np.array(stored["angle"], float), {("recipe", "replicate"): None}


def pastes(reference, formula):
    stored = reference("pastes")
    table = pd.DataFrame({name: stored[name] for name in ("batch", "cask")})
    return table, np.array(stored["strength"]), ["batch", ("batch", "cask")]


def chem97(reference, formula):
    stored = np.load(f"{reference.folder}/chem97.npz")
    table = pd.DataFrame({name: stored[name] for name in ("gcsecnt", "lea", "school")})
    slopes = ["gcsecnt"] if "(gcsecnt |" in formula else None
    return table, stored["score"].astype(float), {"school": slopes, "lea": None}


NAMES = {"batch:cask": "sample", "recipe:replicate": "recipe:replicate"}


def reml(X, y, groups):
    """Mode of the density of (sigma, tau, Omega), and the criterion and coefficients there."""
    design, training = read_training(read_table(X), y, None, groups, None)
    problem = reduce_rows(design, training)
    stats, units = arrange(problem.stats, problem.plan), problem.units
    sizes = [len(varying) + 1 for varying in problem.slopes]
    p = len(units.x_mean) + 1
    flat = CoefPrior(np.eye(p), np.zeros(p), np.zeros((p, p + 1)), 0.0)

    def unpacked(theta):
        sigma, rest, chols = np.exp(theta[0]), theta[1:], []
        for q in sizes:
            entries, rest = rest[: q * (q + 1) // 2], rest[q * (q + 1) // 2 :]
            chol = np.zeros((q, q))
            chol[np.tril_indices(q)] = entries
            chols.append(chol)
        return sigma, chols

    with jax.enable_x64(True):
        stats = jax.tree.map(jax.numpy.asarray, stats)
        density = jax.jit(
            lambda sigma, chols: marginal_and_conditional(stats, problem.plan, chols, sigma, flat)
        )
        start = np.concatenate([[-0.5], *(0.3 * np.eye(q)[np.tril_indices(q)] for q in sizes)])
        found = minimize(
            lambda theta: -float(density(*unpacked(theta))[0]),
            start,
            method="Nelder-Mead",
            options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-12},
        )
        sigma, chols = unpacked(found.x)
        mean = np.asarray(density(sigma, chols)[1])
    to_zero = [np.linalg.inv(at_mean) for at_mean in units.effects_at_mean]
    covs = []
    for varying, move, chol in zip(problem.slopes, to_zero, chols, strict=True):
        scale = units.y_scale / np.append(units.x_scale[list(varying)], 1.0)
        root = scale[:, None] * (move @ chol)
        order = [len(varying), *range(len(varying))]  # intercept first
        covs.append((root @ root.T)[np.ix_(order, order)])
    coef = mean[:-1] * units.y_scale / units.x_scale
    intercept = units.y_mean + units.y_scale * mean[-1] - coef @ units.x_mean
    # a density of y, and of coefficients, in user units
    log_scale = -(len(y) - p) * np.log(units.y_scale) - np.log(units.x_scale).sum()
    criterion = 2 * found.fun - 2 * log_scale - p * np.log(2 * np.pi)
    return {
        "sigma": sigma * units.y_scale,
        "covs": dict(zip([factor.name for factor in design.factors], covs, strict=True)),
        "coef": dict(zip(["(Intercept)", *design.feature_names], [intercept, *coef], strict=True)),
        "criterion": criterion,
    }


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (pastes, "nested"),
        (cake, "temp_numeric"),
        (cake, "additive"),
        (chem97, "two_level"),
        pytest.param(chem97, "slope", marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_mode_of_the_flat_density_is_the_reml_fit(reference, data, model):
    stored = reference(data.__name__)["lme4"][model]
    found = reml(*data(reference, stored["formula"]))
    assert_allclose(found["criterion"], stored["criterion"], rtol=1e-8)
    assert_allclose(found["sigma"], stored["sigma"], rtol=DIGITS)
    for factor, cov in found["covs"].items():
        name = NAMES.get(factor, factor)
        sds = list(stored["sd"][name].values())
        assert_allclose(np.sqrt(np.diag(cov)), sds, rtol=DIGITS)
        if len(sds) > 1:
            corr = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
            assert_allclose(corr, stored["corr"][name], rtol=DIGITS)
    for name, value in stored["fixed"].items():
        assert_allclose(found["coef"][name], value, atol=1e-2 * stored["se"][name])


@pytest.mark.parametrize("inference", ["marginal", pytest.param("nuts", marks=pytest.mark.slow)])
def test_pastes_match_exact_posterior(reference, fit, assert_agrees, inference):
    X, y, _ = pastes(reference, None)
    X["sample"] = X["batch"] + ":" + X["cask"]
    prior = Prior(
        intercept=dist.Normal(60.0, 10.0),
        group_scale=dist.HalfNormal(5.0),
        noise_scale=dist.Exponential(1.0),
    )
    model = HierarchicalSlopesRegressor(
        ["batch", "sample"],
        prior=prior,
        inference=inference,
        n_draws=4000,
        target_accept=0.95,
        random_state=0,
    )
    fit(model, X[["batch", "sample"]], y)
    assert_agrees(model, reference("pastes")["parameters"])
    if inference == "marginal":
        assert_allclose(model.log_evidence_, reference("pastes")["log_evidence"], atol=0.05)


def test_nesting_by_labels_and_by_tuple_is_the_same_model(reference):
    X, y, groups = pastes(reference, None)
    nested = HierarchicalSlopesRegressor(groups, random_state=0).fit(X, y)
    X["sample"] = X["batch"] + X["cask"]
    labelled = HierarchicalSlopesRegressor(["batch", "sample"], random_state=0)
    labelled.fit(X[["batch", "sample"]], y)
    assert_allclose(nested.noise_scale_, labelled.noise_scale_, rtol=1e-12)
    for one, other in (("batch", "batch"), ("batch:cask", "sample")):
        assert_allclose(
            nested.group_coef_[one].to_numpy(), labelled.group_coef_[other].to_numpy(), rtol=1e-9
        )
    assert nested.group_coef_["batch:cask"].index.names == ["batch", "cask"]
