"""Scores of predictive distributions, as functions and as scikit-learn scorers.

A scorer is called ``scorer(estimator, X, y)`` and returns a number of which more is better. Those
here look at the whole posterior predictive distribution, not at its mean alone. Importing this
module changes nothing in scikit-learn; :func:`register_scorers` does, when asked.

Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102(477).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import _check_sample_weight

from skhier.utils.crps import crps_mixture, crps_normal
from skhier.utils.pipelines import unwrap
from skhier.utils.validation import check_choice, check_number, check_target

__all__ = [
    "SCORERS",
    "PredictiveScorer",
    "crps_mixture",
    "crps_normal",
    "get_scorer",
    "interval_coverage",
    "interval_width",
    "log_density_normal",
    "register_scorers",
]

PREFIX = "skhier_"


def log_density_normal(y, mean, sd):
    """Log density of normal distributions: the higher, the better.

    Parameters
    ----------
    y, mean, sd : array, broadcastable
        ``sd > 0``. Not checked.

    Returns
    -------
    array
        In units of log(1 / units of y).

    Examples
    --------
    >>> print(round(float(log_density_normal(0.0, 0.0, 1.0)), 4))
    -0.9189
    """
    sd = np.asarray(sd, dtype=float)
    z = (np.asarray(y, dtype=float) - mean) / sd
    return -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def interval_coverage(y: Any, interval: Any, sample_weight: Any = None) -> float:
    """Share of the rows that lie in their interval, ends included.

    Parameters
    ----------
    y : array of shape (n_samples,)
    interval : array of shape (n_samples, 2)
        Lower and upper ends, as ``predict_interval`` returns them.
    sample_weight : array of shape (n_samples,) or None

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        y and the intervals do not match.
    """
    y, interval = check_target(y), _check_interval(interval)
    if len(y) != len(interval):
        raise ValueError(f"y has {len(y)} rows, `interval` {len(interval)}.")
    return _average(_covered(y, interval), sample_weight)


def interval_width(interval: Any, sample_weight: Any = None) -> float:
    """Mean width of intervals, in units of y.

    Parameters
    ----------
    interval : array of shape (n_samples, 2)
    sample_weight : array of shape (n_samples,) or None

    Raises
    ------
    ValueError
        Not two columns, or an end below its beginning.
    """
    return _average(np.diff(_check_interval(interval))[:, 0], sample_weight)


class PredictiveScorer:
    """A score of the posterior predictive distribution at new rows, the higher the better.

    Works wherever scikit-learn takes a scorer: ``GridSearchCV``, ``cross_validate`` (also several
    in a dict), inside processes of joblib. The estimator may be a ``Pipeline`` that ends in one of
    this package's, or a fitted search.

    Parameters
    ----------
    name : str
        A key of ``SCORERS``.
    coverage : float in (0, 1), default=0.9
        Of the central interval that ``interval_coverage``, ``neg_coverage_error`` and
        ``neg_interval_width`` look at.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skhier import HierarchicalSlopesRegressor
    >>> from skhier.metrics import PredictiveScorer
    >>> model = HierarchicalSlopesRegressor("Subject")
    >>> search = GridSearchCV(model, {"eta": [1, 4]}, scoring=PredictiveScorer("neg_crps"))
    """

    def __init__(self, name: str, coverage: float = 0.9):
        check_choice("name", name, tuple(SCORES))
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        self.name, self.coverage = name, coverage
        self._requests: dict[str, Any] = {"sample_weight": None}

    def __repr__(self) -> str:
        """The call that makes it."""
        level = f", coverage={self.coverage!r}" if self.name in OF_INTERVALS else ""
        return f"PredictiveScorer({self.name!r}{level})"

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The score of a fitted estimator, averaged over the rows.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor, or a Pipeline or search that ends in one
        X : table of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,) or None

        Raises
        ------
        TypeError
            The estimator has no predictive distribution of y, or coverage of a classifier, whose
            intervals are of probabilities.
        """
        model, X = unwrap(estimator, X)
        if not hasattr(model, "_predictive_mixture"):
            raise TypeError(
                f"{self!r} needs the predictive distribution of y, which {type(model).__name__} "
                "does not offer. Score a HierarchicalSlopesRegressor, or a Pipeline or search that "
                "ends in one; of a TransformedTargetRegressor score `regressor_` on the "
                "transformed y."
            )
        if self.name in OF_COVERAGE and is_classifier(model):
            raise TypeError(
                f"{self!r} asks whether y lies in its interval, and those of "
                f"{type(model).__name__} are of probabilities. Use 'log_predictive_density', or "
                "scikit-learn's 'neg_log_loss' or 'neg_brier_score'."
            )
        return SCORES[self.name](model, X, y, sample_weight, self.coverage)

    def set_score_request(self, **requests: Any) -> PredictiveScorer:
        """Ask for ``sample_weight`` under scikit-learn's metadata routing.

        Parameters
        ----------
        sample_weight : bool, str or None
            True: wanted if given. False: not wanted. A string: wanted, under this name. None:
            an error if given.

        Raises
        ------
        TypeError
            Something else is asked for.
        """
        unknown = requests.keys() - {"sample_weight"}
        if unknown:
            raise TypeError(f"{self!r} can ask for sample_weight only, not for {unknown}.")
        self._requests = {**self._requests, **requests}
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """What scikit-learn's metadata routing may pass on to this scorer."""
        request = MetadataRequest(owner=repr(self))
        for param, alias in self._requests.items():
            request.score.add_request(param=param, alias=alias)
        return request

    def _accept_sample_weight(self) -> bool:
        """What scikit-learn's searches ask where metadata routing is off."""
        return True


