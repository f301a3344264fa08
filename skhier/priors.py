"""Priors in the user's units, as scikit-learn style objects that a grid search can reach into.

A prior resolves, once the data's scales are known, to NumPyro distributions. NumPyro is imported
only then. The concentration of the LKJ prior on correlations is the estimator's ``eta``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from skhier._prior_values import (
    check_positive_number,
    describe,
    exponential,
    given_to_factors,
    intercept_last,
    is_in_users_units,
    normal,
    positive_distribution,
    prior_by_column,
    scalar_prior,
    without_jax,
)

__all__ = [
    "DataScales",
    "DecovPrior",
    "GroupPrior",
    "Prior",
    "PriorChoice",
    "describe",
    "positive_distribution",
    "without_jax",
]


class DataScales(NamedTuple):
    """What autoscaled priors look at; weighted, ``sd`` with the n - 1 divisor.

    ``x_*`` have shape (n_features,); a constant column has ``x_sd`` 1. ``offset``: mean of what is
    added to the rows' lines, the logs of their exposures.
    """

    n: float
    x_mean: np.ndarray
    x_sd: np.ndarray
    y_mean: float
    y_sd: float
    y_median: float
    y_mad: float
    offset: float = 0.0


class GroupPrior(NamedTuple):
    """The prior of one factor's scales, and where it and the correlations' prior sit.

    ``scales`` is a tuple of ``(positions, distribution)``, of the effects, the varying intercept
    last, and empty under ``decov``, which is ``(concentration, shape, scale)`` or None.
    ``at_mean``: it speaks of the intercept at the mean of X (True) or at X = 0.
    """

    scales: tuple[tuple[tuple[int, ...], Any], ...]
    decov: tuple[float, float, float] | None
    at_mean: bool


class PriorChoice(NamedTuple):
    """A resolved prior: NumPyro distributions in the data's units, and which columns each covers.

    ``coef`` is a tuple of ``(positions, distribution)``, with positions in column order;
    ``intercept_at_mean``: the intercept's prior is on the one at the mean of X (True) or at X = 0;
    ``own``: by name, the response's own parameters; ``groups``: a :class:`GroupPrior` for each
    grouping factor.
    """

    intercept: Any
    intercept_at_mean: bool
    own: dict[str, Any]
    coef: tuple[tuple[tuple[int, ...], Any], ...]
    groups: tuple[GroupPrior, ...]


class Prior(BaseEstimator):
    """Priors of a hierarchical regression.

    Each argument is ``None`` (the default below), a number (a scale in standardised units, in
    place of the default's), a NumPyro distribution in the data's own units (scalar, or one
    per column), or a dict from column to any of these; columns left out keep the default.

    Parameters
    ----------
    intercept : None, number or Distribution
        Default: ``Normal(mean(y), 2.5 sd(y))`` on the intercept at the mean of X; a number
        replaces 2.5. A distribution is on the intercept at X = 0.
    coef : None, number, Distribution or dict
        Population slopes. Default: ``Normal(0, 2.5 sd(y) / sd(x_j))``; a number replaces 2.5.
    group_scale : None, number, Distribution or dict
        Standard deviations of the group effects; the varying intercept is called ``"intercept"``
        and, in a distribution with one entry per effect, comes first. Default: ``Exponential`` with
        mean ``sd(y) / sd(x_j)``, for the intercept at the mean of X ``sd(y)``; a number multiplies
        that mean. A distribution for any effect of a factor moves that factor's prior, its
        correlations' too, to the intercept at X = 0. It holds for every grouping factor; a dict
        from effects, for the factors that have them. A dict whose keys are all factors (a nesting
        is ``"state:cafe"``) gives each its own: None, a number, a distribution, or a dict from
        effects.
    noise_scale : None, number or Distribution
        Residual standard deviation. Default: ``Exponential`` with mean ``sd(y)``; a number
        multiplies that mean. An error where the response has no noise scale (counts, classes,
        gamma) or ``known_noise`` tells it.
    noise_spread : None, number or Distribution
        With ``noise_by``, the sd over levels of the log of their residual sds, whose median has the
        prior ``noise_scale``. Default: ``Exponential`` with mean 1; a number replaces that mean. An
        error without ``noise_by``.

    Examples
    --------
    >>> from skhier import Prior
    >>> Prior(group_scale={"intercept": 0.5}).get_params()["group_scale"]
    {'intercept': 0.5}

    Two factors, the second with the default prior except for its varying intercept:

    >>> prior = Prior(group_scale={"state": 0.5, "state:cafe": {"intercept": 2.0}})
    """

    # where the rule of group_scale sits: at the mean of X, or where a package puts it, at X = 0
    _GROUPS_AT_MEAN = True

    def __init__(
        self, intercept=None, coef=None, group_scale=None, noise_scale=None, noise_spread=None
    ):
        self.intercept = intercept
        self.coef = coef
        self.group_scale = group_scale
        self.noise_scale = noise_scale
        self.noise_spread = noise_spread

    def __getstate__(self):
        """Distributions may hold JAX arrays; pickles get NumPy ones."""
        state = super().__getstate__()
        return {name: without_jax(value) for name, value in state.items()}

    def resolve(
        self,
        scales: DataScales,
        names: Sequence[str],
        factors: Sequence[tuple[str, Sequence[int]]],
        own: Sequence[str] = ("noise_scale", "noise_spread"),
    ) -> PriorChoice:
        """Distributions for this data set.

        Parameters
        ----------
        scales : DataScales
        names : sequence of str
            Features, in column order.
        factors : sequence of (str, sequence of int)
            Of each grouping factor, the name and the features with a varying slope.
        own : sequence of str
            Which parameters of the noise are not known; what is said of others is only checked: see
        :class:`~skhier.inference.prior.PriorSetting`, which knows why there are none.

        Raises
        ------
        TypeError, ValueError
            A prior is not of a form above, has the wrong shape or support, or names no column,
            effect or factor.
        """
        intercept = scalar_prior("intercept", self.intercept, self._intercept, scales)
        at_mean = not is_in_users_units(self.intercept)
        of_noise = {
            "noise_scale": (self.noise_scale, self._noise_scale),
            "noise_spread": (self.noise_spread, self._noise_spread),
        }
        priors = {
            name: scalar_prior(name, value, rule if name in own else _no_rule, scales, True)
            for name, (value, rule) in of_noise.items()
        }
        coef = prior_by_column("coef", self.coef, names, lambda c, at: self._coef(c, scales, at))
        groups = self._resolve_groups(scales, names, factors)
        of_own = {name: prior for name, prior in priors.items() if name in own}
        return PriorChoice(intercept, at_mean, of_own, coef, groups)

    def _resolve_groups(self, scales, names, factors):
        effects = {factor: ["intercept", *(names[j] for j in slopes)] for factor, slopes in factors}
        given = given_to_factors(self.group_scale, effects)
        found = []
        for factor, slopes in factors:
            name = f"group_scale[{factor!r}]" if len(factors) > 1 else "group_scale"
            columns = np.array([-1, *slopes])

            def rule(c, at, columns=columns):
                return self._group_scale(c, scales, columns[at])

            blocks = prior_by_column(name, given[factor], effects[factor], rule, positive=True)
            at_mean = self._GROUPS_AT_MEAN and not is_in_users_units(given[factor])
            found.append(GroupPrior(intercept_last(blocks, len(columns)), None, at_mean))
        return tuple(found)

    # The rules: distributions whose usual scale is multiplied by c, or the rule's own for None.
    # `at` are the columns asked for; -1 is the varying intercept.

    def _intercept(self, c, s):
        return normal(s.y_mean, (2.5 if c is None else c) * s.y_sd)

    def _coef(self, c, s, at):
        return normal(np.zeros(len(at)), (2.5 if c is None else c) * s.y_sd / s.x_sd[at])

    def _group_scale(self, c, s, at):
        return exponential((1.0 if c is None else c) * s.y_sd / np.append(s.x_sd, 1.0)[at])

    def _noise_scale(self, c, s):
        return exponential((1.0 if c is None else c) * s.y_sd)

    def _noise_spread(self, c, s):
        return exponential(1.0 if c is None else c)


class DecovPrior(Prior):
    """rstanarm's prior: decomposition of covariance, ``tau_j = sigma scale t sqrt(q pi_j)``.

    ``t ~ Gamma(shape, 1)`` is the size and ``pi ~ Dirichlet(concentration)`` the effects' shares of
    the variance; with one effect ``tau = sigma scale t``. The correlations have the estimator's
    LKJ(``eta``); what rstanarm calls regularization is that ``eta``. As in rstanarm, all this
    speaks of the group intercepts at X = 0.

    Parameters
    ----------
    intercept, coef, noise_scale, noise_spread
        As in :class:`Prior`.
    concentration, shape, scale : float, default=1.0

    References
    ----------
    Goodrich, Gabry, Ali and Brilleman, rstanarm, "Prior distributions for rstanarm models", and
    ``make_theta_L`` in its ``common_functions.stan``.
    """

    def __init__(
        self,
        intercept=None,
        coef=None,
        noise_scale=None,
        concentration=1.0,
        shape=1.0,
        scale=1.0,
        noise_spread=None,
    ):
        super().__init__(intercept, coef, None, noise_scale, noise_spread)
        self.concentration = concentration
        self.shape = shape
        self.scale = scale

    def _resolve_groups(self, scales, names, factors):
        values = (self.concentration, self.shape, self.scale)
        for name, value in zip(("concentration", "shape", "scale"), values, strict=True):
            check_positive_number(f"DecovPrior's `{name}`", value)
        concentration, shape, scale = map(float, values)
        return (GroupPrior((), (concentration, shape, scale), False),) * len(factors)


def _no_rule(c, scales):
    """Of a parameter that has no prior."""
