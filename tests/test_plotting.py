"""The numbers that the displays draw, recomputed by another route, and that every case draws."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize
from matplotlib.quiver import Quiver
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2, kstest, norm
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skhier
from skhier import HierarchicalSlopesRegressor, plotting
from skhier.datasets import make_hierarchical
from skhier.plotting import (
    CorrelationDisplay,
    FittedLinesDisplay,
    GroupCoefDisplay,
    PosteriorPredictiveDisplay,
    PredictiveCalibrationDisplay,
    ShrinkageDisplay,
    TraceDisplay,
    VarianceSharesDisplay,
)

# ArviZ 0.23 calls Matplotlib 3.11 in a deprecated way
pytestmark = pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")

SHORT = {"n_chains": 2, "n_draws": 200, "random_state": 0}
WITH_DATA = (
    ShrinkageDisplay,
    FittedLinesDisplay,
    PosteriorPredictiveDisplay,
    PredictiveCalibrationDisplay,
)
WITHOUT_DATA = (GroupCoefDisplay, CorrelationDisplay, TraceDisplay, VarianceSharesDisplay)
OF_A_FACTOR = (GroupCoefDisplay, ShrinkageDisplay, FittedLinesDisplay, CorrelationDisplay)


def short_fit(X, y, groups=None, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return HierarchicalSlopesRegressor(groups, **SHORT | params).fit(X, y)


def from_estimator(display, model, X, y, **kwargs):
    return display.from_estimator(model, *([X, y] if display in WITH_DATA else []), **kwargs)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def thousand():
    """A model of 1,000 groups of 1 to some 40 rows, its X and y, and as many new rows."""
    sim = make_hierarchical(
        12_000, 3, groups=1000, slopes=["x0", "x1"], balanced=False, random_state=1
    )
    X, y = sim.data, sim.target
    seen = np.arange(len(y)) % 2 == 0
    model = short_fit(X[seen], y[seen], "group", slopes=["x0", "x1"], n_draws=500)
    new = ~seen & X["group"].isin(model.group_levels_["group"])
    return model, X[seen], y[seen], X[new], y[new]


@pytest.fixture(scope="module")
def crossed():
    """A model of two crossed factors with different slopes, its X and y."""
    sim = make_hierarchical(
        300,
        2,
        groups={"person": 8, "item": 12},
        slopes={"person": ["x0", "x1"], "item": ["x1"]},
        group_scale={"person": [1.0, 0.5, 0.5], "item": [2.0, 0.5]},
        random_state=0,
    )
    return short_fit(sim.data, sim.target, sim.groups), sim.data, sim.target


@pytest.fixture(scope="module")
def nested():
    """A model of cafes 0 to 3 in each of five states, its X and y."""
    sim = make_hierarchical(
        300, 1, groups={"state": 5, ("state", "cafe"): 4}, group_scale=[2.0, 0.5], random_state=0
    )
    X = sim.data.assign(cafe=sim.data["cafe"].str.removeprefix("cafe_").astype(int))
    return short_fit(X, sim.target, sim.groups), X, sim.target


@pytest.fixture(params=["crossed", "nested"])
def several(request):
    """Each model of several factors, its X and y, in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def population_only(sleepstudy):
    X, y = sleepstudy
    return short_fit(X[["Days"]], y), X[["Days"]], y


@pytest.fixture(scope="module")
def intercepts_only(sleepstudy):
    return short_fit(*sleepstudy, "Subject", slopes=None), *sleepstudy


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


def test_labels_of_a_nesting_are_joined(nested):
    model, X, y = nested
    coef = GroupCoefDisplay.from_estimator(model, factor="state:cafe", effects="x0")
    order = coef.coef["x0"].sort_values().index
    joined = [f"{state}:{cafe}" for state, cafe in order]
    assert [t.get_text() for t in coef.axes_[0].get_yticklabels()] == joined
    lines = FittedLinesDisplay.from_estimator(model, X, y, factor="state:cafe", max_groups=2)
    assert lines.labels == [f"state:cafe {label}" for label in (joined[0], joined[-1])]
    long = X.assign(cafe=X["cafe"].map("a very long label {}".format))
    other = short_fit(long, y, [("state", "cafe")])
    (label,) = FittedLinesDisplay.from_estimator(other, long, y, max_groups=1).labels
    assert re.fullmatch(r"state_\d:a v…long label \d", label)


