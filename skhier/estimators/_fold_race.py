"""Scores of a search's candidates from statistics of folds, of which no row is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
from skhier.estimators._regressor import HierarchicalSlopesRegressor
from skhier.estimators._splits import constant_columns
from skhier.posterior.designs import OUT
from skhier.posterior.fitted import fitted_of
from skhier.statistics.contents import Contents, settled
from skhier.statistics.fold_sums import Squares, parts_of_whole, residual_squares
from skhier.statistics.folds import EveryRow, constant_in_part, sums_of_others
from skhier.statistics.group_means import (
    add_group_means,
    means_of_part,
    reduction_with_level_means,
)
from skhier.statistics.problem import part_of, problem_of
from skhier.statistics.slopes import with_slopes
from skhier.utils.wanted_means import wanted_means
from skhier.utils.words import listed

__all__ = ["SCORES_OF_SUMS", "FoldRace"]

NO_ROWS: Any = None
FOLD_ROUNDING = 1e-12  # of y's square about the mean of all rows: less is left of a constant


def _r2(squares: Squares, spread: float) -> float:
    """1 of a constant that was predicted exactly and 0 of another, as ``r2_score`` has it."""
    if squares.total <= FOLD_ROUNDING * squares.n * spread:
        return float(squares.residual <= FOLD_ROUNDING * squares.n * spread)
    return 1 - squares.residual / squares.total


SCORES_OF_SUMS = {
    None: _r2,
    "r2": _r2,
    "neg_mean_squared_error": lambda squares, _: -squares.residual / squares.n,
    "neg_root_mean_squared_error": lambda squares, _: -((squares.residual / squares.n) ** 0.5),
}


class FoldRace:
    """Scores of candidates on the same folds.

    Parameters
    ----------
    estimator : HierarchicalSlopesRegressorCV
    parts : sequence of Contents
        Statistics of each fold.
    labels : sequence
        What the folds are called.
    candidates : list of dict
    """

    def __init__(self, estimator, parts: Sequence[Contents], labels, candidates):
        self.estimator, self.labels, self.candidates = estimator, list(labels), candidates
        self.messages: list[str] = []
        self.budget = budget_of_candidates(estimator._budget)
        self.n_rows = [part.n_rows for part in parts]
        self.whole, self.parts = parts_of_whole(parts)
        self.read: dict[str, tuple[EveryRow, list[Any], list[Any]]] = {}

    def data(self, model) -> EveryRow:
        """Design and problem of all rows, with level means; no rows."""
        every, _, _ = self._of_slopes(model)
        wanted = wanted_means(model.group_means, self.whole.table, every.design)
        return EveryRow(*add_group_means(wanted, every.design, NO_ROWS, every.problem), ())

    def _of_slopes(self, model):
        """All rows, the folds, and the others of each fold, without level means."""
        key = repr(model.slopes)
        if key not in self.read:
            design, reduction = settled(self.whole, model.groups, model.slopes)
            slopes = [factor.slopes for factor in design.factors]
            tests = [with_slopes(part, slopes) for part in self.parts]
            every = EveryRow(design, NO_ROWS, problem_of(reduction), ())
            others = list(sums_of_others(tests)) if len(tests) > 1 else []
            self.read[key] = every, tests, others
        return self.read[key]

    def scores(self, models, evidence: bool) -> Scored:
        """(n_candidates, n_folds), or (n_candidates, 1)."""
        return self._evidence(models) if evidence else self._by_folds(models)

    def _light(self, model, means_do: bool) -> HierarchicalSlopesRegressor:
        """The same model with as many draws as a score needs."""
        if model.inference == "nuts":
            return model
        return light(model, self.budget, means_do)

    def _evidence(self, models) -> Scored:
        """Of fits to all rows."""

        def of_model(model):
            model._check_params()
            forbid_evidence_of_nuts(model)
            design, _, problem, _ = self.data(model)
            if problem.y_is_constant:
                raise ValueError("cv='evidence' has nothing to score: y is constant.")
            how = design, problem, model.random_state
            _, choice, result = self._light(model, False)._sample(*how)
            return choice, result.log_evidence

        return evidences(models, of_model)

    def _by_folds(self, models) -> Scored:
        """Of fits to the other folds, at the rows of each."""
        for model in models:
            model._check_params()
        self._check_folds(self._of_slopes(models[0])[2])
        values = np.empty((len(models), len(self.labels)))
        starts: dict[Any, Any] = {}
        constant: dict[str, list[int]] = {}
        for k, label in enumerate(self.labels):
            for i, model in enumerate(models):
                every, tests, trainings = self._of_slopes(model)
                problem = part_of(every.problem, trainings[k], None)
                if i == 0:
                    for name in constant_in_part(every, problem):
                        constant.setdefault(name, []).append(k)
                shape = repr((structure(model), bool(model.correlated)))
                with naming_fold(label, self.candidates[i]):
                    values[i, k], starts[shape] = self._score(
                        model, problem, tests[k], starts.get(shape)
                    )
        self.messages += constant_columns(constant)
        return Scored(values, {})

    def _check_folds(self, trainings) -> None:
        """Raise ValueError on folds that cannot be fitted, or scored."""
        total = sum(self.n_rows)
        for label, n, training in zip(self.labels, self.n_rows, trainings, strict=True):
            if total - n < 2 or training.stats.n < 2:
                raise ValueError(
                    f"The rows outside of fold {label!r} are {total - n}, with a total weight of "
                    f"{training.stats.n:.3g}: a fit needs two or more."
                )
        few = [label for label, n in zip(self.labels, self.n_rows, strict=True) if n < 2]
        if few and SCORES_OF_SUMS[self.estimator.scoring] is _r2:
            raise ValueError(
                f"R^2 is not defined for one row, and folds have one: {listed(map(repr, few))}. "
                "Use larger folds, or scoring='neg_mean_squared_error'."
            )

    def _score(self, model, problem, test, start):
        spread = float(problem.scales.y_sd**2)
        lighter = self._light(model, self.estimator.scoring is None)
        design, problem = means_of_part(self.data(model).design, problem)
        setting, _, result = lighter._sample(design, problem, model.random_state, start)
        fit = fitted_of(design, problem, result, setting, model.random_state, None, self.budget)
        levels = zip(problem.stats.factors, test.stats.factors, strict=True)
        has_new = any(
            np.any((known.zz[-1, -1] == 0) & (tested.zz[-1, -1] > 0)) for known, tested in levels
        )
        forbid_new_groups(model, has_new)
        if design.means:
            test = reduction_with_level_means(test, design.means, design.feature_names)
        coef, effects = _lines(fit.posterior, design)
        squares = residual_squares(test.in_units(problem.units), coef, effects)
        score = SCORES_OF_SUMS[self.estimator.scoring](squares, spread)
        return score, start if result.normal is None else result.normal


def _lines(posterior, design) -> tuple[np.ndarray, list[np.ndarray]]:
    """Posterior means of the coefficients and of each factor's effects, internal coordinates."""
    p, sizes = len(design.feature_names) + 1, posterior.n_levels
    units = posterior.units

    def line(features, codes) -> np.ndarray:
        """Slopes of the features, then the intercept, (len(features) + 1, n)."""
        steps = np.zeros((len(features) + 1, p - 1))
        steps[np.arange(len(features)), features] = 1.0
        x = np.repeat(units.x_mean + units.x_scale * steps, len(codes), axis=0)
        mean = posterior.mean(x, np.tile(codes, (len(steps), 1)))
        values = ((mean - units.y_mean) / units.y_scale).reshape(len(steps), -1)
        return np.concatenate([values[:-1] - values[-1], values[-1:]])

    every = list(range(p - 1))
    coef = line(every, np.full((1, len(sizes)), OUT))[:, 0]
    effects = []
    for k, (factor, n) in enumerate(zip(design.factors, sizes, strict=True)):
        codes = np.full((n, len(sizes)), OUT)
        codes[:, k] = np.arange(n)
        effects.append(line(list(factor.slopes), codes) - coef[[*factor.slopes, p - 1], None])
    return coef, effects
