"""Replicated data sets, densities and distribution functions of PosteriorPredictiveDisplay."""

import numpy as np
import pytest
from displays import from_estimator
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from skhier.plotting import PosteriorPredictiveDisplay


def test_replicates_are_those_of_sample_y(sleepstudy_fit, sleepstudy):
    X, y = sleepstudy
    made = PosteriorPredictiveDisplay.from_estimator(
        sleepstudy_fit, X, y, n_replicates=7, random_state=3
    )
    assert_array_equal(made.y_replicated, sleepstudy_fit.sample_y(X, 7, random_state=3))
    assert len(made.ax_.lines) == 8
    assert made.ax_.get_xlabel() == y.name


def test_density_integrates_to_one_and_follows_a_normal():
    y = np.random.default_rng(0).normal(size=50_000)
    made = PosteriorPredictiveDisplay.from_predictions(y, y[:, None])
    x, density = made.ax_.lines[-1].get_data()
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-3)
    assert np.abs(density - norm.pdf(x)).max() < 0.02


@pytest.mark.parametrize("n", [1, 20, 5000])
def test_ecdf_is_the_share_of_rows(n):
    y = np.random.default_rng(0).normal(size=n)
    made = PosteriorPredictiveDisplay.from_predictions(y, np.zeros((n, 2)), kind="ecdf")
    x, share = made.ax_.lines[-1].get_data()
    exact = np.mean(y <= np.asarray(x)[1:-1, None], axis=1)
    assert_allclose(share[1:-1], exact, atol=1e-12)
    assert (share[0], share[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("replicated", "message"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((4, 2)), "inconsistent numbers of samples"),
        ([[np.nan]] * 3, "NaN"),
        (np.zeros((3, 2)), "Use kind='ecdf'"),
    ],
)
def test_predictive_check_errors(replicated, message):
    with pytest.raises(ValueError, match=message):
        PosteriorPredictiveDisplay.from_predictions(np.arange(3.0), replicated)


@pytest.mark.parametrize("style", [{"drawstyle": "default"}, {"ds": "default"}])
def test_a_users_style_takes_the_place_of_steps(sleepstudy_fit, sleepstudy, style):
    made = from_estimator(
        PosteriorPredictiveDisplay, sleepstudy_fit, *sleepstudy, kind="ecdf", **style
    )
    drawn = [line.get_drawstyle() for line in made.ax_.lines]
    assert drawn == ["steps-post"] * 50 + ["default"]
