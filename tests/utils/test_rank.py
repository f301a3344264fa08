"""Linear dependence among columns; what is said of it is tested with the design."""

import numpy as np
import pytest

from skhier.utils.rank import linear_dependence

X = np.random.default_rng(0).normal(size=(40, 3)) + 5


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (X, ([0, 1, 2], [], False)),
        (np.c_[X, X @ [1, -2, 0.5]], ([0, 1, 2], [3], False)),
        (np.c_[X, X @ [1, -2, 0.5] + 1], ([0, 1, 2], [3], True)),
        (np.c_[X[:, 0], 2 * X], ([0, 2, 3], [1], False)),
        (X[:, :0], ([], [], False)),
    ],
)
def test_dependent_columns_are_found(x, expected):
    centred = x - x.mean(0)
    assert linear_dependence(centred.T @ centred, x.mean(0)) == expected
