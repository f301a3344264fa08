"""Small problems and runs that several files look at; do not modify."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

# the same shapes and settings everywhere: one compiled program
SHORT = {"n_chains": 2, "n_warmup": 100, "n_draws": 50, "random_state": 0}


@pytest.fixture(scope="session")
def people():
    """X (x, subject) and y: ten subjects with lines of their own, eight rows each."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(10), 8)
    x = rng.normal(size=80)
    lines = rng.normal([1, 2], [1, 0.5], size=(10, 2))
    y = lines[code, 0] + lines[code, 1] * x + 0.3 * rng.normal(size=80)
    return pd.DataFrame({"x": x, "subject": [f"s{g}" for g in code]}), y


@pytest.fixture(scope="session")
def fitted(people):
    """A short run on ``people``; do not modify."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return HierarchicalSlopesRegressor("subject", **SHORT).fit(*people)


@pytest.fixture
def short_run():
    """Makes unfitted estimators that sample quickly; arguments are the estimator's."""

    def make(groups="subject", **params):
        return HierarchicalSlopesRegressor(groups, **{**SHORT, **params})

    return make


@pytest.fixture(scope="session")
def crossed():
    """Factors a and b, whose slopes are those of different features; 150 rows."""
    return make_hierarchical(
        150,
        2,
        groups={"a": 8, "b": 6},
        slopes={"a": ["x0"], "b": ["x1"]},
        group_scale={"a": [1.0, 0.7], "b": [0.8, 0.4]},
        group_corr=0.3,
        intercept=2.0,
        coef=[1.0, -0.5],
        noise_scale=0.5,
        random_state=0,
    )


@pytest.fixture(scope="session")
def crossed_fit(crossed):
    model = HierarchicalSlopesRegressor(crossed.groups, random_state=0)
    return model.fit(crossed.data, crossed.target)


@pytest.fixture(scope="session")
def nested():
    """Cafes within states, a slope by state; cafe 1 of one state is not cafe 1 of another."""
    return make_hierarchical(
        150,
        1,
        groups={"state": 5, ("state", "cafe"): 4},
        slopes={"state": ["x0"], ("state", "cafe"): None},
        group_scale=0.7,
        noise_scale=0.5,
        random_state=1,
    )


@pytest.fixture(scope="session")
def nested_fit(nested):
    model = HierarchicalSlopesRegressor(nested.groups, random_state=0)
    return model.fit(nested.data, nested.target)
