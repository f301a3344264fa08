"""The marginal engine: importance sampling, or NUTS, of theta; the rest follows in closed form."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.bartlett import Bartlett, bartlett_at
from skhier.inference.estimates import Estimate, estimates
from skhier.inference.importance import Mixture
from skhier.inference.mode import STEP, Derivatives, from_gradients, from_values, on_other_hills
from skhier.inference.signs import Signs, places_of_factor, scale_entries, signs_for
from skhier.inference.size_classes import Itself, Padding, Placement
from skhier.inference.starts import PROFILE_GRID, PriorTops, prior_tops, structured_starts
from skhier.kernels.records import (
    CoefPriors,
    Components,
    ModelSpec,
    Population,
    PopulationGivenTheta,
)
from skhier.kernels.user_units import coef_to_user, in_user_units
from skhier.statistics.records import Units
from skhier.utils.budget import USUAL, Budget

__all__ = ["PopulationPosterior", "Theta", "population_of"]

NEAR_ZERO = np.array([2.0, -14.0, -24.0])  # logarithms of scales, the last two of next to nothing
SAME = 1e-4  # in nats


class Theta:
    """The posterior of theta as functions of many points, evaluated a batch at a time.

    Parameters
    ----------
    spec : ModelSpec
    data : tuple
        Statistics, units and priors; float64 arrays. The size class's where there is ``padding``.
    batch : int
        Points at once.
    check : callable
        Called between batches; may raise to stop.
    workers : int
        Batches side by side, each in a thread of its own.
    device : Device or None
        Of those threads.
    budget : Budget
        Its parts ``search``, ``importance`` and ``memory``.
    padding : Padding or None
        Of the programs, which are those of a size class.
    """

    def __init__(
        self,
        spec: ModelSpec,
        data: tuple,
        batch: int,
        check: Callable[[], None],
        workers: int = 1,
        device: Any = None,
        budget: Budget = USUAL,
        padding: Padding | None = None,
    ):
        import jax

        from skhier.inference import target as targets

        self.spec, self.batch, self.check = spec, batch, check
        self.workers, self.device, self.budget = workers, device, budget
        # copying a few numbers at each call is faster than moving them there once
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(data[0]))
        self.data = jax.device_put(data) if size > budget.memory.few_entries else data
        self.program_spec = spec if padding is None else padding.spec
        # taken apart once, not at each call
        self._at_data = *jax.tree.flatten(self.data), self.program_spec
        self.targets = targets
        zero, coef_prior = targets.origin(*self._at_data)
        own = Itself(len(zero)) if padding is None else self._placement(padding, len(zero))
        self.placement, self.coef_prior, self.size = own, own.coef_prior(coef_prior), own.size
        self.gradient_seconds = np.inf  # of the fastest
        self.progress: Callable[[int], None] = lambda n: None
        self.slopes = tuple(factor.slopes for factor in spec.factors)
        self.n_evaluations = 0
        self._kept: deque[tuple[np.ndarray, list[Any]]] = deque(maxlen=budget.memory.kept_batches)

    def _placement(self, padding, size):
        grids = np.tile(PROFILE_GRID[:, None], (1, size))
        of_sites = self.targets.prior_profiles(grids, *self._at_data)
        return Placement(padding, PROFILE_GRID, of_sites)

    @cached_property
    def units(self) -> Units:
        """The problem's own."""
        import jax

        return self.placement.units(jax.tree.map(np.asarray, self.data[1]))

    def starts(self, rng: np.random.Generator) -> np.ndarray:
        """Where modes may be, (n_starts, d): structured, and the best of a batch of random points.

        Such a batch costs no more than one point.
        """
        random = rng.standard_normal((self.batch, self.size))
        random[0] = 0
        heights = np.nan_to_num(self.log_densities(random), nan=-np.inf)
        return np.concatenate([self._structured_starts(), random[heights.argmax()][None]])

    def _structured_starts(self):
        total = self.placement.total(np.asarray(self.data[0].total))
        return structured_starts(self.spec, self.units, total, self.priors, self.budget.search)

    def has_other_modes(self, known: Mixture) -> bool:
        """Whether a start is on a hill of its own, apart from all components of ``known``."""
        starts = self._structured_starts()
        apart = on_other_hills(self.log_densities, starts, known.means, self.budget.search)
        return bool(apart.any())

    @cached_property
    def priors(self) -> PriorTops:
        """Where the prior of each entry of theta has its modes."""
        return prior_tops(self._prior_profiles, self.size, self.budget.search)

    def _prior_profiles(self, grids):
        there = self.placement.points(grids)
        return self.placement.own_of_sites(self.targets.prior_profiles(there, *self._at_data))

    def signs(self, wanted: np.ndarray) -> Signs:
        """Those of the scales among ``wanted`` (d,) that can have one.

        The prior's density of such a scale is positive and finite at 0, and its entry of theta is
        its logarithm.
        """
        signed = np.zeros(self.size, bool)
        signed[self.scales] = wanted[self.scales]
        if signed.any():
            signed &= self._of_scales[1]
        return signs_for(self.spec, self.priors.sites, signed)

    @cached_property
    def scales(self) -> list[int]:
        """Places of the group scales, whose entries of theta are mostly logarithms."""
        places = scale_entries(self.spec, self.priors.sites)
        return [entry for of_factor in places for entry in of_factor.values()]

    def bartlett(self, mode: np.ndarray, near_zero: np.ndarray) -> Bartlett | None:
        """Bartlett's coordinates around a mode (d,), of factors with correlations of which no scale
        is ``near_zero`` (d,); None if there are none.
        """
        factors = []
        for k in range(len(self.spec.factors)):
            places = places_of_factor(self.spec, self.priors.sites, k)
            if places is None:
                continue
            own = np.diagonal(places)
            if self._of_scales[0][own].all() and not near_zero[own].any():
                factors.append(places)
        if not factors:
            return None
        signs = self.signs(near_zero)
        return bartlett_at(
            mode,
            factors,
            None if signs.are_plain else signs,
            self.budget.importance.carried_points,
        )

    @cached_property
    def _of_scales(self):
        """Whether entries are logarithms (d,); whether their values can be 0, with a density."""
        grids = np.zeros((len(PROFILE_GRID), self.size))  # of a shape that is compiled
        grids[: len(NEAR_ZERO)] = NEAR_ZERO[:, None]
        of_sites = self._prior_profiles(grids)
        heights = np.concatenate([np.asarray(values) for values in of_sites.values()], axis=1)
        density = heights[: len(NEAR_ZERO)] - NEAR_ZERO[:, None]  # per unit of the scale
        there = self.placement.points(grids[: len(NEAR_ZERO)])
        values = np.asarray(self.targets.site_values(there, *self._at_data))
        with np.errstate(invalid="ignore", divide="ignore"):
            log_values = np.log(values[:, self.placement.entries])
            is_log = np.abs(log_values - NEAR_ZERO[:, None]).max(0) < SAME
            is_level = np.ptp(density[1:], axis=0) < SAME
        return is_log, is_log & is_level & np.isfinite(density).all(0)

    @cached_property
    def steps(self) -> np.ndarray:
        """Of differences, (d,): well below the width of a narrow prior."""
        return np.minimum(STEP, self.priors.widths / 20)

    def derivatives(self, point: np.ndarray) -> Derivatives:
        """Of the log density at a point (d,); whichever way compiles and runs faster."""
        if self.size <= self.budget.search.max_size_by_values:
            return from_values(self.log_densities, point, self.steps)
        return from_gradients(self.gradients, point)

    def gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (n,) and gradients (n, d) at points (n, d)."""
        self.n_evaluations += len(points)
        values, gradients = np.empty(len(points)), np.empty(points.shape)
        for i, of_point in enumerate(self._side_by_side(self._gradient, points)):
            values[i], gradients[i] = of_point
        return values, gradients

    def _gradient(self, point):
        import jax

        self.check()
        self.progress(1)
        began = time.perf_counter()
        # waited for: programs in flight together may wait for each other's threads
        there = self.placement.points(point)
        of_point = jax.block_until_ready(self.targets.density_and_gradient(there, *self._at_data))
        self.gradient_seconds = min(self.gradient_seconds, time.perf_counter() - began)
        value, gradient = map(np.asarray, of_point)
        return value - self.placement.log_spare, gradient[self.placement.entries]

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """(n, d) points to (n,) log densities. What else follows from them is kept if it fits."""
        self.n_evaluations += len(points)
        densities, kept = [], []
        max_entries = self.budget.memory.max_cov_entries
        for log_density, conditional in self._batches(points):
            densities.append(np.asarray(log_density))
            if len(points) * conditional.coef_root.shape[1] ** 2 < max_entries:
                kept.append(conditional)
        self._kept.append((points, kept))
        return np.concatenate(densities)[: len(points)] - self.placement.log_spare

    def conditionals(self, points: np.ndarray) -> Iterator[tuple[slice, PopulationGivenTheta]]:
        """Slices of the points, and the parameters that follow from them."""
        import jax

        end = 0
        for drawn, kept in self._drawn_last(points):
            parts: Iterable[Any] = kept or (given for _, given in self._batches(drawn))
            for start, conditional in zip(range(0, len(drawn), self.batch), parts, strict=True):
                n = min(self.batch, len(drawn) - start)
                unpadded = jax.tree.map(lambda a, n=n: np.asarray(a)[:n], conditional)
                begin, end = end, end + n
                yield slice(begin, end), self.placement.conditional(unpadded)

    def _drawn_last(self, points):
        """The points in the parts that they were last evaluated in, and what was kept of them."""
        for n in range(1, len(self._kept) + 1):
            parts = list(self._kept)[-n:]
            if sum(len(part) for part, _ in parts) == len(points):
                if np.array_equal(np.concatenate([part for part, _ in parts]), points):
                    return parts
                break
        return [(points, [])]

    def _batches(self, points):
        """Results for each batch, on the device, padded to the one size that is compiled."""
        starts = range(0, len(points), self.batch)
        yield from self._side_by_side(partial(self._evaluate, points), starts)

    def _side_by_side(self, task, parts):
        """What the task makes of each part, in their order."""
        if self.workers == 1 or len(parts) == 1:
            yield from map(task, parts)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(partial(self._in_thread, task), parts)

    def _evaluate(self, points, start):
        self.check()
        part = points[start : start + self.batch]
        self.progress(len(part))
        padding = np.broadcast_to(part[:1], (self.batch - len(part), self.size))
        there = self.placement.points(np.concatenate([part, padding]))
        return self.targets.evaluate(there, *self._at_data)

    def _in_thread(self, task, part):
        import jax

        from skhier.inference import runtime

        with runtime.precisely_on(self.device):
            return jax.block_until_ready(task(part))


class PopulationPosterior(NamedTuple):
    """What weighted points of theta say about the population.

    Attributes
    ----------
    draws : Population
        (n_chains, n_draws, ...).
    components : Components
        The same posterior as a mixture.
    estimates : dict of str to Estimate
        Means and sds in the user's units.
    """

    draws: Population
    components: Components
    estimates: dict[str, Estimate]


def population_of(
    theta: Theta,
    units: Units,
    points: np.ndarray,
    weights: np.ndarray,
    chosen: np.ndarray,
    error: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> PopulationPosterior:
    """Coefficients and moments that follow from weighted points.

    Parameters
    ----------
    theta : Theta
    units : Units
    points : array of shape (n, d)
        Any first few of which, with their weights, stand for the posterior.
    weights : array of shape (n,)
        Sum 1.
    chosen : int array of shape (n_chains, n_draws)
        The points that become draws.
    error : callable
        See :func:`~skhier.inference.estimates.estimates`.
    rng : Generator
    """
    import jax

    to_user = coef_to_user(units)
    draws = np.argsort(chosen, axis=None, kind="stable")
    at = chosen.ravel()[draws]
    parts, variances, covs = [], [], []
    coef = np.empty((chosen.size, len(to_user)))
    for rows, of_rows in theta.conditionals(points):
        here = slice(*np.searchsorted(at, (rows.start, rows.stop)))
        which, root = at[here] - rows.start, of_rows.coef_root
        noise = rng.standard_normal((len(which), root.shape[2]))
        spread = np.einsum("spk,sk->sp", root[which], noise)
        coef[draws[here]] = of_rows.population.coef[which] + spread
        variances.append(((to_user @ root) ** 2).sum(2))
        if rows.start * len(to_user) ** 2 < theta.budget.memory.max_cov_entries:
            covs.append(root @ np.swapaxes(root, 1, 2))
        parts.append(of_rows._replace(coef_root=None))
    # an impossible point has no weight, but its numbers need not be finite: take the best one's
    place = np.where(weights > 0, np.arange(len(weights)), weights.argmax())
    at_points = jax.tree.map(lambda *arrays: np.concatenate(arrays)[place], *parts)
    variance, cov = np.concatenate(variances)[place], np.concatenate(covs)
    cov = cov[np.minimum(place[: len(cov)], len(cov) - 1)]
    basis, _, of_coefs, _ = map(np.asarray, theta.coef_prior)
    prior = CoefPriors(basis, of_coefs[:, :-1], at_points.coef_offset, at_points.coef_target)
    components = Components(weights, at_points.population).first(len(cov))
    moments = estimates(
        weights,
        in_user_units(at_points.population, units, theta.slopes, theta.spec.response),
        {"coef": variance[:, :-1], "intercept": variance[:, -1]},
        error,
    )
    return PopulationPosterior(
        at_points.population.take(chosen)._replace(coef=coef.reshape(*chosen.shape, -1)),
        components._replace(coef_cov=cov, prior=prior.take(slice(len(cov)))),
        moments,
    )
