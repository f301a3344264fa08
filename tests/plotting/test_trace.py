"""Which draws TraceDisplay shows."""

from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from skhier.plotting import TraceDisplay

# ArviZ 0.23 calls Matplotlib 3.11 in a deprecated way
pytestmark = pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")


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
