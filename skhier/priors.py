"""Priors in the user's units, as scikit-learn style objects that a grid search can reach into.

A prior resolves, once the data's scales are known, to NumPyro distributions. NumPyro is imported
only then. The concentration of the LKJ prior on correlations is the estimator's ``eta``.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

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

    ``x_*`` have shape (n_features,); a constant column has ``x_sd`` 1.
    """

    n: float
    x_mean: np.ndarray
    x_sd: np.ndarray
    y_mean: float
    y_sd: float
    y_median: float
    y_mad: float


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
        multiplies that mean.
    noise_spread : None, number or Distribution
        With ``noise_by``, the sd over levels of the log of their residual sds, whose median has the
        prior ``noise_scale``. Default: ``Exponential`` with mean 1; a number replaces that mean.

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
            Which parameters of the noise are not known; what is said of others is only checked.

        Raises
        ------
        TypeError, ValueError
            A prior is not of a form above, has the wrong shape or support, or names no column,
            effect or factor.
        """
        intercept = _scalar("intercept", self.intercept, self._intercept, scales)
        at_mean = not _in_users_units(self.intercept)
        of_noise = {
            "noise_scale": (self.noise_scale, self._noise_scale),
            "noise_spread": (self.noise_spread, self._noise_spread),
        }
        priors = {
            name: _scalar(name, value, rule if name in own else _no_rule, scales, positive=True)
            for name, (value, rule) in of_noise.items()
        }
        coef = _by_column("coef", self.coef, names, lambda c, at: self._coef(c, scales, at))
        groups = self._resolve_groups(scales, names, factors)
        of_own = {name: prior for name, prior in priors.items() if name in own}
        return PriorChoice(intercept, at_mean, of_own, coef, groups)

    def _resolve_groups(self, scales, names, factors):
        effects = {factor: ["intercept", *(names[j] for j in slopes)] for factor, slopes in factors}
        given = _given_to_factors(self.group_scale, effects)
        found = []
        for factor, slopes in factors:
            name = f"group_scale[{factor!r}]" if len(factors) > 1 else "group_scale"
            columns = np.array([-1, *slopes])

            def rule(c, at, columns=columns):
                return self._group_scale(c, scales, columns[at])

            blocks = _by_column(name, given[factor], effects[factor], rule, positive=True)
            at_mean = self._GROUPS_AT_MEAN and not _in_users_units(given[factor])
            found.append(GroupPrior(_intercept_last(blocks, len(columns)), None, at_mean))
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
            _check_positive_number(f"DecovPrior's `{name}`", value)
        concentration, shape, scale = map(float, values)
        return (GroupPrior((), (concentration, shape, scale), False),) * len(factors)


def _scalar(name, value, rule, scales, positive=False):
    return _one(name, value, (), lambda c: rule(c, scales), positive)


def _no_rule(c, scales):
    """Of a parameter that has no prior."""


def _given_to_factors(value, effects):
    """Factor -> its part of the user's ``group_scale``.

    ``effects`` are each factor's. Keys are all factors or all effects.
    """
    if not isinstance(value, Mapping) or not effects:
        return dict.fromkeys(effects, value)
    known = list(dict.fromkeys(effect for of_factor in effects.values() for effect in of_factor))
    whole = f"The factors are {_listed(effects)}; their effects: {_listed(known)}."
    for key in value:
        if key not in effects and key not in known:
            raise ValueError(
                f"The prior of `group_scale` names {key!r}, which is neither a factor nor an "
                f"effect. {whole}"
            )
        if key in effects and key in known and not isinstance(value[key], Mapping):
            raise ValueError(
                f"The prior of `group_scale` names {key!r}, which is both a factor and an effect. "
                f"Give the factor a dict of its effects. {whole}"
            )
    if all(key in effects for key in value):
        return {factor: value.get(factor) for factor in effects}
    if any(key not in known for key in value):
        raise ValueError(
            f"The prior of `group_scale` has keys of both kinds, factors and effects: "
            f"{_listed(value)}. Use one kind; a factor's value may be a dict of its effects. "
            f"{whole}"
        )
    return {
        factor: {effect: value[effect] for effect in of_factor if effect in value}
        for factor, of_factor in effects.items()
    }


def _listed(names):
    return ", ".join(map(repr, list(names)[:10]))


def _intercept_last(blocks, n_effects):
    """The user's order has the intercept first, the kernels' has it last."""
    return tuple((tuple((i - 1) % n_effects for i in at), prior) for at, prior in blocks)


def _by_column(name, value, columns, rule, positive=False):
    """Blocks of ``(positions, distribution)`` that cover the columns."""
    positions = tuple(range(len(columns)))
    if not positions:
        return ()
    if not isinstance(value, Mapping):
        shape = (len(columns),)
        return (
            (positions, _one(name, value, shape, lambda c: rule(c, list(positions)), positive)),
        )
    for key in value:
        if key not in columns:
            raise ValueError(
                f"The prior of `{name}` names {key!r}, which is none of: {_listed(columns)}."
            )
    blocks = []
    for i in positions:
        if columns[i] in value:
            at = [i]
            prior = _one(name, value[columns[i]], (1,), lambda c, at=at: rule(c, at), positive)
            blocks.append(((i,), prior))
    rest = [i for i in positions if columns[i] not in value]
    return (*blocks, (tuple(rest), rule(None, rest))) if rest else tuple(blocks)


def _one(name, value, shape, rule, positive):
    """The rule's distribution for None and numbers; else the user's, checked."""
    if value is None:
        return rule(None)
    if isinstance(value, numbers.Real):
        _check_positive_number(f"The prior of `{name}`", value)
        return rule(float(value))
    _check_distribution(name, value, positive)
    if value.batch_shape not in ((), shape):
        wanted = f"have one entry per column {shape} or be scalar" if shape else "be scalar"
        raise ValueError(
            f"The prior of `{name}` must {wanted}. Got batch shape {value.batch_shape}."
        )
    return in_float64(value)


def positive_distribution(name: str, value: Any) -> Any:
    """The user's NumPyro distribution of one positive number, in float64.

    Raises
    ------
    TypeError, ValueError
        It is no such distribution.
    """
    _check_distribution(name, value, positive=True)
    if value.batch_shape:
        raise ValueError(
            f"The prior of `{name}` must be scalar. Got batch shape {value.batch_shape}."
        )
    return in_float64(value)


def _in_users_units(value):
    """Whether any of it is a distribution, which is in the user's units and so speaks of X = 0."""
    if isinstance(value, Mapping):
        return any(map(_in_users_units, value.values()))
    return not (value is None or isinstance(value, numbers.Real))


