"""One small problem and one short run for the tests that look at behaviour, not at accuracy."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor

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
