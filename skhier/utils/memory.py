"""Refuse an array that does not fit before allocating it."""

import psutil

__all__ = ["require_memory"]


def require_memory(
    n_bytes: float, what: str, advice: str = "Ask for fewer levels, rows or draws."
) -> None:
    """Raise MemoryError if ``n_bytes`` exceed the memory available now.

    Parameters
    ----------
    n_bytes : float
        At the peak, copies and temporary arrays included.
    what : str
        Subject of the message.
    advice : str
        What to do instead, a sentence.
    """
    available = psutil.virtual_memory().available
    if n_bytes > available:
        raise MemoryError(
            f"{what} would take {n_bytes / 1e9:.1f} GB; {available / 1e9:.1f} GB are available. "
            f"{advice}"
        )
