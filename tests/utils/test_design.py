"""From tables to designs, and what the warnings say of them."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from runs import budget

from skhier.statistics.products import level_pairs
from skhier.utils.design import fit_design, read_rows
from skhier.utils.identifiability import design_warnings, slope_notes, slope_warnings
from skhier.utils.levels import place_of_factor
from skhier.utils.settling import drop_rows, settle_slopes
from skhier.utils.table import read_table

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {"a": [1.0, 2.0, 3.0, 4.0], "g": list("vuvw"), "b": [0.0, 1.0, 0.0, 2.0]},
)
CAFES = TABLE.assign(cafe=[1, 1, 2, 1])
NESTED = ["g", ("g", "cafe")]


def fit(table, groups="g", slopes="all"):
    return fit_design(read_table(table), groups, slopes)


def read(table, design, counting=None):
    return read_rows(read_table(table), design, counting)


def internal(x, weights):
    """Mean and cross-products in internal units, and exactly 0 for constant columns."""
    shifted = x - x[0]
    mean = weights @ shifted / weights.sum()
    centred = shifted - mean
    sd = np.sqrt(weights @ centred**2 / weights.sum())
    scale = np.where(sd > 0, sd, 1.0)
    return (x[0] + mean) / scale, (centred * weights[:, None]).T @ centred / np.outer(scale, scale)


def warnings_of(x, codes=None, weights=None):
    """Of a plain array of features and codes of groups, a column or a dict of columns."""
    x = np.asarray(x, dtype=float)
    table = pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])])
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    of_groups = codes if isinstance(codes, dict) else {"g": codes}
    groups = None if codes is None else list(of_groups)
    design, rows = fit(table if codes is None else table.assign(**of_groups), groups)
    group_rows = [np.bincount(of_rows, weights) for of_rows in rows.codes.T]
    return design_warnings(design, *internal(rows.x, weights), group_rows, level_pairs(rows.codes))


def test_group_column_is_no_feature():
    design, rows = fit(TABLE)
    assert design.feature_names == ["a", "b"]
    assert design.feature_positions == [0, 2]
    assert design.effects(0) == ["intercept", "a", "b"]
    assert_array_equal(rows.x, TABLE[["a", "b"]])
    assert_array_equal(rows.codes, [[1], [0], [1], [2]])
    assert rows.codes.dtype == np.int64
    assert [unseen.tolist() for unseen in rows.unseen] == [[]]


def test_without_factors_codes_have_no_column():
    design, rows = fit(TABLE.drop(columns="g"), None)
    assert design.factors == ()
    assert rows.codes.shape == read(TABLE.drop(columns="g"), design).codes.shape == (4, 0)
    assert rows.unseen == ()


def test_no_column_of_a_factor_is_a_feature():
    design, rows = fit(CAFES, NESTED, slopes=["b"])
    assert design.feature_names == ["a", "b"]
    assert [factor.name for factor in design.factors] == ["g", "g:cafe"]
    assert [factor.positions for factor in design.factors] == [(1,), (1, 3)]
    assert_array_equal(rows.codes, [[1, 1], [0, 0], [1, 2], [2, 3]])
    labels = [("u", 1), ("v", 1), ("v", 2), ("w", 1)]
    assert design.factors[1].levels.labels.tolist() == labels
    # the nesting alone takes its columns too
    assert fit(CAFES, [("g", "cafe")])[0].feature_names == ["a", "b"]
    with pytest.raises(ValueError, match="`slopes` names 'cafe', a grouping column"):
        fit(CAFES, NESTED, slopes=["cafe"])


def test_factors_have_slopes_of_their_own():
    design, _ = fit(CAFES, {"g": ["b"], ("g", "cafe"): None, "cafe": "all"})
    assert [factor.slopes for factor in design.factors] == [(1,), (), (0, 1)]
    effects = [design.effects(k) for k in range(3)]
    assert effects == [["intercept", "b"], ["intercept"], ["intercept", "a", "b"]]


@pytest.mark.parametrize(
    ("slopes", "effects"),
    [(None, ["intercept"]), (["b"], ["intercept", "b"]), ([-1], ["intercept", "b"])],
)
def test_effects_are_named_by_feature(slopes, effects):
    # case 63
    design, _ = fit(TABLE, slopes=slopes)
    assert design.effects(0) == effects
    assert design.feature_names == ["a", "b"]


def test_group_column_alone_leaves_no_feature():
    # case 63
    design, rows = fit(TABLE[["g"]])
    assert design.feature_names == []
    assert rows.x.shape == (4, 0)


def test_column_named_intercept_cannot_vary():
    # its effects would go by the name of the varying intercept's
    table = TABLE.rename(columns={"b": "intercept"})
    with pytest.raises(ValueError, match="Column 'intercept' of X has the name of the varying"):
        fit(table)
    with pytest.raises(ValueError, match="Column 'intercept' of X has the name of the varying"):
        fit(table.assign(h=1), {"h": None, "g": "all"})
    assert fit(table, slopes=["a"])[0].effects(0) == ["intercept", "a"]
    assert fit(table.drop(columns="g"), None)[0].feature_names == ["a", "intercept"]


def test_new_rows_are_read_like_those_of_fit():
    design, rows = fit(TABLE)
    again = read(TABLE, design)
    assert_array_equal(again.x, rows.x)
    assert_array_equal(again.codes, rows.codes)
    new = read(TABLE.assign(g=list("wzyz")), design)
    assert_array_equal(new.codes, [[2], [3], [4], [3]])
    assert [unseen.tolist() for unseen in new.unseen] == [["z", "y"]]


def test_unseen_levels_are_of_their_factor():
    design, rows = fit(CAFES, NESTED)
    assert_array_equal(read(CAFES, design).codes, rows.codes)
    new = read(CAFES.assign(g=list("uvzz"), cafe=[2, 2, 1, 1]), design)
    assert_array_equal(new.codes, [[0, 4], [1, 2], [3, 5], [3, 5]])
    assert [unseen.tolist() for unseen in new.unseen] == [["z"], [("u", 2), ("z", 1)]]


def test_labels_of_another_kind_name_their_column():
    # the nesting is no single column, and its name is no help
    design, _ = fit(CAFES, [("g", "cafe")])
    with pytest.raises(ValueError, match="labels of 'cafe' are of kind string"):
        read(CAFES.assign(cafe=list("1121")), design)


@pytest.mark.parametrize("to", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas])
def test_nesting_reads_every_container(to):
    table = CAFES.assign(g=CAFES["g"].astype("category"))
    design, rows = fit(to(table), NESTED)
    assert_array_equal(rows.codes, [[1, 1], [0, 0], [1, 2], [2, 3]])
    assert design.factors[1].levels.labels.tolist()[0] == ("u", 1)
    assert_array_equal(read(to(table), design).codes, rows.codes)


def test_nesting_of_an_array_without_names():
    table = np.array([[1.0, 1, 10], [2.0, 1, 20], [3.0, 0, 10]])
    design, rows = fit(table, [(1, 2)])
    assert design.factors[0].name == "x1:x2"
    assert_array_equal(rows.codes[:, 0], [1, 2, 0])


@pytest.mark.parametrize("reader", ["fit", "read"])
def test_too_large_column_is_named(reader):
    # case 50
    design, _ = fit(TABLE)
    bad = TABLE.assign(b=[0.0, 1e200, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"Column 'b' of X is too large.*1e\+200"):
        fit(bad) if reader == "fit" else read(bad, design)


def test_dropped_rows_take_their_levels_along():
    # case 92
    design, rows = drop_rows(*fit(TABLE), np.array([True, False, True, True]))
    assert design.factors[0].levels.labels.tolist() == ["v", "w"]
    assert_array_equal(rows.codes, [[0], [0], [1]])
    assert_array_equal(rows.x[:, 0], [1, 3, 4])
    design, rows = drop_rows(*fit(TABLE.drop(columns="g"), None), np.arange(4) < 2)
    assert rows.x.shape == (2, 2)
    assert rows.codes.shape == (2, 0)


def test_dropped_rows_are_as_if_they_had_not_been_there():
    # case 92
    kept = np.array([True, False, True, False])
    design, rows = drop_rows(*fit(CAFES, NESTED), kept)
    expected, expected_rows = fit(CAFES[kept], NESTED)
    assert_array_equal(rows.codes, expected_rows.codes)
    for factor, other in zip(design.factors, expected.factors, strict=True):
        assert factor.levels.labels.tolist() == other.levels.labels.tolist()
    new = CAFES.assign(cafe=[2, 1, 1, 1])
    found, other = read(new, design), read(new, expected)
    assert_array_equal(found.codes, other.codes)
    assert [u.tolist() for u in found.unseen] == [u.tolist() for u in other.unseen]


X = RNG.normal(size=(40, 3))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.c_[X, 2 * X[:, 0]], "X has rank 3 of 4.*: 'x3'"),
        (np.c_[2 * X[:, 0], X], "X has rank 3 of 4.*: 'x1'"),
        (np.c_[X, X[:, 0] - 0.3 * X[:, 2]], "X has rank 3 of 4.*: 'x3'"),
        (np.c_[X, X[:, 0], X[:, 1]], "X has rank 3 of 5.*: 'x3', 'x4'"),
        (np.c_[1e12 * X[:, 0] + 1e15, X[:, 1], 1e-9 * X[:, 1]], "X has rank 2 of 3.*: 'x2'"),
        (np.c_[X, X[:, 0] + 1], "X and the intercept have rank 4 of 5.*: 'x3'"),
        (np.eye(3)[np.arange(40) % 3], "X and the intercept have rank 3 of 4.*: 'x2'"),
        (RNG.normal(size=(15, 30)), "X has rank 15 of 30.*: 'x14'.* and 11 more"),
        (np.c_[X, np.full(40, 3.0)], "Constant columns .*: 'x3'"),
        (np.c_[X, np.zeros(40)], "Constant columns .*: 'x3'"),
        (np.c_[np.full(40, 0.1), X], "Constant columns .*: 'x0'"),
    ],
)
def test_columns_without_information_are_named(x, message):
    # cases 8, 52, 53, 58
    (found,) = warnings_of(x)
    assert re.search(message, found)


@pytest.mark.parametrize(
    "x",
    [
        X,
        X + 1e8,
        X * [1e-6, 1e6, 1e12],
        np.c_[X, X[:, 0] + 1e-3 * RNG.normal(size=40)],
        np.c_[X, np.arange(40) == 0],
        np.eye(3)[np.arange(40) % 3][:, :2],
    ],
)
def test_columns_with_information_are_not_named(x):
    # cases 55, 56
    assert warnings_of(x) == []


def test_rank_agrees_with_the_singular_values():
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.integers(2, 8)
        rank = rng.integers(1, p)
        x = rng.normal(size=(30, rank)) @ rng.normal(size=(rank, p))
        (found,) = warnings_of(x)
        assert f"X has rank {np.linalg.matrix_rank(x)} of {p}:" in found


def test_groups_without_information_are_reported():
    # cases 65 to 67
    assert warnings_of(X, np.zeros(40, int)) == ["1 group: between-group sd is set by its prior."]
    (found,) = warnings_of(X, np.arange(40))
    assert found.startswith("Every group has one row")
    assert warnings_of(X, np.arange(40) // 20) == []
    assert warnings_of(X, np.r_[0, np.arange(39)]) == []
    # a weight of 2 is the row twice
    assert warnings_of(X, np.arange(40), np.full(40, 2)) == []


def test_factors_without_information_are_named():
    found = warnings_of(X, {"one": np.zeros(40, int), "each": np.arange(40), "g": GROUPS})
    assert found == [
        "'one' has 1 group: between-group sd is set by its prior.",
        "Every group of 'each' has one row: only the priors tell group effects from noise.",
    ]


GROUPS = np.arange(40) // 8


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (GROUPS, True),
        (np.array(list("cabed"))[GROUPS], True),
        (GROUPS // 2, False),  # coarser
        (np.arange(40) // 4, False),  # finer
        (np.arange(40) % 5, False),  # as many levels, crossed
        (np.r_[GROUPS[1:], 4], False),  # as many levels, shifted by a row
        (np.r_[1, GROUPS[1:]], False),
    ],
)
def test_factors_with_one_partition_are_reported(other, same):
    message = "'g' and 'h' group the rows identically: only the priors tell their effects apart."
    assert warnings_of(X, {"g": GROUPS, "h": other}) == [message] * same
    found = warnings_of(X, {"h": other, "k": np.arange(40) % 2, "g": GROUPS})
    assert found == [message.replace("'g' and 'h'", "'h' and 'g'")] * same


def test_nesting_of_one_level_each_is_reported():
    table = pd.DataFrame(X).assign(state=GROUPS, cafe=GROUPS * 3)
    table.columns = table.columns.astype(str)
    design, rows = fit(table, ["state", ("state", "cafe")])
    group_rows = [np.bincount(of_rows) for of_rows in rows.codes.T]
    (found,) = design_warnings(
        design, *internal(rows.x, np.ones(40)), group_rows, level_pairs(rows.codes)
    )
    assert found.startswith("'state' and 'state:cafe' group the rows identically")


def test_slopes_of_all_are_what_differs_within_levels():
    """Against pandas' count of distinct values per level, whatever the order of the rows."""
    rng = np.random.default_rng(4)
    for n, chunk in ((1, 5), (7, 2), (60, 7), (60, 60), (60, 1000)):
        few = budget(rows_compared=chunk).data
        for _ in range(20):
            g, h = rng.integers(0, 5, (2, n))
            levels = rng.normal(size=(5, 3)).round(1)
            x = np.c_[levels[g], levels[h], rng.integers(0, 2, n), np.full(n, 0.1), levels[g]]
            x[rng.integers(n), -1] += 1e-12
            table = pd.DataFrame(x).add_prefix("x")
            settled = settle_slopes(*fit(table.assign(g=g, h=h), ["g", ("g", "h")]), few)
            for factor, by in zip(settled.factors, ([g], [g, h]), strict=True):
                varies = (table.groupby(by).nunique() > 1).any()
                assert factor.slopes == tuple(np.flatnonzero(varies))
                assert settled.slopes_left_out()[factor.name] == list(table.columns[~varies])


