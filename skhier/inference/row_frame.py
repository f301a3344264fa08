"""The frame in which every parameter of a model of rows is nearly a standard normal.

A mode is sought in the coordinates of :mod:`skhier.kernels.rows.partly_centered`, in which it is
near that of the population with the effects integrated out. There the curvature given the
population is that of each level alone, the identity; the rest of it are differences of gradients.
Of P the dense entries' precision, B what couples the others to them and I the others' own,

    [P B'; B I] = M'M,   M = [T^-1 0; B I],   T T' = (P - B'B)^-1

and x = M^-1 of a standard normal. Levels of further large factors are taken for independent of each
other: that, and a mode that is not quite one, only make chains take more steps.

Effects of factors of few levels move with the coefficients, in the coordinates of
:mod:`skhier.kernels.rows.jointly_centered`: given the population without coefficients these are
near a standard normal too.

A level's effects are those of a root of their covariance that is triangular in the order of what
rows say of them. A correlation then moves only the effect that rows say less of; else it would turn
what they say of the other, and chains would have to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.joint_information import (
    LocalCoef,
    joint_information,
    joint_zeta_of,
    no_information,
)
from skhier.inference.mode import STEP, lowest
from skhier.inference.row_information import (
    information_of_rows,
    slopes_of_rows,
    start_of_rows,
    zeta_of,
)
from skhier.inference.starts import LARGE_SCALE
from skhier.kernels.records import LevelInformation, ModelSpec
from skhier.responses.numerics import TINY
from skhier.utils.budget import Budget

__all__ = ["Framing", "find_frame"]

NARROW = 0.03  # sds, a step of differences of an entry that is known better by far than to STEP
LEAST_PRECISION = 1e-10  # less is none: what many rows leave open is wide in units of levels
SCALES = "group_scale_", "decov_size_"
COEFS = "coef_", "intercept"


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
    places = _places(sites)
    coefs = [at for name, at in places.items() if name.startswith(COEFS)]
    coef_places = np.concatenate([np.arange(n_theta)[at] for at in coefs])
    target = Framed(spec, *_kinds(shapes, len(spec.factors), n_theta, len(coef_places), budget))
    search = _Search(target, rows, model, shapes, coef_places, n_theta, budget, check)
    try:
        frame = search.settle(search.start(places))
    except FloatingPointError:
        return None
    point = search.in_order(frame)
    if point is not None:
        with suppress(FloatingPointError):
            frame = search.settle(point)
    return Framing(target, (search.rows, search.model, frame), search.n_evaluations)


def _places(sites) -> dict[str, slice]:
    """Of each site in theta."""
    ends = np.cumsum([0, *sites.values()])
    return dict(zip(sites, map(slice, ends[:-1], ends[1:]), strict=True))


def _kinds(shapes: Sequence[tuple[int, int]], n_factors, n_theta, n_coef, budget: Budget):
    """Which of the levels are dense, and which are few; those of noises are not."""
    most_coupled = budget.chains.most_coupled // max(sum(q * n for q, n in shapes), 1)
    most = min(budget.chains.most_dense, most_coupled)  # entries that are worth their cost
    is_few = _few(shapes[:n_factors], n_coef, min(most, budget.chains.most_together))
    is_few += [False] * (len(shapes) - n_factors)
    is_dense = map(max, is_few, _dense(shapes, n_theta, most))
    return tuple(is_dense), tuple(is_few)


def _dense(shapes: Sequence[tuple[int, int]], n_theta: int, most: int) -> list[bool]:
    """All levels but the largest factor's, the smallest first, up to so many with theta."""
    sizes = [q * n for q, n in shapes]
    is_dense, total = [False] * len(sizes), n_theta
    for k in sorted(range(len(sizes)), key=sizes.__getitem__)[:-1]:
        total += sizes[k]
        is_dense[k] = total <= most
    return is_dense


def _few(shapes: Sequence[tuple[int, int]], n_coef: int, most: int) -> list[bool]:
    """Factors of few levels, that move with the coefficients: the smallest first, up to so many."""
    sizes = [q * n for q, n in shapes]
    is_few, total = [False] * len(sizes), n_coef
    for k in sorted(range(len(sizes)), key=sizes.__getitem__):
        total += sizes[k]
        is_few[k] = total <= most
    return is_few


def _permutation(order) -> np.ndarray:
    """The matrix (q, q) that puts q rows in an order."""
    return np.eye(len(order))[order]


class _Point(NamedTuple):
    """``theta`` (n,) and of each of the frame's levels ``z`` (q, n_levels) by its root."""

    theta: np.ndarray
    standard: list[np.ndarray]


