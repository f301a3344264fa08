"""Pareto smoothing at the ends of float64's range; what it does is tested with its users."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skhier.utils.pareto import psis


@pytest.mark.parametrize("spread", [1e3, 3e3, 4.5e3])
def test_hopeless_weights_are_smoothed_without_a_warning(spread):
    """Ratios over thousands of nats: a shape far above 1, whose quantiles overflow."""
    log_weights = np.linspace(0, [spread, 0.9 * spread], 400, axis=-1)
    smoothed, k_hat = psis(log_weights)
    assert np.isfinite(smoothed).all()
    assert np.all(k_hat > 1)
    assert_array_equal(smoothed[:, :-60], log_weights[:, :-60])
    assert np.all(smoothed <= log_weights.max(1, keepdims=True))
