"""Simulated data from the hierarchical model, returned with the coefficients that made them.

The model is ``y_i = intercept + x_i'coef + sum over factors of z_i'b_g(i) + noise_i`` with
``b_g ~ Normal(0, diag(tau) Omega diag(tau))``: Bates et al. (2015), J. Stat. Softw. 67(1), sec. 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch, check_random_state

from skhier.datasets._arguments import (
    DrawnFactor,
    Key,
    Slopes,
    Spec,
    as_count,
    as_floats,
    as_number,
    depth,
    factor_keys,
    factor_name,
    per_factor,
    read_eta,
    read_factors,
    read_group_corr,
    read_group_scale,
)

__all__ = ["make_hierarchical"]


def make_hierarchical(
    n_samples: int = 1000,
    n_features: int = 2,
    *,
    groups: int | Mapping[Key, int] | None = None,
    slopes: Slopes | Mapping[Key, Slopes] = "all",
    intercept: float = 0.0,
    coef: Any = None,
    group_scale: Any = 1.0,
    group_corr: Any = None,
    eta: float = 2.0,
    noise_scale: float = 1.0,
    balanced: bool = True,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Simulate a hierarchical regression whose true coefficients are known.

    Features and noise are independent standard normal (noise times `noise_scale`). Every grouping
    factor adds zero-mean, multivariate normal deviations to the intercept and to its slopes.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    n_features : int, default=2
        Number of features, named ``x0``, ``x1``, ...; may be 0.
    groups : int, dict or None, default=None
        The grouping factors: None is one factor ``"group"`` with 20 levels, an integer one factor
        with that many. A dict maps columns to numbers of levels; several are crossed. A tuple
        nests: ``{"state": 5, ("state", "cafe"): 4}`` has four cafes *per state*, so that the
        factor ``"state:cafe"`` has 20 levels, while the column ``cafe`` holds only four labels,
        used again in every state.
    slopes : "all", list of features, None or dict, default="all"
        Features whose slope varies; the intercept always does. None: only the intercept. A dict
        maps every factor to one of these.
    intercept : float, default=0.0
        Population intercept, at X = 0.
    coef : array-like of shape (n_features,), default=None
        Population slopes; None draws them from the standard normal.
    group_scale : float, array-like or dict, default=1.0
        Standard deviation (tau) of each effect, the intercept first and then the slopes as listed
        in `slopes`; one number serves all. A dict maps every factor to one of these.
    group_corr : None, float, array-like, "lkj" or dict, default=None
        Correlation (Omega) of a factor's effects: None is independence, a number the correlation
        of every pair, an array of shape (n_effects, n_effects) the matrix itself, and ``"lkj"``
        draws one from LKJ(`eta`). A dict maps every factor to one of these.
    eta : float, default=2.0
        Concentration of LKJ: 1 is flat over correlation matrices. Read only where `group_corr`
        is ``"lkj"``.
    noise_scale : float, default=1.0
        Standard deviation of the noise.
    balanced : bool, default=True
        True: a factor's levels have equally many rows, to within one. False: their shares are
        drawn from a flat Dirichlet, and every level still has a row if `n_samples` allows. Rows
        are in random order, and crossed factors are paired at random.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : int, RandomState instance or None, default=None
        An integer gives the same data in every call. None uses NumPy's global generator.

    Returns
    -------
    data : sklearn.utils.Bunch
        A dictionary whose keys are also attributes:

        - ``data``: DataFrame (n_samples, n_features + n_factors), the features and then the
          grouping columns, whose labels are strings that sort in order of their number.
        - ``target``: Series (n_samples,) named ``y``.
        - ``feature_names``, ``target_names``: lists of the columns' names.
        - ``groups``: what `HierarchicalSlopesRegressor` takes as ``groups``: a name, a list of
          several factors, or, if `slopes` is a dict, a dict factor -> slopes. If `slopes` is a
          list or None, the estimator needs the same ``slopes``.
        - ``truth``: a Bunch of ``intercept``, ``coef`` (Series), ``noise_scale``, ``mean`` (Series
          of y without the noise) and four dicts keyed by the factor's name: ``group_scale``
          (Series), ``group_corr`` (DataFrame), ``group_effects`` (DataFrame level x effect: the
          deviations b) and ``group_coef`` (DataFrame: population value plus deviation). Effects
          are named ``"intercept"``, ``"x0"``, ...; a level of a nested factor is
          ``"state_0:cafe_1"``. Levels without rows are listed too.
    (data, target) : tuple if `return_X_y`
        The first two of these.

    Raises
    ------
    ValueError
        If an argument does not fit the model: a count too small, an unknown factor or feature, a
        wrong length, a negative scale, or a matrix that is no correlation matrix.
    TypeError
        If `balanced` is not a bool, or `slopes` neither "all" nor None nor a list.

    References
    ----------
    LKJ: Lewandowski, Kurowicka and Joe (2009), J. Multivar. Anal. 100, 1989-2001 (the extended
    onion method).

    Examples
    --------
    >>> from skhier.datasets import make_hierarchical
    >>> sim = make_hierarchical(200, 1, groups={"state": 5, ("state", "cafe"): 4}, random_state=0)
    >>> sim.groups
    ['state', ('state', 'cafe')]
    >>> list(sim.data.columns)
    ['x0', 'state', 'cafe']
    >>> sim.data["cafe"].nunique(), sim.truth.group_effects["state:cafe"].shape
    (4, (20, 2))
    """
    n_samples = as_count("n_samples", n_samples, 1)
    if not isinstance(balanced, bool):
        raise TypeError(f"`balanced` must be True or False; got {balanced!r}.")
    features = [f"x{j}" for j in range(as_count("n_features", n_features, 0))]
    factors = read_factors(groups, slopes, features)
    spec = Spec(
        features=features,
        factors=factors,
        intercept=as_number("intercept", intercept),
        coef=None if coef is None else as_floats("coef", coef, (len(features),)),
        group_scale=read_group_scale(group_scale, factors),
        group_corr=read_group_corr(group_corr, factors),
        eta=read_eta(eta),
        noise_scale=as_number("noise_scale", noise_scale, minimum=0.0),
        balanced=balanced,
    )
    data, target, truth = _draw_data(n_samples, spec, check_random_state(random_state))
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        feature_names=list(data.columns),
        target_names=[target.name],
        groups=_estimator_groups(factors, slopes),
        truth=truth,
    )


