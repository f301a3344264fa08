"""One compiled program for all numbers of effects of a size class.

A problem becomes one of as many effects and coefficients as the largest of its class. The spare
ones have columns of zeros, so that rows say nothing of them, and are held in place, uncorrelated.
Nothing that is asked of the others depends on them: what they add to the log
density is a number, which is taken off. Only programs see them: samplers, the search for modes and
all else in NumPy have theta as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.bartlett import places_taken
from skhier.inference.signs import Signs, places_of_factor
from skhier.kernels.records import (
    CoefPrior,
    FactorSpec,
    ModelSpec,
    PopulationGivenTheta,
    PriorDists,
)
from skhier.statistics.padding import pad_columns, padded_size
from skhier.statistics.records import GroupStats, Units

__all__ = ["Itself", "Padding", "Placement", "in_class"]

OTHER_BITS = 2  # of the number of features without a varying slope
IMPROBABLE = 100.0  # nats below the top of a prior: log densities of that size would lose digits


class Padding(NamedTuple):
    """A problem among the effects and coefficients of its class.

    Attributes
    ----------
    spec : ModelSpec
        Of the class.
    columns : int array of shape (p,)
        Place of each coefficient, the intercept last in both.
    spare : tuple of int
        Per factor, effects in front of its own.
    blocks : tuple of tuple of bool array
        Per factor, whether the entries of each block of scales are its own.
    log_constant : float
        What the density of correlations has more, the spare ones 0.
    """

    spec: ModelSpec
    columns: np.ndarray
    spare: tuple[int, ...]
    blocks: tuple[tuple[np.ndarray, ...], ...]
    log_constant: float

    def own_entries(self, name: str, width: int) -> np.ndarray:
        """Those of so many unconstrained parameters of a site that are the problem's own."""
        of_scales = re.fullmatch(r"group_scale_(\d+)_(\d+)", name)
        of_corr = re.fullmatch(r"group_corr_chol_(\d+)", name)
        if of_scales:
            return np.flatnonzero(self.blocks[int(of_scales[1])][int(of_scales[2])])
        if of_corr:
            k = int(of_corr[1])
            _, column = np.tril_indices(self.spec.factors[k].n_effects, -1)
            return np.flatnonzero(column >= self.spare[k])
        return self.columns[:-1] if name == "coef_0" else np.arange(width)

    def own_coefs(self, k: int) -> np.ndarray:
        """Those of k coefficients that are integrated out, with or without the intercept."""
        if k < len(self.spec.coef_blocks[0]):
            return np.arange(k)  # of the features none is
        return self.columns[self.columns < k]


def in_class(
    spec: ModelSpec, stats: GroupStats, units: Units, prior: PriorDists
) -> tuple[tuple[GroupStats, Units, PriorDists], Padding | None]:
    """Statistics, units and priors with spare effects, and where the problem is among them.

    As they are, and None: of few effects, whose programs are short; of crossed factors, where they
    would be much work; where factors have different slopes; of priors that spare effects or
    coefficients would change or that differ in kind between coefficients.
    """
    from skhier.kernels.distributions import with_entries

    as_it_is = (stats, units, prior), None
    slopes, n = _common_slopes(spec, prior)
    if not slopes:
        return as_it_is
    n_others = padded_size(spec.n_features - len(slopes), OTHER_BITS)
    source, is_own = _features(slopes, spec.n_features, n, n_others)
    if is_own.all():
        return as_it_is
    spare = tuple(n if factor.slopes else 0 for factor in spec.factors)
    coef = with_entries(prior.coef[0], source)
    parts = [
        factor.covariance.with_spare(numbers, more)
        for factor, numbers, more in zip(spec.factors, prior.covariances, spare, strict=True)
    ]
    if coef is None or any(part is None for part in parts):
        return as_it_is
    columns = np.empty(spec.n_features + 1, int)
    columns[source[is_own]], columns[-1] = np.flatnonzero(is_own), len(source)
    blocks, constants = tuple(part.blocks for part in parts), [part.log_constant for part in parts]
    of_class = _spec(spec, n_others, len(source), parts)
    prior = prior._replace(coef=(coef,), covariances=tuple(part.prior for part in parts))
    numbers = pad_columns(stats, columns, spare), _units(units, source, is_own, spare), prior
    return numbers, Padding(of_class, columns, spare, blocks, sum(constants))


