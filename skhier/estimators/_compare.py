"""Fitted models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import LinearConstraint, minimize
from scipy.special import logsumexp, softmax

from skhier.estimators._base import BaseHierarchical
from skhier.posterior.elpd import Elpd

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]

LEAST_LOG_DENSITY = -300.0  # less the best model's: beyond it hardly matters how bad


def compare(*models: Any, by: str = "loo", **named: Any) -> pd.DataFrame:
    """Rank fitted models by their expected log predictive density.

    Parameters
    ----------
    *models : fitted estimators, their ``loo()`` or ``logo()`` results, or one dict of such
        Named ``model 0``, ``model 1``, ... unless they come in a dict.
    by : {"loo", "logo"}
        What to compute for estimators.
    **named
        More models, by name.

    Returns
    -------
    DataFrame
        A row a model, the best first: ``elpd``, ``se``, ``p``; ``elpd_diff`` from the best model
        and ``se_diff``, its standard error over rows (or groups); ``weight``, of the mixture of
        predictive distributions that would predict best (stacking); ``log_evidence`` (NaN where it
        is not known); and ``n_bad``, how many Pareto k are too high to be relied on.

    Raises
    ------
    ValueError
        Fewer than two models; not all of the same rows, or scored differently; or a score that
        is not finite.

    Notes
    -----
    Differences of fewer than four in elpd, or below two of their standard errors, say little.
    Models of ``y`` and of a transformed ``y`` are different rows.

    References
    ----------
    Vehtari, Gelman and Gabry (2017), Stat. Comput. 27, sec. 5. Yao, Vehtari, Simpson and Gelman
    (2018), Bayesian Analysis 13.

    Examples
    --------
    >>> from skhier import HierarchicalSlopesRegressor, compare
    >>> from skhier.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> lines = HierarchicalSlopesRegressor("Subject", random_state=0).fit(X, y)
    >>> levels = HierarchicalSlopesRegressor("Subject", slopes=None, random_state=0).fit(X, y)
    >>> list(compare(lines=lines, levels=levels).index)
    ['lines', 'levels']
    """
    import pandas as pd

    if by not in ("loo", "logo"):
        raise ValueError(f"by must be 'loo' or 'logo'. Got {by!r}.")
    if len(models) == 1 and isinstance(models[0], Mapping):
        by_name = dict(models[0])
    else:
        by_name = {f"model {k}": model for k, model in enumerate(models)}
    by_name |= named
    if len(by_name) < 2:
        raise ValueError(f"compare needs two models or more. Got {len(by_name)}.")
    scores = {name: _score(name, model, by) for name, model in by_name.items()}
    _check_finite(scores)
    _check_same(scores)
    names = sorted(scores, key=lambda name: -scores[name].elpd)
    elpd = np.column_stack([scores[name].pointwise["elpd"] for name in names])
    mass = scores[names[0]].counts
    rest = elpd - elpd[:, :1]
    mean = mass @ rest / mass.sum()
    return pd.DataFrame(
        {
            "elpd": [scores[name].elpd for name in names],
            "se": [scores[name].se for name in names],
            "p": [scores[name].p for name in names],
            "elpd_diff": mass @ rest,
            "se_diff": np.sqrt(mass @ (rest - mean) ** 2),
            "weight": _stacking_weights(elpd, mass),
            "log_evidence": [getattr(by_name[name], "log_evidence_", np.nan) for name in names],
            "n_bad": [scores[name].n_bad for name in names],
        },
        index=pd.Index(names, name="model"),
    )


def _score(name, model, by) -> Elpd:
    if isinstance(model, Elpd):
        return model
    if not isinstance(model, BaseHierarchical):
        raise TypeError(
            f"compare takes fitted estimators and results of loo() or logo(); {name!r} is a "
            f"{type(model).__name__}. Of a Pipeline or a search, give the last step or "
            "best_estimator_."
        )
    return getattr(model, by)()


def _check_finite(scores: Mapping[str, Elpd]) -> None:
    for name, score in scores.items():
        bad = ~np.isfinite(score.pointwise["elpd"].to_numpy())
        if bad.any() or not np.isfinite(score.elpd):
            raise ValueError(
                f"{name!r} has no finite elpd for {bad.sum()} of {len(bad)} rows or groups, so it "
                "cannot be ranked: fit it again and call its loo() or logo()."
            )


def _check_same(scores: Mapping[str, Elpd]) -> None:
    (reference, first), *others = scores.items()
    for name, score in others:
        if (score.kind, score.factor) != (first.kind, first.factor):
            raise ValueError(
                f"{reference!r} was scored by {first.kind} and {name!r} by {score.kind}, or of "
                "another factor: they cannot be compared."
            )
        if score.rows_id != first.rows_id or not score.pointwise.index.equals(
            first.pointwise.index
        ):
            raise ValueError(
                f"{reference!r} and {name!r} were fitted on different rows: a difference of their "
                "scores means nothing. Fit both to the same y, in the same order."
            )


def _stacking_weights(elpd: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Weights of the mixture with the best leave-one-out log density; a concave problem."""
    n_models = elpd.shape[1]
    shifted = elpd - elpd.max(1, keepdims=True)

    # else a weight of 0 is a density of 0
    densities = np.exp(np.maximum(shifted, LEAST_LOG_DENSITY))

    def loss(weights):
        mixture = densities @ weights
        return -mass @ np.log(mixture), -(mass / mixture) @ densities

    start = softmax(mass @ (elpd - logsumexp(elpd, axis=1, keepdims=True)) / mass.sum())
    optimum = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n_models,
        constraints=LinearConstraint(np.ones((1, n_models)), 1, 1),
        options={"ftol": 1e-10, "maxiter": 1000},
    )
    weights = np.clip(optimum.x, 0, None)
    return weights / weights.sum()
