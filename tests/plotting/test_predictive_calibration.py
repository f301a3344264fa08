"""PITs, coverage and the band of PredictiveCalibrationDisplay."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest, norm

from skhier.plotting import PredictiveCalibrationDisplay


def test_pit_is_the_predictive_distribution_function(sleepstudy_fit, sleepstudy):
    X, y = sleepstudy
    made = PredictiveCalibrationDisplay.from_estimator(sleepstudy_fit, X, y)
    for i in (0, 77):
        # the quantile at the PIT is the observed value
        found = sleepstudy_fit.predict_quantiles(X.iloc[[i]], made.pit[i])
        assert_allclose(found, y.iloc[i], rtol=1e-6)
    drawn = sleepstudy_fit.sample_y(X, 4000, random_state=0)
    share = (drawn < y.to_numpy()[:, None]).mean(1)
    assert np.abs(share - made.pit).max() < 5 * 0.5 / np.sqrt(4000)


def test_pit_of_several_factors_counts_all(several):
    model, X, y = several
    made = PredictiveCalibrationDisplay.from_estimator(model, X, y)
    for i in (0, 77):
        found = model.predict_quantiles(X.iloc[[i]], made.pit[i])
        assert_allclose(found, y.iloc[i], rtol=1e-6)


def test_pit_of_simulated_rows_is_uniform(thousand):
    model, _, _, X, y = thousand
    made = PredictiveCalibrationDisplay.from_estimator(model, X, y)
    assert kstest(made.pit, "uniform").pvalue > 0.01
    assert inside_band(made) > 0.95


def inside_band(made):
    """Share of the points at which the curve is inside the band."""
    (band,) = made.ax_.collections
    outline = band.get_paths()[0].vertices
    x, found = made.ax_.lines[-1].get_data()
    ends = [[f(outline[outline[:, 0] == at, 1]) for at in x] for f in (np.min, np.max)]
    return np.mean((found >= np.array(ends[0]) - 1e-12) & (found <= np.array(ends[1]) + 1e-12))


@pytest.mark.parametrize("kind", ["pit", "coverage"])
def test_band_holds_its_share_of_uniform_samples(kind):
    rng = np.random.default_rng(0)
    held = []
    _, ax = plt.subplots()
    for _ in range(200):
        ax.clear()
        made = PredictiveCalibrationDisplay.from_predictions(
            rng.uniform(size=100), kind=kind, coverage=0.8, ax=ax
        )
        held.append(inside_band(made) == 1)
    # exact but for the counts' discreteness, which makes it a little more
    assert 0.8 - 3 * np.sqrt(0.16 / 200) < np.mean(held) < 0.85 + 3 * np.sqrt(0.16 / 200)


def test_band_shows_intervals_that_are_too_narrow():
    rng = np.random.default_rng(0)
    made = PredictiveCalibrationDisplay.from_predictions(norm.cdf(1.5 * rng.normal(size=1000)))
    assert inside_band(made) < 0.7


def test_coverage_is_the_share_inside_central_intervals(sleepstudy_fit, sleepstudy):
    X, y = sleepstudy
    made = PredictiveCalibrationDisplay.from_estimator(sleepstudy_fit, X, y, kind="coverage")
    nominal, found = made.ax_.lines[-1].get_data()
    for k in (30, 90):
        low, high = sleepstudy_fit.predict_interval(X, coverage=nominal[k]).T
        assert found[k] == pytest.approx(np.mean((y > low) & (y < high)))


@pytest.mark.parametrize("pit", [[-0.1, 0.5], [0.5, 1.1], [[0.5]]])
def test_calibration_errors(pit):
    with pytest.raises(ValueError, match="`pit` must be one-dimensional"):
        PredictiveCalibrationDisplay.from_predictions(pit)