def _check_positive_number(what, value):
    if isinstance(value, bool) or not (np.isfinite(value) and value > 0):
        raise ValueError(f"{what} must be a positive finite number. Got {value!r} instead.")


def _check_distribution(name, value, positive):
    import numpyro.distributions as dist

    if not isinstance(value, dist.Distribution):
        raise TypeError(
            f"The prior of `{name}` must be None, a number or a NumPyro distribution. "
            f"Got {value!r} instead."
        )
    support = getattr(value.support, "base_constraint", value.support)
    if value.event_shape or value.is_discrete:
        raise ValueError(
            f"The prior of `{name}` must be a continuous univariate distribution. "
            f"Got {describe(value)}."
        )
    if isinstance(value, dist.Delta):
        raise ValueError(f"The prior of `{name}` must have a density. Got {describe(value)}.")
    low = getattr(support, "lower_bound", None)
    if positive and (low is None or np.any(np.asarray(low) < 0)):
        raise ValueError(
            f"The prior of `{name}` must live on positive numbers. Got {describe(value)}; "
            "HalfNormal, Exponential and Gamma do."
        )


def in_float64(prior: Any) -> Any:
    """The same distribution with float64 NumPy parameters."""
    import jax

    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), prior)


def without_jax(value: Any) -> Any:
    """The value, a distribution or a dict of them with NumPy arrays in place of JAX's."""
    if isinstance(value, Mapping):
        return {key: without_jax(v) for key, v in value.items()}
    if hasattr(value, "tree_flatten"):
        import jax

        return jax.tree.map(
            lambda leaf: np.asarray(leaf) if hasattr(leaf, "dtype") else leaf, value
        )
    return value


def normal(loc: Any, scale: Any) -> Any:
    """NumPyro's ``Normal`` in float64."""
    import numpyro.distributions as dist

    return in_float64(dist.Normal(loc, scale))


def exponential(mean: Any) -> Any:
    """NumPyro's ``Exponential`` of a given mean, in float64."""
    import numpyro.distributions as dist

    return in_float64(dist.Exponential(1 / np.asarray(mean)))


def _rate_above_one(prior):
    """The rate of a :func:`~skhier.presets.gamma_above_one`; None for other distributions."""
    import numpyro.distributions as dist

    if type(prior) is not dist.TransformedDistribution:
        return None
    parts: Any = getattr(prior.base_dist, "component_distribution", None)
    move = prior.transforms[0]
    if type(parts) is not dist.Gamma or type(move) is not dist.transforms.AffineTransform:
        return None
    known = np.array_equal(parts.concentration, [1.0, 2.0]) and move.loc == move.scale == 1.0
    return parts.rate[0] if known and len(prior.transforms) == 1 else None


def describe(prior: Any, entry: int | None = None) -> str:
    """The distribution, or one entry of a vector of them, e.g. ``Normal(loc=0, scale=10)``."""
    import numpyro.distributions as dist

    if isinstance(prior, dist.FoldedDistribution):
        return f"Half{describe(prior.base_dist, entry)}"
    if isinstance(prior, dist.ImproperUniform):
        return "flat"
    if isinstance(prior, dist.ExpandedDistribution | dist.Independent):
        return describe(prior.base_dist, entry)
    if (rate := _rate_above_one(prior)) is not None:
        return f"{describe(dist.Gamma(np.float64(2.0), rate))} above 1"
    values = {k: prior.__dict__[k] for k in type(prior).arg_constraints if k in prior.__dict__}
    if entry is not None:
        values = {
            k: np.broadcast_to(v, prior.batch_shape or (entry + 1,))[entry]
            for k, v in values.items()
        }
    shown = ", ".join(
        f"{k}={np.array2string(np.asarray(v), precision=4)}" for k, v in values.items()
    )
    return f"{type(prior).__name__}({shown})"
