"""Folds of a search: which rows they are, and whether a model can be fitted to them and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import get_routing_for_object

from skhier.utils.training import Training
from skhier.utils.words import listed

__all__ = ["Fold", "check_r2", "check_training", "constant_columns", "split"]


class Fold(NamedTuple):
    """Positions among the rows with a weight, (n_train,) and (n_test,)."""

    train: np.ndarray
    test: np.ndarray


def split(
    cv: Any,
    table: Any,
    y: Any,
    rows: np.ndarray,
    groups: Callable[[], np.ndarray | None],
    classifier: bool = False,
) -> tuple[list[Fold], list[str]]:
    """The folds of ``cv``, and warnings.

    The splitter sees every row, as in ``GridSearchCV``: its indices count rows of weight 0, and a
    group is a group whatever its rows weigh. Those rows then leave the folds, and folds without a
    test row are none.

    Parameters
    ----------
    cv : int, splitter, iterable or None
    table, y
        All rows.
    rows : int array of shape (n_kept,)
        Those with a weight.
    groups : callable
        Gives the group of each row, (n_samples,), or None; called for splitters that split by it.
    classifier : bool
        Whether a number of folds means stratified ones.

    Raises
    ------
    ValueError
        No fold has a test row with a weight.
    """
    n = table.shape[0]
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    splitter = check_cv(cv, y, classifier=classifier)
    of_rows = groups() if _takes_groups(splitter) else None
    every = np.arange(n)
    folds, n_empty = [], 0
    for parts in splitter.split(table, y, of_rows):
        train, test = (place[every[part]] for part in parts)
        if np.any(test >= 0):
            folds.append(Fold(train[train >= 0], test[test >= 0]))
        else:
            n_empty += 1
    if not folds:
        raise ValueError(f"cv={cv!r} has no fold with a test row of positive weight.")
    if n_empty == 0 or of_rows is not None:  # a group without weight is no group
        return folds, []
    return folds, [
        f"{n_empty} of {len(folds) + n_empty} folds of cv have no test row of positive weight and "
        "are left out."
    ]


def _takes_groups(splitter: Any) -> bool:
    """Whether to pass groups: scikit-learn's splitters say so, others ignore what they do not use.

    scikit-learn's own that do not split by group would warn.
    """
    if not type(splitter).__module__.startswith("sklearn."):
        return True
    requests: Mapping[str, Any] = {}
    if hasattr(splitter, "get_metadata_routing"):
        requests = get_routing_for_object(splitter).split.requests
    return requests.get("groups") is True


def check_training(folds: Iterable[Fold], training: Training, must_vary: bool = True) -> None:
    """Raise ValueError, with its number, on a fold whose training rows no model can be fitted to.

    ``must_vary``: y has to, and one that is constant in all rows is none of a fold's fault.
    """
    whole = not must_vary or training.y.min() == training.y.max()
    for k, (train, _) in enumerate(folds):
        y, total = training.y[train], training.weights[train].sum()
        if len(y) < 2:
            raise ValueError(
                f"Fold {k} of cv has too few training rows of positive weight, {len(y)}: a fit "
                "needs two or more."
            )
        if total < 2:
            raise ValueError(
                f"The training rows of fold {k} of cv have a total sample_weight of {total:.3g}: "
                "a weight of 2 is the row twice, so it must be 2 or more. Multiply the weights by "
                "a constant."
            )
        if not whole and y.min() == y.max():
            raise ValueError(
                f"y is constant ({y[0]:g}) in the {len(y)} training rows of fold {k} of cv: there "
                "is nothing to fit. Use folds whose training rows vary, such as "
                "KFold(5, shuffle=True)."
            )


def check_r2(folds: Sequence[Fold]) -> None:
    """Raise ValueError where a fold has one test row, which does not define R^2."""
    single = [k for k, fold in enumerate(folds) if len(fold.test) == 1]
    if single:
        raise ValueError(
            f"R^2 is not defined for one test row, and {len(single)} of {len(folds)} folds of cv "
            f"have one (fold {listed(single)}). Use larger folds, or a score that one row defines: "
            "scoring='log_predictive_density' or 'neg_mean_squared_error'."
        )


def constant_columns(constant: Mapping[str, Sequence[int]]) -> list[str]:
    """A warning of columns that do not vary in the training rows of the folds listed."""
    if not constant:
        return []
    where = [f"{name!r} (fold {listed(folds)})" for name, folds in constant.items()]
    return [
        "Columns that vary, but not among the training rows of some folds of cv, where their "
        f"slopes keep their prior: {listed(where)}."
    ]