def test_group_coef_intervals_are_normal(sleepstudy_fit):
    made = GroupCoefDisplay.from_estimator(sleepstudy_fit, coverage=0.8)
    mean, sd = sleepstudy_fit.group_coef_["Subject"], sleepstudy_fit.group_coef_std_["Subject"]
    assert_allclose(made.lower, norm.ppf(0.1, mean, sd))
    assert_allclose(made.upper, norm.ppf(0.9, mean, sd))
    assert_allclose(
        made.population, [sleepstudy_fit.intercept_, sleepstudy_fit.coef_[0]], rtol=1e-15
    )


def test_group_coef_quantiles_are_those_of_the_draws(sleepstudy_fit):
    made = GroupCoefDisplay.from_estimator(
        sleepstudy_fit, interval="quantile", effects="Days", coverage=0.5
    )
    draws = sleepstudy_fit.posterior_["coef"].reshape(-1, 1)
    draws = draws + sleepstudy_fit.sample_group_effects("Subject")[..., 1]
    assert_allclose(made.lower["Days"], np.quantile(draws, 0.25, axis=0))
    assert_allclose(made.upper["Days"], np.quantile(draws, 0.75, axis=0))


def test_group_coef_of_several_factors_are_population_and_one_effect(several):
    model, *_ = several
    for factor, levels in model.group_levels_.items():
        made = GroupCoefDisplay.from_estimator(model, factor=factor, interval="quantile")
        names = list(made.coef.columns)
        draws = model.sample_group_effects(factor, levels)
        draws[..., 0] += model.posterior_["intercept"].reshape(-1, 1)
        for j, name in enumerate(names[1:], start=1):
            of_slope = model.posterior_["coef"][..., model.coef_names_.index(name)]
            draws[..., j] += of_slope.reshape(-1, 1)
        assert_allclose(made.lower, np.quantile(draws, 0.05, axis=0))
        assert_allclose(made.upper, np.quantile(draws, 0.95, axis=0))
        assert_array_equal(made.coef, model.group_coef_[factor])


def test_group_coef_draws_sorted_means_and_intervals(sleepstudy_fit):
    made = GroupCoefDisplay.from_estimator(sleepstudy_fit)
    axis, table = made.axes_[1], made.coef["Days"].sort_values()
    dots = next(line for line in axis.lines if line.get_marker() == "o")
    assert_array_equal(dots.get_xdata(), table)
    assert_array_equal(dots.get_ydata(), np.arange(18))
    assert [t.get_text() for t in axis.get_yticklabels()] == list(table.index)
    ends = np.array(axis.collections[0].get_segments())[:, :, 0]
    assert_allclose(ends[:, 0], made.lower["Days"][table.index])
    assert_allclose(ends[:, 1], made.upper["Days"][table.index])
    assert axis.lines[-1].get_xdata()[0] == made.population["Days"]


def test_group_coef_panels_can_share_an_order(sleepstudy_fit):
    made = GroupCoefDisplay.from_estimator(sleepstudy_fit, sort_by="Days")
    order = made.coef["Days"].sort_values().index
    dots = made.axes_[0].lines[0].get_xdata()
    assert_array_equal(dots, made.coef["intercept"][order])
    assert made.axes_[1].get_yticks().size == 0
    with pytest.raises(ValueError, match="sort_by"):
        made.plot(sort_by="Nights")


def test_group_coef_of_many_levels_says_how_many(thousand):
    model = thousand[0]
    made = GroupCoefDisplay.from_estimator(model, effects=["x1"])
    assert made.axes_[0].get_yticks().size == 0
    n = len(model.group_levels_["group"])
    assert f"{n:,} levels of group" in made.axes_[0].get_ylabel()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": "Person"}, "'Person' is not a grouping factor"),
        ({"effects": "Nights"}, "'Nights' is not an effect of 'Subject'"),
        ({"effects": []}, "each once"),
        ({"effects": ["Days", "Days"]}, "each once"),
        ({"coverage": 1.0}, "coverage"),
        ({"interval": "hdi"}, "interval"),
    ],
)
def test_group_coef_errors(sleepstudy_fit, settings, message):
    with pytest.raises(ValueError, match=message):
        GroupCoefDisplay.from_estimator(sleepstudy_fit, **settings)


