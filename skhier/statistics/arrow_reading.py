"""Statistics read back from the table that :mod:`skhier.statistics.arrow` writes, and checked.

Nothing that the table holds is evaluated: texts are parsed as JSON, cells are numbers and labels.
"""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any, NamedTuple, NoReturn

import numpy as np

from skhier.statistics.arrow import NAME, VERSION, held_columns
from skhier.statistics.contents import Contents
from skhier.statistics.products import factor_stats, keeps_level_products, total_products
from skhier.statistics.records import GroupStats, PairStats, Units
from skhier.statistics.reduction import Axes, FactorAxis, Reduction
from skhier.statistics.units import effects_at_mean
from skhier.utils.design import Design, Factor
from skhier.utils.labels import fit_levels
from skhier.utils.level_union import NO_LEVELS
from skhier.utils.nesting import fit_nested

__all__ = ["from_table"]

OF_OBJECTS = ("date", "time")  # which NumPy would turn into something else
LOST = 1e-9  # of a total: levels that add up to less are not all there


def from_table(table: Any) -> Contents:
    """What :func:`skhier.statistics.arrow.to_table` wrote, in whatever order the rows come.

    Raises
    ------
    ValueError
        Another table, one of a later version, or one that is damaged: cells missing, or levels
        that do not add up to the total.
    """
    about = _read_about(table)
    try:
        contents = _read(table, about)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        _damaged(str(error))
    _check_sums(contents)
    return contents


def _damaged(why: str) -> NoReturn:
    raise ValueError(f"This table of statistics is damaged: {why}.") from None


def _read_about(table: Any) -> dict[str, Any]:
    if not hasattr(table, "column_names") or not {"of", "about"} <= set(table.column_names):
        raise ValueError(
            f"This is no table of statistics: from_arrow takes what to_arrow made, got "
            f"{type(table).__name__}."
        )
    texts = [text for text in table["about"].to_pylist() if text is not None]
    try:
        (text,) = texts
        about = json.loads(text)
        name, version = about["format"], about["version"]
    except (ValueError, KeyError, TypeError):
        _damaged("one cell of its column 'about' says what it is, and here none does")
    if name != NAME:
        raise ValueError(f"This is no table of statistics but of {name!r}.")
    if version != VERSION:
        raise ValueError(
            f"This table of statistics has version {version}, and this skhier reads version "
            f"{VERSION}."
        )
    return about


class _Places(NamedTuple):
    """Which rows of the table are the total, each factor's levels, each two factors' pairs."""

    total: np.ndarray
    levels: list[np.ndarray]
    pairs: list[np.ndarray]


def _read(table: Any, about: dict[str, Any]) -> Contents:
    factors, p = about["factors"], len(about["features"]) + 1
    places, products = _places(table, factors), _read_products(table, about["features"])
    read = [_read_levels(table, *each) for each in zip(factors, places.levels, strict=True)]
    levels = [of_factor for of_factor, _ in read]
    slopes = [tuple(factor["slopes"]) for factor in factors]
    held = [held_columns(varying, p) for varying in slopes]
    whole = keeps_level_products([len(at) for at in held], p, [len(at.labels) for at in levels])
    of_factors = tuple(
        factor_stats(products[..., at][..., np.argsort(codes)], columns, whole)
        for at, (_, codes), columns in zip(places.levels, read, held, strict=True)
    )
    pairs = []
    for (k, m), at in zip(combinations(range(len(factors)), 2), places.pairs, strict=True):
        one, other = (_read_codes(table, factors[f], levels[f], at) for f in (k, m))
        order = np.lexsort((other, one))
        zz = products[..., at][held[k]][:, held[m]][..., order]
        pairs.append(PairStats(one[order], other[order], zz))
    (total,) = np.moveaxis(products[..., places.total], -1, 0)
    xx, xy = total[:p, :p], total[:p, p]
    stats = GroupStats(of_factors, tuple(pairs), xx, xy, yy=total[p, p], n=xx[-1, -1])
    named = zip((factor["name"] for factor in factors), slopes, levels, strict=True)
    axes = Axes(tuple(about["features"]), tuple(FactorAxis(*each) for each in named))
    return _contents(about, Reduction(axes, _read_units(about, slopes), stats))


def _places(table: Any, factors: list[dict[str, Any]]) -> _Places:
    of, one, other = (
        np.array(table[name].to_pylist(), dtype=object) for name in ("of", "factor", "other_factor")
    )
    names = [factor["name"] for factor in factors]
    levels = [(of == "level") & (one == name) for name in names]
    pairs = [(of == "pair") & (one == k) & (other == m) for k, m in combinations(names, 2)]
    total = of == "total"
    if total.sum() != 1 or sum(map(np.count_nonzero, [total, *levels, *pairs])) != len(of):
        raise ValueError("it has rows that are neither of its factors nor its total, or no total")
    return _Places(total, levels, pairs)


