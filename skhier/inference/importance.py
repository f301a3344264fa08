"""Importance sampling of a few parameters, with randomised quasi-random points.

Points through multivariate t distributions around normal approximations, one for each mode; weights
against the density of their mixture, smoothed by a generalised Pareto tail, whose shape ``k_hat``
says whether they can be trusted; locations, scales and shares refitted to the weighted points
until they can. The points are independent randomisations of one Sobol sequence, so that the spread
between these blocks gives honest Monte Carlo errors.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72). Owen (1997), SIAM J. Numer. Anal. 34.
Cappe, Douc, Guillin, Marin and Robert (2008), Stat. Comput. 18.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, gammaln, logsumexp, ndtri
from scipy.stats import qmc

from skhier.inference.mode import Laplace, Mode
from skhier.utils.budget import USUAL, ImportanceBudget
from skhier.utils.pareto import psis, reliable_k

__all__ = [
    "Mixture",
    "WeightedPoints",
    "bridge",
    "covariance_root",
    "fitted_mixture",
    "fitted_normal",
    "importance",
    "importance_of_scales",
    "mixture_of",
    "of_no_parameters",
    "pooled",
    "resample",
    "steadied",
    "trustworthy",
    "weighted_points",
    "with_tails",
    "without_tails",
]

BITS = 30  # of a coordinate of the sequence: SciPy's default, and exact in float64
PROPOSAL_GRID = 2.0**-8  # of a proposal's sd: coarse beside rounding, fine beside the posterior


class Mixture(NamedTuple):
    """Normal approximations, one a mode, and their shares of the mass.

    Attributes
    ----------
    shares : array of shape (m,)
        Sum 1.
    means : array of shape (m, d)
    roots : array of shape (m, d, d)
        The covariances are ``root root'``.
    """

    shares: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    def normals(self) -> list[Laplace]:
        """The components."""
        return [Laplace(mean, root) for mean, root in zip(self.means, self.roots, strict=True)]

    def with_normals(self, normals: Sequence[Laplace]) -> "Mixture":
        """Others in their places."""
        return _mixture(self.shares, normals)


def mixture_of(modes: Sequence[Mode]) -> Mixture:
    """Modes in proportion to their masses."""
    log_mass = np.array([mode.log_mass for mode in modes])
    shares = np.exp(log_mass - logsumexp(log_mass))
    return _mixture(shares, [mode.normal for mode in modes])


def steadied(mixture: Mixture) -> Mixture:
    """The mixture rounded to a few digits, which are all that a proposal needs.

    Differences of values make millionths of rounding errors, so that the same rows added up in
    another order would have other points. Rounded, they have the same.
    """
    upper = np.linalg.qr(mixture.roots.swapaxes(1, 2), mode="r")  # root root' = upper' upper
    own = np.abs(np.diagonal(upper, axis1=1, axis2=2))
    # per coordinate, of what the others leave of its sd
    grid = PROPOSAL_GRID * 2.0 ** np.frexp(own)[1]
    # the root itself and not its triangle: a net is evenest along its first columns
    rounded = np.round(mixture.roots / grid[..., None]) * grid[..., None]
    means = np.round(mixture.means / grid) * grid
    shares = np.maximum(np.round(mixture.shares / PROPOSAL_GRID), 1)
    return Mixture(shares / shares.sum(), means, rounded)


def _mixture(shares, normals) -> Mixture:
    means, roots = (np.array(parts) for parts in zip(*normals, strict=True))
    return Mixture(np.asarray(shares, dtype=float), means, roots)


def with_tails(
    mixture: Mixture, scales: Sequence[int], budget: ImportanceBudget = USUAL.importance
) -> Mixture:
    """The mixture, and of each component others where a scale is less.

    The density of a scale that may be 0 is nearly constant there, so that its logarithm has a long
    tail downwards: few points of a symmetric proposal lie in it, and what has that much weight
    Pareto smoothing takes for less.

    Parameters
    ----------
    mixture : Mixture
        Of m components.
    scales : sequence of int
        Entries that are logarithms of scales.
    budget : ImportanceBudget

    Returns
    -------
    Mixture
        Of ``m (1 + k)`` components, k the number of scales that may be 0: first those of the
        mixture, and then those of each scale. See :func:`without_tails`.
    """
    sds = np.sqrt((mixture.roots**2).sum(2))
    near_zero = [entry for entry in scales if sds[:, entry].max() > budget.near_zero]
    of_mixture = mixture.roots @ mixture.roots.swapaxes(1, 2)
    parts = [mixture]
    for entry in near_zero:
        means, covs = mixture.means.copy(), of_mixture.copy()
        means[:, entry] -= budget.tail_shift
        covs[:, entry] = covs[:, :, entry] = 0.0
        covs[:, entry, entry] = budget.tail_sd**2
        roots = np.array([covariance_root(cov) for cov in covs])
        parts.append(Mixture(budget.tail_share * mixture.shares, means, roots))
    shares, means, roots = map(np.concatenate, zip(*parts, strict=True))
    return Mixture(shares / shares.sum(), means, roots)


class WeightedPoints(NamedTuple):
    """Points with normalised weights that stand for a density.

    Attributes
    ----------
    points : array of shape (n, d)
        Point i belongs to block ``i % n_blocks``; the blocks are randomisations of their own. Any
        first few, with their weights, stand for the density too.
    log_density : array of shape (n,)
    weights : array of shape (n,)
        Pareto smoothed, sum 1.
    k_hat : float
    ess : float
        ``1 / sum(weights**2)``.
    log_evidence : float
        Log of the density's integral.
    shares : array of shape (n, m)
        Of each component in the density of the proposal that the points were drawn from.
    """

    points: np.ndarray
    log_density: np.ndarray
    weights: np.ndarray
    k_hat: float
    ess: float
    log_evidence: float
    shares: np.ndarray = np.ones((1, 1))


def trustworthy(weighted: WeightedPoints, min_ess: float) -> bool:
    """Whether means over the points can be relied on (Vehtari et al. 2024, sec. 3.2.4)."""
    return weighted.k_hat <= reliable_k(len(weighted.points)) and weighted.ess >= min_ess


def importance(
    log_densities: Callable[[np.ndarray], np.ndarray],
    start: Laplace | Mixture,
    n_points: int,
    rng: np.random.Generator,
    budget: ImportanceBudget = USUAL.importance,
    good_ess: float = 0.0,
) -> WeightedPoints:
    """Adaptive importance sampling.

    Parameters
    ----------
    log_densities : callable
        Takes (n, d) points to n log densities; what is not finite has no weight.
    start : Laplace or Mixture
    n_points : int
        Of each round; a power of two, at least ``budget.n_blocks``.
    rng : Generator
    budget : ImportanceBudget
    good_ess : float
        Fewer effective points are worth another round, whatever their share.

    Returns
    -------
    WeightedPoints
        Of the best round.
    """

    def round_of(proposal: Mixture) -> WeightedPoints:
        return weighted_points(log_densities, proposal, n_points, rng, budget)

    first = _mixture([1.0], [start]) if isinstance(start, Laplace) else start
    best = last = round_of(first._replace(roots=budget.inflation * first.roots))
    gained = True
    for _ in range(1, budget.max_rounds):
        enough = best.ess >= max(budget.good_efficiency * n_points, good_ess) or not gained
        if best.k_hat <= budget.good_k_hat and enough:
            break
        last = round_of(fitted_mixture(last))
        gained = last.ess > budget.min_gain * best.ess
        best = max(best, last, key=lambda points: points.ess)
    return best


def importance_of_scales(
    log_densities: Callable[[np.ndarray], np.ndarray],
    modes: Mixture,
    scales: Sequence[int],
    n_points: int,
    rng: np.random.Generator,
    budget: ImportanceBudget = USUAL.importance,
    good_ess: float = 0.0,
) -> WeightedPoints:
    """:func:`importance` from modes :func:`with_tails` for ``scales``; each point is a mode's."""
    proposal = with_tails(modes, scales, budget)
    weighted = importance(log_densities, proposal, n_points, rng, budget, good_ess)
    return without_tails(weighted, len(modes.shares))


