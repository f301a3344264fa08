"""Other packages' default priors, by name, and what the estimators' ``prior`` argument means.

Sources: the packages' documentation and code, named in each class.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier._prior_values import in_float64, normal
from skhier.priors import DecovPrior, Prior

__all__ = ["PRESETS", "gamma_above_one", "named", "preset_of", "prior_from", "unit_of_line"]


class McElreathPrior(Prior):
    """*Statistical Rethinking* (2nd ed., ch. 4-5, 13-14), for standardised variables.

    Intercept at the mean of X ``Normal(mean(y), 0.2 sd(y))``, slopes
    ``Normal(0, 0.5 sd(y)/sd(x))``, every standard deviation ``Exponential(1)`` in standardised
    units, in which X = 0 is the mean.
    """

    def _intercept(self, c, s):
        return super()._intercept(0.2 if c is None else c, s)

    def _coef(self, c, s, at):
        return super()._coef(0.5 if c is None else c, s, at)


class BambiPrior(Prior):
    """Bambi's defaults ("Default priors", and ``bambi/priors/scaler.py``); sd with divisor n.

    Slopes ``Normal(0, 2.5 sd(y)/sd(x))``; intercept at the mean of X
    ``Normal(mean(y), s)``, ``s^2 = (2.5 sd(y))^2 + sum (2.5 sd(y)/sd(x_j))^2 mean(x_j)^2``; group
    scales, at X = 0, ``HalfNormal`` with the same scales; noise ``HalfStudentT(4, sd(y))``.
    """

    _GROUPS_AT_MEAN = False

    def _scales(self, s):
        """Scales of the slopes and, last, of the intercept."""
        shrink = np.sqrt((s.n - 1) / s.n)
        slopes = 2.5 * s.y_sd / s.x_sd
        return np.append(slopes, np.hypot(2.5 * s.y_sd * shrink, np.linalg.norm(slopes * s.x_mean)))

    def _intercept(self, c, s):
        return normal(s.y_mean, self._scales(s)[-1]) if c is None else super()._intercept(c, s)

    def _group_scale(self, c, s, at):
        return _half_normal(self._scales(s)[at]) if c is None else super()._group_scale(c, s, at)

    def _noise_scale(self, c, s):
        if c is not None:
            return super()._noise_scale(c, s)
        return _half_student_t(4.0, s.y_sd * np.sqrt((s.n - 1) / s.n))


class BrmsPrior(Prior):
    """brms's defaults (``?set_prior``): flat slopes, Student-t(3) for the rest.

    Intercept at the mean of X ``StudentT(3, median(y), s)``; every standard deviation, those of
    group effects at X = 0, ``HalfStudentT(3, s)``; ``s = max(2.5, mad(y))``, median and mad rounded
    to one decimal. With an exposure the location is less by the mean of its logs, as by that of an
    offset (``def_scale_prior``).
    """

    _GROUPS_AT_MEAN = False

    def _mad(self, s):
        return max(2.5, round(s.y_mad, 1))

    def _intercept(self, c, s):
        if c is not None:
            return super()._intercept(c, s)
        return _student_t(3.0, round(s.y_median, 1) - s.offset, self._mad(s))

    def _coef(self, c, s, at):
        return _flat_prior(len(at)) if c is None else super()._coef(c, s, at)

    def _group_scale(self, c, s, at):
        if c is not None:
            return super()._group_scale(c, s, at)
        return _half_student_t(3.0, np.full(len(at), self._mad(s)))

    def _noise_scale(self, c, s):
        return _half_student_t(3.0, self._mad(s)) if c is None else super()._noise_scale(c, s)


PRESETS: dict[str, type[Prior]] = {
    "default": Prior,
    "mcelreath": McElreathPrior,
    "bambi": BambiPrior,
    "brms": BrmsPrior,
    "rstanarm": DecovPrior,
}


def prior_from(prior: Any) -> Prior:
    """The prior object behind the estimator's ``prior`` argument.

    Raises
    ------
    ValueError, TypeError
        An unknown preset, or neither None, a name nor a prior.
    """
    if prior is None:
        return Prior()
    if isinstance(prior, Prior):
        return prior
    if isinstance(prior, str):
        if prior in PRESETS:
            return PRESETS[prior]()
        known = ", ".join(repr(name) for name in PRESETS)
        raise ValueError(f"`prior` must be one of {known}, or a Prior. Got {prior!r} instead.")
    raise TypeError(
        f"`prior` must be None, the name of a preset, Prior(...) or DecovPrior(...). "
        f"Got {prior!r} instead."
    )


def preset_of(prior: Prior) -> str:
    """The preset that a prior object is or refines."""
    kinds = {kind: name for name, kind in PRESETS.items()}
    return next((kinds[kind] for kind in type(prior).__mro__ if kind in kinds), "default")


def unit_of_line(preset: str, n: float) -> float:
    """The sd that stands for y's where a link sets the line's unit: 1, over that of x.

    Bambi divides by an sd of x with divisor n, where ``DataScales`` has n - 1.
    """
    return float(np.sqrt(n / (n - 1))) if preset == "bambi" else 1.0


def named(family: str, *parameters: float) -> Any:
    """NumPyro's distribution of that name, in float64."""
    import numpyro.distributions as dist

    return in_float64(getattr(dist, family)(*map(np.float64, parameters)))


def gamma_above_one(rate: float) -> Any:
    """``Gamma(2, rate)`` truncated to numbers above 1, in float64.

    Its density at ``1 + u`` goes with ``(1 + u) e^(-rate u)``: one more than a draw from the
    mixture of ``Gamma(1, rate)`` and ``Gamma(2, rate)`` in the ratio of rate to 1. NumPyro before
    0.22 truncates no gamma.
    """
    import numpyro.distributions as dist

    shares = np.log([rate, 1.0])  # up to a constant; of probabilities NumPyro would keep JAX's logs
    parts = dist.Gamma(np.array([1.0, 2.0]), np.full(2, rate))
    excess = dist.MixtureSameFamily(dist.CategoricalLogits(shares), parts)
    one_more = dist.transforms.AffineTransform(1.0, 1.0, domain=dist.constraints.positive)
    return in_float64(dist.TransformedDistribution(excess, one_more))


def _half_normal(scale):
    import numpyro.distributions as dist

    return in_float64(dist.HalfNormal(scale))


def _student_t(df, loc, scale):
    import numpyro.distributions as dist

    return in_float64(dist.StudentT(df, loc, scale))


def _half_student_t(df, scale):
    import numpyro.distributions as dist

    return in_float64(dist.FoldedDistribution(dist.StudentT(df, np.zeros_like(scale), scale)))


def _flat_prior(size):
    import numpyro.distributions as dist

    return dist.ImproperUniform(dist.constraints.real, (size,), ())
