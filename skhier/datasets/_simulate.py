"""Simulated data from the hierarchical model, returned with the coefficients that made them.

The model is ``y_i = intercept + x_i'coef + sum over factors of z_i'b_g(i) + noise_i`` with
``b_g ~ Normal(0, diag(tau) Omega diag(tau))``: Bates et al. (2015), J. Stat. Softw. 67(1), sec. 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.utils import Bunch

__all__ = ["make_hierarchical"]

Key: TypeAlias = str | tuple[str, ...]
Slopes: TypeAlias = str | Sequence[str] | None


class _Factor(NamedTuple):
    key: Key
    column: str
    parent: str | None  # name of the factor it is nested in
    labels: list[str]  # of the column; a nested factor uses them again in every parent
    levels: list[str]  # len(labels) per level of the parent, in order of the parent
    effects: list[str]


class _Spec(NamedTuple):
    """Checked arguments; dicts have one entry per factor. None and "lkj" are still to be drawn."""

    features: list[str]
    factors: dict[str, _Factor]
    intercept: float
    coef: np.ndarray | None
    group_scale: dict[str, np.ndarray]
    group_corr: dict[str, np.ndarray | str]
    eta: float
    noise_scale: float
    balanced: bool


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
    from sklearn.utils import Bunch, check_random_state

    n_samples = _as_count("n_samples", n_samples, 1)
    if not isinstance(balanced, bool):
        raise TypeError(f"`balanced` must be True or False; got {balanced!r}.")
    features = [f"x{j}" for j in range(_as_count("n_features", n_features, 0))]
    factors = _read_factors(groups, slopes, features)
    spec = _Spec(
        features=features,
        factors=factors,
        intercept=_as_number("intercept", intercept),
        coef=None if coef is None else _as_floats("coef", coef, (len(features),)),
        group_scale=_read_group_scale(group_scale, factors),
        group_corr=_read_group_corr(group_corr, factors),
        eta=_read_eta(eta),
        noise_scale=_as_number("noise_scale", noise_scale, minimum=0.0),
        balanced=balanced,
    )
    data, target, truth = _draw(n_samples, spec, check_random_state(random_state))
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


def _draw(
    n_samples: int, spec: _Spec, rng: np.random.RandomState
) -> tuple[pd.DataFrame, pd.Series, Bunch]:
    import pandas as pd

    x = rng.standard_normal((n_samples, len(spec.features)))
    codes = _draw_codes(n_samples, spec.factors, spec.balanced, rng)
    truth = _draw_truth(spec, rng)
    data = _data_frame(x, codes, spec)
    truth.mean = pd.Series(_mean(x, codes, spec, truth), name="mean")
    noise = truth.noise_scale * rng.standard_normal(n_samples)
    return data, (truth.mean + noise).rename("y"), truth


def _draw_truth(spec: _Spec, rng: np.random.RandomState) -> Bunch:
    import pandas as pd
    from sklearn.utils import Bunch

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
        omega = _draw_lkj(len(effects), spec.eta, rng) if isinstance(corr, str) else corr
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
    import numpy as np

    values, vectors = np.linalg.eigh(omega)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    effects: np.ndarray = rng.standard_normal((n_levels, len(tau))) @ root * tau
    return effects


def _draw_lkj(dim: int, eta: float, rng: np.random.RandomState) -> np.ndarray:
    """Draw a correlation matrix by the onion method, one row of its Cholesky factor at a time."""
    import numpy as np

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
    n_samples: int, factors: dict[str, _Factor], balanced: bool, rng: np.random.RandomState
) -> dict[str, np.ndarray]:
    """Draw the level of every row, parents before the factors nested in them."""
    import numpy as np

    codes: dict[str, np.ndarray] = {}
    for name, factor in sorted(factors.items(), key=lambda item: _depth(item[1].key)):
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
    import numpy as np

    order = np.lexsort((rng.random_sample(len(parent)), parent))
    ordered = parent[order]
    rank = np.empty_like(parent)
    rank[order] = np.arange(len(parent)) - np.searchsorted(ordered, ordered, side="left")
    return rank


def _rows_needed(name: str, factors: dict[str, _Factor]) -> int:
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
    import numpy as np

    shares = rng.dirichlet(np.ones(n_children), size=n_parents)
    edges = np.arange(n_parents)[:, None] + np.cumsum(shares, axis=1)
    places = np.searchsorted(edges.ravel(), parent + rng.random_sample(len(parent)), side="right")
    children: np.ndarray = np.clip(places - parent * n_children, 0, n_children - 1)
    return children


def _data_frame(x: np.ndarray, codes: dict[str, np.ndarray], spec: _Spec) -> pd.DataFrame:
    import pandas as pd

    data = pd.DataFrame(x, columns=pd.Index(spec.features, dtype="str"))
    for name, factor in spec.factors.items():
        data[factor.column] = pd.Index(factor.labels).take(codes[name] % len(factor.labels))
    return data


def _mean(x: np.ndarray, codes: dict[str, np.ndarray], spec: _Spec, truth: Bunch) -> np.ndarray:
    import numpy as np

    mean: np.ndarray = truth.intercept + x @ truth.coef.to_numpy()
    for name, factor in spec.factors.items():
        b = truth.group_effects[name].to_numpy()[codes[name]]
        varying = [spec.features.index(effect) for effect in factor.effects[1:]]
        mean = mean + b[:, 0] + np.sum(x[:, varying] * b[:, 1:], axis=1)
    return mean


def _estimator_groups(factors: dict[str, _Factor], slopes: Any) -> Any:
    keys = _keys(factors)
    if isinstance(slopes, Mapping):
        by_name = _per_factor("slopes", slopes, keys)
        return {key: by_name[_name(key)] for key in keys}
    return keys[0] if len(keys) == 1 else keys


def _read_factors(groups: Any, slopes: Any, features: list[str]) -> dict[str, _Factor]:
    sizes = _read_sizes(groups)
    slopes_of = _per_factor("slopes", slopes, list(sizes))
    found: dict[str, _Factor] = {}
    for key in sorted(sizes, key=_depth):
        column, parent = (key, None) if isinstance(key, str) else (key[-1], _name(key[:-1]))
        labels = _labels(column, sizes[key])
        above = None if parent is None else found[parent].levels
        levels = labels if above is None else [f"{a}:{label}" for a in above for label in labels]
        effects = ["intercept", *_read_slopes(slopes_of[_name(key)], features)]
        found[_name(key)] = _Factor(key, column, parent, labels, levels, effects)
    factors = {_name(key): found[_name(key)] for key in sizes}
    columns = [factor.column for factor in factors.values()]
    if len({*columns, *features}) < len(columns) + len(features):
        raise ValueError(
            f"`groups` must name every column once and differently from the features; "
            f"got {columns} beside {features[:5]}."
        )
    return factors


def _read_sizes(groups: Any) -> dict[Key, int]:
    """Levels per factor (per level of the parent, if nested), once its keys are sound."""
    if groups is None:
        return {"group": 20}
    if not isinstance(groups, Mapping):
        return {"group": _as_count("groups", groups, 1)}
    if not groups:
        raise ValueError("`groups` is an empty dict; name at least one grouping column.")
    sizes = {key: _as_count(f"groups[{key!r}]", size, 1) for key, size in groups.items()}
    for key in sizes:
        parts = key if isinstance(key, tuple) and len(key) > 1 else (key,)
        if not all(isinstance(part, str) and part and ":" not in part for part in parts):
            raise ValueError(
                f"`groups` must be keyed by column names without ':' or tuples of two or more "
                f"of them; got {key!r}."
            )
        parent = parts[0] if len(parts) == 2 else parts[:-1]
        if len(parts) > 1 and parent not in sizes:
            raise ValueError(f"`groups` nests {key!r} in {parent!r}; add {parent!r} to the dict.")
    return sizes


def _read_slopes(slopes: Any, features: list[str]) -> list[str]:
    if slopes is None:
        return []
    if isinstance(slopes, str) and slopes == "all":
        return features
    if isinstance(slopes, str) or not isinstance(slopes, Iterable):
        raise TypeError(f"`slopes` must be 'all', None or a list of features; got {slopes!r}.")
    names = list(slopes)
    unknown = [name for name in names if name not in features]
    if unknown:
        raise ValueError(
            f"`slopes` names {unknown[:5]}, which are not features; there are {len(features)}: "
            f"{features[:5]}."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"`slopes` must name a feature only once; got {names}.")
    return names


def _read_group_scale(group_scale: Any, factors: dict[str, _Factor]) -> dict[str, np.ndarray]:
    import numpy as np

    scales = {}
    for name, value in _per_factor("group_scale", group_scale, _keys(factors)).items():
        effects = factors[name].effects
        shape = () if np.ndim(value) == 0 else (len(effects),)
        scale = _as_floats("group_scale", value, shape, f"the effects of {name!r}: {effects}")
        if np.any(scale < 0.0):
            raise ValueError(f"`group_scale` must not be negative; got {value!r}.")
        scales[name] = np.broadcast_to(scale, len(effects)).copy()
    return scales


def _read_group_corr(group_corr: Any, factors: dict[str, _Factor]) -> dict[str, np.ndarray | str]:
    import numpy as np

    corrs: dict[str, np.ndarray | str] = {}
    for name, value in _per_factor("group_corr", group_corr, _keys(factors)).items():
        effects = factors[name].effects
        if isinstance(value, str) and value == "lkj":
            corrs[name] = value
            continue
        value = 0.0 if value is None else value
        shape = () if np.ndim(value) == 0 else (len(effects), len(effects))
        given = _as_floats("group_corr", value, shape, f"the effects of {name!r}: {effects}")
        corr = np.where(np.eye(len(effects), dtype=bool), 1.0, given) if shape == () else given
        if not _is_correlation(corr):
            raise ValueError(
                f"`group_corr` must give a correlation matrix (symmetric, ones on the diagonal, "
                f"no negative eigenvalue) of {len(effects)} effects; got {value!r}."
            )
        corrs[name] = corr
    return corrs


def _is_correlation(corr: np.ndarray) -> bool:
    import numpy as np

    return bool(
        np.allclose(np.diag(corr), 1.0, rtol=0.0, atol=1e-8)
        and np.allclose(corr, corr.T, rtol=0.0, atol=1e-8)
        and np.linalg.eigvalsh(corr)[0] > -1e-8
    )


def _read_eta(eta: Any) -> float:
    concentration = _as_number("eta", eta)
    if concentration <= 0.0:
        raise ValueError(f"`eta` must be positive; got {eta!r}.")
    return concentration


def _per_factor(argument: str, value: Any, keys: list[Key]) -> dict[str, Any]:
    """One entry per factor name; a dict may be keyed by a factor's name or by its tuple."""
    if not isinstance(value, Mapping):
        return {_name(key): value for key in keys}
    given = {_name(key) if isinstance(key, tuple) else key: item for key, item in value.items()}
    names = [_name(key) for key in keys]
    if set(given) != set(names):
        raise ValueError(
            f"`{argument}` must have one entry per factor; got {list(given)[:5]}, "
            f"the factors are {names[:5]}."
        )
    return {name: given[name] for name in names}


