"""The posterior of theta where rows have no sufficient statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from skhier.inference.level_moments import corrected, shift_of
from skhier.inference.mode import Laplace
from skhier.inference.quadrature_theta import QuadratureTheta
from skhier.kernels.records import EffectMoments, ModelSpec
from skhier.kernels.rows.directions import directions
from skhier.responses.base import Own, Response
from skhier.statistics.rows import RowBlocks
from skhier.utils.budget import SearchBudget

__all__ = ["RowTheta", "fit_without_groups"]


class RowTheta(QuadratureTheta):
    """See :class:`~skhier.inference.quadrature_theta.QuadratureTheta`.

    Parameters
    ----------
    spec : ModelSpec
    rows : RowBlocks
    n_levels : int
        Without those that pad.
    model : tuple
        Units, priors and known parameters.
    n_nodes, check, device, budget
    """

    levels_are = "effects"

    def __init__(
        self, spec: ModelSpec, rows: RowBlocks, n_levels: int, model, n_nodes, check, device, budget
    ):
        import jax

        from skhier.inference import runtime
        from skhier.inference.row_target import ROWS
        from skhier.kernels.rows.modes import n_normals

        self.q = spec.factors[0].n_effects if spec.factors else 0
        self.lattice = False  # whether nodes reach other modes of a level's effects
        self.told: tuple[np.ndarray, Any] | None = None  # points, and LevelMoments by such nodes
        self.rows: RowBlocks = jax.device_put(rows)
        self.n_levels = n_levels
        self.kept: tuple[np.ndarray, Any] | None = None
        self.normals = np.zeros((n_normals(self.q), len(rows.present)))
        self.highest = -np.inf
        self.along: np.ndarray | None = None  # see follow
        self.foretells = False  # where nodes lie, without a look at the rows
        own = budget.quadrature
        together, most = own.row_points, min(own.points_at_once, own.levels_at_once // n_levels)
        if not runtime.is_cpu(device):
            together, most = own.row_points_on_gpu, own.points_on_gpu
        points = together * len(rows.levels) // rows.y.size
        batch = max(min(points, most), own.fewest_points)
        super().__init__(ROWS, spec, model, n_nodes, batch, check, device, budget)

    def rule_of(self, n_nodes: int) -> Any:
        """A product rule over a level's effects, of the shape that finer ones have too."""
        return self._rule(n_nodes, self._width(n_nodes))

    @property
    def _of_lattice(self):
        return self.budget.quadrature.nodes_of_lattice(self.q)

    @property
    def _reaches_all(self) -> bool:
        """Whether a level's effects can have no mode beyond the nodes."""
        return self.lattice or not self.q or self.spec.response.log_concave

    def _width(self, n_nodes):
        """Nodes, a dimension, of the parts of a rule that is as fine, or finer."""
        return self._of_lattice[0] if self.lattice else n_nodes

    @property
    def finer_rule(self) -> Any:
        """Of the same shape as the rule, so that no program is compiled for it.

        Of a lattice one that reaches farther, where other modes of a level's effects may be.
        """
        return self._finer_of(self.n_nodes)

    def _finer(self, n_nodes):
        """Nodes of the next finer rule."""
        if not self.lattice:
            return n_nodes + 2
        _, most, tells = self._of_lattice
        return most if n_nodes < most else tells

    def _rule(self, n_nodes, width):
        from skhier.kernels.rows.rules import product_rule, rule_in_parts

        if self.lattice:
            return rule_in_parts(n_nodes, self.q, width, self._of_lattice[-1], lattice=True)
        own = self.budget.quadrature
        if 3 <= width <= own.nodes_in_parts:
            return rule_in_parts(n_nodes, self.q, width, own.most_nodes)
        return product_rule(n_nodes, self.q)

    @property
    def _telling_rule(self):
        """That shows other modes of a level's effects, of the shape of the first lattice."""
        from skhier.kernels.rows.rules import rule_in_parts

        width, _, tells = self._of_lattice
        return rule_in_parts(tells, self.q, width, tells, lattice=True)

    @property
    def is_exact(self) -> bool:
        """Without effects there is nothing to integrate."""
        return not self.q

    @property
    def search(self) -> SearchBudget:
        """Of many levels theta is nearly normal: starts are judged where they are."""
        own = self.budget.quadrature
        if self.n_levels < own.many_levels:
            return super().search
        return replace(self.budget.search, climbs=0, near_mode=own.near_mode_of_many)

    @property
    def by_values(self) -> int:
        """Few: a program of values compiles for long."""
        return self.budget.quadrature.few_entries_of_theta

    @property
    def seen(self) -> tuple:
        """Rows, rule and search, for gradients and values near enough to be subtracted."""
        from skhier.kernels.rows.modes import CLOSE, ModeSearch
        from skhier.kernels.rows.rules import product_rule

        rule = product_rule(self.n_nodes, self.q, self.lattice)
        return self.rows, rule, ModeSearch(self.normals, CLOSE)

    def _seen_at(self, points, closely):
        """The same of a batch of points, each with a start of its own for the modes."""
        from skhier.kernels.rows.modes import CLOSE, NEVER, ROUGH, ModeSearch

        starts = np.broadcast_to(self.normals, (len(points), *self.normals.shape))
        if self.along is not None:
            z = (points - self.normal.mean) @ self.coordinates.T
            farthest = self.budget.quadrature.followed
            moved = np.clip(z, -farthest, farthest) @ self.along.reshape(self.size, -1)
            starts = starts + moved.reshape(starts.shape)
        rough = NEVER if self.foretells else ROUGH
        return self.rows, self.rule, ModeSearch(starts, CLOSE if closely else rough)

    def _evaluated(self, points, closely, n_learnt):
        """Log densities, and LevelMoments at the first ``n_learnt`` points; None if that is 0."""
        from skhier.kernels.rows.quadrature import unpacked

        seen_at = partial(self._seen_at, closely=closely)
        values, numbers = self.evaluated(points, seen_at, n_learnt)
        return values, unpacked(numbers, self.q, self.spec.response.link) if n_learnt else None

    def follow(self, normal: Laplace) -> None:
        """Learn how what rows say of the effects changes with theta around a mode of its own.

        A linear function of theta is where searches begin from then on, and where nodes lie as
        long as that is exact enough: :meth:`improve`.
        """
        if not self.q:
            return
        one = np.eye(self.size)
        z = np.concatenate([np.zeros((1, self.size)), one, -one])
        points = normal.mean + z @ normal.root.T
        normals = self._evaluated(points, True, len(z))[1].normals
        up, down = np.split(normals[1:], 2)
        self.normals, self.along = _finite(normals[0]), _finite((up - down) / 2)
        self.normal, self.coordinates = normal, np.linalg.inv(normal.root)
        self.foretells = True

    def improve(self, most: int) -> bool:
        """Look at the rows before nodes are laid, or take more nodes and look no more."""
        if self.foretells:
            self.foretells = False
            return True
        if self.n_nodes < self._most(most):
            self.use(self._finer(self.n_nodes))
            # nodes that reach far are for levels of which no normal foretells where they are
            self.foretells = self.along is not None and not self.lattice
            return True
        if self._reaches_all:
            return False
        self.reach_far()
        return True

    def reach_far(self) -> None:
        """Take a lattice, whose nodes reach other modes of a level's effects."""
        self.lattice, self.foretells, self.kept = True, False, None
        self.use(self._of_lattice[0])

    def _most(self, most):
        """Nodes of the finest rule of its kind; of one that may miss modes few, and then others."""
        if self.lattice:
            return self._of_lattice[1]
        return most if self._reaches_all else self.budget.quadrature.nodes_in_parts

    @contextmanager
    def by_rule(self, rule: Any) -> Iterator[None]:
        """Another rule meanwhile, whose nodes lie where a look says."""
        before, self.foretells = self.foretells, False
        try:
            with super().by_rule(rule):
                yield
        finally:
            self.foretells = before

    def far_log_densities(self, points: np.ndarray) -> np.ndarray | None:
        """By a rule that shows other modes of a level's effects; None where these have none."""
        if self._reaches_all:
            return None
        with self.by_rule(self._telling_rule):
            values, moments = self._evaluated(points, False, len(points))
        self.told = points, moments
        return values

    def starts(self) -> np.ndarray:
        """Where modes may be, (n_starts, d): a fit without groups, and scales of two sizes."""
        own = self.populations(np.zeros((1, self.size))).take(0).own
        x = np.asarray(self.rows.x).reshape(len(self.rows.x), -1)
        y, weight, offset = (
            np.asarray(a).ravel() for a in (self.rows.y, self.rows.weight, self.rows.offset)
        )
        start = self.start_at(fit_without_groups(self.spec.response, x, y, weight, offset, own))
        start[self.scales] = -0.7
        without = start.copy()
        without[self.scales] = -4.0
        return np.unique([start, without, np.zeros(self.size)], axis=0)

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """(n, d) points to (n,) log densities, exact enough to be subtracted."""
        searches = self.along is None
        values, moments = self._evaluated(points, True, len(points) if searches else 0)
        best = int(np.where(np.isfinite(values), values, -np.inf).argmax())
        if searches and values[best] > self.highest:
            self.highest = values[best]
            self.normals = moments.normals[best].copy()  # where the next search begins
        return values

    def rough_log_densities(self, points: np.ndarray, n_kept: int = 0) -> np.ndarray:
        """The same to a hundredth of a nat; keeps the moments at the first points, if so asked."""
        values, moments = self._evaluated(points, False, n_kept)
        if n_kept:
            self.kept = points[:n_kept], moments
        return values

    def n_kept(self, n_points: int) -> int:
        """As many as moments of each level's effects allow."""
        size = max(self.n_levels * (2 * self.q + self.q**2), 1)
        return int(np.clip(self.budget.memory.effect_entries // size, 64, n_points))

    def of_levels(self, points, which, population, place) -> EffectMoments:
        """Moments of each level's effects, and density of its rows."""
        moments, n_nodes = self._settled(points, which[place.ravel()])
        if len(which) < len(points):
            moments = _at(moments, which)
        moments = _at(moments, _with_numbers(moments, place.ravel()))
        known = slice(0, self.n_levels)
        density = moments.log_density[:, known]
        if not self.q:
            return EffectMoments((), (), density, place, n_nodes)
        mean, root, skew = ((a[..., known],) for a in (moments.mean, moments.root, moments.skew))
        of_log = None
        if self.spec.response.link == "log":
            of_log = (_stretch(moments)[..., known],)
        return EffectMoments(mean, root, density, place, n_nodes, skew, of_log)

    def _settled(self, points, drawn):
        """LevelMoments at points (n, d), as exact as many nodes make them, and how many these are.

        Weights may want fewer: levels' errors add up to little, or to what all theta have. A finer
        rule is asked at a few of the places ``drawn`` of draws. Where theta hardly moves what it
        changes there it is changed everywhere, else the finer rule is asked at all points. Nodes
        that reach farther are taken if these say other than what was told by them.
        """
        moments, n_nodes, own = self.moments(points), self.n_nodes, self.budget.quadrature
        if not self.q:
            return moments, n_nodes
        some = drawn[:: max(len(drawn) // own.moment_points, 1)][: own.moment_points]
        best = coarse = _at(moments, some)
        while n_nodes < self._most(own.most_nodes):
            finer = self._moments_by(self._finer_of(n_nodes), points[some])
            if self._agree(best, finer):
                break
            best, n_nodes = finer, self._finer(n_nodes)
        if self.told is not None and not self.lattice:
            at, far = self.told
            if not self._agree(self._moments_by(self._rule(n_nodes, n_nodes), at), far):
                self.reach_far()
                return self._settled(points, drawn)
        if best is coarse:
            return moments, n_nodes
        if self._agree(corrected(coarse, coarse, best), best):
            return corrected(moments, coarse, best), self.n_nodes
        return self._moments_by(self._rule(n_nodes, self._width(self.n_nodes)), points), n_nodes

    def _agree(self, coarse, finer) -> bool:
        shift = shift_of(coarse, finer)[..., : self.n_levels]
        return bool(shift.max() <= self.budget.quadrature.moment_shift)

    def _finer_of(self, n_nodes):
        return self._rule(self._finer(n_nodes), self._width(self.n_nodes))

    def _moments_by(self, rule, points):
        """LevelMoments of another rule."""
        with self.by_rule(rule):
            return self._evaluated(points, False, len(points))[1]

    def moments(self, points: np.ndarray) -> Any:
        """LevelMoments at points (n, d)."""
        if self.kept is None or not np.array_equal(self.kept[0], points):
            self.rough_log_densities(points, len(points))
        assert self.kept is not None
        return self.kept[1]


def _at(moments, places):
    return type(moments)(*(a[places] for a in moments))


def _with_numbers(moments, drawn):
    """Places (n,) of points, another's in place of those without moments that no draw is of.

    Far out, where there is next to no weight, rounding may leave a covariance no root.
    """
    finite = np.all([np.isfinite(a).all(tuple(range(1, a.ndim))) for a in moments[:4]], axis=0)
    finite[drawn] = True
    return np.where(finite, np.arange(len(finite)), drawn[0])


def _finite(starts):
    """0 where the density was not finite."""
    return np.where(np.isfinite(starts), starts, 0.0)


def _stretch(moments):
    """What a normal line's variance is multiplied by to have the mean of ``e^(z'b)``, (n, D, G)."""
    z = directions(moments.mean.shape[1])
    spread = np.einsum("da,nabg->ndbg", z, moments.root)
    variance = (spread**2).sum(2)
    mean = np.einsum("da,nag->ndg", z, moments.mean)
    wanted = np.maximum(2 * (moments.log_exp - mean), 0.0)  # at least 0 by Jensen's inequality
    # of an effect that hardly varies the quotient is rounding, and the mean is what it is
    return np.divide(wanted, variance, out=np.ones_like(variance), where=variance > 1e-6)


def fit_without_groups(response: Response, x, y, weight, offset, own: Own) -> np.ndarray:
    """Coefficients (p,) of a fit that ignores groups, drawn a little to 0.

    Parameters
    ----------
    response : Response
    x : array of shape (p, n_rows)
        The constant last.
    y, weight, offset : array of shape (n_rows,)
    own : dict of str to scalar
    """
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
