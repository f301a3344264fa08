"""What displays and calibration ask of a fitted estimator.

The one file of both that sees an estimator's private parts; all else they take from its attributes
and public methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from skhier.estimators._base import BaseHierarchical
from skhier.posterior.designs import OUT
from skhier.posterior.level_noises import LevelNoisesPosterior
from skhier.posterior.predictive import distribution_function
from skhier.posterior.shares import variance_shares
from skhier.utils.budget import Budget
from skhier.utils.design import Rows
from skhier.utils.pipelines import unwrap

__all__ = [
    "OUT",
    "budget_of",
    "draws_by_name",
    "effects_by_factor",
    "event_of",
    "fitted_model",
    "forbid_all_but_classes",
    "forbid_all_but_counts",
    "forbid_classes",
    "forbid_discrete",
    "forbid_link",
    "group_draws",
    "index_of",
    "is_on_line",
    "line_codes",
    "line_means",
    "line_quantiles",
    "noise_draws",
    "numbers_of",
    "probabilities_below",
    "rows_of",
    "shares_of",
    "target_label",
    "target_of",
]


def fitted_model(estimator: Any, X: Any = None) -> tuple[BaseHierarchical, Any]:
    """The estimator, out of its search and its pipeline, and X as it sees it.

    Parameters
    ----------
    estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
    X : table or None
        What the outermost takes.

    Raises
    ------
    TypeError
        Another kind of estimator.
    sklearn.exceptions.NotFittedError
    """
    estimator, X = unwrap(estimator, X)
    if not isinstance(estimator, BaseHierarchical):
        raise TypeError(
            "`estimator` must be a HierarchicalSlopesRegressor, or a Pipeline or search that ends "
            f"in one. Got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    return estimator, X


def forbid_link(model: BaseHierarchical, display: str, what: str) -> None:
    """Raise ValueError where the line is not the mean of y: ``what`` the display shows needs it."""
    response = model._fitted.prior.response
    if response.link != "identity":
        raise ValueError(
            f"{display} shows {what}, and with response={response.name!r} the line is not the mean "
            "of y. Use GroupCoefDisplay."
        )


def forbid_discrete(model: BaseHierarchical) -> None:
    """Raise ValueError where y is discrete: its distribution function is no uniform number."""
    response = model._fitted.prior.response
    if response.discrete:
        raise ValueError(
            f"PredictiveCalibrationDisplay needs a continuous y, and response={response.name!r} is "
            "discrete. Use RootogramDisplay for counts, ClassCalibrationDisplay for classes, or "
            "PosteriorPredictiveDisplay."
        )


def forbid_all_but_counts(model: BaseHierarchical) -> None:
    """Raise ValueError where y does not count: a rootogram has a bar for each count."""
    response = model._fitted.prior.response
    if not (response.discrete and response.link == "log"):
        raise ValueError(
            f"RootogramDisplay is for counts, and response={response.name!r} has none. Use "
            f"{_other_check(model)}."
        )


def forbid_all_but_classes(model: BaseHierarchical) -> None:
    """Raise ValueError of a model without two classes."""
    if not is_classifier(model):
        name = model._fitted.prior.response.name
        raise ValueError(
            f"ClassCalibrationDisplay is for a classifier, and response={name!r} has no classes. "
            f"Use {_other_check(model)}."
        )
    if len(model.classes_) < 2:
        raise ValueError("ClassCalibrationDisplay is for two classes, and this fit saw one.")


def forbid_classes(model: BaseHierarchical) -> None:
    """Raise ValueError of a classifier: its y has no distribution worth a curve."""
    if is_classifier(model):
        raise ValueError(
            "PosteriorPredictiveDisplay is for numbers, and this model predicts classes. Use "
            "ClassCalibrationDisplay."
        )


def _other_check(model: BaseHierarchical) -> str:
    if is_classifier(model):
        return "ClassCalibrationDisplay"
    response = model._fitted.prior.response
    counts = response.discrete and response.link == "log"
    return "RootogramDisplay" if counts else "PosteriorPredictiveDisplay"


def event_of(model: BaseHierarchical, y: Any) -> np.ndarray:
    """1 where a class is the event, else 0, of y's shape; ValueError for a class unknown to fit."""
    labels, classes = np.asarray(y), model.classes_
    unknown = labels[~np.isin(labels, classes)]
    if len(unknown):
        raise ValueError(
            f"y holds {unknown.tolist()[0]!r}, which is no class of this fit. Classes: "
            f"{', '.join(map(repr, classes.tolist()))}."
        )
    return (labels == classes[-1]).astype(float)


def numbers_of(model: BaseHierarchical, y: Any) -> Any:
    """What the model's lines are compared with: y, or of classes 1 for the event, else 0."""
    return event_of(model, y) if is_classifier(model) else y


