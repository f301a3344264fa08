"""The posterior of theta that a fit of a small table would sample."""

from contextlib import suppress

import numpy as np
import pandas as pd
from runs import spending

from skhier import HierarchicalSlopesRegressor
from skhier.inference import dispatch, engines
from skhier.inference.theta import Theta
from skhier.utils.budget import USUAL


class Taken(Exception):
    """The arguments of the engine are known."""


def table(n_features, n_factors=1, n=120, n_groups=12, seed=3, slope_sd=0.0):
    """Groups differ in their intercepts, and in the slopes of the first factor by ``slope_sd``."""
    rng = np.random.default_rng(seed)
    columns = {f"x{j}": rng.normal(1.0, 1.0, n) for j in range(n_features)}
    y = sum(columns.values(), rng.normal(0.0, 1.0, n))
    for k in range(n_factors):
        codes = rng.integers(n_groups - 5 * k, size=n)
        columns[f"g{k}"] = codes
        y = y + rng.normal(0.0, 0.7, n_groups)[codes]
    if slope_sd:
        x = np.column_stack([columns[f"x{j}"] for j in range(n_features)])
        y = y + (x * rng.normal(0.0, slope_sd, (n_groups, n_features))[columns["g0"]]).sum(1)
    return pd.DataFrame(columns), y


def theta_of(monkeypatch, X, y, budget=USUAL, **settings):
    """Theta of a table whose levels are its columns ``g0``, ``g1``."""
    spec, data, padding = class_data_of(monkeypatch, X, y, budget, **settings)
    return Theta(spec, data, 64, lambda: None, budget=budget, padding=padding)


def class_data_of(monkeypatch, X, y, budget=USUAL, **settings):
    """The spec of such a table's model, the data of its programs, its place among them."""
    taken = []

    def take(*args):
        taken.extend(args)
        raise Taken

    monkeypatch.setattr(dispatch, "run_marginal", take)
    settings = {"groups": [name for name in X.columns if name.startswith("g")]} | settings
    with suppress(Taken):
        spending(HierarchicalSlopesRegressor(**settings), budget).fit(X, y)
    problem, choice, spec, options, *_ = taken
    return spec, *engines.class_data(problem, choice, spec, options)


def assert_means_agree(one, other, function):
    """Means of ``function`` of the points, to five of the weighted points' standard errors."""
    (mean, error), (other_mean, other_error) = (_mean(function(w.points), w) for w in (one, other))
    assert (np.abs(mean - other_mean) < 5 * np.hypot(error, other_error)).all()


def _mean(values, weighted):
    mean = weighted.weights @ values
    return mean, np.sqrt((weighted.weights[:, None] ** 2 * (values - mean) ** 2).sum(0))
