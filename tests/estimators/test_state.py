"""What fit and predict leave behind: the fit and nothing else. Seeds, copies, threads, Ctrl-C."""

import copy
import io
import json
import logging
import multiprocessing
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import joblib
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from programs import compilations
from runs import SHORT, slow
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import skhier
from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV, Prior
from skhier.calibration import simulation_based_calibration as calibrate

# the runs are too short to converge
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# values that a user may set, none of them the default
JAX_FLAGS = {
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_enable_custom_prng": True,
    "jax_legacy_prng_key": "error",
    "jax_disable_jit": True,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_debug_key_reuse": True,
    "jax_check_tracer_leaks": True,
    "jax_transfer_guard": "disallow",
}
QUICK_FLAGS = {
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_debug_nans",
    "jax_debug_key_reuse",
}
HEAVY = {"jax", "jaxlib", "numpyro", "sklearn", "pandas", "arviz", "scipy", "numpy", "narwhals"}


def run_python(code, *options, stdin=None, timeout=300, **environment):
    """Standard output of a new interpreter, as JSON."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        input=stdin,
        capture_output=True,
        timeout=timeout,
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def global_state():
    """Everything a library could change behind its user's back."""
    flags = ("jax_default_device", "jax_platforms", *JAX_FLAGS)
    loggers = [logging.getLogger(), *map(logging.getLogger, ("jax", "numpyro", "skhier", "arviz"))]
    return {
        "jax": {name: getattr(jax.config, name) for name in flags},
        "warnings": list(warnings.filters),
        "errstate": np.geterr(),
        "numpy": repr(np.random.get_state()),
        "random": random.getstate(),
        "sklearn": sklearn.get_config(),
        "pandas": pd.get_option("display.width"),
        "logging": [(logger.level, list(logger.handlers)) for logger in loggers],
        "recursion": sys.getrecursionlimit(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "fork": multiprocessing.get_start_method(allow_none=True),
        "environment": dict(os.environ),
        "hooks": (sys.excepthook, threading.excepthook),
    }


def impossible_prior():
    """A prior without a point where the density is finite."""
    return Prior(coef=dist.Uniform(np.nan, 1.0, validate_args=False))


@pytest.fixture
def fitted(people, short_run):
    return short_run().fit(*people)


def same_draws(one, two):
    return all(
        np.array_equal(one.posterior_[name], two.posterior_[name])
        for name in ("intercept", "coef", "noise_scale")
    )


def test_fit_and_predict_leave_global_state_alone(people, short_run, fitted):
    X, y = people
    before = global_state()
    model = short_run().fit(X, y)
    model.predict(X, return_std=True)
    model.predict_interval(X)
    model.sample_y(X, random_state=0)
    model.sample_group_effects("subject")
    model.log_predictive_density(X, y)
    model.summary(group_effects=True)
    model.prior_summary()
    assert global_state() == before


def test_failing_fits_leave_global_state_alone(people, short_run, fitted):
    X, y = people
    before = global_state()
    with pytest.raises(ValueError, match="eta"):
        short_run(eta=-1).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        short_run().fit(X, np.where(y > 0, y, np.nan))
    with pytest.raises(RuntimeError, match="no valid starting point"):
        short_run(prior=impossible_prior()).fit(X, y)
    assert global_state() == before


@pytest.mark.parametrize(
    ("params", "error"),
    [
        pytest.param({"eta": -1}, ValueError, id="eta"),
        pytest.param({"groups": "who"}, ValueError, id="groups"),
        pytest.param({"device": "tpu:9"}, RuntimeError, id="device"),
        pytest.param({"prior": impossible_prior()}, RuntimeError, id="prior"),
    ],
)
def test_failing_fit_keeps_the_earlier_one(people, fitted, params, error):
    X, y = people
    expected, before = fitted.predict(X), set(vars(fitted))
    fitted.set_params(**params)
    with pytest.raises(error):
        fitted.fit(X[["subject", "x"]], y)
    assert set(vars(fitted)) == before
    assert list(fitted.feature_names_in_) == ["x", "subject"]
    assert_array_equal(fitted.predict(X), expected)


def search(groups="subject", **params):
    return HierarchicalSlopesRegressorCV(groups, cv="evidence", **SHORT | params)


@pytest.mark.parametrize("search_first", [False, True], ids=["fit", "search"])
@pytest.mark.parametrize("trouble", ["convergence", "data"])
def test_warning_made_an_error_keeps_the_earlier_fit(people, short_run, search_first, trouble):
    X, y = people
    make = search if search_first else short_run
    category = ConvergenceWarning if trouble == "convergence" else UserWarning
    other = X if trouble == "convergence" else X.assign(x=1.0)
    model, unfitted = (make(n_draws=50 if trouble == "convergence" else 500) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    expected, before = model.predict(X), {k: id(v) for k, v in vars(model).items()}
    parameters = set(vars(unfitted))
    for each in (model, unfitted):
        with warnings.catch_warnings():
            warnings.simplefilter("error", category)
            with pytest.raises(category):
                each.fit(other, y)
    assert {k: id(v) for k, v in vars(model).items()} == before
    assert_array_equal(model.predict(X), expected)
    assert set(vars(unfitted)) == parameters


@pytest.mark.parametrize("search_first", [False, True], ids=["fit", "search"])
def test_warnings_of_fit_point_at_the_users_line(people, short_run, search_first):
    model = (search if search_first else short_run)()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        model.fit(people[0].assign(x=1.0), people[1])
    assert {w.category for w in caught} == {UserWarning, ConvergenceWarning}
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line)}


