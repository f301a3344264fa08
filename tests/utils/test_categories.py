"""Labels in feature columns: refused with the encoders' names, whatever the container."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skhier.utils.categories import forbid_labels
from skhier.utils.table import read_table

LABELS = [1, 2, 1]
DICTIONARY = pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))


def check(table, as_group="pass groups='a'"):
    column = read_table(table).column(0)
    forbid_labels(column, column.cells, "Column 'a' of X", as_group)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": pd.Categorical(LABELS)}),
        pd.DataFrame({"a": pd.Categorical([1.5, None, 2.0])}),
        pd.DataFrame({"a": pd.Categorical(LABELS, ordered=True)}),
        pd.DataFrame({"a": pd.Categorical([True, False, True])}),
        pd.DataFrame({"a": pd.Categorical(["1", "2", "1"])}),
        pd.DataFrame({"a": pd.array(["1", "2"], dtype=DICTIONARY)}),
        pl.DataFrame({"a": ["1", "2", "1"]}, schema={"a": pl.Categorical}),
        pl.DataFrame({"a": ["1", None, "1"]}, schema={"a": pl.Enum(["1", "2"])}),
        pa.table({"a": pa.array(LABELS).dictionary_encode()}),
        pa.table({"a": pa.array(["1", "2", "1"]).dictionary_encode()}),
    ],
    ids=lambda table: type(table).__module__[:6],
)
def test_categorical_columns_are_refused(table):
    message = "Column 'a' of X is categorical: its labels, such as .* no quantities. If it is a"
    with pytest.raises(ValueError, match=message) as caught:
        check(table)
    encoders = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder", "pass groups='a'")
    assert all(word in str(caught.value) for word in encoders)


STRINGS = {
    "object": lambda cells: pd.DataFrame({"a": np.array(cells, object)}),
    "str": lambda cells: pd.DataFrame({"a": cells}),
    "string": lambda cells: pd.DataFrame({"a": pd.array(cells, dtype="string")}),
    "arrow": lambda cells: pd.DataFrame({"a": pd.array(cells, dtype=pd.ArrowDtype(pa.string()))}),
    "polars": lambda cells: pl.DataFrame({"a": cells}),
    "pyarrow": lambda cells: pa.table({"a": cells}),
    "object array": lambda cells: np.array(cells, object)[:, None],
    "lists": lambda cells: [[cell] for cell in cells],
}


@pytest.mark.parametrize("container", STRINGS)
@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["n", "s", "n"], "with 2 distinct values: could not convert string to float: 'n'. If"),
        (["1", "s", "1"], "with 2 distinct values: could not convert string to float: 's'. If"),
        (["1", "2", "3"], r"with 3 distinct values, such as '1'. If .*astype\(float\)\.$"),
        (["n", None, "n"], "with 1 distinct values: could not convert string to float: 'n'"),
    ],
)
def test_strings_are_refused(container, cells, message):
    # case 13
    with pytest.raises(ValueError, match=f"Column 'a' of X holds strings {message}") as caught:
        check(STRINGS[container](cells))
    assert "pass groups='a'; if it is a feature, encode it" in str(caught.value)
    assert "OneHotEncoder, OrdinalEncoder or TargetEncoder" in str(caught.value)


def test_a_few_strings_among_numbers_are_located():
    for table in (pd.DataFrame({"a": [1.0, "n/a", 2, None]}), [[1.0], ["n/a"], [2], [None]]):
        message = r"holds strings in 1 of 4 rows \(the first at row 1\): could not .*'n/a'. Give"
        with pytest.raises(ValueError, match=message):
            check(table)
    with pytest.raises(ValueError, match=r"in 1 of 2 rows \(the first at row 0\), such as '3'"):
        check([["3"], [4]])


def test_string_arrays_of_digits_are_numbers():
    check(np.array([["1.5", "u"], ["2", "v"]]))
    check(np.array([[b"1.5"], [b"2"]]))
    with pytest.raises(ValueError, match=r"'a' of X holds strings.*could not convert.*'u'"):
        check(np.array([["u"], ["v"]]))


@pytest.mark.parametrize(
    "table",
    [
        np.eye(2),
        np.eye(2).astype(object),
        np.array([[True], [None]], object),
        pd.DataFrame({"a": [1, 2]}, dtype="Int64"),
        pd.DataFrame({"a": [None, None]}),
        pl.DataFrame({"a": [1, None]}),
        pa.table({"a": [1.0, 2.0]}),
    ],
)
def test_numbers_are_left_alone(table):
    # case 11
    check(table)


def test_new_rows_are_told_what_fit_saw():
    with pytest.raises(ValueError, match=r"Fit saw numbers in this column: encode it as before"):
        check(pd.DataFrame({"a": ["u", "v"]}), None)
