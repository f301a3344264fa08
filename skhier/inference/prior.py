"""A prior in the user's units: what it means for one data set, its draws and its density.

Distributions are taken as they stand in the user's units; internal coordinates, in which the
posterior is sampled, play no part.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.statement import covariance_of, covariance_prior
from skhier.kernels.user_units import intercept_first, scale_and_directions
from skhier.presets import preset_of, prior_from
from skhier.priors import DataScales, Prior, PriorChoice, describe
from skhier.responses.base import Response
from skhier.responses.by_level import SPREAD
from skhier.responses.member import SCALE

__all__ = ["PriorDraws", "PriorSetting", "draw_parameters", "log_prior_density"]


class PriorSetting(NamedTuple):
    """What a prior means for one data set; pickles without JAX unless the user's prior holds it.

    ``names`` are those of the features, ``slopes`` the positions of those that vary by group or
    None, ``eta``, ``correlated`` and ``response`` the estimator's. ``noise_by``: the place of the
    factor whose levels have a noise of their own, or None.
    """

    prior: Prior
    scales: DataScales
    names: tuple[str, ...]
    factors: tuple[tuple[str, tuple[int, ...]], ...]
    eta: float
    correlated: bool
    response: Response
    noise_by: int | None = None

    @classmethod
    def of(
        cls,
        model: Any,
        scales: DataScales,
        design: Any,
        response: Response | None = None,
        noise_by: int | None = None,
    ) -> PriorSetting:
        """The setting of an estimator's parameters as they are now; ``response`` None: its own."""
        return cls(
            copy.deepcopy(prior_from(model.prior)),
            scales,
            tuple(design.feature_names),
            tuple((factor.name, factor.slopes) for factor in design.factors),
            float(model.eta),
            bool(model.correlated),
            model._response if response is None else response,
            noise_by,
        )

    def resolve(self) -> PriorChoice:
        """The distributions; of the response's own parameters those of which are sampled.

        Raises
        ------
        TypeError, ValueError
            As :meth:`skhier.priors.Prior.resolve`; or a prior of a noise that the response lacks.
        """
        sampled = self.response.sampled
        choice = self.prior.resolve(self.scales, self.names, self.factors, sampled)
        _forbid_unused_noise(self.prior, self.response)
        own = choice.own | self.response.own_priors(preset_of(self.prior))
        return choice._replace(own={name: own[name] for name in sampled})


def _forbid_unused_noise(prior: Prior, response: Response) -> None:
    """Raise ValueError where a prior is stated of a parameter that the noise does not have."""
    for name in (SCALE, SPREAD):
        value = getattr(prior, name)
        if value is None or name in response.sampled:
            continue
        if SCALE in response.fixed:
            why = "`known_noise` says each row's noise, which has no prior. Leave it out."
        elif name == SPREAD and SCALE in response.sampled:
            why = "without `noise_by` all levels have one noise. Name their factor there."
        else:
            why = (
                f"response={response.name!r} has no such parameter. Leave it out; priors of a "
                "response's own parameters are given to the response."
            )
        said = short(value) if isinstance(value, numbers.Real) else describe(value)
        raise ValueError(f"Prior's `{name}={said}` would not be used: {why}")


class PriorDraws(NamedTuple):
    """Independent draws of the population parameters, in the user's units.

    Attributes
    ----------
    intercept : array of shape (n,)
        At X = 0.
    own : dict of str to array of shape (n,)
        The response's own parameters.
    coef : array of shape (n, n_features)
    group_scale : tuple of array of shape (n, q)
        Per factor, of the effects at X = 0, the intercept first.
    corr_root : tuple of array of shape (n, q, q)
        Per factor, square roots of their correlation matrices.
    """

    intercept: np.ndarray
    own: dict[str, np.ndarray]
    coef: np.ndarray
    group_scale: tuple[np.ndarray, ...]
    corr_root: tuple[np.ndarray, ...]


