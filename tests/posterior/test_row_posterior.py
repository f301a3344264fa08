"""Quantiles of responses, whose distribution function is all that is known of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skhier.posterior.row_posterior import _inverse
from skhier.responses import StudentT


@pytest.mark.parametrize("centre", [-1e3, -2.0, 0.0, 1e3])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.99])
def test_inverse_reaches_every_side_of_zero(centre, level):
    family = stats.t(4, centre, 50.0)
    at = _inverse(family.cdf, level, np.full((3, 2), centre), StudentT())
    assert_allclose(at, family.ppf(level), atol=1e-6)
