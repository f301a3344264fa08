"""The sleep study with independent, correlated and decov effects, and its predictions."""

import warnings

import numpy as np
import pandas as pd
import pytest

MODELS = ["independent", "correlated", "decov"]
# 10000 draws of chains whose population intercept has an effective size of 49%
REFERENCE_ESS = 4900


@pytest.fixture(scope="module")
def fits(example, fit, sleepstudy):
    """The example's models, each fitted when first asked for."""
    X, y = sleepstudy
    models, fitted = example("plot_sleepstudy_priors")["models"](y), {}

    def fitted_model(name):
        if name not in fitted:
            fitted[name] = fit(models[name].set_params(n_draws=4000), X, y)
        return fitted[name]

    return fitted_model


@pytest.mark.parametrize("name", MODELS)
def test_sleepstudy_matches_exact_posterior(name, fits, reference, assert_agrees):
    assert_agrees(fits(name), reference(f"sleepstudy_{name}")["parameters"])


def test_independent_effects_have_no_correlation(fits):
    corr = fits("independent").posterior_["group_corr"]["Subject"]
    np.testing.assert_array_equal(corr, np.broadcast_to(np.eye(2), corr.shape))


@pytest.fixture(scope="module")
def predictions(reference):
    """New rows of two known subjects and an unseen one, and brms's figures for them."""
    stored = reference("sleepstudy_predictions")
    rows = pd.DataFrame(stored["rows"], columns=["Days", "Subject"])
    figures = {kind: np.array(table) for kind, table in stored["predictions"].items()}
    return rows, figures


KINDS = {
    "mean": {"kind": "mean", "level": "group"},
    "response": {"kind": "response", "level": "group"},
    "population": {"kind": "mean", "level": "population"},
}


@pytest.mark.parametrize("name", KINDS)
def test_sleepstudy_quantiles_match_brms(name, fits, predictions):
    X, figures = predictions
    model = fits("correlated")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*'NEW'", UserWarning)
        ours = model.predict_quantiles(X, [0.055, 0.5, 0.945], **KINDS[name])
    expected, sd = figures[name][:, 2:], figures[name][:, [1]]
    # standard error of a normal's quantiles: sqrt(p (1 - p) / n) / density
    error = np.array([2.05, 1.253, 2.05]) * np.sqrt(1 / REFERENCE_ESS + 1 / _ess(model))
    off = np.abs(ours - expected) / sd
    print(f"{name}: quantiles off by {off.max():.3f} sd, |z| <= {(off / error).max():.2f}")
    assert np.all(off <= 0.1)
    assert np.all(off <= 5 * error)


@pytest.mark.parametrize("level", ["group", "population"])
def test_sleepstudy_means_match_brms(level, fits, predictions):
    X, figures = predictions
    model = fits("correlated")
    mean, sd = figures["mean" if level == "group" else "population"][:, :2].T
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*'NEW'", UserWarning)
        off = np.abs(model.predict(X, level=level) - mean) / sd
    assert np.all(off <= 0.1)
    assert np.all(off <= 5 * np.sqrt(1 / REFERENCE_ESS + 1 / _ess(model)))


def test_sleepstudy_predictive_sd_matches_brms(fits, predictions):
    X, figures = predictions
    model = fits("correlated")
    with pytest.warns(UserWarning, match="'NEW'"):
        _, std = model.predict(X, return_std=True)
    ratio = std / figures["response"][:, 1]
    # sd of an sd, with room for the unseen subject's heavier tails
    error = np.sqrt(1 / REFERENCE_ESS + 1 / _ess(model))
    print(f"predictive sd ratio {ratio.min():.3f} to {ratio.max():.3f}")
    assert np.all(np.abs(ratio - 1) <= 5 * error)


def _ess(model):
    ess = model.summary()["ess_bulk"].min()
    assert ess >= 1000
    return ess
