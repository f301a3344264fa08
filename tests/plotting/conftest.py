"""Fixtures of the displays' tests: fits with many groups, several factors, few effects."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from displays import short_fit

from skhier.datasets import make_hierarchical


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def thousand():
    """A model of 1,000 groups of 1 to some 40 rows, its X and y, and as many new rows."""
    sim = make_hierarchical(
        12_000, 3, groups=1000, slopes=["x0", "x1"], balanced=False, random_state=1
    )
    X, y = sim.data, sim.target
    seen = np.arange(len(y)) % 2 == 0
    model = short_fit(X[seen], y[seen], "group", slopes=["x0", "x1"], n_draws=500)
    new = ~seen & X["group"].isin(model.group_levels_["group"])
    return model, X[seen], y[seen], X[new], y[new]


@pytest.fixture(scope="session")
def crossed():
    """A model of two crossed factors with different slopes, its X and y."""
    sim = make_hierarchical(
        300,
        2,
        groups={"person": 8, "item": 12},
        slopes={"person": ["x0", "x1"], "item": ["x1"]},
        group_scale={"person": [1.0, 0.5, 0.5], "item": [2.0, 0.5]},
        random_state=0,
    )
    return short_fit(sim.data, sim.target, sim.groups), sim.data, sim.target


@pytest.fixture(scope="session")
def nested():
    """A model of cafes 0 to 3 in each of five states, its X and y."""
    sim = make_hierarchical(
        300, 1, groups={"state": 5, ("state", "cafe"): 4}, group_scale=[2.0, 0.5], random_state=0
    )
    X = sim.data.assign(cafe=sim.data["cafe"].str.removeprefix("cafe_").astype(int))
    return short_fit(X, sim.target, sim.groups), X, sim.target


@pytest.fixture(params=["crossed", "nested"])
def several(request):
    """Each model of several factors, its X and y, in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def population_only(sleepstudy):
    X, y = sleepstudy
    return short_fit(X[["Days"]], y), X[["Days"]], y


@pytest.fixture(scope="session")
def intercepts_only(sleepstudy):
    return short_fit(*sleepstudy, "Subject", slopes=None), *sleepstudy
