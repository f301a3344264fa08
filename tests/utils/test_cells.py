"""Cells: which are numbers, and these as float64."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from skhier.utils.cells import as_float64, forbid_non_finite, numbers_or_error, write_float64
from skhier.utils.table import read_table

DATES = pd.date_range("2020-01-01", periods=3)
NUMBERS = [1.5, -2.0, 300.0]


def read(table, positions=(0,), names=("a",)):
    of, block = read_table(table), np.empty((len(table), len(positions)))
    for j, (position, name) in enumerate(zip(positions, names, strict=True)):
        write_float64(of.column(position).cells, block[:, j], f"Column {name!r} of X")
    forbid_non_finite(block, names)
    return block


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
def test_cells_become_float64_from_every_column_type(column):
    # cases 11, 19, 20, 25
    block = read(pd.DataFrame({"a": column}))
    assert block.dtype == np.float64
    assert_array_equal(block[:, 0], NUMBERS)


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


def test_complex_columns_are_refused():
    # case 10
    with pytest.raises(ValueError, match="Complex data not supported"):
        read(pd.DataFrame({"a": [1j, 2.0]}))


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
