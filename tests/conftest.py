"""Fixtures shared by the tests: data, and fits that several tests look at."""

import gc
import importlib.util
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import SHORT
from sklearn.exceptions import ConvergenceWarning

# compiled programs are shared by the workers, by subprocesses and by the next run
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import load_sleepstudy, make_hierarchical

MANY_MAPS = 40_000
# of scikit-learn's checks those with a column of noise as groups, and of rows that a line fits
LONG_CHECKS = re.compile(
    r"passes_sklearn\[HierarchicalSlopesRegressor.*(groups=0|sample_weight_eq)"
)
# most programs of the quick tests run once or twice, and take longer to optimise than to run
COMPILE_QUICKLY = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


@pytest.fixture(scope="session")
def sleepstudy():
    """X (Days, Subject) and y of the sleepstudy data."""
    return load_sleepstudy(return_X_y=True, as_frame=True)


@pytest.fixture(scope="session")
def sleepstudy_fit(sleepstudy):
    """The default model of sleepstudy; do not modify."""
    return HierarchicalSlopesRegressor(groups="Subject", random_state=0).fit(*sleepstudy)


@pytest.fixture(scope="session")
def people():
    """X (x, subject) and y: ten subjects with lines of their own, eight rows each."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(10), 8)
    x = rng.normal(size=80)
    lines = rng.normal([1, 2], [1, 0.5], size=(10, 2))
    y = lines[code, 0] + lines[code, 1] * x + 0.3 * rng.normal(size=80)
    return pd.DataFrame({"x": x, "subject": [f"s{g}" for g in code]}), y


@pytest.fixture(scope="session")
def fitted(people):
    """A short run on ``people``; do not modify."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return HierarchicalSlopesRegressor("subject", **SHORT).fit(*people)


@pytest.fixture
def short_run():
    """Makes unfitted estimators that sample quickly; arguments are the estimator's."""

    def make(groups="subject", **params):
        return HierarchicalSlopesRegressor(groups, **{**SHORT, **params})

    return make


@pytest.fixture
def fitted_under_distributions(people, short_run):
    """A short run on ``people`` under a prior of distributions, some with arrays of JAX."""
    import jax.numpy as jnp
    import numpyro.distributions as dist

    from skhier import Prior

    prior = Prior(
        intercept=dist.Normal(0.0, jnp.array(5.0)),
        coef={"x": dist.StudentT(3, 0.0, 2.0)},
        group_scale=dist.HalfNormal(jnp.ones(2)),
        noise_scale=dist.TruncatedNormal(1.0, 2.0, low=0.0),
    )
    return short_run(prior=prior).fit(*people)


@pytest.fixture(scope="session")
def crossed():
    """Factors a and b, whose slopes are those of different features; 150 rows."""
    return make_hierarchical(
        150,
        2,
        groups={"a": 8, "b": 6},
        slopes={"a": ["x0"], "b": ["x1"]},
        group_scale={"a": [1.0, 0.7], "b": [0.8, 0.4]},
        group_corr=0.3,
        intercept=2.0,
        coef=[1.0, -0.5],
        noise_scale=0.5,
        random_state=0,
    )


@pytest.fixture(scope="session")
def crossed_fit(crossed):
    model = HierarchicalSlopesRegressor(crossed.groups, random_state=0)
    return model.fit(crossed.data, crossed.target)


@pytest.fixture(scope="session")
def nested():
    """Cafes within states, a slope by state; cafe 1 of one state is not cafe 1 of another."""
    return make_hierarchical(
        150,
        1,
        groups={"state": 5, ("state", "cafe"): 4},
        slopes={"state": ["x0"], ("state", "cafe"): None},
        group_scale=0.7,
        noise_scale=0.5,
        random_state=1,
    )


@pytest.fixture(scope="session")
def nested_fit(nested):
    model = HierarchicalSlopesRegressor(nested.groups, random_state=0)
    return model.fit(nested.data, nested.target)


def pytest_configure(config):
    if "not slow" in config.option.markexpr and "XLA_FLAGS" not in os.environ:
        flags = os.environ | {"XLA_FLAGS": COMPILE_QUICKLY}
        asked = [sys.executable, "-c", "import jax; jax.devices('cpu')"]
        if not subprocess.run(asked, env=flags, capture_output=True).returncode:
            os.environ["XLA_FLAGS"] = COMPILE_QUICKLY  # else unknown to this version
    if importlib.util.find_spec("pyspark"):  # leaves its sockets open, and forks to start a JVM
        config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")
        config.addinivalue_line("filterwarnings", "ignore:os.fork:RuntimeWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Checks that take long are slow tests; GPU tests skip with a reason where JAX sees no GPU."""
    for item in items:
        if LONG_CHECKS.search(item.name):
            item.add_marker("slow")
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _gpu_visible():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="JAX sees no GPU"))


def _gpu_visible():
    import jax

    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Drop compiled programs before there are so many that the system refuses memory for another.

    Each holds some memory maps, of which Linux gives a process 65,530; they are read again from
    the cache on disk.
    """
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and len(maps.read_bytes().splitlines()) > MANY_MAPS:
        import jax

        jax.clear_caches()
        gc.collect()