def weighted_points(
    log_densities: Callable[[np.ndarray], np.ndarray],
    proposal: Mixture,
    n_points: int,
    rng: np.random.Generator,
    budget: ImportanceBudget = USUAL.importance,
    before: WeightedPoints | None = None,
) -> WeightedPoints:
    """One round: points of the proposal, and their weights; with those of it that were drawn
    ``before`` as one sample.
    """
    points = _draw(proposal, n_points, rng, budget)
    log_density = log_densities(points)
    if before is not None:
        points = np.concatenate([before.points, points])
        log_density = np.concatenate([before.log_density, log_density])
    return _weigh(points, log_density, _log_parts(proposal, points, budget))


def _draw(proposal: Mixture, n_points, rng, budget):
    """Points of a mixture of multivariate t.

    One more coordinate of the sequence picks the component: any first few points have all of them,
    in proportion.
    """
    m, d = proposal.means.shape
    df = _degrees(d, budget)
    u = _uniform(n_points, d + 1 + (m > 1), rng, budget.n_blocks)
    chi2 = 2 * gammaincinv(df / 2, u[:, d])
    z = ndtri(u[:, :d]) * np.sqrt(df / chi2)[:, None]
    if m == 1:
        return proposal.means[0] + z @ proposal.roots[0].T
    ends = np.cumsum(_shares(proposal, budget))
    at = np.minimum(np.searchsorted(ends, u[:, -1], side="right"), m - 1)
    return proposal.means[at] + np.einsum("nij,nj->ni", proposal.roots[at], z)


