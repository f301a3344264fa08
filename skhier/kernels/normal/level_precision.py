"""Products of columns in the metric of y's inverse covariance, where levels differ in noise.

With a level's roots (:mod:`skhier.statistics.level_roots`) and the variance v of its noise,

    [X y]' V^-1 [X y] = seen' (F L L'F' + v I)^-1 seen + rest' rest / v,

a sum of squares. What is constant in each level has its rows among those that effects reach.
"""

import numpy as np

from skhier.kernels.linalg import inverse_root, matmul
from skhier.statistics.level_roots import LevelRoots

__all__ = ["precision_products", "products", "with_means"]


def with_means(levels: LevelRoots, features: list[int]) -> LevelRoots:
    """With the level means of features as columns of X, before the constant.

    Parameters
    ----------
    levels : LevelRoots
    features : list of int
    """
    p, k = levels.seen.shape[1] - 2, len(features)
    of_means = np.zeros((len(levels.seen), k, levels.seen.shape[2]))
    of_means[-1] = levels.seen[-1, features]  # sqrt(n) times the mean, as of the constant sqrt(n)
    seen = np.concatenate([levels.seen[:, :p], of_means, levels.seen[:, p:]], axis=1)
    columns = np.where(levels.columns >= p, levels.columns + k, levels.columns)
    return LevelRoots(levels.root, seen, levels.rest, columns, levels.n)


def products(levels: LevelRoots) -> np.ndarray:
    """``[X y]'[X y]`` of all levels, (p + 1, p + 1)."""
    return _summed(levels, levels.seen, levels.rest)


def precision_products(levels: LevelRoots, root: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """``[X y]' V^-1 [X y]`` of all levels, (p + 1, p + 1), internal units.

    Parameters
    ----------
    levels : LevelRoots
    root : array of shape (q, q)
        The effects' covariance is ``root root'``.
    variance : array of shape (G,)
        Of each level's noise.
    """
    reached = np.einsum("iag,aj->ijg", levels.root, root)
    covariance = matmul(reached, np.swapaxes(reached, 0, 1))
    covariance[range(len(root)), range(len(root))] += variance
    half = inverse_root(covariance, variance)
    return _summed(levels, matmul(half, levels.seen), levels.rest / np.sqrt(variance))


def _summed(levels, seen, rest) -> np.ndarray:
    """Squares of what is seen, and of the rest in its columns."""
    out = np.einsum("icg,idg->cd", seen, seen, optimize=True)
    out[np.ix_(levels.columns, levels.columns)] += np.einsum(
        "icg,idg->cd", rest, rest, optimize=True
    )
    return out
