"""Level means from statistics, against statistics of rows to which they were added as columns."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skhier.statistics.folds import EveryRow, training_problems
from skhier.statistics.group_means import add_group_means, means_of_part
from skhier.statistics.problem import problem_of, reduce_rows
from skhier.statistics.products import level_pairs
from skhier.statistics.reduction import axes_of, merge, reduce_block
from skhier.utils.group_means import MeansOfFactor
from skhier.utils.table import read_table
from skhier.utils.training import Training, read_training

GROUPS = {
    "one": {"g": ["a"]},
    "one, all slopes": {"g": ["a", "b"]},
    "crossed": {"g": ["a"], "h": None},
    "nested": {"s": ["b"], ("s", "h"): ["a"]},
    "three": {"h": ["b"], "s": None, ("s", "g"): ["a"]},
}
OFFSETS = [0.0, 1e6]  # of a feature: its level means are as exact as the feature is


def table(offset=0.0, n=120):
    rng = np.random.default_rng(4)
    g, h = rng.integers(9, size=n), rng.integers(4, size=n)
    a = rng.normal(size=9)[g] + rng.normal(size=n)
    b = 30 * (rng.normal(size=4)[h] + rng.normal(size=n)) + offset
    y = a + b / 30 + rng.normal(size=n)
    return pd.DataFrame({"a": a, "b": b, "g": g, "h": h, "s": g // 3}), y


def read(groups, weighted, offset=0.0):
    X, y = table(offset)
    weights = np.random.default_rng(5).integers(0, 4, len(y)).astype(float) if weighted else None
    return read_training(read_table(X), y, weights, groups, None)


def every_mean(design):
    return [MeansOfFactor((0, 1), True) for _ in design.factors]


def by_hand(design, rows):
    """The rows with the level means as columns, factor by factor."""
    means = []
    for codes in rows.codes.T:
        total = np.bincount(codes, rows.weights)
        for j in range(2):
            means.append((np.bincount(codes, rows.weights * rows.x[:, j]) / total)[codes])
    names = [f"m{k}" for k in range(len(means))]
    x = np.column_stack([rows.x, *means])
    return design._replace(feature_names=[*design.feature_names, *names]), rows._replace(x=x)


def assert_same_statistics(problem, expected, rtol):
    """Each block to rounding of its largest entry."""
    blocks = [problem.units, expected.units]
    for one, other in zip(*([*units[:4], *units[4]] for units in blocks), strict=True):
        assert_allclose(one, other, rtol=rtol)
    ours, theirs = problem.stats, expected.stats
    for mine, by_rows in zip(ours.factors, theirs.factors, strict=True):
        for a, b in zip(mine, by_rows, strict=True):
            assert a.shape == b.shape
            assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max(initial=1.0))
    for mine, by_rows in zip(ours.pairs, theirs.pairs, strict=True):
        assert_allclose(mine.zz, by_rows.zz, rtol=0, atol=rtol * np.abs(by_rows.zz).max())
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max())
    for a, b in zip(problem.scales, expected.scales, strict=True):
        assert_allclose(a, b, rtol=rtol)
    assert problem.plan == expected.plan


def without_medians(problem):
    """Statistics do not tell them."""
    return problem._replace(scales=problem.scales[:5])


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("groups", GROUPS)
def test_statistics_are_those_of_rows_with_the_means(groups, weighted, offset):
    design, rows = read(GROUPS[groups], weighted, offset)
    design_of, of_rows, problem = add_group_means(
        every_mean(design), design, rows, reduce_rows(design, rows)
    )
    expected_design, expected_rows = by_hand(design, rows)
    expected = reduce_rows(expected_design, expected_rows)
    rtol = 1e-12 * max(1.0, offset / 30)
    size = np.abs(expected_rows.x).max(0)
    assert_allclose(of_rows.x / size, expected_rows.x / size, rtol=0, atol=1e-15)
    assert_same_statistics(problem, expected, rtol)
    assert len(design_of.feature_names) == len(problem.reduction.axes.features)
    assert design_of.column_names == design.feature_names


@pytest.mark.parametrize("groups", GROUPS)
def test_folds_have_the_means_of_their_own_rows(groups):
    design, rows = read(GROUPS[groups], weighted=True)
    problem = reduce_rows(design, rows)
    data = EveryRow(design, rows, problem, level_pairs(rows.codes))
    with_means, _, _ = add_group_means(every_mean(design), design, rows, problem)
    order = np.random.default_rng(6).permutation(len(rows.y))
    tests = np.array_split(order, 3)
    folds = [(np.setdiff1d(order, test), test) for test in tests]
    for (train, _), problem in zip(folds, training_problems(data, folds), strict=True):
        of_fold, part = means_of_part(with_means, problem)
        expected_design, expected_rows = by_hand(design, rows.take(train))
        axes = axes_of(expected_design)
        pairs = [pair.take(train) for pair in level_pairs(rows.codes)]
        expected = problem_of(reduce_block(axes, expected_rows, None, pairs))
        expected = expected._replace(plan=part.plan)
        assert_same_statistics(without_medians(part), without_medians(expected), 1e-12)
        empty = np.bincount(rows.codes[train, 0], minlength=9) == 0
        values = of_fold.means[0].values
        assert_array_equal(np.isnan(values), empty[: len(values)])


def test_means_of_merged_statistics_are_those_of_all_rows():
    design, rows = read(GROUPS["crossed"], weighted=True)
    _, _, expected = add_group_means(every_mean(design), design, rows, reduce_rows(design, rows))
    halves = [rows.take(np.arange(len(rows.y)) % 2 == k) for k in range(2)]
    merged = merge(*(reduce_block(axes_of(design), half) for half in halves))
    part = problem_of(merged)
    _, _, ours = add_group_means(every_mean(design), design, rows, part)
    assert_same_statistics(without_medians(ours), without_medians(expected), 1e-12)


def test_constant_features_and_equal_means_are_left_out():
    g = np.repeat(np.arange(6), 4)
    x = np.tile([0.1, 0.2, 0.3, 0.7], 6)  # the same mean in every group
    X = pd.DataFrame({"same": x, "flat": g * 0.1, "both": x + g, "g": g})
    y = np.random.default_rng(0).normal(size=24)
    design, rows = read_training(read_table(X), y, None, "g", None)
    wanted = [MeansOfFactor((0, 1, 2), True)]
    design, rows, problem = add_group_means(wanted, design, rows, reduce_rows(design, rows))
    assert design.feature_names[3:] == ["mean(both | g)"]
    assert design.group_means_left_out() == {"g": ["same", "flat"]}
    assert rows.x.shape == (24, 4)
    assert problem.stats.xx.shape == (5, 5)


def test_name_of_a_mean_that_is_taken_is_an_error():
    X, y = table()
    X = X.rename(columns={"b": "mean(a | g)"})
    design, rows = read_training(read_table(X), y, None, "g", None)
    with pytest.raises(ValueError, match=r"called 'mean\(a \| g\)'"):
        add_group_means([MeansOfFactor((0,), False)], design, rows, reduce_rows(design, rows))


def test_rows_of_weight_two_count_twice():
    design, rows = read({"g": ["a"]}, weighted=True)
    times = rows.weights.astype(int)
    twice = Training(
        *(np.repeat(of_rows, times, axis=0) for of_rows in rows[:3]), np.ones(times.sum())
    )
    wanted = every_mean(design)
    one = add_group_means(wanted, design, rows, reduce_rows(design, rows))[2]
    other = add_group_means(wanted, design, twice, reduce_rows(design, twice))[2]
    assert_array_equal(one.stats.xx, other.stats.xx)