def _read_products(table: Any, features: list[str]) -> np.ndarray:
    """Sums of products of ``[x 1 y]``, (p + 1, p + 1, n_rows); NaN where there is none."""
    names = [*features, "1", "y"]
    products = np.empty((len(names), len(names), len(table)))
    for i in range(len(names)):
        for j in range(i, len(names)):
            cells = table[f"sum: {names[i]} * {names[j]}"].to_pylist()
            products[i, j] = products[j, i] = np.array(cells, dtype=float)
    return products


def _read_units(about: dict[str, Any], slopes: list[tuple[int, ...]]) -> Units:
    shift, scale = np.array(about["shift"], float), np.array(about["scale"], float)
    if not (np.isfinite(shift).all() and (scale > 0).all()):
        raise ValueError("its shifts are not finite or its scales not positive")
    x_mean, x_scale = shift[:-2], scale[:-2]
    at_mean = tuple(effects_at_mean((x_mean / x_scale)[list(at)]) for at in slopes)
    return Units(x_mean, x_scale, shift[-1], scale[-1], at_mean)


def _contents(about: dict[str, Any], reduction: Reduction) -> Contents:
    factors = tuple(
        Factor(tuple(factor["positions"]), axis.name, axis.levels, axis.slopes)
        for factor, axis in zip(about["factors"], reduction.axes.factors, strict=True)
    )
    *eps, y_eps = about["spacing"]
    positions, features = list(about["feature_positions"]), list(about["features"])
    names = about["columns"]
    return Contents(
        None if names is None else tuple(names),
        int(about["n_columns"]),
        Design(positions, features, factors, tuple(eps), y_eps),
        reduction,
        int(about["n_rows"]),
        float(about["largest_weight"]),
    )


def _read_levels(table: Any, factor: dict[str, Any], at: np.ndarray) -> tuple[Any, np.ndarray]:
    if not at.any():
        return NO_LEVELS, np.zeros(0, dtype=int)
    of_columns = []
    for name, kind in zip(factor["columns"], factor["kinds"], strict=True):
        levels, codes = fit_levels(_read_labels(table, name, kind, at), name)
        if levels.kind != kind:
            raise ValueError(f"labels of {name!r} are of kind {levels.kind} instead of {kind}")
        of_columns.append((levels, codes))
    if len(of_columns) == 1:
        of_factor: tuple[Any, np.ndarray] = of_columns[0]
    else:
        of_factor = fit_nested(of_columns, factor["columns"])
    levels, codes = of_factor
    if len(levels.labels) != len(codes):
        raise ValueError(f"a level of {factor['name']!r} occurs twice")
    return levels, codes


def _read_labels(table: Any, name: str, kind: str, at: np.ndarray) -> np.ndarray:
    import pyarrow as pa

    column = table[f"level: {name}"].filter(pa.array(at))
    if kind not in OF_OBJECTS and column.null_count == 0:
        return np.asarray(column.to_numpy())
    labels = np.empty(len(column), dtype=object)
    labels[:] = column.to_pylist()
    return labels


def _read_codes(table: Any, factor: dict[str, Any], levels: Any, at: np.ndarray) -> np.ndarray:
    """Of the rows at a mask."""
    named = zip(factor["columns"], factor["kinds"], strict=True)
    labels = [_read_labels(table, name, kind, at).tolist() for name, kind in named]
    keys = list(zip(*labels, strict=True)) if len(labels) > 1 else labels[0]
    codes = {label: code for code, label in enumerate(levels.labels.tolist())}
    return np.array([codes[key] for key in keys], dtype=int)


def _check_sums(contents: Contents) -> None:
    """Raise ValueError where sums are missing, impossible, or levels do not add up."""
    stats = contents.reduction.stats
    total = total_products(stats)
    sums: list[Any] = [total]
    for factor in stats.factors:
        sums += [factor.zz, factor.zx, factor.zy, factor.xy_xy]
    sums += [pair.zz for pair in stats.pairs]
    if not all(np.isfinite(of_part).all() for of_part in sums):
        _damaged("sums are missing or not finite")
    if np.any(np.diag(total) < 0):
        _damaged("a sum of squares is below 0")
    size = np.sqrt(np.outer(np.diag(total), np.diag(total)))
    for factor, axis in zip(stats.factors, contents.reduction.axes.factors, strict=True):
        at = held_columns(axis.slopes, len(stats.xy))
        of_levels = factor.z_xy.sum(-1)
        if np.any(np.abs(of_levels - total[at]) > LOST * size[at]):
            _damaged(f"the levels of {axis.name!r} do not add up to the total")
        if np.any(factor.zz[-1, -1] <= 0):
            _damaged(f"levels of {axis.name!r} have no rows")
    names = combinations(contents.reduction.axes.factors, 2)
    for (one, other), (k, m), pair in zip(
        names, combinations(range(len(stats.factors)), 2), stats.pairs, strict=True
    ):
        n_levels = contents.reduction.axes.n_levels
        for which, of_pair in ((k, pair.first), (m, pair.second)):
            rows = np.bincount(of_pair, pair.zz[-1, -1], n_levels[which])
            if np.any(np.abs(rows - stats.factors[which].zz[-1, -1]) > LOST * stats.n):
                _damaged(f"the pairs of {one.name!r} and {other.name!r} do not add up")