def test_no_pooling_is_least_squares(sleepstudy_fit, sleepstudy):
    X, y = sleepstudy
    made = ShrinkageDisplay.from_estimator(sleepstudy_fit, X, y)
    for subject in X["Subject"].unique():
        mine = X["Subject"] == subject
        design = np.column_stack([np.ones(mine.sum()), X["Days"][mine]])
        expected = np.linalg.lstsq(design, y[mine])[0]
        assert_allclose(made.no_pooling.loc[subject], expected, rtol=1e-10)
    assert_array_equal(made.partial_pooling, sleepstudy_fit.group_coef_["Subject"])


def test_no_pooling_leaves_out_other_features_at_the_population(thousand):
    model, X, y, *_ = thousand
    made = ShrinkageDisplay.from_estimator(model, X, y, effects=["x1", "intercept"])
    rest = y - model.coef_[2] * X["x2"]
    for level in made.no_pooling.dropna().index[::100]:
        mine = X["group"] == level
        design = np.column_stack([np.ones(mine.sum()), X.loc[mine, ["x0", "x1"]]])
        expected = np.linalg.lstsq(design, rest[mine])[0]
        assert_allclose(made.no_pooling.loc[level], expected[[2, 0]], rtol=1e-8)
    # three coefficients need three rows
    rows = X["group"].value_counts()[made.no_pooling.index]
    assert_array_equal(made.no_pooling.isna().any(axis=1), rows < 3)
    assert f"{(rows < 3).sum():,} not drawn" in made.ax_.get_title(loc="left")


def test_no_pooling_leaves_out_other_factors(crossed):
    model, X, y = crossed
    made = ShrinkageDisplay.from_estimator(model, X, y, factor="item")
    of_person = model.group_effects_["person"].loc[X["person"]].to_numpy()
    rest = y - of_person[:, 0] - (of_person[:, 1:] * X[["x0", "x1"]]).sum(axis=1)
    rest = rest - model.coef_[0] * X["x0"]
    for level in model.group_levels_["item"]:
        mine = X["item"] == level
        design = np.column_stack([np.ones(mine.sum()), X["x1"][mine]])
        expected = np.linalg.lstsq(design, rest[mine])[0]
        assert_allclose(made.no_pooling.loc[level], expected, rtol=1e-8)


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e9])
def test_groups_with_constant_x_are_left_out(sleepstudy_fit, sleepstudy, offset):
    X, y = sleepstudy
    X = X.assign(Days=X["Days"] + offset)
    X.loc[X["Subject"] == X["Subject"].iloc[0], "Days"] = 3.1 + offset
    made = ShrinkageDisplay.from_estimator(sleepstudy_fit, X, y)
    assert list(made.no_pooling.isna().any(axis=1)) == [True] + [False] * 17
    assert "1 not drawn" in made.ax_.get_title(loc="left")


def test_ellipse_is_that_of_sigma(sleepstudy_fit, sleepstudy):
    made = ShrinkageDisplay.from_estimator(sleepstudy_fit, *sleepstudy, coverage=(0.9, 0.5))
    tau = sleepstudy_fit.posterior_["group_scale"]["Subject"].reshape(-1, 2)
    rho = sleepstudy_fit.posterior_["group_corr"]["Subject"][..., 0, 1].ravel()
    expected = np.empty((2, 2))
    expected[0, 0], expected[1, 1] = (tau**2).mean(0)
    expected[0, 1] = expected[1, 0] = (tau[:, 0] * tau[:, 1] * rho).mean()
    assert_allclose(made.covariance, expected)
    outlines = [patch.get_xy() for patch in made.ax_.patches]
    assert len(outlines) == 2
    for level, outline in zip((0.5, 0.9), outlines, strict=True):
        off = outline - made.population.to_numpy()
        # (x - mu)' Sigma^-1 (x - mu) = the chi-squared quantile, 2 degrees of freedom
        distance = np.einsum("ni,ij,nj->n", off, np.linalg.inv(expected), off)
        assert_allclose(distance, chi2.ppf(level, 2))


