"""What all displays have in common, and that every case draws."""

import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from displays import OF_A_FACTOR, SHORT, WITH_DATA, WITHOUT_DATA, from_estimator, short_fit
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skhier
from skhier import HierarchicalSlopesRegressor, plotting
from skhier.plotting import (
    CorrelationDisplay,
    FittedLinesDisplay,
    GroupCoefDisplay,
    PosteriorPredictiveDisplay,
    PredictiveCalibrationDisplay,
    ShrinkageDisplay,
    VarianceSharesDisplay,
)

# ArviZ 0.23 calls Matplotlib 3.11 in a deprecated way
pytestmark = pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")


def test_importing_plotting_loads_neither_matplotlib_nor_arviz():
    code = (
        "import sys, skhier.plotting; skhier.ShrinkageDisplay; "
        "print({'matplotlib', 'arviz', 'jax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_top_level_names_are_the_displays():
    for name in plotting.__all__:
        assert getattr(skhier, name) is getattr(plotting, name)
        assert name in skhier.__all__


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib.*skhier\[plot\]"):
        PredictiveCalibrationDisplay(pit=np.array([0.5])).plot()


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_unfitted_estimator_is_an_error(display, sleepstudy):
    with pytest.raises(NotFittedError):
        from_estimator(display, HierarchicalSlopesRegressor("Subject"), *sleepstudy)


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_other_estimators_are_an_error(display, sleepstudy):
    with pytest.raises(TypeError, match="Got LinearRegression"):
        from_estimator(display, LinearRegression(), *sleepstudy)


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_plot_draws_again(display, sleepstudy_fit, sleepstudy):
    made = from_estimator(display, sleepstudy_fit, *sleepstudy)
    first = made.figure_
    assert made.plot() is made
    assert made.figure_ is not first
    assert len(made.figure_.axes) == len(first.axes)


@pytest.mark.parametrize(
    "display", [*WITH_DATA, GroupCoefDisplay, CorrelationDisplay, VarianceSharesDisplay]
)
def test_given_axes_are_drawn_on(display, sleepstudy_fit, sleepstudy):
    n = {FittedLinesDisplay: 3, GroupCoefDisplay: 2}.get(display, 1)
    figure, axes = plt.subplots(1, n)
    few = {"max_groups": 3} if display is FittedLinesDisplay else {}
    made = from_estimator(display, sleepstudy_fit, *sleepstudy, ax=axes, **few)
    assert made.figure_ is figure
    assert figure.legends == []
    drawn = getattr(made, "axes_", [getattr(made, "ax_", None)])
    assert list(drawn) == list(np.ravel(axes))
    figure.savefig(Path("/dev/null"), format="png")


def test_too_few_axes_are_an_error(sleepstudy_fit):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"`ax` must hold 2 axes, one a panel\. Got 1"):
        GroupCoefDisplay.from_estimator(sleepstudy_fit, ax=ax)


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_thousand_groups_draw(display, thousand):
    model, X, y, *_ = thousand
    made = from_estimator(display, model, X.iloc[:3000], y.iloc[:3000])
    made.figure_.savefig(Path("/dev/null"), format="png")


@pytest.fixture(scope="module")
def with_means(people):
    return short_fit(*people, "subject", group_means=["x"])


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_model_with_level_means(display, with_means, people):
    from_estimator(display, with_means, *people)


def test_lines_of_a_group_keep_its_mean(with_means, people):
    X, y = people
    made = FittedLinesDisplay.from_estimator(with_means, X, y, levels=["s3"])
    rows = X[X["subject"] == "s3"].iloc[[0, 0]].assign(x=made.grid[[0, -1]])
    assert_allclose(made.mean[0, [0, -1]], with_means.predict(rows))


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_model_without_groups(display, population_only):
    if display in (GroupCoefDisplay, ShrinkageDisplay, CorrelationDisplay, VarianceSharesDisplay):
        with pytest.raises(ValueError, match="no grouping factor"):
            from_estimator(display, *population_only)
    else:
        from_estimator(display, *population_only)


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_model_with_one_effect(display, intercepts_only):
    if display in (ShrinkageDisplay, CorrelationDisplay):
        with pytest.raises(ValueError, match="'Subject' has one effect, the intercept"):
            from_estimator(display, *intercepts_only)
    else:
        from_estimator(display, *intercepts_only)


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_arrays_without_names_are_labelled_by_position(display, sleepstudy):
    X, y = sleepstudy
    X = np.column_stack([X["Days"], X["Subject"].astype(int)])
    model = short_fit(X, y.to_numpy(), groups=1)
    made = from_estimator(display, model, X, y.to_numpy())
    words = " ".join(t.get_text() for t in made.figure_.findobj(matplotlib.text.Text))
    if display in (GroupCoefDisplay, ShrinkageDisplay):
        assert "Slope of x0" in words
        assert "x1" in words
    if display in (FittedLinesDisplay, PosteriorPredictiveDisplay):
        assert "y" in words.split()


def test_pipelines_and_searches_are_unwrapped(sleepstudy):
    X, y = sleepstudy
    weeks = FunctionTransformer(lambda X: X.assign(Days=X["Days"] / 7))
    pipeline = make_pipeline(weeks, HierarchicalSlopesRegressor("Subject", **SHORT))
    grid = {"hierarchicalslopesregressor__eta": [2]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring=lambda *_: 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X, y)
    made = FittedLinesDisplay.from_estimator(search, X, y, max_groups=2)
    assert_allclose(made.grid[[0, -1]], [0, 9 / 7])
    model = search.best_estimator_[-1]
    assert_array_equal(GroupCoefDisplay.from_estimator(search).coef, model.group_coef_["Subject"])


@pytest.mark.parametrize("display", WITH_DATA + WITHOUT_DATA)
def test_several_factors_draw(display, several):
    model, X, y = several
    factors = list(model.group_levels_) if display in OF_A_FACTOR else [None]
    for factor in factors:
        made = from_estimator(display, model, X, y, **({"factor": factor} if factor else {}))
        made.figure_.savefig(Path("/dev/null"), format="png")


@pytest.mark.parametrize("display", OF_A_FACTOR)
def test_several_factors_ask_for_one(display, several):
    model, X, y = several
    names = ", ".join(map(repr, model.group_levels_))
    with pytest.raises(ValueError, match=f"`factor` must name one of {names}"):
        from_estimator(display, model, X, y)
    with pytest.raises(ValueError, match=f"'cafe' is not a grouping factor.* Factors: {names}"):
        from_estimator(display, model, X, y, factor="cafe")
