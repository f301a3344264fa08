"""Choosing priors and structure by cross-validation, from statistics that add."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import validate_data

from skhier.estimators._regressor import HierarchicalSlopesRegressor, posterior_of
from skhier.inference.mode import Laplace
from skhier.posterior.elpd import leave_one_group_out, leave_one_out
from skhier.statistics.problem import Problem, Training, read_training, reduce_part, reduce_rows
from skhier.statistics.products import group_stats, level_pairs, merge
from skhier.statistics.records import GroupStats
from skhier.utils.design import Design
from skhier.utils.frames import as_table

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
        of ``groups``. ``"loo"``, ``"logo"``: the expected log predictive density of a row, or of a
        group, left out, from one fit to all rows; ``"evidence"``: its log evidence.
    scoring : str, callable or None, default=None
        None: R^2. ``"log_predictive_density"``: mean over the rows of a fold, which also judges
        the uncertainty. Else any scorer of scikit-learn or of ``skhier.metrics``, slower. Must be
        None if ``cv`` names a score.

    Attributes
    ----------
    best_params_ : dict
    best_score_ : float
    best_index_ : int
    scores_ : array of shape (n_candidates, n_splits)
        The higher the better.
    cv_results_ : dict
        As of ``GridSearchCV``: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``.
    n_splits_ : int
        1 if ``cv`` names a score.
    coef_, group_coef_, posterior_, ...
        All attributes of :class:`HierarchicalSlopesRegressor`, of the best candidate fitted to all
        rows.

    Notes
    -----
    A fold's score is weighted by ``sample_weight``, if any. ``inference="nuts"`` fits each
    candidate in full, and gains nothing over ``GridSearchCV`` but the columns of groups.

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
        race = _Race(self, table, y, sample_weight)
        judge = race.by_one_fit if by_name else race.by_folds
        self._record(candidates, judge(models))
        best = models[self.best_index_]
        found = best._fit(X, y, sample_weight)
        own = set(self.get_params(deep=False))
        self.__dict__ |= {name: at for name, at in best.__dict__.items() if name not in own}
        return found

    def _candidates(self) -> list[dict[str, Any]]:
        grid = DEFAULT_GRID if self.param_grid is None else self.param_grid
        candidates = list(ParameterGrid(grid))
        names = {name for params in candidates for name in params}
        wrong = [n for n in names if n not in TUNABLE and not n.startswith("prior__")]
        if wrong:
            raise ValueError(
                f"param_grid may have {', '.join(TUNABLE)} and prior__*, which the posterior "
                f"depends on. Got {', '.join(sorted(wrong))}."
            )
        return candidates

    def _record(self, candidates, scores):
        self.scores_, self.n_splits_ = scores, scores.shape[1]
        mean = scores.mean(1)
        names = list(dict.fromkeys(name for params in candidates for name in params))
        results: dict[str, Any] = {
            f"param_{name}": np.ma.MaskedArray(
                _objects([params.get(name) for params in candidates]),
                mask=[name not in params for params in candidates],
            )
            for name in names
        }
        results["params"] = candidates
        results |= {f"split{k}_test_score": column for k, column in enumerate(scores.T)}
        results["mean_test_score"] = mean
        results["std_test_score"] = scores.std(1)
        results["rank_test_score"] = (1 + (mean[:, None] < mean).sum(1)).astype(np.int32)
        self.cv_results_ = results
        self.best_index_ = int(np.nanargmax(mean))
        self.best_params_ = candidates[self.best_index_]
        self.best_score_ = float(mean[self.best_index_])


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


class _Data(NamedTuple):
    """All rows, read for one value of ``slopes``, and their statistics."""

    design: Design
    training: Training
    problem: Problem


class _Race:
    """Scores of candidates on the same rows."""

    def __init__(self, estimator, table, y, sample_weight):
        self.estimator = estimator
        self.given = (table, y, sample_weight)
        self.names = getattr(estimator, "feature_names_in_", None)
        self.read: dict[Any, _Data] = {}

    def data(self, model) -> _Data:
        """Rows and statistics, once for each value of ``slopes``."""
        key = repr(model.slopes)
        if key not in self.read:
            design, training = read_training(*self.given, self.names, model.groups, model.slopes)
            self.read[key] = _Data(design, training, reduce_rows(design, training))
        return self.read[key]

    def by_one_fit(self, models) -> np.ndarray:
        """Scores that follow from a fit to all rows, (n_candidates, 1)."""
        return np.array([[self._one_fit(model)] for model in models])

    def _one_fit(self, model) -> float:
        design, training, problem = self.data(model)
        model._check_params()
        if model.inference == "nuts" and self.estimator.cv == "evidence":
            raise ValueError("inference='nuts' has no evidence: cv='evidence' needs 'auto'.")
        seed = model.random_state
        *_, result = _light(model)._sample(design, problem, seed)
        if self.estimator.cv == "evidence":
            return result.log_evidence
        posterior, components = posterior_of(problem, result, seed)
        if self.estimator.cv == "loo":
            return leave_one_out(posterior, components, training).elpd
        if len(design.factors) != 1:
            raise ValueError(
                "cv='logo' leaves the groups of one factor out, and this model has "
                f"{len(design.factors)} grouping factors."
            )
        (factor,) = design.factors
        labels = factor.levels.labels
        return leave_one_group_out(posterior, components, training, factor.name, labels).elpd

    def by_folds(self, models) -> np.ndarray:
        """Scores on the rows of each fold, of fits to the others, (n_candidates, n_splits)."""
        splits = list(self._splits(self.data(models[0])))
        scoring = self.estimator.scoring
        scores = np.empty((len(models), len(splits)))
        parts: dict[Any, list[GroupStats]] = {}
        for model in models:
            model._check_params()
            data = self.data(model)
            key = repr(model.slopes)
            if key not in parts:
                parts[key] = list(_training_statistics(data, splits))
        light = [_light(model, FEW_DRAWS if scoring is None else DRAWS) for model in models]
        starts: dict[Any, Laplace | None] = {}
        for k, (train, test) in enumerate(splits):
            problems = {
                key: reduce_part(
                    self.read[key].problem,
                    of_folds[k],
                    self.read[key].training.y[train],
                    self.read[key].training.weights[train],
                )
                for key, of_folds in parts.items()
            }
            for i, model in enumerate(light):
                key = repr(model.slopes)
                shape = (key, bool(model.correlated))
                scores[i, k], starts[shape] = self._score(
                    model, problems[key], test, scoring, starts.get(shape)
                )
        return scores

    def _splits(self, data) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices of the rows with a weight, of each fold."""
        table, y, _ = self.given
        n, kept = table.shape[0], self._rows_with_weight()
        place = np.full(n, -1)
        place[kept] = np.arange(len(kept))
        splitter = check_cv(self.estimator.cv)
        codes = None
        if data.design.factors and _wants_groups(splitter):
            codes = np.full(n, -1)
            codes[kept] = data.training.codes[:, 0]
        every = np.zeros(n)
        for train, test in splitter.split(every[:, None], np.asarray(y, dtype=float), codes):
            parts = (place[np.arange(n)[part]] for part in (train, test))
            train, test = (part[part >= 0] for part in parts)
            if len(test) == 0:
                raise ValueError("a fold of cv has no test row with a weight.")
            yield train, test

    def _score(self, model, part, test, scoring, start):
        design, training, _ = self.data(model)
        seed = model.random_state
        *_, result = model._sample(design, part, seed, start)
        posterior, _ = posterior_of(part, result, seed, group_entries=GROUP_ENTRIES)
        self._check_known(model, part, training, test)
        weights = training.weights[test]
        codes = training.codes[test]
        if scoring is None:
            mean = posterior.mean(training.x[test], codes)
            score = _r2(training.y[test], mean, weights)
        elif scoring == "log_predictive_density":
            density = posterior.log_density(training.x[test], codes, training.y[test])
            score = np.average(density, weights=weights)
        else:
            score = self._by_scorer(model, design, posterior, scoring, test)
        return score, start if result.normal is None else result.normal

    def _check_known(self, model, part, training, test):
        if model.handle_unknown != "error":
            return
        for found, codes in zip(part.stats.factors, training.codes[test].T, strict=True):
            if np.any(found.zz[-1, -1, codes] == 0):
                raise ValueError(
                    "a fold of cv has rows of groups that the others lack, and "
                    "handle_unknown='error'. Set handle_unknown='population'."
                )

    def _by_scorer(self, model, design, posterior, scoring, test):
        """Any scorer, on an estimator that can predict."""
        table, y, _ = self.given
        fitted = clone(model)
        fitted._design, fitted._posterior = design, posterior
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator, name):
                setattr(fitted, name, getattr(self.estimator, name))
        rows = self._rows_with_weight()[test]
        part = table[rows] if isinstance(table, np.ndarray) else table.iloc[rows]
        scorer: Callable[..., float] = check_scoring(fitted, scoring=scoring)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*unseen group", UserWarning)
            return scorer(fitted, part, np.asarray(y, dtype=float)[rows])

    def _rows_with_weight(self) -> np.ndarray:
        table, _, sample_weight = self.given
        if sample_weight is None:
            return np.arange(table.shape[0])
        return np.flatnonzero(np.asarray(sample_weight, dtype=float) > 0)