def _common_slopes(spec, prior) -> tuple[tuple[int, ...], int]:
    """The slopes of all factors that have any, and how many more their class has; or none."""
    from skhier.kernels.distributions import is_flat

    budget, varying = spec.budget, {factor.slopes for factor in spec.factors if factor.slopes}
    if len(varying) != 1 or spec.plan.dense or len(spec.coef_blocks) != 1 or is_flat(prior.coef[0]):
        return (), 0
    (slopes,) = varying
    q = len(slopes) + 1
    sizes = [size for size in budget.effect_classes if size >= q]
    if q <= budget.unrolled_effects or not sizes:
        return (), 0
    return slopes, min(sizes) - q


def _spec(spec, n_others, n_features, parts) -> ModelSpec:
    """Of the class; the features with a varying slope come last."""
    slopes = tuple(range(n_others, n_features))
    factors = tuple(
        FactorSpec(slopes if factor.slopes else (), part.covariance, factor.at_mean)
        for factor, part in zip(spec.factors, parts, strict=True)
    )
    blocks = (tuple(range(n_features)),)
    return spec._replace(n_features=n_features, factors=factors, coef_blocks=blocks)


def _features(slopes, n_features, n_spare, n_others):
    """The feature that each of the class is, or is like; which are features of their own.

    Those with a varying slope come last, so that their places are the same in a class.
    """
    others = [j for j in range(n_features) if j not in slopes]
    parts = [slopes[:1] * (n_others - len(others)), others, slopes[:1] * n_spare, slopes]
    is_own = np.repeat([False, True, False, True], [len(part) for part in parts])
    return np.concatenate([np.asarray(part, int) for part in parts]), is_own


def _units(units, source, is_own, spare) -> Units:
    at_mean = []
    for matrix, n in zip(units.effects_at_mean, spare, strict=True):
        padded = np.eye(len(matrix) + n)
        padded[n:, n:] = matrix
        at_mean.append(padded)
    return units._replace(
        x_mean=np.where(is_own, units.x_mean[source], 0.0),
        x_scale=units.x_scale[source],
        effects_at_mean=tuple(at_mean),
    )


class Itself:
    """Theta of programs of its own, which have all as it is."""

    log_spare = 0.0
    entries: Any = slice(None)

    def __init__(self, size: int):
        self.size = self.program_size = size

    def as_it_is(self, value: Any) -> Any:
        """Unchanged."""
        return value

    points = own_of_sites = total = units = conditional = coef_prior = frame = draws = as_it_is