class _Search:
    """The mode, by gradients in frames that follow it."""

    def __init__(self, target, rows, model, shapes, coef_places, n_theta, budget: Budget, check):
        import jax

        self.target, self.shapes, self.n_theta = target, shapes, n_theta
        self.coef_places = coef_places
        self.on_host = rows
        self.rows, self.model = jax.device_put((rows, model))
        self.budget, self.check, self.n_evaluations = budget, check, 0
        self.orders = tuple(_permutation([q - 1, *range(q - 1)]) for q, _ in shapes)

    def start(self, places) -> _Point:
        """Large scales, and the coefficients' and effects' mode given these."""
        point = _Point(np.zeros(self.n_theta), [np.zeros(shape) for shape in self.shapes])
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

    def at(self, frame, position, rows=None):
        """Log density, gradient, and what is natural there; of these rows, or of all."""
        import jax

        from skhier.inference.row_frame_target import value_and_slope

        self.check()
        self.n_evaluations += 1
        data = self.rows if rows is None else rows, self.model, frame
        return jax.device_get(value_and_slope(position, data, self.target))

    def plain(self, point: _Point):
        """The frame whose origin is a point, in coordinates in which no row says anything."""
        levels = tuple(
            LevelInformation(np.zeros((q, q, n)), np.zeros((q, n))) for q, n in self.shapes
        )
        joint = no_information(self.shapes, self.target.is_few, len(self.coef_places))
        return self.unscaled(point.theta, levels, point.standard, joint)

    def unscaled(self, theta, levels, zetas, joint):
        """The frame whose origin is theta and zeta of the levels, and whose unit is theirs."""
        from skhier.inference.row_frame_target import RowFrame

        parts = [(theta, True), *zip(zetas, self.target.is_dense, strict=True)]
        centre, rest = (
            np.concatenate([np.zeros(0), *(part.ravel() for part, here in parts if here == kind)])
            for kind in (True, False)
        )
        coupling = np.zeros((len(rest), len(centre)))
        root = np.eye(len(centre))
        joint = joint if any(self.target.is_few) else None
        return RowFrame(levels, centre, root, rest, coupling, self.orders, joint, self.coef_places)

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
        frame = self.scaled(point)
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

    def scaled(self, point: _Point):
        """The frame whose origin is a point, in the coordinates of what its rows say there."""
        _, _, (_, everyone, standard) = self.at(self.plain(point), self.nowhere)
        spec, rows, is_few = self.target.spec, self.on_host, self.target.is_few
        roots = self.roots(everyone)
        effects = [root @ z for root, z in zip(roots, standard, strict=True)]
        slopes = slopes_of_rows(spec, rows, everyone, effects)
        levels = information_of_rows(spec, rows, slopes, effects)
        zetas = [zeta_of(*each) for each in zip(roots, levels, standard, strict=True)]
        if not any(is_few):
            return self.unscaled(point.theta, levels, zetas, None)
        if not np.isfinite(slopes.score + slopes.curvature).all():
            raise FloatingPointError
        of_levels = list(zip(roots, levels, effects, strict=True))
        coef = self.coef(point)
        joint = joint_information(spec, rows, slopes, coef, of_levels, is_few)
        few = [k for k, here in enumerate(is_few) if here]
        zeta = joint_zeta_of(joint, [(roots[k], standard[k]) for k in few], coef.values)
        *parts, of_coef = np.split(zeta, np.cumsum([standard[k].size for k in few]))
        for k, part in zip(few, parts, strict=True):
            zetas[k] = part.reshape(standard[k].shape)
        theta = point.theta.copy()
        theta[self.coef_places] = of_coef
        return self.unscaled(theta, levels, zetas, joint)

    def coef(self, point: _Point) -> LocalCoef:
        """The coefficients near a point, by differences where no row has a weight."""
        frame = self.plain(point)
        rows = self.rows._replace(weight=np.zeros_like(self.on_host.weight))
        jacobian, precision, slope = [], [], np.zeros(len(self.coef_places))
        for place in self.coef_places:
            ahead = self.nowhere
            ahead[place] = STEP
            (_, before, below), (_, after, above) = (
                self.at(frame, move, rows) for move in (-ahead, ahead)
            )
            jacobian.append((above[1].coef - below[1].coef) / (2 * STEP))
            precision.append((before - after)[self.coef_places] / (2 * STEP))
            slope += (before + after)[self.coef_places] / (2 * len(self.coef_places))
        values = point.theta[self.coef_places]
        return LocalCoef(values, np.array(jacobian).T, slope, np.array(precision))

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
