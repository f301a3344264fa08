"""The frame in which every parameter of a model of rows is nearly a standard normal.

A mode is sought in the coordinates of :mod:`skhier.kernels.rows.partly_centered`, in which it is
near that of the population with the effects integrated out. There the curvature given the
population is that of each level alone, the identity; the rest of it are differences of gradients.
Of P the dense entries' precision, B what couples the others to them and I the others' own,

    [P B'; B I] = M'M,   M = [T^-1 0; B I],   T T' = (P - B'B)^-1

and x = M^-1 of a standard normal. Levels of further large factors are taken for independent of each
other: that, and a mode that is not quite one, only make chains take more steps.

A level's effects are those of a root of their covariance that is triangular in the order of what
rows say of them. A correlation then moves only the effect that rows say less of; else it would turn
what they say of the other, and chains would have to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.mode import STEP, lowest
from skhier.inference.row_information import information_of_rows, start_of_rows, zeta_of
from skhier.inference.starts import LARGE_SCALE
from skhier.kernels.records import LevelInformation, ModelSpec
from skhier.responses.numerics import TINY
from skhier.utils.budget import Budget

__all__ = ["Framing", "find_frame"]

NARROW = 0.03  # sds, a step of differences of an entry that is known better by far than to STEP
LEAST_PRECISION = 1e-10  # less is none: what many rows leave open is wide in units of levels
SCALES = "group_scale_", "decov_size_"


class Framing(NamedTuple):
    """A target, its data, and the number of gradients that were asked for."""

    target: Any
    data: tuple
    n_evaluations: int

    @property
    def size(self) -> int:
        """Number of unconstrained parameters."""
        return self.target.size(self.data)


def find_frame(
    spec: ModelSpec,
    rows: Any,
    model: tuple,
    budget: Budget,
    check: Callable[[], None] = lambda: None,
) -> Framing | None:
    """The frame at the mode; None where no density there is finite.

    Parameters
    ----------
    spec : ModelSpec
    rows : JointRows
    model : tuple
        Units, priors and known parameters.
    budget : Budget
    check : callable
        Called between gradients; may raise to stop.
    """
    from skhier.inference import quadrature_target
    from skhier.inference.row_frame_target import Framed
    from skhier.inference.row_target import ROWS

    sites = quadrature_target.sites(model, ROWS, spec)
    n_theta = sum(sites.values())
    pairs = zip(spec.factors, rows.present, strict=True)
    shapes = [(factor.n_effects, len(here)) for factor, here in pairs]
    if spec.noise_by is not None:
        shapes.append((1, len(rows.present[spec.noise_by])))
    target = Framed(spec, _dense(shapes, n_theta, budget))
    search = _Search(target, rows, model, shapes, n_theta, budget, check)
    try:
        frame = search.settle(search.start(sites))
    except FloatingPointError:
        return None
    point = search.in_order(frame)
    if point is not None:
        with suppress(FloatingPointError):
            frame = search.settle(point)
    return Framing(target, (search.rows, search.model, frame), search.n_evaluations)


def _dense(shapes: Sequence[tuple[int, int]], n_theta: int, budget: Budget) -> tuple[bool, ...]:
    """All levels but the largest factor's, the smallest first, as many as are dense at a cost."""
    sizes = [q * n for q, n in shapes]
    most = min(budget.chains.most_dense, budget.chains.most_coupled // max(sum(sizes), 1))
    is_dense, total = [False] * len(sizes), n_theta
    for k in sorted(range(len(sizes)), key=sizes.__getitem__)[:-1]:
        total += sizes[k]
        is_dense[k] = total <= most
    return tuple(is_dense)


def _permutation(order) -> np.ndarray:
    """The matrix (q, q) that puts q rows in an order."""
    return np.eye(len(order))[order]


class _Point(NamedTuple):
    """``theta`` (n,) and of each of the frame's levels ``z`` (q, n_levels) by its root."""

    theta: np.ndarray
    standard: list[np.ndarray]


class _Search:
    """The mode, by gradients in frames that follow it."""

    def __init__(self, target, rows, model, shapes, n_theta, budget: Budget, check):
        import jax

        self.target, self.shapes, self.n_theta = target, shapes, n_theta
        self.on_host = rows
        self.rows, self.model = jax.device_put((rows, model))
        self.budget, self.check, self.n_evaluations = budget, check, 0
        self.orders = tuple(_permutation([q - 1, *range(q - 1)]) for q, _ in shapes)

    def start(self, sites) -> _Point:
        """Large scales, and the coefficients' and effects' mode given these."""
        places, first = {}, 0
        for name, size in sites.items():
            places[name], first = slice(first, first + size), first + size
        point = _Point(np.zeros(first), [np.zeros(shape) for shape in self.shapes])
        for name, place in places.items():
            if name.startswith(SCALES):
                point.theta[place] = LARGE_SCALE
        *_, (_, everyone, _) = self.at(self.plain(point), self.nowhere)
        spec = self.target.spec
        coef, effects = start_of_rows(spec, self.on_host, everyone)
        point.standard[: len(effects)] = self.standard(everyone, effects)
        for i, block in enumerate(spec.coef_blocks):
            point.theta[places[f"coef_{i}"]] = coef[list(block)]
        point.theta[places["intercept"]] = coef[-1]
        return point

    @property
    def nowhere(self) -> np.ndarray:
        """The origin of a frame."""
        return np.zeros(self.n_theta + sum(q * n for q, n in self.shapes))

    def at(self, frame, position):
        """Log density, gradient, and what is natural there."""
        import jax

        from skhier.inference.row_frame_target import value_and_slope

        self.check()
        self.n_evaluations += 1
        data = self.rows, self.model, frame
        return jax.device_get(value_and_slope(position, data, self.target))

    def plain(self, point: _Point):
        """The frame whose origin is a point, in coordinates in which no row says anything."""
        levels = tuple(
            LevelInformation(np.zeros((q, q, n)), np.zeros((q, n))) for q, n in self.shapes
        )
        return self.unscaled(point.theta, levels, point.standard)

    def unscaled(self, theta, levels, zetas):
        """The frame whose origin is theta and zeta of the levels, and whose unit is theirs."""
        from skhier.inference.row_frame_target import RowFrame

        parts = [(theta, True), *zip(zetas, self.target.is_dense, strict=True)]
        centre, rest = (
            np.concatenate([np.zeros(0), *(part.ravel() for part, here in parts if here == kind)])
            for kind in (True, False)
        )
        coupling = np.zeros((len(rest), len(centre)))
        root = np.eye(len(centre))
        return RowFrame(levels, centre, root, rest, coupling, self.orders)

    def roots(self, everyone):
        """Of the covariance of what each of the levels vary in."""
        from skhier.inference.row_frame_target import roots_of

        return [np.asarray(root) for root in roots_of(self.target.spec, everyone, self.orders)]

    def standard(self, everyone, effects):
        """``z`` (q, n_levels) of the first levels' effects, by the search's roots."""
        pairs = zip(self.roots(everyone), effects, strict=False)
        return [np.linalg.solve(root, b) for root, b in pairs]

    def settle(self, point: _Point):
        """The frame of a point that is next to the mode."""
        chains = self.budget.chains
        for _ in range(chains.most_frames):
            frame = self.frame_at(point)
            position, point = self.climb(frame)
            if np.abs(position).max() < chains.near_frame:
                break
        return frame

    def in_order(self, frame) -> _Point | None:
        """The origin of a frame, from where on effects are in the order of what rows say of them;
        None if they were.
        """
        theta, everyone, standard = self.at(frame, self.nowhere)[2]
        roots = self.roots(everyone)
        sizes = [
            (root**2).sum(1) * np.einsum("iig->i", level.precision)
            for root, level in zip(roots, frame.levels, strict=True)
        ]
        orders = tuple(_permutation(np.argsort(-size, kind="stable")) for size in sizes)
        if all(map(np.array_equal, orders, self.orders)):
            return None
        self.orders = orders
        effects = [root @ z for root, z in zip(roots, standard, strict=True)]
        return _Point(theta, self.standard(everyone, effects))

    def frame_at(self, point: _Point):
        """The frame of a point: what its rows say of each level, and the curvature there."""
        _, _, (_, everyone, standard) = self.at(self.plain(point), self.nowhere)
        roots, levels = self.roots(everyone), self.information(everyone, standard)
        zetas = [zeta_of(*each) for each in zip(roots, levels, point.standard, strict=True)]
        frame = self.unscaled(point.theta, levels, zetas)
        d = len(frame.centre)
        columns = np.array([self.curved(frame, j, STEP) for j in range(d)])
        narrow = NARROW / np.sqrt(np.maximum(np.diagonal(columns), TINY))
        for j in np.flatnonzero(narrow < 0.1 * STEP):  # what is left of sums of these is small
            columns[j] = self.curved(frame, j, narrow[j])
        if not np.isfinite(columns).all():
            raise FloatingPointError
        coupling = columns[:, d:].T
        precision = (columns[:, :d] + columns[:, :d].T) / 2 - coupling.T @ coupling
        values, vectors = np.linalg.eigh(precision)
        # of saddles, their steepness
        root = vectors / np.sqrt(np.maximum(np.abs(values), LEAST_PRECISION))
        return frame._replace(root=root, coupling=-coupling @ root)

    def curved(self, frame, j, step) -> np.ndarray:
        """Row of minus the Hessian, by the gradient on both sides of the origin."""
        ahead = self.nowhere
        ahead[j] = step
        return (self.at(frame, -ahead)[1] - self.at(frame, ahead)[1]) / (2 * step)

    def information(self, everyone, standard) -> tuple[LevelInformation, ...]:
        """What the rows say of each of the frame's levels."""
        effects = [root @ z for root, z in zip(self.roots(everyone), standard, strict=True)]
        return information_of_rows(self.target.spec, self.on_host, everyone, effects)

    def climb(self, frame) -> tuple[np.ndarray, _Point]:
        """Position of the mode in a frame, and the point there."""
        start = self.nowhere
        height = float(self.at(frame, start)[0])
        if not np.isfinite(height):
            raise FloatingPointError

        def downhill(position):
            value, slope, _ = self.at(frame, position)
            return height - float(value), -slope  # a difference: tolerances are relative

        longest = self.budget.chains.longest_move
        position, _ = lowest(downhill, start, self.budget.search, longest)
        theta, _, standard = self.at(frame, position)[2]
        return position, _Point(theta, standard)
