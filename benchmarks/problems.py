"""The problems, as data.

Each is a table, a set of priors and a list of who runs. Adding one is adding a line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tables
from contract import Factor
from problem import Problem
from rivals import POINT, rivals_of

__all__ = ["PROBLEMS", "make"]

QUICK = ("skhier", *POINT)  # a million rows: those who may finish
ALONE = ("skhier",)


def one(n_groups: int, q: int = 2) -> tuple[Factor]:
    """One factor; the slopes of all ``q - 1`` features vary."""
    return (Factor("group", n_groups, tuple(f"x{j}" for j in range(q - 1))),)


PROBLEMS = {
    problem.name: problem
    for problem in [
        Problem(
            "sleepstudy",
            180,
            (Factor("group", 18, ("Days",)),),
            tables.sleepstudy,
            intercept=(250.0, 125.0),  # ms, and ms per day
            coef=25.0,
            group_scale=(50.0, 10.0),
            noise_scale=50.0,
        ),
        Problem("10k_x_500", 10_000, one(500)),
        Problem("100k_x_1k", 100_000, one(1_000)),
        Problem("1m_x_10k", 1_000_000, one(10_000), rivals=QUICK),
        Problem("q1", 5_000, one(100, q=1)),
        Problem("q2", 5_000, one(100, q=2)),
        Problem("q4", 5_000, one(100, q=4)),
        Problem("q8", 5_000, one(100, q=8)),
        Problem("slopes_7", 10_000, one(100, q=8)),
        Problem("slopes_10_of_2", 1_000, one(50, q=11), tables.few_vary),
        Problem("slopes_15", 10_000, one(100, q=16)),
        Problem("tau_near_0", 5_000, one(100), tau=0.01),
        # ten rows a group: what does a group cost?
        Problem("groups_1k", 10_000, one(1_000), rivals=ALONE),
        Problem("groups_10k", 100_000, one(10_000), rivals=ALONE),
        Problem("groups_100k", 1_000_000, one(100_000), rivals=ALONE),
        # a thousand groups: what does a row cost?
        Problem("rows_100k", 100_000, one(1_000), seed=2, rivals=ALONE),
        Problem("rows_1m", 1_000_000, one(1_000), seed=2, rivals=ALONE),
        Problem("rows_10m", 10_000_000, one(1_000), seed=2, rivals=ALONE),
        # several factors
        Problem(
            "cafes_in_states",
            10_000,
            (Factor("state", 20, ("x0",)), Factor("cafe", 500, ("x0",), within="state")),
            tables.cafes,
            intercept=(5.0, 5.0),  # minutes, and minutes per standard unit of x0
        ),
        Problem(
            "chem97_like",
            31_022,
            (Factor("area", 131), Factor("school", 2_410, within="area")),
            tables.schools,
            seed=0,
            intercept=(5.0, 5.0),  # A-level points, 0 to 10, and those per GCSE point
        ),
        Problem(
            "insteval_like",
            73_000,
            (Factor("student", 3_000), Factor("lecturer", 1_100), Factor("dept", 14)),
            tables.ratings,
            seed=0,
            intercept=(3.0, 2.0),  # a rating's points, 1 to 5
            coef=1.0,
        ),
        Problem(
            "nested_100k",
            1_000_000,
            (Factor("parent", 1_000, ("x0",)), Factor("leaf", 100_000, ("x0",), within="parent")),
            rivals=QUICK,
        ),
        # other responses than the normal
        Problem(
            "bernoulli_2k_x_60",
            2_000,
            one(60),
            tables.classes,
            rivals=rivals_of("bernoulli"),
            intercept=(0.0, 2.5),
            response="bernoulli",
        ),
        Problem(
            "poisson_20k_x_500",
            20_000,
            one(500),
            tables.counts,
            rivals=rivals_of("poisson"),
            intercept=(0.0, 2.5),
            response="poisson",
        ),
        Problem(
            "answers_316_x_24",
            7_584,
            (Factor("person", 316), Factor("item", 24)),
            tables.answers,
            rivals=rivals_of("bernoulli"),
            intercept=(0.0, 2.5),
            response="bernoulli",
        ),
    ]
}


def make(problem: Problem) -> dict[str, Any]:
    """Make the table: ``x`` (n_rows, n_features), ``y``, names of ``features``, codes."""
    table, y = (problem.table or tables.standard)(problem)
    names = [factor.name for factor in problem.factors]
    features = [name for name in table.columns if name not in names]
    codes = {f"codes_{f.name}": tables.codes(table, f, problem.factors) for f in problem.factors}
    for factor in problem.factors:
        n_levels = len(np.unique(codes[f"codes_{factor.name}"]))
        assert n_levels == factor.n_levels, (problem.name, factor.name, n_levels)
    x = np.ascontiguousarray(table[features].to_numpy(dtype=float))
    return {
        "x": x,
        "y": y.to_numpy(dtype=float),
        "features": np.array(features, dtype=str),
        **codes,
    }