def _log_parts(proposal, points, budget):
    """Each component's log part (n, m) in the density."""
    df = _degrees(points.shape[1], budget)
    parts = [_log_t(normal, points, df) for normal in proposal.normals()]
    return np.log(_shares(proposal, budget)) + np.stack(parts, axis=1)


def _shares(proposal, budget):
    even = budget.least_share / len(proposal.shares)
    return (1 - budget.least_share) * proposal.shares + even


def _degrees(d, budget) -> float:
    """Of freedom."""
    return max(budget.df, budget.df_per_entry * d)


def _log_t(proposal, points, df):
    d = len(proposal.mean)
    z = np.linalg.solve(proposal.root, (points - proposal.mean).T)
    constant = gammaln((df + d) / 2) - gammaln(df / 2) - 0.5 * d * np.log(df * np.pi)
    log_det = np.linalg.slogdet(proposal.root)[1]
    return constant - log_det - 0.5 * (df + d) * np.log1p((z**2).sum(0) / df)


def _uniform(n_points, d, rng, n_blocks):
    """A scrambled Sobol sequence under so many independent digital shifts, (n_points, d)."""
    shifts = rng.integers(2**BITS, size=(n_blocks, d))
    shifted = _net(n_points // n_blocks, d)[:, None] ^ shifts
    return (shifted.reshape(n_points, d) + 0.5) / 2**BITS


@lru_cache(maxsize=32)
def _net(n_points, d):
    """One scrambled Sobol sequence; the shifts make it random."""
    net = qmc.Sobol(d, scramble=True, bits=BITS, seed=0).random(n_points)
    net = np.rint(net * 2**BITS).astype(np.int64)
    net.flags.writeable = False
    return net


def _weigh(points, log_density, log_parts):
    usable = np.isfinite(log_density)
    if not usable.any():
        raise RuntimeError(
            f"the log density is not finite at any of the {len(points)} points drawn. Check that "
            "the priors' supports allow the data."
        )
    log_proposal = logsumexp(log_parts, axis=1)
    log_ratio = np.where(usable, log_density, -np.inf) - log_proposal
    smooth, k_hat = psis(log_ratio)
    total = logsumexp(smooth)
    weights = np.exp(smooth - total)
    return WeightedPoints(
        points,
        log_density,
        weights,
        float(k_hat),
        1 / (weights**2).sum(),
        total - np.log(len(points)),
        np.exp(log_parts - log_proposal[:, None]),
    )


def pooled(rounds: Sequence[WeightedPoints]) -> WeightedPoints:
    """The points of several rounds, each in proportion to its effective number."""
    ess = np.array([of_round.ess for of_round in rounds])
    parts = list(zip(ess / ess.sum(), rounds, strict=True))
    return rounds[-1]._replace(
        points=np.concatenate([of_round.points for of_round in rounds]),
        log_density=np.concatenate([of_round.log_density for of_round in rounds]),
        weights=np.concatenate([part * of_round.weights for part, of_round in parts]),
        shares=np.concatenate([of_round.shares for of_round in rounds]),
        ess=ess.sum(),
    )


def of_no_parameters(log_densities: Callable[[np.ndarray], np.ndarray], n: int) -> WeightedPoints:
    """The one point there is where there are no parameters, n times.

    ``log_densities`` takes points (n, 0) to their log densities (n,).
    """
    points = np.zeros((n, 0))
    log_density = log_densities(points)
    weights = np.full(n, 1 / n)
    return WeightedPoints(
        points, log_density, weights, -np.inf, np.inf, float(log_density[0]), np.ones((n, 1))
    )


def fitted_mixture(weighted: WeightedPoints) -> Mixture:
    """A normal for each component of the proposal, fitted to its share of the points."""
    normals = [_fitted(weighted, share) for share in weighted.shares.T]
    return _mixture(weighted.weights @ weighted.shares, normals)


def without_tails(weighted: WeightedPoints, n_modes: int) -> WeightedPoints:
    """The points, each a mode's whose component or tail it was drawn from: :func:`with_tails`."""
    n = len(weighted.points)
    return weighted._replace(shares=weighted.shares.reshape(n, -1, n_modes).sum(1))


def fitted_normal(weighted: WeightedPoints) -> Laplace:
    """Mean and covariance of the weighted points; tempered weights if few points carry all."""
    return _fitted(weighted, np.ones(len(weighted.points)))


def _fitted(weighted, share) -> Laplace:
    d = weighted.points.shape[1]
    enough = max(10 * d, 0.05 * share.sum())
    power, weights = 1.0, _normalised(weighted.weights, share)
    while 1 / (weights**2).sum() < enough and power > 1e-3:
        power *= 0.7
        weights = _normalised(weighted.weights**power, share)
    mean = weights @ weighted.points
    off = weighted.points - mean
    return _normal(mean, (weights[:, None] * off).T @ off)


def _normalised(weights, share):
    """Of a component's points; its proposal as it was if none of them has a weight."""
    own = weights * share
    own = own if own.any() else share
    return own / own.sum()


def _normal(mean, cov):
    return Laplace(mean, covariance_root(cov))


def covariance_root(cov: np.ndarray) -> np.ndarray:
    """A square root of a covariance (d, d); directions without spread have a little."""
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(np.maximum(values, 1e-12 * values.max(initial=0.0)))


def bridge(
    log_densities: Callable[[np.ndarray], np.ndarray],
    draws: np.ndarray,
    log_density: np.ndarray,
    rng: np.random.Generator,
    budget: ImportanceBudget = USUAL.importance,
) -> float:
    """Log of a density's integral from draws of it, by bridge sampling.

    A multivariate t is fitted to half of the draws and bridged to the other half. NaN if the draws
    do not vary, or if the t has no point where the density is positive.

    Parameters
    ----------
    log_densities : callable
    draws : array of shape (n, d)
        Exchangeable: chains in random order.
    log_density : array of shape (n,)
    rng : Generator
    budget : ImportanceBudget

    References
    ----------
    Meng and Wong (1996), Statistica Sinica 6; Gronau et al. (2017), J. Math. Psychol. 81.
    """
    half = len(draws) // 2
    proposal = _normal(draws[:half].mean(0), np.atleast_2d(np.cov(draws[:half].T)))
    if not proposal.root.any():
        return np.nan
    n_blocks = budget.n_blocks
    n_points = n_blocks * 2 ** int(np.ceil(np.log2(max(half / n_blocks, 1))))
    single = _mixture([1.0], [proposal])
    points = _draw(single, n_points, rng, budget)
    of_points = log_densities(points) - _log_parts(single, points, budget)[:, 0]
    of_points = np.where(np.isfinite(of_points), of_points, -np.inf)
    if np.isneginf(of_points).all():
        return np.nan
    of_draws = log_density[half:] - _log_t(proposal, draws[half:], _degrees(draws.shape[1], budget))
    share = np.log(len(of_draws)) - np.log(len(of_draws) + n_points)
    other = np.log1p(-np.exp(share))
    estimate = np.median(of_draws)
    for _ in range(1000):
        before = estimate
        above = of_points - np.logaddexp(share + of_points, other + before)
        below = -np.logaddexp(share + of_draws, other + before)
        estimate = (logsumexp(above) - np.log(n_points)) - (logsumexp(below) - np.log(len(below)))
        if abs(estimate - before) < 1e-8:
            break
    return float(estimate)


def resample(weights: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``n_draws`` equally weighted draws: systematic resampling, in random order."""
    places = (np.arange(n_draws) + rng.uniform()) / n_draws
    chosen = np.searchsorted(np.cumsum(weights) / weights.sum(), places, side="right")
    return rng.permutation(np.minimum(chosen, len(weights) - 1))
