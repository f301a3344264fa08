"""Rows that an engine has: a ``group_by`` of products for each factor, and for each two of them.

The engine multiplies and adds; group sums alone come here. Products are about the means of some of
the rows, so that they lose nothing of what varies far from 0, and then about those of all. What
must not be there shows in the sums, and only then another scan counts it. Through narwhals, which
states one query for Polars, DuckDB, Spark and Ibis.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import narwhals as nw
import numpy as np

from skhier.statistics.contents import Contents
from skhier.statistics.lazy_checks import Scan, check_types, sample, scan, spacing
from skhier.statistics.lazy_sums import PartOfSums, SplitSums, Sums, opened
from skhier.statistics.mean_sd import power_of_two
from skhier.statistics.products import factor_stats, keeps_level_products
from skhier.statistics.records import FactorStats, GroupStats, PairStats, Units
from skhier.statistics.reduction import Axes, FactorAxis, Reduction
from skhier.statistics.units import effects_at_mean, internal_units
from skhier.utils.budget import USUAL, DataBudget
from skhier.utils.design import Design, Factor
from skhier.utils.labels import encode, fit_levels
from skhier.utils.nesting import NestedLevels, encode_nested, fit_nested
from skhier.utils.schema import FactorColumns, Schema

__all__ = ["contents_of_lazy", "contents_of_lazy_folds"]


def contents_of_lazy(
    X: Any,
    y: str,
    sample_weight: str | None,
    groups: Any,
    slopes: Any,
    engine: str,
    budget: DataBudget = USUAL.data,
) -> Contents:
    """A lazy frame that narwhals can query becomes statistics.

    Parameters
    ----------
    X : polars.LazyFrame, DuckDBPyRelation, pyspark.sql.DataFrame or ibis.Table
    y, sample_weight : str
        Names of columns.
    groups, slopes
        The estimator's parameters.
    engine : str
        What to call it in errors.
    budget : DataBudget

    Raises
    ------
    ValueError, TypeError
        As :func:`skhier.utils.training.read_training`, with counts in place of first rows.
    RuntimeError
        What the engine raised.
    """
    return _contents(*_sums(X, y, sample_weight, groups, slopes, engine, budget))


def contents_of_lazy_folds(
    X: Any,
    y: str,
    sample_weight: str | None,
    groups: Any,
    slopes: Any,
    engine: str,
    fold: str,
    budget: DataBudget = USUAL.data,
) -> dict[Any, Contents]:
    """The same for each value of the column ``fold``, which is no feature, in their order.

    No further scan but one that counts the folds: engines group by it too.
    """
    sums, *about = _sums(X, y, sample_weight, groups, slopes, engine, budget, fold)
    split = SplitSums(sums, fold)
    return {label: _contents(split.of(k), *about) for k, label in enumerate(split.labels)}


def _sums(X, y, sample_weight, groups, slopes, engine, budget, fold=None):
    """Arguments of :func:`_contents`."""
    arguments = X, y, sample_weight, groups, slopes, engine, budget, fold
    query, types, names, schema, columns = opened(*arguments)
    check_types(types, columns, schema)
    rows = query.frame, columns, types, query.collect
    facts = sample(*rows, budget) if sample_weight is None else scan(*rows)
    if facts.has_weightless:
        query.frame = query.frame.filter(nw.col(sample_weight or "") > 0)
    sums = Sums(query, columns, facts, lambda: scan(*rows))
    eps = tuple(spacing(types[name]) for name in columns.features)
    return sums, names, schema, eps, spacing(types[y])


def _contents(
    sums: Sums | PartOfSums, names: list[str], schema: Schema, eps: tuple[float, ...], y_eps: float
) -> Contents:
    p, factors = sums.p, schema.factors
    every = [(i, j) for i in range(p + 1) for j in range(i, p + 1)]
    held = [[*factor.slopes, p - 1] for factor in factors]
    levels, of_levels = [], []
    total = None if factors else sums.by([], every).products
    for k, factor in enumerate(factors):
        wanted = every if k == 0 else [(i, j) for i, j in every if {i, j} & {*held[k]}]
        labels, products, _ = sums.by(factor.names, wanted)
        known, codes = _levels(labels, factor)
        by_level = _by_code(codes, products, len(known.labels))
        levels.append(known)
        of_levels.append(by_level)
        total = by_level if total is None else total
    assert total is not None
    total = total.sum(-1)
    of_pairs = [
        _pair(sums, (factors[k], factors[m]), (levels[k], levels[m]), (held[k], held[m]))
        for k, m in combinations(range(len(factors)), 2)
    ]
    design = Design(
        schema.feature_positions,
        schema.feature_names,
        tuple(
            Factor(factor.positions, factor.name, known, factor.slopes)
            for factor, known in zip(factors, levels, strict=True)
        ),
        eps,
        y_eps,
    )
    reduction = _reduction(design, sums.facts, total, of_levels, of_pairs)
    facts, n_rows = sums.facts, sums.facts.n_rows or 0
    return Contents(tuple(names), len(names), design, reduction, n_rows, facts.largest_weight)


def _levels(labels: list[np.ndarray], factor: FactorColumns) -> tuple[Any, np.ndarray]:
    of_columns = [fit_levels(of, name) for of, name in zip(labels, factor.names, strict=True)]
    return of_columns[0] if len(of_columns) == 1 else fit_nested(of_columns, factor.names)


def _pair(sums, factors, levels, held) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels of both factors, and the products of their columns, in internal order."""
    names = list(dict.fromkeys(name for factor in factors for name in factor.names))
    wanted = {(min(i, j), max(i, j)) for i in held[0] for j in held[1]}
    labels, products, _ = sums.by(names, sorted(wanted))
    of_name = dict(zip(names, labels, strict=True))
    codes = []
    for factor, known in zip(factors, levels, strict=True):
        of_factor = [of_name[name] for name in factor.names]
        if isinstance(known, NestedLevels):
            of_rows, unseen = encode_nested(of_factor, known)
        else:
            of_rows, unseen = encode(of_factor[0], known, factor.name)
        if len(unseen):
            sums.forbid_changes(-1)
        codes.append(of_rows)
    size = len(levels[1].labels)
    pairs, at = np.unique(codes[0].astype(np.int64) * size + codes[1], return_inverse=True)
    zz = _by_code(at, products[held[0]][:, held[1]], len(pairs))
    return pairs // size, pairs % size, zz


