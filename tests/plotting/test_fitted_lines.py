"""The lines, bands and points of FittedLinesDisplay are those of the predictions."""

import numpy as np
import pandas as pd
import pytest
from displays import short_fit
from numpy.testing import assert_allclose, assert_array_equal

from skhier.plotting import FittedLinesDisplay


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


def test_curves_of_counts_are_their_means(people):
    X, line = people
    y = np.random.default_rng(0).poisson(np.exp(line / 2)).astype(float)
    X = X.assign(day=np.arange(80) % 4)
    model = short_fit(X, y, "subject", slopes=["x"], response="poisson")
    made = FittedLinesDisplay.from_estimator(model, X, y, levels=["s3"], kind="both")
    mine = X["subject"] == "s3"
    rows = X[mine].iloc[[0, 0]].assign(x=made.grid[[0, -1]], day=X.loc[mine, "day"].mean())
    assert_allclose(made.mean[0, [0, -1]], model.predict(rows))
    assert_allclose(made.population[0, [0, -1]], model.predict(rows, level="population"))
    for kind, band in made.bands.items():
        assert_allclose(band[0, [0, -1]], model.predict_interval(rows, kind=kind))
    assert_allclose(made.points[0], np.column_stack([X.loc[mine, "x"], y[mine]]))
