"""Containers that travel between kernels: arrays and hashable shapes, hardly any behaviour.

Everything here lives in *internal coordinates*, see :mod:`skhier.statistics.records`.
"""

from typing import Any, NamedTuple

import numpy as np

from skhier.responses.base import Response
from skhier.responses.kind import Kind
from skhier.statistics.level_roots import LevelRoots
from skhier.statistics.records import Plan
from skhier.utils.budget import USUAL, KernelBudget

__all__ = [
    "MIN_VARIANCE",
    "CoefPrior",
    "CoefPriors",
    "Components",
    "EffectMoments",
    "FactorSpec",
    "JointInformation",
    "LevelInformation",
    "LevelNoises",
    "ModelSpec",
    "Population",
    "PopulationGivenTheta",
    "PriorDists",
]

# of noise, where y's variance is near 1: smaller ones act like this, for a perfect fit is rounding
MIN_VARIANCE = 1e-12


class PriorDists(NamedTuple):
    """Prior distributions in the user's units; their parameters are traced, their families static.

    Attributes
    ----------
    intercept : numpyro Distribution, scalar
    own : dict of str to numpyro Distribution, scalar
        Of the response's own parameters; a number of a noise scale that is known.
    coef : tuple of numpyro Distribution
        One per block of columns that share a family; ``ModelSpec`` says which columns.
    covariances : tuple of tuple
        Per factor what its :mod:`covariance <skhier.kernels.covariance>` calls ``prior``.
    """

    intercept: Any
    own: dict[str, Any]
    coef: tuple[Any, ...]
    covariances: tuple[tuple[Any, ...], ...]


class Population(NamedTuple):
    """Parameters of the population: all but the group effects; internal coordinates.

    Arrays have the same leading axes: none for one point, (n,) for points or draws,
    (n_chains, n_draws) for those of chains.

    Attributes
    ----------
    coef : array of shape (..., p) or None
        The intercept, at the mean of x, last; None where the coefficients are integrated out.
    group_root : tuple of array of shape (..., q, q)
        Per factor: Cholesky factor of the effects' covariance, the intercept at the mean of x.
    own : dict of str to array of shape (...)
        The response's own parameters.
    """

    coef: Any
    group_root: tuple[Any, ...]
    own: dict[str, Any]

    def take(self, which: Any) -> "Population":
        """Those at an index, or a mask, of the first axes."""
        coef = None if self.coef is None else self.coef[which]
        own = {name: values[which] for name, values in self.own.items()}
        return Population(coef, tuple(root[which] for root in self.group_root), own)

    def flat(self) -> "Population":
        """Two leading axes as one."""

        def joined(a):
            return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])

        own = {name: joined(values) for name, values in self.own.items()}
        return Population(joined(self.coef), tuple(map(joined, self.group_root)), own)


class PopulationGivenTheta(NamedTuple):
    """The population at a point of theta: the coefficients are normal given the rest.

    Attributes
    ----------
    population : Population
        ``coef`` is their mean.
    coef_root : array of shape (p, k)
        Their covariance is ``coef_root coef_root'``.
    coef_offset, coef_target : array of shape (p,), (k,)
        ``offset`` and the last of ``rows`` of :class:`CoefPrior`; the rest of it is the same
        everywhere.
    """

    population: Population
    coef_root: Any
    coef_offset: Any
    coef_target: Any


class CoefPrior(NamedTuple):
    """Prior of the ``k`` coefficients that are integrated out, and the values of the others.

    ``beta = basis u + offset`` with ``rows [u, -1]' ~ Normal(0, I)``, internal coordinates.

    Attributes
    ----------
    basis : array of shape (p, k)
    offset : array of shape (p,)
    rows : array of shape (k, k + 1)
        Prior precision roots and, last, their product with the prior mean; 0 for a flat prior.
    log_scale : scalar
        Log determinant of the prior's scale; a flat one's is ``1 / sqrt(2 pi)`` in user units.
    """

    basis: Any
    offset: Any
    rows: Any
    log_scale: Any