def test_failing_fit_leaves_an_unfitted_estimator_unfitted(people, short_run):
    model = short_run(prior=impossible_prior())
    before = set(vars(model))
    with pytest.raises(RuntimeError, match="no valid starting point"):
        model.fit(*people)
    assert set(vars(model)) == before


def test_draws_do_not_depend_on_the_users_jax_settings(people, short_run, fitted):
    with (
        jax.enable_x64(True),
        jax.default_matmul_precision("bfloat16"),
        jax.threefry_partitionable(False),
    ):
        here = short_run().fit(*people)
        assert jax.numpy.zeros(1).dtype == np.float64
    assert same_draws(here, fitted)
    assert jax.numpy.zeros(1).dtype == np.float32


@pytest.fixture(scope="module")
def with_default_flags(people):
    X, y = people
    found = {}
    for inference in ("auto", "nuts"):
        model = HierarchicalSlopesRegressor("subject", inference=inference, **SHORT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found[inference] = model.fit(X, y)
    fitted = found["auto"]
    return found, fitted.sample_prior(X, 3, 0), fitted.prior_sensitivity()


@pytest.mark.parametrize(
    "flag", [flag if flag in QUICK_FLAGS else slow(flag)[0] for flag in JAX_FLAGS]
)
def test_no_flag_of_jax_changes_a_draw(people, with_default_flags, flag):
    X, y = people
    fits, prior_draws, sensitivity = with_default_flags
    before = getattr(jax.config, flag)
    jax.config.update(flag, JAX_FLAGS[flag])
    try:
        for fitted in fits.values():
            assert same_draws(clone(fitted).fit(X, y), fitted)
        assert_array_equal(fits["auto"].sample_prior(X, 3, 0), prior_draws)
        pd.testing.assert_frame_equal(fits["auto"].prior_sensitivity(), sensitivity)
        assert getattr(jax.config, flag) == JAX_FLAGS[flag]
    finally:
        jax.config.update(flag, before)


def test_attributes_hold_numpy_and_pandas_only(fitted):
    def leaves(value):
        if isinstance(value, dict):
            return [leaf for v in value.values() for leaf in leaves(v)]
        return [value]

    allowed = (np.ndarray, pd.DataFrame, pd.Series, str, int, float, list, type(None))
    public = {k: v for k, v in vars(fitted).items() if k.endswith("_") and not k.startswith("_")}
    assert all(isinstance(leaf, allowed) for leaf in leaves(public))
    assert not any(isinstance(leaf, jax.Array) for leaf in leaves(vars(fitted)))


def test_import_is_light_and_warns_of_nothing():
    code = "import json, sys, skhier; dir(skhier); json.dump(sorted(sys.modules), sys.stdout)"
    loaded = run_python(code, "-W", "error")
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()


@pytest.mark.parametrize("name", ["calibration", "datasets", "metrics", "plotting", "priors"])
def test_modules_are_there_after_import_of_the_package(name):
    code = (
        "import json, sys, skhier\n"
        f"there = {name!r} in dir(skhier), 'skhier.{name}' in sys.modules\n"
        f"json.dump([*there, skhier.{name}.__name__], sys.stdout)"
    )
    assert run_python(code, "-W", "error") == [True, False, f"skhier.{name}"]


def test_import_of_the_class_starts_no_jax():
    code = (
        "import json, sys, warnings, numpy, sklearn, pandas, scipy.special, narwhals\n"
        "import sklearn.utils.validation\n"
        "numpy.random.seed(0); before = list(warnings.filters)\n"
        "from skhier import HierarchicalSlopesRegressor, Prior, DecovPrior, datasets\n"
        "assert list(warnings.filters) == before\n"
        "json.dump([sorted(sys.modules), numpy.random.rand()], sys.stdout)"
    )
    loaded, drawn = run_python(code, "-W", "error")
    assert {name.split(".")[0] for name in loaded} & {"jax", "jaxlib", "numpyro", "arviz"} == set()
    np.random.seed(0)
    assert drawn == np.random.rand()


FIRST_CALLS = {
    "fit": "model.fit(X, y)",
    "fit in a thread": "ThreadPoolExecutor(1).submit(model.fit, X, y).result()",
    "sample_prior": "model.sample_prior(X, 3, 0, y=y)",
    "cache": "skhier.enable_compilation_cache(sys.argv[1])",
}


@pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)
def test_first_use_of_jax_leaves_generators_and_filters_alone(call, tmp_path):
    code = (
        "import json, random, sys, warnings, numpy as np, skhier\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        f"sys.argv.append({str(tmp_path)!r})\n"
        "warnings.simplefilter('ignore')\n"
        "X, y = np.linspace(-1, 1, 20)[:, None], np.sin(np.arange(20))\n"
        "model = skhier.HierarchicalSlopesRegressor(n_draws=50, random_state=0)\n"
        "assert 'jax' not in sys.modules\n"
        "np.random.seed(0); random.seed(0); before = list(warnings.filters)\n"
        f"{call}\n"
        "same = list(warnings.filters) == before\n"
        "found = [np.random.rand(), random.random(), same, 'jax' in sys.modules]\n"
        "json.dump(found, sys.stdout)"
    )
    drawn, also_drawn, same_filters, jax_is_loaded = run_python(code)
    assert drawn == np.random.RandomState(0).rand()
    assert also_drawn == random.Random(0).random()
    assert same_filters
    assert jax_is_loaded


