"""How the problems' tables are made: each function takes a problem, returns a table and y.

The table has the features and a column for each factor. The same problem gives the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from contract import Factor
    from problem import Problem

__all__ = [
    "answers",
    "cafes",
    "classes",
    "codes",
    "counts",
    "ratings",
    "schools",
    "sleepstudy",
    "standard",
]

DEPT_SHARE = 0.9  # of a lecturer's ratings, in the lecturer's own department


def sleepstudy(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    from skhier.datasets import load_sleepstudy

    table, y = load_sleepstudy(return_X_y=True, as_frame=True)
    return table.rename(columns={"Subject": problem.factors[0].name}), y


def standard(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """Independent standard normal features, slopes of +-0.5, noise of sd 1.

    Of every factor the effects have sd ``problem.tau`` and correlation 0.3.
    """
    n_features = problem.q - 1
    coef = 0.5 * (-1.0) ** np.arange(n_features)
    return _simulate(problem, 1.0, coef, problem.tau, 0.3, 1.0)


def few_vary(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """The same, but of the slopes the first two vary alone."""
    coef = 0.5 * (-1.0) ** np.arange(problem.q - 1)
    of_slopes = np.where(np.arange(problem.q - 1) < 2, problem.tau, 0.0)
    return _simulate(problem, 1.0, coef, np.append(problem.tau, of_slopes), 0.3, 1.0)


def classes(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """Yes or no, 1 or 0, of the line of `standard` as log odds."""
    table, line = _line(problem)
    p = 1 / (1 + np.exp(-line))
    y = np.random.default_rng(problem.seed).random(problem.n_rows) < p
    return table, pd.Series(y.astype(float), name="y")


def answers(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """Yes or no, 1 or 0, of every person to every item; a feature of persons, one of items."""
    rng = np.random.default_rng(problem.seed)
    n_persons, n_items = (factor.n_levels for factor in problem.factors)
    person, item = np.divmod(np.arange(n_persons * n_items), n_items)
    anger, kind = rng.standard_normal(n_persons), rng.standard_normal(n_items)
    line = -0.2 + 0.3 * anger[person] - 0.5 * kind[item]
    line += 1.3 * rng.standard_normal(n_persons)[person] + 0.6 * rng.standard_normal(n_items)[item]
    y = rng.random(len(line)) < 1 / (1 + np.exp(-line))
    table = pd.DataFrame({"x0": anger[person], "x1": kind[item], "person": person, "item": item})
    return table, pd.Series(y.astype(float), name="y")


def counts(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """Poisson counts of the line of `standard` as the log of their mean."""
    table, line = _line(problem)
    y = np.random.default_rng(problem.seed).poisson(np.exp(line))
    return table, pd.Series(y.astype(float), name="y")


def _line(problem):
    """`standard` without noise to speak of, and its line."""
    table, y = _simulate(problem, 0.5, [0.5] * (problem.q - 1), problem.tau, 0.3, 1e-9)
    return table, y.to_numpy()


def cafes(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """Minutes of waiting, in states and cafes that differ as much as those."""
    scale = {"state": [0.8, 0.3], "state:cafe": [1.0, 0.5]}
    corr = {"state": -0.3, "state:cafe": -0.6}
    return _simulate(problem, 5.0, [-1.0], scale, corr, 1.0)


def _simulate(problem, intercept, coef, scale, corr, noise):
    from skhier.datasets import make_hierarchical

    sizes = {factor.name: factor.n_levels for factor in problem.factors}
    groups = {
        (f.within, f.name) if f.within else f.name: f.n_levels // sizes.get(f.within, 1)
        for f in problem.factors
    }
    return make_hierarchical(
        problem.n_rows,
        len(coef),
        groups=groups,
        intercept=intercept,
        coef=coef,
        group_scale=scale,
        group_corr=corr,
        noise_scale=noise,
        return_X_y=True,
        random_state=problem.seed,
    )


def schools(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """A table of Chem97's shape: points at A-level by points at GCSE, schools in areas.

    Half of the schools have less than ten pupils, the largest has more than a hundred; an area has
    from one school to about a hundred. The constants are near lme4's estimates on the original.
    """
    rng = np.random.default_rng(problem.seed)
    area, school = problem.factors
    area_of = _skewed(rng, school.n_levels, area.n_levels, 1.0)
    where = _skewed(rng, problem.n_rows, school.n_levels, 1.0)
    gcse = rng.normal(scale=0.87, size=problem.n_rows)
    b = [rng.normal(scale=sd, size=n) for sd, n in ((0.12, area.n_levels), (1.1, school.n_levels))]
    noise = rng.normal(scale=2.3, size=problem.n_rows)
    y = 5.6 + 2.5 * gcse + b[0][area_of[where]] + b[1][where] + noise
    table = pd.DataFrame({"gcse": gcse, "area": area_of[where], "school": where})
    return table, pd.Series(y, name="y")


def ratings(problem: Problem) -> tuple[pd.DataFrame, pd.Series]:
    """A table of InstEval's shape: students by lecturers, of whom few are rated often.

    A lecturer belongs to a department, but a tenth of the ratings is for courses in others.
    """
    rng = np.random.default_rng(problem.seed)
    n = problem.n_rows
    n_students, n_lecturers, n_depts = (factor.n_levels for factor in problem.factors)
    home = rng.integers(n_depts, size=n_lecturers)
    share = rng.dirichlet(np.full(n_lecturers, 0.8))
    student = rng.integers(n_students, size=n)
    student[:n_students] = np.arange(n_students)  # everyone has a row
    lecturer = rng.choice(n_lecturers, size=n, p=share)
    lecturer[:n_lecturers] = rng.permutation(n_lecturers)
    elsewhere = rng.random(n) >= DEPT_SHARE
    dept = np.where(elsewhere, rng.integers(n_depts, size=n), home[lecturer])
    x = rng.standard_normal(n)
    y = 3.2 + 0.1 * x
    for sd, size, code in (
        (0.3, n_students, student),
        (0.5, n_lecturers, lecturer),
        (0.1, n_depts, dept),
    ):
        y = y + sd * rng.standard_normal(size)[code]
    y = y + 1.2 * rng.standard_normal(n)
    table = pd.DataFrame({"x": x, "student": student, "lecturer": lecturer, "dept": dept})
    return table, pd.Series(y, name="y")


def _skewed(rng, n, n_levels, spread):
    """Put n things in levels of log-normal shares, none of them empty; in random order."""
    share = rng.lognormal(sigma=spread, size=n_levels)
    rest = rng.choice(n_levels, size=n - n_levels, p=share / share.sum())
    return rng.permutation(np.concatenate([np.arange(n_levels), rest]))


def codes(table: pd.DataFrame, factor: Factor, factors: tuple[Factor, ...]) -> np.ndarray:
    """Number the levels of a factor, 0 and up; nested ones may share labels between parents."""
    by_name = {f.name: f for f in factors}
    path = [factor.name]
    while parent := by_name[path[0]].within:
        path.insert(0, parent)
    return table.groupby(path, observed=True).ngroup().to_numpy(dtype=np.int64)
