"""NumPy's global generator and the warning filters around imports that change them."""

import threading
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skhier.utils.imports import DRAWN_BY_JAX, imports_without_trace


@pytest.fixture(autouse=True)
def _seeded():
    """A known state of the global generator, and then that of before."""
    state = np.random.get_state()
    np.random.seed(3)
    yield
    np.random.set_state(state)


def like_jax():
    np.random.rand(DRAWN_BY_JAX)


def in_a_thread(work):
    """Run it in another thread; with that thread still there, what follows is not alone."""
    done = threading.Event()
    stop = threading.Event()

    def run():
        work()
        done.set()
        stop.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    assert done.wait(10)
    return stop, thread


expected = np.random.RandomState(3).rand(2)


def test_draws_of_an_import_are_taken_back():
    with imports_without_trace():
        like_jax()
    assert_array_equal(np.random.rand(2), expected)


def test_draws_of_an_import_that_fails_are_taken_back():
    def failing():
        with imports_without_trace():
            like_jax()
            raise ImportError

    with pytest.raises(ImportError):
        failing()
    assert_array_equal(np.random.rand(2), expected)


def test_draws_of_an_import_are_taken_back_beside_threads_that_draw_none():
    stop, thread = in_a_thread(lambda: None)
    with imports_without_trace():
        like_jax()
    stop.set()
    thread.join()
    assert_array_equal(np.random.rand(2), expected)


def test_draws_of_another_thread_are_never_drawn_again():
    drawn = []
    with imports_without_trace():
        like_jax()
        stop, thread = in_a_thread(lambda: drawn.extend(np.random.rand(3)))
    stop.set()
    thread.join()
    assert set(np.random.rand(20)) & set(drawn) == set()


def test_filters_of_an_import_are_removed_and_others_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        before = list(warnings.filters)
        with imports_without_trace():
            warnings.filterwarnings("ignore", "added by an import", UserWarning)
        assert list(warnings.filters) == before
        with pytest.raises(UserWarning, match="added by an import"):
            warnings.warn("added by an import", UserWarning, stacklevel=1)
