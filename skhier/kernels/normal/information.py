"""What levels of one factor say of the coefficients, their effects integrated out: no cancellation.

With ``Z = U F'``, U orthonormal, the effects reach the rows ``Y = U'[X y] = F^+ Z'[X y]`` alone:

    [X y]'V^-1 [X y] = N / sigma^2 + Y'(F' L L' F + sigma^2 I)^-1 Y,   N = [X y]'[X y] - Y'Y

and with ``[F'L; sigma I] = Q R``, E what Q leaves of ``[Y; 0]``, the last term is E'E / sigma^2: a
sum of squares, where ``[X y]'[X y] - D'L M^-1 L'D`` would lose all digits if sigma is small. So
have the coefficients a distribution without a level as well: by adding the others, never by
subtracting one. Golub and Van Loan (2013), Matrix Computations, sec. 5.2 (Gram-Schmidt on
augmented columns).
"""

from typing import NamedTuple

import numpy as np

from skhier.kernels.records import CoefPriors
from skhier.utils.slices import slices

__all__ = [
    "Coefs",
    "EliminatedLevels",
    "LevelRows",
    "coefficients",
    "eliminate_levels",
    "information",
    "level_rows",
    "log_dets",
    "others_information",
    "row_given_level",
    "total_information",
]

EPS = np.finfo(float).eps
EIGENVALUE_ROUNDING = 16 * EPS  # of squares whose sum is 1


class LevelRows(NamedTuple):
    """Rows of K levels as far as the parameters need them; c columns, ``[X y]`` as a rule.

    Attributes
    ----------
    root : array of shape (K, q, q)
        F. Columns of zeros where a level has fewer rows than effects.
    seen : array of shape (K, q, c)
        Y.
    rest : array of shape (K, c, c)
        N, semidefinite.
    n : array of shape (K,)
        Sums of the rows' weights.
    """

    root: np.ndarray
    seen: np.ndarray
    rest: np.ndarray
    n: np.ndarray

    def take(self, which) -> "LevelRows":
        """Some of the levels."""
        return LevelRows(*(a[which] for a in self))


class EliminatedLevels(NamedTuple):
    """The levels at S points of the variance parameters.

    Attributes
    ----------
    factor : array of shape (q, q, S, K)
        R, upper triangular: ``R'R = L'Z'Z L + sigma^2 I``.
    seen : array of shape (q, c, S, K)
        ``R^-T L'Z'`` times the columns.
    left : array of shape (2 q, c, S, K)
        E.
    """

    factor: np.ndarray
    seen: np.ndarray
    left: np.ndarray


class Coefs(NamedTuple):
    """Normal distributions of the coefficients, for S points and K sets of rows.

    Attributes
    ----------
    u : array of shape (S, K, k)
        Mean of the k integrated ones, ``beta = basis u + offset``.
    factor : array of shape (S, K, k, k)
        Lower triangular root of their precision.
    mean : array of shape (S, K, p)
        Of all.
    root : array of shape (S, K, p, k)
        The covariance is ``root root'``.
    """

    u: np.ndarray
    factor: np.ndarray
    mean: np.ndarray
    root: np.ndarray

    @property
    def log_det(self) -> np.ndarray:
        """Of the precision, (S, K)."""
        return 2 * np.log(np.diagonal(self.factor, axis1=-2, axis2=-1)).sum(-1)


def level_rows(zz, z_w, w_w, n) -> LevelRows:
    """From cross-products.

    Parameters
    ----------
    zz : array of shape (q, q, K)
    z_w : array of shape (q, c, K)
        Of the effects' columns with the c columns.
    w_w : array of shape (c, c, K) or None
        Of these with themselves; None: ``rest`` is left 0.
    n : array of shape (K,)
    """
    zz, z_w = (np.moveaxis(a, -1, 0) for a in (zz, z_w))
    values, vectors = np.linalg.eigh(zz)
    largest = values.max(-1, keepdims=True, initial=0.0)
    kept = values > 4 * EPS * len(values[0]) * largest
    size = np.sqrt(np.where(kept, values, 1.0))
    inverse = np.where(kept, 1 / size, 0.0)[:, None] * vectors
    seen = np.swapaxes(inverse, 1, 2) @ z_w
    rest = np.zeros((*seen.shape[:1], seen.shape[2], seen.shape[2]))
    if w_w is not None:
        rest = _rest(np.moveaxis(w_w, -1, 0), zz, z_w, inverse @ seen)
    return LevelRows(vectors * np.where(kept, size, 0.0)[:, None], seen, rest, n)