@pytest.fixture(scope="module")
def fit_elsewhere():
    """The default fit of sleepstudy in a process without a home and with warnings as errors."""
    code = (
        "import json, sys\n"
        "from skhier import HierarchicalSlopesRegressor\n"
        "from skhier.datasets import load_sleepstudy\n"
        "X, y = load_sleepstudy(return_X_y=True, as_frame=True)\n"
        "m = HierarchicalSlopesRegressor('Subject', random_state=0).fit(X, y)\n"
        "mean, std = m.predict(X, return_std=True)\n"
        "found = {'mean': mean.tolist(), 'std': std.tolist(), 'arviz': 'arviz' in sys.modules}\n"
        "json.dump(found, sys.stdout)"
    )
    nowhere = {
        "HOME": "/proc/nope",
        "XDG_CACHE_HOME": "/proc/nope",
        "XDG_CONFIG_HOME": "/proc/nope",
    }
    return run_python(code, "-W", "error", **nowhere)


def test_fit_needs_no_home_and_no_arviz(fit_elsewhere):
    assert np.isfinite(fit_elsewhere["mean"]).all()
    assert not fit_elsewhere["arviz"]


def test_same_seed_gives_the_same_numbers_in_another_process(
    fit_elsewhere, sleepstudy_fit, sleepstudy
):
    mean, std = sleepstudy_fit.predict(sleepstudy[0], return_std=True)
    assert_array_equal(mean, fit_elsewhere["mean"])
    assert_array_equal(std, fit_elsewhere["std"])


