"""Which columns `groups` and `slopes` mean, and what is said of those that are not there."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector

from skhier.utils.columns import (
    find_column,
    forbid_unused_slopes,
    resolve_columns,
    resolve_groups,
)
from skhier.utils.table import table_of

NAMES = ["days", "remainder__site", "subject"]


def resolve(groups, slopes="all", names=NAMES):
    return resolve_groups(groups, slopes, names, 3, None)


def called(factors):
    return [factor.name for factor in factors]


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
        [{"subject": "all"}],
        lambda X: ["subject"],
        lambda X: pd.Index(["subject"]),
        lambda X: np.array(["subject"]),
        lambda X: ("subject",),
        lambda X: "subject",
        lambda X: 2,
        lambda X: {"subject": "all"},
    ],
)
def test_groups_finds_the_column(groups):
    assert resolve(groups) == (((2,), "subject", "all"),)


def test_groups_of_an_unnamed_column_is_called_by_its_position():
    assert resolve(-1, names=None) == (((2,), "x2", "all"),)
    assert resolve([(-1, 0)], names=None) == (((2, 0), "x2:x0", "all"),)


@pytest.mark.parametrize(
    "groups",
    [
        ["subject", "days"],
        [-1, "days"],
        {"subject": "all", 0: "all"},
        [{"subject": "all"}, "days"],
        lambda X: ["subject", "days"],
        lambda X: pd.Index(["subject", "days"]),
        lambda X: ("subject", "days"),
    ],
)
def test_several_columns_are_crossed_factors(groups):
    assert resolve(groups) == (((2,), "subject", "all"), ((0,), "days", "all"))


@pytest.mark.parametrize(
    "groups",
    [
        [("subject", "days")],
        [(2, 0)],
        [("subject", -3)],
        {("subject", "days"): "all"},
        [{("subject", "days"): "all"}],
        lambda X: [("subject", "days")],
    ],
)
def test_tuple_in_a_list_is_one_nested_factor(groups):
    assert resolve(groups) == (((2, 0), "subject:days", "all"),)


def test_nesting_of_three_columns_beside_its_own_parts():
    groups = ["subject", ("subject", "days"), ("subject", "days", 1)]
    factors = resolve(groups)
    assert called(factors) == ["subject", "subject:days", "subject:days:remainder__site"]
    assert [factor.positions for factor in factors] == [(2,), (2, 0), (2, 0, 1)]


def test_groups_dict_carries_the_slopes():
    (factor,) = resolve({"subject": ["days"]})
    assert factor.slopes == ["days"]
    (factor,) = resolve({"subject": None}, slopes="all")
    assert factor.slopes is None


def test_slopes_apply_to_the_factors_without_their_own():
    groups = ["subject", {"days": None, ("subject", "days"): ["remainder__site"]}]
    factors = resolve(groups, slopes=[1])
    assert [factor.slopes for factor in factors] == [[1], None, ["remainder__site"]]


def test_callable_sees_the_table():
    table = pd.DataFrame({"x": [1.0], "state": ["a"], "cafe": ["b"]})
    picks = make_column_selector(dtype_exclude="number")
    assert called(resolve_groups(picks, None, list(table), 3, table)) == ["state", "cafe"]


def test_groups_none_is_no_factor():
    # case 84
    assert resolve(None) == ()


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
        ([], ValueError, r"must name a column, and \[\] names none. Set groups=None"),
        ({}, ValueError, "must name a column, and {} names none"),
        ((), ValueError, r"must name a column, and \(\) names none"),
        (["days", {}], ValueError, "must name a column, and {} names none"),
        (["a"] * 240, ValueError, "`groups='a'` is not a column of X"),
        (["days", "zzz"], ValueError, "`groups='zzz'` is not a column of X"),
        ({"zzz": None}, ValueError, "`groups='zzz'` is not a column of X"),
        ([("days", "zzz")], ValueError, "`groups='zzz'` is not a column of X"),
        (["days", 1.0], TypeError, "by string or integer. Got 1.0"),
        (["days", ["subject"]], TypeError, r"by string or integer. Got \['subject'\]"),
        ([("days", True)], TypeError, "by string or integer. Got True"),
        ([("days", ("subject", 1))], TypeError, r"by string or integer. Got \('subject', 1\)"),
        ({None: "all"}, TypeError, "by string or integer. Got None"),
        ([()], ValueError, r"`groups` holds \(\), and a nesting has two columns or more"),
        ([("days",)], ValueError, r"holds \('days',\).* Write 'days' for the column itself"),
        ({("days",): None}, ValueError, r"holds \('days',\), and a nesting has two columns"),
        ([("days", "days")], ValueError, "names column 'days' twice in the nesting"),
        ([("days", 2, 0)], ValueError, "names column 'days' twice in the nesting"),
        (["days", "days"], ValueError, "one factor twice: 'days' and 'days' have the same levels"),
        (["subject", -1], ValueError, "one factor twice: 'subject' and 'subject'"),
        ({"subject": "all", -1: None}, ValueError, "one factor twice: 'subject' and 'subject'"),
        (["days", {"days": None}], ValueError, "one factor twice: 'days' and 'days'"),
        (
            [("days", "subject"), ("subject", "days")],
            ValueError,
            "one factor twice: 'days:subject' and 'subject:days' have the same levels. Leave one",
        ),
        (lambda X: [], ValueError, "`groups` is a callable that picked no column"),
        (lambda X: {}, ValueError, "`groups` is a callable that picked no column"),
        (lambda X: None, ValueError, "`groups` is a callable that picked no column"),
        (lambda X: 1.5, TypeError, "by string or integer. Got 1.5"),
        (lambda X: np.array([True, False, True]), TypeError, "by string or integer. Got .*True"),
    ],
)
def test_groups_that_name_no_column_are_refused(groups, error, message):
    with pytest.raises(error, match=message) as caught:
        resolve(groups)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("groups", "pieces"),
    [
        (("days", "subject"), ["groups=[('days', 'subject')]", "groups=['days', 'subject']"]),
        ((0, "subject"), ["groups=[(0, 'subject')]", "groups=[0, 'subject']"]),
        (("days", "subject"), ["one factor ('subject' nested within 'days')", "crossed factors"]),
        (("subject",), ["Pass groups='subject' instead"]),
        ((("days", 1), "subject"), ["list of factors: groups=[('days', 1), 'subject']"]),
    ],
)
def test_tuple_outside_a_list_is_refused_with_what_it_may_mean(groups, pieces):
    with pytest.raises(ValueError, match="`groups` is ") as caught:
        resolve(groups)
    assert all(piece in str(caught.value) for piece in pieces)
    assert len(str(caught.value)) < 300


def test_factors_with_one_name_are_refused():
    with pytest.raises(ValueError, match=r"Two factors of `groups` would be called 'a:b'\. Rename"):
        resolve(["a:b", ("a", "b")], names=["a:b", "a", "b"])


def test_name_without_names_says_how_to_keep_them():
    with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\).*groups=-1"):
        find_column("subject", None, 3, "groups")


@pytest.mark.parametrize(
    ("slopes", "expected"),
    [("all", (0, 1)), (None, ()), ([], ()), (["b"], (1,)), (["b", "a"], (0, 1)), ([-1], (1,))],
)
def test_slopes_are_positions_among_the_features(slopes, expected):
    # case 63; the group column stands first
    assert resolve_columns(slopes, [1, 2], ["g", "a", "b"], 3) == expected


@pytest.mark.parametrize(
    ("slopes", "error", "message"),
    [
        ("a", ValueError, "`slopes` must be 'all', None or a list of columns. Got 'a'"),
        (1, ValueError, "`slopes` must be 'all', None or a list of columns. Got 1"),
        ({"a"}, ValueError, "`slopes` must be 'all', None or a list of columns"),
        ({"a": None}, ValueError, r"instead\. For slopes of each factor, groups=\{'a': None\}\."),
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
        resolve_columns(slopes, [1, 2], ["g", "a", "b"], 3)


def test_slopes_know_of_several_grouping_columns():
    with pytest.raises(ValueError, match="`slopes` names 'h', a grouping column, which is no"):
        resolve_columns(["a", "h"], [1], ["g", "a", "h"], 3)


DICT = {"subject": ["days"]}


@pytest.mark.parametrize("slopes", [None, [], ["days"], ["zzz"], "days", ("days",), np.array([0])])
@pytest.mark.parametrize("groups", [DICT, [DICT], [DICT, {"days": None}], {("subject", 1): None}])
def test_slopes_that_no_factor_uses_are_refused(groups, slopes):
    message = (
        r"^`slopes=.* would not be used.*use one of the two, groups=\{.*\} without `slopes`, or"
    )
    with pytest.raises(ValueError, match=message) as caught:
        forbid_unused_slopes(groups, slopes)
    assert len(str(caught.value)) < 300
    with pytest.raises(ValueError, match="would not be used"):
        resolve(lambda X: groups, slopes)


@pytest.mark.parametrize(
    ("groups", "pieces"),
    [
        (DICT, ["groups={'subject': ['x']}", "groups='subject' with"]),
        ({"a": None, "b": None}, ["groups={'a': ['x'], ...}", "groups=['a', 'b'] with"]),
        ({("a", "b"): None}, ["groups={('a', 'b'): ['x']}", "groups=[('a', 'b')] with"]),
    ],
)
def test_refused_slopes_are_shown_where_they_could_be(groups, pieces):
    with pytest.raises(ValueError, match="use one of the two") as caught:
        forbid_unused_slopes(groups, ["x"])
    assert all(piece in str(caught.value) for piece in pieces)


@pytest.mark.parametrize(
    ("groups", "slopes"),
    [(DICT, "all"), (["days", DICT], ["zzz"]), ("subject", ["x"]), (None, ["x"]), ([], ["x"])],
)
def test_slopes_that_a_factor_uses_are_left_alone(groups, slopes):
    forbid_unused_slopes(groups, slopes)


@pytest.mark.parametrize("groups", ["subject", ["x", "subject"], ("subject",), {"subject": None}])
@pytest.mark.parametrize("names", [["x"], None])
def test_column_in_the_row_index_is_hinted_at(groups, names):
    table = pd.DataFrame({"x": [1.0]}, index=pd.MultiIndex.from_tuples([("a", 1)]))
    table.index.names = ["subject", None]
    groups = ["subject"] if groups == ("subject",) else groups
    if names is None and groups == ["x", "subject"]:
        groups = [0, "subject"]
    with pytest.raises(
        ValueError, match=r"'subject'` is not a column of X.*row index.*X.reset_index"
    ):
        resolve_groups(groups, "all", names, 1, table, table_of(table).index)


def test_slope_in_the_row_index_is_hinted_at():
    with pytest.raises(ValueError, match=r"`slopes='t'` is not a column of X.*X.reset_index\(\)"):
        resolve_columns(["t"], [0], ["x"], 1, ["t"])


def test_column_beside_an_index_of_its_name_is_the_column():
    table = pd.DataFrame({"x": [1.0], "g": [2]}).rename_axis("g")
    assert called(resolve_groups("g", "all", ["x", "g"], 2, table, ["g"])) == ["g"]