def test_named_slopes_are_not_settled():
    table = CAFES.assign(c=1.0)
    settled = settle_slopes(*fit(table, {"g": ["a", "c"], "cafe": "all"}))
    assert [factor.slopes for factor in settled.factors] == [(0, 2), (0, 1)]
    assert settled.slopes_left_out() == {"g": [], "cafe": ["c"]}
    (found,) = slope_warnings(settled, [np.full(3, 9), np.full(2, 9)])
    assert re.search("constant within every level of 'g'.*varying intercept: 'c'. Leave", found)
    (note,) = slope_notes(settled)
    assert note.startswith("slopes=\"all\" gives 'cafe' no varying slope")


def test_dropped_rows_do_not_settle_slopes():
    # a differs within v by a row that is dropped
    kept = np.array([True, True, False, True])
    settled = settle_slopes(*drop_rows(*fit(TABLE), kept))
    assert settled.factors[0].slopes == ()
    assert settle_slopes(*fit(TABLE)).factors[0].slopes == (0,)


@pytest.mark.parametrize(
    ("n_rows", "slopes", "message"),
    [
        ([2, 2, 1], ["a"], "more rows .2 at most. than it has effects .2: 'intercept', 'a'.*=None"),
        ([3, 3, 1], "all", "more rows .3 at most. .*or at most 1 of the slopes"),
        ([2.5, 2, 1], "all", "more rows .2.5 at most. .*or at most 1 of the slopes"),
        ([3, 1, 1], ["a"], None),
        ([1, 1, 1], ["a"], None),  # another warning's
        ([2], ["a"], None),
        ([2, 2], None, None),
        ([9, 1], "all", None),
    ],
)
def test_no_group_with_more_rows_than_effects_is_told(n_rows, slopes, message):
    design, _ = fit(TABLE, slopes=slopes)
    found = slope_warnings(design, [np.array(n_rows)])
    assert len(found) == (message is not None)
    if message:
        assert re.search(message, found[0])


