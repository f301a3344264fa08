"""What the runner hands to a rival, and what it gets back.

Every file of ``libraries/`` has one function, ``fit(task, seed) -> Fit``. Whatever it imports, it
imports at its top, so that the runner can time that alone. Nothing here needs skhier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Factor", "Fit", "Priors", "Sampling", "Task", "Unavailable", "named"]


class Unavailable(Exception):
    """A rival cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Priors:
    """One set for every Bayesian rival, in the data's units.

    intercept, at x = 0   ~ Normal(*intercept)
    coef_j                ~ Normal(0, coef)
    tau_kj                ~ Exponential with mean group_scale[k][j], the intercept's first
    sigma                 ~ Exponential with mean noise_scale
    correlations          ~ LKJ(eta), of each factor k
    """

    intercept: tuple[float, float]
    coef: float
    group_scale: dict[str, tuple[float, ...]]
    noise_scale: float
    eta: float = 2.0


@dataclass(frozen=True)
class Factor:
    """A grouping factor: a column of the table, and the features whose slopes vary with it.

    Levels are numbered 0 to ``n_levels - 1`` over the whole table; ``within`` names the factor that
    each of them lies in, if any.
    """

    name: str
    n_levels: int
    slopes: tuple[str, ...] = ()
    within: str = ""

    @property
    def effects(self) -> tuple[str, ...]:
        return ("intercept", *self.slopes)


@dataclass(frozen=True)
class Sampling:
    """Draws, for rivals that have any, and cores, for all."""

    n_chains: int = 4
    n_warmup: int = 1000
    n_draws: int = 1000
    n_cores: int = 2


@dataclass(frozen=True)
class Task:
    """y_i ~ Normal((1, x_i)'beta + sum_k z_ki'b_k,g(i), sigma^2), b_kg ~ Normal(0, Sigma_k).

    Of the response "bernoulli" that line is the logit of P(y_i = 1), of "poisson" the log of the
    mean, and there is no sigma.

    ``x`` is (n_rows, n_features), ``codes`` holds each row's level of every factor, and ``z_k`` are
    a one and the features among the factor's slopes.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    codes: dict[str, np.ndarray]
    features: tuple[str, ...]
    factors: tuple[Factor, ...]
    priors: Priors
    sampling: Sampling
    response: str = "normal"

    @cached_property
    def design(self) -> np.ndarray:
        """Of the coefficients, its column of ones first: (n_rows, 1 + n_features)."""
        return np.column_stack([np.ones(len(self.y)), self.x])

    def z(self, factor: Factor) -> np.ndarray:
        """The design of a factor's effects, (n_rows, q)."""
        if factor.slopes == self.features:
            return self.design
        return self.design[:, [0, *(1 + self.features.index(name) for name in factor.slopes)]]

    def needs(self, *responses: str) -> None:
        """End the race for a rival that knows no others."""
        if self.response not in responses:
            raise Unavailable(f"responses {', '.join(responses)} only")

    @property
    def only_factor(self) -> Factor:
        """For rivals that know one."""
        if len(self.factors) > 1:
            raise Unavailable("one grouping factor only")
        return self.factors[0]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Features, the grouping columns and y."""
        import pandas as pd

        columns = dict(zip(self.features, self.x.T, strict=True))
        return pd.DataFrame(columns | self.codes | {"y": self.y})

    @property
    def formula(self) -> str:
        """For lme4 and whoever speaks its language."""
        terms = [" + ".join(["1", *self.features])]
        terms += [f"({' + '.join(['1', *f.slopes])} | {f.name})" for f in self.factors]
        return "y ~ " + " + ".join(terms)


@dataclass
class Fit:
    """A rival's answer.

    Attributes
    ----------
    values : dict of str to array or float
        By the names of `named`: draws (n_chains, n_draws), or estimates.
    divergences : int or None
    ess_limit : float or None
        An engine that weights its draws knows what they are worth; effective sample sizes measured
        on them are not believed beyond this.
    remark : str
        What a reader of the table has to know of this fit.
    versions : dict of str to str
        Of packages that are not Python's.
    """

    values: dict[str, np.ndarray]
    divergences: int | None = None
    ess_limit: float | None = None
    remark: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def named(
    task: Task, intercept, coef, noise_scale, group_scale, group_corr=None
) -> dict[str, np.ndarray]:
    """Name the population parameters; draws' axes come first, the parameters' last.

    ``coef`` is (..., n_features). ``group_scale`` has an array (..., q) for every factor's name,
    ``group_corr`` one (..., q, q), or is None for a model without correlations. The varying
    intercept is effect 0; where a factor has no other, its correlations are not looked at.
    ``noise_scale`` is None for a response without.
    """
    values = {"intercept": intercept}
    if noise_scale is not None:
        values["noise_scale"] = noise_scale
    values |= {f"coef[{name}]": coef[..., j] for j, name in enumerate(task.features)}
    for factor in task.factors:
        scale, corr = group_scale[factor.name], (group_corr or {}).get(factor.name)
        for j, effect in enumerate(factor.effects):
            values[f"group_scale[{factor.name}, {effect}]"] = scale[..., j]
            for i, other in enumerate(factor.effects[:j] if corr is not None else ()):
                values[f"group_corr[{factor.name}, {other}, {effect}]"] = corr[..., i, j]
    return {name: np.asarray(value, dtype=float) for name, value in values.items()}