def get_scorer(name: str, coverage: float = 0.9) -> PredictiveScorer:
    """A new scorer by name.

    Parameters
    ----------
    name : str
        A key of ``SCORERS``.
    coverage : float in (0, 1), default=0.9
        See :class:`PredictiveScorer`.

    Raises
    ------
    ValueError
        An unknown name; the message lists those there are.
    """
    return PredictiveScorer(name, coverage)


def register_scorers() -> list[str]:
    """Make the scorers known to scikit-learn by name, in this process.

    Afterwards ``sklearn.metrics.get_scorer("skhier_neg_crps")`` finds them, and so do
    ``GridSearchCV(scoring="skhier_neg_crps")`` and ``cross_validate``. Names are those of
    ``SCORERS`` with ``skhier_`` before them, which none of scikit-learn's own begins with.
    scikit-learn has no public way to add a name; this one adds to a private dict of its own and,
    as its functions keep lists of the names that were there when they were imported, to those.
    Calling it again changes nothing. Processes of joblib need no call of their own: names are
    looked up before work is sent there.

    Returns
    -------
    list of str
        The names.

    Raises
    ------
    RuntimeError
        This scikit-learn keeps its scorers elsewhere. Pass the objects in ``SCORERS`` instead.
    """
    from sklearn.metrics import _scorer

    registry = getattr(_scorer, "_SCORERS", None)
    if not isinstance(registry, dict):
        from sklearn import __version__

        raise RuntimeError(
            f"scikit-learn {__version__} has no dict sklearn.metrics._scorer._SCORERS to add names "
            "to. Pass the scorer itself: scoring=skhier.metrics.SCORERS['neg_crps']."
        )
    names = {PREFIX + name: scorer for name, scorer in SCORERS.items()}
    for name, scorer in names.items():
        registry.setdefault(name, copy.deepcopy(scorer))
    for options in _lists_of_names():
        options.update(names)
    return list(names)


def _lists_of_names():
    """The sets against which scikit-learn's tools check ``scoring="name"``."""
    from sklearn import feature_selection, inspection, metrics, model_selection

    modules = (feature_selection, inspection, metrics, model_selection)
    for tool in [tool for module in modules for tool in vars(module).values()]:
        for kept in ("_parameter_constraints", "_skl_parameter_constraints"):
            for allowed in getattr(tool, kept, {}).get("scoring", ()):
                options = getattr(allowed, "options", None)
                if isinstance(options, set) and "r2" in options:
                    yield options


def _log_predictive_density(model, X, y, weights, coverage):
    return _average(model.log_predictive_density(X, y), weights)


def _neg_crps(model, X, y, weights, coverage):
    y = check_target(y, X)
    found = np.empty(len(y))
    for at, *mixture in model._predictive_mixture(X):
        found[at] = crps_mixture(y[at], *mixture)
    return -_average(found, weights)


def _interval_coverage(model, X, y, weights, coverage):
    y = check_target(y, X)
    return _average(_covered(y, model.predict_interval(X, coverage)), weights)


def _neg_coverage_error(model, X, y, weights, coverage):
    return -abs(_interval_coverage(model, X, y, weights, coverage) - coverage)


def _neg_interval_width(model, X, y, weights, coverage):
    return -interval_width(model.predict_interval(X, coverage), weights)


def _covered(y, interval):
    return (interval[:, 0] <= y) & (y <= interval[:, 1])


def _check_interval(interval):
    interval = np.asarray(interval, dtype=float)
    if interval.ndim != 2 or interval.shape[1] != 2:
        raise ValueError(f"`interval` must have shape (n_samples, 2). Got {interval.shape}.")
    if not np.all(interval[:, 0] <= interval[:, 1]):
        raise ValueError("`interval` must have its lower ends first and no NaN.")
    return interval


def _average(values, weights) -> float:
    if weights is not None:
        weights = _check_sample_weight(weights, values, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
    return float(np.average(values, weights=weights))


SCORES: dict[str, Callable[..., float]] = {
    "log_predictive_density": _log_predictive_density,
    "neg_crps": _neg_crps,
    "interval_coverage": _interval_coverage,
    "neg_coverage_error": _neg_coverage_error,
    "neg_interval_width": _neg_interval_width,
}
OF_COVERAGE = {"interval_coverage", "neg_coverage_error"}
OF_INTERVALS = OF_COVERAGE | {"neg_interval_width"}

#: Scorers by name; intervals are of 90%.
SCORERS: dict[str, PredictiveScorer] = {name: PredictiveScorer(name) for name in SCORES}
