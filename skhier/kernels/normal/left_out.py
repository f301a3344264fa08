"""What the rows say of a row, or of a group, that is left out: closed forms (normal response).

Per component all is normal. Let the other rows of row i's level predict it with the variance
``w sigma^2`` and the residual ``r - u'beta``, and let t be the share of the variance that remains
if all rows, i among them, tell of beta (and of the other factors' effects):

    y_i | y_-i, theta ~ Normal(y_i - r_i / t, w sigma^2 / t),   r_i = r - u'E[beta]

Where the row is one of few, w and t follow from the level without the row: their other form,
``1 / w = 1 - h / sigma^2``, h the variance of the line given all rows, is a difference of nearly
equal numbers there. A group of one factor that is left out has

    y_g | y_-g, theta ~ Normal(X_g m, V_g + X_g S X_g'),  m, S of beta given the others
    -2 log density = n log 2 pi + log|V_g| + r'V_g^-1 r + d'S^-1 d + log|P| - log|S^-1|

at the mean of beta given all, ``r = y_g - X_g E[beta]``, ``d = E[beta] - m``, P its precision.
What remains is an average over the components, whose weights change as the inverse of that density:
importance sampling, smoothed. Vehtari, Gelman and Gabry (2017), Stat. Comput. 27; Sundararajan and
Keerthi (2001), Neural Comput. 13, for the row's formula.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import null_space
from scipy.sparse import csr_array

from skhier.kernels.normal.conditional import residual, sigma_of
from skhier.kernels.normal.information import (
    EPS,
    Coefs,
    EliminatedLevels,
    LevelRows,
    coefficients,
    eliminate_levels,
    information,
    level_rows,
    log_dets,
    others_information,
    row_given_level,
    total_information,
)
from skhier.kernels.records import CoefPriors, Components
from skhier.responses.numerics import LOG_2PI
from skhier.utils.budget import USUAL
from skhier.utils.pareto import psis
from skhier.utils.slices import slices

__all__ = [
    "InternalRows",
    "LeftOut",
    "RowGiven",
    "given_all",
    "leave_groups_out",
    "leave_rows_out",
    "levels_alone",
    "not_filled",
    "other_rows",
    "products_of_others",
    "rows_alone",
    "smoothed",
]

NEAR = 0.01  # what is left of 1, below which a difference from 1 is not trusted
ALONE = 1e-10  # of what the others know, in units of what all know: nothing


class LeftOut(NamedTuple):
    """Log densities of K rows or groups, one per component: arrays (S, K).

    ``without``: given the others' rows; ``within``: of the same numbers seen again, given all rows.
    """

    without: np.ndarray
    within: np.ndarray


class InternalRows(NamedTuple):
    """All rows of fit, internal coordinates.

    ``x`` (n, p); ``zs``: per factor (n, q); ``y`` (n,); ``codes`` (n, n_factors); ``weights`` (n,),
    whole numbers: one copy of a row is left out.
    """

    x: np.ndarray
    zs: tuple[np.ndarray, ...]
    y: np.ndarray
    codes: np.ndarray
    weights: np.ndarray

    def xy(self, which=slice(None)) -> np.ndarray:
        """``[x y]`` of some rows, (K, p + 1)."""
        return np.column_stack([self.x[which], self.y[which]])


class RowGiven(NamedTuple):
    """Of K rows at S points (S, K): ``w``, ``t`` and ``r_i`` of the module's first formula."""

    spread: np.ndarray
    share: np.ndarray
    rest: np.ndarray

    def put(self, out: LeftOut, here: slice, columns, sigma) -> None:
        """Write the densities to these points and columns."""
        w, t, r = self
        variance = (sigma**2)[:, None]
        out.without[here, columns] = _log_normal(r**2 / t, w * variance) + 0.5 * np.log(t)
        out.within[here, columns] = _log_normal((r / w) ** 2, variance * (2 - t / w))


def _log_normal(square, variance):
    return -0.5 * (LOG_2PI + np.log(variance) + square / variance)


