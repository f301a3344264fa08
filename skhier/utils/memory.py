"""Refuse what does not fit into memory before it is allocated.

psutil is imported where it is asked: a server that predicts without it goes on unchecked.
"""

import os

from skhier.utils.forks import jax_has_started

__all__ = ["require_address_space", "require_memory"]

# of JAX's libraries, threads and first programs, measured; a thread's stack is 8 MB
TO_START_JAX, PER_CORE = 1.9e9, 0.05e9
TO_GO_ON = 0.5e9


def require_memory(
    n_bytes: float, what: str, advice: str = "Ask for fewer levels, rows or draws."
) -> None:
    """Raise MemoryError if ``n_bytes`` exceed the memory available now, where psutil tells it.

    Parameters
    ----------
    n_bytes : float
        At the peak, copies and temporary arrays included.
    what : str
        Subject of the message.
    advice : str
        What to do instead, a sentence.
    """
    try:
        import psutil
    except ImportError:
        return
    available = psutil.virtual_memory().available
    if n_bytes > available:
        raise MemoryError(
            f"{what} would take {n_bytes / 1e9:.1f} GB; {available / 1e9:.1f} GB are available. "
            f"{advice}"
        )


def require_address_space() -> None:
    """Raise MemoryError if a limit on the address space leaves JAX too little.

    JAX reserves more than it uses, and where it cannot get it the compiler or a thread ends the
    process, which no exception handler sees.
    """
    limit = _address_space_limit()
    if limit is None:
        return
    import psutil

    left = limit - psutil.Process().memory_info().vms
    needed = TO_GO_ON if jax_has_started() else TO_START_JAX + PER_CORE * (os.cpu_count() or 1)
    if left < needed:
        raise MemoryError(
            f"JAX needs {needed / 1e9:.1f} GB more of address space, and ends the process where it "
            f"does not get them; of the {limit / 1e9:.1f} GB that this process is limited to "
            f"(ulimit -v, RLIMIT_AS) {max(left, 0) / 1e9:.1f} GB are left. Raise that limit, or "
            "limit the memory in use instead, by a container or a cgroup."
        )


def _address_space_limit() -> float | None:
    """In bytes; None: no limit, or a system without."""
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else float(limit)