def test_same_seed_gives_the_same_draws(people, short_run, fitted):
    again = short_run().fit(*people)
    assert same_draws(fitted, again)
    assert_array_equal(
        fitted.sample_y(people[0], 5, random_state=1), again.sample_y(people[0], 5, random_state=1)
    )
    pd.testing.assert_frame_equal(fitted.summary(True), again.summary(True), check_exact=True)


def test_another_seed_gives_other_draws(people, short_run, fitted):
    assert not same_draws(short_run(random_state=1).fit(*people), fitted)


def test_no_seed_gives_other_draws_each_time(people, short_run):
    one, two = (short_run(random_state=None).fit(*people) for _ in range(2))
    assert not same_draws(one, two)


def test_random_state_instance_advances(people, short_run):
    shared = np.random.RandomState(0)
    one, two = (short_run(random_state=shared).fit(*people) for _ in range(2))
    assert not same_draws(one, two)
    assert same_draws(one, short_run(random_state=np.random.RandomState(0)).fit(*people))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**32, r"between 0 and 2\*\*32 - 1"),
        (-1, r"between 0 and 2\*\*32 - 1"),
        (1.5, "cannot be used to seed"),
        ("a", "cannot be used to seed"),
        (np.random.default_rng(0), "cannot be used to seed"),
    ],
    ids=["large", "negative", "float", "string", "generator"],
)
def test_bad_seed_is_an_error(people, short_run, value, message):
    with pytest.raises(ValueError, match=message):
        short_run(random_state=value).fit(*people)


def test_other_rows_values_and_draws_compile_nothing(people, short_run, fitted):
    X, y = people
    with compilations() as compiled:
        for n_rows in (75, 80):
            prior = Prior(coef=n_rows / 70)
            model = short_run(eta=n_rows / 30, n_draws=n_rows, random_state=n_rows, prior=prior)
            model.fit(X[:n_rows], y[:n_rows])
    assert compiled == []


def by_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=3)
    buffer.seek(0)
    return joblib.load(buffer)


def by_cloudpickle(model):
    cloudpickle = pytest.importorskip("cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(model))


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [by_pickle, by_cloudpickle, by_joblib, copy.deepcopy])
def test_copy_predicts_the_same(people, fitted, copied):
    X, y = people
    twin = copied(fitted)
    for one, two in zip(
        fitted.predict(X, return_std=True), twin.predict(X, return_std=True), strict=True
    ):
        assert_array_equal(one, two)
    assert_array_equal(fitted.predict_interval(X), twin.predict_interval(X))
    assert_array_equal(fitted.sample_y(X, 3, random_state=0), twin.sample_y(X, 3, random_state=0))
    assert_array_equal(fitted.log_predictive_density(X, y), twin.log_predictive_density(X, y))
    pd.testing.assert_frame_equal(fitted.summary(True), twin.summary(True), check_exact=True)
    pd.testing.assert_frame_equal(fitted.prior_summary(), twin.prior_summary())
    assert twin.diagnostics_ == fitted.diagnostics_


def test_copy_fits_again(people, fitted):
    twin = by_pickle(fitted)
    assert same_draws(twin.fit(*people), fitted)
    assert "log_likelihood" in str(twin.to_arviz())


