"""Grouping factors: levels, codes, and labels that fit never saw."""

import datetime
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skhier.utils.labels import encode, fit_levels


def objects(*labels):
    array = np.empty(len(labels), object)
    array[:] = labels
    return array


@pytest.mark.parametrize(
    ("labels", "levels"),
    [
        (np.array(["b", "a", "b"]), ["a", "b"]),
        (np.array([3, -1, 3]), [-1, 3]),
        (np.array([1.5, 0, 1.5], "f2"), [0, 1.5]),
        (np.array([2, 1, 2], np.longdouble), [1, 2]),
        (np.array([True, False, True]), [False, True]),
        (objects(2, 1.5, 2), [1.5, 2]),
        (objects(Decimal(2), Decimal(1), Decimal(2)), [Decimal(1), Decimal(2)]),
        (objects((2, 1), (1, 2), (2, 1)), [(1, 2), (2, 1)]),
        (np.array(["2021", "2020", "2021"], "M8[D]"), np.array(["2020", "2021"], "M8[D]")),
        (np.array([b"b", b"a", b"b"]), [b"a", b"b"]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_levels_are_sorted_and_codes_point_at_them(labels, levels):
    found, codes = fit_levels(labels, "g")
    assert found.labels.tolist() == np.asarray(objects(*levels)).tolist()
    assert codes.tolist() == [1, 0, 1]
    again, unseen = encode(labels, found, "g")
    assert again.tolist() == [1, 0, 1]
    assert len(unseen) == 0


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "u8"])
@pytest.mark.parametrize("end", ["min", "max"])
@pytest.mark.parametrize("spread", [1, 1000])
def test_integers_near_the_ends_of_their_type(dtype, end, spread):
    """Close together they are counted, far apart looked up; with pandas' table either way."""
    info = np.iinfo(dtype)
    steps = [0, 5, 2, 5, 0, 7 * spread if info.max > 7000 else 7]
    of_end = [info.min + step if end == "min" else info.max - step for step in steps]
    labels = np.array(of_end, dtype)
    found, codes = fit_levels(labels, "g")
    assert found.labels.dtype == labels.dtype
    assert found.labels.tolist() == sorted(set(of_end))
    assert found.labels[codes].tolist() == of_end
    assert codes.dtype == np.int64


@pytest.mark.parametrize("label", ["a[b],c=1", "\n", "x" * 10_000, "", " ", "None", "nan", "é\0"])
def test_labels_come_back_exactly(label):
    # case 88
    levels, codes = fit_levels(objects(label, "other", label), "g")
    assert levels.labels[codes].tolist() == [label, "other", label]


def test_unseen_labels_get_codes_past_the_last_level():
    # case 72: -1 would index the last group
    levels, _ = fit_levels(objects("a", "b", "c"), "g")
    codes, unseen = encode(objects("z", "b", "y", "z"), levels, "g")
    assert codes.tolist() == [3, 1, 4, 3]
    assert unseen.tolist() == ["z", "y"]


def test_unseen_tuples_and_numbers_are_labels():
    levels, _ = fit_levels(objects((1, 2), (3, 4)), "g")
    assert encode(objects((3, 4), (5, 6)), levels, "g")[0].tolist() == [1, 2]
    levels, _ = fit_levels(np.array([1, 2]), "g")
    assert encode(np.array([1.0, 2.5]), levels, "g")[0].tolist() == [0, 2]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=repr)
@pytest.mark.parametrize("others", [["a", "b"], [1, 2], [1.5, 2.5], [True, False]], ids=repr)
def test_missing_labels_are_counted(missing, others):
    # case 70, in fit and in predict
    labels = objects(*[missing] * 5, *others)
    levels, _ = fit_levels(objects(*others), "g")
    message = r"groups contains 5 missing labels \(first at row 0\) in column 'g'"
    with pytest.raises(ValueError, match=message):
        fit_levels(labels, "g")
    with pytest.raises(ValueError, match=message):
        encode(labels, levels, "g")


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (objects(1, "1"), TypeError, "groups mixes label types: int, str"),
        (objects(np.str_("1"), np.int64(1)), TypeError, "groups mixes label types: int, str"),
        (objects(True, 2), TypeError, "groups mixes label types: bool, int"),
        (objects("a", b"a"), TypeError, "groups mixes label types: bytes, str"),
        (objects("a", (1, 2)), TypeError, "groups mixes label types: str, tuple"),
        (objects("a", [1]), TypeError, r"groups holds \[1\].*must be hashable"),
        (objects({}, {}), TypeError, r"groups holds {}.*must be hashable"),
        (objects({1}, {2}), TypeError, r"groups holds {1}.*must be hashable"),
        (objects({"k": 1}, 1), TypeError, "argument must be .* string.* number"),
        (np.array([1.0, np.inf]), ValueError, r"groups contains infinity.*row 1"),
        (objects(1, -np.inf), ValueError, "groups contains infinity"),
        (np.array([1j]), ValueError, "Complex data not supported"),
        (
            objects(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1)),
            TypeError,
            "groups mixes labels that have no order",
        ),
    ],
)
def test_bad_labels_are_refused(labels, error, message):
    # cases 12, 73, 88
    with pytest.raises(error, match=message):
        fit_levels(labels, "g")


@pytest.mark.parametrize(
    ("known", "new"),
    [
        (np.array([1, 2]), objects("1", "2")),
        (objects("1", "2"), np.array([1, 2])),
        (np.array([1, 0]), np.array([True, False])),
        (objects("a"), objects(b"a")),
        (np.array(["2020"], "M8[D]"), objects("2020-01-01")),
    ],
)
def test_labels_of_another_kind_are_no_unseen_levels(known, new):
    levels, _ = fit_levels(known, "g")
    with pytest.raises(ValueError, match=r"of kind .* but were of kind .* in fit\."):
        encode(new, levels, "g")


def test_encoding_of_a_million_labels_is_quick():
    # case 80
    rng = np.random.default_rng(0)
    names = np.array([f"{i:036d}" for i in range(100_000)], dtype=object)
    labels = names[rng.integers(100_000, size=1_000_000)]
    began = time.process_time()
    levels, codes = fit_levels(labels, "g")
    seconds = time.process_time() - began
    assert_array_equal(levels.labels[codes], labels)
    assert seconds < 2


@pytest.mark.parametrize("present", [[1, 2], [False, True, True]], ids=["index", "mask"])
def test_kept_levels_leave_the_others_unseen(present):
    levels, _ = fit_levels(objects("a", "b", "c"), "g")
    few = levels.keep(np.array(present))
    assert (few.labels.tolist(), few.kind) == (["b", "c"], "string")
    codes, unseen = encode(objects("a", "c"), few, "g")
    assert (codes.tolist(), unseen.tolist()) == ([2, 1], ["a"])


def test_integers_beside_floats_are_compared_exactly():
    large = 2**53  # no float holds the next integer
    levels, _ = fit_levels(np.array([large, large + 1]), "g")
    codes, unseen = encode(np.array([large, 0.5]), levels, "g")
    assert (codes.tolist(), unseen.tolist()) == ([0, 2], [0.5])


def test_days_are_the_same_in_every_unit():
    levels, _ = fit_levels(np.array(["2020-01-01", "2020-01-02"], "M8[D]"), "g")
    days = np.array(["2020-01-02", "2020-01-03"], "M8[ns]")
    for labels in (days, days.astype("M8[s]"), objects(*days.astype("M8[s]").tolist())):
        assert encode(labels, levels, "g")[0].tolist() == [1, 2]
