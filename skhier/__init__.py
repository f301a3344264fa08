"""Hierarchical regression with varying slopes, fully Bayesian, as a scikit-learn estimator.

Importing this package loads nothing heavy: scikit-learn loads with the first name that is used, JAX
and NumPyro in ``fit``, ArviZ in ``to_arviz``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skhier import calibration, datasets, frames, metrics, plotting, priors, responses
    from skhier.estimators._classifier import HierarchicalSlopesClassifier
    from skhier.estimators._classifier_cv import HierarchicalSlopesClassifierCV
    from skhier.estimators._compare import compare
    from skhier.estimators._cv import HierarchicalSlopesRegressorCV
    from skhier.estimators._regressor import HierarchicalSlopesRegressor
    from skhier.inference.runtime import enable_compilation_cache
    from skhier.plotting import (
        ClassCalibrationDisplay,
        CorrelationDisplay,
        FittedLinesDisplay,
        GroupCoefDisplay,
        PosteriorPredictiveDisplay,
        PredictiveCalibrationDisplay,
        RootogramDisplay,
        ShrinkageDisplay,
        TraceDisplay,
        VarianceSharesDisplay,
    )
    from skhier.priors import DecovPrior, Prior
    from skhier.statistics.group_statistics import GroupStatistics

__version__ = "0.2.0.dev0"
__all__ = [
    "ClassCalibrationDisplay",
    "CorrelationDisplay",
    "DecovPrior",
    "FittedLinesDisplay",
    "GroupCoefDisplay",
    "GroupStatistics",
    "HierarchicalSlopesClassifier",
    "HierarchicalSlopesClassifierCV",
    "HierarchicalSlopesRegressor",
    "HierarchicalSlopesRegressorCV",
    "PosteriorPredictiveDisplay",
    "PredictiveCalibrationDisplay",
    "Prior",
    "RootogramDisplay",
    "ShrinkageDisplay",
    "TraceDisplay",
    "VarianceSharesDisplay",
    "__version__",
    "calibration",
    "compare",
    "datasets",
    "enable_compilation_cache",
    "frames",
    "metrics",
    "plotting",
    "priors",
    "responses",
]

_MODULES = ("calibration", "datasets", "frames", "metrics", "plotting", "priors", "responses")
_HOMES = {
    "ClassCalibrationDisplay": "skhier.plotting",
    "CorrelationDisplay": "skhier.plotting",
    "FittedLinesDisplay": "skhier.plotting",
    "GroupCoefDisplay": "skhier.plotting",
    "PosteriorPredictiveDisplay": "skhier.plotting",
    "PredictiveCalibrationDisplay": "skhier.plotting",
    "RootogramDisplay": "skhier.plotting",
    "ShrinkageDisplay": "skhier.plotting",
    "TraceDisplay": "skhier.plotting",
    "VarianceSharesDisplay": "skhier.plotting",
    "HierarchicalSlopesClassifier": "skhier.estimators._classifier",
    "HierarchicalSlopesClassifierCV": "skhier.estimators._classifier_cv",
    "HierarchicalSlopesRegressor": "skhier.estimators._regressor",
    "HierarchicalSlopesRegressorCV": "skhier.estimators._cv",
    "GroupStatistics": "skhier.statistics.group_statistics",
    "compare": "skhier.estimators._compare",
    "Prior": "skhier.priors",
    "DecovPrior": "skhier.priors",
    "enable_compilation_cache": "skhier.inference.runtime",
}


def __getattr__(name: str) -> Any:
    if name == "enable_compilation_cache":  # the only name whose module imports JAX
        with import_module("skhier.utils.imports").imports_without_trace():
            return getattr(import_module(_HOMES[name]), name)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"skhier.{name}")
    raise AttributeError(f"module 'skhier' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