def _by_code(codes: np.ndarray, products: np.ndarray, n: int) -> np.ndarray:
    """In the order of the codes; engines may tell apart what is one label, such as 0 and -0."""
    out = np.zeros((*products.shape[:2], n))
    for of_code in _distinct_rounds(codes):
        out[..., codes[of_code]] += products[..., of_code]
    return out


def _distinct_rounds(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Positions with distinct codes, until there are none left."""
    left = np.arange(len(codes))
    while len(left):
        first = np.unique(codes[left], return_index=True)[1]
        yield left[first]
        left = np.delete(left, first)


def _reduction(design: Design, facts: Scan, total, of_levels, of_pairs) -> Reduction:
    """Products divided by powers of two near the sds, which is exact."""
    p = len(total) - 1
    size = [power_of_two(rms) for rms in np.sqrt(np.diag(total) / total[p - 1, p - 1])]
    scale = np.array([*size[: p - 1], 1.0, size[p]])
    both = np.outer(scale, scale)
    slopes = [factor.slopes for factor in design.factors]
    held = [[*of_factor, p - 1] for of_factor in slopes]
    axes = Axes(
        tuple(design.feature_names),
        tuple(FactorAxis(at.name, at.slopes, at.levels) for at in design.factors),
    )
    whole = keeps_level_products([len(at) for at in held], p, axes.n_levels)
    factors: list[FactorStats] = [
        factor_stats(products / both[..., None], at, whole)
        for products, at in zip(of_levels, held, strict=True)
    ]
    pairs = [
        PairStats(first, second, zz / both[np.ix_(held[k], held[m])][..., None])
        for (k, m), (first, second, zz) in zip(
            combinations(range(len(held)), 2), of_pairs, strict=True
        )
    ]
    total = total / both
    x_mean, x_scale = facts.means[:-1], scale[: p - 1]
    at_mean = tuple(effects_at_mean((x_mean / x_scale)[list(at)]) for at in slopes)
    units = Units(x_mean, x_scale, facts.means[-1], scale[p], at_mean)
    stats = GroupStats(
        tuple(factors),
        tuple(pairs),
        xx=total[:p, :p],
        xy=total[:p, p],
        yy=total[p, p],
        n=total[p - 1, p - 1],
    )
    reduction = Reduction(axes, units, stats)
    if facts.n_rows == 1:  # which has no sd
        return reduction
    return reduction.in_units(internal_units(*reduction.mean_sd(), slopes))
