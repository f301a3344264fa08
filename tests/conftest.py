"""Fixtures shared by the tests: data, and fits that several tests look at."""

import os
from pathlib import Path

import pytest

# compiled programs are shared by the workers, by subprocesses and by the next run
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import load_sleepstudy


@pytest.fixture(scope="session")
def sleepstudy():
    """X (Days, Subject) and y of the sleepstudy data."""
    return load_sleepstudy(return_X_y=True, as_frame=True)


@pytest.fixture(scope="session")
def sleepstudy_fit(sleepstudy):
    """The default model of sleepstudy; do not modify."""
    return HierarchicalSlopesRegressor(groups="Subject", random_state=0).fit(*sleepstudy)


def pytest_collection_modifyitems(config, items):
    """GPU tests skip with a reason where JAX sees no GPU."""
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
