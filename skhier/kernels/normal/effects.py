"""Group effects given each component of theta, the coefficients integrated out, level by level.

Given theta the effects are affine in the coefficients and in independent normal numbers:

    b_k,g = m - T (beta - E beta) + sum over its own and later factors j of the chain of
            W_j e_(j, level of j above g) + F d,    e ~ Normal(0, I),    d ~ Normal(0, D)

``d`` the deviations of the dense effects from their means. So any two levels' covariance follows,
whether or not one is nested in the other, and of levels without rows too: ``T = F = 0`` and only
their own ``W = L`` is left. Components are the last axis: what belongs to a row of a table is then
one block of memory.
"""

from typing import Any, NamedTuple

import numpy as np

from skhier.kernels.linalg import matmul
from skhier.kernels.normal.conditional import residual, sigma_of
from skhier.kernels.normal.eliminate import (
    Eliminated,
    Layout,
    back_substitute,
    eliminate,
    level_factor,
)
from skhier.kernels.normal.moments import dense_slopes, sparse_slopes
from skhier.kernels.records import Components

__all__ = ["DenseEffects", "LevelEffects", "SparseEffects", "all_effects", "leaf_effects"]


class DenseEffects(NamedTuple):
    """The dense effects' part, as full matrices.

    Attributes
    ----------
    cov : array of shape (m, m, S)
        D.
    slopes : tuple of array of shape (n_levels, q, m, S)
        F of each factor of the chain.
    moved : tuple of array of shape (n_levels, q, m, S)
        F D.
    own : tuple of array of shape (n_levels, q, q, S)
        F D F'.
    """

    cov: np.ndarray
    slopes: tuple[np.ndarray, ...]
    moved: tuple[np.ndarray, ...]
    own: tuple[np.ndarray, ...]


class SparseEffects(NamedTuple):
    """The same of one component.

    Attributes
    ----------
    cov : array of shape (m, m)
        D.
    slopes : tuple of list of sparse array of shape (n_levels, m)
        F of each factor of the chain, a matrix per effect.
    """

    cov: np.ndarray
    slopes: tuple[list[Any], ...]


class LevelEffects(NamedTuple):
    """Of all factors, or of some levels of an only one.

    Attributes
    ----------
    means : tuple of array of shape (n_levels, q, S)
        Per factor.
    slopes : tuple of array of shape (n_levels, q, p, S)
        Per factor: T.
    noise : tuple of tuple of array of shape (n_levels, q, q_j, S)
        Per factor of the chain: W of its own level and of those above.
    dense : DenseEffects, SparseEffects or None
    """

    means: tuple[np.ndarray, ...]
    slopes: tuple[np.ndarray, ...]
    noise: tuple[tuple[np.ndarray, ...], ...]
    dense: DenseEffects | SparseEffects | None


def leaf_effects(layout: Layout, components: Components, levels) -> LevelEffects:
    """Effects of some levels of the only factor.

    Parameters
    ----------
    layout : Layout
    components : Components
    levels : int array of shape (n_levels,)
    """
    (stats,) = layout.stats.factors
    z_xy = np.concatenate([stats.zx[..., levels], stats.zy[:, None, levels]], axis=1)
    zz = stats.zz[..., levels][:, :, None]
    sigma = sigma_of(components.population)
    half, _ = level_factor(zz, components.group_root[0], sigma**2)
    turned = np.swapaxes(half, 0, 1)
    t = matmul(turned, matmul(half, z_xy[:, :, None]))
    noise = sigma[:, None] * turned
    return _level_effects(components, [t], ((_levels_first(noise),),), None)


def all_effects(layout: Layout, components: Components) -> LevelEffects:
    """Effects of all levels of all factors.

    Parameters
    ----------
    layout : Layout
    components : Components
        One, if a crossing is too large to be a full matrix.
    """
    sigma, p = sigma_of(components.population), components.coef.shape[1]
    eliminated = eliminate(layout, sigma, components.group_root, np.eye(p + 1))
    t = back_substitute(layout, eliminated)
    noise = _noise(layout, eliminated, sigma[:, None])
    dense = _dense(layout, eliminated, sigma) if layout.plan.dense else None
    return _level_effects(components, [t[k] for k in range(len(t))], noise, dense)


def _levels_first(a):
    """(q, c, S, n_levels) to (n_levels, q, c, S)."""
    return np.ascontiguousarray(a.transpose(3, 0, 1, 2))


def _level_effects(components, t, noise, dense):
    of_means = np.ascontiguousarray(residual(components.coef).T)[:, None, :, None]
    means = tuple(_levels_first(matmul(of_factor, of_means))[:, :, 0] for of_factor in t)
    slopes = tuple(_levels_first(of_factor[:, :-1]) for of_factor in t)
    return LevelEffects(means, slopes, noise, dense)


def _noise(layout, eliminated, sigma):
    """``W`` of each factor of the chain, from its top down."""
    own: dict[int, list[np.ndarray]] = {}
    for i in reversed(range(len(eliminated.steps))):
        step = eliminated.steps[i]
        turned = np.swapaxes(step.half, 0, 1)
        own[i] = [sigma * turned]
        for later in range(i + 1, len(eliminated.steps)):
            between = range(i + 1, later + 1)
            own[i].append(
                -sum(
                    matmul(
                        matmul(turned, step.up[j - i - 1]),
                        own[j][later - j][..., layout.above[i][j - i - 1]],
                    )
                    for j in between
                )
            )
    return tuple(tuple(map(_levels_first, own[i])) for i in range(len(own)))


def _dense(layout: Layout, eliminated: Eliminated, sigma):
    root = sigma[:, None, None] * eliminated.root
    cov = np.swapaxes(root, 1, 2) @ root
    if not all(layout.wide):
        return SparseEffects(cov[0], sparse_slopes(layout, eliminated, 0))
    slopes = dense_slopes(layout, eliminated)  # (q, S, n_levels, m)
    moved = [slope @ cov for slope in slopes]
    own = [
        np.einsum("asgm,bsgm->gabs", a, b, optimize=True)
        for a, b in zip(slopes, moved, strict=True)
    ]
    return DenseEffects(
        np.ascontiguousarray(np.moveaxis(cov, 0, -1)),
        tuple(np.ascontiguousarray(a.transpose(2, 0, 3, 1)) for a in slopes),
        tuple(np.ascontiguousarray(a.transpose(2, 0, 3, 1)) for a in moved),
        tuple(map(np.ascontiguousarray, own)),
    )
