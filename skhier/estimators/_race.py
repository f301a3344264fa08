"""Scores of a search's candidates on the same rows, each fitted as lightly as a score needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from skhier.estimators._candidates import (
    Scored,
    budget_of_candidates,
    evidences,
    forbid_evidence_of_nuts,
    forbid_new_groups,
    light,
    naming_fold,
    structure,
)
from skhier.estimators._model import HierarchicalModel
from skhier.estimators._refits import Checked, checked
from skhier.estimators._scoring import (
    accuracy,
    call_scorer,
    is_r2,
    objects,
    r2,
    scorer_of,
    take_rows,
    takes_weights,
)
from skhier.estimators._splits import (
    Fold,
    check_r2,
    check_training,
    constant_columns,
    split,
)
from skhier.inference.importance import Mixture
from skhier.inference.noise_engine import integrates_noises
from skhier.inference.prior import PriorSetting
from skhier.inference.results import EngineResult
from skhier.inference.row_engines import MOST_EFFECTS, integrates_effects
from skhier.posterior.fitted import fitted_of
from skhier.posterior.predictive import log_predictive_density
from skhier.priors import PriorChoice
from skhier.statistics.folds import (
    EveryRow,
    constant_in_part,
    training_problems,
)
from skhier.statistics.group_means import add_group_means, means_of_part
from skhier.statistics.problem import Problem, reduce_rows
from skhier.statistics.products import level_pairs
from skhier.utils.design import Design
from skhier.utils.group_means import with_level_means
from skhier.utils.levels import read_levels
from skhier.utils.schema import read_schema
from skhier.utils.training import Training, read_training
from skhier.utils.validation import check_weights
from skhier.utils.wanted_means import wanted_means

__all__ = ["Race"]


class Race:
    """Scores of candidates on the same rows.

    ``y`` is as the user gave it, ``target`` the numbers that are fitted. ``messages`` are warnings;
    ``checked`` what refits made of each candidate's ``cv="loo"`` or ``"logo"``.
    """

    def __init__(self, estimator, table, y, target, sample_weight, candidates):
        self.estimator, self.target = estimator, target
        self.arguments = (table, y, sample_weight)
        self.weights = check_weights(sample_weight, table.native)
        self.candidates = candidates
        self.read: dict[str, EveryRow] = {}
        self.prepared: dict[str, EveryRow] = {}
        self.messages: list[str] = []
        self.checked: list[Checked] = []
        self.scorer: Callable[..., Any] | None = None
        self.weighted = False
        self.budget = budget_of_candidates(estimator._budget)

    def data(self, model) -> EveryRow:
        """Rows and statistics, with the level means of ``group_means``."""
        key = structure(model)
        if key not in self.prepared:
            design, training, problem, pairs = self._columns(model)
            wanted = wanted_means(model.group_means, self.arguments[0], design)
            with_means = add_group_means(wanted, design, training, problem)
            self.prepared[key] = EveryRow(*with_means, pairs)
        return self.prepared[key]

    def _columns(self, model) -> EveryRow:
        """Without level means; read and reduced once for each ``slopes`` and response."""
        key = _columns_key(model)
        if key not in self.read:
            table, _, sample_weight = self.arguments
            columns = model.groups, model.slopes, model._side
            arguments = table, self.target, sample_weight, *columns, self.budget.data
            design, training = read_training(*arguments)
            response = model._response
            response.check_target(training.y, training.weights)
            training = training._replace(y=response.transformed(training.y))
            problem = reduce_rows(design, training, budget=self.budget.data)
            pairs = level_pairs(training.codes)
            self.read[key] = EveryRow(design, training, problem, pairs)
        return self.read[key]

    def by_one_fit(self, models) -> Scored:
        """Scores that follow from a fit to all rows, (n_candidates, 1)."""
        for model in models:
            model._check_params()
        if self.estimator.cv == "evidence":
            return evidences(models, self._evidence)
        self.checked = [self._left_out(model) for model in models]
        labels = self.labels()
        worst = [score.elpd.pointwise["pareto_k"].max() for score in self.checked]
        refits = np.array([len(score.refitted) for score in self.checked])
        columns = {
            "se_test_score": np.array([score.elpd.se for score in self.checked]),
            "max_pareto_k": np.array(worst),
            "n_bad_pareto_k": refits + [len(score.unreliable) for score in self.checked],
            "n_refits": refits,
            "unreliable": objects([labels[score.unreliable] for score in self.checked]),
        }
        return Scored(np.array([[score.elpd.elpd] for score in self.checked]), columns)

    def labels(self) -> np.ndarray:
        """What ``cv="loo"`` or ``"logo"`` leaves out: positions of rows in X, or levels."""
        if self.estimator.cv == "loo":
            return self._rows_with_weight()
        data = next(iter(self.read.values()))
        return data.design.factors[0].levels.labels

    def _fit_to_all(self, model) -> tuple[PriorSetting, PriorChoice, EngineResult]:
        design, training, problem, _ = self.data(model)
        if problem.y_is_constant and model._response.standardises:
            raise ValueError(
                f"cv={self.estimator.cv!r} has nothing to score: y is constant ({training.y[0]:g})."
            )
        stated = model._stated(problem, training)
        return self._light(model)._sample(design, stated, model.random_state, training=training)

    def _evidence(self, model) -> tuple[PriorChoice, float]:
        forbid_evidence_of_nuts(model)
        if self._samples_effects(model) and model._noise_by is not None:
            raise ValueError(
                "cv='evidence' needs the levels' noises integrated out, and those of noise_by are "
                "for one factor of a normal response. Use a splitter."
            )
        if self._samples_effects(model):
            raise ValueError(
                f"cv='evidence' needs the group effects integrated out, and those of "
                f"response={model._response.name!r} are for one factor with at most "
                f"{MOST_EFFECTS - 1} varying slopes. Use a splitter."
            )
        _, choice, result = self._fit_to_all(model)
        return choice, result.log_evidence

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
        setting, _, result = self._fit_to_all(model)
        problem, seed = model._stated(problem, training), model.random_state
        fit = fitted_of(design, problem, result, setting, seed, training, self.budget)
        elpd, response = fit.logo() if by_group else fit.loo(), setting.response

        lighter = self._light(model)

        def sample(rest, rows):
            return lighter._sample(design, rest, seed, result.normal, training=rows)[-1]

        rows = training, problem, result
        return checked(elpd, *rows, sample, response, self.budget.scores)

    def by_folds(self, models) -> Scored:
        """Scores on the rows of each fold, of fits to the others, (n_candidates, n_splits)."""
        for model in models:
            model._check_params()
        self._choose_scorer(models[0])
        folds = self._folds(models[0])
        parts: dict[str, Iterator[Problem]] = {}
        for model in models:
            data, key = self._columns(model), _columns_key(model)
            if key not in parts:
                parts[key] = training_problems(data, folds)
        lighter = [self._light(model, self.estimator.scoring is None) for model in models]
        values = np.empty((len(models), len(folds)))
        starts: dict[Any, Mixture | None] = {}
        constant: dict[str, list[int]] = {}
        for k, fold in enumerate(folds):
            problems = {key: next(of_folds) for key, of_folds in parts.items()}
            first = problems[_columns_key(models[0])]
            for name in constant_in_part(self._columns(models[0]), first):
                constant.setdefault(name, []).append(k)
            for i, model in enumerate(lighter):
                shape = (structure(model), bool(model.correlated))
                with naming_fold(k, self.candidates[i]):
                    values[i, k], starts[shape] = self._score(
                        model, problems[_columns_key(model)], fold, starts.get(shape)
                    )
        self.messages += constant_columns(constant)
        return Scored(values, {})

    def _choose_scorer(self, model):
        self.scorer = scorer_of(model, self.estimator.scoring)
        if self.scorer is not None:
            weights = None if self.arguments[2] is None else self.weights
            self.weighted, messages = takes_weights(self.estimator, self.scorer, weights)
            self.messages += messages

    def _folds(self, model) -> list[Fold]:
        """Those of ``cv`` that can be fitted and scored."""
        table, y, _ = self.arguments
        training = self.data(model).training
        rows, cv = self._rows_with_weight(), self.estimator.cv
        folds, messages = split(
            cv, table.native, y, rows, lambda: self._groups(model), is_classifier(self.estimator)
        )
        must_vary = model._response.standardises and training.precision is None
        check_training(folds, training, must_vary)
        if is_r2(self.estimator, self.scorer):
            check_r2(folds)
        self.messages += messages
        return folds

    def _groups(self, model) -> np.ndarray | None:
        """Labels of the first factor (codes of a nesting), (n_samples,), whatever rows weigh."""
        table, design = self.arguments[0], self.data(model).design
        if not design.factors:
            return None
        positions = design.factors[0].positions
        if len(positions) == 1:
            return table.column(positions[0]).labels
        schema = read_schema(table, model.groups, model.slopes)
        _, codes = read_levels(table, schema.factors[:1])
        return codes[:, 0]

    def _score(self, model, part, fold, start):
        training, seed = self._columns(model).training, model.random_state
        design, part = means_of_part(self.data(model).design, part)
        rows = _with_means(training.take(fold.train), design)
        part = model._stated(part, rows)
        setting, _, result = model._sample(design, part, seed, start, rows)
        fit = fitted_of(design, part, result, setting, seed, rows, self.budget)
        known = zip(part.stats.factors, training.codes[fold.test].T, strict=True)
        has_new = any(np.any(stats.zz[-1, -1, codes] == 0) for stats, codes in known)
        forbid_new_groups(model, has_new)
        if self.scorer is not None:
            score = self._by_scorer(model, fit, fold.test)
        else:
            score = self._own_score(fit, _with_means(training.take(fold.test), design))
        return score, start if result.normal is None else result.normal

    def _own_score(self, fit, test) -> float:
        """R^2, accuracy or log density, which take no estimator."""
        posterior = fit.posterior
        y = posterior.response.untransformed(test.y)
        if self.estimator.scoring == "log_predictive_density":
            density = log_predictive_density(posterior, test.columns, test.codes, y)
            return float(np.average(density, weights=test.weights))
        score = accuracy if is_classifier(self.estimator) else r2
        return score(y, posterior.mean(test.columns, test.codes), test.weights)

    def _by_scorer(self, model, fit, test):
        """Any scorer, on an estimator that can predict."""
        table, y, _ = self.arguments
        fitted = clone(model)
        fitted._fitted = fit
        for name in ("n_features_in_", "feature_names_in_", "classes_"):
            if hasattr(self.estimator, name):
                setattr(fitted, name, getattr(self.estimator, name))
        rows = self._rows_with_weight()[test]
        weights = self.weights[rows] if self.weighted else None
        X = take_rows(table.native, rows)
        return call_scorer(self.scorer, fitted, X, take_rows(y, rows), weights)

    def _rows_with_weight(self) -> np.ndarray:
        return np.flatnonzero(self.weights)

    def _light(self, model, means_do=False) -> HierarchicalModel:
        """The same model with as many draws as a score needs."""
        if model.inference == "nuts" or self._samples_effects(model):
            return model
        return light(model, self.budget, means_do)

    def _samples_effects(self, model) -> bool:
        """Whether group effects are sampled, because nothing integrates them out."""
        if model._response.conjugate:
            return False
        n_slopes = [len(factor.slopes) for factor in self.data(model).design.factors]
        if model._noise_by is not None:
            return not integrates_noises(model._response, len(n_slopes))
        return not integrates_effects(n_slopes)


def _columns_key(model) -> str:
    """Equal of models of the same columns without level means, and the same y."""
    return repr((model.slopes, model._response.name))


def _with_means(rows: Training, design: Design) -> Training:
    """Rows with the level means that a fold's training rows have."""
    return rows._replace(x=with_level_means(rows.x, rows.codes, design.means))
