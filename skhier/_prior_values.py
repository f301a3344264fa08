"""What a part of a prior may be: a distribution, a number, a rule; checked, and said in words."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "check_positive_number",
    "describe",
    "exponential",
    "given_to_factors",
    "in_float64",
    "intercept_last",
    "is_in_users_units",
    "normal",
    "positive_distribution",
    "prior_by_column",
    "scalar_prior",
    "without_jax",
]


def scalar_prior(name, value, rule, scales, positive=False):
    return _one(name, value, (), lambda c: rule(c, scales), positive)


def given_to_factors(value, effects):
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


def intercept_last(blocks, n_effects):
    """The user's order has the intercept first, the kernels' has it last."""
    return tuple((tuple((i - 1) % n_effects for i in at), prior) for at, prior in blocks)


def prior_by_column(name, value, columns, rule, positive=False):
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
        check_positive_number(f"The prior of `{name}`", value)
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


def is_in_users_units(value):
    """Whether any of it is a distribution, which is in the user's units and so speaks of X = 0."""
    if isinstance(value, Mapping):
        return any(map(is_in_users_units, value.values()))
    return not (value is None or isinstance(value, numbers.Real))


def check_positive_number(what, value):
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