def test_factors_that_do_not_count_are_not_read():
    design, rows = fit(CAFES, NESTED)
    bad = CAFES.assign(cafe=[None, [1], 2, "x"])
    of_first = read(bad, design, [0])
    assert_array_equal(of_first.codes, np.c_[rows.codes[:, 0], np.zeros(4)])
    assert [unseen.tolist() for unseen in of_first.unseen] == [[], []]
    assert design.unread([0]) == [3]
    assert design.unread([1]) == design.unread([0, 1]) == []
    assert design.unread([]) == [1, 3]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (list("kllk"), "'c' of X holds strings with 2 distinct .*'k'. If .* add 'c' to `groups`;"),
        (
            ["1", "2", "1", "3"],
            "holds strings with 3 distinct values, such as '1'. .*TargetEncoder",
        ),
        (pd.Categorical([1, 2, 1, 1]), "'c' of X is categorical.*such as 1, .*OrdinalEncoder"),
        (pd.Categorical([1, None, 1, 1]), "'c' of X is categorical"),
    ],
)
def test_labels_in_a_feature_column_are_refused(column, message):
    table = TABLE.assign(c=column)
    for container in (table, pa.Table.from_pandas(table)):
        with pytest.raises(ValueError, match=message.replace("such as 1,", "such as")):
            fit(container, slopes=None)
    design, _ = fit(TABLE.assign(c=1.0))
    with pytest.raises(ValueError, match=r"Column 'c' of X .*Fit saw numbers.*OneHotEncoder"):
        read(table, design)