def target_label(model: BaseHierarchical, name: str) -> str:
    """What an axis of the mean of y is called."""
    if not is_classifier(model):
        return name
    return f"Probability of {model.classes_[-1]}"


def is_on_line(model: BaseHierarchical) -> bool:
    """Whether the line is the mean of y, so that effects may be subtracted from it."""
    return model._fitted.prior.response.link == "identity"


def rows_of(model: BaseHierarchical, X: Any) -> Rows:
    """Rows of X as the model sees them, every factor's codes known or new; warns of new levels.

    Parameters
    ----------
    model : BaseHierarchical
        Fitted.
    X : table of shape (n_samples, n_features_in_)

    Returns
    -------
    Rows
        ``x`` (n_samples, n_features) in the user's units; ``codes`` (n_samples, n_factors).
    """
    return model._rows_of(X, "group")


def target_of(model: BaseHierarchical) -> np.ndarray:
    """Y of the rows of fit (n_samples,); not of an estimator out of a pickle, which has none."""
    training = model._fitted.training
    assert training is not None
    return training.y


def budget_of(model: BaseHierarchical) -> Budget:
    """What answers may cost."""
    return model._fitted.budget


def index_of(model: BaseHierarchical, factor: str) -> int:
    """A factor's column in codes; ValueError names the factors if it is none of them."""
    return model._fitted.index_of(factor)


def effects_by_factor(model: BaseHierarchical) -> Mapping[str, list[str]]:
    """Names of each factor's effects, the intercept first."""
    return model._fitted.effects()


def draws_by_name(model: BaseHierarchical, group_effects: bool) -> dict[str, np.ndarray]:
    """Draws (n_chains, n_draws) of every parameter under its name in ``summary(group_effects)``."""
    return model._fitted.named_draws(group_effects)


def group_draws(
    model: BaseHierarchical, factor: str, codes: np.ndarray, which: Any = slice(None)
) -> np.ndarray:
    """Draws of a factor's effects, those of ``summary``, in units of y per unit of x.

    Parameters
    ----------
    model : BaseHierarchical
        Fitted.
    factor : str
    codes : int array of shape (k,)
        Of the levels.
    which : index
        Which posterior draws, of all chains one after the other.

    Returns
    -------
    array of shape (n_draws, k, q)
        Intercept first.
    """
    return model._fitted.posterior.group_draws(index_of(model, factor), codes, which=which)


def noise_draws(model: BaseHierarchical, codes: np.ndarray, which: Any) -> np.ndarray:
    """Draws (n_draws, k) of the noise sds of levels that have their own, in units of y.

    ``codes`` (k,) are the levels', ``which`` the draws, all chains one after the other.
    """
    posterior = model._fitted.posterior
    assert isinstance(posterior, LevelNoisesPosterior)
    return posterior.noise_draws(codes, which=which)


def line_codes(
    model: BaseHierarchical, n_rows: int, factor: str | None = None, codes: Any = OUT
) -> np.ndarray:
    """Codes (n_rows, n_factors) of rows for which one factor's effects count, or none's.

    ``codes`` (n_rows,) are those of the factor's levels.
    """
    of_rows = np.full((n_rows, len(model._fitted.design.factors)), OUT)
    if factor is not None:
        of_rows[:, index_of(model, factor)] = codes
    return of_rows


def line_means(model: BaseHierarchical, x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Posterior mean (n_rows,) of y at rows: of the line, or of what a link makes of it.

    ``x`` (n_rows, n_features) in the user's units; ``codes`` (n_rows, n_factors), ``OUT`` of the
    factors whose effects do not count.
    """
    return model._fitted.posterior.mean(x, codes)


def line_quantiles(
    model: BaseHierarchical, x: np.ndarray, codes: np.ndarray, q: np.ndarray, kind: str
) -> np.ndarray:
    """Quantiles (n_rows, len(q)) at rows as in :func:`line_means`.

    ``kind``: ``"mean"``, of the line; ``"response"``, of new responses.
    """
    return model._quantiles(Rows(x, codes, ()), q, kind)


def probabilities_below(model: BaseHierarchical, rows: Rows, y: np.ndarray) -> np.ndarray:
    """Posterior predictive probability (n_rows,) of a response below y at each row."""
    return distribution_function(model._fitted.posterior, rows.x, rows.codes, y)


def shares_of(model: BaseHierarchical) -> list[np.ndarray]:
    """Draws (n_chains, n_draws) of each factor's share of the variance and, last, the noise's.

    Of the variance that the features leave; y is not constant.
    """
    return variance_shares(model._fitted.posterior).icc
