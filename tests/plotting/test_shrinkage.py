"""Each group's own least squares, the ellipses and arrows of ShrinkageDisplay."""

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2

from skhier.plotting import ShrinkageDisplay


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