def test_columns_of_labels_may_be_the_groups():
    with pytest.raises(
        ValueError, match=r"'g' of X holds strings with 3 distinct.*pass groups='g'"
    ):
        fit(TABLE, None)
    with pytest.raises(ValueError, match=r"Column 'x1' of X holds strings.*pass groups=1;"):
        fit(TABLE.to_numpy(object), None)
    with pytest.raises(ValueError, match=r"Column 'x1' of X holds strings.*add 1 to `groups`;"):
        fit(CAFES.to_numpy(object), -1)


def test_number_types_are_remembered():
    table = TABLE.assign(
        f=np.float32([1, 2, 3, 4]), p=pd.array([1, 2, 3, 4], dtype="Float32"), h=np.float16(1)
    )
    eps = (0.0, 0.0, 2.0**-23, 2.0**-23, 2.0**-10)
    for container in (table, pa.Table.from_pandas(table), pl.from_pandas(table.drop(columns="h"))):
        design, _ = fit(container, slopes=None)
        assert design.eps[:4] == eps[:4]
    assert fit(table)[0].eps == eps
    assert fit(np.float32(np.eye(3)), 0)[0].eps == (2.0**-23,) * 2


@pytest.mark.parametrize(
    ("called", "place"),
    [
        ("g", 0),
        (1, 0),
        (-3, 0),
        (("g",), 0),
        ("g:cafe", 1),
        (("g", "cafe"), 1),
        (["g", -1], 1),
        ((1, 3), 1),
        ("cafe", None),
        (("cafe", "g"), None),
        ("a", None),
        (4, None),
        (-5, None),
        (True, None),
        (None, None),
        ("nobody", None),
    ],
)
def test_factor_is_called_by_its_name_or_its_columns(called, place):
    design, _ = fit(CAFES, NESTED)
    assert place_of_factor(called, design.factors, list(CAFES), 4) == place


def test_factor_of_an_array_is_called_by_its_position():
    design, _ = fit(np.column_stack([TABLE["a"], [0, 1, 0, 1], [2, 3, 2, 3]]), [1, (1, 2)])
    calls = 1, -2, "x1", (1, 2), (-2, -1), design.factors[1].name, "x2", 2, 7
    places = [place_of_factor(called, design.factors, None, 3) for called in calls]
    assert places == [0, 0, 0, 1, 1, 1, None, None, None]