def _draw_data(
    n_samples: int, spec: Spec, rng: np.random.RandomState
) -> tuple[pd.DataFrame, pd.Series, Bunch]:
    x = rng.standard_normal((n_samples, len(spec.features)))
    codes = _draw_codes(n_samples, spec.factors, spec.balanced, rng)
    truth = _draw_truth(spec, rng)
    data = _data_frame(x, codes, spec)
    truth.mean = pd.Series(_mean(x, codes, spec, truth), name="mean")
    noise = truth.noise_scale * rng.standard_normal(n_samples)
    return data, (truth.mean + noise).rename("y"), truth


def _draw_truth(spec: Spec, rng: np.random.RandomState) -> Bunch:
    coef = rng.standard_normal(len(spec.features)) if spec.coef is None else spec.coef
    truth = Bunch(
        intercept=spec.intercept,
        coef=pd.Series(coef, index=pd.Index(spec.features, dtype="str"), name="coef"),
        noise_scale=spec.noise_scale,
        group_scale={},
        group_corr={},
        group_effects={},
        group_coef={},
    )
    population = pd.Series([spec.intercept, *coef], index=["intercept", *spec.features])
    for name, factor in spec.factors.items():
        effects = pd.Index(factor.effects)
        tau, corr = spec.group_scale[name], spec.group_corr[name]
        omega = _draw_correlations(len(effects), spec.eta, rng) if isinstance(corr, str) else corr
        b = _draw_effects(len(factor.levels), tau, omega, rng)
        deviations = pd.DataFrame(b, index=pd.Index(factor.levels, name=name), columns=effects)
        truth.group_scale[name] = pd.Series(tau, index=effects, name=name)
        truth.group_corr[name] = pd.DataFrame(omega, index=effects, columns=effects)
        truth.group_effects[name] = deviations
        truth.group_coef[name] = deviations + population[effects]
    return truth


