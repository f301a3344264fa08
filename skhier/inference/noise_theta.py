"""The posterior of theta where levels have a noise of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier.inference.quadrature_theta import QuadratureTheta
from skhier.inference.starts import LARGE_SCALE, SMALL_SCALE
from skhier.kernels.records import LevelNoises, ModelSpec, Population
from skhier.statistics.level_roots import LevelRoots
from skhier.statistics.records import GroupStats
from skhier.utils.budget import Budget

__all__ = ["NoiseTheta"]

SPREADS = -1.0, -3.0  # of the log of the noise's spread over levels


class NoiseTheta(QuadratureTheta):
    """See :class:`~skhier.inference.quadrature_theta.QuadratureTheta`.

    Parameters
    ----------
    spec : ModelSpec
    levels : LevelRoots
        Not padded.
    model : tuple
        Units and priors.
    n_nodes, check, device, budget
    """

    levels_are = "noises"

    def __init__(
        self, spec: ModelSpec, levels: LevelRoots, model, n_nodes, check, device, budget: Budget
    ):
        import jax

        from skhier.inference import runtime
        from skhier.inference.noise_target import LEVELS

        padded = levels.padded()
        self.levels = levels
        self.padded: LevelRoots = jax.device_put(padded)
        own = budget.quadrature
        together, most = own.level_points, own.noise_points_at_once
        if not runtime.is_cpu(device):
            together, most = own.level_points_on_gpu, own.points_on_gpu
        batch = int(np.clip(together // len(padded.n), 1, most))
        super().__init__(LEVELS, spec, model, n_nodes, batch, check, device, budget)

    @property
    def n_levels(self) -> int:
        """Without those that pad."""
        return len(self.levels.n)

    def rule_of(self, n_nodes: int) -> Any:
        """Of one dimension."""
        from skhier.kernels.normal.level_noise import noise_rule

        return noise_rule(n_nodes)

    @property
    def seen(self) -> tuple:
        """Levels and rule."""
        return self.padded, self.rule

    def starts(self, stats: GroupStats) -> np.ndarray:
        """Where modes may be, (n_starts, d): least squares, with scales of two sizes."""
        ridge = 1e-9 * stats.n * np.eye(len(stats.xy))
        start = self.start_at(np.linalg.solve(stats.xx + ridge, stats.xy))
        start[self.scales + self.entries("noise_scale")] = LARGE_SCALE
        start[self.entries("noise_spread")] = SPREADS[0]
        without, equal = start.copy(), start.copy()
        without[self.scales] = SMALL_SCALE
        equal[self.entries("noise_spread")] = SPREADS[1]
        return np.unique([start, without, equal], axis=0)

    def n_kept(self, n_points: int) -> int:
        """As many as four moments of each level allow."""
        size = 4 * self.n_levels
        return int(np.clip(self.budget.memory.effect_entries // size, 64, n_points))

    def of_levels(self, points, which, population: Population, place) -> LevelNoises:
        """Moments of the log of each level's noise, and density of its rows."""
        self.use(max(self.n_nodes, self.budget.quadrature.moment_nodes))
        log_sd, spread, skew, log_density = self.moments(population)
        return LevelNoises(self.levels, log_sd, spread, skew, log_density, place)

    def moments(self, populations: Population) -> list[np.ndarray]:
        """``log_sd``, ``spread``, ``skew`` and ``log_density``, (n, n_levels) each.

        See :class:`~skhier.kernels.records.LevelNoises`.
        """
        from skhier.inference.noise_target import moments

        n = len(populations.coef)
        parts = self.over(lambda at: moments(populations.take(at), *self.seen), np.arange(n))
        return [
            np.concatenate([np.asarray(batch)[:, : self.n_levels] for batch in batches])[:n]
            for batches in zip(*parts, strict=True)
        ]
