"""Threads of LAPACK: given up for a while, and given back. Flags of JAX that forbid float64."""

import threading

import jax
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skhier.inference.runtime import precisely_on, run_side_by_side, side_by_side_calls


def blas_threads():
    return [
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    ]


def test_lapack_has_one_thread_a_call_and_then_as_many_as_before():
    before = blas_threads()
    with side_by_side_calls(None) as workers:
        assert workers == max(before)
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_a_users_limit_holds():
    with threadpool_limits(1, user_api="blas"), side_by_side_calls(None) as workers:
        assert workers == 1


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_fits_that_overlap_give_the_threads_back(first_leaves_first):
    before, found = blas_threads(), []
    entered, go = threading.Event(), threading.Event()

    def other():
        with side_by_side_calls(None) as workers:
            found.append(workers)
            entered.set()
            assert go.wait(10)

    thread = threading.Thread(target=other)
    with side_by_side_calls(None) as workers:
        thread.start()
        assert entered.wait(10)
        if not first_leaves_first:
            go.set()
            thread.join()
            assert set(blas_threads()) == {1}
    go.set()
    thread.join()
    assert found == [workers]
    assert blas_threads() == before


def test_float32_in_spite_of_x64_is_an_error(monkeypatch):
    # JAX 0.8 with jax_default_dtype_bits=32; later versions have no such flag
    monkeypatch.setattr(jax.numpy, "result_type", lambda *_: np.dtype(np.float32))
    with (
        pytest.raises(RuntimeError, match=r"jax_default_dtype_bits.*'64'"),
        precisely_on(None),
    ):
        pass
    monkeypatch.undo()
    assert jax.numpy.zeros(1).dtype == np.float32
    with precisely_on(None):
        assert jax.numpy.zeros(1).dtype == np.float64


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory allocating 80000000000 bytes.\nmore", MemoryError),
        ("can't start new thread", MemoryError),
        ("no valid starting point", RuntimeError),
    ],
)
def test_memory_that_ran_out_is_a_memory_error(said, kind):
    def work(check):
        raise RuntimeError(said)

    with pytest.raises(kind, match=said.splitlines()[0]) as caught:
        run_side_by_side([work])
    assert type(caught.value) is kind


def test_a_thread_that_cannot_start_is_a_memory_error(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(MemoryError, match="Lower n_chains or n_draws"):
        run_side_by_side([lambda check: 1])
