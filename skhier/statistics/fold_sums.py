"""Statistics of the folds of a search, and squares of residuals, which follow from them.

With the columns ``[x 1]`` and coefficients ``beta``, each factor's ``z_k`` and effects ``b_k``,
``sum (y - x beta - sum_k z_k b_k)^2`` is a sum of products that statistics hold: pairs of levels
have those of two factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from skhier.statistics.contents import Contents, merged
from skhier.statistics.records import FactorStats, GroupStats
from skhier.statistics.reduction import Reduction, merge

__all__ = ["Squares", "parts_of_whole", "residual_squares"]


class Squares(NamedTuple):
    """Sums of weighted squares, units of y: of residuals, of y about its mean; the weights."""

    residual: float
    total: float
    n: float


def parts_of_whole(parts: Sequence[Contents]) -> tuple[Contents, list[Reduction]]:
    """All rows; and each part with the levels, and the pairs of levels, of all rows.

    Raises
    ------
    ValueError
        As :func:`skhier.statistics.contents.merged`.
    """
    whole = merged(parts)
    nothing = whole.reduction._replace(stats=_without_rows(whole.reduction.stats))
    return whole, [merge(nothing, part.reduction) for part in parts]


def _without_rows(stats: GroupStats) -> GroupStats:
    factors = (FactorStats(*map(np.zeros_like, of_factor)) for of_factor in stats.factors)
    pairs = (pair._replace(zz=np.zeros_like(pair.zz)) for pair in stats.pairs)
    return GroupStats(tuple(factors), tuple(pairs), *(0.0 * part for part in stats[2:]))


def residual_squares(
    reduction: Reduction, coef: np.ndarray, effects: Sequence[np.ndarray]
) -> Squares:
    """Of a line at the rows of statistics.

    Parameters
    ----------
    reduction : Reduction
    coef : array of shape (p,)
        Of ``[x 1]``, in the units of ``reduction``.
    effects : sequence of array of shape (q, n_levels)
        Per factor, slopes first.
    """
    stats = reduction.stats
    sums = stats.yy - 2 * stats.xy @ coef + coef @ stats.xx @ coef
    for of_factor, b in zip(stats.factors, effects, strict=True):
        sums += np.einsum("ag,abg,bg->", b, of_factor.zz, b)
        sums += 2 * np.sum(b * (np.einsum("apg,p->ag", of_factor.zx, coef) - of_factor.zy))
    for (one, other), pair in zip(combinations(effects, 2), stats.pairs, strict=True):
        ends = one[:, pair.first], other[:, pair.second]
        sums += 2 * np.einsum("an,abn,bn->", ends[0], pair.zz, ends[1])
    total = stats.yy - stats.xy[-1] ** 2 / stats.n
    square = reduction.units.y_scale**2
    return Squares(float(max(sums, 0.0) * square), float(max(total, 0.0) * square), float(stats.n))
