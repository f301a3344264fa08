"""skhier's part of the benchmarks, on a few rows."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no benchmarks beside the tests")


@pytest.fixture
def harness(monkeypatch):
    """Modules of the benchmarks by name, which are gone again afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("response", ["normal", "bernoulli", "poisson"])
def test_a_fit_has_what_is_compared(harness, response):
    contract, library = harness("contract"), harness("libraries.skhier")
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(60, 1)), rng.integers(0, 6, 60)
    y = {"normal": x[:, 0] + rng.normal(size=60), "bernoulli": rng.integers(0, 2, 60)}
    task = contract.Task(
        name="few rows",
        x=x,
        y=np.asarray(y.get(response, rng.poisson(2.0, 60)), float),
        codes={"g": codes},
        features=("x0",),
        factors=(contract.Factor("g", 6, ("x0",)),),
        priors=contract.Priors((0.0, 2.5), 2.5, {"g": (1.0, 1.0)}, 1.0),
        sampling=contract.Sampling(n_chains=2, n_warmup=100, n_draws=100),
        response=response,
    )
    values = library.fit(task, seed=0).values
    assert all(np.isfinite(draws).all() for draws in values.values())
    assert ("noise_scale" in " ".join(values)) == (response == "normal")
