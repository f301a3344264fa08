"""The posterior of theta where quadrature integrates levels out, as functions of many points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from skhier.inference.mode import STEP, Derivatives, from_gradients, from_values
from skhier.inference.starts import PriorTops, prior_tops
from skhier.kernels.records import ModelSpec, Population
from skhier.utils.budget import Budget, SearchBudget

__all__ = ["QuadratureTheta"]


class QuadratureTheta(ABC):
    """The posterior of theta, evaluated a batch at a time.

    A subclass says what its likelihood sees, with which rule, and what is kept of the levels.

    Parameters
    ----------
    program : LevelProgram
    spec : ModelSpec
    model : tuple
        What the prior takes: units, distributions, known parameters.
    n_nodes : int
        Of the rule, a dimension.
    batch : int
        Points evaluated together.
    check : callable
        Called between batches; may raise to stop.
    device : Device or None
    budget : Budget
    """

    levels_are: ClassVar[str]  # what an EngineResult calls what is kept of the levels

    def __init__(
        self,
        program: Any,
        spec: ModelSpec,
        model: tuple,
        n_nodes: int,
        batch: int,
        check: Callable[[], None],
        device: Any,
        budget: Budget,
    ):
        import jax

        from skhier.inference import quadrature_target

        self.program, self.spec, self.model = program, spec, model
        self.batch, self.check, self.device, self.budget = batch, check, device, budget
        self.target = quadrature_target
        self._model = jax.tree.flatten(model)  # once, and not with every batch
        self.size = self.target.size(model, program, spec)
        self.n_evaluations = 0
        self.known: tuple[np.ndarray, list[Population]] = np.zeros((0, self.size)), []
        self.use(n_nodes)

    def use(self, n_nodes: int) -> None:
        """Take a rule of so many nodes a dimension."""
        import jax

        self.n_nodes, self.rule = n_nodes, jax.device_put(self.rule_of(n_nodes))

    def improve(self, most: int) -> bool:
        """Be more exact, with at most so many nodes a dimension; whether that is possible."""
        if self.n_nodes >= most:
            return False
        self.use(self.n_nodes + 2)
        return True

    @abstractmethod
    def rule_of(self, n_nodes: int) -> Any:
        """A rule of so many nodes a dimension."""

    @property
    def finer_rule(self) -> Any:
        """The next finer rule."""
        return self.rule_of(self.n_nodes + 2)

    @property
    @abstractmethod
    def seen(self) -> tuple:
        """What the likelihood takes beside the population."""

    @abstractmethod
    def n_kept(self, n_points: int) -> int:
        """Of so many weighted points those of which levels are kept, the first ones."""

    @abstractmethod
    def of_levels(self, points: Any, which: Any, population: Population, place: np.ndarray) -> Any:
        """What is kept of the levels.

        Parameters
        ----------
        points : array of shape (n, d) or None
            The first n of all; None where every parameter was sampled.
        which : int array of shape (S,)
            Those of them that count.
        population : Population
            At these.
        place : int array of shape (n_chains, n_draws)
            Which of the S each draw is.
        """

    @property
    def is_exact(self) -> bool:
        """Whether there is nothing to integrate."""
        return False

    @property
    def search(self) -> SearchBudget:
        """How thoroughly modes of theta are looked for."""
        return self.budget.search

    @property
    def by_values(self) -> int:
        """Entries of theta up to which values are faster than gradients to compile and run."""
        return self.budget.search.max_size_by_values

    @property
    def data(self) -> tuple:
        """Arguments of the compiled functions."""
        return self.seen, self.model

    @cached_property
    def priors(self) -> PriorTops:
        """Where the prior of each entry of theta has its modes."""

        def profiles(grids):
            return self.target.prior_profiles(grids, self.model, self.program, self.spec)

        return prior_tops(profiles, self.size, self.budget.search)

    @cached_property
    def steps(self) -> np.ndarray:
        """Of differences, (d,): well below the width of a narrow prior."""
        return np.minimum(STEP, self.priors.widths / 20)

    def start_at(self, coef: np.ndarray) -> np.ndarray:
        """A point (d,) with these coefficients, the intercept last, and 0 elsewhere."""
        sites, start = self.priors.sites, np.zeros(self.size)
        for i, block in enumerate(self.spec.coef_blocks):
            start[list(sites[f"coef_{i}"])] = coef[list(block)]
        start[list(sites["intercept"])] = coef[-1]
        return start

    @property
    def scales(self) -> list[int]:
        """Places of the logarithms of group scales."""
        return self.entries("group_scale_", "decov_size_")

    def entries(self, *beginnings: str) -> list[int]:
        """Places of the parameters whose names begin like this."""
        sites = self.priors.sites.items()
        return [j for name, places in sites if name.startswith(beginnings) for j in places]

    def derivatives(self, point: np.ndarray) -> Derivatives:
        """Of the log density at a point (d,); whichever way compiles and runs faster."""
        if self.size <= self.by_values:
            return from_values(self.log_densities, point, self.steps)
        return from_gradients(self._density_and_gradient, point)

    def _density_and_gradient(self, points):
        self.n_evaluations += len(points)

        def at(part):
            how = self.program, self.spec
            return self.target.density_and_gradient(part, self.data, *how)

        parts = self.over(at, points)
        values, gradients = (
            np.concatenate([np.asarray(part) for part in half])[: len(points)]
            for half in zip(*parts, strict=True)
        )
        return values, gradients

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """(n, d) points to (n,) log densities, exact enough to be subtracted."""
        return self.evaluated(points, lambda part: self.seen)[0]

    def rough_log_densities(self, points: np.ndarray, n_kept: int = 0) -> np.ndarray:
        """The same as exact as weights need them; ``n_kept``: see :meth:`of_levels`."""
        return self.log_densities(points)

    def finer_log_densities(self, points: np.ndarray) -> np.ndarray:
        """The same by the next finer rule."""
        with self.by_rule(self.finer_rule):
            return self.rough_log_densities(points)

    @contextmanager
    def by_rule(self, rule: Any) -> Iterator[None]:
        """Another rule meanwhile."""
        import jax

        before, self.rule = self.rule, jax.device_put(rule)
        try:
            yield
        finally:
            self.rule = before

    def far_log_densities(self, points: np.ndarray) -> np.ndarray | None:
        """The same by a rule whose nodes reach farther; None where all lies within theirs."""
        return None

    def reach_far(self) -> None:
        """Take such a rule."""
        raise NotImplementedError

    def evaluated(
        self, points: np.ndarray, seen_at: Callable[[np.ndarray], tuple], n_learnt: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (n,), and what was learnt of the levels at the first ``n_learnt`` points.

        ``seen_at``: what the likelihood sees of a batch of points. Of many levels all points would
        be too much to hold.
        """
        self.n_evaluations += len(points)

        def at(part):
            prior, everyone = self._given(part)
            of_rows = self.target.evaluate(everyone, seen_at(part), self.program, self.spec)
            return prior, everyone, *of_rows

        learnt: dict[str, np.ndarray] = {}

        def kept(begin, results):
            *values, of_levels = results
            n = min(n_learnt - begin, self.batch)
            if n > 0:  # no batch waits for the others: their copies would be as large as all of it
                room = np.empty((n_learnt, *of_levels.shape[1:]))
                learnt.setdefault("all", room)[begin : begin + n] = np.asarray(of_levels)[:n]
            return values

        parts = self.over(at, points, kept)
        priors, everyone, likelihoods = map(list, zip(*parts, strict=True))
        if len(points) >= len(self.known[0]):
            self.known = points, everyone
        values = [np.asarray(a) + np.asarray(b) for a, b in zip(priors, likelihoods, strict=True)]
        return np.concatenate(values)[: len(points)], learnt.get("all", np.empty(0))

    def _given(self, points):
        numbers, structure = self._model
        return self.target.populations(points, numbers, structure, self.program, self.spec)

    def populations(self, points: np.ndarray) -> Population:
        """The population at each of (n, d) points."""
        import jax

        known, parts = self.known
        if not np.array_equal(known, points):
            if len(points) > self.budget.quadrature.many_batches * self.batch:
                return jax.tree.map(np.asarray, self._given(points)[1])
            parts = [everyone for _, everyone in self.over(self._given, points)]
        return jax.tree.map(lambda *a: np.concatenate(a)[: len(points)], *parts)

    def over(
        self,
        function: Callable[[np.ndarray], Any],
        points: np.ndarray,
        kept: Callable[[int, Any], Any] = lambda begin, results: results,
    ) -> list[Any]:
        """A compiled function at all points, a padded batch at a time, two of them side by side.

        ``kept``: takes a batch's first place and results to what stays of them.
        """
        import jax

        from skhier.inference import runtime

        begins = range(0, len(points), self.batch)
        pending, out = deque(begins), {}

        def work(_):
            with runtime.precisely_on(self.device):  # which takes longer than a batch of few rows
                while True:
                    self.check()
                    try:
                        begin = pending.popleft()
                    except IndexError:
                        return
                    part = points[begin : begin + self.batch]
                    padding = np.broadcast_to(part[:1], (self.batch - len(part), *part.shape[1:]))
                    full = np.concatenate([part, padding])
                    out[begin] = kept(begin, jax.block_until_ready(function(full)))

        if len(begins) == 1:
            work(0)
        else:
            with ThreadPoolExecutor(2) as pool:  # one compiles, and the other waits for it
                list(pool.map(work, range(2)))
        return [out[begin] for begin in begins]
