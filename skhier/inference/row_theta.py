"""The posterior of theta where rows have no sufficient statistics, as functions of many points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from skhier.inference.mode import STEP, Derivatives, from_gradients, from_values
from skhier.inference.starts import PriorTops, prior_tops
from skhier.kernels.records import ModelSpec, Population
from skhier.statistics.rows import RowBlocks
from skhier.utils.budget import Budget

__all__ = ["RowTheta"]

AT_ONCE = 2**14  # rows of a block times points: what a processor's cache holds
FEWEST, MOST = 4, 32  # points of a batch
BY_VALUES = 10  # entries of theta up to which values are faster than gradients to compile


class RowTheta:
    """The posterior of theta as functions of many points, evaluated a batch at a time.

    Parameters
    ----------
    spec : ModelSpec
    rows : RowBlocks
    model : tuple
        Units, priors and known parameters.
    n_nodes : int
        Of the rule, a dimension.
    check : callable
        Called between batches; may raise to stop.
    device : Device or None
    budget : Budget
    """

    def __init__(self, spec: ModelSpec, rows: RowBlocks, model, n_nodes, check, device, budget):
        import jax

        from skhier.inference import row_target

        self.spec, self.model, self.check, self.device = spec, model, check, device
        self.rows: RowBlocks = jax.device_put(rows)
        self.budget: Budget = budget
        self.target = row_target
        self.size = len(row_target.size(model, spec))
        self.batch = int(np.clip(AT_ONCE * len(rows.levels) // rows.y.size, FEWEST, MOST))
        self.n_evaluations = 0
        self.kept: tuple[np.ndarray, Any] | None = None
        self.effects = np.zeros((self.q, len(rows.present)))
        self.highest = -np.inf
        self.use(n_nodes)

    @property
    def q(self) -> int:
        """Effects of a level."""
        return self.spec.factors[0].n_effects if self.spec.factors else 0

    def use(self, n_nodes: int) -> None:
        """Take a rule of so many nodes a dimension."""
        from skhier.kernels.rows.quadrature import product_rule

        self.n_nodes = n_nodes
        self.rule = product_rule(n_nodes, self.q)

    @property
    def data(self) -> tuple:
        """Arguments of the compiled functions, for values that are near enough to be subtracted."""
        return self._data(closely=True)

    def _data(self, closely):
        from skhier.kernels.rows.modes import CLOSE, ROUGH, ModeSearch

        search = ModeSearch(self.effects, CLOSE if closely else ROUGH)
        return self.rows, self.rule, self.model, search

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

    def starts(self) -> np.ndarray:
        """Where modes may be, (n_starts, d): a fit without groups, and scales of two sizes."""
        sites = self.priors.sites
        start = np.zeros(self.size)
        own = self.populations(start[None]).take(0).own
        coef = _fit_without_groups(self.spec.response, self.rows, own)
        for i, block in enumerate(self.spec.coef_blocks):
            start[list(sites[f"coef_{i}"])] = coef[list(block)]
        start[list(sites["intercept"])] = coef[-1]
        scales = [j for name, entries in sites.items() if _is_scale(name) for j in entries]
        start[scales] = -0.7
        without = start.copy()
        without[scales] = -4.0
        return np.unique([start, without, np.zeros(self.size)], axis=0)

    def derivatives(self, point: np.ndarray) -> Derivatives:
        """Of the log density at a point (d,); whichever way compiles and runs faster."""
        if self.size <= BY_VALUES:
            return from_values(self.log_densities, point, self.steps)
        return from_gradients(self._density_and_gradient, point)

    def _density_and_gradient(self, points):
        self.n_evaluations += len(points)
        parts = self.over(self.target.density_and_gradient, points, self.data)
        values, gradients = (
            np.concatenate([np.asarray(part) for part in half])[: len(points)]
            for half in zip(*parts, strict=True)
        )
        return values, gradients

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """(n, d) points to (n,) log densities, exact enough to be subtracted."""
        values, batches = self._evaluate(points, self.data)
        best = int(np.where(np.isfinite(values), values, -np.inf).argmax())
        if values[best] > self.highest:  # where the next search for effects begins
            self.highest = values[best]
            batch, place = divmod(best, self.batch)
            self.effects = np.asarray(batches[batch].mode[place])
        return values

    def rough_log_densities(self, points: np.ndarray, n_kept: int = 0) -> np.ndarray:
        """The same to a hundredth of a nat; keeps the moments at the first points, if so asked."""
        values, batches = self._evaluate(points, self._data(closely=False))
        if n_kept:
            first, used = points[:n_kept], batches[: -(-n_kept // self.batch)]
            arrays = (np.concatenate(parts)[: len(first)] for parts in zip(*used, strict=True))
            self.kept = first, type(used[0])(*arrays)
        return values

    def _evaluate(self, points, data):
        self.n_evaluations += len(points)
        parts = self.over(self.target.evaluate, points, data)
        values = np.concatenate([np.asarray(value) for value, _ in parts])[: len(points)]
        return values, [moments for _, moments in parts]

    def over(self, function: Any, points: np.ndarray, data: tuple) -> list[Any]:
        """A compiled function at all points, a padded batch at a time, two of them side by side."""
        import jax

        from skhier.inference import runtime

        def at(begin):
            self.check()
            part = points[begin : begin + self.batch]
            padding = np.broadcast_to(part[:1], (self.batch - len(part), self.size))
            with runtime.precisely_on(self.device):
                out = function(np.concatenate([part, padding]), data, self.spec)
                return jax.block_until_ready(out)

        first, *others = range(0, len(points), self.batch)
        out = [at(first)]  # which compiles, once
        if others:
            with ThreadPoolExecutor(2) as pool:
                out += pool.map(at, others)
        return out

    def populations(self, points: np.ndarray) -> Population:
        """The population at each of (n, d) points."""
        import jax

        return jax.tree.map(np.asarray, self.target.populations(points, self.model, self.spec))

    def moments(self, points: np.ndarray) -> tuple[Any, np.ndarray]:
        """LevelMoments at points, and the stretches of EffectMoments."""
        if self.kept is None or not np.array_equal(self.kept[0], points):
            self.rough_log_densities(points, len(points))
        assert self.kept is not None
        return self.kept[1], _stretch(self.kept[1])


def _stretch(moments):
    """What a normal intercept's variance is multiplied by to have the mean of ``e^b``, (n, G)."""
    mean, log_exp = moments.mean, moments.log_exp
    if not mean.shape[1]:
        return np.ones_like(log_exp)
    variance = (moments.root[:, -1] ** 2).sum(1)
    wanted = np.maximum(2 * (log_exp - mean[:, -1]), 0.0)  # at least 0 by Jensen's inequality
    # of an effect that hardly varies the quotient is rounding, and the mean is what it is
    return np.divide(wanted, variance, out=np.ones_like(variance), where=variance > 1e-6)


