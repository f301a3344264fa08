"""Proposals with parts for scales near 0, for a scale of constant density there."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skhier.inference.importance import (
    Mixture,
    fitted_mixture,
    importance,
    mixture_of,
    with_tails,
    without_tails,
)
from skhier.inference.mode import Laplace, Mode
from skhier.utils.budget import USUAL

N, N_SEEDS = 2**10, 60
SD = 0.5  # of the logarithm at the mode of a half-normal scale, by its curvature


def log_density(points):
    """A standard normal entry and the logarithm of a scale, half-normal."""
    other, log_scale = points.T
    return stats.norm.logpdf(other) + stats.halfnorm.logpdf(np.exp(log_scale)) + log_scale


def modes(*shares):
    normal = Laplace(np.zeros(2), np.diag([1.0, SD]))
    return mixture_of([Mode(normal, np.log(share)) for share in shares])


def mass_below(proposal, quantile, seed):
    weighted = importance(log_density, proposal, N, np.random.default_rng(seed))
    below = weighted.points[:, 1] < np.log(stats.halfnorm.ppf(quantile))
    return weighted.weights @ below


@pytest.mark.parametrize("quantile", [0.01, 0.05])
def test_mass_of_small_scales_is_right_and_known_better(quantile):
    plain, tailed = (
        np.array([mass_below(proposal, quantile, seed) for seed in range(N_SEEDS)])
        for proposal in (modes(1.0), with_tails(modes(1.0), [1]))
    )
    error = tailed.std() / np.sqrt(N_SEEDS)
    assert abs(tailed.mean() - quantile) < 3 * error  # of as many independent runs
    assert tailed.std() < 0.7 * plain.std()


def test_only_scales_that_may_be_zero_have_tails():
    near = with_tails(modes(1.0), [1])
    assert len(near.shares) == 2
    assert_allclose(near.shares.sum(), 1.0)
    assert near.means[1, 1] == near.means[0, 1] - USUAL.importance.tail_shift
    (far,) = modes(1.0).with_normals([Laplace(np.zeros(2), np.diag([1.0, 0.2]))]).normals()
    assert len(with_tails(mixture_of([Mode(far, 0.0)]), [1]).shares) == 1
    assert len(with_tails(modes(1.0), []).shares) == 1


def test_tails_are_counted_with_their_modes():
    two = modes(0.3, 0.7)
    two = two._replace(means=two.means + np.array([[0.0, 0.0], [30.0, 0.0]]))
    proposal: Mixture = with_tails(two, [0, 1])
    assert len(proposal.shares) == 6

    def bimodal(points):
        ours, theirs = (log_density(points - mean) for mean in two.means)
        return np.logaddexp(ours + np.log(0.3), theirs + np.log(0.7))

    weighted = importance(bimodal, proposal, N, np.random.default_rng(0))
    fitted = fitted_mixture(without_tails(weighted, 2))
    assert_allclose(fitted.shares, two.shares, atol=0.02)
    assert_allclose(fitted.means[:, 0], [0, 30], atol=0.1)