class CoefPriors(NamedTuple):
    """Priors of the k coefficients that are integrated out, at S points, internal coordinates.

    ``beta = basis u + offset`` with ``root u - target ~ N(0, I)``: ``basis`` (p, k), ``root``
    (k, k), rows of 0 where the prior is flat, ``offset`` (S, p), ``target`` (S, k).
    """

    basis: np.ndarray
    root: np.ndarray
    offset: np.ndarray
    target: np.ndarray

    def take(self, which) -> "CoefPriors":
        """Those of some points."""
        return self._replace(offset=self.offset[which], target=self.target[which])


class Components(NamedTuple):
    """The posterior of the population as a mixture: the coefficients are normal given the rest.

    Any first few components stand for the posterior too.

    Attributes
    ----------
    weights : array of shape (S,)
        Sum 1.
    population : Population
        Arrays (S, ...); ``coef`` is the coefficients' mean.
    coef_cov : array of shape (S, p, p) or None
        None if they are draws.
    prior : CoefPriors or None
        What the mean and covariance of the coefficients follow from with the rows; None if they
        are draws.
    """

    weights: np.ndarray
    population: Population
    coef_cov: np.ndarray | None = None
    prior: CoefPriors | None = None

    @property
    def coef(self) -> np.ndarray:
        """Means of the coefficients, (S, p)."""
        return self.population.coef

    @property
    def group_root(self) -> tuple[np.ndarray, ...]:
        """Per factor the Cholesky factor of the effects' covariance, (S, q, q)."""
        return self.population.group_root

    def first(self, n: int) -> "Components":
        """The first n components, weights renormalised."""
        part = self.take(slice(n))
        return part._replace(weights=part.weights / part.weights.sum())

    def take(self, which) -> "Components":
        """Those at an index or a slice, weights as they are."""
        cov = None if self.coef_cov is None else self.coef_cov[which]
        prior = None if self.prior is None else self.prior.take(which)
        return Components(self.weights[which], self.population.take(which), cov, prior)


class EffectMoments(NamedTuple):
    """Group effects given each component, where no statistics say them; internal coordinates.

    Attributes
    ----------
    mean : tuple of array of shape (S, q, n_levels)
        Per factor.
    root : tuple of array of shape (S, q, q, n_levels)
        Roots of the covariances; 0 where the components hold draws of the effects.
    log_density : array of shape (S, n_levels) or None
        Of the rows of each level of the only factor, its effects integrated out.
    place : int array of shape (n_chains, n_draws)
        The component that each draw of the population is.
    n_nodes : int
        Of the quadrature rule, a dimension; 0 where effects were sampled.
    skew : tuple of array of shape (S, q, n_levels) or None
        Per factor: skewness along the columns of ``root``; None where effects are draws.
    stretch : tuple of array of shape (S, D, n_levels) or None
        Of a log link, per factor: what the variance of ``z'b`` is multiplied by so that the mean of
        ``e^(z'b)`` of a normal is that of the skewed one, at D rows z
        (:func:`skhier.kernels.rows.directions.directions`).
    log_noise : array of shape (S, n_levels) or None
        Draws of the logs of the noise scales of the levels that have their own.
    """

    mean: tuple[np.ndarray, ...]
    root: tuple[np.ndarray, ...]
    log_density: np.ndarray | None
    place: np.ndarray
    n_nodes: int
    skew: tuple[np.ndarray, ...] | None = None
    stretch: tuple[np.ndarray, ...] | None = None
    log_noise: np.ndarray | None = None

    def of(self, which: Any) -> "EffectMoments":
        """Those of some components; ``place`` is of all."""

        def part(arrays):
            return None if arrays is None else tuple(a[which] for a in arrays)

        mean, root, skew, stretch = map(part, (self.mean, self.root, self.skew, self.stretch))
        density, noise = (
            None if a is None else a[which] for a in (self.log_density, self.log_noise)
        )
        return EffectMoments(
            mean or (), root or (), density, self.place, self.n_nodes, skew, stretch, noise
        )