def test_arrows_lead_from_least_squares_to_posterior_means(sleepstudy_fit, sleepstudy):
    made = ShrinkageDisplay.from_estimator(sleepstudy_fit, *sleepstudy, color="C1")
    (arrows,) = (a for a in made.ax_.collections if isinstance(a, matplotlib.quiver.Quiver))
    start = np.asarray(arrows.XY)
    assert_allclose(start, made.no_pooling)
    assert_allclose(start + np.column_stack([arrows.U, arrows.V]), made.partial_pooling)


def test_far_least_squares_do_not_set_the_limits(sleepstudy_fit, sleepstudy):
    made = ShrinkageDisplay.from_estimator(sleepstudy_fit, *sleepstudy)
    before = made.ax_.get_xlim()
    made.no_pooling = made.no_pooling.copy()
    made.no_pooling.iloc[8] = [1e6, -1e6]
    made.plot()
    assert_allclose(made.ax_.get_xlim(), before)
    assert "1 start beyond the axes" in made.ax_.get_title(loc="left")


def test_shrinkage_takes_two_effects(sleepstudy_fit, sleepstudy):
    with pytest.raises(ValueError, match="must name two effects"):
        ShrinkageDisplay.from_estimator(sleepstudy_fit, *sleepstudy, effects=["Days"])


def test_lines_are_the_predictions(sleepstudy_fit, sleepstudy):
    X, y = sleepstudy
    made = FittedLinesDisplay.from_estimator(sleepstudy_fit, X, y, kind="both", coverage=0.8)
    assert len(made.axes_) == 18
    order = sleepstudy_fit.group_coef_["Subject"]["Days"].sort_values().index
    assert made.labels == [f"Subject {label}" for label in order]
    for k in (0, 11):
        rows = pd.DataFrame({"Days": made.grid, "Subject": order[k]})
        assert_allclose(made.mean[k], sleepstudy_fit.predict(rows))
        assert_allclose(made.population[k], sleepstudy_fit.predict(rows, level="population"))
        for kind in ("mean", "response"):
            expected = sleepstudy_fit.predict_interval(rows, coverage=0.8, kind=kind)
            assert_allclose(made.bands[kind][k], expected)
        mine = X["Subject"] == order[k]
        assert_array_equal(made.points[k], np.column_stack([X["Days"][mine], y[mine]]))
    assert made.target_name == y.name
    assert made.feature_name == "Days"


def test_lines_of_a_factor_leave_out_the_others(several):
    model, X, y = several
    for factor, known in model.group_levels_.items():
        levels = list(known[[3, 0]])
        made = FittedLinesDisplay.from_estimator(
            model, X, y, factor=factor, feature="x0", levels=levels, kind="both", n_points=4
        )
        (other,) = (name for name in model.group_levels_ if name != factor)
        of_other = model.predict(X, level=[other]) - model.predict(X, level="population")
        for k, level in enumerate(levels):
            mine = (X[factor.split(":")] == np.array(level, dtype=object)).all(axis=1)
            assert_allclose(made.points[k], np.column_stack([X["x0"], y - of_other])[mine])
            rows = X[mine].iloc[[0] * 4].assign(**X.loc[mine, model.coef_names_].mean())
            rows["x0"] = made.grid
            assert_allclose(made.mean[k], model.predict(rows, level=[factor]))
            assert_allclose(made.population[k], model.predict(rows, level="population"))
            for kind, band in made.bands.items():
                expected = model.predict_interval(rows, kind=kind, level=[factor])
                assert_allclose(band[k], expected)
        label = made.axes_[0].get_legend_handles_labels()[1][0]
        assert label == f"observed, less effects of {other}"


def test_lines_of_a_nesting_take_tuples(nested):
    model, X, y = nested
    settings = {"factor": "state:cafe", "max_groups": 1}
    levels = [("state_3", 2), ("state_0", 1)]
    made = FittedLinesDisplay.from_estimator(model, X, y, levels=levels, **settings)
    assert made.labels == ["state:cafe state_3:2", "state:cafe state_0:1"]
    for level, points in zip(levels, made.points, strict=True):
        mine = (X["state"] == level[0]) & (X["cafe"] == level[1])
        assert_array_equal(points[:, 0], X["x0"][mine])
    with pytest.raises(ValueError, match=r"of 'state:cafe' in X: \('state_3', 9\), 'state_0'"):
        FittedLinesDisplay.from_estimator(
            model, X, y, levels=[("state_3", 9), "state_0"], **settings
        )
    X = X.assign(cafe=X["cafe"].replace({1: 7}))
    with pytest.warns(UserWarning, match="unseen group"):
        made = FittedLinesDisplay.from_estimator(model, X, y, levels=[("state_0", 7)], **settings)
    assert_allclose(made.mean, made.population)


