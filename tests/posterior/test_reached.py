"""Quantiles of responses, whose distribution function is all that is known of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skhier.posterior.reached import reached
from skhier.responses import StudentT


@pytest.mark.parametrize("centre", [-1e3, -2.0, 0.0, 1e3])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.99])
def test_quantiles_are_reached_on_every_side_of_zero(centre, level):
    family = stats.t(4, centre, 50.0)
    at = reached(family.cdf, level, np.full((3, 2), centre), StudentT())
    assert_allclose(at, family.ppf(level), atol=1e-6)