def _light(model, n_draws=DRAWS) -> HierarchicalSlopesRegressor:
    """The same model with as many draws as a score needs."""
    if model.inference == "nuts":
        return model
    return clone(model).set_params(n_chains=1, n_draws=n_draws)


def _r2(y, mean, weights) -> float:
    """``r2_score``, whose validation takes longer than a fold."""
    residual = weights @ (y - mean) ** 2
    total = weights @ (y - np.average(y, weights=weights)) ** 2
    if len(y) < 2:
        return float("nan")
    return 1 - residual / total if total > 0 else float(residual == 0)


def _wants_groups(splitter) -> bool:
    requests: Mapping[str, Any] = {}
    if hasattr(splitter, "get_metadata_routing"):
        requests = get_routing_for_object(splitter).split.requests
    return requests.get("groups") is True


def _training_statistics(data: _Data, splits) -> Iterator[GroupStats]:
    """Of each fold's training rows, in the units of all rows."""
    _, training, problem = data
    n_levels = [found.zy.shape[-1] for found in problem.stats.factors]
    pairs = level_pairs(training.codes)

    def of(rows) -> GroupStats:
        x, y, weights = training.x[rows], training.y[rows], training.weights[rows]
        codes, slopes, units = training.codes[rows], problem.slopes, problem.units
        some = tuple(pair._replace(of_row=pair.of_row[rows]) for pair in pairs)
        return group_stats(x, y, weights, codes, n_levels, slopes, units, some)

    n = len(training.y)
    tests = np.concatenate([test for _, test in splits])
    parted = len(tests) == n and len(np.unique(tests)) == n
    if not (parted and all(len(train) + len(test) == n for train, test in splits)):
        for train, _ in splits:
            yield of(train)
        return
    parts = [of(test) for _, test in splits]
    before = _running(parts)
    after = _running(parts[::-1])[::-1]
    for k in range(len(parts)):
        around = [*before[:k][-1:], *after[k + 1 :][:1]]
        yield merge(*around)


def _running(parts: list[GroupStats]) -> list[GroupStats]:
    """Sums of the first 1, 2, ... parts."""
    sums = parts[:1]
    for part in parts[1:]:
        sums.append(merge(sums[-1], part))
    return sums
