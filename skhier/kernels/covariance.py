"""The covariance of a factor's effects: how it is parametrised, and its prior.

A covariance is static; the numbers of its prior come along, so that new ones compile nothing. It
says, inside a NumPyro program, a root ``L`` of ``Sigma`` in internal coordinates, with the
intercept where the prior sits. :mod:`skhier.kernels.flat` makes of such a program its dimension,
unconstrained coordinates and the log prior with its Jacobian. Nothing else knows what is inside.

``Sigma = diag(tau) Omega diag(tau)``: Lewandowski, Kurowicka and Joe (2009), J. Multivar. Anal.
100; Goodrich, Gabry, Ali and Brilleman, rstanarm, ``common_functions.stan: make_theta_L``.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import gammaln, multigammaln

from skhier.kernels.distributions import (
    draw,
    is_flat,
    rounded_size,
    sample_blocks,
    site,
    with_entries,
)
from skhier.responses.numerics import TINY

__all__ = ["Covariance", "Decov", "Independent", "Lkj", "Spare"]


class Covariance(Protocol):
    """What the rest of the package asks of a factor's covariance; effects have the intercept last.

    ``prior`` are the numbers of its prior, in the user's units.
    """

    @property
    def n_effects(self) -> int:
        """Effects per level, ``q``."""

    def root(self, k: int, prior: Any, unit: Any, dispersion: Any) -> Any:
        """A program: lower triangular root (q, q) of the k-th factor's covariance.

        ``unit`` (q,): internal units per unit of the user's; ``dispersion``: the response's scale
        given its mean, in the user's units, of which some priors are multiples.
        """

    def draw_roots(
        self, prior: Any, dispersion: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Prior draws of the root in the user's units, (n, q, q), one for each dispersion."""

    def log_prior(
        self, prior: Any, scale: np.ndarray, corr_chol: np.ndarray, dispersion: np.ndarray
    ) -> np.ndarray:
        """Log density (n,), up to a constant, of sds (n, q) and correlations' roots (n, q, q)."""

    def with_spare(self, prior: Any, n: int) -> "Spare | None":
        """The same with n spare effects in front; None: such effects would change the others'."""


class Spare(NamedTuple):
    """A covariance with spare effects, which come first and have correlations 0.

    In front they leave the exponents of the LKJ density alone, which count the effects that follow.

    Attributes
    ----------
    covariance : Covariance
    prior : tuple
        Its numbers.
    blocks : tuple of bool array
        Whether the entries of each block of scales are effects of the factor.
    log_constant : float
        What the density of its correlations has more, the spare ones 0.
    """

    covariance: "Covariance"
    prior: Any
    blocks: tuple[np.ndarray, ...]
    log_constant: float


@dataclass(frozen=True)
class Independent:
    """Standard deviations with priors of their own, no correlations.

    ``prior``: (distributions of the sds, one per block; a number that does not matter).
    """

    n_effects: int
    scale_blocks: tuple[tuple[int, ...], ...]

    def root(self, k, prior, unit, dispersion):
        """See :class:`Covariance`."""
        return self._scale(k, prior[0], unit)[:, None] * jnp.eye(self.n_effects)

    def _scale(self, k, scales, unit):
        return sample_blocks(site("group_scale", k), scales, self.scale_blocks, unit)

    def draw_roots(self, prior, dispersion, rng):
        """See :class:`Covariance`."""
        scale = self._draw_scales(prior[0], len(dispersion), rng)
        return scale[:, :, None] * np.eye(self.n_effects)

    def _draw_scales(self, scales, n, rng):
        values = np.empty((n, self.n_effects))
        for block, family in zip(self.scale_blocks, scales, strict=True):
            values[:, list(block)] = draw(family, (len(block),), n, int(rng.integers(2**31)))
        return values

    def log_prior(self, prior, scale, corr_chol, dispersion):
        """See :class:`Covariance`; flat priors count 0."""
        total = np.zeros(len(scale))
        for block, family in zip(self.scale_blocks, prior[0], strict=True):
            if not is_flat(family):
                total += np.asarray(family.log_prob(scale[:, list(block)])).sum(1)
        return total

    def with_spare(self, prior, n):
        """See :class:`Covariance`."""
        blocks, families, are_own = [], [], []
        for block, family in zip(self.scale_blocks, prior[0], strict=True):
            own = np.ones(len(block), bool)
            longer = [effect + n for effect in block]
            if 0 in block:
                place = block.index(0)
                source = np.insert(np.arange(len(block)), [place] * n, place)
                family = with_entries(family, source)
                longer[place:place], own = range(n), np.insert(own, [place] * n, False)
            blocks.append(tuple(longer))
            families.append(family)
            are_own.append(own)
        if any(family is None for family in families):
            return None
        covariance = replace(self, n_effects=self.n_effects + n, scale_blocks=tuple(blocks))
        return Spare(covariance, (tuple(families), prior[1]), tuple(are_own), 0.0)