def draw_parameters(setting: PriorSetting, n: int, rng: np.random.Generator) -> PriorDraws:
    """Draws of the population parameters.

    Parameters
    ----------
    setting : PriorSetting
    n : int
        Number of draws.
    rng : Generator

    Raises
    ------
    ValueError
        A prior is flat, or needs a y that is not known.
    """
    choice = setting.resolve()
    _check_proper(choice, setting)
    from skhier.inference import runtime
    from skhier.kernels.distributions import draw

    with runtime.precisely_on(runtime.find_device(None)):

        def sample(family, shape):
            return draw(family, shape, n, int(rng.integers(2**31)))

        intercept = sample(choice.intercept, ())
        own = {name: np.full(n, value) for name, value in setting.response.fixed.items()}
        own |= {name: sample(family, ()) for name, family in choice.own.items()}
        coef = np.empty((n, len(setting.names)))
        for at, family in choice.coef:
            coef[:, list(at)] = sample(family, (len(at),))
        spread = np.broadcast_to(setting.response.spread(own), n)
        roots = _draw_roots(setting, choice, spread, rng)
    if choice.intercept_at_mean:
        intercept = intercept - coef @ setting.scales.x_mean
    moments = [scale_and_directions(root) for root in roots]
    scales, corr_roots = (tuple(part[i] for part in moments) for i in range(2))
    return PriorDraws(intercept, own, coef, scales, corr_roots)


def _draw_roots(setting, choice, dispersion, rng):
    """Per factor roots of the effects' covariance at X = 0, (n, q, q), the intercept first."""
    roots = []
    for (_, slopes), prior in zip(setting.factors, choice.groups, strict=True):
        q = len(slopes) + 1
        covariance = covariance_of(prior, q, setting.correlated)
        root = covariance.draw_roots(covariance_prior(prior, setting.eta), dispersion, rng)
        to_zero = np.eye(q)
        if prior.at_mean:
            to_zero[-1, :-1] = -setting.scales.x_mean[list(slopes)]
        order = intercept_first(q)
        roots.append((to_zero @ root)[:, order][:, :, order])
    return roots


def log_prior_density(
    setting: PriorSetting,
    choice: PriorChoice,
    intercept: np.ndarray,
    coef: np.ndarray,
    own: Mapping[str, np.ndarray],
    roots: Sequence[np.ndarray],
) -> np.ndarray:
    """Log prior density of draws, (n,), up to a constant; flat priors count 0.

    Parameters
    ----------
    setting : PriorSetting
    choice : PriorChoice
        Of the setting.
    intercept : array of shape (n,)
        Where its prior sits.
    coef : array of shape (n, n_features)
    own : mapping of str to array of shape (n,)
        The response's own parameters; all in the user's units.
    roots : sequence of array of shape (n, q, q)
        Per factor, lower triangular roots of the effects' covariance where its prior sits, the
        intercept last.
    """
    from skhier.inference import runtime

    parts = [(choice.intercept, intercept[:, None])]
    parts += [(family, own[name][:, None]) for name, family in choice.own.items()]
    parts += [(family, coef[:, list(at)]) for at, family in choice.coef]
    with runtime.precisely_on(runtime.find_device(None)):
        total = np.zeros(len(intercept))
        for family, values in parts:
            if describe(family) != "flat":
                total += np.asarray(family.log_prob(values)).sum(1)
        for prior, root in zip(choice.groups, roots, strict=True):
            covariance = covariance_of(prior, root.shape[1], setting.correlated)
            numbers = covariance_prior(prior, setting.eta)
            dispersion = setting.response.spread(own)
            total += covariance.log_prior(numbers, *scale_and_directions(root), dispersion)
    return total


def _effect(setting, slopes, i):
    """Name of an effect in the kernels' order, the varying intercept last."""
    return setting.names[slopes[i]] if i < len(slopes) else "intercept"


def _check_proper(choice, setting):
    """Raise ValueError where there is nothing to draw from; the message names the parameter."""
    blocks: dict[str, list[tuple[Any, Any]]] = {
        "intercept": [((), choice.intercept)],
        **{name: [((), family)] for name, family in choice.own.items()},
        "coef": [([setting.names[j] for j in at], family) for at, family in choice.coef],
        "group_scale": [
            ([_effect(setting, slopes, i) for i in at], family)
            for (_, slopes), of_factor in zip(setting.factors, choice.groups, strict=True)
            for at, family in of_factor.scales
        ],
    }
    for name, parts in blocks.items():
        for columns, family in parts:
            if describe(family) == "flat":
                of = f" of {', '.join(map(repr, columns[:5]))}" if columns else ""
                raise ValueError(
                    f"The prior of `{name}`{of} is flat: nothing can be drawn from it. Give "
                    f"`prior=Prior({name}=...)` a number or a distribution."
                )
