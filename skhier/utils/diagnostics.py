"""How well Markov chain draws represent the posterior: R-hat, effective sample sizes, errors.

The functions take draws of shape (n_chains, n_draws, ...) and return one number per scalar, shape
(...), equal to ArviZ's. A scalar is NaN if its draws are constant up to rounding, hold NaN or
infinity, or are fewer than 4 a chain. "V" is Vehtari et al. (2021).

References
----------
Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), Bayesian Analysis 16(2), 667-718.
Geyer (1992), Statistical Science 7(4), 473-483.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.special import ndtri
from scipy.stats import rankdata

from skhier.utils.budget import USUAL

__all__ = [
    "by_block",
    "e_bfmi",
    "ess_bulk",
    "ess_mean",
    "ess_sd",
    "ess_tail",
    "hdi",
    "is_constant",
    "mcse_mean",
    "mcse_sd",
    "rank_rhat",
    "split_rhat",
]

FloatArray = NDArray[np.float64]

_MIN_DRAWS = 4  # a chain is split in two, and a variance needs two draws
_DRAWS_ROUNDING = 1e-14  # the diagonal of a computed correlation matrix is 1 up to some 1e-16


def rank_rhat(draws: ArrayLike) -> FloatArray:
    """Rank-normalised split R-hat: the larger of bulk and folded (V eqs. 3.1-4.2).

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Markov chain draws, any units.

    Returns
    -------
    array of shape (...)
        Near 1 when the chains agree in location and spread; unbounded when each stands still
        at a place of its own. NaN with one chain: it cannot tell where another would have gone.

    Examples
    --------
    >>> import numpy as np
    >>> from skhier.utils.diagnostics import rank_rhat
    >>> draws = np.random.default_rng(0).normal(size=(4, 1000))
    >>> bool(rank_rhat(draws) < 1.01)
    True
    """

    def larger_rhat(x: FloatArray) -> FloatArray:
        halves = _halves(x)
        folded = np.abs(halves - np.median(halves, axis=(1, 2), keepdims=True))
        # Draws at two values fold into one, which has no R-hat: fmax takes the other.
        return np.fmax(_rhat(_normal_scores(halves)), _rhat(_normal_scores(folded)))

    return by_block(larger_rhat, draws, min_chains=2)


def split_rhat(draws: ArrayLike) -> FloatArray:
    """Split R-hat without ranks (V eqs. 3.1-3.4), a tenth of the work of :func:`rank_rhat`.

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)

    Returns
    -------
    array of shape (...)
    """
    return by_block(lambda x: _rhat(_halves(x)), draws, min_chains=2)


def ess_bulk(draws: ArrayLike) -> FloatArray:
    """Effective sample size of the rank-normalised draws (V eqs. 3.10-3.13, 4.1).

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Markov chain draws, with any tails.

    Returns
    -------
    array of shape (...)
        Exceeds n_chains * n_draws where draws alternate about the centre.
    """
    return by_block(lambda x: _ess(_normal_scores(_halves(x))), draws)


def ess_tail(draws: ArrayLike, prob: tuple[float, float] = (0.05, 0.95)) -> FloatArray:
    """Effective sample size for the worse of two quantiles (V eq. 4.3).

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Markov chain draws, with any tails.
    prob : tuple of float
        Levels of the quantiles, between 0 and 1.

    Returns
    -------
    array of shape (...)
        A quantile that no draw exceeds (ties) counts as known from every draw.
    """

    def smaller_ess(x: FloatArray) -> FloatArray:
        low, high = np.quantile(x, prob, axis=(1, 2))[..., None, None]
        return np.minimum(_ess(_halves(1.0 * (x <= low))), _ess(_halves(1.0 * (x <= high))))

    return by_block(smaller_ess, draws)


def ess_mean(draws: ArrayLike) -> FloatArray:
    """Effective sample size for the mean (V eqs. 3.10-3.13).

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Markov chain draws. That their variance exists is not checked.

    Returns
    -------
    array of shape (...)
        Exceeds n_chains * n_draws where draws alternate about the mean.
    """
    return by_block(lambda x: _ess(_halves(_standardise(x)[0])), draws)


def ess_sd(draws: ArrayLike) -> FloatArray:
    """Effective sample size for the standard deviation: that of the squared deviations.

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Markov chain draws. That their fourth moment exists is not checked.

    Returns
    -------
    array of shape (...)
        All draws where the squared deviations are constant.
    """
    return by_block(lambda x: _ess(_halves(_standardise(x)[0] ** 2)), draws)


def mcse_mean(draws: ArrayLike) -> FloatArray:
    """Monte Carlo standard error of the mean of the draws (V eq. 3.5).

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Markov chain draws. That their variance exists is not checked.

    Returns
    -------
    array of shape (...)
        sd / sqrt(ess_mean), in the units of the draws.
    """

    def standard_error(x: FloatArray) -> FloatArray:
        z, scale = _standardise(x)
        return scale * z.std(axis=(1, 2), ddof=1) / np.sqrt(_ess(_halves(z)))

    return by_block(standard_error, draws)


def mcse_sd(draws: ArrayLike) -> FloatArray:
    """Monte Carlo standard error of the standard deviation of the draws.

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Markov chain draws. That their fourth moment exists is not checked.

    Returns
    -------
    array of shape (...)
        In the units of the draws.

    References
    ----------
    Kenney, Keeping (1951), Mathematics of Statistics, part 2, p. 141.
    """

    def standard_error(x: FloatArray) -> FloatArray:
        z, scale = _standardise(x)
        squares = z**2
        error = squares.var(axis=(1, 2)) / _ess(_halves(squares))
        return scale * np.sqrt(error / (4 * squares.mean(axis=(1, 2))))  # var(s^2) = 4 s^2 var(s)

    return by_block(standard_error, draws)


def hdi(draws: ArrayLike, prob: float = 0.9) -> FloatArray:
    """Highest density interval: the narrowest that holds a share of the pooled draws.

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Draws, of any origin.
    prob : float
        The share, in (0, 1].

    Returns
    -------
    array of shape (..., 2)
        Lower and upper end, each one of the draws: one interval, even if the density has two
        modes. NaN where a draw is NaN or infinite; constant draws give that constant twice.

    Raises
    ------
    ValueError
        If `prob` is not in (0, 1], or the draws have fewer than two axes.

    References
    ----------
    Chen, Shao (1999), J. Comput. Graph. Stat. 8(1), 69-92.
    """
    if not 0 < prob <= 1:
        raise ValueError(f"`prob` must be in (0, 1], got {prob!r}.")
    x = _as_draws(draws)
    pooled = np.sort(x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), axis=0)
    finite = np.isfinite(pooled).all(axis=0)
    pooled = np.where(finite, pooled, 0.0)
    gap = min(int(prob * len(pooled)), len(pooled) - 1)
    lower = np.argmin(pooled[gap:] - pooled[: len(pooled) - gap], axis=0)[None]
    ends = [np.take_along_axis(pooled, rank, axis=0)[0] for rank in (lower, lower + gap)]
    return np.where(finite[..., None], np.stack(ends, axis=-1), np.nan)


def e_bfmi(energy: ArrayLike) -> FloatArray:
    """Energy Bayesian fraction of missing information, per chain.

    Parameters
    ----------
    energy : array of shape (n_chains, n_draws)
        Hamiltonian of each transition.

    Returns
    -------
    array of shape (n_chains,)
        Mean squared step of the energy over its variance. Small where the momenta drawn change
        the energy too little to carry the sampler into the tails.

    References
    ----------
    Betancourt (2016), arXiv:1604.00695.
    """

    def fraction(x: FloatArray) -> FloatArray:
        z = _standardise(x)[0][:, 0]
        return np.square(np.diff(z)).mean(axis=1) / z.var(axis=1, ddof=1)

    return by_block(fraction, _as_draws(energy).T[None])


def is_constant(draws: ArrayLike) -> NDArray[np.bool_]:
    """Whether all draws of a scalar are one value, up to rounding.

    Parameters
    ----------
    draws : array of shape (n_chains, n_draws, ...)
        Draws; NaN and infinity differ from everything.

    Returns
    -------
    bool array of shape (...)
        True on the diagonal of a correlation matrix, even where its last digit varies.
    """
    return _is_flat(np.moveaxis(_as_draws(draws), (0, 1), (-2, -1)))


def _as_draws(draws: ArrayLike) -> FloatArray:
    x = np.asarray(draws, dtype=float)
    if x.ndim < 2:
        raise ValueError(f"Draws must have shape (n_chains, n_draws, ...), got {x.shape}.")
    return x


def by_block(
    statistic: Callable[[FloatArray], FloatArray],
    draws: ArrayLike,
    min_chains: int = 1,
    at_once: int = USUAL.memory.draws_at_once,
) -> FloatArray:
    """Apply a function of (m, n_chains, n_draws) to the scalars that vary, a block at a time.

    Parameters
    ----------
    statistic : callable
    draws : array of shape (n_chains, n_draws, ...)
    min_chains : int
        With fewer all is NaN.
    at_once : int
        Draws of a block, as far as there are several scalars.
    """
    x = _as_draws(draws)
    n_chains, n_draws, *shape = x.shape
    x = np.moveaxis(x.reshape(n_chains, n_draws, int(np.prod(shape))), -1, 0)
    result = np.full(len(x), np.nan)
    if n_chains >= min_chains and n_draws >= _MIN_DRAWS:
        step = max(1, at_once // (n_chains * n_draws))
        for block in (slice(start, start + step) for start in range(0, len(x), step)):
            varies = np.isfinite(x[block]).all(axis=(1, 2)) & ~_is_flat(x[block])
            if varies.any():
                result[block][varies] = statistic(x[block][varies])
    return result.reshape(shape)[()]


def _is_flat(x: FloatArray) -> NDArray[np.bool_]:
    """`is_constant` over the last two axes."""
    low, high = x.min(axis=(-2, -1)), x.max(axis=(-2, -1))
    with np.errstate(invalid="ignore"):  # infinity - infinity
        flat = high - low <= _DRAWS_ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return flat & np.isfinite(low) & np.isfinite(high)


def _standardise(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Deviations from the mean within [-1, 1], and their scale (m,): squares cannot overflow."""
    deviations = x - x.mean(axis=(1, 2), keepdims=True)
    scale = np.abs(deviations).max(axis=(1, 2), keepdims=True)
    return deviations / scale, scale[:, 0, 0]