def _draw_effects(
    n_levels: int, tau: np.ndarray, omega: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """Draw (n_levels, q) deviations; `omega` may be singular, so no Cholesky factor is taken."""
    values, vectors = np.linalg.eigh(omega)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    effects: np.ndarray = rng.standard_normal((n_levels, len(tau))) @ root * tau
    return effects


def _draw_correlations(dim: int, eta: float, rng: np.random.RandomState) -> np.ndarray:
    """Draw a correlation matrix by the onion method, one row of its Cholesky factor at a time."""
    chol = np.eye(dim)
    for k in range(1, dim):
        # y ~ Beta(k/2, beta), beta = eta + (dim - 1 - k)/2  (Lewandowski et al. 2009)
        y = rng.beta(k / 2, eta + (dim - 1 - k) / 2)
        direction = rng.standard_normal(k)
        chol[k, :k] = np.sqrt(y) * direction / np.linalg.norm(direction)
        chol[k, k] = np.sqrt(1.0 - y)
    corr = chol @ chol.T
    np.fill_diagonal(corr, 1.0)
    return corr


def _draw_codes(
    n_samples: int, factors: dict[str, DrawnFactor], balanced: bool, rng: np.random.RandomState
) -> dict[str, np.ndarray]:
    """Draw the level of every row, parents before the factors nested in them."""
    codes: dict[str, np.ndarray] = {}
    for name, factor in sorted(factors.items(), key=lambda item: depth(item[1].key)):
        n_children = len(factor.labels)
        n_parents = len(factor.levels) // n_children
        parent = np.zeros(n_samples, int) if factor.parent is None else codes[factor.parent]
        rank = _rank_within(parent, rng)
        child = rank % n_children
        if not balanced:
            free = rank >= n_children * _rows_needed(name, factors)
            child[free] = _draw_unequal(parent[free], n_parents, n_children, rng)
        codes[name] = parent * n_children + child
    return codes


def _rank_within(parent: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Number the rows of each parent 0, 1, ... in random order."""
    order = np.lexsort((rng.random_sample(len(parent)), parent))
    ordered = parent[order]
    rank = np.empty_like(parent)
    rank[order] = np.arange(len(parent)) - np.searchsorted(ordered, ordered, side="left")
    return rank


def _rows_needed(name: str, factors: dict[str, DrawnFactor]) -> int:
    """Rows a level must have so that every level nested in it can have one."""
    nested = (
        len(child.labels) * _rows_needed(child_name, factors)
        for child_name, child in factors.items()
        if child.parent == name
    )
    return max(nested, default=1)


def _draw_unequal(
    parent: np.ndarray, n_parents: int, n_children: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw a child for each row, with shares of its own for each parent."""
    shares = rng.dirichlet(np.ones(n_children), size=n_parents)
    edges = np.arange(n_parents)[:, None] + np.cumsum(shares, axis=1)
    places = np.searchsorted(edges.ravel(), parent + rng.random_sample(len(parent)), side="right")
    children: np.ndarray = np.clip(places - parent * n_children, 0, n_children - 1)
    return children


def _data_frame(x: np.ndarray, codes: dict[str, np.ndarray], spec: Spec) -> pd.DataFrame:
    data = pd.DataFrame(x, columns=pd.Index(spec.features, dtype="str"))
    for name, factor in spec.factors.items():
        data[factor.column] = pd.Index(factor.labels).take(codes[name] % len(factor.labels))
    return data


def _mean(x: np.ndarray, codes: dict[str, np.ndarray], spec: Spec, truth: Bunch) -> np.ndarray:
    mean: np.ndarray = truth.intercept + x @ truth.coef.to_numpy()
    for name, factor in spec.factors.items():
        b = truth.group_effects[name].to_numpy()[codes[name]]
        varying = [spec.features.index(effect) for effect in factor.effects[1:]]
        mean = mean + b[:, 0] + np.sum(x[:, varying] * b[:, 1:], axis=1)
    return mean


def _estimator_groups(factors: dict[str, DrawnFactor], slopes: Any) -> Any:
    keys = factor_keys(factors)
    if isinstance(slopes, Mapping):
        by_name = per_factor("slopes", slopes, keys)
        return {key: by_name[factor_name(key)] for key in keys}
    return keys[0] if len(keys) == 1 else keys
