"""Coefficients and effects of few levels in coordinates that follow what varies in them.

Rows of few levels know the sums of a coefficient and its effects well, and how these split only as
the effects' covariance has it: the average of n levels' effects has an sd of ``tau / sqrt(n)``,
and tau of few levels is hardly known. In fixed coordinates that is a funnel. With b of these
levels, t the coefficients and a root L of the effects' covariance,

    x = (z, t),   b_g = L z_g,   (b, t) = T x
    x = K' (K T' pull + zeta),   K = R^-1,   R R' = diag(1, 0) + T' P T

zeta is N(0, I) given the population's other parameters, as far as P and pull say what the rows and
the coefficients' prior do. t comes last: it is where it is with b integrated out, and b is given t.
It is :mod:`skhier.kernels.rows.partly_centered` of all these entries as one level's.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.scipy.linalg import block_diag

from skhier.kernels.cholesky import inverse_cholesky_of_one
from skhier.kernels.prior_programs import fused_product
from skhier.kernels.records import JointInformation, LevelInformation

__all__ = ["coefs_and_effects", "given_entries"]


def coefs_and_effects(
    information: JointInformation, levels: Sequence[tuple[Any, Any]], zeta: Any
) -> tuple[Any, list[Any], Any, Any]:
    """Coefficients, standard effects, how far the entries are from their place, and log volume.

    Parameters
    ----------
    information : JointInformation
    levels : sequence of tuple
        Of each factor of few levels: a root (q, q) of its effects' covariance, zeta (q, n_levels).
    zeta : array of shape (c,)
        Of the coefficients.

    Returns
    -------
    coef : array of shape (c,)
        Unconstrained parameters.
    standard : list of array of shape (q, n_levels)
        ``z`` of each of the factors.
    moved : array of shape (f,)
    log_volume : scalar
        Of a unit of all zetas in ``(z, t)``.
    """
    n_coef = len(zeta)
    blocks = [jnp.kron(root, jnp.eye(of.shape[1])) for root, of in levels]
    spread = block_diag(*blocks, jnp.eye(n_coef))
    zetas = jnp.concatenate([*(of.ravel() for _, of in levels), zeta])
    prior = jnp.where(jnp.arange(len(zetas)) < len(zetas) - n_coef, 1.0, 0.0)
    half = inverse_cholesky_of_one(spread.T @ information.precision @ spread + jnp.diag(prior))
    x = half.T @ (half @ (spread.T @ information.pull) + zetas)
    *parts, coef = jnp.split(x, _ends([of.size for _, of in levels]))
    standard = [part.reshape(of.shape) for part, (_, of) in zip(parts, levels, strict=True)]
    effects = [fused_product(root, z) for (root, _), z in zip(levels, standard, strict=True)]
    entries = jnp.concatenate([*(b.ravel() for b in effects), coef])
    return coef, standard, entries - information.place, jnp.log(jnp.diagonal(half)).sum()


def _ends(sizes):
    return [sum(sizes[: k + 1]) for k in range(len(sizes))]


def given_entries(
    levels: Sequence[LevelInformation], information: JointInformation, moved: Any
) -> list[LevelInformation]:
    """What the rows say of the other factors' levels, where the entries have moved (f,)."""
    pairs = zip(levels, information.coupling, strict=True)
    return [
        of if coupling is None else of._replace(pull=of.pull - (coupling * moved[:, None]).sum(1))
        for of, coupling in pairs
    ]
