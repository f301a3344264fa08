"""Rows of known noise, slowly: the full covariance of all rows at every point of a grid of tau.

    y | tau ~ Normal(0, C),  C = diag(se^2) + sum_j tau_j^2 Z_j Z_j' + X S X'

with ``beta ~ Normal(0, S)`` and ``tau_j ~ Exponential(1)``, each on a grid of log tau by the
trapezoidal rule. All else follows by conditioning normals, or from differences of evidences.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
from scipy import stats
from scipy.special import logsumexp

from skhier import HierarchicalSlopesRegressor, Prior

PRIOR = Prior(
    intercept=dist.Normal(0.0, 3.0),
    coef={"x": dist.Normal(0.0, 1.0)},
    group_scale=dist.Exponential(1.0),
)
COEF_VARIANCE = np.diag([9.0, 1.0])
N_GRID = {0: 1, 1: 400, 2: 60}  # points of log tau, a dimension
MODELS = {
    "intercepts": {"groups": "g", "slopes": None},
    "slopes": {"groups": "g", "slopes": ["x"], "correlated": False},
    "crossed": {"groups": {"g": None, "h": None}},
    "no groups": {"groups": None},
}
EFFECTS = {  # factor, and the column of X that its effect multiplies
    "intercepts": [("g", None)],
    "slopes": [("g", None), ("g", "x")],
    "crossed": [("g", None), ("h", None)],
    "no groups": [],
}


def make_table(n_levels=5, seed=0):
    """X (x, g, h, se) and y; 14 rows, standard errors a factor of 20 apart, level g4 of one row."""
    rng = np.random.default_rng(seed)
    code = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4])
    other = rng.permutation(np.arange(14) % 3)
    X = pd.DataFrame(
        {
            "x": rng.normal(size=14),
            "g": [f"g{c}" for c in code],
            "h": [f"h{c}" for c in other],
            "se": np.exp(rng.uniform(np.log(0.1), np.log(2.0), 14)),
        }
    )
    effects = rng.normal(0, 1.0, n_levels)[code]
    y = 0.7 + 0.5 * X["x"] + effects + X["se"] * rng.normal(size=14)
    return X, y.to_numpy()


def model_of(name, **params):
    """An estimator of one of `MODELS`."""
    settings = {"prior": PRIOR, "random_state": 0} | MODELS[name] | params
    return HierarchicalSlopesRegressor(known_noise="se", **settings)


def columns_of(name, X):
    """What the estimator takes: without factors that it would take for features."""
    used = {factor for factor, _ in EFFECTS[name]}
    return X.drop(columns=[factor for factor in ("g", "h") if factor not in used])


class Oracle(NamedTuple):
    """Covariances (n_points, n, n) of y, without noise, and the log masses of the points."""

    signal: np.ndarray
    noise: np.ndarray
    log_mass: np.ndarray

    @classmethod
    def of(cls, name, X):
        """``X`` may hold rows twice, and rows to predict."""
        effects = EFFECTS[name]
        axis = np.linspace(np.log(1e-4), np.log(60.0), N_GRID[len(effects)])
        x = np.column_stack([np.ones(len(X)), X["x"]])
        fixed = x @ COEF_VARIANCE @ x.T
        shared = [
            np.equal.outer(X[factor].to_numpy(), X[factor].to_numpy())
            * (1.0 if column is None else np.outer(X[column], X[column]))
            for factor, column in effects
        ]
        signal, log_mass = [], []
        for point in product(axis, repeat=len(effects)):
            parts = (np.exp(2 * t) * part for t, part in zip(point, shared, strict=True))
            signal.append(sum(parts, fixed))
            log_mass.append(sum(t - np.exp(t) + np.log(axis[1] - axis[0]) for t in point))
        return cls(np.array(signal), X["se"].to_numpy() ** 2, np.array(log_mass, float))

    def log_joint(self, y, rows=None):
        """Log density of some of the rows at each point, and the points' masses, (n_points,)."""
        rows = np.arange(len(y)) if rows is None else rows
        signal = self.signal[:, rows][:, :, rows] + np.diag(self.noise[rows])
        quadratic = np.einsum("i,sij,j->s", y[rows], np.linalg.inv(signal), y[rows])
        log_det = np.linalg.slogdet(signal)[1]
        return self.log_mass - 0.5 * (len(rows) * np.log(2 * np.pi) + log_det + quadratic)

    def log_evidence(self, y, rows=None):
        """Of some of the rows."""
        return logsumexp(self.log_joint(y, rows))

    def lines(self, y, rows, new):
        """Weights, means and variances (n_points, k) of the lines of new rows given others."""
        log_joint = self.log_joint(y, rows)
        signal = self.signal[:, rows][:, :, rows] + np.diag(self.noise[rows])
        cross = self.signal[:, new][:, :, rows]
        gain = np.swapaxes(np.linalg.solve(signal, np.swapaxes(cross, 1, 2)), 1, 2)
        prior = np.diagonal(self.signal[:, new][:, :, new], axis1=1, axis2=2)
        weights = np.exp(log_joint - logsumexp(log_joint))
        return weights, gain @ y[rows], prior - (gain * cross).sum(-1)


def mixture_cdf(y, weights, mean, sd):
    """Of normals, row by row: y (k,), mean and sd (n_points, k)."""
    return weights @ stats.norm.cdf((y - mean) / sd)
