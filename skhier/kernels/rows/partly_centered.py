"""Effects of levels in coordinates between centered and non-centered ones.

Near their mode the rows say of a level's effects b what ``pull_g'b - b'A_g b / 2`` says, the log of
a normal density. With a root L of the effects' covariance, ``b_g = L z_g`` and ``z_g ~ N(0, I)``,

    z_g = K' (K L' pull_g + zeta_g),   K = R^-1,   R R' = I + L' A_g L

has ``zeta_g ~ N(0, I)`` given the population, as far as that density goes. Of a level of few rows
zeta is z, non-centered; of one of many, b is where its rows want it, and zeta what they leave open.
``log|K|`` is Laplace's: as far as levels do not depend on each other a mode in these coordinates
is one of the population with the effects integrated out, and no funnel draws it in.
Papaspiliopoulos, Roberts and Skoeld (2007), Stat. Sci. 22.
"""

from typing import Any

import jax.numpy as jnp

from skhier.kernels.cholesky import inverse_cholesky
from skhier.kernels.records import LevelInformation
from skhier.kernels.rows.blocks import products, times
from skhier.responses.numerics import TINY

__all__ = ["standard_effects", "triangular"]


def triangular(root: Any, order: Any) -> Any:
    """Another root of the same covariance, whose rows are lower triangular in an order.

    Parameters
    ----------
    root : array of shape (q, q)
        ``L``
    order : array of shape (q, q)
        A permutation ``P``. Without squares: of ``P L`` the rows are made orthogonal, one by one.
    """
    rows, columns = order @ root, []
    for j in range(len(rows)):
        direction = rows[j] / jnp.sqrt((rows[j] ** 2).sum() + TINY)
        columns.append(rows @ direction)
        rows = rows - columns[-1][:, None] * direction
    return order.T @ jnp.tril(jnp.stack(columns, axis=1))


def standard_effects(root: Any, information: LevelInformation, zeta: Any) -> tuple[Any, Any]:
    """``z`` (q, n_levels), and log volume of a unit of zeta in z, summed over levels.

    Parameters
    ----------
    root : array of shape (q, q)
        ``L``, any root of the covariance.
    information : LevelInformation
    zeta : array of shape (q, n_levels)
    """
    q = len(zeta)
    root = root[..., None]
    turned = jnp.swapaxes(root, 0, 1)
    inner = products(turned, products(information.precision, root))
    gram = inner + jnp.eye(q)[..., None]
    half = jnp.moveaxis(inverse_cholesky(jnp.moveaxis(gram, -1, 0)), 0, -1)
    towards = times(half, times(turned, information.pull))
    log_volume = sum(jnp.log(half[j, j]).sum() for j in range(q))
    return times(jnp.swapaxes(half, 0, 1), towards + zeta), log_volume
