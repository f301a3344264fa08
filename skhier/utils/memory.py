"""Refuse an array that does not fit before allocating it."""

import psutil

__all__ = ["require_memory"]


def require_memory(n_bytes: float, what: str) -> None:
    """Raise MemoryError if ``n_bytes`` exceed the memory available now."""
    available = psutil.virtual_memory().available
    if n_bytes > available:
        raise MemoryError(
            f"{what} would take {n_bytes / 1e9:.1f} GB; {available / 1e9:.1f} GB are available. "
            "Ask for fewer levels, rows or draws."
        )