def _as_count(argument: str, value: Any, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"`{argument}` must be an integer and at least {minimum}; got {value!r}.")
    return int(value)


def _as_number(argument: str, value: Any, minimum: float = -math.inf) -> float:
    number = float(_as_floats(argument, value, ()))
    if number < minimum:
        raise ValueError(f"`{argument}` must be at least {minimum}; got {value!r}.")
    return number


def _as_floats(argument: str, value: Any, shape: tuple[int, ...], reason: str = "") -> np.ndarray:
    """Copy numbers into an array and check its shape; `reason` says where the shape comes from."""
    import numpy as np

    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"`{argument}` must hold numbers; got {value!r}.") from None
    if array.shape != shape:
        wanted = f"have shape {shape}" if shape else "be one number"
        because = f" ({reason})" if reason else ""
        raise ValueError(f"`{argument}` must {wanted}{because}; got shape {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"`{argument}` must be finite; got {value!r}.")
    return array


def _keys(factors: dict[str, _Factor]) -> list[Key]:
    return [factor.key for factor in factors.values()]


def _name(key: Key) -> str:
    return key if isinstance(key, str) else ":".join(key)


def _depth(key: Key) -> int:
    return 1 if isinstance(key, str) else len(key)


def _labels(column: str, size: int) -> list[str]:
    """Zero-padded, so that the order of the strings is the order of the numbers."""
    width = len(str(size - 1))
    return [f"{column}_{number:0{width}d}" for number in range(size)]
