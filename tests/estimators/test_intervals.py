"""Intervals of rows that have a spread given the draws beside rows that have none."""

import numpy as np
import pytest
from numpy.testing import assert_allclose


@pytest.mark.filterwarnings("ignore:.*unseen group:UserWarning")
@pytest.mark.parametrize("factor", ["a", "b"])
def test_interval_of_a_row_does_not_depend_on_unseen_levels_in_the_call(
    crossed_fit, crossed, factor
):
    # of a factor that is not the leaf, known levels are points given a draw; unseen ones are not
    known = crossed.data.iloc[:20]
    mixed = known.copy()
    mixed.loc[mixed.index[10:], factor] = "new"
    settings = {"kind": "mean", "level": [factor]}
    solved = {"rtol": 0, "atol": 2e-10}  # each end is found to 1e-10 of an sd, which is below 1
    alone = crossed_fit.predict_interval(known, **settings)
    beside = crossed_fit.predict_interval(mixed, **settings)
    assert_allclose(beside[:10], alone[:10], **solved)
    one = np.concatenate(
        [crossed_fit.predict_interval(known.iloc[[i]], **settings) for i in range(5)]
    )
    assert_allclose(one, alone[:5], **solved)