def test_lines_hold_other_features_at_the_groups_mean(thousand):
    model, X, y, *_ = thousand
    level = X["group"].value_counts().index[0]
    made = FittedLinesDisplay.from_estimator(model, X, y, feature="x2", levels=[level], n_points=3)
    mine = X[X["group"] == level]
    rows = pd.DataFrame([mine[["x0", "x1", "x2"]].mean()] * 3).assign(group=level)
    rows["x2"] = np.linspace(X["x2"].min(), X["x2"].max(), 3)
    assert_allclose(made.mean[0], model.predict(rows))


def test_lines_show_equal_steps_of_rank(thousand):
    model, X, y, *_ = thousand
    made = FittedLinesDisplay.from_estimator(model, X, y, feature="x1", max_groups=5)
    order = model.group_coef_["group"]["x1"].sort_values().index
    at = np.linspace(0, len(order) - 1, 5).round().astype(int)
    assert made.labels == list(order[at])  # which begin with the factor's name
    assert made.axes_[0].figure.legends[0].get_title().get_text() == f"5 of {len(order):,} groups"


@pytest.mark.parametrize(
    ("label", "printed"),
    [
        (lambda s: s.astype(int), "Subject 335"),
        (lambda s: s.radd("a very long label, number "), "Subject a very long…, number 335"),
        (lambda s: pd.Timestamp(2020, 1, 1) + pd.to_timedelta(s.astype(int), "D"), "2020-12-01"),
    ],
    ids=["int", "long", "date"],
)
def test_labels_are_printed_short(sleepstudy, label, printed):
    X, y = sleepstudy
    X = X.assign(Subject=label(X["Subject"]))
    model = short_fit(X, y, "Subject")
    lowest = FittedLinesDisplay.from_estimator(model, X, y).axes_[0].get_title(loc="left")
    assert lowest.removeprefix("Subject ") == printed.removeprefix("Subject ")
    ticks = GroupCoefDisplay.from_estimator(model).axes_[1].get_yticklabels()
    assert ticks[0].get_text() == printed.removeprefix("Subject ")


def test_lines_of_unseen_levels_are_new_members(sleepstudy_fit, sleepstudy):
    X, y = sleepstudy
    X = X.assign(Subject=X["Subject"].replace({"308": "999"}))
    with pytest.warns(UserWarning, match="unseen group"):
        made = FittedLinesDisplay.from_estimator(sleepstudy_fit, X, y, levels=["999"])
    assert_allclose(made.mean, made.population)
    with (
        pytest.warns(UserWarning, match="unseen group"),
        pytest.raises(ValueError, match="`levels` must be levels of 'Subject' in X: '308'"),
    ):
        FittedLinesDisplay.from_estimator(sleepstudy_fit, X, y, levels=["308"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature": "Nights"}, "is not a feature of this fit"),
        ({"levels": []}, "none were named"),
        ({"kind": "line"}, "kind"),
        ({"max_groups": 0}, "max_groups"),
        ({"n_points": 1}, "n_points"),
    ],
)
def test_lines_errors(sleepstudy_fit, sleepstudy, settings, message):
    with pytest.raises(ValueError, match=message):
        FittedLinesDisplay.from_estimator(sleepstudy_fit, *sleepstudy, **settings)


def test_lines_need_a_feature_and_groups(population_only, sleepstudy):
    with pytest.raises(ValueError, match="no grouping factor"):
        FittedLinesDisplay.from_estimator(*population_only, levels=["308"])
    X, y = sleepstudy
    model = short_fit(X[["Subject"]], y, "Subject")
    with pytest.raises(ValueError, match="no features"):
        FittedLinesDisplay.from_estimator(model, X[["Subject"]], y)


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


