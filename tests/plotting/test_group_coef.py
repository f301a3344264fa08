"""The numbers and the drawing of GroupCoefDisplay, by another route."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import budget
from scipy.stats import norm

from skhier.plotting import GroupCoefDisplay


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


def test_group_coef_quantiles_are_the_same_level_by_level(sleepstudy_fit, monkeypatch):
    made = GroupCoefDisplay.from_estimator(sleepstudy_fit, interval="quantile")
    monkeypatch.setattr(sleepstudy_fit._fitted.posterior, "budget", budget(levels_drawn=1))
    again = GroupCoefDisplay.from_estimator(sleepstudy_fit, interval="quantile")
    assert_allclose(again.lower, made.lower, rtol=1e-12)
    assert_allclose(again.upper, made.upper, rtol=1e-12)


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