def _rest(total, zz, z_w, slopes):
    """Products of what the effects' columns leave of the others; 0 where that is rounding.

    Written out: an error of the least-squares slopes, which may be large, counts squared.
    """
    scale = np.sqrt(np.diagonal(total, axis1=1, axis2=2))
    scale = np.where(scale > 0, scale, 1.0)[:, None]
    z_w, slopes = z_w / scale, slopes / scale
    explained = np.swapaxes(slopes, 1, 2) @ z_w
    fitted = np.swapaxes(slopes, 1, 2) @ zz @ slopes
    rest = total / scale / np.swapaxes(scale, 1, 2) - explained - np.swapaxes(explained, 1, 2)
    values, vectors = np.linalg.eigh(rest + fitted)
    values = np.where(values > EIGENVALUE_ROUNDING, values, 0.0)
    root = np.swapaxes(scale, 1, 2) * vectors * np.sqrt(values)[:, None]
    return root @ np.swapaxes(root, 1, 2)


def eliminate_levels(levels: LevelRows, sigma, chol) -> EliminatedLevels:
    """Integrate the effects out.

    Parameters
    ----------
    levels : LevelRows
    sigma : array of shape (S,)
    chol : array of shape (S, q, q)
        L.
    """
    n_points, (n_levels, q, c) = len(sigma), levels.seen.shape
    batch = n_points, n_levels
    system, columns = np.zeros((2 * q, q, *batch)), np.zeros((2 * q, c, *batch))
    system[:q] = np.einsum("Kai,Saj->ijSK", levels.root, chol, optimize=True)
    columns[:q] = np.moveaxis(levels.seen, 0, -1)[:, :, None]
    factor, seen = np.zeros((q, q, *batch)), np.empty((q, c, *batch))
    for j in range(q):
        system[q + j, j] = sigma[:, None]
    for j in range(q):
        factor[j, j] = np.sqrt((system[:, j] ** 2).sum(0))
        unit = (system[:, j] / factor[j, j])[:, None]
        factor[j, j + 1 :] = (unit * system[:, j + 1 :]).sum(0)
        system[:, j + 1 :] -= unit * factor[j, j + 1 :]
        seen[j] = (unit * columns).sum(0)
        columns -= unit * seen[j]
    return EliminatedLevels(factor, seen, columns)


def log_dets(levels: LevelRows, eliminated: EliminatedLevels, sigma) -> np.ndarray:
    """``log|V|`` of each level's rows, (S, K)."""
    of_factors = 2 * np.log(np.einsum("jjSK->jSK", eliminated.factor)).sum(0)
    return (levels.n - len(eliminated.factor)) * np.log(sigma**2)[:, None] + of_factors


def information(levels: LevelRows, eliminated: EliminatedLevels, sigma) -> np.ndarray:
    """``[X y]'V^-1 [X y]`` of each level, (S, K, c, c)."""
    squares = np.einsum("icSK,idSK->SKcd", eliminated.left, eliminated.left, optimize=True)
    return (squares + levels.rest) / (sigma**2)[:, None, None, None]