def test_correlations_are_the_posteriors(thousand):
    model = thousand[0]
    made = CorrelationDisplay.from_estimator(model, coverage=0.5)
    draws = model.posterior_["group_corr"]["group"].reshape(-1, 3, 3)
    assert_array_equal(made.corr, model.group_corr_["group"])
    assert_allclose(made.sd, draws.std(0), atol=1e-12)
    assert_allclose(made.lower, np.quantile(draws, 0.25, axis=0), atol=1e-12)
    assert_allclose(made.upper, np.quantile(draws, 0.75, axis=0), atol=1e-12)
    written = [text.get_text() for text in made.ax_.texts]
    assert f"{made.corr.iloc[0, 1]:.2f}".replace("-", "\N{MINUS SIGN}") in written
    (image,) = made.ax_.images
    assert image.get_clim() == (-1, 1)
    off = ~np.eye(3, dtype=bool)
    assert_array_equal(image.get_array()[off], made.corr.to_numpy()[off])


@pytest.mark.parametrize(("spread", "n"), [(None, 4), ("sd", 6), ("interval", 6)])
def test_correlations_print_their_spread(sleepstudy_fit, spread, n):
    made = CorrelationDisplay.from_estimator(sleepstudy_fit, spread=spread)
    assert len(made.ax_.texts) == n


def test_independent_effects_have_no_correlations(sleepstudy):
    model = short_fit(*sleepstudy, "Subject", correlated=False)
    with pytest.raises(ValueError, match="correlated=False"):
        CorrelationDisplay.from_estimator(model)


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


def test_shares_are_the_intraclass_correlations(several):
    model, *_ = several
    made = VarianceSharesDisplay.from_estimator(model)
    components = model.variance_components()
    expected = components[components["parameter"] == "icc"].set_index("factor")
    assert list(made.shares.index) == [*model.group_levels_, "residual"]
    assert_allclose(made.shares, expected[["mean", "hdi_5%", "hdi_95%"]])
    assert made.shares["mean"].sum() == pytest.approx(1)


def test_shares_of_an_intercept_are_ratios_of_variances(intercepts_only):
    model, *_ = intercepts_only
    made = VarianceSharesDisplay.from_estimator(model, coverage=0.5, color="C1")
    tau, sigma = model.posterior_["group_scale"]["Subject"][..., 0], model.posterior_["noise_scale"]
    share = (tau**2 / (tau**2 + sigma**2)).ravel()
    assert_allclose(made.shares.loc["Subject", "mean"], share.mean())
    low, high = made.shares.loc["Subject", ["lower", "upper"]]
    assert np.mean((share >= low) & (share <= high)) == pytest.approx(0.5, abs=2 / len(share))
    dots, lines = made.ax_.lines[0], made.ax_.collections[0]
    assert_allclose(dots.get_xdata(), 100 * made.shares["mean"])
    ends = np.array(lines.get_segments())[:, :, 0]
    assert_allclose(ends, 100 * made.shares[["lower", "upper"]])
    assert (
        made.ax_.texts[0].get_text()
        == f"{100 * share.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"
    )


def test_shares_errors(intercepts_only):
    model, X, y = intercepts_only
    with pytest.raises(ValueError, match="coverage"):
        VarianceSharesDisplay.from_estimator(model, coverage=1.0)
    with pytest.warns(UserWarning, match="y is constant"):
        constant = short_fit(X, 0 * y, "Subject")
    with pytest.raises(ValueError, match="no variance to share"):
        VarianceSharesDisplay.from_estimator(constant)


def test_trace_shows_what_varies(sleepstudy_fit):
    made = TraceDisplay.from_estimator(sleepstudy_fit)
    assert list(made.draws) == list(sleepstudy_fit.summary().index)
    assert_array_equal(made.draws["coef[Days]"], sleepstudy_fit.posterior_["coef"][..., 0])
    assert len(made.axes_) == 12


@pytest.mark.parametrize("kind", ["trace", "rank"])
def test_trace_of_chosen_parameters(sleepstudy_fit, kind):
    name = sleepstudy_fit.summary(group_effects=True).index[-1]
    made = TraceDisplay.from_estimator(sleepstudy_fit, parameters=["noise_scale", name], kind=kind)
    assert list(made.draws) == ["noise_scale", name]
    made.figure_.savefig(Path("/dev/null"), format="png")


def test_trace_errors(sleepstudy_fit):
    with pytest.raises(ValueError, match="'slope' is not a parameter of this fit"):
        TraceDisplay.from_estimator(sleepstudy_fit, parameters="slope")
    with pytest.raises(ValueError, match="None of these parameters varies"):
        TraceDisplay.from_estimator(sleepstudy_fit, parameters=[])


