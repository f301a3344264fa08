"""Fits from statistics: of rows that were summarised elsewhere, or that come in blocks."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from skhier.estimators._base import drawn_seed
from skhier.estimators._group_tables import BY_EFFECT, BY_LEVEL
from skhier.statistics.contents import (
    Contents,
    check_addable,
    contents_of_block,
    contents_of_fit,
    settled,
)
from skhier.statistics.group_means import add_group_means, without_level_means
from skhier.statistics.group_statistics import GroupStatistics
from skhier.statistics.lazy import contents_of_lazy, contents_of_lazy_folds
from skhier.statistics.lazy_rows import N_EQUAL, merged_rows
from skhier.statistics.partitions import contents_of_partitions
from skhier.statistics.problem import NO_MEDIANS, problem_of
from skhier.utils.budget import Budget
from skhier.utils.callers import users_stacklevel
from skhier.utils.forks import forbid_forked_process
from skhier.utils.lazy_engines import lazy_engine
from skhier.utils.named_columns import split_named
from skhier.utils.table import read_table
from skhier.utils.training import forbid_few_rows
from skhier.utils.validation import check_total_weight
from skhier.utils.wanted_means import wanted_means

__all__ = ["Statistics"]

FITTED = frozenset(
    {
        *("_fitted", "intercept_", "coef_", "coef_names_", "noise_scale_", "posterior_"),
        *("group_levels_", *BY_LEVEL, *BY_EFFECT, "log_evidence_", "diagnostics_"),
    }
)
OF_NOISE = frozenset({"group_noise_", "noise_spread_"})


def _plain(model: Any) -> bool:
    return bool(model._takes_statistics)


class Statistics:
    """Of an estimator whose ``_fit_problem`` fits a problem without rows."""

    _takes_statistics = True
    group_means: Any
    _fit: Callable[..., tuple[list[str], list[str]]]
    _blocks: list[tuple[int, GroupStatistics]]
    _budget: Budget

    def __getattr__(self, name: str) -> Any:
        """What a fit sets is there when it is asked for, also of blocks that were only added."""
        fitted = FITTED if self.__dict__.get("noise_by") is None else FITTED | OF_NOISE
        if name in fitted and "_blocks" in self.__dict__:
            forbid_forked_process("fit")
            self._all_or_nothing(lambda: self._fit_contents(self._merged_blocks().contents))
            return getattr(self, name)
        if name == "statistics_":
            self._statistics_if_any()
        if name == "noise_scale_" and self.__dict__.get("known_noise") is not None:
            raise AttributeError(
                "A fit with `known_noise` has no noise_scale_: each row's noise is known."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @available_if(_plain)
    def summarise(self, X: Any, y: Any, sample_weight: Any = None) -> GroupStatistics:
        """Statistics of rows, which is all that a fit needs of them; this estimator stays as it is.

        Parameters
        ----------
        X, y, sample_weight
            As of ``fit``; one row is enough. Summarise all parts of the rows with estimators of the
            same ``groups`` and ``slopes``.

        Returns
        -------
        GroupStatistics
            ``slopes="all"`` holds every feature's; which of them vary is for the sum to say.

        Raises
        ------
        ValueError, TypeError
            Bad data or parameters.
        """
        self._check_sums_do()
        rows = type(self).__new__(type(self))  # whose columns are checked and kept
        rows.__dict__ = {k: v for k, v in self.__dict__.items() if k in self.get_params(deep=False)}
        rows._budget = self._budget
        return rows._summarised(X, y, sample_weight, reset=True)

    @available_if(_plain)
    def fit_statistics(self, statistics: GroupStatistics) -> Any:
        """Sample the posterior given statistics of rows.

        The fit of the rows themselves, to rounding, but for what needs rows: ``loo`` and log
        likelihoods in ``to_arviz``; and ``prior="brms"``, which looks at medians of y.

        Parameters
        ----------
        statistics : GroupStatistics
            With this estimator's ``groups``, and its ``slopes`` among those that they hold.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Other statistics, fewer than two rows, or bad parameters.
        """
        if not isinstance(statistics, GroupStatistics):
            raise TypeError(
                "fit_statistics takes a GroupStatistics, which `summarise` makes of rows. Got "
                f"{type(statistics).__name__}."
            )
        forbid_forked_process("fit_statistics")

        def fit():
            messages = self._fit_contents(statistics.contents)
            self._blocks = [(0, statistics)]
            return messages

        self._all_or_nothing(fit)
        return self

    @available_if(_plain)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Add rows to a fit, or to nothing; new levels too.

        Adding is cheap: rows are summarised. The posterior is sampled when an attribute, a
        prediction or a report is next asked for, and is that of one ``fit`` of all rows, to
        rounding, however they came. ``fit`` starts anew.

        Parameters
        ----------
        X, y, sample_weight
            As of ``fit``; one row is enough.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Bad data or parameters; labels of another kind than before; or a fit out of a pickle
            that does not hold what adding takes. The rows that were added before stay.
        """
        before = dict(self.__dict__)
        try:
            self._check_sums_do()
            if isinstance(self.prior, str) and self.prior == "brms":
                raise ValueError(NO_MEDIANS)
            blocks = self._blocks_of_fit()
            block = self._summarised(X, y, sample_weight, reset=not blocks)
            if blocks:
                check_addable(blocks[0][1].contents, block.contents)
        except BaseException:
            self.__dict__ = before
            raise
        for name in FITTED | OF_NOISE:
            self.__dict__.pop(name, None)
        self._blocks = _stacked(blocks, block, self._budget.data.waiting_blocks)
        return self

    @property
    def statistics_(self) -> GroupStatistics:
        """Statistics of the rows of fit, to merge with others, to keep or to take some away."""
        return self._statistics_if_any()

    def _statistics_if_any(self) -> GroupStatistics:
        """AttributeError, as displays of scikit-learn expect, where sums are not all of a fit."""
        try:
            return self._statistics_of_fit()
        except ValueError as error:
            raise AttributeError(str(error)) from error

    def _statistics_of_fit(self) -> GroupStatistics:
        if "_blocks" in self.__dict__:
            return self._merged_blocks()
        if "_fitted" not in self.__dict__:
            raise AttributeError(f"This {type(self).__name__} has no statistics: it is not fitted.")
        self._check_sums_do()
        fit = self._fitted
        if not fit.has_statistics:
            raise ValueError(
                "Statistics are not all that noise_by needs of the rows with several grouping "
                "factors: fit the rows themselves."
            )
        names = getattr(self, "feature_names_in_", None)
        of_rows = without_level_means(fit.design, fit.training, fit.reduction)
        return GroupStatistics(
            contents_of_fit(*of_rows, names, self.n_features_in_, self.diagnostics_["n_rows"])
        )

    def _blocks_of_fit(self) -> list[tuple[int, GroupStatistics]]:
        """What has been added so far."""
        if "_blocks" in self.__dict__:
            return self._blocks
        return [(0, self._statistics_of_fit())] if "_fitted" in self.__dict__ else []

    def _merged_blocks(self) -> GroupStatistics:
        if len(self._blocks) > 1:
            self._blocks = [(0, GroupStatistics.merged([block for _, block in self._blocks]))]
        return self._blocks[0][1]

    def _summarised(self, X, y, sample_weight, reset) -> GroupStatistics:
        if lazy_engine(X) is not None:
            return GroupStatistics(self._reduced_elsewhere(X, y, sample_weight, reset))
        X, y, sample_weight = split_named(X, y, sample_weight)
        table = read_table(X)
        validate_data(self, table.native, y, reset=reset, skip_check_array=True)
        return GroupStatistics(contents_of_block(table, y, sample_weight, self.groups, self.slopes))

    def _reduced_elsewhere(self, X, y, sample_weight, reset) -> Contents:
        """Statistics of a lazy frame, whose engine reduces it."""
        (contents,) = self._parts_elsewhere(X, y, sample_weight, self.slopes).values()
        if reset:
            self._keep_columns(contents)
        return contents

    def _parts_elsewhere(self, X, y, sample_weight, slopes, fold=None) -> dict[Any, Contents]:
        """Statistics of a lazy frame for each value of its column ``fold``; None: of all rows."""
        engine = str(lazy_engine(X))
        _check_names(engine, y, sample_weight)
        arguments, budget = (X, y, sample_weight, self.groups, slopes), self._budget.data
        if engine == "Dask":
            return contents_of_partitions(*arguments, fold, budget)
        if fold is None:
            return {None: contents_of_lazy(*arguments, engine, budget)}
        return contents_of_lazy_folds(*arguments, engine, fold, budget)

    def _check_sums_do(self) -> None:
        """Raise ValueError where sums over rows are not all that a fit needs."""
        self._check_params()
        if self._response.name != "normal":
            raise ValueError(
                f"Statistics are all that a normal response needs of the rows, and not so of "
                f"{self._response.name!r}: fit the rows themselves."
            )
        if self._side is not None:
            raise ValueError(
                f"Statistics of rows do not hold their known noise, `known_noise="
                f"{self._side.column!r}`: fit the rows themselves."
            )

    def _keep_columns(self, contents: Contents) -> None:
        """What scikit-learn knows of X."""
        self.n_features_in_ = contents.n_columns
        self.__dict__.pop("feature_names_in_", None)
        if contents.names is not None:
            self.feature_names_in_ = np.array(contents.names, dtype=object)

    def _fit_lazy(self, X, y, sample_weight) -> tuple[list[str], list[str]]:
        """Fit what comes of a lazy frame, whose rows are never here."""
        if not self._takes_statistics or self._response.name != "normal":
            return self._fit_merged(X, y, sample_weight)
        self._check_sums_do()
        contents = self._reduced_elsewhere(X, y, sample_weight, reset=True)
        messages = self._fit_contents(contents)
        self._blocks = [(0, GroupStatistics(contents))]
        return messages

    def _fit_merged(self, X, y, sample_weight) -> tuple[list[str], list[str]]:
        """Fit the distinct rows of a lazy frame, each with the number of its equals as weight."""
        self._check_params()
        engine = str(lazy_engine(X))
        _check_names(engine, y, sample_weight)
        rows = merged_rows(
            X,
            y,
            sample_weight,
            self.groups,
            engine,
            f"response={self._response.name!r}",
            y_is_number=not is_classifier(self),
            budget=self._budget.data,
        )
        messages = self._fit(*split_named(rows, y, N_EQUAL))
        self.__dict__.pop("_blocks", None)
        return messages

    def _fit_contents(self, contents: Contents) -> tuple[list[str], list[str]]:
        began = time.perf_counter()
        self._check_sums_do()
        seed = drawn_seed(self.random_state)
        forbid_few_rows(contents.n_rows)
        check_total_weight(float(contents.reduction.stats.n), contents.n_rows)
        design, reduction = settled(contents, self.groups, self.slopes)
        self._keep_columns(contents)
        wanted = wanted_means(self.group_means, contents.table, design)
        design, _, problem = add_group_means(wanted, design, None, problem_of(reduction))
        return self._fit_problem(design, None, problem, seed, began, contents.n_rows)

    def _all_or_nothing(self, fit: Callable[[], tuple[list[str], list[str]]]) -> None:
        """Fit and warn; whatever is raised, an earlier fit stays."""
        before = dict(self.__dict__)
        try:
            data_warnings, convergence_warnings = fit()
            for message in data_warnings:
                warnings.warn(message, UserWarning, stacklevel=users_stacklevel())
            for message in convergence_warnings:
                warnings.warn(message, ConvergenceWarning, stacklevel=users_stacklevel())
        except BaseException:  # an interrupt or a warning made an error leaves an earlier fit too
            self.__dict__ = before
            raise


def _check_names(engine: str, y: Any, sample_weight: Any) -> None:
    """Raise TypeError unless y and weights of a lazy frame are columns of it."""
    weighted = sample_weight is not None
    if not isinstance(y, str) or (weighted and not isinstance(sample_weight, str)):
        raise TypeError(
            f"X is a lazy {engine} frame, so y and sample_weight must be names of its columns, "
            f"such as fit(X, 'y'). Got {type(sample_weight if isinstance(y, str) else y)}."
        )


def _stacked(
    blocks: list[tuple[int, GroupStatistics]], block: GroupStatistics, at_once: int
) -> list[tuple[int, GroupStatistics]]:
    """Blocks of a rank are merged into one of the next when there are enough of them."""
    blocks, rank = [*blocks, (0, block)], 0
    while sum(of == rank for of, _ in blocks) >= at_once:
        same = [part for of, part in blocks if of == rank]
        blocks = [(of, part) for of, part in blocks if of != rank]
        blocks.append((rank + 1, GroupStatistics.merged(same)))
        rank += 1
    return blocks
