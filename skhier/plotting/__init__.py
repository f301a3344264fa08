"""Pictures of a fitted model and of its predictions, as scikit-learn displays.

A display holds the numbers that it draws. ``from_estimator`` computes them and draws, ``plot``
draws again. Matplotlib, and ArviZ for :class:`TraceDisplay`, load with the first picture.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skhier.plotting._class_calibration import ClassCalibrationDisplay
    from skhier.plotting._correlation import CorrelationDisplay
    from skhier.plotting._fitted_lines import FittedLinesDisplay
    from skhier.plotting._group_coef import GroupCoefDisplay
    from skhier.plotting._posterior_predictive import PosteriorPredictiveDisplay
    from skhier.plotting._predictive_calibration import PredictiveCalibrationDisplay
    from skhier.plotting._rootogram import RootogramDisplay
    from skhier.plotting._shrinkage import ShrinkageDisplay
    from skhier.plotting._trace import TraceDisplay
    from skhier.plotting._variance_shares import VarianceSharesDisplay

__all__ = [
    "ClassCalibrationDisplay",
    "CorrelationDisplay",
    "FittedLinesDisplay",
    "GroupCoefDisplay",
    "PosteriorPredictiveDisplay",
    "PredictiveCalibrationDisplay",
    "RootogramDisplay",
    "ShrinkageDisplay",
    "TraceDisplay",
    "VarianceSharesDisplay",
]

_HOMES = {
    "ClassCalibrationDisplay": "skhier.plotting._class_calibration",
    "CorrelationDisplay": "skhier.plotting._correlation",
    "FittedLinesDisplay": "skhier.plotting._fitted_lines",
    "GroupCoefDisplay": "skhier.plotting._group_coef",
    "PosteriorPredictiveDisplay": "skhier.plotting._posterior_predictive",
    "PredictiveCalibrationDisplay": "skhier.plotting._predictive_calibration",
    "RootogramDisplay": "skhier.plotting._rootogram",
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
