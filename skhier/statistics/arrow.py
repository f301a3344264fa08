"""Statistics as one table that people can read and a warehouse can hold, and back.

A row for the total, one per level of each grouping factor and one per pair of levels of two factors
that share rows. ``of`` says which; ``factor`` and ``other_factor`` of what; ``level: C`` holds the
label in the grouping column C; ``sum: a * b`` the sum over the rows of weight times the product of
two columns, each less its shift and divided by its scale. A cell is null where that sum is not
needed. The total's ``about`` is a JSON text: version, columns, shifts and scales. Reading evaluates
nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from skhier.statistics.contents import Contents
from skhier.statistics.products import total_products
from skhier.statistics.records import FactorStats
from skhier.utils.design import Factor
from skhier.utils.labels import Levels
from skhier.utils.nesting import NestedLevels
from skhier.utils.words import listed

__all__ = ["LABEL_KINDS", "NAME", "VERSION", "held_columns", "to_table"]

NAME, VERSION = "skhier.GroupStatistics", 1
LABEL_KINDS = ("string", "number", "boolean", "bytes", "datetime", "date", "time", "duration")
COUNT_ROUNDING = 1e-9  # of a number of rows


def to_table(contents: Contents, min_rows: int = 1) -> Any:
    """A ``pyarrow.Table``.

    Parameters
    ----------
    contents : Contents
    min_rows : int
        Rows that every level, and pair of levels that share any, must have.

    Raises
    ------
    ImportError
        No pyarrow.
    ValueError
        Levels of fewer rows; or labels of a kind that Arrow has not.
    """
    pa = _pyarrow()
    _forbid_small(contents, min_rows)
    reduction = contents.reduction
    names, p = _columns_of_products(contents), len(reduction.stats.xy)
    pairs_of_columns = [(i, j) for i in range(p + 1) for j in range(i, p + 1)]
    blocks = [_block("total", "", "", {}, total_products(reduction.stats)[..., None])]
    held = [held_columns(factor.slopes, p) for factor in reduction.axes.factors]
    for at, factor, products in zip(
        held, contents.design.factors, reduction.stats.factors, strict=True
    ):
        every = np.arange(len(factor.levels.labels))
        blocks.append(
            _block("level", factor.name, "", _labels(factor, every), _matrix(at, products, p))
        )
    for (k, m), pair in zip(combinations(range(len(held)), 2), reduction.stats.pairs, strict=True):
        one, other = contents.design.factors[k], contents.design.factors[m]
        labels = _labels(one, pair.first) | _labels(other, pair.second)
        ordered = np.full((p + 1, p + 1, len(pair.first)), np.nan)
        ordered[np.ix_(held[k], held[m])] = pair.zz
        both = np.where(np.isnan(ordered), ordered.swapaxes(0, 1), ordered)
        blocks.append(_block("pair", one.name, other.name, labels, both))
    about = json.dumps(_about(contents))
    columns: dict[str, Any] = {
        name: pa.array([block[name] for block in blocks for _ in range(block["n"])], pa.string())
        for name in ("of", "factor", "other_factor")
    }
    for name in sorted({name for block in blocks for name in block["labels"]}):
        parts = [(block["labels"].get(name), block["n"]) for block in blocks]
        columns[f"level: {name}"] = _column_of_labels(pa, name, parts)
    for i, j in pairs_of_columns:
        cells = np.concatenate([block["products"][i, j] for block in blocks])
        columns[f"sum: {names[i]} * {names[j]}"] = pa.array(cells, from_pandas=True)
    n = sum(block["n"] for block in blocks)
    columns["about"] = pa.array([about] + [None] * (n - 1), pa.string())
    return pa.table(columns).replace_schema_metadata({NAME: str(VERSION)})


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ImportError(
            "An Arrow table needs pyarrow, which is not installed: pip install pyarrow."
        ) from None
    return pyarrow


def _block(of, factor, other, labels, products) -> dict[str, Any]:
    n = products.shape[-1]
    named = {"of": of, "factor": factor or None, "other_factor": other or None}
    return {**named, "labels": labels, "products": products, "n": n}


def held_columns(slopes: Sequence[int], p: int) -> list[int]:
    """Columns of ``[x 1]`` whose effects vary by level, of ``p``."""
    return [*slopes, p - 1]


def _matrix(at: list[int], products: FactorStats, p: int) -> np.ndarray:
    """Per level the products of ``[x 1 y]``, NaN where they are not held."""
    if len(products.xy_xy):
        return products.xy_xy
    whole = np.full((p + 1, p + 1, products.zy.shape[-1]), np.nan)
    whole[at] = products.z_xy
    whole[:, at] = products.z_xy.swapaxes(0, 1)
    return whole


def _columns_of_products(contents: Contents) -> list[str]:
    return [*contents.design.feature_names, "1", "y"]


def _columns_of(factor: Factor) -> list[str]:
    """Names of the columns that hold a factor's labels."""
    if isinstance(factor.levels, NestedLevels):
        return list(factor.levels.columns)
    return [factor.name]


