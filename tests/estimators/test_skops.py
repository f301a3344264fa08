"""Fits saved by skops, which trusts named types only, and read by another process."""

import datetime
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from packaging.version import Version
from runs import slow
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhier import HierarchicalSlopesRegressorCV, Prior

skops_io = pytest.importorskip("skops.io")

# the runs are too short to converge
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

READ = """
import json, sys
import numpy as np, pandas as pd, skops.io
folder, types = sys.argv[1], json.loads(sys.argv[2])
model = skops.io.load(f"{folder}/model.skops", trusted=types)
X = pd.read_pickle(f"{folder}/X.pickle")
answers = [*model.predict(X, return_std=True), *model.predict_interval(X).T,
           *model.sample_y(X, 2, random_state=0).T]
np.save(f"{folder}/answers.npy", answers)
json.dump(sorted({name.split(".")[0] for name in sys.modules}), sys.stdout)
"""


def answers(model, X):
    draws = model.sample_y(X, 2, random_state=0)
    return [*model.predict(X, return_std=True), *model.predict_interval(X).T, *draws.T]


def untrusted(model):
    """The model's bytes, and the types in them that skops does not trust on its own."""
    stored = skops_io.dumps(model)
    return stored, skops_io.get_untrusted_types(data=stored)


def assert_equal_tables(one, two):
    """Attributes with a table per factor, their labels and types included."""
    for name in ("group_coef_", "group_coef_std_", "group_effects_", "group_corr_"):
        for factor, table in getattr(one, name).items():
            pd.testing.assert_frame_equal(getattr(two, name)[factor], table, check_exact=True)
    for factor, series in one.group_scale_.items():
        pd.testing.assert_series_equal(two.group_scale_[factor], series, check_exact=True)
    for factor, labels in one.group_levels_.items():
        assert_array_equal(two.group_levels_[factor], labels)
    pd.testing.assert_frame_equal(two.prior_summary(), one.prior_summary())
    pd.testing.assert_frame_equal(two.summary(True), one.summary(True), check_exact=True)


@pytest.mark.parametrize("name", ["sleepstudy", *slow("crossed", "nested")])
def test_another_process_reads_the_file_and_answers_the_same(request, tmp_path, name):
    data, model = request.getfixturevalue(name), request.getfixturevalue(f"{name}_fit")
    X = data[0] if name == "sleepstudy" else data.data
    skops_io.dump(model, tmp_path / "model.skops")
    types = skops_io.get_untrusted_types(file=tmp_path / "model.skops")
    assert types
    assert {each.split(".")[0] for each in types} == {"skhier"}
    X.to_pickle(tmp_path / "X.pickle")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, str(tmp_path), json.dumps(types)],
        capture_output=True,
        timeout=300,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert set(json.loads(done.stdout)) & {"jax", "numpyro", "arviz"} == set()
    assert_array_equal(np.load(tmp_path / "answers.npy"), answers(model, X))


@pytest.mark.parametrize("name", ["sleepstudy", "crossed", "nested"])
def test_a_read_fit_has_the_same_attributes(request, name):
    model = request.getfixturevalue(f"{name}_fit")
    stored, types = untrusted(model)
    again = skops_io.loads(stored, trusted=types)
    assert again.get_params() == model.get_params()
    assert again.diagnostics_ == model.diagnostics_
    assert_equal_tables(model, again)


def test_types_that_are_not_trusted_are_refused(sleepstudy_fit):
    stored, types = untrusted(sleepstudy_fit)
    with pytest.raises(skops_io.exceptions.UntrustedTypesFoundException):
        skops_io.loads(stored, trusted=types[1:])


def test_a_nesting_in_a_dict_of_groups_is_read(nested, short_run):
    model = short_run({"state": ["x0"], ("state", "cafe"): None}).fit(nested.data, nested.target)
    stored, types = untrusted(model)
    again = skops_io.loads(stored, trusted=types)
    assert again.groups == model.groups
    assert type(again.groups) is dict
    assert_array_equal(answers(again, nested.data), answers(model, nested.data))
    assert_array_equal(again.fit(nested.data, nested.target).coef_, model.coef_)


