"""Calibration curves of classes: shares, bands, and which models have them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from skhier import HierarchicalSlopesClassifier
from skhier.plotting import ClassCalibrationDisplay, FittedLinesDisplay, PosteriorPredictiveDisplay


@pytest.fixture(scope="module")
def classified(people):
    """A classifier, its X and y."""
    X, line = people
    y = np.where(line + np.random.default_rng(0).logistic(size=len(line)) > 1, "yes", "no")
    model = HierarchicalSlopesClassifier("subject", n_chains=2, n_draws=200, random_state=0)
    return model.fit(X, y), X, y


def test_probabilities_and_replicates_are_the_models(classified):
    model, X, y = classified
    made = ClassCalibrationDisplay.from_estimator(
        model, X, y, kind="bins", n_replicates=60, random_state=3
    )
    p = model.predict_proba(X)[:, 1]
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, 10)
    assert_allclose(made.probability, [p[part].mean() for part in parts])
    assert_allclose(made.share, [(y[part] == "yes").mean() for part in parts])
    drawn = model.sample_y(X, 60, random_state=3) == "yes"
    ends = [np.quantile(drawn[part].mean(0), [0.05, 0.95]) for part in parts]
    assert_allclose(made.band, ends)
    assert made.ax_.get_xlabel() == "Predicted probability of yes"


def test_monotone_curve_is_the_shares_of_pooled_rows():
    # pool adjacent violators by hand: 1, then 0 and 1 and 0 pooled would fall below it
    p, y = np.array([0.1, 0.2, 0.5, 0.9]), np.array([0.0, 1.0, 0.0, 1.0])
    made = ClassCalibrationDisplay.from_predictions(y, p, random_state=0)
    at = np.interp([0.1, 0.3, 0.5, 0.9], made.probability, made.share)
    assert_allclose(at, [0, 0.5, 0.5, 1], atol=0.01)  # a curve of 200 points


@pytest.mark.parametrize("kind", ["monotone", "bins"])
def test_band_holds_a_calibrated_curve_and_not_a_shifted_one(kind):
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 4000)
    y = (rng.random(4000) < p).astype(float)

    def outside(probability):
        made = ClassCalibrationDisplay.from_predictions(
            y, probability, kind=kind, coverage=0.99, random_state=1
        )
        low, high = made.band.T
        return np.mean((made.share < low) | (made.share > high))

    assert outside(p) < 0.1
    assert outside(np.clip(p + 0.15, 0, 1)) > 0.6


def test_users_style_and_axes(classified):
    model, X, y = classified
    figure, ax = plt.subplots()
    made = ClassCalibrationDisplay.from_estimator(model, X, y, ax=ax, color="red", random_state=0)
    assert made.figure_ is figure
    assert made.ax_.lines[-1].get_color() == "red"
    assert made.plot() is made


def test_other_models_and_classes_are_refused(classified, fitted, people):
    model, X, y = classified
    with pytest.raises(ValueError, match=r"'normal' has no classes\. Use Post"):
        ClassCalibrationDisplay.from_estimator(fitted, *people)
    with pytest.raises(NotFittedError):
        ClassCalibrationDisplay.from_estimator(HierarchicalSlopesClassifier("subject"), X, y)
    with pytest.raises(ValueError, match="'perhaps', which is no class of this fit"):
        ClassCalibrationDisplay.from_estimator(model, X, np.where(y == "yes", y, "perhaps"))
    with pytest.raises(ValueError, match="Use ClassCalibrationDisplay"):
        PosteriorPredictiveDisplay.from_estimator(model, X, y)


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 2], [0.1, 0.5], "1 for the event"),
        ([0, 1], [0.1, 1.5], "numbers from 0 to 1"),
        ([0, 1, 1], [0.1, 0.5], "inconsistent numbers of samples"),
    ],
)
def test_class_calibration_errors(y, p, message):
    with pytest.raises(ValueError, match=message):
        ClassCalibrationDisplay.from_predictions(y, p)


def test_curves_of_classes_are_probabilities(classified):
    model, X, y = classified
    made = FittedLinesDisplay.from_estimator(model, X, y, levels=["s3"])
    rows = X[X["subject"] == "s3"].iloc[[0, 0]].assign(x=made.grid[[0, -1]])
    assert_allclose(made.mean[0, [0, -1]], model.predict_proba(rows)[:, 1])
    assert_allclose(made.bands["mean"][0, [0, -1]], model.predict_interval(rows))
    assert_array_equal(made.points[0][:, 1], y[X["subject"] == "s3"] == "yes")
    assert made.target_name == "Probability of yes"
    assert "the group's curve" in made.axes_[0].get_legend_handles_labels()[1]