def _labels(factor: Factor, codes: np.ndarray) -> dict[str, Levels]:
    levels = factor.levels
    if not isinstance(levels, NestedLevels):
        return {factor.name: levels.keep(codes)}
    named = zip(levels.columns, levels.parts, levels.codes[codes].T, strict=True)
    return {name: part.keep(at) for name, part, at in named}


def _column_of_labels(pa: Any, name: str, parts: Any) -> Any:
    kinds = {levels.kind for levels, _ in parts if levels is not None and len(levels.labels)}
    if not kinds <= set(LABEL_KINDS):
        raise ValueError(
            f"The labels of {name!r} are of kind {' and '.join(sorted(kinds))}, for which Arrow "
            "has no type. Convert them to strings."
        )
    arrays = []
    for levels, n in parts:
        labels = [None] * n
        if levels is not None:
            labels = (
                levels.labels.tolist() if levels.labels.dtype.kind not in "mM" else levels.labels
            )
        arrays.append(pa.array(labels))
    kind = next((array.type for array in arrays if not pa.types.is_null(array.type)), pa.null())
    types = {array.type for array in arrays if not pa.types.is_null(array.type)}
    if len(types) > 1:
        kind = pa.float64() if kinds == {"number"} else kind
    return pa.concat_arrays([array.cast(kind) for array in arrays])


def _about(contents: Contents) -> dict[str, Any]:
    design, units = contents.design, contents.reduction.units
    factors = [
        {
            "name": factor.name,
            "positions": list(factor.positions),
            "columns": _columns_of(factor),
            "kinds": _kinds(factor),
            "slopes": list(factor.slopes),
        }
        for factor in design.factors
    ]
    return {
        "format": NAME,
        "version": VERSION,
        "columns": None if contents.names is None else list(contents.names),
        "n_columns": contents.n_columns,
        "features": list(design.feature_names),
        "feature_positions": list(design.feature_positions),
        "factors": factors,
        "shift": [*map(float, units.x_mean), 0.0, float(units.y_mean)],
        "scale": [*map(float, units.x_scale), 1.0, float(units.y_scale)],
        "n_rows": contents.n_rows,
        "largest_weight": contents.largest_weight,
        "spacing": [*map(float, design.eps), float(design.y_eps)],
    }


def _kinds(factor: Factor) -> list[str]:
    levels = factor.levels
    parts = levels.parts if isinstance(levels, NestedLevels) else (levels,)
    return [part.kind for part in parts]


def _forbid_small(contents: Contents, min_rows: int) -> None:
    """Raise ValueError where a sum is over fewer rows."""
    if min_rows <= 1:
        return
    stats, design = contents.reduction.stats, contents.design
    least = min_rows * contents.largest_weight * (1 - COUNT_ROUNDING)
    for factor, products in zip(design.factors, stats.factors, strict=True):
        small = products.zz[-1, -1] < least
        if small.any():
            shown = listed(map(repr, factor.levels.labels[small].tolist()))
            raise ValueError(
                f"{small.sum()} levels of {factor.name!r} have fewer than min_rows={min_rows} "
                f"rows, and their sums would tell of these rows: {shown}. Leave them out, or give "
                "them a common label, before they are summarised."
            )
    names = combinations([factor.name for factor in design.factors], 2)
    for (one, other), pair in zip(names, stats.pairs, strict=True):
        small = pair.zz[-1, -1] < least
        if small.any():
            raise ValueError(
                f"{small.sum()} pairs of levels of {one!r} and {other!r} share fewer than "
                f"min_rows={min_rows} rows, and their sums would tell of these rows. Summarise "
                "coarser factors, or one of the two."
            )
    if contents.n_rows < min_rows:
        raise ValueError(f"The statistics are of {contents.n_rows} rows, below {min_rows=}.")
