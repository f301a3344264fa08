"""The simultaneous band and its p-value, against enumeration and simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from skhier.utils.uniformity import (
    counts_below,
    pointwise_tails,
    probability_inside,
    rank_band,
    rank_p_value,
)


def all_samples(n, n_ranks):
    """Every outcome of n ranks; equally probable if uniform."""
    return np.array(list(product(range(n_ranks), repeat=n)))


def test_probability_inside_matches_enumeration():
    counts = np.array([counts_below(ranks, 4) for ranks in all_samples(6, 4)])
    low, high = np.array([0, 1, 4]), np.array([3, 5, 6])
    inside = np.all((counts >= low) & (counts <= high), axis=1).mean()
    assert np.isclose(probability_inside(low, high, 6), inside, rtol=1e-12)


def test_p_value_matches_enumeration():
    samples = all_samples(5, 4)
    smallest = [pointwise_tails(counts_below(ranks, 4), 5).min() for ranks in samples]
    for i in range(0, len(samples), 97):
        p = np.mean(np.array(smallest) <= smallest[i] * (1 + 1e-9))
        assert np.isclose(rank_p_value(samples[i], 4), p, rtol=1e-10)


@pytest.mark.parametrize(("n", "n_ranks", "coverage"), [(1000, 100, 0.95), (50, 20, 0.8)])
def test_band_covers_as_often_as_it_says(n, n_ranks, coverage):
    low, high = rank_band(n, n_ranks, coverage)
    n_samples = 20_000
    shares = np.full(n_ranks, 1 / n_ranks)
    samples = np.random.default_rng(0).multinomial(n, shares, size=n_samples)
    counts = samples[:, :-1].cumsum(axis=1)
    inside = np.all((counts >= low) & (counts <= high), axis=1).sum()
    least, most = binom.ppf([1e-6, 1 - 1e-6], n_samples, probability_inside(low, high, n))
    assert least <= inside <= most
    # counts are discrete: a little more than asked for, never less
    assert coverage <= probability_inside(low, high, n) < coverage + 0.01


def test_band_and_p_value_agree():
    low, high = rank_band(200, 50, 0.9)
    rng = np.random.default_rng(1)
    for _ in range(200):
        ranks = rng.integers(50, size=200)
        counts = counts_below(ranks, 50)
        inside = np.all((counts >= low) & (counts <= high))
        assert inside == (rank_p_value(ranks, 50) > 1 - probability_inside(low, high, 200))


def test_small_p_values_are_not_rounded_to_zero():
    narrow = np.random.default_rng(0).binomial(99, 0.5, size=300)
    assert 0 < rank_p_value(narrow, 100) < 1e-20