def test_level_means_are_read(nested, short_run):
    factor = ("state", "cafe")
    model = short_run([factor], slopes=None, group_means={factor: ["x0"]})
    model.fit(nested.data, nested.target)
    stored, types = untrusted(model)
    again = skops_io.loads(stored, trusted=types)
    assert again.group_means == model.group_means
    assert_array_equal(answers(again, nested.data), answers(model, nested.data))


def test_a_prior_of_distributions_names_their_types(people, fitted_under_distributions):
    X, y = people
    model = fitted_under_distributions
    stored, types = untrusted(model)
    assert {each.split(".")[0] for each in types} == {"skhier", "numpyro"}
    assert {
        each.rsplit(".", 1)[0].removesuffix(".continuous")
        for each in types
        if each.startswith("numpyro")
    } <= {
        "numpyro.distributions",
        "numpyro.distributions.constraints",
        "numpyro.distributions.truncated",
    }
    again = skops_io.loads(stored, trusted=types)
    assert_array_equal(answers(again, X), answers(model, X))
    assert_array_equal(again.sample_prior(X, 3, 0), model.sample_prior(X, 3, 0))
    assert_array_equal(again.fit(X, y).coef_, model.coef_)


def test_a_search_is_read(people):
    X, y = people
    grid = [{"eta": [1.0, 4.0], "prior__coef": [1.0]}, {"prior": [Prior(coef=2.0), "bambi"]}]
    settings = {"n_chains": 2, "n_draws": 50, "random_state": np.random.RandomState(3)}
    model = HierarchicalSlopesRegressorCV("subject", param_grid=grid, cv=GroupKFold(3), **settings)
    model.fit(X, y)
    stored, types = untrusted(model)
    assert [each for each in types if not each.startswith("skhier.")] == [
        "sklearn.model_selection._split.GroupKFold"
    ]
    again = skops_io.loads(stored, trusted=types)
    assert_array_equal(answers(again, X), answers(model, X))
    assert_equal_tables(model, again)
    assert_array_equal(again.scores_, model.scores_)
    assert list(again.cv_results_) == list(model.cv_results_)
    for name in ("param_eta", "param_prior"):
        assert_array_equal(again.cv_results_[name].mask, model.cv_results_[name].mask)


def test_a_pipeline_is_read(people, short_run):
    X, y = people
    scaled = ColumnTransformer(
        [("x", StandardScaler(), ["x"])], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    model = make_pipeline(scaled, short_run()).fit(X, y)
    stored, types = untrusted(model)
    known = types
    if Version(sklearn.__version__) < Version("1.7"):  # which had a class that skops forgot
        known = [each for each in types if not each.endswith("._RemainderColsList")]
    assert all(each.startswith("skhier.") for each in known)
    assert_array_equal(skops_io.loads(stored, trusted=types).predict(X), model.predict(X))


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(10),
        np.arange(10) > 4,
        np.arange(10) + 0.5,
        np.datetime64("2020-01-01") + np.arange(10),
        pd.timedelta_range("1h", periods=10, freq="h"),
        pd.period_range("2020-01", periods=10, freq="M"),
        [datetime.date(2020, 1, 1 + day) for day in range(10)],
        pd.Categorical([f"c{i}" for i in range(10)]),
    ],
    ids=["int", "bool", "float", "datetime64", "timedelta", "period", "date", "category"],
)
def test_labels_of_any_kind_are_read(people, short_run, labels):
    X, y = people
    X = X.assign(subject=pd.Series(labels).repeat(8).to_numpy())
    model = short_run().fit(X, y)
    stored, types = untrusted(model)
    again = skops_io.loads(stored, trusted=types)
    assert_array_equal(answers(again, X), answers(model, X))
    pd.testing.assert_frame_equal(again.group_coef_["subject"], model.group_coef_["subject"])


def test_an_unfitted_estimator_is_read(short_run):
    model = short_run(groups={("a", "b"): None}, prior="bambi")
    stored, types = untrusted(model)
    again = skops_io.loads(stored, trusted=types)
    assert again.get_params() == model.get_params()
    assert not hasattr(again, "group_coef_")
