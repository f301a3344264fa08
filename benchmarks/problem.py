"""What a problem of the benchmark is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import Factor, Priors
from rivals import BAYESIAN, POINT

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """``n_rows`` rows in the levels of ``factors``; ``table`` makes them, or by default
    ``tables.standard``.

    The prior of a standard deviation is exponential with mean ``group_scale``, the same for all of
    a factor's effects unless it holds one number for each. The others are as in `Priors`.
    ``response``: "normal", "bernoulli" (logit) or "poisson" (log).
    """

    name: str
    n_rows: int
    factors: tuple[Factor, ...]
    table: Callable[[Problem], tuple[pd.DataFrame, pd.Series]] | None = None
    tau: float = 0.5
    seed: int = 1
    rivals: tuple[str, ...] = (*BAYESIAN, *POINT)
    intercept: tuple[float, float] = (0.0, 5.0)
    coef: float = 2.5
    group_scale: float | tuple[float, ...] = 1.0
    noise_scale: float = 1.0
    response: str = "normal"

    @property
    def n_groups(self) -> int:
        """Levels of all factors."""
        return sum(factor.n_levels for factor in self.factors)

    @property
    def q(self) -> int:
        """Effects of the factor that has most."""
        return max(len(factor.effects) for factor in self.factors)

    @property
    def shape(self) -> str:
        """In words."""
        parts = [f"{self.n_rows:,} rows"]
        for factor in self.factors:
            home = f" in {factor.within}" if factor.within else ""
            parts.append(f"{factor.n_levels:,} {factor.name}{home} (q = {len(factor.effects)})")
        return ", ".join(parts)

    @property
    def priors(self) -> Priors:
        each = self.group_scale
        scales = {
            f.name: each if isinstance(each, tuple) else (each,) * len(f.effects)
            for f in self.factors
        }
        return Priors(self.intercept, self.coef, scales, self.noise_scale)
