"""The problems, as data.

Each is a table, a set of priors and a list of who runs. Adding one is adding a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from contract import GROUP, Priors
from rivals import BAYESIAN, POINT

__all__ = ["PROBLEMS", "Problem", "make"]

EVERYONE = (*BAYESIAN, *POINT)
QUICK = ("skhier", *POINT)  # a million rows: those who may finish
ALONE = ("skhier",)


@dataclass(frozen=True)
class Problem:
    """A table of ``n_rows`` rows in ``n_groups`` groups with ``q`` effects each.

    Simulated ones have independent standard normal features, slopes of +-0.5, noise of sd 1 and
    group effects of sd ``tau`` and correlation 0.3.
    """

    name: str
    n_rows: int
    n_groups: int
    q: int = 2
    tau: float = 0.5
    seed: int = 1
    generator: str = "simulate"
    rivals: tuple[str, ...] = EVERYONE

    @property
    def priors(self) -> Priors:
        if self.generator == "sleepstudy":  # ms, and ms per day
            return Priors((250.0, 125.0), 25.0, (50.0, 10.0), 50.0)
        return Priors((0.0, 5.0), 2.5, (1.0,) * self.q, 1.0)


PROBLEMS = {
    problem.name: problem
    for problem in [
        Problem("sleepstudy", 180, 18, generator="sleepstudy"),
        Problem("10k_x_500", 10_000, 500),
        Problem("100k_x_1k", 100_000, 1_000),
        Problem("1m_x_10k", 1_000_000, 10_000, rivals=QUICK),
        Problem("q1", 5_000, 100, q=1),
        Problem("q2", 5_000, 100, q=2),
        Problem("q4", 5_000, 100, q=4),
        Problem("q8", 5_000, 100, q=8),
        Problem("tau_near_0", 5_000, 100, tau=0.01),
        # ten rows a group: what does a group cost?
        Problem("groups_1k", 10_000, 1_000, rivals=ALONE),
        Problem("groups_10k", 100_000, 10_000, rivals=ALONE),
        Problem("groups_100k", 1_000_000, 100_000, rivals=ALONE),
        # a thousand groups: what does a row cost?
        Problem("rows_100k", 100_000, 1_000, seed=2, rivals=ALONE),
        Problem("rows_1m", 1_000_000, 1_000, seed=2, rivals=ALONE),
        Problem("rows_10m", 10_000_000, 1_000, seed=2, rivals=ALONE),
    ]
}


def make(problem: Problem) -> dict[str, Any]:
    """Make the table: ``x`` (n_rows, q - 1), ``y``, ``codes`` and the names of ``features``."""
    from skhier.datasets import load_sleepstudy, make_hierarchical

    if problem.generator == "sleepstudy":
        table, y = load_sleepstudy(return_X_y=True, as_frame=True)
        table = table.rename(columns={"Subject": GROUP})
    else:
        table, y = make_hierarchical(
            problem.n_rows,
            problem.q - 1,
            groups={GROUP: problem.n_groups},
            intercept=1.0,
            coef=0.5 * (-1.0) ** np.arange(problem.q - 1),
            group_scale=problem.tau,
            group_corr=0.3,
            return_X_y=True,
            random_state=problem.seed,
        )
    features = [name for name in table.columns if name != GROUP]
    codes = table[GROUP].astype("category").cat.codes.to_numpy(dtype=np.int64)
    x = np.ascontiguousarray(table[features].to_numpy(dtype=float))
    return {"x": x, "y": y.to_numpy(dtype=float), "codes": codes, "features": np.array(features)}
