"""CorrelationDisplay against the posterior's draws."""

import numpy as np
import pytest
from displays import short_fit
from matplotlib.colors import Normalize
from numpy.testing import assert_allclose, assert_array_equal

from skhier.plotting import CorrelationDisplay


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
    # at X = 0, where this prior sits
    model = short_fit(*sleepstudy, "Subject", correlated=False, prior="bambi")
    with pytest.raises(ValueError, match="correlated=False"):
        CorrelationDisplay.from_estimator(model)


def test_colours_of_correlations_are_the_users(sleepstudy_fit):
    norm = Normalize(0, 0.5)
    made = CorrelationDisplay.from_estimator(sleepstudy_fit, norm=norm)
    assert made.ax_.images[0].norm is norm
    made = CorrelationDisplay.from_estimator(sleepstudy_fit, norm="linear", cmap="viridis")
    assert made.ax_.images[0].get_clim() == (-1, 1)
    assert made.ax_.images[0].get_cmap().name == "viridis"
    made = CorrelationDisplay.from_estimator(sleepstudy_fit, vmin=-0.5)
    assert made.ax_.images[0].get_clim() == (-0.5, 1)
