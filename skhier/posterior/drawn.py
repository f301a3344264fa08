"""What the draws of a fit say, whatever else its posterior holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skhier.kernels.records import Population
from skhier.kernels.user_units import effects_to_user, in_user_units
from skhier.responses.base import Response
from skhier.statistics.records import Units
from skhier.utils.budget import USUAL, Budget

__all__ = ["Drawn"]


class Drawn:
    """Draws of the population and of group effects, in the user's units.

    Of a posterior that has ``units``, ``draws`` (n_chains, n_draws, ...), per factor the ``slopes``
    and the number of levels, the ``seed`` of the group effects' draws, and a ``response``.
    """

    units: Units
    draws: Population
    slopes: tuple[tuple[int, ...], ...]
    n_levels: list[int]
    seed: int
    response: Response
    budget: Budget = USUAL
    shape: Any  # (n_chains, n_draws)
    group_draws: Callable[..., np.ndarray]
    observation_variance: Callable[[], np.ndarray]

    def population_draws(self) -> dict[str, np.ndarray]:
        """Draws in the user's units, see :func:`~skhier.kernels.user_units.in_user_units`."""
        return in_user_units(self.draws, self.units, self.slopes, self.response)

    def group_chains(self, k: int) -> np.ndarray:
        """``group_draws`` of all known levels, (n_chains, n_draws, n_levels, q)."""
        draws = self.group_draws(k, np.arange(self.n_levels[k]))
        return draws.reshape(*self.shape, *draws.shape[1:])

    def residual_sd(self) -> np.ndarray:
        """Root of ``observation_variance``, (n_chains, n_draws)."""
        return np.sqrt(self.observation_variance()).reshape(self.shape)

    def _own(self, population: Population) -> dict[str, np.ndarray]:
        """The response's own parameters at points of theta, (n, 1) each, in units of y."""
        own = self.response.scaled(population.own, self.units.y_scale)
        return {name: values[:, None] for name, values in own.items()}

    def _to_user(self, k: int) -> np.ndarray:
        """Matrix from internal effects, intercept at the mean of x, to the user's, at x = 0."""
        return effects_to_user(self.units, k, self.slopes[k])
