"""The model with several grouping factors, slowly: matrices of rows by rows, no structure used.

    y = X beta + sum_k Z_k b_k + e,    b_kg ~ Normal(0, Sigma_k),    e_i ~ Normal(0, sigma^2)
    V = sum_k Z_k (I x Sigma_k) Z_k' + sigma^2 I
    p(y | theta) = Normal(y; X m, V + X C X')  with beta ~ Normal(m, C)

Bates et al. (2015), J. Stat. Softw. 67(1), sec. 2; flat coefficients: Harville (1974), Biometrika
61(2), eq. 2. An oracle for a hundred rows. The coefficients are the features' and then the
intercept, and so are a factor's effects: its varying slopes in the order of the features, the
intercept last. ``Sigma_k = L_k L_k'`` may be singular. A weight of w is the row w times.

`DESIGNS` makes small tables whose factors relate to each other in every way that matters.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "DESIGNS",
    "Design",
    "Prior",
    "Theta",
    "leave_rows_out",
    "log_marginal",
    "n_levels",
    "posterior",
    "random_theta",
    "repeated",
    "split",
]


class Design(NamedTuple):
    """Rows and the factors they belong to.

    ``x`` (n, n_features), ``y`` (n,), ``weights`` (n,) whole numbers; ``codes`` has an array (n,)
    for each factor, ``slopes`` the positions of its features with varying slopes, ascending.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    codes: list[np.ndarray]
    slopes: list[tuple[int, ...]]


class Theta(NamedTuple):
    """Noise's standard deviation, and for each factor ``L`` (q, q), any root of its Sigma."""

    sigma: float
    chols: list[np.ndarray]


class Prior(NamedTuple):
    """Normal of the coefficients: mean (p,), covariance (p, p), the intercept last."""

    mean: np.ndarray
    cov: np.ndarray


def log_marginal(design: Design, theta: Theta, prior: Prior | None = None) -> float:
    """``log p(y | theta)``, effects and coefficients integrated out.

    Without a prior the coefficients have density 1 everywhere. That is the REML likelihood,

        -1/2 [(n - p) log 2 pi + log|V| + log|X' V^-1 X| + r' V^-1 r],    r = y - X beta_hat,

    -1/2 times lme4's REML criterion, and the limit for c to infinity of what ``Normal(m, c I)``
    gives, less the log of that prior's density at its mean, ``-p/2 log(2 pi c)``.
    """
    x, y, z, d = _matrices(design, theta)
    v = _covariance(z, d, theta.sigma)
    if prior is not None:
        return _log_normal(y - x @ prior.mean, v + x @ prior.cov @ x.T)
    information = x.T @ np.linalg.solve(v, x)
    beta = np.linalg.solve(information, x.T @ np.linalg.solve(v, y))
    flat = x.shape[1] * np.log(2 * np.pi) - _log_det(information)
    return _log_normal(y - x @ beta, v) + 0.5 * flat


