"""Arguments of the simulator, checked, as one record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from skhier.utils.validation import check_number

__all__ = [
    "DrawnFactor",
    "Key",
    "Slopes",
    "Spec",
    "as_count",
    "as_floats",
    "as_number",
    "depth",
    "factor_keys",
    "factor_name",
    "per_factor",
    "read_eta",
    "read_factors",
    "read_group_corr",
    "read_group_scale",
]

Key: TypeAlias = str | tuple[str, ...]
Slopes: TypeAlias = str | Sequence[str] | None


class DrawnFactor(NamedTuple):
    """A factor to simulate."""

    key: Key
    column: str
    parent: str | None  # name of the factor it is nested in
    labels: list[str]  # of the column; a nested factor uses them again in every parent
    levels: list[str]  # len(labels) per level of the parent, in order of the parent
    effects: list[str]


class Spec(NamedTuple):
    """Checked arguments; dicts have one entry per factor. None and "lkj" are still to be drawn."""

    features: list[str]
    factors: dict[str, DrawnFactor]
    intercept: float
    coef: np.ndarray | None
    group_scale: dict[str, np.ndarray]
    group_corr: dict[str, np.ndarray | str]
    eta: float
    noise_scale: float
    balanced: bool


def read_factors(groups: Any, slopes: Any, features: list[str]) -> dict[str, DrawnFactor]:
    """Factors by name, in the order of ``groups``; ValueError where columns would coincide."""
    sizes = _read_sizes(groups)
    slopes_of = per_factor("slopes", slopes, list(sizes))
    found: dict[str, DrawnFactor] = {}
    for key in sorted(sizes, key=depth):
        column, parent = (key, None) if isinstance(key, str) else (key[-1], factor_name(key[:-1]))
        labels = _labels(column, sizes[key])
        above = None if parent is None else found[parent].levels
        levels = labels if above is None else [f"{a}:{label}" for a in above for label in labels]
        effects = ["intercept", *_read_slopes(slopes_of[factor_name(key)], features)]
        found[factor_name(key)] = DrawnFactor(key, column, parent, labels, levels, effects)
    factors = {factor_name(key): found[factor_name(key)] for key in sizes}
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
        return {"group": as_count("groups", groups, 1)}
    if not groups:
        raise ValueError("`groups` is an empty dict; name at least one grouping column.")
    sizes = {key: as_count(f"groups[{key!r}]", size, 1) for key, size in groups.items()}
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


def read_group_scale(group_scale: Any, factors: dict[str, DrawnFactor]) -> dict[str, np.ndarray]:
    """Standard deviations (q,) of each factor's effects; ValueError if one is negative."""
    scales = {}
    for name, value in per_factor("group_scale", group_scale, factor_keys(factors)).items():
        effects = factors[name].effects
        shape = () if np.ndim(value) == 0 else (len(effects),)
        scale = as_floats("group_scale", value, shape, f"the effects of {name!r}: {effects}")
        if np.any(scale < 0.0):
            raise ValueError(f"`group_scale` must not be negative; got {value!r}.")
        scales[name] = np.broadcast_to(scale, len(effects)).copy()
    return scales


def read_group_corr(
    group_corr: Any, factors: dict[str, DrawnFactor]
) -> dict[str, np.ndarray | str]:
    """Correlation matrices (q, q), or "lkj" where they are to be drawn; ValueError otherwise."""
    corrs: dict[str, np.ndarray | str] = {}
    for name, value in per_factor("group_corr", group_corr, factor_keys(factors)).items():
        effects = factors[name].effects
        if isinstance(value, str) and value == "lkj":
            corrs[name] = value
            continue
        value = 0.0 if value is None else value
        shape = () if np.ndim(value) == 0 else (len(effects), len(effects))
        given = as_floats("group_corr", value, shape, f"the effects of {name!r}: {effects}")
        corr = np.where(np.eye(len(effects), dtype=bool), 1.0, given) if shape == () else given
        if not _is_correlation(corr):
            raise ValueError(
                f"`group_corr` must give a correlation matrix (symmetric, ones on the diagonal, "
                f"no negative eigenvalue) of {len(effects)} effects; got {value!r}."
            )
        corrs[name] = corr
    return corrs


def _is_correlation(corr: np.ndarray) -> bool:
    return bool(
        np.allclose(np.diag(corr), 1.0, rtol=0.0, atol=1e-8)
        and np.allclose(corr, corr.T, rtol=0.0, atol=1e-8)
        and np.linalg.eigvalsh(corr)[0] > -1e-8
    )


def read_eta(eta: Any) -> float:
    """The LKJ concentration; ValueError unless positive."""
    concentration = as_number("eta", eta)
    if concentration <= 0.0:
        raise ValueError(f"`eta` must be positive; got {eta!r}.")
    return concentration


def per_factor(argument: str, value: Any, keys: list[Key]) -> dict[str, Any]:
    """One entry per factor name; a dict may be keyed by a factor's name or by its tuple."""
    if not isinstance(value, Mapping):
        return {factor_name(key): value for key in keys}
    given = {
        factor_name(key) if isinstance(key, tuple) else key: item for key, item in value.items()
    }
    names = [factor_name(key) for key in keys]
    if set(given) != set(names):
        raise ValueError(
            f"`{argument}` must have one entry per factor; got {list(given)[:5]}, "
            f"the factors are {names[:5]}."
        )
    return {name: given[name] for name in names}


def as_count(argument: str, value: Any, minimum: int) -> int:
    """An integer; ValueError if it is none, or too small."""
    check_number(argument, value, low=minimum, integer=True)
    return int(value)


def as_number(argument: str, value: Any, minimum: float = -math.inf) -> float:
    """A finite number; ValueError otherwise."""
    number = float(as_floats(argument, value, ()))
    if number < minimum:
        raise ValueError(f"`{argument}` must be at least {minimum}; got {value!r}.")
    return number


def as_floats(argument: str, value: Any, shape: tuple[int, ...], reason: str = "") -> np.ndarray:
    """Copy numbers into an array and check its shape; `reason` says where the shape comes from."""
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


def factor_keys(factors: dict[str, DrawnFactor]) -> list[Key]:
    """What ``groups`` calls the factors."""
    return [factor.key for factor in factors.values()]


def factor_name(key: Key) -> str:
    """``state:cafe`` for ("state", "cafe")."""
    return key if isinstance(key, str) else ":".join(key)


def depth(key: Key) -> int:
    """How many columns name the levels."""
    return 1 if isinstance(key, str) else len(key)


def _labels(column: str, size: int) -> list[str]:
    """Zero-padded, so that the order of the strings is the order of the numbers."""
    width = len(str(size - 1))
    return [f"{column}_{number:0{width}d}" for number in range(size)]
