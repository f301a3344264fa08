"""Threads of LAPACK: given up for a while, and given back."""

import threading

from threadpoolctl import threadpool_info, threadpool_limits

from skhier.kernels.runtime import side_by_side_calls


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


def test_fits_that_overlap_give_the_threads_back():
    before, inside = blas_threads(), []
    entered, left = threading.Event(), threading.Event()

    def outlasts():
        with side_by_side_calls(None):
            entered.set()
            left.wait(10)
            inside.append(blas_threads())

    thread = threading.Thread(target=outlasts)
    with side_by_side_calls(None):  # the first to come and the first to go
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join()
    assert set(inside[0]) == {1}
    assert blas_threads() == before