def _is_scale(name):
    return name.startswith(("group_scale_", "decov_size_"))


def _fit_without_groups(response, rows, own) -> np.ndarray:
    """Coefficients (p,) of a fit that ignores groups, drawn a little to 0."""
    x = np.asarray(rows.x).reshape(len(rows.x), -1)
    y, weight, offset = (np.asarray(a).ravel() for a in (rows.y, rows.weight, rows.offset))
    coef = np.zeros(len(x))
    coef[-1] = response.start(y[weight > 0], weight[weight > 0]) - np.average(
        offset, weights=weight
    )

    def value(at):
        density = weight * response.log_density(y, at @ x + offset, own)
        return density.sum() - 0.5 * at[:-1] @ at[:-1]

    ridge = np.append(np.ones(len(x) - 1), 1e-6)
    for _ in range(25):
        line = coef @ x + offset
        score = x @ (weight * response.score(y, line, own)) - ridge * coef
        curvature = weight * np.maximum(response.curvature(y, line, own), 0)
        step = np.linalg.solve((x * curvature) @ x.T + np.diag(ridge + 1e-9), score)
        for _ in range(20):
            if value(coef + step) >= value(coef):
                break
            step = step / 2
        coef = coef + step
        if np.abs(step).max() < 1e-3:
            break
    return coef