@dataclass(frozen=True)
class Lkj(Independent):
    """Standard deviations with priors of their own, correlations LKJ(eta).

    ``prior``: (distributions of the sds, one per block; eta).
    """

    def root(self, k, prior, unit, dispersion):
        """See :class:`Covariance`."""
        scales, eta = prior
        return self._scale(k, scales, unit)[:, None] * _corr_chol(k, self.n_effects, eta)

    def draw_roots(self, prior, dispersion, rng):
        """See :class:`Covariance`."""
        scales, eta = prior
        scale = self._draw_scales(scales, len(dispersion), rng)
        return scale[:, :, None] * _draw_corr_chols(self.n_effects, eta, len(scale), rng)

    def log_prior(self, prior, scale, corr_chol, dispersion):
        """See :class:`Covariance`; of the correlations ``(eta - 1) log|Omega|``."""
        *_, eta = prior
        return super().log_prior(prior, scale, corr_chol, dispersion) + _log_lkj(corr_chol, eta)

    def with_spare(self, prior, n):
        """See :class:`Covariance`."""
        spare, q = super().with_spare(prior, n), self.n_effects
        if spare is None:
            return None
        constant = _log_volume_of_lkj(q, prior[1]) - _log_volume_of_lkj(q + n, prior[1])
        return spare._replace(log_constant=constant)


@dataclass(frozen=True)
class Decov:
    """rstanarm's decomposition: ``tau_j = sigma scale t sqrt(q pi_j)``, correlations LKJ(eta).

    ``prior``: (concentration, shape, scale, eta), ``t ~ Gamma(shape, 1)``,
    ``pi ~ Dirichlet(concentration)``.
    """

    n_effects: int
    correlated: bool

    def root(self, k, prior, unit, dispersion):
        """See :class:`Covariance`."""
        concentration, shape, scale, eta = prior
        size = numpyro.sample(site("decov_size", k), dist.Gamma(shape, 1.0))
        share = jnp.ones(1)
        if self.n_effects > 1:
            shares = dist.Dirichlet(jnp.full(self.n_effects, concentration))
            share = numpyro.sample(site("decov_share", k), shares)
        # the simplex shares out the variance, hence the root
        tau = dispersion * scale * size * jnp.sqrt(self.n_effects * share) * unit
        if not self.correlated:
            return tau[:, None] * jnp.eye(self.n_effects)
        return tau[:, None] * _corr_chol(k, self.n_effects, eta)

    def draw_roots(self, prior, dispersion, rng):
        """See :class:`Covariance`."""
        concentration, shape, scale, eta = prior
        q, n = self.n_effects, len(dispersion)
        share = rng.dirichlet(np.full(q, concentration), n)
        size = dispersion * scale * rng.gamma(shape, size=n)
        corr_chol = _draw_corr_chols(q, eta, n, rng) if self.correlated else np.eye(q)
        return size[:, None, None] * np.sqrt(q * share)[:, :, None] * corr_chol

    def log_prior(self, prior, scale, corr_chol, dispersion):
        """See :class:`Covariance`; of the size and the shares of the variance."""
        concentration, shape, unit, eta = prior
        variance = np.maximum(scale**2, TINY)
        total = variance.sum(1)
        size = np.sqrt(total / self.n_effects) / (dispersion * unit)
        shares = np.log(variance / total[:, None]).sum(1)
        density = (shape - 1) * np.log(size) - size + (concentration - 1) * shares
        return density + (_log_lkj(corr_chol, eta) if self.correlated else 0.0)

    def with_spare(self, prior, n):
        """See :class:`Covariance`: they would take a share of the variance."""
        return None


def _corr_chol(k, q, eta):
    """Cholesky factor of a correlation matrix; one effect has none."""
    if q == 1:
        return jnp.eye(1)
    return numpyro.sample(site("group_corr_chol", k), dist.LKJCholesky(q, eta))


def _draw_corr_chols(q, eta, n, rng):
    if q == 1:
        return np.ones((n, 1, 1))
    key = jax.random.PRNGKey(int(rng.integers(2**31)))
    return np.asarray(_draw_lkj(key, eta, q, rounded_size(n)))[:n]


@partial(jax.jit, static_argnames=("q", "n"))
def _draw_lkj(key, eta, q, n):
    return dist.LKJCholesky(q, eta).sample(key, (n,))


def _log_lkj(corr_chol, eta):
    """``(eta - 1) log|Omega|``."""
    diagonal = np.maximum(np.diagonal(corr_chol, axis1=1, axis2=2), TINY)
    return 2 * (eta - 1) * np.log(diagonal).sum(1)


def _log_volume_of_lkj(q, eta):
    """Log of the integral of ``|Omega|^(eta - 1)`` (Lewandowski et al. 2009, p. 1999)."""
    k = q - 1
    alpha = eta + 0.5 * k
    return float(0.5 * k * np.log(np.pi) + multigammaln(alpha - 0.5, k) - k * gammaln(alpha))
