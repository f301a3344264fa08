"""The line's distribution at rows: a mixture of one normal per component of theta.

Coefficients and effects are integrated out in closed form, see
:mod:`skhier.kernels.normal.line_distribution`. Moments of a level are made once a call, for the
levels that its rows have; those of several factors for all levels, and kept up to half a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from skhier.kernels.normal.effects import LevelEffects, all_effects, leaf_effects
from skhier.kernels.normal.eliminate import Layout, batch_size, layout_of
from skhier.kernels.normal.line_distribution import line_distribution
from skhier.kernels.records import Components
from skhier.posterior.designs import OUT, asked_rows
from skhier.posterior.rule import Rule, rule_by_lines
from skhier.responses.base import Response
from skhier.statistics.records import FactorStats, PairStats
from skhier.utils.budget import USUAL, Budget
from skhier.utils.slices import slices

__all__ = ["Lines", "rule_of"]


class Lines:
    """Moments of the line given each component, internal coordinates.

    Parameters
    ----------
    layout : Layout
        Every factor's last level has no rows.
    components : Components
        Their weights are the caller's.
    budget : Budget
        Its part ``memory``.
    """

    def __init__(self, layout: Layout, components: Components, budget: Budget = USUAL):
        self.layout, self.components, self.budget = layout, components, budget.memory
        self.n_components, self.p = components.coef.shape
        self.sizes = [factor.zy.shape for factor in layout.stats.factors]  # (q, n_levels)

    def moments(self, x, zs, codes) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Mean and variance given each component, a slice of the rows at a time.

        Parameters
        ----------
        x : array of shape (n, p)
        zs : list of array of shape (n, q)
            0 where a factor does not count.
        codes : int array of shape (n, n_factors)
            Of levels of ``layout``.

        Yields
        ------
        rows : int array of shape (k,)
        mean, variance : array of shape (k, S)
            Of a row the same bits whichever others are in the call.
        """
        chain = self.layout.plan.chain
        order = np.argsort(codes[:, chain[0]], kind="stable") if chain else np.arange(len(x))
        if len(self.sizes) == 1:
            yield from self._of_one_factor(x, zs, codes, order)
        elif not chain:
            yield from self._of_rows(LevelEffects((), (), (), None), x, zs, codes, order)
        elif self._can_be_kept():
            yield from self._of_rows(self._kept, x, zs, codes, order)
        else:
            for block in slices(len(x), self.budget.kept // self.n_components):
                rows = order[block]
                mean, variance = self._of_block(x, zs, codes, rows)
                for part in slices(len(rows), self.budget.line_entries // self.n_components):
                    yield rows[part], mean[part], variance[part]

    def _of_one_factor(self, x, zs, codes, order):
        levels, begins = np.unique(codes[order, 0], return_index=True)
        ends = np.append(begins, len(order))
        q = self.sizes[0][0]
        at_once = self.budget.level_entries // (self.n_components * q * (self.p + q))
        for part in slices(len(levels), at_once):
            here = levels[part]
            effects = leaf_effects(self.layout, self.components, here)
            rows = order[begins[part][0] : ends[part.start + len(here)]]
            place = np.searchsorted(here, codes[rows])
            yield from self._of_rows(effects, x, zs, codes, rows, place)

    def _of_rows(self, effects, x, zs, codes, order, places=None):
        """``places``: the levels of the rows in the order, where ``effects`` has some only."""
        for part in slices(len(order), self._rows_at_once(self.n_components)):
            rows = order[part]
            levels = codes[rows] if places is None else places[part]
            here = x[rows], [z[rows] for z in zs], levels
            yield rows, *line_distribution(self.layout, self.components, effects, *here)

    def _rows_at_once(self, n_components):
        width = max([self.p, *(q * max(self.p, q) for q, _ in self.sizes)])
        if self.layout.plan.dense and (len(self.layout.plan.chain) > 1 or n_components == 1):
            width = max(width, max(q for q, _ in self.sizes) * len(self.layout.gram))
        return self.budget.line_entries // (n_components * width)

    def _of_block(self, x, zs, codes, block):
        """Of rows so many that eliminating all levels anew for them would be little."""
        mean = np.empty((len(block), self.n_components))
        variance = np.empty_like(mean)
        for here, effects in self._batches():
            batch = self.components.take(here)
            for part in slices(len(block), self._rows_at_once(len(batch.weights))):
                rows = block[part]
                mean[part, here], variance[part, here] = line_distribution(
                    self.layout, batch, effects, x[rows], [z[rows] for z in zs], codes[rows]
                )
        return mean, variance

    def _batches(self) -> Iterator[tuple[slice, LevelEffects]]:
        if self.n_entries * self.n_components <= self.budget.kept_apart:
            yield from self._kept_apart
        else:
            yield from self._made()

    def _made(self):
        if self._is_sparse:
            size = 1
        else:
            entries = self.budget.level_entries
            one = max(self.n_entries, entries // batch_size(self.layout, self.p + 1, entries))
            size = entries // one
        for here in slices(self.n_components, size):
            yield here, all_effects(self.layout, self.components.take(here))

    @property
    def _is_sparse(self):
        return bool(self.layout.plan.dense) and not all(self.layout.wide)

    @cached_property
    def n_entries(self) -> int:
        """Of all levels' moments given a component."""
        chain, m = self.layout.plan.chain, len(self.layout.gram)
        entries = m**2 + sum(q * n_levels * (self.p + 1) for q, n_levels in self.sizes)
        for i, k in enumerate(chain):
            q, n_levels = self.sizes[k]
            entries += q * n_levels * sum(self.sizes[other][0] for other in chain[i:])
            entries += self.layout.crossings[i].z.size if self._is_sparse else q * n_levels * 2 * m
        return entries

    def _can_be_kept(self):
        return not self._is_sparse and self.n_entries * self.n_components <= self.budget.kept

    @cached_property
    def _kept(self) -> LevelEffects:
        return _side_by_side([effects for _, effects in self._made()])

    @cached_property
    def _kept_apart(self) -> list[tuple[slice, LevelEffects]]:
        return list(self._made())


def rule_of(
    layout: Layout,
    components: Components,
    varying: Sequence[Sequence[int]],
    response: Response,
    budget: Budget = USUAL,
) -> Rule:
    """A few weighted components that predict as all of them do.

    Lines at rows of all kinds are asked of as many of the first components as are no work; if those
    are few, lines of levels that fit never saw, which need no elimination, of all components: then
    known levels are many, and say nearly the same given any theta.
    See :mod:`skhier.posterior.rule`.

    Parameters
    ----------
    layout : Layout
    components : Components
    varying : sequence of sequence of int
        Per factor: the population's columns that vary by level.
    response : Response
        Every second of the rows is asked for new responses.
    budget : Budget
        Its parts ``rule`` and ``memory``.
    """
    n, most, rule = len(components.weights), None, budget.rule
    n_asked = min(int(rule.work) // _work(layout, components, rule.rows), n)
    if n_asked < min(rule.few_to_ask, n):
        crossed = max(len(layout.gram), 1)
        most = int(np.clip(rule.unasked_work // crossed**3, *rule.unasked))
        layout, n_asked = _without_rows(layout), n
    asked = components.first(n_asked)
    mean, sd = np.empty((2, rule.rows, n_asked))
    x, zs, codes = _asked_rows(layout.stats, varying, rule)
    for rows, of_rows, variance in Lines(layout, asked, budget).moments(x, zs, codes):
        mean[rows], sd[rows] = of_rows, np.sqrt(variance)
    mean[::2], sd[::2] = response.over_lines(mean[::2], sd[::2], asked.population.own)
    return rule_by_lines(asked, mean, sd, most, rule)


def _without_rows(layout):
    """Nothing but each factor's level without rows."""
    stats = layout.stats
    factors = tuple(FactorStats(*(a[..., -1:] for a in factor)) for factor in stats.factors)
    pairs = tuple(PairStats(p.first[:0], p.second[:0], p.zz[..., :0]) for p in stats.pairs)
    return layout_of(stats._replace(factors=factors, pairs=pairs), layout.plan)


def _work(layout, components, n_rows):
    """Multiplications that the rows to ask cost, a component."""
    lines = Lines(layout, components)
    work = n_rows * max([lines.p, *(q * lines.p for q, _ in lines.sizes)])
    if len(lines.sizes) > 1:
        work += 4 * lines.n_entries + len(layout.gram) ** 3 // 8
    return work


def _asked_rows(stats, varying, budget):
    """As :func:`~skhier.posterior.designs.asked_rows`; where a factor is absent its z is 0."""
    scale = np.sqrt(np.diagonal(stats.xx) / stats.n)[:-1]
    last = [factor.zy.shape[-1] - 1 for factor in stats.factors]
    x, codes = asked_rows(scale, last, budget)
    zs = [
        np.where(of_factor[:, None] == OUT, 0.0, x[:, columns])
        for of_factor, columns in zip(codes.T, varying, strict=True)
    ]
    return x, zs, np.where(codes == OUT, last, codes)


def _side_by_side(parts):
    """Batches of components as one; every array has them last."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, np.ndarray):
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    joined = [_side_by_side(list(part)) for part in zip(*parts, strict=True)]
    return type(first)(*joined) if hasattr(first, "_fields") else tuple(joined)
