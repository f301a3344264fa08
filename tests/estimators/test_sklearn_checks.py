"""scikit-learn's own checks of an estimator; none is expected to fail."""

import os
import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    parametrize_with_checks,
)

from skhier import HierarchicalSlopesRegressor

pytestmark = [
    # runs this short cannot converge, and noise as a grouping column has a level a row
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Every group has one row"),
    pytest.mark.filterwarnings("ignore:X has rank"),
    pytest.mark.filterwarnings("ignore:.*unseen group"),
]


def short_run(groups=None):
    """Few draws, yet enough to predict the checks' data with R2 > 0.5."""
    return HierarchicalSlopesRegressor(
        groups, n_chains=1, n_warmup=50, n_draws=20, max_tree_depth=6
    )


@parametrize_with_checks([HierarchicalSlopesRegressor(), short_run(groups=0)])
def test_estimator_passes_sklearn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("groups", [None, 0])
def test_estimator_keeps_column_names_consistent(groups):
    check_dataframe_column_names_consistency("HierarchicalSlopesRegressor", short_run(groups))


ARRAY_API_CHECKS = """
import warnings
from sklearn.utils.estimator_checks import estimator_checks_generator
from skhier import HierarchicalSlopesRegressor

warnings.simplefilter("ignore")
for groups in (None, 0):
    model = HierarchicalSlopesRegressor(groups, n_chains=1, n_warmup=50, n_draws=20)
    for estimator, check in estimator_checks_generator(model):
        if "array_api" in str(check):
            check(estimator)
            print("passed")
"""


@pytest.mark.slow
def test_estimator_passes_the_checks_that_a_variable_of_scipys_enables():
    done = subprocess.run(
        [sys.executable, "-c", ARRAY_API_CHECKS],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["passed"] * 2
