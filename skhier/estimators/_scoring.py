"""What a fold of a search is scored by: R^2, accuracy, or any scorer of scikit-learn."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable
from inspect import signature
from typing import Any

import narwhals as nw
import numpy as np
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring, r2_score
from sklearn.utils.metadata_routing import process_routing

__all__ = [
    "OWN_SCORES",
    "accuracy",
    "call_scorer",
    "is_r2",
    "objects",
    "r2",
    "scorer_of",
    "take_rows",
    "takes_weights",
]

OWN_SCORES = (None, "log_predictive_density")  # computed without an estimator that predicts


def scorer_of(estimator: Any, scoring: Any) -> Callable[..., Any] | None:
    """The scorer that ``scoring`` names; None of those in ``OWN_SCORES``.

    Raises
    ------
    ValueError
        Several scores, or scikit-learn's message on a name that it does not know.
    """
    if scoring is None or isinstance(scoring, str):
        return None if scoring in OWN_SCORES else check_scoring(estimator, scoring=scoring)
    if not callable(scoring):
        raise ValueError(
            "`scoring` must be None, a scorer or its name: a search chooses by one score. "
            f"Got {scoring!r}."
        )
    return check_scoring(estimator, scoring=scoring)


def is_r2(estimator: Any, scorer: Any) -> bool:
    """Whether a search is scored by R^2, which one row does not define."""
    by_default = estimator.scoring is None and not is_classifier(estimator)
    return by_default or getattr(scorer, "_score_func", None) is r2_score


def takes_weights(estimator: Any, scorer: Any, sample_weight: Any) -> tuple[bool, list[str]]:
    """Whether the scorer gets ``sample_weight``, as ``GridSearchCV`` decides it; and warnings.

    Parameters
    ----------
    estimator : HierarchicalSlopesRegressorCV
        Its metadata routing counts where scikit-learn's is on.
    scorer : callable
    sample_weight : array of shape (n_samples,) or None

    Raises
    ------
    UnsetMetadataPassedError
        Routing is on, and the scorer does not say whether it wants weights.
    """
    if sample_weight is None:
        return False, []
    able = _accepts_weights(scorer)
    if get_config()["enable_metadata_routing"]:
        routed = process_routing(estimator, "fit", sample_weight=sample_weight)
        wanted = "sample_weight" in routed.scorer.score
    else:
        wanted = able
    counted = sample_weight[sample_weight > 0]
    if able or counted.min() == counted.max():
        return wanted, []
    return wanted, [
        f"The scorer {scorer!r} takes no sample_weight: in a fold's score every row with a weight "
        "counts once."
    ]


def _accepts_weights(scorer: Any) -> bool:
    if hasattr(scorer, "_accept_sample_weight"):
        return bool(scorer._accept_sample_weight())
    # scikit-learn's scorers before 1.8 show a sample_weight that their function need not have
    function = getattr(scorer, "_score_func", scorer)
    return "sample_weight" in signature(function).parameters


def call_scorer(scorer: Any, model: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """The score of a fitted estimator.

    Raises
    ------
    ValueError
        It is not a number.
    """
    weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*unseen group", UserWarning)
        score = scorer(model, X, y, **weighted)
    if np.ndim(score) == 0 and hasattr(score, "item"):
        score = score.item()
    if not isinstance(score, numbers.Real):
        raise ValueError(
            f"scoring must return a number, got {score!r} ({type(score).__name__}) instead "
            f"(scorer={scorer!r})."
        )
    return float(score)


def take_rows(values: Any, rows: np.ndarray) -> Any:
    """Rows of X, or elements of y, in the container that they came in.

    Parameters
    ----------
    values : data frame, series, array or list
    rows : int array of shape (k,)
    """
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    native = nw.from_native(values, pass_through=True, allow_series=True)
    if isinstance(native, nw.DataFrame | nw.Series):
        return native[rows].to_native()
    return np.asarray(values)[rows]


def r2(y: np.ndarray, mean: np.ndarray, weights: np.ndarray) -> float:
    """``r2_score``, whose validation takes longer than a fold; of two rows or more.

    As there, 0 if y is constant and 1 if that constant was predicted exactly.
    """
    off = y - np.average(y, weights=weights)
    size = np.abs(off).max()
    if y.min() == y.max() or size == 0:  # the average of equal numbers is rounded
        return float(np.array_equal(y, mean))
    residual, total = weights @ ((y - mean) / size) ** 2, weights @ (off / size) ** 2
    return float(1 - residual / total)


def accuracy(y: np.ndarray, event: np.ndarray, weights: np.ndarray) -> float:
    """``accuracy_score`` of the more probable class; ``y`` 1 for the event, of that probability."""
    return float(np.average((event > 0.5) == (y > 0.5), weights=weights))


def objects(values: Any) -> np.ndarray:
    """A column (n,) that holds anything."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
