"""The natural logarithm in plain operations, of which a loop does several numbers at once.

The compiler's own is a call of which each number takes three times as long, and a row has one at
every node. ``x = 2^k (1 + f)`` with ``1 + f`` between the roots of 1/2 and 2, and with
``s = f / (2 + f)``

    log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + s^2 P(s^2)),  P the polynomial of FDLIBM's e_log.c

to an error below one unit in the last place (Sun Microsystems 1993, netlib.org/fdlibm).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["log", "log1p"]

FRACTION_BITS, BIAS = 52, 1023
FRACTION = np.int64(2**FRACTION_BITS - 1)
ONE = np.int64(BIAS << FRACTION_BITS)
LEAST_BITS = np.float64(np.sqrt(0.5)).view(np.int64)  # of 1 + f
INTEGER = 2.0**FRACTION_BITS  # with an integer in its last bits it is their sum
P = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)


def log(x: Any) -> Any:
    """Of float64 numbers from the least normal one on; infinite and NaN where x is.

    Parameters
    ----------
    x : array
        Not checked: of 0, of negative and of subnormal numbers it is nonsense.
    """
    bits = _bits(x) + (ONE - LEAST_BITS)
    power = jax.lax.shift_right_logical(bits, np.int64(FRACTION_BITS))
    k = _float(power | _bits(np.float64(INTEGER))) - (INTEGER + BIAS)
    f = _float((bits & FRACTION) + LEAST_BITS) - 1
    s = f / (2 + f)
    square = s * s
    series = jnp.zeros_like(s)
    for coefficient in reversed(P):
        series = series * square + coefficient
    half = 0.5 * f * f
    value = k * np.log(2) + (f - (half - s * (half + square * series)))
    return jnp.where(x < jnp.inf, value, x)


def log1p(x: Any) -> Any:
    """``log(1 + x)`` of numbers from 0 on, however small; what the sum's rounding took is added."""
    total = jnp.abs(1 + x)  # of which the compiler does not know that 1 less is x
    value = log(total) + (x - (total - 1)) / total
    return jnp.where(total < jnp.inf, value, total)


def _bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.int64)


def _float(bits):
    return jax.lax.bitcast_convert_type(bits, jnp.float64)