def given_all(
    levels: LevelRows, components: Components, entries: int = USUAL.memory.elimination_entries
) -> tuple[np.ndarray, Coefs]:
    """What all levels of one factor say of the coefficients.

    ``entries``: of the largest temporary array.

    Returns
    -------
    total : array of shape (S, p + 1, p + 1)
        ``[X y]'V^-1 [X y]``.
    coefs : Coefs
        K = 1.
    """
    at = sigma_of(components.population), _chol(components)
    total = total_information(levels, *at, entries)
    return total, coefficients(total[:, None], _prior(components))


def _prior(components) -> CoefPriors:
    """Coefficients that are draws have nothing left to integrate out."""
    if components.prior is not None:
        return components.prior
    n_points, p = components.coef.shape
    nothing = np.zeros((p, 0)), np.zeros((0, 0))
    return CoefPriors(*nothing, components.coef, np.zeros((n_points, 0)))


def _chol(components) -> np.ndarray:
    """Root of the only factor's effects' covariance; (S, 0, 0) without a factor."""
    return next(iter(components.group_root), np.zeros((len(components.weights), 0, 0)))


def leave_rows_out(
    levels: LevelRows,
    coefs: Coefs,
    components: Components,
    rows: InternalRows,
    which,
    entries: int = USUAL.memory.elimination_entries,
) -> LeftOut:
    """Densities of rows of one factor or none, each left out on its own.

    Parameters
    ----------
    levels : LevelRows
        Of the factor, with columns ``[x y]``; without a factor all rows are one level.
    coefs : Coefs
        Of :func:`given_all` of the same.
    components : Components
    rows : InternalRows
    which : int array of shape (K,)
    entries : int
        Of the largest temporary array.
    """
    out = not_filled(components, which)
    used, at = np.unique(_only_codes(rows)[which], return_inverse=True)
    model, everything = (coefs, components, rows, which, entries), np.arange(len(which))
    doubtful, decisive = _put_given_levels(out, everything, levels.take(used), at, *model, True)
    few = np.flatnonzero(doubtful)
    if len(few):
        own = _others_in_level(rows, which[few], with_rest=False)
        model, at = (coefs, components, rows, which[few], entries), np.arange(len(few))
        _, decisive[few] = _put_given_levels(out, few, own, at, *model, False)
    few = np.flatnonzero(decisive)
    if len(few):
        _put_without_row(out, few, levels, components, rows, which[few], entries)
    return out


def not_filled(components: Components, which) -> LeftOut:
    """Densities (S, K) to be filled in."""
    shape = len(components.weights), len(which)
    return LeftOut(np.empty(shape), np.empty(shape))


def _only_codes(rows):
    return rows.codes[:, 0] if rows.zs else np.zeros(len(rows.y), int)


def _only_z(rows):
    return rows.zs[0] if rows.zs else np.zeros((len(rows.y), 0))


def _others_in_level(rows: InternalRows, which, with_rest: bool) -> LevelRows:
    """Of each row its level without it."""
    others, z, xy = other_rows(_only_codes(rows), rows.weights, which), _only_z(rows), rows.xy()
    rest = products_of_others(others, xy, xy) if with_rest else None
    return level_rows(
        products_of_others(others, z, z), products_of_others(others, z, xy), rest, others.sum(1)
    )


def other_rows(codes, weights, which) -> Any:
    """How often the rows of its level count for each of some rows that are left out, (K, n)."""
    order = np.argsort(codes, kind="stable")
    begin, end = (np.searchsorted(codes[order], codes[which], side) for side in ("left", "right"))
    size = end - begin
    row = np.repeat(np.arange(len(which)), size)
    place = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
    member = order[np.repeat(begin, size) + place]
    count = weights[member] - (member == which[row])
    return csr_array((count, (row, member)), (len(which), len(codes)))


def products_of_others(others, a, b) -> np.ndarray:
    """Sums over the other rows of ``a b'``, (columns of a, columns of b, K)."""
    products = [np.asarray(others @ (column[:, None] * b)).T for column in a.T]
    return np.stack(products) if products else np.zeros((0, b.shape[1], others.shape[0]))


