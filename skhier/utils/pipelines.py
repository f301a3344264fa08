"""Out of scikit-learn's wrappers."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

__all__ = ["unwrap"]


def unwrap(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """The estimator at the end of fitted pipelines and searches, and X as it sees it.

    Parameters
    ----------
    estimator : estimator, Pipeline or search, nested in any way
    X : table or None
        What the outermost takes; None: not wanted.
    """
    if hasattr(estimator, "best_estimator_"):
        return unwrap(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        if X is not None and len(estimator) > 1:
            X = estimator[:-1].transform(X)
        return unwrap(estimator[-1], X)
    return estimator, X
