"""What the rest of the package asks of a response, the distribution of y given the line.

The line is ``eta_i = x_i' beta + sum over factors of z_i' b_g(i)``, and the log of the exposure
where there is one. A response may have parameters of its own, all positive: the noise's standard
deviation of a normal one, say. They travel as a dict from name to array, in units of y, and
broadcast against the line: give draws a trailing axis for the rows. Fixed ones travel there too.

A new response is a file that states these methods, most of them by
:class:`skhier.responses.member.Member`. Where it is conjugate the exact engine of
:mod:`skhier.kernels.normal` serves it, on ``transformed(y)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from skhier.responses.exponential import ExponentialForm
from skhier.responses.kind import Kind

if TYPE_CHECKING:
    from skhier.priors import DataScales
    from skhier.utils.training import Training

__all__ = ["Own", "Response"]

Own = Mapping[str, Any]


class Response(Protocol):
    """Density, moments and draws of y given the line; arrays broadcast.

    Functions of the density are of one row of weight 1 and take ``xp``, ``numpy`` or
    ``jax.numpy``, so that samplers and predictions share one statement. ``weights`` are a row's
    trials where y is a share of them (binomial), 1 by default; other responses ignore them.
    """

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def link(self) -> str:
        """From the mean of y to the line: "identity", "logit", "probit" or "log"."""

    @property
    def conjugate(self) -> bool:
        """Whether coefficients and group effects integrate out in closed form."""

    @property
    def discrete(self) -> bool:
        """Whether y has atoms, ``support_step`` apart."""

    @property
    def standardises(self) -> bool:
        """Whether ``transformed(y)`` may be centred and scaled, the line with it."""

    @property
    def weights_are_trials(self) -> bool:
        """Whether a row's weight is part of what was observed, and not how often it was."""

    @property
    def log_concave(self) -> bool:
        """Whether the log density is concave in the line: a level's effects then have one mode."""

    @property
    def takes_exposure(self) -> bool:
        """Whether the log of an exposure may be added to the line."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """Its own parameters' names, in the order of ``posterior_``, and what each is in words."""

    @property
    def fixed(self) -> dict[str, float]:
        """Own parameters that are known, with their values; ValueError where one is impossible."""

    @property
    def sampled(self) -> tuple[str, ...]:
        """Own parameters that are not known, in the order of ``parameters``."""

    @property
    def kind(self) -> Kind:
        """Its structure without numbers, a static argument of compiled programs."""

    def own_priors(self, preset: str = "default") -> dict[str, Any]:
        """NumPyro distributions of the sampled own parameters, but for the noise scale's.

        ``preset`` is a name of :data:`skhier.presets.PRESETS`. The noise scale's prior is that of
        :class:`skhier.Prior`.
        """

    def prior_scales(
        self,
        scales: DataScales,
        preset: str = "default",
        rows: Training | None = None,
    ) -> DataScales:
        """The scales of ``transformed(y)``, or of the line where a link sets its unit.

        ``rows`` are for medians of the logarithm of y, and their exposures.
        """

    def scaled(self, own: Own, y_scale: float) -> dict[str, Any]:
        """Its own parameters where ``transformed(y)`` is ``y_scale`` times what it was."""

    def check_target(self, y: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Raise ValueError, with the rows and what was expected, where y cannot be such a response.

        ``y`` (n_samples,) is finite float64.
        """

    def transformed(self, y: np.ndarray) -> np.ndarray:
        """What a conjugate engine takes for y: its log for the lognormal, y itself for others."""

    def untransformed(self, t: Any) -> Any:
        """What :meth:`transformed` takes to ``t``; increasing."""

    def at_rows(self, line: Any, own: Own, side: Any) -> tuple[Any, Own]:
        """Line and own parameters of rows with the numbers of a side column.

        ``side`` (n_rows,): logs of the exposures, or known standard errors.
        """

    def log_jacobian(self, t: Any) -> Any:
        """Log of what a density of y is over one of ``t = transformed(y)``."""

    def mean_shift(self, own: Own) -> Any:
        """``transformed(mean(line, own)) - line`` of a conjugate response."""

    def log_density(self, y: Any, line: Any, own: Own, xp: Any = np) -> Any:
        """Log density of y, constants included but for :meth:`row_normaliser`."""

    def row_normaliser(self, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """What a row's log density lacks and depends on y only: a binomial coefficient's log.

        The log density of a row is ``weight * log_density + row_normaliser``.
        """

    def log_normaliser(self, y: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The sum of :meth:`row_normaliser`."""

    def score(self, y: Any, line: Any, own: Own, xp: Any = np) -> Any:
        """Derivative of the log density with respect to the line."""

    def curvature(self, y: Any, line: Any, own: Own, xp: Any = np) -> Any:
        """Minus the second derivative of the log density with respect to the line."""

    def third(self, y: Any, line: Any, own: Own, xp: Any = np) -> Any:
        """Derivative of the curvature with respect to the line."""

    def open_side(self, y: np.ndarray) -> np.ndarray:
        """Of each row, (n,): 1 or -1 where its density never falls as the line rises, or falls.

        0 where it falls on both sides.
        """

    def smoothed(
        self, y: Any, line: Any, own: Own, smoothness: Any, weight: Any, xp: Any = np
    ) -> tuple[Any, Any]:
        """Score of a density with fewer modes, and the curvature of a parabola below it.

        ``smoothness`` 1: of one mode around all rows whose ``weight`` is positive; 0: the density
        itself. The parabola touches the log density at the line and is nowhere above it. Only of a
        response that is not log-concave.
        """

    def exponential_form(self, y: Any, line: Any, own: Own, xp: Any = np) -> ExponentialForm | None:
        """The log density by an exponential of the line, to be used near a line; None if none is.

        It says nothing that ``log_density`` does not, and lets quadrature take exponentials once.
        """

    def mean(self, line: Any, own: Own) -> Any:
        """Mean of y."""

    def variance(self, line: Any, own: Own, weights: Any = None) -> Any:
        """Variance of y."""

    def draw(
        self, line: np.ndarray, own: Own, rng: np.random.Generator, weights: Any = None
    ) -> np.ndarray:
        """One y for each entry of the line, float64."""

    def cdf(self, y: Any, line: Any, own: Own, weights: Any = None) -> Any:
        """Probability of values up to y."""

    def support_step(self, weights: Any = None) -> Any:
        """Distance of neighbouring values of a discrete y; None where y is continuous."""

    def mean_over(self, mean: Any, sd: Any, own: Own) -> Any:
        """Mean of y where the line is normal with that mean and sd."""

    def variance_over(self, mean: Any, sd: Any, own: Own, weights: Any = None) -> Any:
        """Variance of y where the line is normal with that mean and sd."""

    def log_density_over(self, y: Any, mean: Any, sd: Any, own: Own) -> Any:
        """Log density of y where the line is normal with that mean and sd."""

    def over_lines(self, mean: Any, sd: Any, own: Own) -> tuple[Any, Any]:
        """Mean and sd of ``transformed(y)`` where the line is normal with that mean and sd."""

    def link_of(self, mean: Any) -> Any:
        """The line at which y has this mean, finite at the edges of what is possible."""

    def start(self, y: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Where the intercept may start: near the link of y's weighted mean, away from edges."""

    def latent_variance(self, own: Own, mean: Any) -> Any:
        """Variance of a row on the line's scale, for R2 and ICC, where y's mean is ``mean``.

        Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14.
        """

    def spread(self, own: Own) -> Any:
        """The scale of y around its mean, of which rstanarm's decov prior is a multiple; else 1."""
