"""What the responses have in common: parameters as scikit-learn's objects, defaults of the rest."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator

from skhier.presets import gamma_above_one, named
from skhier.priors import DataScales, positive_distribution, without_jax
from skhier.responses.kind import Kind
from skhier.utils.hermite import normal_rule

__all__ = ["SCALE", "Member"]

LINE_NODES = 20  # of a line's normal distribution
SCALE = "noise_scale"  # the own parameter in y's units, whose prior is that of `Prior`


class Member(BaseEstimator):
    """Defaults of :class:`~skhier.responses.base.Response`, those of a continuous y without link.

    Subclasses state ``name``, the functions of the line and what differs. A constructor's argument
    is an own parameter: None for its default prior, a number where it is known, or a distribution.
    """

    name: ClassVar[str]
    conjugate: ClassVar[bool] = False
    discrete: ClassVar[bool] = False
    standardises: ClassVar[bool] = False
    weights_are_trials: ClassVar[bool] = False
    log_concave: ClassVar[bool] = True
    takes_exposure: ClassVar[bool] = False
    parameters: ClassVar[Mapping[str, str]] = {}
    # of each own parameter beside the noise scale: preset -> family and numbers, for `named`
    _PRIORS: ClassVar[Mapping[str, Mapping[str, tuple[Any, ...]]]] = {}
    _LEAST: ClassVar[Mapping[str, float]] = {}

    link: Any = "identity"

    def __getstate__(self):
        """Distributions may hold JAX arrays; pickles get NumPy ones."""
        state = super().__getstate__()
        return {name: without_jax(value) for name, value in state.items()}

    @property
    def fixed(self) -> dict[str, float]:
        """Own parameters that are known, with their values."""
        arguments = {name: getattr(self, name) for name in self._PRIORS}
        known: dict[str, Any] = {k: v for k, v in arguments.items() if isinstance(v, numbers.Real)}
        for name, value in known.items():
            least = self._LEAST.get(name, 0.0)
            large_enough = value >= least if least else value > 0
            if isinstance(value, bool) or not (np.isfinite(value) and large_enough):
                wanted = f"a finite number of at least {least:g}" if least else "positive, finite"
                raise ValueError(
                    f"`{name}` of a {self.name} response must be {wanted}, None or a NumPyro "
                    f"distribution. Got {value!r} instead."
                )
        return {name: float(value) for name, value in known.items()}

    @property
    def sampled(self) -> tuple[str, ...]:
        """Own parameters that are not known, in the order of ``parameters``."""
        fixed = self.fixed
        return tuple(name for name in self.parameters if name not in fixed)

    @property
    def kind(self) -> Kind:
        """Link and which own parameters are fixed."""
        return Kind(self.name, self.link, tuple(self.fixed))

    def own_priors(self, preset: str = "default") -> dict[str, Any]:
        """NumPyro distributions of the sampled own parameters but the noise's, see ``Prior``.

        The user's distribution, or the preset's; a preset that says nothing has the default.
        """
        priors = {}
        for name in self.sampled:
            if name not in self._PRIORS:
                continue
            value = getattr(self, name)
            if value is None:
                of_preset = self._PRIORS[name]
                family, *numbers_ = of_preset.get(preset, of_preset["default"])
                above_one = family == "gamma_above_one"
                priors[name] = gamma_above_one(*numbers_) if above_one else named(family, *numbers_)
            else:
                priors[name] = positive_distribution(name, value)
        return priors

    def prior_scales(self, scales: DataScales, preset: str = "default", rows: Any = None):
        """The data's scales as priors see them: those of y itself."""
        return scales

    def scaled(self, own, y_scale):
        """The noise grows with y; other parameters have no unit."""
        return {k: y_scale * v if k == SCALE else v for k, v in own.items()}

    def check_target(self, y, weights=None):
        """Every finite number is possible."""

    def open_side(self, y):
        """Nowhere."""
        return np.zeros(len(y))

    def transformed(self, y):
        """What the line is the location of: y itself."""
        return y

    def untransformed(self, t):
        """What :meth:`transformed` takes to ``t``: itself."""
        return t

    def at_rows(self, line, own, side):
        """The logarithm of the exposure is added to the line."""
        return line + side, own

    def log_jacobian(self, t):
        """Log of what a density of y is over one of ``t = transformed(y)``."""
        return np.zeros(np.shape(t))

    def mean_shift(self, own):
        """Where on the transformed scale the mean of y is, less the line: there."""
        return 0.0

    def row_normaliser(self, y, weights=None):
        """Constants of each row's log density that :meth:`log_density` leaves out: none."""
        return np.zeros(np.shape(y))

    def log_normaliser(self, y, weights=None):
        """The sum of :meth:`row_normaliser`."""
        return float(np.sum(self.row_normaliser(y, weights)))

    def exponential_form(self, y, line, own, xp=np):
        """None: the density has no such form."""

    def support_step(self, weights=None):
        """Distance of neighbouring values of y: None, for y is continuous."""
        return None

    def spread(self, own):
        """No scale of y that decov could be a multiple of."""
        return 1.0

    def log_density_over(self, y, mean, sd, own):
        """By twenty nodes of the line."""
        nodes, shares = normal_rule(LINE_NODES)
        parts = [
            self.log_density(y, mean + node * sd, own) + log_share
            for node, log_share in zip(nodes, np.log(shares), strict=True)
        ]
        return logsumexp(parts, axis=0)

    def over_lines(self, mean, sd, own):
        """Mean and sd of y where the line is normal."""
        return self.mean_over(mean, sd, own), np.sqrt(self.variance_over(mean, sd, own))

    def link_of(self, mean):
        """The line at which y has this mean: the mean itself."""
        return np.asarray(mean, float)

    def start(self, y, weights=None):
        """The weighted mean of y, as a start for the intercept."""
        return float(self.link_of(np.average(y, weights=weights)))
