"""Normal densities of rows that are left out, in extended precision: nothing is lost to rounding.

The covariance of all rows given the variance parameters, effects and coefficients integrated out,
is ``V = sigma^2 I + sum_k Z_k Sigma_k Z_k' + X C X'``; rows i given the others -i have the mean
``r_i - V_i,-i V_-i^-1 r_-i`` of their residuals and the variance that is the Schur complement.
"""

import numpy as np
import pytest

__all__ = ["Wide", "cholesky", "conditional", "covariance", "solve_lower"]

Wide = np.longdouble

if np.finfo(Wide).eps > 1e-18:
    pytest.skip("this machine has no extended precision", allow_module_level=True)


def covariance(x, zs, codes, chols, sigma, prior_cov) -> np.ndarray:
    """Of the rows: ``x`` (n, p); per factor ``zs`` (n, q), ``codes`` (n,), ``chols`` (q, q)."""
    x = x.astype(Wide)
    v = Wide(sigma) ** 2 * np.eye(len(x), dtype=Wide) + x @ prior_cov.astype(Wide) @ x.T
    for z, of_factor, chol in zip(zs, codes, chols, strict=True):
        lines = z.astype(Wide) @ chol.astype(Wide)
        v += (of_factor[:, None] == of_factor) * (lines @ lines.T)
    return v


def conditional(v, r, out) -> float:
    """Log density of the residuals ``r[out]`` given the others, ``out`` a mask."""
    return float(log_normal(v, r) - log_normal(v[np.ix_(~out, ~out)], r[~out]))


def log_normal(v, r):
    """Log density of Normal(0, v) at r."""
    root = cholesky(v)
    white = solve_lower(root, r.astype(Wide))
    return -0.5 * (len(r) * np.log(2 * Wide(np.pi)) + white @ white) - np.log(np.diag(root)).sum()


def cholesky(v):
    """Lower triangular root."""
    root = np.zeros_like(v)
    for j in range(len(v)):
        root[j, j] = np.sqrt(v[j, j] - root[j, :j] @ root[j, :j])
        root[j + 1 :, j] = (v[j + 1 :, j] - root[j + 1 :, :j] @ root[j, :j]) / root[j, j]
    return root


def solve_lower(root, b):
    """``root^-1 b`` of a lower triangular root."""
    white = np.zeros_like(b)
    for i in range(len(b)):
        white[i] = (b[i] - root[i, :i] @ white[:i]) / root[i, i]
    return white
