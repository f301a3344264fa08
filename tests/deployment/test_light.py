"""A server without JAX: NumPy, SciPy, pandas, scikit-learn and narwhals load a fit and predict."""

import json
import os
import pickle
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from skhier import HierarchicalSlopesClassifier

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ABSENT = "jax,jaxlib,numpyro,arviz,xarray,psutil,tqdm,matplotlib,polars,pyarrow,dask,duckdb"
LIGHT = ["numpy", "scipy", "pandas", "scikit-learn", "narwhals"]


@pytest.fixture(scope="module")
def fits(tmp_path_factory, sleepstudy, sleepstudy_fit, crossed, crossed_fit):
    """A folder of pickles of a normal, a two-factor and a Bernoulli fit, and their answers."""
    folder = tmp_path_factory.mktemp("fits")
    X, y = sleepstudy
    slow = HierarchicalSlopesClassifier("Subject", slopes=None, random_state=0).fit(X, y > 300)
    rows = {
        "normal": (sleepstudy_fit, X, y),
        "two": (crossed_fit, crossed.data, crossed.target),
        "bernoulli": (slow, X, y > 300),
    }
    for name, (model, X, y) in rows.items():
        _write(folder / name, model, X[:40], np.asarray(y)[:40])
    return folder


def _write(path, model, X, y):
    kind = {"kind": "mean"} if hasattr(model, "classes_") else {}
    answers = {
        "X": X.to_dict("list"),
        "y": y.tolist(),
        "predict": model.predict(X).tolist(),
        "interval": model.predict_interval(X, coverage=0.9, **kind).tolist(),
        "density": model.log_predictive_density(X, y).tolist(),
        "population": model.predict(X, level="population").tolist(),
    }
    path.with_suffix(".pickle").write_bytes(pickle.dumps(model))
    path.with_suffix(".json").write_text(json.dumps(answers), encoding="utf-8")


def _run(*command, **env):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | env, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_fits_predict_where_jax_cannot_be_imported(fits):
    served = _run(sys.executable, HERE / "blocked.py", ABSENT, HERE / "serve_light.py", fits)
    assert served == ["bernoulli", "normal", "two"]


@pytest.mark.slow
def test_fits_predict_in_an_environment_without_jax(fits, tmp_path):
    venv.create(tmp_path / "light", with_pip=True)
    python = tmp_path / "light" / ("Scripts" if os.name == "nt" else "bin") / "python"
    # versions that fitted: a pickle of another scikit-learn warns
    versions = [f"{name}=={version(name)}" for name in LIGHT]
    _run(python, "-m", "pip", "install", "--quiet", *versions)
    _run(python, "-m", "pip", "install", "--quiet", "--no-deps", ROOT)
    served = _run(python, HERE / "serve_light.py", fits, PYTHONPATH="")
    assert served == ["bernoulli", "normal", "two"]
