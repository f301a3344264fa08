"""Log densities that depend on the line through one exponential: what a node then costs.

Where the log density is ``slope * v - size * g(E)`` and terms without the line t, with
``v = t - shift``, ``E = e^(sign v)`` and g(E) = E or log(1 + E), its values at all nodes of a
product rule follow from few exponentials: those of a sum are products. Where g is a logarithm and
no row counts twice, a sum of rows is the logarithm of a product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from skhier.responses.numerics import held_exp

__all__ = ["ExponentialForm"]


class ExponentialForm(NamedTuple):
    """``log p(y | t) = slope * v - size * g(e^(sign v)) +`` terms without t, ``v = t - shift``.

    Of two forms that are equal for every t the one whose exponential is below 1 near a line is
    chosen, which may differ by row.

    Attributes
    ----------
    slope, sign, shift : array
        ``sign`` is 1 or -1.
    size : array or None
        None for 1 in every row.
    logarithmic : bool
        g(E) is log(1 + E), else E.
    """

    slope: Any
    sign: Any
    shift: Any
    size: Any
    logarithmic: bool

    def exponential(self, line: Any, xp: Any) -> Any:
        """E, held at e^700."""
        return held_exp(self.sign * (line - self.shift), xp)

    def derivatives(self, line: Any, xp: Any) -> tuple[Any, Any, Any]:
        """The log density but for terms without the line, its score and its curvature."""
        e = self.exponential(line, xp)
        if self.logarithmic:
            rest = 1 / (1 + e)
            g, first = xp.log1p(e), e * rest
            second = first * rest
        else:
            g = first = second = e
        size = 1.0 if self.size is None else self.size
        score = self.slope - size * self.sign * first
        return self.slope * (line - self.shift) - size * g, score, size * second
