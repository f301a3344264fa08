"""Writes the table behind ``load_cafes``: twenty cafes of our own making.

The model is that of R. McElreath, Statistical Rethinking, 2nd ed. (2020), sec. 14.1, with its
parameters; the draws are this file's own::

    (a_cafe, b_cafe) ~ MVN((3.5, -1), S R S)   S = diag(1, 0.5)   corr = -0.7
    wait ~ Normal(a_cafe + b_cafe afternoon, 0.5)

Run ``python tests/datasets/make_cafes.py``; it rewrites ``skhier/datasets/data/cafes.csv``.
"""

from pathlib import Path

import numpy as np
import pandas as pd

TABLE = Path(__file__).parents[2] / "skhier" / "datasets" / "data" / "cafes.csv"
N_CAFES, N_VISITS, SEED = 20, 10, 5
MEAN, SCALE, CORR, NOISE = np.array([3.5, -1.0]), np.array([1.0, 0.5]), -0.7, 0.5


def simulate(seed: int = SEED) -> pd.DataFrame:
    """Columns ``cafe``, ``afternoon`` and ``wait`` (minutes, two decimals), 200 rows."""
    rng = np.random.RandomState(seed)  # its stream is the same in every version of NumPy
    root = np.array([[1.0, 0.0], [CORR, np.sqrt(1 - CORR**2)]])
    lines = MEAN + SCALE * (rng.standard_normal((N_CAFES, 2)) @ root.T)
    cafe, visit = np.divmod(np.arange(N_CAFES * N_VISITS), N_VISITS)
    afternoon = visit % 2
    wait = lines[cafe, 0] + lines[cafe, 1] * afternoon + NOISE * rng.standard_normal(len(cafe))
    return pd.DataFrame({"cafe": cafe, "afternoon": afternoon, "wait": wait.round(2)})


if __name__ == "__main__":
    simulate().to_csv(TABLE, index=False)
