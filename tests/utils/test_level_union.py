"""Levels of blocks of rows unite to those of all rows."""

import numpy as np
import pandas as pd
import pytest

from skhier.utils.labels import Levels, fit_levels
from skhier.utils.level_union import NO_LEVELS, unite_levels
from skhier.utils.nesting import fit_nested

RNG = np.random.default_rng(0)
LABELS = {
    "strings": np.array(list("qwertyuiop"), dtype=object),
    "integers": np.array([3, -1, 10, 2**60, 7]),
    "floats": np.array([0.5, -1.0, 3.0]),
    "booleans": np.array([True, False]),
    "days": pd.date_range("2020-01-01", periods=6).to_numpy(),
    "others": np.array([frozenset({k}) for k in (3, 1, 2)], dtype=object),
}


@pytest.mark.parametrize("kind", LABELS)
def test_united_levels_are_those_of_all_rows(kind):
    labels = LABELS[kind][RNG.integers(len(LABELS[kind]), size=30)]
    blocks = np.split(labels, [4, 9, 10])
    sets = [fit_levels(block, "g")[0] for block in blocks]
    levels, places = unite_levels(sets, "g")
    expected, _ = fit_levels(labels, "g")
    assert levels.labels.tolist() == expected.labels.tolist()
    assert (levels.kind, levels.labels.dtype) == (expected.kind, expected.labels.dtype)
    for part, at in zip(sets, places, strict=True):
        assert levels.labels[at].tolist() == part.labels.tolist()


def nested(columns):
    return fit_nested(list(map(fit_levels, columns, "ab")), ["a", "b"])


def test_united_nestings_are_those_of_all_rows():
    columns = [LABELS["strings"][RNG.integers(4, size=30)], RNG.integers(3, size=30)]
    blocks = [np.split(column, [3, 8]) for column in columns]
    sets = [nested(block)[0] for block in zip(*blocks, strict=True)]
    levels, places = unite_levels(sets, "a:b")
    expected, _ = nested(columns)
    assert levels.labels.tolist() == expected.labels.tolist()
    assert levels.codes.tolist() == expected.codes.tolist()
    for part, at in zip(sets, places, strict=True):
        assert levels.labels[at].tolist() == part.labels.tolist()


def test_integers_beside_floats_stay_what_they_are():
    large = 2**53 + 1  # which no float is
    sets = [Levels(np.array([large]), "number"), Levels(np.array([0.5]), "number")]
    levels, places = unite_levels(sets, "g")
    assert levels.labels.tolist() == [0.5, large]
    assert [at.tolist() for at in places] == [[1], [0]]


def test_no_levels_change_nothing():
    levels, _ = fit_levels(LABELS["strings"], "g")
    united, places = unite_levels([NO_LEVELS, levels, NO_LEVELS], "g")
    assert united is levels
    assert [len(at) for at in places] == [0, 10, 0]
    assert unite_levels([NO_LEVELS], "g")[0] is NO_LEVELS


def test_labels_of_other_kinds_are_refused():
    sets = [fit_levels(LABELS[kind], "g")[0] for kind in ("strings", "days")]
    with pytest.raises(ValueError, match=r"labels of 'g' .*string \(such as 'e'\), datetime"):
        unite_levels(sets, "g")


def test_days_are_united_whatever_holds_them():
    days = np.array(["2020-01-01", "2020-01-03"], "M8[ns]")
    other = np.array(["2020-01-02", "2020-01-03"], "M8[s]").astype(object)
    sets = [fit_levels(days, "g")[0], fit_levels(other, "g")[0]]
    levels, places = unite_levels(sets, "g")
    assert levels.labels.astype("M8[D]").astype(str).tolist() == [
        f"2020-01-0{k}" for k in (1, 2, 3)
    ]
    assert [at.tolist() for at in places] == [[0, 2], [1, 2]]