def total_information(levels: LevelRows, sigma, chol, entries: int) -> np.ndarray:
    """The sum over all levels, (S, c, c); ``entries``: of the largest temporary array."""
    n_levels, q, c = levels.seen.shape
    total = np.zeros((len(sigma), c, c))
    width = 2 * max(q, 1) * (q + c)
    n_points = max(1, entries // (width * min(n_levels, max(1, entries // width))))
    at_once = entries // (width * n_points)
    for here in slices(len(sigma), n_points):
        for at in slices(n_levels, at_once):
            part = levels.take(at)
            left = eliminate_levels(part, sigma[here], chol[here]).left
            total[here] += np.einsum("icSK,idSK->Scd", left, left, optimize=True)
    return (total + levels.rest.sum(0)) / (sigma**2)[:, None, None]


def others_information(levels: LevelRows, sigma, chol, which, entries: int) -> np.ndarray:
    """Sums over all levels but one, (S, K, c, c).

    Parameters
    ----------
    levels : LevelRows
        All.
    sigma : array of shape (S,)
    chol : array of shape (S, q, q)
    which : int array of shape (K,)
        The levels that are left out, each on its own.
    entries : int
        Of the largest temporary array.
    """
    n_levels, q, c = levels.seen.shape
    out = np.empty((len(sigma), len(which), c, c))
    for here in slices(len(sigma), entries // (n_levels * (3 * c * c + 2 * q * (q + c)))):
        eliminated = eliminate_levels(levels, sigma[here], chol[here])
        of_each = information(levels, eliminated, sigma[here])
        none = np.zeros_like(of_each[:, :1])
        before = np.concatenate([none, np.cumsum(of_each, axis=1)], axis=1)
        after = np.concatenate([none, np.cumsum(of_each[:, ::-1], axis=1)], axis=1)[:, ::-1]
        out[here] = before[:, which] + after[:, which + 1]
    return out


def row_given_level(eliminated: EliminatedLevels, chol, z, w) -> tuple[np.ndarray, np.ndarray]:
    """What a level's rows predict of one more row.

    Parameters
    ----------
    eliminated : EliminatedLevels
        Of each row's level.
    chol : array of shape (S, q, q)
    z : array of shape (K, q)
    w : array of shape (K, c)
        The row's columns.

    Returns
    -------
    spread : array of shape (S, K)
        Variance of its effects' sum, in units of the noise's.
    off : array of shape (c, S, K)
        The columns less what the level's rows predict of them.
    """
    white = np.einsum("Kb,Sbj->jSK", z, chol, optimize=True)
    for j in range(len(white)):
        for i in range(j):
            white[j] -= eliminated.factor[i, j] * white[i]
        white[j] /= eliminated.factor[j, j]
    predicted = np.einsum("icSK,iSK->cSK", eliminated.seen, white)
    return (white**2).sum(0), w.T[:, None] - predicted


def coefficients(gram, prior: CoefPriors) -> Coefs:
    """Distributions of the coefficients given rows and prior.

    Parameters
    ----------
    gram : array of shape (S, K, p + 1, p + 1)
        ``[X y]'V^-1 [X y]``.
    prior : CoefPriors
        Of S points. What makes the precision singular gives NaN.
    """
    basis, root, offset, target = prior
    k = basis.shape[1]
    x = gram[..., :-1, :]
    pull = x[..., -1] - np.einsum("SKij,Sj->SKi", x[..., :-1], offset)
    precision = basis.T @ x[..., :-1] @ basis + root.T @ root
    pull = pull @ basis + (target @ root)[:, None]
    size = np.sqrt(np.diagonal(precision, axis1=-2, axis2=-1))
    size = np.where(size > 0, size, 1.0)
    factor = _cholesky(precision / size[..., :, None] / size[..., None, :])
    inverse = np.linalg.inv(factor)
    inverse = np.where(np.tri(k, dtype=bool), inverse, 0.0)
    white = inverse @ (pull / size)[..., None]
    turned = np.swapaxes(inverse, -1, -2) / size[..., None]
    u = (turned @ white)[..., 0]
    return Coefs(u, size[..., None] * factor, offset[:, None] + u @ basis.T, basis @ turned)


def _cholesky(matrices):
    """Factors; NaN of those that are not positive definite."""
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        if matrices.ndim == 2:
            return np.full_like(matrices, np.nan)
        return np.stack([_cholesky(one) for one in matrices])