def posterior(
    design: Design, theta: Theta, prior: Prior | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (m,) and covariance (m, m) of ``[beta, b_1, b_2, ...]`` given theta.

    Effects are in the order of the levels, all of a level together; `split` takes them apart.
    """
    x, y, z, d = _matrices(design, theta)
    v = _covariance(z, d, theta.sigma)
    precision, pull = x.T @ np.linalg.solve(v, x), x.T @ np.linalg.solve(v, y)
    if prior is not None:
        precision = precision + np.linalg.inv(prior.cov)
        pull = pull + np.linalg.solve(prior.cov, prior.mean)
    beta, beta_cov = np.linalg.solve(precision, pull), np.linalg.inv(precision)
    # b | beta, y is normal with mean `gain @ (y - x beta)` and the covariance `rest`
    gain = d @ np.linalg.solve(v, z).T
    rest = d - gain @ z @ d
    shift = np.vstack([np.eye(x.shape[1]), -gain @ x])
    cov = shift @ beta_cov @ shift.T
    cov[len(beta) :, len(beta) :] += rest
    return np.concatenate([beta, gain @ (y - x @ beta)]), cov


def leave_rows_out(design: Design, theta: Theta, prior: Prior | None = None) -> np.ndarray:
    """``log p(y_i | y_-i, theta)`` (n,): of a row with weight w, one of its w copies is left out.

    A row that alone decides a coefficient has no such density without a prior: a singular matrix
    is an error then.
    """
    whole = log_marginal(design, theta, prior)
    fewer = design.weights - np.eye(len(design.y), dtype=int)
    parts = [log_marginal(design._replace(weights=w), theta, prior) for w in fewer]
    return whole - np.array(parts)


def split(design: Design, values: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Take ``[beta, b_1, b_2, ...]`` apart: beta (p,), and b (levels, q) of every factor."""
    p = design.x.shape[1] + 1
    shapes = [
        (levels, len(slopes) + 1)
        for levels, slopes in zip(n_levels(design), design.slopes, strict=True)
    ]
    ends = p + np.cumsum([0, *map(np.prod, shapes)])
    effects = [values[ends[k] : ends[k + 1]].reshape(shape) for k, shape in enumerate(shapes)]
    return values[:p], effects


def n_levels(design: Design) -> list[int]:
    """Number of levels of each factor, those without rows below the highest included."""
    return [int(codes.max()) + 1 for codes in design.codes]


def repeated(design: Design) -> Design:
    """Write every row as often as its weight says."""
    again = np.repeat(np.arange(len(design.y)), design.weights)
    return design._replace(
        x=design.x[again],
        y=design.y[again],
        weights=np.ones(len(again), int),
        codes=[codes[again] for codes in design.codes],
    )


def _matrices(design, theta):
    """Rows repeated, ``X`` (n, p), ``y``, ``Z`` (n, effects), the covariance of all effects."""
    sizes = n_levels(design)  # of all rows, also those whose weight is 0
    rows = repeated(design)
    x = np.column_stack([rows.x, np.ones(len(rows.y))])
    blocks, covs = [np.zeros((len(x), 0))], []
    for codes, slopes, size, chol in zip(rows.codes, rows.slopes, sizes, theta.chols, strict=True):
        columns = x[:, [*slopes, -1]]
        indicator = codes[:, None] == np.arange(size)
        blocks.append((indicator[:, :, None] * columns[:, None, :]).reshape(len(x), -1))
        covs.append(np.kron(np.eye(size), chol @ chol.T))
    return x, rows.y, np.hstack(blocks), _block_diagonal(covs)


def _block_diagonal(blocks):
    size = sum(map(len, blocks))
    whole, start = np.zeros((size, size)), 0
    for block in blocks:
        end = start + len(block)
        whole[start:end, start:end] = block
        start = end
    return whole


def _covariance(z, d, sigma):
    return z @ d @ z.T + sigma**2 * np.eye(len(z))


def _log_det(matrix):
    sign, value = np.linalg.slogdet(matrix)
    if sign <= 0 or not np.isfinite(value):
        raise np.linalg.LinAlgError("The matrix is not positive definite.")
    return value


def _log_normal(rest, cov):
    quadratic = rest @ np.linalg.solve(cov, rest)
    return -0.5 * (len(rest) * np.log(2 * np.pi) + _log_det(cov) + quadratic)


def random_theta(design: Design, rng: np.random.Generator) -> Theta:
    """Draw parameters of the size of 1, the effects of a factor correlated."""
    sizes = [len(slopes) + 1 for slopes in design.slopes]
    chols = [
        np.tril(rng.normal(scale=0.4, size=(q, q)), -1) + np.diag(rng.uniform(0.4, 1.2, q))
        for q in sizes
    ]
    return Theta(rng.uniform(0.5, 1.5), chols)


def nested(rng):
    """Cafes in states: a level of the second factor lies in one level of the first."""
    cafe = np.repeat(np.arange(12), 4)
    return _rows(rng, [cafe // 3, cafe], [(0,), (0,)])


def nested_deep(rng):
    """Three levels, and other slopes on each."""
    pupil = np.repeat(np.arange(24), 2)
    return _rows(rng, [pupil // 8, pupil // 2, pupil], [(0, 1), (1,), ()], n_features=2)


def crossed(rng):
    """Every level of one with every level of the other, two rows each."""
    first, second = np.divmod(np.repeat(np.arange(20), 2), 5)
    return _rows(rng, [first, second], [(0,), ()])


def partially_crossed(rng):
    """30% of the cells have rows; other slopes on each factor."""
    full = np.arange(80)
    diagonal = full[np.divmod(full, 10)[0] == np.divmod(full, 10)[1] % 8]  # every level has a row
    more = rng.choice(np.setdiff1d(full, diagonal), 24 - len(diagonal), replace=False)
    first, second = np.divmod(np.repeat(np.concatenate([diagonal, more]), 2), 10)
    return _rows(rng, [first, second], [(1,), (0, 1)], n_features=2)


def three_crossed(rng):
    """Three factors, of which the third is nearly nested in the second."""
    first, second = rng.permutation(np.arange(60) % 10), rng.permutation(np.arange(60) % 6)
    third = np.where(rng.random(60) < 0.9, second // 2, np.arange(60) % 3)
    return _rows(rng, [first, second, third], [(0,), (), ()])


def unbalanced(rng):
    """Crossed; the most frequent level has many times the rows of the rarest, which has one."""
    first = np.concatenate([np.arange(8), rng.choice(8, 42, p=0.5 ** np.arange(8) / 1.9921875)])
    second = np.concatenate([np.arange(6), rng.choice(6, 44, p=0.4 ** np.arange(6) / 1.65984)])
    return _rows(rng, [first, rng.permutation(second)], [(0,), (0,)])


def weighted(rng):
    """Crossed, with rows that count up to three times."""
    first, second = rng.integers(5, size=30), rng.integers(4, size=30)
    return _rows(rng, [first, second], [(0,), ()], weights=rng.integers(1, 4, 30))


def disconnected(rng):
    """Two blocks of rows that share no level of any factor."""
    block = np.repeat([0, 1], 24)
    first, second = 3 * block + rng.integers(3, size=48), 4 * block + rng.integers(4, size=48)
    return _rows(rng, [first, second], [(0,), (0,)])


def same_twice(rng):
    """The same factor under two names: only the sum of the two covariances is seen."""
    codes = rng.integers(6, size=36)
    return _rows(rng, [codes, codes.copy()], [(0,), (0,)])


def one_level(rng):
    """The first factor has one level, so that it cannot be told from the coefficients."""
    return _rows(rng, [np.zeros(30, int), rng.integers(6, size=30)], [(0,), (0,)])


def one_row_levels(rng):
    """Every row is a level of the second factor, which cannot be told from the noise."""
    return _rows(rng, [rng.integers(6, size=30), rng.permutation(30)], [(0,), ()])


DESIGNS: dict[str, Callable[[np.random.Generator], Design]] = {
    maker.__name__: maker
    for maker in (
        nested,
        nested_deep,
        crossed,
        partially_crossed,
        three_crossed,
        unbalanced,
        weighted,
        disconnected,
        same_twice,
        one_level,
        one_row_levels,
    )
}


def _rows(rng, codes, slopes, n_features=1, weights=None):
    """Features, and responses from the model; rows in random order, codes without gaps."""
    n = len(codes[0])
    order = rng.permutation(n)
    codes = [np.unique(c, return_inverse=True)[1][order] for c in codes]
    x = rng.normal(size=(n, n_features))
    columns = np.column_stack([x, np.ones(n)])
    y = 1 + x.sum(1) + rng.normal(size=n)
    for c, s in zip(codes, slopes, strict=True):
        b = rng.normal(scale=0.7, size=(c.max() + 1, len(s) + 1))
        y = y + (columns[:, [*s, -1]] * b[c]).sum(1)
    return Design(x, y, np.ones(n, int) if weights is None else weights, codes, slopes)
