"""Containers that travel between kernels: arrays and hashable shapes, hardly any behaviour.

Everything here lives in *internal coordinates*, see :mod:`skhier.statistics.records`.
"""

from typing import Any, NamedTuple

from skhier.statistics.records import Plan

__all__ = [
    "MIN_VARIANCE",
    "CoefPrior",
    "FactorSpec",
    "Hyper",
    "ModelSpec",
    "PopulationConditional",
    "PriorDists",
    "VarianceParameters",
]

# of noise, where y's variance is near 1: smaller ones act like this, for a perfect fit is rounding
MIN_VARIANCE = 1e-12


class PriorDists(NamedTuple):
    """Prior distributions in the user's units; their parameters are traced, their families static.

    Attributes
    ----------
    intercept, noise_scale : numpyro Distribution, scalar
    coef : tuple of numpyro Distribution
        One per block of columns that share a family; ``ModelSpec`` says which columns.
    covariances : tuple of tuple
        Per factor what its :mod:`covariance <skhier.kernels.covariance>` calls ``prior``.
    """

    intercept: Any
    noise_scale: Any
    coef: tuple[Any, ...]
    covariances: tuple[tuple[Any, ...], ...]


class Hyper(NamedTuple):
    """All parameters but the group effects, internal coordinates.

    Attributes
    ----------
    coef : array of shape (n_features,)
    intercept, noise_scale : scalar
    group_chol : tuple of array of shape (q, q)
        Per factor: Cholesky factor of the effects' covariance, the intercept at the mean of x.
    """

    coef: Any
    intercept: Any
    noise_scale: Any
    group_chol: tuple[Any, ...]


class VarianceParameters(NamedTuple):
    """What remains once group effects and coefficients are integrated out.

    Attributes
    ----------
    noise_scale, group_chol
        As in :class:`Hyper`.
    """

    noise_scale: Any
    group_chol: tuple[Any, ...]


class PopulationConditional(NamedTuple):
    """Variance parameters, and the normal distribution of the coefficients given them.

    Attributes
    ----------
    noise_scale, group_chol
        As in :class:`Hyper`.
    coef_mean : array of shape (p,)
        Intercept last.
    coef_root : array of shape (p, k)
        The covariance is ``coef_root coef_root'``.
    coef_offset, coef_target : array of shape (p,), (k,)
        ``offset`` and the last of ``rows`` of :class:`CoefPrior`; the rest of it is the same
        everywhere.
    """

    noise_scale: Any
    group_chol: tuple[Any, ...]
    coef_mean: Any
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
    """

    n_features: int
    factors: tuple[FactorSpec, ...]
    plan: Plan
    noncentered: bool
    intercept_at_mean: bool
    coef_blocks: tuple[tuple[int, ...], ...]
