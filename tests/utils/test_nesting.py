"""Nestings: combinations of labels as levels, and combinations that fit never saw."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skhier.utils.labels import fit_levels
from skhier.utils.nesting import encode_nested, fit_nested


def objects(*labels):
    array = np.empty(len(labels), object)
    array[:] = labels
    return array


def fit(*columns):
    names = [f"c{j}" for j in range(len(columns))]
    return fit_nested(list(map(fit_levels, columns, names)), names)


def obvious(*columns):
    """Levels and codes of rows by sorting tuples."""
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    levels = sorted(set(rows))
    return levels, [levels.index(row) for row in rows]


STATES = objects("b", "a", "b", "a", "b", "b")
CAFES = np.array([10, 9, 9, 9, 10, 2])


@pytest.mark.parametrize(
    "columns",
    [
        (STATES, CAFES),
        (CAFES, STATES),
        (STATES, CAFES, np.array([True, True, False, False, True, True])),
        (STATES.astype("U1"), CAFES / 2),
        (objects(*map(Decimal, CAFES.tolist())), STATES),
        (CAFES.astype("f2"), CAFES[::-1].astype("i1")),
        (STATES[:1], CAFES[:1]),
        (np.repeat("one", 6), CAFES),
    ],
)
def test_levels_are_the_combinations_that_occur_in_order(columns):
    levels, codes = fit(*columns)
    expected, expected_codes = obvious(*columns)
    assert levels.labels.tolist() == expected
    assert levels.labels.dtype == object
    assert codes.tolist() == expected_codes
    again, unseen = encode_nested(columns, levels)
    assert again.tolist() == expected_codes
    assert unseen.tolist() == []


def test_random_combinations_match_sorted_tuples():
    rng = np.random.default_rng(0)
    for n_columns in (2, 3, 5):
        columns = [rng.integers(4, size=200) for _ in range(n_columns)]
        levels, codes = fit(*columns)
        expected, expected_codes = obvious(*columns)
        assert levels.labels.tolist() == expected
        assert codes.tolist() == expected_codes
        new = [rng.integers(5, size=100) for _ in range(n_columns)]
        found, unseen = encode_nested(new, levels)
        known = levels.labels.tolist() + unseen.tolist()
        rows = list(zip(*(column.tolist() for column in new), strict=True))
        assert [known[code] for code in found] == rows
        assert unseen.tolist() == list(dict.fromkeys(r for r in rows if r not in set(expected)))


def test_many_columns_of_many_labels_do_not_overflow():
    # 500**8 combinations are possible, more than int64 counts
    rng = np.random.default_rng(1)
    columns = [rng.permutation(500) for _ in range(8)]
    levels, codes = fit(*columns)
    assert levels.labels.tolist() == obvious(*columns)[0]
    assert_array_equal(encode_nested(columns, levels)[0], codes)


def test_new_combination_of_known_labels_is_unseen():
    levels, _ = fit(STATES, CAFES)
    assert levels.labels.tolist() == [("a", 9), ("b", 2), ("b", 9), ("b", 10)]
    new = objects("a", "b", "z", "a", "a", "z"), np.array([2, 2, 9, 77, 2, 9])
    codes, unseen = encode_nested(new, levels)
    # case 72: the k-th unseen label has code n_levels + k
    assert codes.tolist() == [4, 1, 5, 6, 4, 5]
    assert unseen.tolist() == [("a", 2), ("z", 9), ("a", 77)]


def test_equal_numbers_of_another_dtype_are_the_same_label():
    levels, codes = fit(STATES, CAFES)
    assert encode_nested((STATES, CAFES.astype(float)), levels)[0].tolist() == codes.tolist()
    again, unseen = encode_nested((STATES.astype("U1"), CAFES + 0.5), levels)
    assert again.tolist() == [4, 5, 6, 5, 4, 7]
    assert unseen.tolist() == [("b", 10.5), ("a", 9.5), ("b", 9.5), ("b", 2.5)]


def test_labels_are_plain_python_objects():
    days = np.array(["2021-01-01", "2020-01-01"], "M8[ns]")
    levels, _ = fit(np.array([1, 1]), np.array(["u", "v"]), days)
    first = levels.labels[0]
    assert [type(label) for label in first] == [int, str, np.datetime64]
    assert first[-1] == days[0]


def test_categories_without_rows_are_no_labels():
    # case 77
    states = pd.Series(["b", "a"], dtype=pd.CategoricalDtype(["c", "b", "a"]))
    levels, codes = fit(np.asarray(states), np.array([1, 1]))
    assert levels.labels.tolist() == [("a", 1), ("b", 1)]
    assert codes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("known", "new"),
    [
        (np.array([1, 2]), objects("1", "2")),
        (objects("1", "2"), np.array([1, 2])),
        (np.array([1, 0]), np.array([True, False])),
    ],
)
def test_labels_of_another_kind_name_the_column(known, new):
    states = objects("u", "v")
    levels, _ = fit(states, known)
    with pytest.raises(ValueError, match=r"labels of 'c1' are of kind .* of kind .* in fit\."):
        encode_nested((states, new), levels)


def test_bad_labels_name_the_column():
    message = r"groups contains 1 missing labels \(first at row 1\) in column 'c1'"
    states, missing = objects("u", "v"), objects("x", None)
    with pytest.raises(ValueError, match=message):
        fit(states, missing)
    levels, _ = fit(states, objects("x", "y"))
    with pytest.raises(ValueError, match=message):
        encode_nested((states, missing), levels)
    with pytest.raises(TypeError, match=r"groups mixes label types: int, str \(column 'c0'\)"):
        fit(objects(1, "1"), states)


@pytest.mark.parametrize("present", [[0, 3], [True, False, False, True]], ids=["index", "mask"])
def test_kept_levels_leave_nothing_of_the_others(present):
    levels = fit(STATES, CAFES)[0].keep(np.array(present))
    assert levels.labels.tolist() == [("a", 9), ("b", 10)]
    assert [part.labels.tolist() for part in levels.parts] == [["a", "b"], [9, 10]]
    codes, unseen = encode_nested((STATES, CAFES), levels)
    assert codes.tolist() == [1, 0, 2, 0, 1, 3]
    assert unseen.tolist() == [("b", 9), ("b", 2)]


def test_a_million_rows_of_a_hundred_thousand_combinations():
    # case 80: loops over rows or combinations would be felt here
    pair = np.random.default_rng(0).integers(100_000, size=1_000_000)
    states = objects(*(f"{i:036d}" for i in range(500)))[pair % 500]
    levels, codes = fit(states, pair // 500)
    assert len(levels.labels) == len(np.unique(pair))
    known = pd.MultiIndex.from_arrays([states, pair // 500])
    assert_array_equal(pd.MultiIndex.from_tuples(levels.labels).get_indexer(known), codes)
    assert_array_equal(encode_nested((states, pair // 500), levels)[0], codes)
