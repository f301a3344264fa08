"""The posterior of theta where levels have a noise of their own, as functions of many points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from skhier.inference.mode import STEP, Derivatives, from_gradients, from_values
from skhier.inference.starts import PriorTops, prior_tops
from skhier.kernels.records import ModelSpec, Population
from skhier.statistics.level_roots import LevelRoots
from skhier.statistics.records import GroupStats
from skhier.utils.budget import Budget

__all__ = ["NoiseTheta"]

ENTRIES = 2**15  # of levels x points at once, which stay in cache
LARGE, SMALL = -0.7, -4.0  # of logarithms of scales, in internal units of y
SPREADS = -1.0, -3.0  # of the log of the noise's spread over levels


class NoiseTheta:
    """The posterior of theta, evaluated a batch at a time.

    Parameters
    ----------
    spec : ModelSpec
    levels : LevelRoots
        Not padded.
    model : tuple
        Units and priors.
    n_nodes : int
        Of the rule.
    check : callable
        Called between batches; may raise to stop.
    device : Device or None
    budget : Budget
    """

    def __init__(
        self, spec: ModelSpec, levels: LevelRoots, model, n_nodes, check, device, budget: Budget
    ):
        import jax

        from skhier.inference import noise_target

        self.spec, self.model, self.check, self.device = spec, model, check, device
        self.budget, self.target = budget, noise_target
        padded = levels.padded()
        self.n_levels = len(levels.n)
        self.levels: LevelRoots = jax.device_put(padded)
        self.size = len(noise_target.size(model, spec))
        self.batch = int(np.clip(ENTRIES // len(padded.n), 1, 32))
        self.n_evaluations = 0
        self.use(n_nodes)

    def use(self, n_nodes: int) -> None:
        """Take a rule of so many nodes."""
        from skhier.kernels.normal.level_noise import noise_rule

        self.n_nodes = n_nodes
        self.rule = noise_rule(n_nodes)

    @property
    def data(self) -> tuple:
        """Arguments of the compiled functions."""
        return self.levels, self.rule, self.model

    @cached_property
    def priors(self) -> PriorTops:
        """Where the prior of each entry of theta has its modes."""

        def profiles(grids):
            return self.target.prior_profiles(grids, self.model, self.spec)

        return prior_tops(profiles, self.size, self.budget.search)

    @cached_property
    def steps(self) -> np.ndarray:
        """Of differences, (d,): well below the width of a narrow prior."""
        return np.minimum(STEP, self.priors.widths / 20)

    def starts(self, stats: GroupStats) -> np.ndarray:
        """Where modes may be, (n_starts, d): least squares, with scales of two sizes."""
        sites = self.priors.sites
        ridge = 1e-9 * stats.n * np.eye(len(stats.xy))
        coef = np.linalg.solve(stats.xx + ridge, stats.xy)
        start = np.zeros(self.size)
        for i, block in enumerate(self.spec.coef_blocks):
            start[list(sites[f"coef_{i}"])] = coef[list(block)]
        start[list(sites["intercept"])] = coef[-1]
        names = ("group_scale_", "decov_size_", "noise_scale")
        scales = [j for name in sites if name.startswith(names) for j in sites[name]]
        start[scales] = LARGE
        start[list(sites["noise_spread"])] = SPREADS[0]
        without = start.copy()
        without[[j for name in sites if name.startswith(names[:2]) for j in sites[name]]] = SMALL
        equal = start.copy()
        equal[list(sites["noise_spread"])] = SPREADS[1]
        return np.unique([start, without, equal], axis=0)

    def derivatives(self, point: np.ndarray) -> Derivatives:
        """Of the log density at a point (d,); whichever way compiles and runs faster."""
        if self.size <= self.budget.search.max_size_by_values:
            return from_values(self.log_densities, point, self.steps)
        return from_gradients(self._density_and_gradient, point)

    def _density_and_gradient(self, points):
        self.n_evaluations += len(points)
        values, gradients = np.empty(len(points)), np.empty(points.shape)
        for i, point in enumerate(points):
            self.check()
            values[i], gradients[i] = self.target.density_and_gradient(point, self.data, self.spec)
        return values, gradients

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """(n, d) points to (n,) log densities."""
        self.n_evaluations += len(points)

        def evaluate(part):
            return self.target.evaluate(part, self.data, self.spec)

        return self._over(evaluate, points)

    def populations(self, points: np.ndarray) -> Population:
        """The population at each of (n, d) points."""
        import jax

        return jax.tree.map(np.asarray, self.target.populations(points, self.model, self.spec))

    def moments(self, populations: Population) -> list[np.ndarray]:
        """Of each level at n populations, see :class:`~skhier.kernels.records.LevelNoises`.

        ``log_sd``, ``spread``, ``skew`` and ``log_density``, (n, n_levels) each.
        """
        import jax

        leaves, tree = jax.tree.flatten(populations)

        def evaluate(which):
            part = jax.tree.unflatten(tree, [leaf[which] for leaf in leaves])
            return np.stack(self.target.moments(part, self.levels, self.rule), axis=1)

        out = self._over(evaluate, np.arange(len(leaves[0])))
        return [np.ascontiguousarray(a) for a in np.moveaxis(out, 1, 0)[..., : self.n_levels]]

    def _over(self, function: Any, points: np.ndarray) -> np.ndarray:
        """A compiled function at all points, a padded batch at a time, two of them side by side."""
        from skhier.inference import runtime

        def at(begin):
            self.check()
            part = points[begin : begin + self.batch]
            padding = np.broadcast_to(part[:1], (self.batch - len(part), *part.shape[1:]))
            with runtime.precisely_on(self.device):
                return np.asarray(function(np.concatenate([part, padding])))

        first, *others = range(0, len(points), self.batch)
        out = [at(first)]  # which compiles, once
        if others:
            with ThreadPoolExecutor(2) as pool:
                out += pool.map(at, others)
        return np.concatenate(out)[: len(points)]
