"""Which columns `groups` and `slopes` mean, and what is said of those that are not there."""

import numpy as np
import pandas as pd
import pytest

from skhier.utils.columns import find_column, resolve_groups, resolve_slopes

NAMES = ["days", "remainder__site", "subject"]


def resolve(groups, slopes="all", names=NAMES):
    return resolve_groups(groups, slopes, names, 3, None)


@pytest.mark.parametrize(
    "groups",
    [
        "subject",
        2,
        -1,
        np.int64(2),
        ["subject"],
        [-1],
        {"subject": "all"},
        lambda X: ["subject"],
        lambda X: pd.Index(["subject"]),
        lambda X: "subject",
        lambda X: 2,
    ],
)
def test_groups_finds_the_column(groups):
    assert resolve(groups) == (2, "subject", "all")


def test_groups_of_an_unnamed_column_is_called_by_its_position():
    assert resolve(-1, names=None) == (2, "x2", "all")


def test_groups_dict_carries_the_slopes():
    assert resolve({"subject": ["days"]}).slopes == ["days"]
    assert resolve({"subject": None}, slopes="all").slopes is None


def test_groups_none_is_no_factor():
    # case 84
    assert resolve(None) is None


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("Subject", ValueError, "`groups='Subject'` is not a column of X. Did you mean 'subject'"),
        ("site", ValueError, r"Did you mean 'remainder__site'\?.*verbose_feature_names_out"),
        ("zzz", ValueError, "`groups='zzz'` is not a column of X. Columns are: 'days',"),
        (3, ValueError, "`groups=3` is out of range: X has 3 columns"),
        (-4, ValueError, "`groups=-4` is out of range"),
        (True, TypeError, "must name columns of X by string or integer. Got True"),
        (1.0, TypeError, "must name columns of X by string or integer. Got 1.0"),
        ({"subject"}, TypeError, "must name columns of X by string or integer. Got {'subject'}"),
        (np.arange(240), TypeError, "must name columns of X by string or integer. Got array"),
        ([], ValueError, "`groups` must name one grouping factor. Got .*, which names 0"),
        (["days", "subject"], ValueError, "must name one grouping factor. Got .* names 2"),
        (["a"] * 240, ValueError, "must name one grouping factor. Got .* names 240"),
        ({}, ValueError, "must name one grouping factor"),
        (("subject",), ValueError, "nesting is not supported"),
        ([("days", "subject")], ValueError, "nesting is not supported"),
        (lambda X: [], ValueError, "`groups` is a callable that picked no column"),
    ],
)
def test_groups_that_name_no_column_are_refused(groups, error, message):
    with pytest.raises(error, match=message) as caught:
        resolve(groups)
    assert len(str(caught.value)) < 300


def test_name_without_names_says_how_to_keep_them():
    with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\).*groups=-1"):
        find_column("subject", None, 3, "groups")


@pytest.mark.parametrize(
    ("slopes", "expected"),
    [("all", (0, 1)), (None, ()), ([], ()), (["b"], (1,)), (["b", "a"], (0, 1)), ([-1], (1,))],
)
def test_slopes_are_positions_among_the_features(slopes, expected):
    # case 63; the group column stands first
    assert resolve_slopes(slopes, [1, 2], ["g", "a", "b"], 3) == expected


@pytest.mark.parametrize(
    ("slopes", "error", "message"),
    [
        ("a", ValueError, "`slopes` must be 'all', None or a list of columns. Got 'a'"),
        (1, ValueError, "`slopes` must be 'all', None or a list of columns. Got 1"),
        ({"a"}, ValueError, "`slopes` must be 'all', None or a list of columns"),
        (["g"], ValueError, "`slopes` names 'g', the grouping column"),
        (["a", "a"], ValueError, "`slopes` names column 'a' more than once"),
        (["a", 1], ValueError, "`slopes` names column 'a' more than once"),
        (["A"], ValueError, "`slopes='A'` is not a column of X. Did you mean 'a'"),
        ([3], ValueError, "`slopes=3` is out of range"),
        ([True], TypeError, "`slopes` must name columns"),
    ],
)
def test_bad_slopes_are_refused(slopes, error, message):
    with pytest.raises(error, match=message):
        resolve_slopes(slopes, [1, 2], ["g", "a", "b"], 3)