class LevelInformation(NamedTuple):
    """What the rows say of the effects of each level, as a normal density; internal coordinates.

    Attributes
    ----------
    precision : array of shape (q, q, n_levels)
        ``A_g``; 0 of levels without rows.
    pull : array of shape (q, n_levels)
        The score at the mode, and ``A_g`` times the effects there.
    """

    precision: Any
    pull: Any


class JointInformation(NamedTuple):
    """What the rows say of coefficients and of effects of few levels together, as a normal density.

    Of f entries: the effects (q, n_levels) of each factor of few levels, then the coefficients'
    unconstrained parameters; internal coordinates.

    Attributes
    ----------
    precision : array of shape (f, f)
        All other effects integrated out, and the prior of the coefficients with it.
    pull : array of shape (f,)
        The gradient at ``place``, and ``precision`` times ``place``.
    place : array of shape (f,)
        Where the ``pull`` of each :class:`LevelInformation` is what the rows say.
    coupling : tuple of array of shape (q, f, n_levels) or None
        Of each factor: curvature of the rows between a level's effects and the entries; None of
        those that are among the entries, and of levels' noises.
    """

    precision: Any
    pull: Any
    place: Any
    coupling: tuple[Any, ...]


class LevelNoises(NamedTuple):
    """Noises of levels given each component, where levels have their own; internal coordinates.

    Attributes
    ----------
    levels : LevelRoots
        What the rows of each level say.
    log_sd, spread, skew : array of shape (S, n_levels)
        Mean, sd and skewness of the log of each level's noise sd.
    log_density : array of shape (S, n_levels)
        Of the rows of each level, its effects and noise integrated out.
    place : int array of shape (n_chains, n_draws)
        The component that each draw of the population is.
    """

    levels: LevelRoots
    log_sd: np.ndarray
    spread: np.ndarray
    skew: np.ndarray
    log_density: np.ndarray
    place: np.ndarray

    def of(self, which: Any) -> "LevelNoises":
        """Those of some components; ``place`` is of all."""
        parts = (self.log_sd, self.spread, self.skew, self.log_density)
        log_sd, spread, skew, log_density = (a[which] for a in parts)
        return LevelNoises(self.levels, log_sd, spread, skew, log_density, self.place)


class FactorSpec(NamedTuple):
    """What is static about a grouping factor.

    Attributes
    ----------
    slopes : tuple of int
        Features with a varying slope.
    covariance : Covariance
        Of its effects, see :mod:`skhier.kernels.covariance`.
    at_mean : bool
        The prior of the effects' covariance speaks of the intercept at the mean of X (True) or at
        X = 0.
    """

    slopes: tuple[int, ...]
    covariance: Any
    at_mean: bool

    @property
    def n_effects(self) -> int:
        """Effects per level, ``q``: the varying slopes and the varying intercept."""
        return len(self.slopes) + 1


class ModelSpec(NamedTuple):
    """What is static about a model: a new value compiles a new program.

    Attributes
    ----------
    n_features : int
    factors : tuple of FactorSpec
    plan : Plan
    noncentered : bool
    intercept_at_mean : bool
        The intercept's prior sits at the mean of X (True) or at X = 0.
    coef_blocks : tuple of tuple of int
        Columns of each distribution in ``PriorDists.coef``.
    kind : Kind
        Of the response.
    budget : KernelBudget
    noise_by : int or None
        The factor whose levels have a noise of their own.
    """

    n_features: int
    factors: tuple[FactorSpec, ...]
    plan: Plan
    noncentered: bool
    intercept_at_mean: bool
    coef_blocks: tuple[tuple[int, ...], ...]
    kind: Kind
    budget: KernelBudget = USUAL.kernels
    noise_by: int | None = None

    def varying_columns(self, k: int) -> np.ndarray:
        """Columns of x, the constant last, that vary with the k-th factor."""
        return np.array([*self.factors[k].slopes, self.n_features], int)

    @property
    def response(self) -> Response:
        """One of this kind, for its functions of the line."""
        return self.kind.response()
