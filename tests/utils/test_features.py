"""Feature columns: one visit each, and which error comes first."""

from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from skhier.utils.design import fit_design, read_rows
from skhier.utils.features import read_features
from skhier.utils.table import Table, read_table

DATES = pd.date_range("2020-01-01", periods=3)
GOOD = [1.0, 2.0, 4.0]
WORDS = list("uvw")


def read(table, names="ab"):
    return read_features(read_table(table), range(len(names)), names)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, np.nan, 2.0], WORDS, "Column 'b' of X holds strings"),
        (DATES, WORDS, "Column 'b' of X holds strings"),
        (WORDS, pd.Categorical(WORDS), "Column 'a' of X holds strings"),
        (pd.Categorical(WORDS), WORDS, "Column 'a' of X is categorical"),
        (DATES, pd.Categorical(WORDS), "Column 'b' of X is categorical"),
        ([1.0, np.nan, 2.0], DATES, "Column 'b' of X holds datetime"),
        (DATES, [1j, 1, 2], "Column 'a' of X holds datetime"),
        ([1j, 1, 2], DATES, "Complex data not supported"),
        ([1.0, np.inf, 2.0], [1.0, np.nan, 2.0], r"contains NaN in 1 row of 3.*: 'b' \(1 row\)"),
        ([1e200, 1.0, 2.0], [1.0, np.inf, 2.0], r"contains infinity.*Columns: 'b' \(1 row\)"),
        (GOOD, [1.0, -1e200, 2.0], "Column 'b' of X is too large .*: 1e.200"),
    ],
)
def test_features_name_the_gravest_error_first(a, b, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read(pd.DataFrame({"a": a, "b": b}))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_features_tell_the_spacing_of_their_types(make):
    table = make({"a": np.array(GOOD, "f4"), "b": np.array(GOOD)})
    x, eps = read(table)
    assert_array_equal(x, np.c_[GOOD, GOOD])
    assert x.flags.f_contiguous
    assert eps == (2.0**-23, 0.0)
    assert read(np.array([GOOD, GOOD], "f2").T)[1] == (2.0**-10, 2.0**-10)


def test_long_numbers_that_float64_cannot_hold_are_infinite():
    table = pd.DataFrame({"a": np.array([1, "1e400", 2], np.longdouble), "b": GOOD})
    with pytest.raises(ValueError, match=r"contains infinity.*Columns: 'a' \(1 row\)"):
        read(table)


@pytest.mark.parametrize("to", [lambda table: table, pl.from_pandas], ids=["pandas", "polars"])
def test_fit_and_prediction_visit_each_column_once(to, monkeypatch):
    visits, column = Counter(), Table.column

    def counted(table, position):
        visits[position] += 1
        return column(table, position)

    monkeypatch.setattr(Table, "column", counted)
    table = to(pd.DataFrame({"a": GOOD, "g": WORDS, "b": GOOD[::-1], "h": ["u", "u", "v"]}))
    design, _ = fit_design(read_table(table), ["h", ("h", "g")], "all")
    assert visits == dict.fromkeys(range(4), 1)
    read_rows(read_table(table), design)
    assert visits == dict.fromkeys(range(4), 2)
