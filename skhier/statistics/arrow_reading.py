"""Statistics read back from the table that :mod:`skhier.statistics.arrow` writes, and checked.

Nothing that the table holds is evaluated: texts are parsed as JSON, cells are numbers and labels.
"""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any, NoReturn

import numpy as np

from skhier.statistics.arrow import NAME, VERSION, held_columns
from skhier.statistics.contents import Contents
from skhier.statistics.products import keeps_level_products, total_products
from skhier.statistics.records import FactorStats, GroupStats, PairStats, Units
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
        _damaged(f"{len(texts)} rows of its column 'about' say what it is, not one")
    if name != NAME:
        raise ValueError(f"This is no table of statistics but of {name!r}.")
    if version != VERSION:
        raise ValueError(
            f"This table of statistics has version {version}, and this skhier reads version "
            f"{VERSION}."
        )
    return about


def _read(table: Any, about: dict[str, Any]) -> Contents:
    features, factors = about["features"], about["factors"]
    names, p = [*features, "1", "y"], len(features) + 1
    of, one, other = (
        np.array(table[name].to_pylist(), dtype=object) for name in ("of", "factor", "other_factor")
    )
    products = np.empty((p + 1, p + 1, len(of)))
    for i in range(p + 1):
        for j in range(i, p + 1):
            cells = table[f"sum: {names[i]} * {names[j]}"].to_pylist()
            products[i, j] = products[j, i] = np.array(cells, dtype=float)
    is_level = [(of == "level") & (one == factor["name"]) for factor in factors]
    both = list(combinations(range(len(factors)), 2))
    is_pair = [
        (of == "pair") & (one == factors[k]["name"]) & (other == factors[m]["name"])
        for k, m in both
    ]
    n_known = 1 + sum(map(np.count_nonzero, [*is_level, *is_pair]))
    if (of == "total").sum() != 1 or n_known != len(of):
        raise ValueError("it has rows that are neither of its factors nor its total, or no total")
    levels, codes = (
        zip(
            *(
                _read_levels(table, factor, at)
                for factor, at in zip(factors, is_level, strict=True)
            ),
            strict=True,
        )
        if factors
        else ((), ())
    )
    held = [held_columns(tuple(factor["slopes"]), p) for factor in factors]
    whole = keeps_level_products([len(at) for at in held], p, [len(at.labels) for at in levels])
    of_factors = tuple(
        _read_factor(products[..., at][..., np.argsort(code)], columns, whole)
        for at, code, columns in zip(is_level, codes, held, strict=True)
    )
    pairs = tuple(
        _read_pair(
            table,
            products[..., at],
            at,
            (factors[k], factors[m]),
            (levels[k], levels[m]),
            (held[k], held[m]),
        )
        for (k, m), at in zip(both, is_pair, strict=True)
    )
    (total,) = np.moveaxis(products[..., of == "total"], -1, 0)
    stats = GroupStats(
        of_factors, pairs, total[:p, :p], total[:p, p], total[p, p], total[p - 1, p - 1]
    )
    slopes = [tuple(factor["slopes"]) for factor in factors]
    axes = Axes(
        tuple(features),
        tuple(
            FactorAxis(factor["name"], varying, at)
            for factor, varying, at in zip(factors, slopes, levels, strict=True)
        ),
    )
    return _contents(about, Reduction(axes, _read_units(about, slopes), stats))


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


def _read_factor(products: np.ndarray, at: list[int], whole: bool) -> FactorStats:
    p = len(products) - 1
    every = products if whole else np.zeros((0, 0, products.shape[-1]))
    return FactorStats(products[at][:, at], products[at, :p], products[at, p], every)


def _read_pair(table, products, at, factors, levels, held) -> PairStats:
    places = []
    for factor, known in zip(factors, levels, strict=True):
        labels = [
            _read_labels(table, name, kind, at).tolist()
            for name, kind in zip(factor["columns"], factor["kinds"], strict=True)
        ]
        keys = list(zip(*labels, strict=True)) if len(labels) > 1 else labels[0]
        codes = {label: code for code, label in enumerate(known.labels.tolist())}
        places.append(np.array([codes[key] for key in keys], dtype=int))
    order = np.lexsort(places[::-1])
    zz = products[held[0]][:, held[1]][..., order]
    return PairStats(places[0][order], places[1][order], zz)


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
