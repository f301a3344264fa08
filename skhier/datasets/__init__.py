"""Tables to try a hierarchical regression on: one real, one from a textbook, and any number with known truth."""

from ._loaders import load_cafes, load_sleepstudy
from ._simulate import make_hierarchical

__all__ = ["load_cafes", "load_sleepstudy", "make_hierarchical"]
