"""Seconds, evaluations and effective draws of fits with many varying slopes.

    python benchmarks/many_slopes.py [7 "10 of 2" ...]

Each row is fitted twice with default settings; what the first fit takes longer is compiling, in a
process of its own, without JAX's cache on disk, all of it. Of "10 of 2" two slopes vary and eight
do not. The last column is the worst of R-hat.
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor

# rows, levels of each factor, features, how many of them vary, correlated
ROWS = {
    "7": (10_000, (100,), 7, 7, True),
    "10 of 2": (1_000, (50,), 10, 2, True),
    "10 of 2, independent": (1_000, (50,), 10, 2, False),
    "15": (10_000, (100,), 15, 15, True),
    "20": (10_000, (100,), 20, 20, True),
    "30": (10_000, (100,), 30, 30, True),
    "7, crossed": (10_000, (100, 20), 7, 7, True),
}


def simulate(n, levels, n_features, n_varying, seed=0):
    """Unit noise; sds of 0.8 for intercepts, 0.5 for slopes that vary; random correlations."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n_features))
    z = np.column_stack([x, np.ones(n)])
    y = 1 + 0.5 * x @ rng.standard_normal(n_features) + rng.standard_normal(n)
    X = pd.DataFrame(x, columns=[f"x{j}" for j in range(n_features)])
    tau = np.append(np.where(np.arange(n_features) < n_varying, 0.5, 0.0), 0.8)
    root = rng.standard_normal((n_features + 1, 2 * (n_features + 1)))
    root *= (tau / np.linalg.norm(root, axis=1))[:, None]
    for k, n_levels in enumerate(levels):
        codes = rng.integers(n_levels, size=n)
        effects = root @ rng.standard_normal((root.shape[1], n_levels))
        X[f"g{k}"] = codes
        y = y + (z * effects[:, codes].T).sum(1)
    return X, y, list(X.columns[n_features:])


def main():
    """Fit the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {list(ROWS)}; all by default")
    print("row, seconds of both fits, compiling, sampler, k-hat, ESS, evaluations, R-hat")
    for row in parser.parse_args().rows or ROWS:
        n, levels, n_features, n_varying, correlated = ROWS[row]
        X, y, groups = simulate(n, levels, n_features, n_varying)
        model = HierarchicalSlopesRegressor(groups, correlated=correlated, random_state=0)
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(X, y)
            seconds.append(round(time.perf_counter() - began, 1))
        facts = model.diagnostics_
        names = "sampler", "pareto_k", "ess_bulk", "evaluations", "r_hat"
        compiling = round(seconds[0] - seconds[1], 1)
        print(row, seconds, compiling, *(facts[name] for name in names), sep=", ", flush=True)


if __name__ == "__main__":
    main()
