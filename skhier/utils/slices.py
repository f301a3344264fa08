"""Work in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["slices"]


def slices(n: int, size: int) -> Iterator[slice]:
    """Slices of ``range(n)``, ``size`` at a time, at least one."""
    size = max(1, size)
    return (slice(begin, begin + size) for begin in range(0, n, size))
