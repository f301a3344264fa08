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

__all__ = ["Fit", "Priors", "Sampling", "Task", "Unavailable", "named"]

GROUP = "group"  # the grouping column's name in every table


class Unavailable(Exception):
    """A rival cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Priors:
    """One set for every Bayesian rival, in the data's units.

    intercept, at x = 0   ~ Normal(*intercept)
    coef_j                ~ Normal(0, coef)
    tau_j                 ~ Exponential with mean group_scale[j], the intercept's first
    sigma                 ~ Exponential with mean noise_scale
    correlations          ~ LKJ(eta)
    """

    intercept: tuple[float, float]
    coef: float
    group_scale: tuple[float, ...]
    noise_scale: float
    eta: float = 2.0


@dataclass(frozen=True)
class Sampling:
    """Draws, for rivals that have any, and cores, for all."""

    n_chains: int = 4
    n_warmup: int = 1000
    n_draws: int = 1000
    n_cores: int = 2


@dataclass(frozen=True)
class Task:
    """y_i ~ Normal(z_i'(beta + b_g(i)), sigma^2), z_i = (1, x_i), b_g ~ Normal(0, Sigma).

    ``x`` is (n_rows, q - 1), ``codes`` holds each row's group, 0 to ``n_groups - 1``.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    codes: np.ndarray
    features: tuple[str, ...]
    n_groups: int
    priors: Priors
    sampling: Sampling

    @property
    def q(self) -> int:
        return len(self.features) + 1

    @cached_property
    def z(self) -> np.ndarray:
        """The design with its column of ones, (n_rows, q)."""
        return np.column_stack([np.ones(len(self.y)), self.x])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Features, the grouping column and y."""
        import pandas as pd

        columns = dict(zip(self.features, self.x.T, strict=True))
        return pd.DataFrame(columns | {GROUP: self.codes, "y": self.y})

    @property
    def formula(self) -> str:
        """For lme4 and whoever speaks its language."""
        terms = " + ".join(["1", *self.features])
        return f"y ~ {terms} + ({terms} | {GROUP})"


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

    ``coef`` is (..., q - 1), ``group_scale`` (..., q), ``group_corr`` (..., q, q) or None for a
    model without correlations. The varying intercept is effect 0.
    """
    effects = ["intercept", *task.features]
    values = {"intercept": intercept, "noise_scale": noise_scale}
    values |= {f"coef[{name}]": coef[..., j] for j, name in enumerate(task.features)}
    values |= {f"group_scale[{name}]": group_scale[..., j] for j, name in enumerate(effects)}
    if group_corr is not None:
        values |= {
            f"group_corr[{effects[i]},{effects[j]}]": group_corr[..., i, j]
            for j in range(task.q)
            for i in range(j)
        }
    return {name: np.asarray(value, dtype=float) for name, value in values.items()}
