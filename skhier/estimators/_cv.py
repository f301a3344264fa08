"""Choosing priors and structure by cross-validation, from statistics that add."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import validate_data

from skhier.estimators._folds import (
    Fold,
    check_r2,
    check_training,
    constant_columns,
    listed,
    split,
)
from skhier.estimators._refits import Checked, checked, doubts
from skhier.estimators._regressor import HierarchicalSlopesRegressor
from skhier.estimators._scoring import call_scorer, is_r2, r2, scorer_of, take_rows, takes_weights
from skhier.inference.engines import EngineResult
from skhier.inference.mode import Laplace
from skhier.inference.prior import PriorSetting
from skhier.posterior.elpd import leave_one_group_out, leave_one_out
from skhier.posterior.fitted import fitted_of
from skhier.statistics.folds import (
    EveryRow,
    constant_in_part,
    problem_of_fold,
    training_reductions,
)
from skhier.statistics.problem import reduce_rows
from skhier.statistics.products import level_pairs
from skhier.statistics.reduction import Reduction
from skhier.statistics.training import read_training
from skhier.utils.design import read_levels
from skhier.utils.frames import as_table, label_column
from skhier.utils.schema import read_schema
from skhier.utils.validation import check_weights

__all__ = ["HierarchicalSlopesRegressorCV"]

TUNABLE = ("eta", "prior", "slopes", "correlated")
FROM_ONE_FIT = ("loo", "logo", "evidence")
DEFAULT_GRID = {"eta": [1.0, 2.0, 4.0]}
GROUP_ENTRIES = 2**17  # see Posterior
# of a candidate's posterior; R^2 needs fewer, since means are averages of closed forms
DRAWS, FEW_DRAWS = 1024, 64


class HierarchicalSlopesRegressorCV(HierarchicalSlopesRegressor):
    """Hierarchical regression whose priors and structure are chosen by cross-validation.

    The rows are reduced to group statistics once; a fold's training statistics are the sum of the
    others'. Then the best candidate is fitted to all rows, and this estimator is that fit.

    Parameters
    ----------
    groups : str, int, list, dict, callable or None, default=None
        As of :class:`HierarchicalSlopesRegressor`, and so are all parameters not listed here.
    param_grid : dict, list of dict or None, default=None
        As of ``GridSearchCV``, over ``eta``, ``prior``, ``prior__*``, ``slopes`` and
        ``correlated``. None: ``{"eta": [1, 2, 4]}``.
    cv : int, splitter, iterable, {"loo", "logo", "evidence"} or None, default=None
        As of ``GridSearchCV``; splitters that split by group (``GroupKFold``) get the first factor
        of ``groups``. A splitter counts rows of weight 0 too, which then leave its folds; a fold
        without other test rows is none. ``"loo"``, ``"logo"``: the expected log predictive
        density of a row, or of a group, left out, from one fit to all rows; ``"evidence"``: its
        log evidence.
    scoring : str, callable or None, default=None
        None: R^2 as of ``r2_score``, for folds of two test rows or more.
        ``"log_predictive_density"``: mean over the rows of a fold, which also judges the
        uncertainty. Else any scorer of scikit-learn or of ``skhier.metrics``, slower. Must be None
        if ``cv`` names a score.

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
            raise ValueError(f"cv must be a splitter or one of {FROM_ONE_FIT}. Got {self.cv!r}.")
        if by_name and self.scoring is not None:
            raise ValueError(f"cv={self.cv!r} is a score itself: scoring must be None.")
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        models = [_model(self, params).set_params(random_state=seed) for params in candidates]
        table = as_table(X)
        validate_data(self, table, y, skip_check_array=True)
        race = _Race(self, table, y, sample_weight, candidates)
        scores = race.by_one_fit(models) if by_name else race.by_folds(models)
        messages = self._record(candidates, scores)
        if race.checked:
            messages += doubts(self.cv, candidates, race.checked, race.labels(), self.best_index_)
        best = models[self.best_index_]
        data_warnings, convergence_warnings = best._fit(X, y, sample_weight)
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
                _objects([params.get(name) for params in candidates]),
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
        shown = "; ".join(named[:5]) + (f"; and {len(named) - 5} more" if len(named) > 5 else "")
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
    """A plain estimator with a candidate's parameters."""
    own = estimator.get_params(deep=False)
    shared = {n: own[n] for n in own if n not in ("param_grid", "cv", "scoring")}
    model = clone(HierarchicalSlopesRegressor(**shared))
    return model.set_params(**{name: clone(value, safe=False) for name, value in params.items()})