def _halves(x: FloatArray) -> FloatArray:
    """Halves of chains as chains of their own; an odd number of draws loses the middle one."""
    half = x.shape[2] // 2
    return np.concatenate([x[:, :, :half], x[:, :, -half:]], axis=1)


def _normal_scores(x: FloatArray) -> FloatArray:
    """Normal scores of pooled ranks (V eq. 4.1, with Blom's S + 1/4 where it prints S - 1/4)."""
    pooled = x.reshape(len(x), -1)
    ranks = rankdata(pooled, axis=1)
    return ndtri((ranks - 0.375) / (pooled.shape[1] + 0.25)).reshape(x.shape)


def _rhat(x: FloatArray) -> FloatArray:
    """Potential scale reduction, (m, n_chains, n) to (m,) (V eqs. 3.1-3.4)."""
    n = x.shape[2]
    within = x.var(axis=2, ddof=1).mean(axis=1)
    between = x.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # chains that stand still, or all flat
        return np.sqrt((n - 1) / n + between / within)


def _ess(x: FloatArray) -> FloatArray:
    """Effective sample size, (m, n_chains, n) to (m,), by Geyer's sequence; all if flat."""
    n_total = x.shape[1] * x.shape[2]
    rho = _autocorrelation(x)
    last = max((x.shape[2] - 1) // 2, 1)
    pairs = rho[:, 0 : 2 * last : 2] + rho[:, 1 : 2 * last : 2]
    ends = pairs <= 0
    ends[:, -1] = True
    stop = np.argmax(ends, axis=1)[:, None]
    kept = np.arange(last) < stop
    sums = np.where(kept, np.minimum.accumulate(pairs, axis=1), 0).sum(axis=1)
    # Beyond the pairs, half of one more even lag: less variance for antithetic chains (V 3.2).
    even = np.take_along_axis(rho, 2 * stop, axis=1)
    failed = np.take_along_axis(pairs, stop, axis=1) <= 0
    tau = 2 * sums - 1 + np.where(failed, np.maximum(even, 0), even)[:, 0]
    ess = n_total / np.maximum(tau, 1 / np.log10(n_total))
    return np.where(_is_flat(x), n_total, ess)


def _autocorrelation(x: FloatArray) -> FloatArray:
    """Autocorrelation of all chains together, (m, n_chains, n) to (m, n) (V eq. 3.10)."""
    n = x.shape[2]
    means = x.mean(axis=2, keepdims=True)
    length = fft.next_fast_len(2 * n, real=True)
    power = np.square(np.abs(fft.rfft(x - means, length, axis=2))).mean(axis=1)
    covariance = fft.irfft(power, length, axis=1)[:, :n] / n
    variance = covariance[:, :1] + means[:, :, 0].var(axis=1, ddof=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # flat draws, left to `_ess`
        rho = 1 - (covariance[:, :1] * n / (n - 1) - covariance) / variance
    rho[:, 0] = 1
    return rho
