"""Choosing priors and structure by cross-validation, from statistics that add."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import validate_data

from skhier.estimators._base import drawn_seed
from skhier.estimators._folds import FoldStatistics
from skhier.estimators._race import Race
from skhier.estimators._refits import doubts
from skhier.estimators._regressor import HierarchicalSlopesRegressor
from skhier.estimators._scoring import objects, scorer_of
from skhier.utils.frames import as_table
from skhier.utils.words import listed

__all__ = ["HierarchicalSlopesRegressorCV"]

TUNABLE = ("eta", "prior", "slopes", "correlated", "group_means")
FROM_ONE_FIT = ("loo", "logo", "evidence")
DEFAULT_GRID = {"eta": [1.0, 2.0, 4.0]}


class HierarchicalSlopesRegressorCV(FoldStatistics, HierarchicalSlopesRegressor):
    """Hierarchical regression whose priors and structure are chosen by cross-validation.

    The rows are reduced to group statistics once for each value of ``slopes``, as a whole and fold
    by fold: a fold's training statistics are the sum of the others'. Then the best candidate is
    fitted to those of all rows, and this estimator is that fit.

    Parameters
    ----------
    groups : str, int, list, dict, callable or None, default=None
        As of :class:`HierarchicalSlopesRegressor`, and so are all parameters not listed here.
        ``response``, ``exposure`` and ``known_noise`` are not among them: use ``GridSearchCV``.
    param_grid : dict, list of dict or None, default=None
        As of ``GridSearchCV``, over ``eta``, ``prior``, ``prior__*``, ``slopes``,
        ``correlated`` and ``group_means``. None: ``{"eta": [1, 2, 4]}``.
    cv : int, splitter, iterable, {"loo", "logo", "evidence"}, str or None, default=None
        As of ``GridSearchCV``, or the name of a column of X, no feature, whose values are the
        folds. Rows of a lazy frame are summed by fold where they are: such a column, or an int, a
        hash of the row that puts equal rows into one fold. Splitters that split by group
        (``GroupKFold``) get the first factor of ``groups``. A splitter counts rows of weight 0
        too, which then leave its folds; a fold without other test rows is none. ``"loo"``,
        ``"logo"``: the expected log predictive density of a row, or of a group, left out, from one
        fit to all rows; ``"evidence"``: its log evidence.
    scoring : str, callable or None, default=None
        None: R^2 as of ``r2_score``, for folds of two test rows or more.
        ``"log_predictive_density"``: mean over the rows of a fold, which also judges the
        uncertainty. Else any scorer of scikit-learn or of ``skhier.metrics``, slower. Must be None
        if ``cv`` names a score. Of lazy frames and in ``fit_statistics``: None, ``"r2"``,
        ``"neg_mean_squared_error"`` or ``"neg_root_mean_squared_error"``.

    Attributes
    ----------
    best_params_ : dict
    best_score_ : float
    best_index_ : int
    scores_ : array of shape (n_candidates, n_splits)
        The higher the better.
    cv_results_ : dict
        As of ``GridSearchCV``: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``. Of ``cv="loo"`` and
        ``"logo"`` also ``se_test_score``, the standard error over rows or groups;
        ``max_pareto_k`` and ``n_bad_pareto_k``, of the rows or groups left out by weights;
        ``n_refits``, for how many of those a fit without them gave the density instead; and
        ``unreliable``, the positions of rows in X, or the groups, for which neither did.
    n_splits_ : int
        Folds with a test row; 1 if ``cv`` names a score.
    coef_, group_coef_, posterior_, ...
        All attributes of :class:`HierarchicalSlopesRegressor`, of the best candidate fitted to all
        rows.

    Notes
    -----
    A fold's score is weighted by ``sample_weight``, if any. A scorer gets the weights where it
    accepts them or, where scikit-learn's metadata routing is enabled, where it asks for them.

    Candidates whose score is NaN or infinite are named in a warning and never chosen. ``cv="loo"``
    and ``"logo"`` weigh one fit's posterior as if a row or group had not been there; where the
    Pareto k says that this fails, the model is fitted without it, for at most 30 of them a
    candidate, the worst first. What is left is named in a warning, which also says whether the
    choice rests on it.

    ``inference="nuts"`` fits each candidate in full, and gains nothing over ``GridSearchCV`` but
    the columns of groups.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold
    >>> from skhier import HierarchicalSlopesRegressorCV
    >>> from skhier.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> model = HierarchicalSlopesRegressorCV(
    ...     groups="Subject",
    ...     param_grid={"prior__group_scale": [0.1, 1.0]},
    ...     cv=GroupKFold(3),
    ...     scoring="log_predictive_density",
    ...     random_state=0,
    ... ).fit(X, y)
    >>> model.best_params_
    {'prior__group_scale': 1.0}
    """

    _takes_statistics = False
    response = "normal"  # of others no sums of folds make a fit

    def __init__(
        self,
        groups=None,
        *,
        param_grid=None,
        cv=None,
        scoring=None,
        slopes="all",
        correlated=True,
        eta=2.0,
        prior=None,
        noncentered=True,
        group_means=None,
        inference="auto",
        n_chains=4,
        n_warmup=1000,
        n_draws=1000,
        target_accept=0.8,
        max_tree_depth=10,
        handle_unknown="population",
        device=None,
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            groups,
            slopes=slopes,
            correlated=correlated,
            eta=eta,
            prior=prior,
            noncentered=noncentered,
            group_means=group_means,
            inference=inference,
            n_chains=n_chains,
            n_warmup=n_warmup,
            n_draws=n_draws,
            target_accept=target_accept,
            max_tree_depth=max_tree_depth,
            handle_unknown=handle_unknown,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.param_grid = param_grid
        self.cv = cv
        self.scoring = scoring

    def _fit(self, X, y, sample_weight):
        candidates = self._candidates()
        by_name = isinstance(self.cv, str)
        if by_name and self.cv not in FROM_ONE_FIT:
            raise ValueError(
                "cv must be a splitter, the name of a column of X or one of "
                f"{FROM_ONE_FIT}. Got {self.cv!r}."
            )
        if by_name and self.scoring is not None:
            raise ValueError(f"cv={self.cv!r} is a score itself: scoring must be None.")
        seed = drawn_seed(self.random_state)
        models = [_model(self, params).set_params(random_state=seed) for params in candidates]
        table = as_table(X)
        validate_data(self, table, y, skip_check_array=True)
        race = Race(self, table, y, sample_weight, candidates)
        scores = race.by_one_fit(models) if by_name else race.by_folds(models)
        messages = self._record(candidates, scores)
        if race.checked:
            messages += doubts(
                self.cv,
                candidates,
                race.checked,
                race.labels(),
                self.best_index_,
                self._budget.scores.max_refits,
            )
        best = models[self.best_index_]
        began = time.perf_counter()
        design, training, problem, _ = race.data(best)
        data_warnings, convergence_warnings = best._fit_problem(
            design, training, problem, drawn_seed(best.random_state), began
        )
        own = set(self.get_params(deep=False))
        self.__dict__ |= {name: at for name, at in best.__dict__.items() if name not in own}
        of_search = race.messages + messages
        self.diagnostics_["warnings"] = of_search + self.diagnostics_["warnings"]
        return of_search + data_warnings, convergence_warnings

    def _model_of(self, params: dict[str, Any]) -> HierarchicalSlopesRegressor:
        """A plain estimator with a candidate's parameters."""
        return _model(self, params)

    def get_metadata_routing(self) -> MetadataRouter:
        """Where scikit-learn's metadata routing passes what ``fit`` is given: on to the scorer.

        Returns
        -------
        MetadataRouter
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        scorer = scorer_of(self, self.scoring)
        if scorer is None:
            return router
        from_fit = MethodMapping().add(caller="fit", callee="score")
        return router.add(scorer=scorer, method_mapping=from_fit)

    def _candidates(self) -> list[dict[str, Any]]:
        grid = DEFAULT_GRID if self.param_grid is None else self.param_grid
        candidates = list(ParameterGrid(grid))
        if not candidates:
            raise ValueError(f"param_grid has no candidate. Got {grid!r}.")
        names = {name for params in candidates for name in params}
        wrong = [n for n in names if n not in TUNABLE and not n.startswith("prior__")]
        if wrong:
            raise ValueError(
                f"param_grid may have {', '.join(TUNABLE)} and prior__*, which the posterior "
                f"depends on. Got {', '.join(sorted(wrong))}."
            )
        return candidates

    def _record(self, candidates, scores) -> list[str]:
        """Attributes of the search; warnings that name candidates without a finite score."""
        values, more = scores
        with np.errstate(invalid="ignore"):  # infinite scores, which are named below
            mean, std = values.mean(1), values.std(1)
        names = list(dict.fromkeys(name for params in candidates for name in params))
        results: dict[str, Any] = {
            f"param_{name}": np.ma.MaskedArray(
                objects([params.get(name) for params in candidates]),
                mask=[name not in params for params in candidates],
            )
            for name in names
        }
        results["params"] = candidates
        results |= {f"split{k}_test_score": column for k, column in enumerate(values.T)}
        results["mean_test_score"], results["std_test_score"] = mean, std
        ranked = np.where(np.isfinite(mean), mean, -np.inf)  # the others come last
        results["rank_test_score"] = (1 + (ranked[:, None] < ranked).sum(1)).astype(np.int32)
        messages = self._without_score(candidates, values, mean)
        self.scores_, self.n_splits_ = values, values.shape[1]
        self.cv_results_ = results | more
        self.best_index_ = int(ranked.argmax())
        self.best_params_ = candidates[self.best_index_]
        self.best_score_ = float(mean[self.best_index_])
        return messages

    def _without_score(self, candidates, values, mean) -> list[str]:
        named = []
        for k in np.flatnonzero(~np.isfinite(mean)):
            folds = [
                f"{values[k, at]} in fold {at}" for at in np.flatnonzero(~np.isfinite(values[k]))
            ]
            of_one_fit = isinstance(self.cv, str)
            named.append(f"{candidates[k]}: {mean[k] if of_one_fit else listed(folds)}")
        if not named:
            return []
        what = f"cv={self.cv!r}" if isinstance(self.cv, str) else f"scoring={self.scoring!r}"
        shown = listed(named, "; ")
        if len(named) == len(candidates):
            raise ValueError(
                f"No candidate has a finite score, so none can be chosen: {shown}. Take a score "
                f"that is defined for these rows, instead of {what}."
            )
        return [
            f"{len(named)} of {len(candidates)} candidates have no finite score by {what} and "
            f"cannot be chosen: {shown}."
        ]


def _model(estimator, params) -> HierarchicalSlopesRegressor:
    """A plain estimator with a candidate's parameters, which may spend as much."""
    own = estimator.get_params(deep=False)
    shared = {n: own[n] for n in own if n not in ("param_grid", "cv", "scoring")}
    model = clone(HierarchicalSlopesRegressor(**shared))
    model._budget = estimator._budget
    return model.set_params(**{name: clone(value, safe=False) for name, value in params.items()})
