"""Tables to try a hierarchical regression on: real, from a textbook, or with known truth."""

from ._loaders import load_cafes, load_sleepstudy
from ._simulate import make_hierarchical

__all__ = ["load_cafes", "load_sleepstudy", "make_hierarchical"]