def _put_given_levels(out, columns, levels, at, coefs, components, rows, which, entries, inside):
    """Rows as their levels' rows predict them, which are all (``inside``) or the others.

    Returns
    -------
    doubtful, decisive : bool array of shape (K,)
        Rows that tell nearly all that their level tells of its effects, or of some coefficient.
    """
    doubtful, decisive = np.zeros(len(which), bool), np.zeros(len(which), bool)
    n_levels, q, c = levels.seen.shape
    z, xy, chol = _only_z(rows)[which], rows.xy(which), _chol(components)
    width = n_levels * 2 * q * (q + c) + len(which) * (q * (q + c) + 2 * c)
    for here in _chunks(len(chol), width, entries):
        sigma = sigma_of(components.population)[here]
        eliminated = eliminate_levels(levels, sigma, chol[here])
        of_rows = EliminatedLevels(
            eliminated.factor[..., at], eliminated.seen[..., at], eliminated.left[:0]
        )
        variance, off = row_given_level(of_rows, chol[here], z, xy)
        spread = 1 + variance
        if inside:
            alone = np.maximum(1 - variance, EPS)
            doubtful |= (alone < NEAR).any(0)
            spread, off = 1 / alone, off / alone
        slopes = np.moveaxis(off[:-1], 0, -1)
        known = ((slopes @ coefs.root[here, 0]) ** 2).sum(-1) / (sigma**2)[:, None]
        share = np.maximum(1 - known / spread, EPS)
        decisive |= (share < NEAR).any(0)
        rest = off[-1] - (slopes @ coefs.mean[here, 0, :, None])[..., 0]
        RowGiven(spread, share, rest).put(out, here, columns, sigma)
    return doubtful, decisive


def _put_without_row(out, columns, levels, components, rows, which, entries):
    """Rows that tell nearly all that is known of some coefficient: the others are added up."""
    own, codes = _others_in_level(rows, which, with_rest=True), _only_codes(rows)[which]
    z, xy = _only_z(rows)[which], rows.xy(which)
    _, q, c = own.seen.shape
    width = len(which) * (3 * c * c + 2 * q * (q + c))
    for here in _chunks(len(components.weights), width, entries):
        part = components.take(here)
        sigma, chol = sigma_of(part.population), _chol(part)
        eliminated = eliminate_levels(own, sigma, chol)
        gram = information(own, eliminated, sigma)
        gram = gram + others_information(levels, sigma, chol, codes, entries)
        coefs = coefficients(gram, _prior(part))
        variance, off = row_given_level(eliminated, chol, z, xy)
        slopes = np.moveaxis(off[:-1], 0, -1)[:, :, None]
        unknown = ((slopes @ coefs.root)[:, :, 0] ** 2).sum(-1) / (sigma**2)[:, None]
        spread = 1 + variance
        share = spread / (spread + unknown)
        rest = share * (off[-1] - (slopes @ coefs.mean[..., None])[..., 0, 0])
        RowGiven(spread, share, rest).put(out, here, columns, sigma)


