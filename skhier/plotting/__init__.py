"""Pictures of a fitted model and of its predictions, as scikit-learn displays.

A display holds the numbers that it draws. ``from_estimator`` computes them and draws, ``plot``
draws again. Matplotlib, and ArviZ for :class:`TraceDisplay`, load with the first picture.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skhier.plotting._correlation import CorrelationDisplay
    from skhier.plotting._fitted_lines import FittedLinesDisplay
    from skhier.plotting._group_coef import GroupCoefDisplay
    from skhier.plotting._posterior_predictive import PosteriorPredictiveDisplay
    from skhier.plotting._predictive_calibration import PredictiveCalibrationDisplay
    from skhier.plotting._shrinkage import ShrinkageDisplay
    from skhier.plotting._trace import TraceDisplay
    from skhier.plotting._variance_shares import VarianceSharesDisplay

__all__ = [
    "CorrelationDisplay",
    "FittedLinesDisplay",
    "GroupCoefDisplay",
    "PosteriorPredictiveDisplay",
    "PredictiveCalibrationDisplay",
    "ShrinkageDisplay",
    "TraceDisplay",
    "VarianceSharesDisplay",
]

_HOMES = {
    "CorrelationDisplay": "skhier.plotting._correlation",
    "FittedLinesDisplay": "skhier.plotting._fitted_lines",
    "GroupCoefDisplay": "skhier.plotting._group_coef",
    "PosteriorPredictiveDisplay": "skhier.plotting._posterior_predictive",
    "PredictiveCalibrationDisplay": "skhier.plotting._predictive_calibration",
    "ShrinkageDisplay": "skhier.plotting._shrinkage",
    "TraceDisplay": "skhier.plotting._trace",
    "VarianceSharesDisplay": "skhier.plotting._variance_shares",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skhier.plotting' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
