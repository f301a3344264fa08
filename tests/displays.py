"""Short fits and calls that the tests of the displays share."""

import warnings

from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor
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

__all__ = ["OF_A_FACTOR", "SHORT", "WITHOUT_DATA", "WITH_DATA", "from_estimator", "short_fit"]

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
    """A model fitted with few draws; warnings of convergence are beside the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return HierarchicalSlopesRegressor(groups, **SHORT | params).fit(X, y)


def from_estimator(display, model, X, y, **kwargs):
    """``display.from_estimator``, with the data if it takes any."""
    return display.from_estimator(model, *([X, y] if display in WITH_DATA else []), **kwargs)
