"""PyMC through Bambi, sampled by nutpie."""

import nutpie  # noqa: F401  (Bambi loads it in fit; its import is timed with Bambi's)
from libraries import bambi_pymc


def fit(task, seed):
    return bambi_pymc.fit(task, seed, inference_method="nutpie")