def _objects(values) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


class _Scores(NamedTuple):
    """``values`` (n_candidates, n_splits), and further columns of ``cv_results_``."""

    values: np.ndarray
    columns: dict[str, np.ndarray]


class _Race:
    """Scores of candidates on the same rows.

    ``messages`` are warnings; ``checked`` what refits made of each candidate's ``cv="loo"`` or
    ``"logo"``.
    """

    def __init__(self, estimator, table, y, sample_weight, candidates):
        self.estimator = estimator
        self.given = (table, y, sample_weight)
        self.weights = check_weights(sample_weight, table)
        self.candidates = candidates
        self.names = getattr(estimator, "feature_names_in_", None)
        self.read: dict[Any, EveryRow] = {}
        self.messages: list[str] = []
        self.checked: list[Checked] = []

    def data(self, model) -> EveryRow:
        """Rows and statistics, once for each value of ``slopes``."""
        key = repr(model.slopes)
        if key not in self.read:
            design, training = read_training(*self.given, self.names, model.groups, model.slopes)
            problem, pairs = reduce_rows(design, training), level_pairs(training.codes)
            self.read[key] = EveryRow(design, training, problem, pairs)
        return self.read[key]

    def by_one_fit(self, models) -> _Scores:
        """Scores that follow from a fit to all rows, (n_candidates, 1)."""
        if self.estimator.cv == "evidence":
            return _Scores(np.array([[self._evidence(model)] for model in models]), {})
        self.checked = [self._left_out(model) for model in models]
        labels = self.labels()
        worst = [score.elpd.pointwise["pareto_k"].max() for score in self.checked]
        refits = np.array([len(score.refitted) for score in self.checked])
        columns = {
            "se_test_score": np.array([score.elpd.se for score in self.checked]),
            "max_pareto_k": np.array(worst),
            "n_bad_pareto_k": refits + [len(score.unreliable) for score in self.checked],
            "n_refits": refits,
            "unreliable": _objects([labels[score.unreliable] for score in self.checked]),
        }
        return _Scores(np.array([[score.elpd.elpd] for score in self.checked]), columns)

    def labels(self) -> np.ndarray:
        """What ``cv="loo"`` or ``"logo"`` leaves out: positions of rows in X, or levels."""
        if self.estimator.cv == "loo":
            return self._rows_with_weight()
        data = next(iter(self.read.values()))
        return data.design.factors[0].levels.labels

    def _fit_to_all(self, model) -> EngineResult:
        design, training, problem, _ = self.data(model)
        model._check_params()
        if problem.y_is_constant:
            raise ValueError(
                f"cv={self.estimator.cv!r} has nothing to score: y is constant ({training.y[0]:g})."
            )
        return _light(model)._sample(design, problem, model.random_state)[-1]

    def _evidence(self, model) -> float:
        if model.inference == "nuts":
            raise ValueError("inference='nuts' has no evidence: cv='evidence' needs 'auto'.")
        return self._fit_to_all(model).log_evidence

    def _left_out(self, model) -> Checked:
        design, training, problem, _ = self.data(model)
        by_group = self.estimator.cv == "logo"
        if by_group and len(design.factors) != 1:
            raise ValueError(
                "cv='logo' leaves the groups of one factor out, and this model has "
                f"{len(design.factors)} grouping factors."
            )
        if by_group and len(design.factors[0].levels.labels) < 2:
            raise ValueError("cv='logo' leaves one group out at a time and needs two or more.")
        result = self._fit_to_all(model)
        seed = model.random_state
        setting = PriorSetting.of(model, problem.scales, design)
        fit = fitted_of(design, problem, result, setting, seed, training)
        if by_group:
            (factor,) = design.factors
            elpd = leave_one_group_out(
                fit.posterior, fit.mixture, training, factor.name, factor.levels.labels, fit.rows_id
            )
        else:
            elpd = leave_one_out(fit.posterior, fit.mixture, training)

        def sample(rest):
            return _light(model)._sample(design, rest, seed, result.normal)[-1]

        return checked(elpd, training, problem, result, sample)

    def by_folds(self, models) -> _Scores:
        """Scores on the rows of each fold, of fits to the others, (n_candidates, n_splits)."""
        for model in models:
            model._check_params()
        self._choose_scorer(models[0])
        folds = self._folds(models[0])
        parts: dict[Any, list[Reduction]] = {}
        for model in models:
            data, key = self.data(model), repr(model.slopes)
            if key not in parts:
                parts[key] = list(training_reductions(data, folds))
        light = [_light(m, FEW_DRAWS if self.estimator.scoring is None else DRAWS) for m in models]
        values = np.empty((len(models), len(folds)))
        starts: dict[Any, Laplace | None] = {}
        constant: dict[str, list[int]] = {}
        for k, fold in enumerate(folds):
            problems = {
                key: problem_of_fold(self.read[key], of_folds[k], fold.train)
                for key, of_folds in parts.items()
            }
            for name in constant_in_part(self.data(models[0]), problems[repr(models[0].slopes)]):
                constant.setdefault(name, []).append(k)
            for i, model in enumerate(light):
                key = repr(model.slopes)
                shape = (key, bool(model.correlated))
                try:
                    values[i, k], starts[shape] = self._score(
                        model, problems[key], fold.test, starts.get(shape)
                    )
                except (RuntimeError, ValueError) as error:
                    kind = ValueError if isinstance(error, ValueError) else RuntimeError
                    where = f"Fold {k} of cv, candidate {self.candidates[i]}"
                    raise kind(f"{where}: {error}") from error
        self.messages += constant_columns(constant)
        return _Scores(values, {})

    def _choose_scorer(self, model):
        self.scorer, self.weighted = scorer_of(model, self.estimator.scoring), False
        if self.scorer is not None:
            weights = None if self.given[2] is None else self.weights
            self.weighted, messages = takes_weights(self.estimator, self.scorer, weights)
            self.messages += messages

    def _folds(self, model) -> list[Fold]:
        """Those of ``cv`` that can be fitted and scored."""
        table, y, _ = self.given
        training = self.data(model).training
        rows, cv = self._rows_with_weight(), self.estimator.cv
        folds, messages = split(cv, table, y, rows, lambda: self._groups(model))
        check_training(folds, training)
        if is_r2(self.estimator.scoring, self.scorer):
            check_r2(folds)
        self.messages += messages
        return folds

    def _groups(self, model) -> np.ndarray | None:
        """Labels of the first factor (codes of a nesting), (n_samples,), whatever rows weigh."""
        table, design = self.given[0], self.data(model).design
        if not design.factors:
            return None
        positions = design.factors[0].positions
        if len(positions) == 1:
            return label_column(table, positions[0])
        _, codes = read_levels(table, read_schema(table, self.names, model.groups, model.slopes))
        return codes[:, 0]

    def _score(self, model, part, test, start):
        design, training, *_ = self.data(model)
        seed = model.random_state
        _, result = model._sample(design, part, seed, start)
        setting = PriorSetting.of(model, part.scales, design)
        fit = fitted_of(design, part, result, setting, seed, training, group_entries=GROUP_ENTRIES)
        posterior = fit.posterior
        self._check_known(model, part, training, test)
        weights = training.weights[test]
        codes = training.codes[test]
        if self.scorer is not None:
            score = self._by_scorer(model, fit, test)
        elif self.estimator.scoring is None:
            mean = posterior.mean(training.x[test], codes)
            score = r2(training.y[test], mean, weights)
        else:
            density = posterior.log_density(training.x[test], codes, training.y[test])
            score = np.average(density, weights=weights)
        return score, start if result.normal is None else result.normal

    def _check_known(self, model, part, training, test):
        if model.handle_unknown != "error":
            return
        for found, codes in zip(part.stats.factors, training.codes[test].T, strict=True):
            if np.any(found.zz[-1, -1, codes] == 0):
                raise ValueError(
                    "it has rows of groups that the others lack, and handle_unknown='error'. "
                    "Set handle_unknown='population'."
                )

    def _by_scorer(self, model, fit, test):
        """Any scorer, on an estimator that can predict."""
        table, y, _ = self.given
        fitted = clone(model)
        fitted._fitted = fit
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator, name):
                setattr(fitted, name, getattr(self.estimator, name))
        rows = self._rows_with_weight()[test]
        weights = self.weights[rows] if self.weighted else None
        return call_scorer(self.scorer, fitted, take_rows(table, rows), take_rows(y, rows), weights)

    def _rows_with_weight(self) -> np.ndarray:
        return np.flatnonzero(self.weights)


def _light(model, n_draws=DRAWS) -> HierarchicalSlopesRegressor:
    """The same model with as many draws as a score needs."""
    if model.inference == "nuts":
        return model
    return clone(model).set_params(n_chains=1, n_draws=n_draws)
