"""Functions that several densities share, the same for NumPy and ``jax.numpy``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

__all__ = [
    "LARGEST_EXPONENT",
    "LOG_2PI",
    "TINY",
    "held_exp",
    "held_expm1",
    "held_log",
    "log_rising",
    "special",
    "stirling_rest",
]

LOG_2PI = float(np.log(2 * np.pi))
TINY = float(np.finfo(float).tiny)  # the smallest normal number
LARGEST_EXPONENT = 700.0  # e^700 is 1e304, near float64's end
_SERIES_FROM = 10.0  # where seven terms of Stirling's series have float64's accuracy


def special(xp: Any) -> Any:
    """The module of special functions beside ``xp``: SciPy's, or that of the other package."""
    package = xp.__name__.partition(".")[0]
    return import_module("scipy.special" if package == "numpy" else f"{package}.scipy.special")


def held_exp(t: Any, xp: Any = np) -> Any:
    """``e^t``, held at ``e^700``: finite for every t."""
    return xp.exp(xp.minimum(t, LARGEST_EXPONENT))


def held_expm1(t: Any, xp: Any = np) -> Any:
    """``e^t - 1``, held likewise."""
    return xp.expm1(xp.minimum(t, LARGEST_EXPONENT))


def held_log(y: Any, xp: Any = np) -> Any:
    """``log y``, finite for y = 0, which padding has, by float64's smallest normal number."""
    return xp.log(xp.maximum(y, TINY))


def stirling_rest(z: Any, xp: Any = np) -> Any:
    """``log Gamma(z) - (z - 1/2) log z + z - log(2 pi)/2``, near ``1/(12 z)``, for z > 0.

    By its series where z is large: the difference of the large terms would have lost its digits.
    Abramowitz & Stegun (1964), 6.1.41.
    """
    near = xp.minimum(z, _SERIES_FROM)
    direct = special(xp).gammaln(near) - (near - 0.5) * xp.log(near) + near - 0.5 * LOG_2PI
    w = 1 / xp.maximum(z, _SERIES_FROM)
    v = w * w
    tail = 1 / 1680 - v * (1 / 1188 - v * (691 / 360360 - v / 156))
    series = w * (1 / 12 - v * (1 / 360 - v * (1 / 1260 - v * tail)))
    return xp.where(z < _SERIES_FROM, direct, series)


def log_rising(z: Any, k: Any, xp: Any = np) -> Any:
    """``log Gamma(z + k) - log Gamma(z)``, z > 0, k >= 0, to float64's accuracy for large z too."""
    rest = stirling_rest(z + k, xp) - stirling_rest(z, xp)
    return (z - 0.5) * xp.log1p(k / z) + k * (xp.log(z + k) - 1) + rest
