"""Where and how JAX runs: float64, one device, interruptible.

The only file that deals with JAX's settings. They are changed for one thread and for the length of
a ``with`` block; the user's stay as they were.
"""

import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np

__all__ = [
    "enable_compilation_cache",
    "find_device",
    "is_cpu",
    "precisely_on",
    "run_side_by_side",
    "side_by_side_calls",
]

T = TypeVar("T")

# in the words of XLA, and of Python where the system refuses a thread its stack
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "can't start new thread")

# JAX's context managers and what they are set to
SETTINGS: dict[str, Any] = {
    "enable_x64": True,
    "default_matmul_precision": "highest",
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "threefry_partitionable": True,
    "default_prng_impl": "threefry2x32",
    "enable_custom_prng": False,
    "legacy_prng_key": "allow",
    "disable_jit": False,
    "debug_nans": False,
    "debug_infs": False,
    "debug_key_reuse": False,
    "check_tracer_leaks": False,
    "transfer_guard": "allow",
}

_blas: dict[str, int] = {}
_blas_lock = threading.Lock()


def find_device(device: str | None) -> Any:
    """The JAX device of ``None`` (the calling thread's default), "cpu", "gpu" or "gpu:1".

    Raises
    ------
    RuntimeError
        No such device is visible.
    """
    if device is None:
        return jax.config.jax_default_device  # type: ignore[attr-defined]
    platform, _, index = device.partition(":")
    try:
        devices = jax.devices(platform)
    except Exception as error:  # depends on the platform, JAX_PLATFORMS and the version
        seen = ", ".join(sorted({d.platform for d in jax.devices()}))
        advice = (
            "pip install 'skhier[gpu]' installs JAX's CUDA build; " if platform != "cpu" else ""
        )
        raise RuntimeError(
            f"device={device!r} was asked for, but JAX sees only: {seen}. {advice}"
            "device=None takes JAX's default."
        ) from error
    if index and int(index) >= len(devices):
        raise RuntimeError(
            f"device={device!r} was asked for, but JAX sees {len(devices)} {platform} device(s), "
            f"numbered from 0."
        )
    return devices[int(index or 0)]


def enable_compilation_cache(path: str | os.PathLike[str] | None = None) -> str:
    """Keep compiled programs on disk, so that later processes need not compile them again.

    Sets JAX's persistent compilation cache for this whole process, whatever else uses JAX in it;
    the only function of skhier that changes such a setting.

    Parameters
    ----------
    path : path or None
        A folder, made if need be; None: ``skhier`` in the user's cache folder
        (``$XDG_CACHE_HOME``, else ``~/.cache``).

    Returns
    -------
    str
        The folder.

    Examples
    --------
    >>> import skhier
    >>> folder = skhier.enable_compilation_cache()  # doctest: +SKIP
    """
    if path is None:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skhier"
    Path(path).mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", os.fspath(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return os.fspath(path)


def is_cpu(device: Any) -> bool:
    """Whether a device of :func:`find_device` is a CPU."""
    device = jax.devices()[0] if device is None else device
    return (device if isinstance(device, str) else device.platform) == "cpu"


@contextmanager
def precisely_on(device: Any) -> Iterator[None]:
    """float64, full-precision products and one random stream, on this device, in this thread.

    Whatever the user has set: flags that help to find errors (NaN, key reuse, strict promotion)
    would find what is meant to be there, such as a density that is not finite at a random point.

    Raises
    ------
    RuntimeError
        The user's flags make new arrays float32 all the same.
    """
    with ExitStack() as stack:
        stack.enter_context(jax.default_device(device))
        for setting, value in SETTINGS.items():
            if hasattr(jax, setting):  # not every version has every one
                stack.enter_context(getattr(jax, setting)(value))
        if jax.numpy.result_type(float) != np.float64:
            raise RuntimeError(
                "JAX makes float32 arrays although float64 is enabled, because its flag "
                "jax_default_dtype_bits is '32'. Set it to '64', "
                "`jax.config.update('jax_default_dtype_bits', '64')`, and unset the environment "
                "variable JAX_DEFAULT_DTYPE_BITS."
            )
        yield


def run_side_by_side(works: Sequence[Callable[[Callable[[], None]], T]]) -> list[T]:
    """Run each ``work(check)`` in a thread of its own, so that Ctrl-C reaches the caller at once.

    Compiled code cannot be interrupted and holds the thread it runs in. On an interrupt the
    caller goes on, and the works stop at their next call of ``check``; so do the others when one
    fails.

    Parameters
    ----------
    works : sequence of callables
        Each gets a function that raises once it is no longer wanted.

    Returns
    -------
    list
        What the works returned.

    Raises
    ------
    BaseException
        What the first work to fail raised, or the interrupt; MemoryError where JAX or the system
        says otherwise that memory ran out.
    """
    values: list[Any] = [None] * len(works)
    errors: list[BaseException] = []
    stopped = threading.Event()
    ended = [threading.Event() for _ in works]

    def check() -> None:
        if stopped.is_set() or not threading.main_thread().is_alive():  # Python is exiting
            raise _Stopped

    def run(i: int) -> None:
        try:
            values[i] = works[i](check)
        except BaseException as error:  # handed to the caller, whatever it is
            errors.append(error)
            stopped.set()
        finally:
            ended[i].set()

    # no daemons: Python waits for them at its exit, where compiled code would take it down
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(run, i), daemon=False)
        for i in range(len(works))
    ]
    try:
        for thread in threads:
            thread.start()
        # not by Thread.join: interrupted there, Python 3.11 takes the thread for dead at its exit
        for end in ended:
            while not end.wait(0.05):
                pass
    except BaseException as error:
        stopped.set()
        _raise(error)
    if errors:
        _raise(errors[0])
    return values


def _raise(error: BaseException) -> NoReturn:
    said = str(error)
    if isinstance(error, RuntimeError) and any(sign in said for sign in OUT_OF_MEMORY):
        raise MemoryError(
            f"JAX ran out of memory ({said.splitlines()[0]}). Lower n_chains or n_draws, end "
            "other programs that use the device, or take one with more memory."
        ) from error
    raise error


class _Stopped(Exception):
    """The caller was interrupted, another work failed, or Python is exiting."""


@contextmanager
def side_by_side_calls(device: Any) -> Iterator[int]:
    """LAPACK on one thread a call; yields how many calls may run side by side.

    As many as LAPACK had threads, so that limits that a user or joblib has set hold. Its own
    threads share out a matrix of a thousand columns badly, and wait for each other for seconds
    where other processes want the same cores.
    """
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    with _blas_lock:
        mine = "threads" not in _blas
        if mine:
            n_threads = [library["num_threads"] for library in blas.info()]
            _blas["threads"] = max(n_threads, default=1)
        workers = _blas["threads"] if is_cpu(device) else 1
    if not mine:  # of fits that overlap only the first limits and gives back
        yield workers
        return
    try:
        with blas.limit(limits=1):
            yield workers
    finally:
        _blas.clear()
