"""A fitted posterior of a response without sufficient statistics: components and level moments.

The same questions as :class:`~skhier.posterior.posterior.Posterior` answers, from the moments of
each level's effects given each component (:class:`~skhier.kernels.records.EffectMoments`): the line
at a row is a mixture of one normal per component, the response over that line a one-dimensional
integral. A level that fit never saw is a draw from the population.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from skhier.inference.row_scores import leave_rows_out
from skhier.kernels.normal.left_out import LeftOut
from skhier.kernels.records import Components, EffectMoments, Population
from skhier.kernels.user_units import coef_to_user, intercept_first
from skhier.posterior.designs import (
    OUT,
    asked_rows,
    internal_rows,
    level_stream,
    side_of,
    varying_columns,
)
from skhier.posterior.drawn import Drawn
from skhier.posterior.few import Behind, few_by_lines, few_by_moments, weighted
from skhier.posterior.mixture import mixture_quantiles, total_moments
from skhier.posterior.response_quantiles import response_quantiles
from skhier.posterior.row_lines import are_new, row_lines
from skhier.posterior.skewed import in_parts, skewed_noise
from skhier.responses.base import Response
from skhier.responses.links import LINKS
from skhier.responses.member import LINE_NODES
from skhier.statistics.records import Units
from skhier.utils.budget import USUAL, Budget
from skhier.utils.hermite import normal_rule
from skhier.utils.memory import require_memory
from skhier.utils.training import Training

__all__ = ["RowPosterior", "RowsLeftOut"]


class RowsLeftOut(NamedTuple):
    """Densities of rows that are left out, made when they are asked for.

    Attributes
    ----------
    weights : array of shape (S,)
        Of the components.
    order : int array of shape (n_rows,)
        In which rows are best asked for.
    evaluate : callable
        Takes places of rows, in that order, to their LeftOut.
    """

    weights: np.ndarray
    order: np.ndarray
    evaluate: Callable[[np.ndarray], LeftOut]


class RowPosterior(Drawn):
    """Components, level moments and draws behind every prediction.

    Parameters
    ----------
    units : Units
    mean_square : array of shape (p, p)
        Weighted mean of the rows' products of x, the constant last; internal units.
    n_rows : list of array of shape (n_levels,)
        Per factor: sums of the rows' weights.
    draws : Population
        (n_chains, n_draws, ...).
    slopes : tuple of tuple of int
        Per factor: features with a varying slope.
    seed : int
        Of the group effects' draws.
    response : Response
    components : Components
        Without covariances of the coefficients.
    effects : EffectMoments
    budget : Budget
        No part of a pickle: what is read spends the usual one.
    mean_offset : float
        Of the rows: mean of the logs of their exposures.
    lacking : array of shape (n_levels,) or float
        What the log densities of the only factor's levels lack, see ``Response.row_normaliser``.
    """

    def __init__(
        self,
        units: Units,
        mean_square: np.ndarray,
        n_rows: list[np.ndarray],
        draws: Population,
        slopes: tuple[tuple[int, ...], ...],
        seed: int,
        response: Response,
        components: Components,
        effects: EffectMoments,
        budget: Budget = USUAL,
        mean_offset: float = 0.0,
        lacking: np.ndarray | float = 0.0,
    ):
        self.units, self.mean_square, self.n_rows = units, mean_square, n_rows
        self.n_levels = [len(of_factor) for of_factor in n_rows]
        self.draws, self.slopes, self.seed = draws, slopes, seed
        self.response, self.rule, self.effects, self.budget = response, components, effects, budget
        self.mean_offset, self.lacking = mean_offset, lacking

    def __getstate__(self) -> dict[str, Any]:
        """What follows from the rest is left out."""
        left_out = ("population", "budget", "few", "few_of_moments")
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    @cached_property
    def population(self) -> Population:
        """Draws of all chains: components, so that effects and coefficients belong together."""
        return self.rule.population.take(self.effects.place.ravel())

    @property
    def every(self) -> Behind:
        """All components."""
        return Behind(self.rule, self.effects)

    @cached_property
    def few(self) -> Behind:
        """A few components that give lines the distributions that all give.

        The first ones where effects were sampled: draws are nothing smooth to choose by.
        """
        if not self._chooses():
            return self.every.first(self.budget.memory.moment_components[1])
        mean, sd = self._asked_lines(self.every)
        own = self._own(self.rule.population)
        return few_by_lines(self.every, mean, sd, own, self.budget.rule)

    def _chooses(self):
        """Whether there is something to choose by, and enough to choose from."""
        many = len(self.rule.weights) > self.budget.rule.all_of_rows
        return many and bool(self.slopes) and self.effects.n_nodes > 0

    @cached_property
    def few_of_moments(self) -> Behind:
        """The same for means and sds of responses."""
        every = weighted(self.every, self.response)
        if not self._chooses():
            return every
        if self.response.link in LINKS:
            return self.few
        mean, sd = self._asked_lines(every, of_moments=True)
        own = {name: values.T for name, values in self._own(every.rule.population).items()}
        of_mean = self.response.mean_over(mean, sd, own)
        variance = self.response.variance_over(mean, sd, own)
        return few_by_moments(every, of_mean, variance, self.budget.rule)

    def _asked_lines(self, behind, of_moments=False):
        """Means and sds of lines at the rows that few components are for, (n_rows, S) each."""
        u = self.units
        scale = np.sqrt(np.diagonal(self.mean_square))[:-1]
        x, codes = asked_rows(scale, self.n_levels, self.budget.rule)
        x = u.x_mean + u.x_scale * x[:, :-1]
        x = np.column_stack([x, np.full(len(x), self.mean_offset)])
        asked = ~self._is_of_all(codes, of_moments)
        parts = self._line_moments(x[asked], codes[asked], behind, of_moments)
        rows, mean, sd, _ = map(list, zip(*parts, strict=True))
        order = np.argsort(np.concatenate(rows))
        return tuple(np.concatenate(a, axis=1).T[order] for a in (mean, sd))

    @property
    def leaf(self) -> int | None:
        """The factor with most levels."""
        return int(np.argmax(self.n_levels)) if self.n_levels else None

    @property
    def n_draws(self) -> int:
        """Of all chains."""
        return self.effects.place.size

    @property
    def shape(self) -> tuple[int, int]:
        """(n_chains, n_draws)."""
        return self.effects.place.shape

    def group_table(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior means of a factor's effects, and means and sds of the group coefficients.

        Returns
        -------
        effects, coef, coef_sd : array of shape (n_levels, q)
            In the user's units, on the scale of the line, intercept (at X = 0) first.
        """
        varying = varying_columns(self.units, self.slopes[k])
        order, weights = intercept_first(len(varying)), self.rule.weights
        of_beta, of_b = coef_to_user(self.units)[varying], self._to_user(k)
        moved = np.einsum("ia,sag->sgi", of_b, self.effects.mean[k])
        population = self.rule.coef @ of_beta.T
        population[:, -1] += self.units.y_mean
        effects = np.tensordot(weights, moved, 1)
        lines = moved + population[:, None]
        coef = np.tensordot(weights, lines, 1)
        variance = np.tensordot(weights, (lines - coef) ** 2, 1)
        roots = np.einsum("ia,sabg->sigb", of_b, self.effects.root[k])
        variance += np.einsum("s,sigb,sigb->gi", weights, roots, roots, optimize=True)
        return effects[:, order], coef[:, order], np.sqrt(variance)[:, order]

    def group_draws(
        self, k: int, codes: np.ndarray, seed: int | None = None, which: Any = slice(None)
    ) -> np.ndarray:
        """Draws of the effects of some levels, see ``Posterior.group_draws``."""
        q = len(self.slopes[k]) + 1
        place = self.effects.place.ravel()[which]
        require_memory(8.0 * len(place) * len(codes) * q, "draws of the group effects")
        to_user = self._to_user(k)[intercept_first(q)]
        internal = self._level_draws(k, codes, seed, place)
        return np.einsum("ia,ask->ski", to_user, internal)

    def _level_draws(self, k, codes, seed, place):
        """(q, n_draws, K); a level's random numbers depend on seed and code only."""
        seed = self.seed if seed is None else seed
        q = len(self.slopes[k]) + 1
        out = np.empty((q, len(place), len(codes)))
        for j, code in enumerate(codes):
            rng = level_stream(seed, k, int(code))
            noise = rng.standard_normal((q, len(place)))
            mean, root, skew = self._level(k, code)
            if skew is not None:
                noise = skewed_noise(skew.T[:, place], rng.standard_normal(noise.shape), noise)
            out[..., j] = mean.T[:, place] + np.einsum("sab,bs->as", root[place], noise)
        return out

    def _level(self, k, code):
        """Mean (S, q), root (S, q, q) and skewness (S, q) of a level's effects, by component."""
        if self._has_rows(k)[min(code, self.n_levels[k])]:
            moments = self.effects.mean[k][..., code], self.effects.root[k][..., code]
            skew = self.effects.skew
            return *moments, None if skew is None else skew[k][..., code]
        root = self.rule.group_root[k]
        return np.zeros(root.shape[:2]), root, None

    def _has_rows(self, k):
        """Whether a level has rows in the fit, and False for all that it never saw, (G + 1,).

        A level may be known by name and have none, in a fold of a search: it is a new one.
        """
        return np.append(self.n_rows[k] > 0, False)

    def line_mixture(
        self,
        x,
        codes,
        behind: Behind | None = None,
        of_response: bool = False,
        is_skewed: bool = True,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The line's distribution at rows, a slice at a time: one normal per component, or three.

        ``x`` with logs of exposures as its last column, if the rows of fit had them; ``codes``
        (n_rows, n_factors), those of a factor that does not count are ``OUT``. ``behind``: other
        components than all. ``of_response``: under a log link a normal each, with the
        variance that gives the mean of y, whose upper tail it has. ``is_skewed``: whether skewed
        effects count as that, or their means and variances alone.

        Yields
        ------
        rows : int array of shape (k,)
        mean, sd : array of shape (S, k) or (3 S, k)
            Where effects are skewed, the first part of all components, then the second and third.
        """
        behind = self.every if behind is None else behind
        for rows, mean, sd, third in self._line_moments(x, codes, behind, of_response):
            if third is not None and is_skewed:
                mean, sd = in_parts(mean, sd, third)
            yield rows, mean, sd

    def _line_moments(self, x, codes, behind, of_response):
        """Of :meth:`line_mixture` by component: rows, mean, sd, third central moment or None."""
        present = [self._has_rows(k) for k in range(len(self.slopes))]
        how = of_response, self.budget.memory.rows_at_once // 8
        return row_lines(behind, self.units, self.slopes, present, x, codes, *how)

    def _lines(self, x, codes, behind, of_response=True, of_moments=False):
        """As :meth:`line_mixture` with own parameters and weights of each normal."""
        of_all = self._is_of_all(codes, of_moments)
        every = weighted(self.every, self.response) if of_moments else self.every
        how = of_response, not (of_moments and self.response.link == "identity")
        for components, at in ((behind, ~of_all), (every, of_all)):
            at = np.flatnonzero(at)
            for part, mean, sd in self.line_mixture(x[at], codes[at], components, *how):
                rows = at[part]
                yield rows, mean, sd, *self._shares(len(mean), codes[rows], components)

    def _is_of_all(self, codes, of_moments):
        """Which rows all components are asked of, (n_rows,).

        Those of no level, whose lines are points, and in moments under a log link those of levels
        without rows, whose means are those of lines far out.
        """
        out = (codes == OUT).all(1)
        if of_moments and self.response.link == "log":
            for k, code in enumerate(codes.T):
                out |= are_new(code, self._has_rows(k))
        return out

    def _shares(self, n_normals, codes, behind):
        """Own parameters and weights, of sum 1, of each normal of :meth:`line_mixture`.

        ``codes`` (K, n_factors) are those of its rows.
        """
        weights, own = behind.rule.weights, self._own(behind.rule.population)
        times = n_normals // len(weights)
        own = {name: np.tile(values, (times, 1)) for name, values in own.items()}
        return own, np.tile(weights, times) / (times * weights.sum())

    def mean(self, x, codes) -> np.ndarray:
        """Posterior mean of the response at rows."""
        out = np.empty(len(x))
        how = {"of_moments": True}
        for rows, mean, sd, own, weights in self._lines(x, codes, self.few_of_moments, **how):
            out[rows] = weights @ self.response.mean_over(mean, sd, own)
        return out

    def predictive_sd(self, x, codes) -> np.ndarray:
        """Sd of a new response at rows."""
        out = np.empty(len(x))
        how = {"of_moments": True}
        for rows, mean, sd, own, weights in self._lines(x, codes, self.few_of_moments, **how):
            of_mean = self.response.mean_over(mean, sd, own)
            variance = self.response.variance_over(mean, sd, own)
            out[rows] = np.sqrt(total_moments(of_mean, variance, weights)[1])
        return out

    def quantiles(self, x, codes, q: np.ndarray, kind: str) -> np.ndarray:
        """Quantiles (n_rows, len(q)) of new responses, or with ``kind="mean"`` of their mean.

        Of counts and classes the smallest value that has at least that probability up to it.
        """
        out = np.empty((len(x), len(q)))
        of_response = kind == "response"
        for rows, mean, sd, own, weights in self._lines(x, codes, self.few, of_response):
            kept = weights > 0
            mean, sd, weights = mean[kept], sd[kept], weights[kept]
            if of_response:
                own = {name: values[kept] for name, values in own.items()}
                how = self.response, mean, sd, own, weights, q, self.budget.memory
                out[rows] = response_quantiles(*how)
            else:
                line = mixture_quantiles(mean, sd, q, weights)
                out[rows] = self.response.mean(line, {})
        return out

    def distribution_function(self, x, codes, y) -> np.ndarray:
        """Probability of a response up to y, each row on its own, (n_rows,)."""
        nodes, shares = normal_rule(LINE_NODES)
        out = np.zeros(len(y))
        for rows, mean, sd, own, weights in self._lines(x, codes, self.few):
            for node, share in zip(nodes, shares, strict=True):
                below = self.response.cdf(y[rows], mean + node * sd, own)
                out[rows] += share * (weights @ below)
        return out

    def log_density(self, x, codes, y) -> np.ndarray:
        """Log posterior predictive density of each row on its own, (n_rows,)."""
        out = np.empty(len(y))
        for rows, mean, sd, own, weights in self._lines(x, codes, self.few):
            log_density = self.response.log_density_over(y[rows], mean, sd, own)
            out[rows] = logsumexp(log_density, axis=0, b=weights[:, None])
        return out

    def row_log_densities(self, x, codes, y) -> np.ndarray:
        """Log density of each row given each joint draw, group effects too, (n_draws, n_rows)."""
        lines = self.sample_lines(x, codes, slice(None), None)
        return self.response.log_density(y, lines, self.own_parameters())

    def sample_lines(self, x, codes, which, seed) -> np.ndarray:
        """Joint draws of the line at rows, (n_draws, n_samples): rows of a level share its draw."""
        offset = side_of(self.units, x)
        x, zs = internal_rows(self.units, self.slopes, x)
        place = self.effects.place.ravel()[which]
        lines = self.rule.coef[place] @ x.T
        for k, z in enumerate(zs):
            rows = np.flatnonzero(codes[:, k] != OUT)
            if not len(rows):
                continue
            levels, at = np.unique(codes[rows, k], return_inverse=True)
            effects = self._level_draws(k, levels, seed, place)
            for j, column in enumerate(z[rows].T):
                lines[:, rows] += effects[j][:, at] * column
        lines = self.units.y_mean + self.units.y_scale * lines
        return lines if offset is None else lines + offset

    def rows_left_out(self, training: Training) -> RowsLeftOut:
        """Log densities of the rows of fit without and with each, given each component."""
        (slopes,) = self.slopes or (None,)
        n_levels = self.n_levels[0] if self.slopes else 1
        without, within = leave_rows_out(
            self.response,
            self.rule.population,
            self.units,
            slopes,
            n_levels,
            training,
            self.effects.n_nodes,
            self.budget.scores,
        )

        def evaluate(rows):
            return LeftOut(without[:, rows], within[:, rows])

        return RowsLeftOut(self.rule.weights, np.arange(len(training.y)), evaluate)

    def log_likelihood(self) -> np.ndarray:
        """Log density of the rows given each draw, group effects integrated out, (n_draws,)."""
        density = self.effects.log_density
        if density is None:
            raise ValueError(
                "The likelihood needs the group effects integrated out, and this fit sampled "
                "them: prior_sensitivity is for one factor with few slopes."
            )
        return density.sum(1)[self.effects.place.ravel()]

    def own_parameters(self, which: Any = slice(None), x: Any = None) -> dict[str, np.ndarray]:
        """Draws of the response's own parameters, (n_draws, 1), in units of y; of any rows."""
        return self._own(self.population.take(which))

    def observation_variance(self) -> np.ndarray:
        """Draws of the variance that the response adds on the scale of the line, (n_draws,)."""
        at_mean = self.units.y_mean + self.units.y_scale * self.population.coef[:, -1:]
        at_mean = at_mean + self.mean_offset
        own = self.own_parameters()
        mean = self.response.mean(at_mean, own)
        return np.broadcast_to(self.response.latent_variance(own, mean), mean.shape)[:, 0]
