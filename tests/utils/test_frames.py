"""Tables and columns: what is read, what is refused, whatever the container."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from skhier.utils.frames import (
    as_float64,
    as_table,
    column_names,
    index_names,
    label_column,
    numbers_or_error,
    numeric_block,
    with_columns_of_fit,
)

DATES = pd.date_range("2020-01-01", periods=3)
NUMBERS = [1.5, -2.0, 300.0]


def read(table, positions=(0,), names=("a",)):
    return numeric_block(as_table(table), list(positions), list(names))


@pytest.mark.parametrize(
    "column",
    [
        np.array(NUMBERS),
        np.array(NUMBERS, "f2"),
        np.array(NUMBERS, "f4"),
        np.array(NUMBERS, "f8").astype(np.longdouble),
        np.array(NUMBERS, object),
        pd.array(NUMBERS, dtype="Float64"),
        pd.array(NUMBERS, dtype=pd.ArrowDtype(pa.float64())),
        pd.Categorical(NUMBERS),
        np.array(["1.5", "-2", "3e2"], object),
        [Decimal("1.5"), -2, np.float32(300)],
    ],
    ids=lambda column: f"{type(column).__name__}-{getattr(column, 'dtype', '')}",
)
def test_numeric_block_is_float64_for_every_column_type(column):
    # cases 11, 19, 20, 25
    block = read(pd.DataFrame({"a": column}))
    assert block.dtype == np.float64
    assert_array_equal(block[:, 0], NUMBERS)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": NUMBERS, "g": list("xyz")}),
        pl.DataFrame({"a": NUMBERS, "g": list("xyz")}),
        pa.table({"a": NUMBERS, "g": list("xyz")}),
        [[a, g] for a, g in zip(NUMBERS, "xyz", strict=True)],
        np.array([NUMBERS, list("xyz")], object).T,
        np.array([NUMBERS, list("xyz")]).T,
    ],
    ids=["pandas", "polars", "pyarrow", "lists", "object", "strings"],
)
def test_tables_give_their_numbers_and_labels(table):
    # cases 11, 25, 79
    assert_array_equal(read(table)[:, 0], NUMBERS)
    assert_array_equal(label_column(as_table(table), 1), list("xyz"))


@pytest.mark.parametrize(
    ("column", "size"),
    [
        (np.array([100, -100, 7], "i1"), 100),
        (np.array([60000, -60000, 7], "i4"), 60000),
        (np.array([True, False, True]), 1),
        (np.array([250, 0, 7], "u1"), 250),
    ],
)
def test_integers_do_not_overflow(column, size):
    # cases 15, 16, 17
    block = read(column[:, None])
    assert (block**2).max() == size**2


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=repr)
@pytest.mark.parametrize("container", [pd.DataFrame, lambda d: np.array([d["a"]], object).T])
def test_missing_cells_are_nan(missing, container):
    # cases 1, 24
    with pytest.raises(ValueError, match="Input X contains NaN"):
        read(container({"a": np.array([missing, 1.0, 2.0], dtype=object)}))


@pytest.mark.parametrize(
    "column",
    [
        pd.array([None, 1, 2], dtype="Int64"),
        pd.array([None, 1.0, 2.0], dtype="Float64"),
        pd.array([None, True, False], dtype="boolean"),
        pd.array([None, 1, 2], dtype=pd.ArrowDtype(pa.int64())),
        pl.Series([None, 1, 2]),
        pa.chunked_array([[None, 1.0, 2.0]]),
    ],
    ids=lambda column: f"{type(column).__name__}-{getattr(column, 'dtype', '')}",
)
def test_typed_missing_cells_are_nan(column):
    # case 24
    frames = {"Series": pl.DataFrame, "ChunkedArray": pa.table}
    with pytest.raises(ValueError, match="Input X contains NaN"):
        read(frames.get(type(column).__name__, pd.DataFrame)({"a": column}))


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        (np.inf, ValueError, "Input X contains infinity"),
        (10**400, ValueError, "Input X contains infinity"),
        (np.longdouble("1e400"), ValueError, "Input X contains infinity"),
        ("word", ValueError, "Column 'a' of X: could not convert string to float: 'word'"),
        ({"k": 1}, TypeError, "argument must be .* string.* number"),
        ([1, 2], ValueError, "Column 'a' of X: setting an array element with a sequence"),
        (datetime.date(2020, 1, 1), TypeError, "Column 'a' of X holds datetime values.*2020"),
        (datetime.datetime(2020, 1, 1), TypeError, "Column 'a' of X holds datetime values.*2020"),
        (datetime.time(1), TypeError, "Column 'a' of X holds datetime values"),
        (datetime.timedelta(1), TypeError, "Column 'a' of X holds datetime values"),
        (np.datetime64("2020"), TypeError, "Column 'a' of X holds datetime values.*2020"),
        (pd.Timestamp("2020"), TypeError, "Column 'a' of X holds datetime values.*2020"),
        (pd.Period("2020"), TypeError, "Column 'a' of X holds datetime values.*2020"),
    ],
)
def test_bad_cells_are_refused(cell, error, message):
    # cases 2, 12, 13, 21
    column = np.empty(3, object)
    column[:] = [1.0, 2.0, None]
    column[2] = cell
    for table in (pd.DataFrame({"a": column}), column[:, None]):
        with pytest.raises(error, match=message):
            read(table)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": DATES}),
        pd.DataFrame({"a": DATES.tz_localize("UTC")}),
        pd.DataFrame({"a": DATES - DATES[0]}),
        pd.DataFrame({"a": DATES.to_period("D")}),
        pd.DataFrame({"a": pd.Categorical(DATES)}),
        pd.DataFrame({"a": DATES.astype(object)}),
        pd.DataFrame({"a": pd.array(DATES, dtype=pd.ArrowDtype(pa.timestamp("us")))}),
        pl.DataFrame({"a": DATES.to_list()}),
        pl.DataFrame({"a": [d.date() for d in DATES]}),
        pl.DataFrame({"a": [datetime.time(1)] * 3}),
        pl.DataFrame({"a": [datetime.timedelta(1)] * 3}),
        pa.table({"a": pa.array(DATES)}),
        pa.table({"a": [d.date() for d in DATES]}),
    ],
    ids=lambda table: f"{type(table).__module__[:6]}",
)
def test_datetime_columns_are_named(table):
    # case 21
    with pytest.raises(TypeError, match="Column 'a' of X holds datetime values"):
        read(table)


@pytest.mark.parametrize("dtype", ["M8[D]", "m8[s]", [("a", float)]])
def test_arrays_of_no_numbers_are_refused(dtype):
    # case 21
    with pytest.raises(TypeError, match="X has dtype"):
        as_table(np.zeros((3, 1), dtype))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.arange(3.0), ValueError, "(?s)Expected 2D array, got 1D array.*Reshape your data"),
        (np.zeros((1, 2, 3)), ValueError, "Found array with dim 3"),
        (np.empty((0, 3)), ValueError, r"0 sample\(s\)"),
        (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\) \(shape=\(0, 1\)\)"),
        (pl.DataFrame({"a": []}), ValueError, r"0 sample\(s\)"),
        (np.empty((12, 0)), ValueError, r"0 feature\(s\) \(shape=\(\d*, 0\)\) while a minimum of"),
        (
            pd.DataFrame(index=range(12)),
            ValueError,
            r"0 feature\(s\) \(shape=\(\d*, 0\)\) while a minimum of",
        ),
        (scipy.sparse.csr_array(np.eye(3)), TypeError, "Sparse data was passed.*dense data is"),
        (np.eye(3) + 1j, ValueError, "Complex data not supported"),
        (np.full((3, 1), np.nan), ValueError, "Input X contains NaN"),
        (np.full((3, 1), np.inf), ValueError, "Input X contains infinity"),
        (np.array([[-np.inf], [np.inf]]), ValueError, "Input X contains infinity"),
        (np.ma.masked_greater(np.eye(3), 0.5), ValueError, "X has 3 masked values"),
        (pl.DataFrame({"a": NUMBERS}).lazy(), TypeError, "X is a lazy LazyFrame; collect it"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "more than one column named 'a'"),
        (3.0, ValueError, "Expected 2D array, got scalar array"),
        (None, ValueError, "Expected 2D array, got scalar array"),
    ],
)
def test_bad_tables_are_refused(X, error, message):
    # cases 1 to 6, 9, 10
    with pytest.raises(error, match=message):
        as_table(X)


def test_complex_columns_are_refused():
    # case 10
    with pytest.raises(ValueError, match="Complex data not supported"):
        read(pd.DataFrame({"a": [1j, 2.0]}))


def test_mask_without_masked_values_is_no_matter():
    X = np.ma.masked_array(np.eye(3), mask=False)
    assert_array_equal(read(X), np.eye(3)[:, :1])


def test_no_feature_columns_give_an_empty_block():
    # case 63
    assert read(pd.DataFrame({"g": list("xyz")}), (), ()).shape == (3, 0)
    assert read(np.eye(3), (), ()).shape == (3, 0)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.array(["a", "b"]), ValueError, "y holds strings: could not convert string to float"),
        (["1.5", 2.0], ValueError, "y holds strings, such as '1.5'. Convert it to numbers"),
        (np.array([b"1", b"2"]), ValueError, "y holds strings, such as b'1'"),
        (pd.Series(["1", "2"]), ValueError, "y holds strings"),
        (pl.Series(["1", "2"]), ValueError, "y holds strings"),
        (pa.array(["1", "2"]), ValueError, "y holds strings"),
        (pd.Series([1, 2], dtype="category"), ValueError, "y is categorical"),
        (pl.Series(["1"], dtype=pl.Categorical), ValueError, "y is categorical"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), ValueError, "y has 1 masked values"),
        (pl.Series(DATES.to_list()), TypeError, "y holds datetime values"),
        (pa.array(DATES), TypeError, "y holds datetime values"),
        (DATES.to_list(), TypeError, "y holds datetime values"),
        (np.zeros(2, [("a", float)]), TypeError, "y holds records"),
    ],
)
def test_strict_numbers_are_numbers(values, error, message):
    # cases 39, 40
    with pytest.raises(error, match=message):
        numbers_or_error(values, "y")


def test_reading_leaves_the_cells_alone():
    cells = np.array([1.0, None, pd.NA], object)
    numbers_or_error(cells, "y")
    assert cells[1] is None
    assert cells[2] is pd.NA


def test_float64_has_no_warning_for_what_it_cannot_hold():
    # case 20
    with pytest.raises(ValueError, match="Input y contains infinity"):
        as_float64(np.array([np.longdouble("1e400")]), "y")


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["u", "v", "u"], dtype=object),
        pd.Series(["u", "v", "u"]),
        pd.Series(["u", "v", "u"], dtype="string"),
        pd.Series(["u", "v", "u"], dtype=pd.ArrowDtype(pa.string())),
        pd.Series(["u", "v", "u"], dtype=pd.CategoricalDtype(["w", "v", "u"])),
        pl.Series(["u", "v", "u"]),
        pl.Series(["u", "v", "u"], dtype=pl.Categorical),
        pl.Series(["u", "v", "u"], dtype=pl.Enum(["w", "v", "u"])),
        pa.array(["u", "v", "u"]).dictionary_encode(),
    ],
    ids=lambda column: str(getattr(column, "dtype", "dictionary"))[:20],
)
def test_label_column_gives_the_values_of_every_string_type(column):
    # cases 77, 79
    frames = {"polars": pl.DataFrame, "pyarrow": pa.table}
    make = frames.get(type(column).__module__.split(".")[0], pd.DataFrame)
    labels = label_column(as_table(make({"g": column})), 0)
    assert labels.shape == (3,)
    assert labels.tolist() == ["u", "v", "u"]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize(
    ("cell", "what"), [(np.nan, "NaN"), (None, "NaN"), (-np.inf, "infinity or a value too large")]
)
def test_cells_that_are_no_finite_numbers_are_counted(make, cell, what):
    # cases 1, 2
    table = make({"a": NUMBERS, "b": [1.0, cell, cell], "c": [1.0, 2.0, cell]})
    message = rf"Input X contains {what}.* in 2 rows of 3, the first at row 1. "
    message += r"Columns: 'b' \(2 rows\), 'c' \(1 row\)\. Drop these rows, or "
    with pytest.raises(ValueError, match=message):
        read(table, (0, 1, 2), "abc")


def test_array_with_nan_names_its_columns():
    X = np.ones((4, 8))
    X[2, 1:] = np.nan
    X[3, 1] = np.inf
    message = r"contains NaN in 1 row of 4, the first at row 2. Columns: 'x1' \(1 row\).*and 2 more"
    for kind in (float, "f4", np.longdouble):
        with pytest.raises(ValueError, match=message):
            as_table(X.astype(kind))
    with pytest.raises(ValueError, match=r"contains infinity.*'x1' \(1 row\)\. Drop"):
        as_table(X[3:])


def test_columns_that_are_not_read_may_hold_anything():
    X = np.eye(3)
    X[:, 1] = [np.nan, np.inf, 1]
    assert as_table(X, [1])[0, 0] == 1
    X[0, 2] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN.*'x2'"):
        as_table(X, [1])


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_that_are_not_read_are_filled(make):
    names = ["g", "a", "h", "b", "i"]
    table = make({"a": NUMBERS, "b": NUMBERS})
    assert column_names(with_columns_of_fit(table, names, [4, 0, 2])) == names
    filled = with_columns_of_fit(table, names, [0, 2])
    assert column_names(filled) == names[:4]
    assert_array_equal(read(filled, (1, 3), "ab"), np.c_[NUMBERS, NUMBERS])
    assert type(filled) is type(table)
    for same in ([], [1], [3]):
        assert with_columns_of_fit(table, names, same) is table
    assert with_columns_of_fit(table, None, [0]) is table


def test_filled_columns_keep_the_index():
    table = pd.DataFrame({"a": NUMBERS}, index=list("zyx"))
    filled = with_columns_of_fit(table, ["g", "a"], [0])
    assert filled.index.tolist() == list("zyx")
    assert filled["a"].tolist() == NUMBERS


def test_index_names_are_those_of_pandas():
    table = pd.DataFrame({"a": NUMBERS})
    assert index_names(table) == index_names(np.eye(2)) == index_names(pl.from_pandas(table)) == []
    assert index_names(table.rename_axis("g")) == ["g"]
    assert index_names(None) == []