class Placement:
    """Theta among the parameters of its class, of which the spare ones are held: at 0, or where
    their prior is highest if it is next to nothing there.

    Attributes
    ----------
    size, program_size : int
        Of theta, and with spare parameters.
    entries : int array of shape (size,)
        Where theta's are.
    held : array of shape (program_size,)
        The spare ones' values.
    log_spare : float
        What the log density of the class has more.

    Parameters
    ----------
    padding : Padding
    grid : array of shape (n_grid,)
        0 among it.
    profiles : mapping of str to array of shape (n_grid, width)
        Log prior densities of the class's unconstrained parameters, each alone, per site.
    """

    def __init__(self, padding: Padding, grid: np.ndarray, profiles: Mapping[str, np.ndarray]):
        heights = np.concatenate([np.asarray(values) for values in profiles.values()], axis=1)
        heights = np.where(np.isfinite(heights), heights, -np.inf)
        self.padding, self.sites, parts, begin = padding, {}, [], 0
        for name, of_site in profiles.items():
            end = begin + of_site.shape[1]
            self.sites[name] = range(begin, end)
            parts.append(begin + padding.own_entries(name, end - begin))
            begin = end
        self.entries, self.program_size = np.concatenate(parts), begin
        self.size = len(self.entries)
        zero = np.flatnonzero(grid == 0)[0]
        far = heights.max(0) - heights[zero] > IMPROBABLE
        at = np.where(far, heights.argmax(0), zero)
        self.held = grid[at]
        of_held = heights[at, np.arange(begin)]
        self.log_spare = padding.log_constant + float(np.delete(of_held, self.entries).sum())

    def points(self, points: np.ndarray) -> np.ndarray:
        """(..., d) to those of the class."""
        padded = np.empty((*points.shape[:-1], self.program_size))
        padded[:], padded[..., self.entries] = self.held, points
        return padded

    def own_of_sites(self, of_sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The problem's own columns of arrays (n, width)."""
        own = self.padding.own_entries
        return {
            name: np.asarray(values)[:, own(name, values.shape[1])]
            for name, values in of_sites.items()
        }

    def total(self, total: np.ndarray) -> np.ndarray:
        """The problem's own cross-products (p + 1, p + 1) of x and y."""
        own = np.append(self.padding.columns, -1)
        return total[np.ix_(own, own)]

    def units(self, units: Units) -> Units:
        """The problem's own."""
        features = self.padding.columns[:-1]
        at_mean = zip(units.effects_at_mean, self.padding.spare, strict=True)
        return units._replace(
            x_mean=units.x_mean[features],
            x_scale=units.x_scale[features],
            effects_at_mean=tuple(matrix[n:, n:] for matrix, n in at_mean),
        )

    def conditional(self, of_points: PopulationGivenTheta) -> PopulationGivenTheta:
        """The problem's own parameters."""
        columns, population = self.padding.columns, of_points.population
        own = self.padding.own_coefs(of_points.coef_root.shape[-1])
        roots = zip(population.group_root, self.padding.spare, strict=True)
        return PopulationGivenTheta(
            population._replace(
                coef=population.coef[..., columns],
                group_root=tuple(root[..., n:, n:] for root, n in roots),
            ),
            of_points.coef_root[..., columns, :][..., own],
            of_points.coef_offset[..., columns],
            of_points.coef_target[..., own],
        )

    def coef_prior(self, prior: CoefPrior) -> CoefPrior:
        """The problem's own."""
        columns, own = self.padding.columns, self.padding.own_coefs(prior.basis.shape[1])
        prior = CoefPrior(*map(np.asarray, prior))
        return prior._replace(
            basis=prior.basis[np.ix_(columns, own)],
            offset=prior.offset[columns],
            rows=prior.rows[np.ix_(own, np.append(own, -1))],
        )

    def frame(self, data: tuple) -> tuple:
        """Data of :class:`~skhier.inference.target.Marginal` whose coordinates are the problem's:
        the class's. Spare ones move nothing.
        """
        *model, mean, root = data[:5]
        wide = np.zeros((self.program_size, self.program_size))
        wide[np.ix_(self.entries, self.entries)] = root
        others = [self._coordinates(one) for one in data[5:]]
        mean = self.points(mean)
        for factor in (factor for one in others for factor in getattr(one, "factors", ())):
            spare = factor.counts == 0
            mean[np.diagonal(factor.places)[spare]] = 0.0  # B is the identity
        return (*model, mean, wide, *others)

    def _coordinates(self, coordinates):
        if isinstance(coordinates, Signs):
            flips = np.zeros((self.program_size, self.program_size))
            flips[np.ix_(self.entries, self.entries)] = coordinates.flips
            signed = np.zeros(self.program_size, bool)
            signed[self.entries] = coordinates.signed
            return Signs(signed, flips)
        own = [self._factor(factor) for factor in coordinates.factors]
        signs = coordinates.signs and self._coordinates(coordinates.signs)
        take = places_taken(self.program_size, [factor.places for factor in own])
        return coordinates._replace(factors=tuple(own), take=take, signs=signs)

    def _factor(self, factor):
        """The same with spare effects, of which the root is diagonal."""
        for k, n in enumerate(self.padding.spare):
            places = places_of_factor(self.padding.spec, self.sites, k)
            if places is not None and places[n, n] == self.entries[factor.places[0, 0]]:
                root = np.diag(np.exp(self.held[np.diagonal(places)]))
                root[n:, n:] = factor.root
                counts = np.append(np.zeros(n), factor.counts)
                return factor._replace(places=places, root=root, counts=counts)
        raise ValueError(f"no factor has its first scale at entry {factor.places[0, 0]} of theta.")

    def draws(self, draws: Any) -> Any:
        """Of the class's theta: the problem's own."""
        return draws._replace(values=draws.values[..., self.entries], lp=draws.lp - self.log_spare)