@pytest.mark.parametrize("dump", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_copy_holds_no_row(people, fitted, dump):
    X, y = people
    stored = dump(fitted)
    if not isinstance(stored, bytes):
        stored = pickle.dumps(vars(stored))
    for column in (X["x"].to_numpy(), y):
        raw = np.ascontiguousarray(column).tobytes()
        runs = [raw[i : i + 64] for i in range(0, len(raw) - 56, 8)]
        assert len(runs) == 73
        assert not any(run in stored for run in runs)


def test_pickle_refers_to_no_jax(people, fitted_under_distributions):
    X, y = people
    model = fitted_under_distributions
    stored = pickle.dumps(model)
    assert b"jax" not in stored
    twin = pickle.loads(stored)
    assert_array_equal(twin.predict(X), model.predict(X))
    assert same_draws(twin.fit(X, y), model)


def test_copies_hold_arrays_and_make_the_tables_anew(fitted):
    stored = pickle.dumps(fitted)
    assert b"pandas" not in stored
    twin = pickle.loads(stored)
    assert set(vars(twin)) == set(vars(fitted))
    assert twin._fitted.training is None
    for name in ("group_coef_", "group_coef_std_", "group_effects_", "group_corr_"):
        ours, theirs = getattr(fitted, name), getattr(twin, name)
        assert list(ours) == list(theirs) == ["subject"]
        pd.testing.assert_frame_equal(theirs["subject"], ours["subject"], check_exact=True)
    scales = (each.group_scale_["subject"] for each in (twin, fitted))
    pd.testing.assert_series_equal(*scales, check_exact=True)


def test_a_fit_of_another_version_says_so(fitted):
    ours = re.escape(skhier.__version__)
    state = fitted.__getstate__() | {"_skhier_version": "0.1.5"}
    with pytest.raises(ValueError, match=rf"saved by skhier 0\.1\.5, and this is skhier {ours}"):
        HierarchicalSlopesRegressor().__setstate__(state)
    unfitted = HierarchicalSlopesRegressor("g").__getstate__() | {"_skhier_version": "0.1.5"}
    HierarchicalSlopesRegressor().__setstate__(unfitted)
    for home, name in (("skhier.estimators._posterior", "Posterior"), ("skhier.utils.groups", "L")):
        with pytest.raises(
            ImportError, match=rf"saved by skhier 0\.1\.0, and this is skhier {ours}"
        ):
            pickle.loads(f"c{home}\n{name}\n.".encode())


def test_unpickled_fit_predicts_without_jax(people, fitted):
    code = (
        "import json, pickle, sys\n"
        "model, X, y = pickle.load(sys.stdin.buffer)\n"
        "mean, std = model.predict(X, return_std=True)\n"
        "model.predict_interval(X[:3]); model.sample_y(X[:3]); model.score(X, y)\n"
        "model.log_predictive_density(X, y); model.summary()\n"
        "model.sample_group_effects('subject')\n"
        "json.dump([sorted(sys.modules), mean.tolist(), std.tolist()], sys.stdout)"
    )
    loaded, *found = run_python(code, stdin=pickle.dumps((fitted, *people)))
    assert {name.split(".")[0] for name in loaded} & {"jax", "jaxlib", "numpyro", "arviz"} == set()
    assert_array_equal(found, fitted.predict(people[0], return_std=True))


def in_forked_child(work):
    """What ``work()`` returns or raises in a forked process, within a minute."""
    context = multiprocessing.get_context("fork")
    inbox, outbox = context.Pipe(duplex=False)

    def child():
        try:
            outbox.send(work())
        except Exception as error:
            outbox.send(error)

    process = context.Process(target=child, daemon=True)
    process.start()
    try:
        assert inbox.poll(60), "the forked process hangs"
        return inbox.recv()
    finally:
        process.kill()
        process.join(10)


# Python's own and JAX's warnings that threads and forks do not mix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_process_predicts_and_refuses_to_fit(people, short_run, fitted):
    X, y = people
    assert_array_equal(in_forked_child(lambda: fitted.predict(X)), fitted.predict(X))
    error = in_forked_child(lambda: short_run().fit(X, y))
    assert isinstance(error, RuntimeError)
    assert "forked after JAX had started" in str(error)
    assert "loky" in str(error)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("fit", lambda model, X, y: HierarchicalSlopesRegressorCV("subject").fit(X, y)),
        ("sample_prior", lambda model, X, y: model.sample_prior(X)),
        ("sample_prior", lambda model, X, y: clone(model).sample_prior(X, y=y)),
        ("prior_sensitivity", lambda model, X, y: model.prior_sensitivity()),
        ("simulation_based_calibration", lambda model, X, y: calibrate(model, X, 1)),
    ],
    ids=["search", "sample_prior", "sample_prior of y", "prior_sensitivity", "calibration"],
)
def test_refusal_in_a_forked_process_names_what_was_called(people, fitted, method, call):
    error = in_forked_child(lambda: call(fitted, *people))
    assert isinstance(error, RuntimeError)
    assert str(error).startswith(f"{method} was called in a process forked after JAX had started")


