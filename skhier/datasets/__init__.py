"""Tables to try a hierarchical regression on: real, from a textbook, or with known truth.

Importing it loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skhier.datasets._loaders import load_cafes, load_sleepstudy
    from skhier.datasets._simulate import make_hierarchical

__all__ = ["load_cafes", "load_sleepstudy", "make_hierarchical"]

_HOMES = {
    "load_cafes": "skhier.datasets._loaders",
    "load_sleepstudy": "skhier.datasets._loaders",
    "make_hierarchical": "skhier.datasets._simulate",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skhier.datasets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
