"""The tables that come with the package, against their published figures."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skhier.datasets import load_cafes, load_sleepstudy

LOADERS = [load_sleepstudy, load_cafes]


def test_sleepstudy_has_its_published_figures():
    frame = load_sleepstudy(as_frame=True).frame
    assert frame.shape == (180, 3)
    assert_allclose(frame["Reaction"].mean(), 298.507892, rtol=0, atol=1e-6)
    assert frame["Subject"].nunique() == 18
    assert (frame["Subject"].min(), frame["Subject"].max()) == ("308", "372")
    for _, days in frame.groupby("Subject")["Days"]:
        assert list(days) == list(range(10))


def test_sleepstudy_population_line_is_that_of_lme4():
    # Balanced data: generalised and ordinary least squares agree (lme4: 251.405 + 10.467 Days).
    frame = load_sleepstudy(as_frame=True).frame
    slope, intercept = np.polyfit(frame["Days"], frame["Reaction"], 1)
    assert_allclose([intercept, slope], [251.405105, 10.467286], rtol=0, atol=1e-6)


def test_cafes_are_those_that_our_own_script_makes():
    script = runpy.run_path(str(Path(__file__).parent / "make_cafes.py"))
    frame = load_cafes(as_frame=True).frame
    pd.testing.assert_frame_equal(frame[["cafe", "afternoon", "wait"]], script["simulate"]())
    assert frame.shape == (200, 3)
    assert sorted(frame["cafe"].unique()) == list(range(20))
    assert set(frame.groupby(["cafe", "afternoon"]).size()) == {5}
    assert (frame["wait"].min(), frame["wait"].max()) == (0.58, 6.64)


def test_sleepstudy_frame_has_string_subjects_and_integer_days():
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    assert list(X.columns) == ["Days", "Subject"]
    assert X["Days"].dtype == np.int64
    assert all(isinstance(label, str) for label in X["Subject"])
    assert (y.name, y.dtype) == ("Reaction", np.float64)


def test_cafes_frame_has_integer_columns():
    X, y = load_cafes(return_X_y=True, as_frame=True)
    assert list(X.columns) == ["afternoon", "cafe"]
    assert set(X.dtypes) == {np.dtype("int64")}
    assert (y.name, y.dtype) == ("wait", np.float64)


@pytest.mark.parametrize("load", LOADERS)
def test_loader_bunch_names_its_columns(load):
    bunch = load(as_frame=True)
    assert list(bunch.data.columns) == bunch.feature_names
    assert [bunch.target.name] == bunch.target_names
    assert list(bunch.frame.columns) == bunch.feature_names + bunch.target_names
    assert bunch.groups == bunch.feature_names[-1]
    assert str(len(bunch.frame)) in bunch.DESCR
    assert bunch["data"] is bunch.data


@pytest.mark.parametrize("load", LOADERS)
def test_loader_arrays_hold_what_the_frame_holds(load):
    arrays, frames = load(), load(as_frame=True)
    assert arrays.frame is None
    assert type(arrays.data) is type(arrays.target) is np.ndarray
    assert_array_equal(arrays.data, frames.data.to_numpy())
    assert_array_equal(arrays.target, frames.target.to_numpy())
    assert arrays.feature_names == frames.feature_names


@pytest.mark.parametrize(("load", "dtype"), [(load_sleepstudy, object), (load_cafes, np.int64)])
def test_loader_array_dtype_keeps_the_labels(load, dtype):
    data = load().data
    assert data.dtype == dtype
    assert isinstance(data[0, -1], str if dtype is object else np.integer)


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("as_frame", [False, True])
def test_loader_return_x_y_is_data_and_target(load, as_frame):
    bunch = load(as_frame=as_frame)
    X, y = load(return_X_y=True, as_frame=as_frame)
    assert isinstance(X, pd.DataFrame) is as_frame
    assert_array_equal(np.asarray(X), np.asarray(bunch.data))
    assert_array_equal(np.asarray(y), np.asarray(bunch.target))


@pytest.mark.parametrize("load", LOADERS)
def test_loader_result_can_be_changed_without_changing_the_next(load):
    X, y = load(return_X_y=True)
    X[:], y[:] = 0, 0
    again_X, again_y = load(return_X_y=True)
    assert again_y.any()
    assert (again_X != 0).any()


@pytest.mark.parametrize("load", LOADERS)
def test_loader_arguments_are_keyword_only(load):
    with pytest.raises(TypeError, match="positional"):
        load(True)


def test_datasets_import_loads_nothing_heavy():
    code = (
        "import sys, skhier.datasets; "
        "print([name for name in ('numpy', 'pandas', 'sklearn', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
