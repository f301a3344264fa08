"""Imports in the midst of a method, which a user does not expect to change anything."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["imports_without_trace"]

# jax._src.clusters.k8s_cluster draws as many waiting times when it is imported
DRAWN_BY_JAX = 5


@contextmanager
def imports_without_trace() -> Iterator[None]:
    """Put NumPy's global generator and the warning filters back as they were before imports.

    The generator only if no other thread has drawn from it meanwhile: that thread would draw the
    same numbers again.
    """
    state, filters = np.random.get_state(legacy=False), list(warnings.filters)
    try:
        yield
    finally:
        _put_generator_back(state)
        for added in [each for each in warnings.filters if each not in filters]:
            warnings.filters.remove(added)  # type: ignore[attr-defined]
        with warnings.catch_warnings():  # tells Python that the filters are others
            pass


def _put_generator_back(state) -> None:
    expected = np.random.RandomState()
    expected.set_state(state)
    expected.rand(DRAWN_BY_JAX)
    with np.random.get_bit_generator().lock:  # type: ignore[attr-defined]
        alone = threading.active_count() == 1
        if alone or _same(np.random.get_state(legacy=False), expected.get_state(legacy=False)):
            np.random.set_state(state)


def _same(one, other) -> bool:
    positions = (each["state"]["pos"] for each in (one, other))
    keys = (each["state"]["key"] for each in (one, other))
    return len(set(positions)) == 1 and bool(np.array_equal(*keys))