def _chunks(n, width, entries):
    """Slices of n points, so that arrays with so many numbers a point have that many entries."""
    return slices(n, entries // max(int(width), 1))


def leave_groups_out(
    levels: LevelRows,
    total,
    coefs: Coefs,
    components: Components,
    which,
    entries: int = USUAL.memory.elimination_entries,
) -> LeftOut:
    """Joint densities of all rows of a group of the only factor, each group left out on its own.

    Parameters
    ----------
    levels : LevelRows
        All.
    total, coefs
        :func:`given_all` of the same.
    components : Components
    which : int array of shape (K,)
    entries : int
        Of the largest temporary array.
    """
    out = not_filled(components, which)
    width = len(which) * 4 * levels.seen.shape[2] ** 2
    for here in _chunks(len(components.weights), width, entries):
        of_part = Coefs(*(a[here] for a in coefs))
        at_part = total[here], of_part, components.take(here)
        densities = _groups_out(levels, *at_part, which, entries)
        for whole, part in zip(out, densities, strict=True):
            whole[here] = part
    return out


def _groups_out(levels, total, coefs, components, which, entries):
    sigma, chol = sigma_of(components.population), _chol(components)
    own = levels.take(which)
    eliminated = eliminate_levels(own, sigma, chol)
    gram = information(own, eliminated, sigma)
    shift = residual(coefs.mean[:, 0])
    squares = (np.einsum("icSK,Sc->iSK", eliminated.left, shift) ** 2).sum(0)
    squares += np.einsum("Sc,Kcd,Sd->SK", shift, own.rest, shift, optimize=True)
    alone = own.n * LOG_2PI + log_dets(own, eliminated, sigma) + squares / (sigma**2)[:, None]
    root = coefs.root
    share = np.swapaxes(root, -1, -2) @ gram[..., :-1, :-1] @ root
    pull = np.swapaxes(root, -1, -2) @ (gram[..., :-1, :] @ shift[:, None, :, None])
    others = _coefs_of_others(levels, total, components, which, gram, share, entries)
    moved = np.swapaxes(others.factor, -1, -2) @ (coefs.u - others.u)[..., None]
    without = (moved**2).sum((-1, -2)) + coefs.log_det - others.log_det
    return LeftOut(-0.5 * (alone + without), -0.5 * (alone + _seen_again(share, pull)))


def _seen_again(share, pull):
    """What the coefficients' spread adds to -2 log density, given all rows."""
    posterior = np.eye(share.shape[-1]) + share
    explained = (pull * np.linalg.solve(posterior, pull)).sum((-1, -2))
    return np.linalg.slogdet(posterior)[1] - explained


def _coefs_of_others(levels, total, components, which, gram, share, entries) -> Coefs:
    """The coefficients without each group. ``share``: of what is known, the group's part."""
    rest = total[:, None] - gram
    decisive = (np.trace(share, axis1=-2, axis2=-1) > 1 - NEAR).any(0)
    if decisive.any():
        at = sigma_of(components.population), _chol(components), which[decisive]
        rest[:, decisive] = others_information(levels, *at, entries)
    return coefficients(rest, _prior(components))


def rows_alone(xx, x, prior: CoefPriors) -> np.ndarray:
    """Whether a coefficient with a flat prior has no distribution without a row, (K,).

    Parameters
    ----------
    xx : array of shape (p, p)
        Of all rows: cross-products of x.
    x : array of shape (K, p)
        The rows, one copy of each.
    prior : CoefPriors
    """
    return ((x @ _flat_directions(xx, prior)) ** 2).sum(1) > 1 - ALONE


def levels_alone(xx, of_levels, prior: CoefPriors) -> np.ndarray:
    """The same of levels, of which ``of_levels`` (p, p, K) has the cross-products, (K,)."""
    white = _flat_directions(xx, prior)
    shares = np.linalg.eigvalsh(white.T @ np.moveaxis(of_levels, -1, 0) @ white)
    return np.any(shares > 1 - ALONE, axis=-1)


def _flat_directions(xx, prior):
    """Of the coefficients: where the rows alone tell, on the scale of what they tell, (p, k)."""
    flat = prior.basis @ null_space(prior.root)
    of_all = flat.T @ xx @ flat
    size = np.sqrt(np.diagonal(of_all))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(of_all / size[:, None] / size)
    return flat / size @ (vectors / np.sqrt(np.maximum(values, EPS)))


def smoothed(left_out: LeftOut, weights):
    """Averages over the components.

    Parameters
    ----------
    left_out : LeftOut
        Finite where there is a weight.
    weights : array of shape (S,) or (S, K)
        Of the components, sum 1.

    Returns
    -------
    elpd, lpd, k_hat, mcse : array of shape (K,)
        Log predictive density without and with the row, the Pareto shape of the weights, and the
        Monte Carlo standard error of the first.
    """
    without, within = left_out
    log_weights = np.full(weights.shape, -np.inf)
    np.log(weights, out=log_weights, where=weights > 0)
    log_weights = log_weights if weights.ndim == 2 else log_weights[:, None]
    smooth, k_hat = psis((log_weights - without).T)
    log_ratio = smooth.T - _log_sum(smooth.T)
    own = log_ratio + without
    elpd = _log_sum(own)
    # delta method for a ratio of two means; Vehtari et al. (2024), sec. 6
    off = np.exp(own - elpd) - np.exp(log_ratio)
    mcse = np.sqrt((off**2).sum(0))
    return elpd, _log_sum(log_weights + within), k_hat, mcse


def _log_sum(logs):
    """Log of the sum of exponentials over components, of which one is positive at least."""
    top = logs.max(0)
    return top + np.log(np.exp(logs - top).sum(0))
