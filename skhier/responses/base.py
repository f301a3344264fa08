"""What the rest of the package asks of a response, the distribution of y given the line.

The line is ``eta_i = x_i' beta + sum over factors of z_i' b_g(i)``. A response may have parameters
of its own, the noise's standard deviation of a normal one, say. They travel as a dict from name to
array, in units of y, and broadcast against the line: give draws a trailing axis for the rows.

A new response is a file that states these methods. Where it is conjugate the exact engine of
:mod:`skhier.kernels.normal` serves it. With one response the choice of an engine does not ask yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

__all__ = ["Own", "Response"]

Own = Mapping[str, Any]


class Response(Protocol):
    """Density, moments and draws of y given the line; arrays broadcast.

    Functions of the density take ``xp``, ``numpy`` or ``jax.numpy``, so that samplers and
    predictions share one statement.
    """

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def conjugate(self) -> bool:
        """Whether coefficients and group effects integrate out in closed form."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """Its own parameters' names, in the order of ``posterior_``, and what each is in words."""

    def scaled(self, own: Own, y_scale: float) -> dict[str, Any]:
        """Its own parameters where y is ``y_scale`` times what it was."""

    def check_target(self, y: np.ndarray) -> None:
        """Raise ValueError, with the rows and what was expected, where y cannot be such a response.

        ``y`` (n_samples,) is finite float64.
        """

    def log_density(self, y: Any, line: Any, own: Own, xp: Any = np) -> Any:
        """Log density of y, constants included."""

    def score(self, y: Any, line: Any, own: Own, xp: Any = np) -> Any:
        """Derivative of the log density with respect to the line."""

    def curvature(self, y: Any, line: Any, own: Own, xp: Any = np) -> Any:
        """Minus the second derivative of the log density with respect to the line."""

    def mean(self, line: Any, own: Own) -> Any:
        """Mean of y."""

    def variance(self, line: Any, own: Own) -> Any:
        """Variance of y."""

    def draw(self, line: np.ndarray, own: Own, rng: np.random.Generator) -> np.ndarray:
        """One y for each entry of the line."""

    def dispersion(self, own: Own) -> Any:
        """The scale of y around its mean, of which rstanarm's decov prior is a multiple; else 1."""

    def over_lines(self, mean: Any, sd: Any, own: Own) -> tuple[Any, Any]:
        """Mean and sd of y where the line is normal with that mean and sd."""
