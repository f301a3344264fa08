"""Comparison of a fit with stored figures, within Monte Carlo error.

Agreement, for every parameter: effective sample size of 1000 or more; means within 5 combined
Monte Carlo standard errors and within a tenth of a posterior sd; sds within 5 combined Monte Carlo
standard errors and within 10%. Each file in ``data/`` says where its figures come from.
"""

import json
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from skhier.utils.diagnostics import ess_bulk, mcse_mean, mcse_sd

HERE = Path(__file__).parent
MIN_ESS = 1000
MAX_DIVERGENT = 0.005  # share of the transitions


@pytest.fixture(scope="session")
def reference():
    """``reference("cafe_exact")`` reads a file of figures."""

    def read(name):
        return json.loads((HERE / "data" / f"{name}.json").read_text(encoding="utf-8"))

    read.folder = HERE / "data"
    return read


@pytest.fixture(scope="session")
def example():
    """``example("plot_cafes")``: the functions of an example, so that its own models are tested."""

    def load(name):
        path = HERE.parents[1] / "examples" / f"{name}.py"
        return runpy.run_path(str(path), run_name="example")

    return load


@pytest.fixture(scope="session")
def fit():
    """``fit(model, X, y)``: a few divergent transitions are no failure, disagreement is."""
    return _fit


@pytest.fixture(scope="session")
def draws_of():
    return _draws_of


@pytest.fixture(scope="session")
def assert_agrees():
    return _assert_agrees


def _fit(model, X, y):
    with warnings.catch_warnings():
        message = r"\d+ of \d+ transitions diverged"
        warnings.filterwarnings("ignore", message, ConvergenceWarning)
        model.fit(X, y)
    regressor = model[-1] if isinstance(model, Pipeline) else model
    n_transitions = regressor.posterior_["intercept"].size
    assert regressor.diagnostics_.get("divergences", 0) <= MAX_DIVERGENT * n_transitions
    return model


def _draws_of(model):
    """Draws (n_chains, n_draws) of every scalar under its name in ``summary``."""
    posterior = model.posterior_
    shape = posterior["intercept"].shape
    draws = {k: posterior[k] for k in ("intercept", "noise_scale") if k in posterior}
    for j, name in enumerate(model.coef_names_):
        draws[f"coef[{name}]"] = posterior["coef"][..., j]
    for factor, table in model.group_effects_.items():
        effects = model.sample_group_effects(factor).reshape(*shape, *table.shape)
        for i, one in enumerate(table.columns):
            draws[f"group_scale[{factor}, {one}]"] = posterior["group_scale"][factor][..., i]
            for j, other in enumerate(table.columns[:i]):
                corr = posterior["group_corr"][factor][..., i, j]
                draws[f"group_corr[{factor}, {other}, {one}]"] = corr
            for g, level in enumerate(table.index):
                draws[f"group_effects[{factor}, {level}, {one}]"] = effects[..., g, i]
    return draws


def _table_entry(model, name):
    """The entry of the table ``group_effects_``, whose labels need not be strings."""
    factor, level, effect = name.removeprefix("group_effects[").removesuffix("]").split(", ")
    table = model.group_effects_[factor]
    return table.set_axis(table.index.astype(str)).loc[level, effect]


def _assert_agrees(model, parameters):
    """Draws, and the table of group effects, against (mean, sd, mcse_mean, mcse_sd) by name."""
    draws = _draws_of(model)
    ours = np.stack([draws[name] for name in parameters], axis=-1)
    mean, sd, mcse, mcse_of_sd = np.array(list(parameters.values())).T
    difference = ours.mean((0, 1)) - mean
    z = difference / np.hypot(mcse, mcse_mean(ours))
    ratio = ours.std((0, 1), ddof=1) / sd
    z_sd = (ratio - 1) * sd / np.hypot(mcse_of_sd, mcse_sd(ours))
    ess = ess_bulk(ours)
    in_table = [i for i, name in enumerate(parameters) if name.startswith("group_effects")]
    table = np.array([_table_entry(model, list(parameters)[i]) for i in in_table])
    off = (table - mean[in_table]) / np.hypot(mcse, mcse_mean(ours))[in_table]
    print(
        f"{len(z)} parameters: |z| <= {np.abs(z).max():.2f} (rms {np.sqrt((z**2).mean()):.2f}), "
        f"|difference| <= {np.abs(difference / sd).max():.4f} sd, sd ratio {ratio.min():.3f} to "
        f"{ratio.max():.3f} (|z| <= {np.abs(z_sd).max():.2f}), ESS >= {ess.min():.0f}, "
        f"table |z| <= {np.abs(off).max():.2f}"
    )
    for values, limit in ((z, 5), (difference / sd, 0.1), (z_sd, 5), (ratio - 1, 0.1), (off, 5)):
        worst = np.abs(values).argmax()
        assert abs(values.flat[worst]) <= limit, (worst, values, list(parameters))
    assert ess.min() >= MIN_ESS, list(parameters)[ess.argmin()]