JAX_OF_THE_USER = """
import json, multiprocessing, sys, warnings
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from skhier import HierarchicalSlopesRegressor, Prior

warnings.simplefilter("ignore")
x = np.column_stack([np.linspace(-1, 1, 80), np.repeat(np.arange(10), 8)])
model = HierarchicalSlopesRegressor(1, prior=Prior(group_scale=dist.HalfNormal(jnp.ones(2))))

def work(outbox):
    try:
        model.fit(x, x[:, 0])
        outbox.send("fitted")
    except RuntimeError as error:
        outbox.send(str(error))

context = multiprocessing.get_context("fork")
inbox, outbox = context.Pipe(duplex=False)
process = context.Process(target=work, args=(outbox,), daemon=True)
process.start()
json.dump(inbox.recv() if inbox.poll(60) else "hangs", sys.stdout)
process.kill()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_arrays_of_a_users_prior_start_jax_too():
    assert "forked after JAX had started" in run_python(JAX_OF_THE_USER)


FORK_FIRST = """
import json, multiprocessing, sys, warnings
import numpy as np
from skhier import HierarchicalSlopesRegressor

def work():
    warnings.simplefilter("ignore")
    x = np.column_stack([np.linspace(-1, 1, 80), np.repeat(np.arange(10), 8)])
    model = HierarchicalSlopesRegressor(1, n_chains=2, n_warmup=100, n_draws=50, random_state=0)
    return model.fit(x, np.sin(9 * x[:, 0])).predict(x).tolist()

with multiprocessing.get_context("fork").Pool(1) as pool:
    there = pool.apply_async(work).get(120)
json.dump([there, work()], sys.stdout)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_process_forked_before_any_fit_can_fit():
    there, here = run_python(FORK_FIRST)
    assert there == here


def test_worker_thread_fits_as_the_main_one_does(people, short_run, fitted):
    before = global_state()
    with ThreadPoolExecutor(1) as pool:
        model = pool.submit(lambda: short_run().fit(*people)).result(timeout=120)
    assert same_draws(model, fitted)
    assert global_state() == before


def test_two_threads_trace_two_models_at_once(people, short_run):
    X, y = people
    # settings of no other test, so that both have to be traced here
    settings = [{"groups": None, "max_tree_depth": 7}, {"slopes": None, "max_tree_depth": 8}]
    start = threading.Barrier(2)

    def fit(params):
        start.wait(10)
        return short_run(**params).fit(X if "slopes" in params else X[["x"]], y)

    with ThreadPoolExecutor(2) as pool:
        together = [f.result(timeout=240) for f in [pool.submit(fit, s) for s in settings]]
    start = threading.Barrier(1)
    for params, model in zip(settings, together, strict=True):
        assert same_draws(fit(params), model)


INTERRUPTED = """
import json, os, signal, sys, threading, time, warnings
import numpy as np
from skhier import HierarchicalSlopesRegressor

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
x = rng.normal(size=(80, 2))
x[:, 1] = np.repeat(np.arange(10), 8)
y = x[:, 0] + rng.normal(size=80)
settings = {"n_chains": 2, "n_warmup": 100, "n_draws": 50, "random_state": 0}
model = HierarchicalSlopesRegressor(1, inference="nuts", **settings)
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it

def interrupted_fit(model, after):
    '''Seconds from the signal to KeyboardInterrupt.'''
    sent = []
    def send():
        time.sleep(after)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=send).start()
    try:
        model.fit(x, y)
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]
    return None

found = {}
"""

