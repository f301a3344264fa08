"""VarianceSharesDisplay against the variance components and their definition."""

import numpy as np
import pytest
from displays import short_fit
from numpy.testing import assert_allclose

from skhier.plotting import VarianceSharesDisplay


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
