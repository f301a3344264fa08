"""Training statistics of cross-validation's folds, from one reduction of each test part.

Statistics add, so those of a fold's training rows are the sum of the others' parts; a problem of
its own follows by moving them to its own mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from skhier.statistics.problem import Problem, part_of, reduce_rows
from skhier.statistics.products import LevelPairs
from skhier.statistics.records import Units
from skhier.statistics.reduction import Reduction, merge, reduce_block
from skhier.utils.design import Design
from skhier.utils.training import Training

__all__ = [
    "EveryRow",
    "constant_in_part",
    "sums_of_others",
    "training_problems",
]

SHRUNK = 1e-3  # sd in units of that of all rows: its square has lost 6 of 16 digits


class EveryRow(NamedTuple):
    """All rows, read for one value of ``slopes``, and their statistics.

    Attributes
    ----------
    design : Design
    training : Training
    problem : Problem
    pairs : tuple of LevelPairs
        Of all rows, so that parts of them have the same pairs.
    """

    design: Design
    training: Training
    problem: Problem
    pairs: tuple[LevelPairs, ...]


def training_problems(
    data: EveryRow, folds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Iterator[Problem]:
    """Of each fold's training rows, one after the other.

    Parameters
    ----------
    data : EveryRow
    folds : sequence of (train, test)
        Positions of rows, (n_train,) and (n_test,). Where the test parts do not part all rows, or
        some training rows are not all the others, each fold is reduced for itself. So it is where
        rows' noise is known, whose sums do not tell the scales of priors, which count rows.
    """
    if data.problem.noise is not None:
        for train, _ in folds:
            yield _problem_of_rows(data, train)
        return
    for (train, _), reduction in zip(folds, _training_reductions(data, folds), strict=True):
        yield _problem_of_fold(data, reduction, train)


def _training_reductions(data, folds) -> Iterator[Reduction]:
    """Of each fold's training rows, in the units of all rows."""
    n, units = len(data.training.y), data.problem.units
    tests = np.concatenate([test for _, test in folds])
    parted = len(tests) == n and len(np.unique(tests)) == n
    if not (parted and all(_is_complement(train, test, n) for train, test in folds)):
        for train, _ in folds:
            yield _reduced(data, train, units)
        return
    yield from sums_of_others([_reduced(data, test, units) for _, test in folds])


def sums_of_others(parts: list[Reduction]) -> Iterator[Reduction]:
    """Per part, the sum of all others; each of the two or more is added a few times in all."""
    before = _running(parts)
    after = _running(parts[::-1])[::-1]
    for k in range(len(parts)):
        around = [*before[:k][-1:], *after[k + 1 :][:1]]
        yield merge(*around)


def _is_complement(train: np.ndarray, test: np.ndarray, n: int) -> bool:
    return len(train) + len(test) == n and len(np.union1d(train, test)) == n


def _running(parts: list[Reduction]) -> list[Reduction]:
    """Sums of the first 1, 2, ... parts."""
    sums = parts[:1]
    for part in parts[1:]:
        sums.append(merge(sums[-1], part))
    return sums


def _reduced(data: EveryRow, rows: np.ndarray, units: Units | None = None) -> Reduction:
    """Of some rows, levels and pairs of levels numbered as in all; None: in units of their own."""
    axes, pairs = data.problem.reduction.axes, [pair.take(rows) for pair in data.pairs]
    return reduce_block(axes, data.training.take(rows), units, pairs)


def _problem_of_fold(data: EveryRow, reduction: Reduction, rows: np.ndarray) -> Problem:
    """Of training rows at some positions, from their reduction in the units of all rows.

    Columns that vary much less than in all rows have lost digits there: they are reduced anew.
    """
    of_x, of_y = reduction.mean_sd()
    units = reduction.units
    spread = np.append(of_x.sd / units.x_scale, of_y.sd / units.y_scale)
    if np.any((spread < SHRUNK) & _varies(data.problem)):
        reduction = _reduced(data, rows)
    return part_of(data.problem, reduction, data.training.medians(rows))


def _problem_of_rows(data: EveryRow, rows: np.ndarray) -> Problem:
    """The same from the rows themselves."""
    training = data.training.take(rows).with_own_precision()
    pairs = [pair.take(rows) for pair in data.pairs]
    return reduce_rows(data.design, training, pairs, data.problem.plan)


def constant_in_part(data: EveryRow, part: Problem) -> list[str]:
    """Names of features that vary in all rows, but not in a part of them."""
    gone = (_varies(data.problem) & ~_varies(part))[:-1]
    return [data.design.feature_names[j] for j in np.flatnonzero(gone)]


def _varies(problem: Problem) -> np.ndarray:
    """Whether each feature, and y, varies: (n_features + 1,)."""
    of_x, of_y = problem.reduction.mean_sd()
    return np.append(of_x.sd, of_y.sd) > 0
