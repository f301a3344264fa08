"""Frequencies of counts, and what three kinds of bars make of them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from displays import short_fit
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.exceptions import NotFittedError

from skhier import HierarchicalSlopesRegressor
from skhier.plotting import RootogramDisplay


@pytest.fixture(scope="module")
def counted(people):
    """A Poisson model of counts, its X and y."""
    X, line = people
    y = np.random.default_rng(0).poisson(np.exp(line / 2)).astype(float)
    return short_fit(X, y, "subject", slopes=None, response="poisson"), X, y


def test_frequencies_are_those_of_sample_y(counted):
    model, X, y = counted
    made = RootogramDisplay.from_estimator(model, X, y, n_replicates=50, random_state=3)
    drawn = model.sample_y(X, 50, random_state=3)
    values = np.arange(len(made.observed))
    assert_array_equal(made.observed, [(y == v).sum() for v in values])
    assert_allclose(made.expected, [(drawn == v).sum(0).mean() for v in values])
    ends = [np.quantile((drawn == v).sum(0), [0.05, 0.95]) for v in values]
    assert_allclose(made.bands, ends)


def test_expected_is_the_law_that_replicates_come_from():
    rng = np.random.default_rng(0)
    y, replicated = rng.poisson(3, 400), rng.poisson(3, (400, 2000))
    made = RootogramDisplay.from_predictions(y, replicated)
    values = np.arange(len(made.expected))
    exact = 400 * stats.poisson(3).pmf(values)
    error = np.sqrt(exact / 2000)  # a frequency's variance is below its mean
    assert np.all(np.abs(made.expected - exact) < 5 * error + 1e-9)


def heights(display, kind):
    """Lower and upper ends of the bars of observed frequencies."""
    bars = display.plot(kind=kind).ax_.containers[0]
    boxes = [bar.get_bbox() for bar in bars]
    return np.array([sorted((box.y0, box.y1)) for box in boxes]).T


def test_bars_hang_from_what_is_expected_or_stand_on_zero():
    y, replicated = np.array([0, 0, 0, 0, 1, 3]), np.array([[0, 0, 0, 0, 1, 2]] * 3).T
    display = RootogramDisplay.from_predictions(y, replicated)
    observed, expected = np.sqrt([4, 1, 0, 1]), np.sqrt([4, 1, 1, 0])
    low, high = heights(display, "hanging")
    assert_allclose(high, expected)
    assert_allclose(high - low, observed)
    low, high = heights(display, "suspended")
    assert_allclose(high + low, expected - observed)  # one of the ends is 0
    low, high = heights(display, "standing")
    assert_allclose(low, 0)
    assert_allclose(high, observed)


def test_many_values_share_bars_and_none_is_lost():
    y = np.random.default_rng(0).integers(0, 1000, 500)
    made = RootogramDisplay.from_predictions(y, np.tile(y[:, None], 2))
    assert len(made.observed) <= 60
    assert made.observed.sum() == made.expected.sum() == 500
    few = RootogramDisplay.from_predictions(y, np.tile(y[:, None], 2), max_value=9)
    assert_array_equal(few.observed, np.bincount(y, minlength=10)[:10])


def test_users_style_and_axes(counted):
    model, X, y = counted
    figure, ax = plt.subplots()
    made = RootogramDisplay.from_estimator(model, X, y, ax=ax, color="red", random_state=0)
    assert made.figure_ is figure
    assert made.ax_.lines[-1].get_color() == "red"


def test_models_that_do_not_count_are_refused(sleepstudy_fit, sleepstudy):
    with pytest.raises(ValueError, match=r"'normal' has none\. Use Posterior"):
        RootogramDisplay.from_estimator(sleepstudy_fit, *sleepstudy)
    with pytest.raises(NotFittedError):
        RootogramDisplay.from_estimator(HierarchicalSlopesRegressor("Subject"), *sleepstudy)


@pytest.mark.parametrize(
    ("y", "replicated", "message"),
    [
        ([0, 1], np.zeros(2), "shape"),
        ([0, 1, 2], np.zeros((2, 2)), "inconsistent numbers of samples"),
        ([0, -1], np.zeros((2, 2)), "`y` must hold counts"),
        ([0, 1], [[0.5], [1]], "`y_replicated` must hold counts"),
    ],
)
def test_rootogram_errors(y, replicated, message):
    with pytest.raises(ValueError, match=message):
        RootogramDisplay.from_predictions(y, replicated)