DURING_SAMPLING = (
    INTERRUPTED
    + """
expected = model.fit(x, y).predict(x)
new = HierarchicalSlopesRegressor(**model.get_params()).set_params(n_draws=10**8)
found["seconds"] = interrupted_fit(new, 1.0)
time.sleep(0.5)  # the slice under way
began = time.process_time()
time.sleep(2)
found["cpu"] = time.process_time() - began
found["fitted"] = [name for name in vars(new) if name.endswith("_") or name.startswith("_")]
found["refit"] = interrupted_fit(model.set_params(n_draws=10**8), 1.0)
found["kept"] = bool(np.array_equal(model.predict(x), expected))
again = model.set_params(n_draws=50).fit(x, y).predict(x)
found["same"] = bool(np.array_equal(again, expected))
json.dump(found, sys.stdout)
"""
)

DURING_COMPILATION = (
    INTERRUPTED
    + """
import jax, skhier.inference.nuts
jax.config.update("jax_enable_compilation_cache", False)
found["seconds"] = interrupted_fit(model, 1.5)
found["fitted"] = [name for name in vars(model) if name.endswith("_") or name.startswith("_")]
json.dump(found, sys.stdout)
"""
)

EXIT_DURING_SAMPLING = (
    INTERRUPTED
    + """
model.fit(x, y)
model.set_params(n_draws=10**8)
threading.Thread(target=model.fit, args=(x, y), daemon=True).start()
time.sleep(1.0)
json.dump(found, sys.stdout)
"""
)


def test_interrupt_during_sampling_stops_it_within_a_second():
    found = run_python(DURING_SAMPLING)
    assert found["seconds"] < 1
    assert found["refit"] < 1
    assert found["cpu"] < 0.3
    assert found["fitted"] == []
    assert found["kept"]
    assert found["same"]


def test_interrupt_during_compilation_returns_within_a_second():
    found = run_python(DURING_COMPILATION, XLA_FLAGS="")  # at full length
    assert found["seconds"] < 1
    assert found["fitted"] == []


LITTLE_ADDRESS_SPACE = """
import json, resource, sys, warnings
import numpy as np
from skhier import HierarchicalSlopesRegressor

warnings.simplefilter("ignore")
x = np.column_stack([np.linspace(-1, 1, 80), np.repeat(np.arange(10), 8)])
y = np.sin(9 * x[:, 0])
settings = {"n_chains": 2, "n_warmup": 100, "n_draws": 50, "random_state": 0}
_, hard = resource.getrlimit(resource.RLIMIT_AS)

def limited_fit(model, limit):
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        model.fit(x, y)
    except MemoryError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

new = HierarchicalSlopesRegressor(1, **settings)
found = {"new": [limited_fit(new, 2 * 10**9), [k for k in vars(new) if k.endswith("_")]]}
found["enough"] = limited_fit(new, 8 * 10**9)
expected = new.predict(x)
found["fitted"] = limited_fit(new.set_params(slopes=None, inference="nuts"), 2 * 10**8)
found["kept"] = bool(np.array_equal(new.predict(x), expected))
json.dump(found, sys.stdout)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
def test_little_address_space_is_a_memory_error_and_no_end_of_the_process():
    found = run_python(LITTLE_ADDRESS_SPACE)
    message, attributes = found["new"]
    assert "of the 2.0 GB that this process is limited to (ulimit -v, RLIMIT_AS)" in message
    assert attributes == []
    assert found["enough"] is None
    assert "of the 0.2 GB that this process is limited to" in found["fitted"]
    assert found["kept"]


@pytest.mark.slow
def test_exit_during_sampling_stops_it():
    run_python(EXIT_DURING_SAMPLING, timeout=120)
