"""Choosing a model's priors and structure: what the searches of all estimators share."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import validate_data

from skhier.estimators._base import drawn_seed
from skhier.estimators._model import HierarchicalModel
from skhier.estimators._race import Race
from skhier.estimators._refits import doubts
from skhier.estimators._scoring import objects, scorer_of
from skhier.utils.table import read_table
from skhier.utils.words import listed

__all__ = ["Search"]

TUNABLE = ("eta", "prior", "slopes", "correlated", "group_means")
NESTED = ("prior__", "response__")
FROM_ONE_FIT = ("loo", "logo", "evidence")
DEFAULT_GRID = {"eta": [1.0, 2.0, 4.0]}


class Search(HierarchicalModel):
    """An estimator that becomes the best of its candidates; a subclass names the plain estimator.

    Attributes
    ----------
    _plain : type
        The estimator that a candidate is.
    _tunable : tuple of str
        Parameters of it that the posterior depends on, beside those that all have.
    _folds_are : str
        What ``cv`` may be, for an error.
    """

    _takes_statistics = False
    _folds_are = "a splitter"
    _plain: type[HierarchicalModel]
    _tunable: tuple[str, ...]
    param_grid: Any
    cv: Any
    scoring: Any

    def _fit(self, X, y, sample_weight):
        candidates = self._candidates()
        by_name = isinstance(self.cv, str)
        if by_name and self.cv not in FROM_ONE_FIT:
            raise ValueError(
                f"cv must be {self._folds_are} or one of {FROM_ONE_FIT}. Got {self.cv!r}."
            )
        if by_name and self.scoring is not None:
            raise ValueError(f"cv={self.cv!r} is a score itself: scoring must be None.")
        seed = drawn_seed(self.random_state)
        models = [self._model_of(params).set_params(random_state=seed) for params in candidates]
        target, table = self._numbers_of(y), read_table(X)
        validate_data(self, table.native, target, skip_check_array=True)
        race = Race(self, table, y, target, sample_weight, candidates)
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

    def _model_of(self, params: dict[str, Any]) -> HierarchicalModel:
        """A plain estimator with a candidate's parameters, which may spend as much."""
        own = self.get_params(deep=False)
        shared = {n: own[n] for n in own if n not in ("param_grid", "cv", "scoring")}
        model = clone(self._plain(**shared))
        model._budget = self._budget
        return model.set_params(
            **{name: clone(value, safe=False) for name, value in params.items()}
        )

    def _candidates(self) -> list[dict[str, Any]]:
        grid = DEFAULT_GRID if self.param_grid is None else self.param_grid
        candidates = list(ParameterGrid(grid))
        if not candidates:
            raise ValueError(f"param_grid has no candidate. Got {grid!r}.")
        names = {name for params in candidates for name in params}
        tunable = (*TUNABLE, *self._tunable)
        nested = tuple(p for p in NESTED if p.removesuffix("__") in tunable)
        wrong = [n for n in names if n not in tunable and not n.startswith(nested)]
        if wrong:
            allowed = [*tunable, *(f"{prefix}*" for prefix in nested)]
            raise ValueError(
                f"param_grid may have {', '.join(allowed)}, which the posterior depends on. Got "
                f"{', '.join(sorted(wrong))}."
            )
        return candidates

    def _record(self, candidates, scores) -> list[str]:
        """Attributes of the search; warnings that name candidates without a finite score."""
        values, more, messages = scores
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
        without = self._without_score(candidates, values, mean)
        self.scores_, self.n_splits_ = values, values.shape[1]
        self.cv_results_ = results | more
        self.best_index_ = int(ranked.argmax())
        self.best_params_ = candidates[self.best_index_]
        self.best_score_ = float(mean[self.best_index_])
        return [*messages, *without]

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
