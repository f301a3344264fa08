"""Rows of a new X, read with the columns of fit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from skhier.posterior.designs import OUT
from skhier.posterior.fitted import Fitted
from skhier.utils.callers import users_stacklevel
from skhier.utils.design import Rows, read_rows
from skhier.utils.table import read_table
from skhier.utils.validation import check_choice
from skhier.utils.words import listed

__all__ = ["Level", "NewRows"]

Level = str | Sequence[str]


class NewRows:
    """Of an estimator: how its predictions read X."""

    _fitted: Fitted
    handle_unknown: Any

    def _rows_of(self, X, level, announced=True, noise=True) -> Rows:
        """Rows of a new X, codes OUT of factors that do not count; warns of unseen levels."""
        check_is_fitted(self)
        counts = self._counting(level)
        design = self._fitted.design
        unread = design.unread(counts, noise)
        names = getattr(self, "feature_names_in_", None)
        table = read_table(X, unread).with_columns_of_fit(names, unread)
        self._check_columns(table)
        rows = read_rows(table, design, counts, noise)
        rows.codes[:, [k for k in range(len(rows.unseen)) if k not in counts]] = OUT
        for k in counts:
            if len(rows.unseen[k]) and (announced or self.handle_unknown == "error"):
                self._report_unseen(rows.unseen[k], design.factors[k].name)
        return rows

    def _check_columns(self, table):
        """scikit-learn's check of X's columns, and advice where grouping columns are missing."""
        try:
            validate_data(self, table.native, reset=False, skip_check_array=True)
        except ValueError as error:
            hint = self._missing_groups(table)
            if not hint:
                raise
            raise ValueError(f"{str(error).rstrip()}\n{hint}") from None

    def _missing_groups(self, table) -> str:
        """Advice where nothing but grouping columns is missing."""
        known: Any = getattr(self, "feature_names_in_", np.array([]))
        factors = self._fitted.design.factors
        missing = set(known).difference(table.columns)
        if not missing or not missing <= {known[at] for at in self._fitted.design.unread([])}:
            return ""
        names = ", ".join(map(repr, sorted(missing)))
        if missing <= set(table.index):
            return (
                f"X has {names} in its row index. Pass X.reset_index(), which makes columns of it."
            )
        there = [f.name for f in factors if missing.isdisjoint(known[list(f.positions)])]
        return f"To predict without {names}, pass level={there or 'population'!r}."

    def _counting(self, level) -> list[int]:
        """The factors whose effects count."""
        if isinstance(level, str):
            check_choice("level", level, ("group", "population"))
            return list(range(len(self._fitted.design.factors))) if level == "group" else []
        if not isinstance(level, list | tuple):
            raise ValueError(
                "`level` must be 'group', 'population' or a list of grouping factors' names. "
                f"Got {level!r} instead."
            )
        return [self._fitted.index_of(factor) for factor in level]

    def _report_unseen(self, unseen, name):
        shown = listed(map(repr, unseen.tolist()))
        what = f"X contains {len(unseen)} unseen group(s) of {name!r}"
        message = f"{what}, not in the data of fit: {shown}."
        if self.handle_unknown == "error":
            raise ValueError(f"{message} Set handle_unknown='population' to predict them.")
        warnings.warn(
            f"{message} They are predicted as new members of the population.",
            UserWarning,
            stacklevel=users_stacklevel(),
        )
