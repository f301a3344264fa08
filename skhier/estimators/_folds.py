"""Searches whose folds are a column's values, a hash, or statistics that were made elsewhere."""

from __future__ import annotations

import copy
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from narwhals.dependencies import is_into_dataframe
from sklearn.model_selection import PredefinedSplit

from skhier.estimators._base import drawn_seed
from skhier.estimators._fold_race import SCORES_OF_SUMS, FoldRace
from skhier.estimators._model import HierarchicalModel
from skhier.statistics.contents import Contents
from skhier.statistics.group_statistics import GroupStatistics
from skhier.statistics.hashed_folds import FOLD, with_hashed_fold
from skhier.utils.forks import forbid_forked_process
from skhier.utils.labels import fit_levels
from skhier.utils.lazy_engines import lazy_engine
from skhier.utils.named_columns import check_named, split_named
from skhier.utils.table import Column, table_of

__all__ = ["FoldStatistics"]

NAMED = ("loo", "logo", "evidence")  # scores, so that no column of these names says the folds
USUAL_FOLDS = 5


class FoldStatistics(HierarchicalModel):
    """Of a search, whose fold's training statistics are the sum of the other folds'.

    A subclass has the candidates, ``_candidates``, ``_model_of`` and ``_record``.
    """

    cv: Any
    scoring: Any
    best_index_: int
    diagnostics_: dict[str, Any]
    _candidates: Callable[[], list[dict[str, Any]]]
    _model_of: Callable[[dict[str, Any]], HierarchicalModel]
    _record: Callable[..., list[str]]

    def fit_statistics(self, statistics: Any) -> Any:
        """Choose and fit given statistics of rows, one for each fold; no row is needed.

        Parameters
        ----------
        statistics : sequence of GroupStatistics, or dict from fold to GroupStatistics
            Two or more, of a :class:`HierarchicalSlopesRegressor` of the same ``groups`` and of all
            ``slopes`` that candidates have. ``cv`` must be None or ``"evidence"``, ``scoring`` None
            or ``"neg_mean_squared_error"`` or its root: they follow from sums.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Other statistics or parameters; folds that cannot be fitted.
        """
        forbid_forked_process("fit_statistics")
        folds = statistics if isinstance(statistics, Mapping) else None
        if folds is None and isinstance(statistics, Sequence):
            folds = dict(enumerate(statistics))
        if folds is None or not all(isinstance(at, GroupStatistics) for at in folds.values()):
            raise TypeError(
                "fit_statistics of a search takes a list of GroupStatistics, one for each fold, or "
                f"a dict of them. Got {type(statistics).__name__}."
            )
        if self.cv not in (None, "evidence"):
            raise ValueError(
                "The statistics are the folds, so that `cv` must be None or 'evidence'. Got "
                f"{self.cv!r}."
            )
        parts = {label: part.contents for label, part in folds.items()}
        self._all_or_nothing(lambda: self._fit_folds(parts))
        return self

    def _fit_rows(self, X, y, sample_weight):
        """As of every estimator; ``cv`` may name a column."""
        if lazy_engine(X) is None and self._names_column(X):
            rest = split_named(X, y, sample_weight)
            check_named(table_of(X).columns, y, sample_weight, self.cv)
            table, labels, _ = split_named(rest[0], self.cv, None)
            _, codes = fit_levels(Column(labels).labels, self.cv)
            return self._as_if(
                PredefinedSplit(codes), lambda twin: twin._fit_rows(table, *rest[1:])
            )
        return super()._fit_rows(X, y, sample_weight)

    def _names_column(self, X) -> bool:
        named = isinstance(self.cv, str) and self.cv not in NAMED
        return named and is_into_dataframe(X) and self.cv in table_of(X).columns

    def _as_if(self, cv: Any, fit: Callable[[Any], Any]) -> Any:
        """What ``fit`` makes of this estimator with another ``cv``, which it then has not."""
        twin = copy.copy(self)
        twin.cv = cv
        messages = fit(twin)
        self.__dict__ = twin.__dict__ | {"cv": self.cv}
        return messages

    def _fit_lazy(self, X, y, sample_weight):
        """Folds of a lazy frame, which its engine sums."""
        self._check_sums_do()
        self._check_search()
        slopes = self._every_slope()
        if self.cv == "evidence":
            return self._fit_folds(self._parts_elsewhere(X, y, sample_weight, slopes))
        fold = self.cv
        if not isinstance(fold, str):
            fold = FOLD
            X = with_hashed_fold(X, str(lazy_engine(X)), self._n_hashed())
        return self._fit_folds(self._parts_elsewhere(X, y, sample_weight, slopes, fold))

    def _n_hashed(self) -> int:
        """Into how many folds a hash splits the rows."""
        if self.cv is None:
            return USUAL_FOLDS
        whole = isinstance(self.cv, numbers.Integral) and not isinstance(self.cv, bool)
        if not whole or self.cv < 2:
            raise TypeError(
                "X is a lazy frame, so cv must be the name of a column, 'evidence', or a number "
                f"of folds, 2 or more, into which a hash splits the rows. Got {self.cv!r}."
            )
        return int(self.cv)

    def _every_slope(self) -> Any:
        """Slopes that sums have to hold, so that every candidate's are there."""
        grid = [self.slopes, *(params.get("slopes", self.slopes) for params in self._candidates())]
        return grid[0] if all(repr(one) == repr(grid[0]) for one in grid) else "all"

    def _check_search(self) -> None:
        """Raise ValueError where folds' sums are not all that the search needs."""
        if isinstance(self.cv, str) and self.cv in ("loo", "logo"):
            raise ValueError(
                f"cv={self.cv!r} needs rows in memory: name a column that says the fold of each "
                "row, or take a number of folds or 'evidence'."
            )
        if self.cv == "evidence" and self.scoring is not None:
            raise ValueError(f"cv={self.cv!r} is a score itself: scoring must be None.")
        known = self.scoring is None or isinstance(self.scoring, str)
        if not known or self.scoring not in SCORES_OF_SUMS:
            names = ", ".join(repr(name) for name in SCORES_OF_SUMS)
            raise ValueError(
                f"Of sums over rows, scoring may be one of {names}; others need rows in memory. "
                f"Got {self.scoring!r}."
            )

    def _fit_folds(self, parts: Mapping[Any, Contents]) -> tuple[list[str], list[str]]:
        """Choose and fit."""
        self._check_sums_do()
        self._check_search()
        evidence = self.cv == "evidence"
        if len(parts) < 2 and not evidence:
            raise ValueError(f"A search takes two folds or more. Got {list(parts)}.")

        def fit(twin):
            return twin._search_folds(parts, evidence)

        return self._as_if("evidence" if evidence else tuple(parts), fit)

    def _search_folds(self, parts, evidence):
        candidates = self._candidates()
        seed = drawn_seed(self.random_state)
        models = [self._model_of(params).set_params(random_state=seed) for params in candidates]
        race = FoldRace(self, list(parts.values()), list(parts), candidates)
        messages = self._record(candidates, race.scores(models, evidence))
        best = models[self.best_index_]
        began = time.perf_counter()
        best._keep_columns(race.whole)
        design, _, problem, _ = race.data(best)
        of_best = best._fit_problem(
            design, None, problem, drawn_seed(best.random_state), began, race.whole.n_rows
        )
        own = set(self.get_params(deep=False))
        self.__dict__ |= {name: at for name, at in best.__dict__.items() if name not in own}
        of_search = race.messages + messages
        self.diagnostics_["warnings"] = of_search + self.diagnostics_["warnings"]
        return of_search + of_best[0], of_best[1]