PAGE = Path(__file__).parents[1] / "docs" / "plots.md"


def test_guide_shows_small_pictures():
    images = re.findall(r"!\[.+?\]\((.+?)\)", PAGE.read_text(encoding="utf-8"))
    assert len(images) >= 7
    for image in images:
        assert 1_000 < (PAGE.parent / image).stat().st_size < 120_000


@pytest.mark.slow
def test_guide_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)


# keywords of an artist that skhier sets too, by each name of theirs: property -> names, value
LINE = {
    "linewidth": (("lw", "linewidth"), 7.5),
    "color": (("c", "color"), "C3"),
    "linestyle": (("ls", "linestyle"), ":"),
}
INTERVALS = {
    "linewidth": ((*LINE["linewidth"][0], "linewidths"), 7.5),
    "color": ((*LINE["color"][0], "colors"), "C3"),
    "linestyle": ((*LINE["linestyle"][0], "linestyles", "dashes"), ":"),
}
ARROWS = {
    "facecolor": (("c", "color", "fc", "facecolor", "facecolors"), "C3"),
    "linewidth": (("lw", "linewidth", "linewidths"), 7.5),
    "scale": (("scale",), 2),
    "scale_units": (("scale_units",), "x"),
    "angles": (("angles",), "uv"),
}
STYLED = {
    GroupCoefDisplay: ("90% interval", INTERVALS),
    VarianceSharesDisplay: ("90% interval", INTERVALS),
    ShrinkageDisplay: (None, ARROWS),
    FittedLinesDisplay: ("the group's line", LINE),
    PosteriorPredictiveDisplay: ("observed", LINE),
    PredictiveCalibrationDisplay: ("observed (180 rows)", LINE),
}
ALIASES = [
    (display, prop, name)
    for display, (_, props) in STYLED.items()
    for prop, (names, _) in props.items()
    for name in names
]


def styled_artist(display, made):
    label, _ = STYLED[display]
    axis = made.figure_.axes[0]
    return next(
        artist
        for artist in (*axis.lines, *axis.collections)
        if (isinstance(artist, Quiver) if label is None else artist.get_label() == label)
    )


@pytest.mark.parametrize(("display", "prop", "name"), ALIASES)
def test_a_users_style_takes_the_place_of_ours(sleepstudy_fit, sleepstudy, display, prop, name):
    value = STYLED[display][1][prop][1]
    made = from_estimator(display, sleepstudy_fit, *sleepstudy, **{name: value})
    artist = styled_artist(display, made)
    if prop in ("scale", "scale_units", "angles"):
        assert getattr(artist, prop) == value
        return
    found = plt.getp(artist, prop)
    artist.set(**{prop: value})
    assert repr(found) == repr(plt.getp(artist, prop))


@pytest.mark.parametrize("style", [{"drawstyle": "default"}, {"ds": "default"}])
def test_a_users_style_takes_the_place_of_steps(sleepstudy_fit, sleepstudy, style):
    made = from_estimator(
        PosteriorPredictiveDisplay, sleepstudy_fit, *sleepstudy, kind="ecdf", **style
    )
    drawn = [line.get_drawstyle() for line in made.ax_.lines]
    assert drawn == ["steps-post"] * 50 + ["default"]


@pytest.mark.parametrize("display", STYLED)
def test_a_style_by_two_names_is_an_error(sleepstudy_fit, sleepstudy, display):
    for style in ({"lw": 1, "linewidth": 2}, {"c": "C1", "color": "C2"}):
        with pytest.raises(TypeError, match="Got both"):
            from_estimator(display, sleepstudy_fit, *sleepstudy, **style)


def test_colours_of_correlations_are_the_users(sleepstudy_fit):
    norm = Normalize(0, 0.5)
    made = CorrelationDisplay.from_estimator(sleepstudy_fit, norm=norm)
    assert made.ax_.images[0].norm is norm
    made = CorrelationDisplay.from_estimator(sleepstudy_fit, norm="linear", cmap="viridis")
    assert made.ax_.images[0].get_clim() == (-1, 1)
    assert made.ax_.images[0].get_cmap().name == "viridis"
    made = CorrelationDisplay.from_estimator(sleepstudy_fit, vmin=-0.5)
    assert made.ax_.images[0].get_clim() == (-0.5, 1)
