"""A fitted posterior: draws of the population parameters and, given those, exact group effects.

Holds NumPy arrays only, in internal coordinates, and nothing of size draws x groups: the effects of
any group follow in closed form from its cross-products (:mod:`skhier.kernels.normal.conditional`).
A level that fit never saw is a group without rows. With several factors, draws of the effects of
all but the largest are made when first asked for, and kept out of pickles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from skhier.kernels.normal.conditional import coef_moments, condition, draw_others, log_marginal
from skhier.kernels.normal.eliminate import Layout, layout_of
from skhier.kernels.normal.moments import GroupMoments, group_moments
from skhier.kernels.records import Components, Population
from skhier.kernels.user_units import coef_to_user, intercept_first
from skhier.posterior.designs import (
    OUT,
    equal_components,
    internal_rows,
    level_stream,
    side_of,
    varying_columns,
)
from skhier.posterior.drawn import Drawn
from skhier.posterior.lines import Lines, rule_of
from skhier.posterior.mixture import mixture_moments, total_moments, without_lightest
from skhier.posterior.moment_components import moment_components
from skhier.responses.base import Response
from skhier.statistics.records import FactorStats, GroupStats, Plan, Units
from skhier.utils.budget import USUAL, Budget
from skhier.utils.memory import require_memory
from skhier.utils.slices import slices

__all__ = ["Posterior"]

NO_LEVEL = 2**48 - 1
LEFT_OUT = ("layout", "lines", "_other_effects", "_components", "budget")  # of pickles


class Posterior(Drawn):
    """Draws, statistics and moments behind every prediction.

    The arrays are contiguous, as pickling makes them: a sum's last bit depends on the layout.
    Every factor's last level, of index ``n_levels[k]``, has no rows: it stands for every level that
    fit never saw.

    Parameters
    ----------
    units : Units
    stats : GroupStats
        Not padded.
    plan : Plan
    draws : Population
        (n_chains, n_draws, ...).
    slopes : tuple of tuple of int
        Per factor: features with a varying slope.
    seed : int
        Of the group effects' draws.
    response : Response
        What y is, given the line.
    components : Components or None
        The same posterior with the coefficients in closed form; None: that of the draws.
    budget : Budget
        No part of a pickle: what is read spends the usual one.
    """

    _components: Components | None = None  # no part of a pickle either: `rule` is

    def __init__(
        self,
        units: Units,
        stats: GroupStats,
        plan: Plan,
        draws: Population,
        slopes: tuple[tuple[int, ...], ...],
        seed: int,
        response: Response,
        components: Components | None = None,
        budget: Budget = USUAL,
    ):
        self.response, self.budget = response, budget
        self.units, self.plan, self.draws = units, plan, draws
        self.slopes, self.seed = slopes, seed
        self.n_levels = [of_factor.zy.shape[-1] for of_factor in stats.factors]
        self.stats = stats._replace(factors=tuple(map(_with_empty_level, stats.factors)))
        self.population = draws.flat()
        self._components = components
        components = components or equal_components(self.population)
        self.beta_mean, self.beta_cov = coef_moments(components)
        self.moments: tuple[GroupMoments, ...] = ()
        if slopes:
            kept = moment_components(self.layout, components, budget.memory)
            # in a group's line coefficients and effects cancel: moments of the same components
            beta_mean, self.beta_cov_in_group = coef_moments(kept)
            self.moments = group_moments(self.layout, kept, budget.memory)
            leaf = plan.chain[0]
            moved = (beta_mean - self.beta_mean)[self._varying(leaf)]
            self.moments[leaf].mean[:-1] += moved

    @property
    def mean_square(self) -> np.ndarray:
        """Weighted mean of the rows' products of x, (p, p), the constant last; internal units."""
        return self.stats.xx / self.stats.n

    @cached_property
    def layout(self) -> Layout:
        """The statistics in the order of elimination."""
        return layout_of(self.stats, self.plan, self.budget.kernels)

    @cached_property
    def rule(self) -> Components:
        """A few components that predict as all do; the draws, if they are all there is."""
        if self._components is None:
            return equal_components(self.population)
        varying = [self._varying(k) for k in range(len(self.slopes))]
        of_fit = self.layout, self._components, varying, self.response
        return rule_of(*of_fit, self.budget).components

    @cached_property
    def lines(self) -> Lines:
        """The line's distribution at rows."""
        return Lines(self.layout, self.rule, self.budget)

    def __getstate__(self) -> dict[str, Any]:
        """What follows from the rest is left out; a few components stand for all."""
        state = {k: v for k, v in self.__dict__.items() if k not in LEFT_OUT}
        return state if self._components is None else state | {"rule": self.rule}

    @property
    def leaf(self) -> int | None:
        """The factor whose levels are looked at one by one."""
        return next(iter(self.plan.chain), None)

    @property
    def n_draws(self) -> int:
        """Of all chains."""
        return len(self.population.coef)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_chains, n_draws)."""
        return self.draws.coef.shape[:2]

    def group_table(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior means of a factor's effects, and means and sds of the group coefficients.

        Returns
        -------
        effects, coef, coef_sd : array of shape (n_levels, q)
            In the user's units, intercept (at X = 0) first.
        """
        varying, m = self._varying(k), self.moments[k]
        order = intercept_first(len(varying))
        of_beta, of_b = coef_to_user(self.units)[varying], self._to_user(k)
        effects = m.mean @ of_b.T
        cross = np.einsum("ip,gpa,ja->gij", of_beta, m.cross, of_b, optimize=True)
        cov = of_beta @ self.beta_cov_in_group @ of_beta.T + of_b @ m.cov @ of_b.T
        cov = cov + cross + np.swapaxes(cross, 1, 2)
        population = of_beta @ self.beta_mean
        population[-1] += self.units.y_mean
        # far from X = 0 its parts cancel
        sd = np.sqrt(np.maximum(np.diagonal(cov, axis1=1, axis2=2), 0))
        return effects[:-1, order], (effects + population)[:-1, order], sd[:-1, order]

    def group_draws(
        self, k: int, codes: np.ndarray, seed: int | None = None, which: Any = slice(None)
    ) -> np.ndarray:
        """Draws of the effects (deviations) of some levels of a factor, in the user's units.

        Parameters
        ----------
        k : int
            The factor.
        codes : int array of shape (K,)
            Codes past the known levels are unseen ones: members of the population.
        seed : int or None
            None: the fit's, so that a level's draws are the same in every call.
        which : index
            Which draws of the population parameters; all by default.

        Returns
        -------
        array of shape (n_draws, K, q)
            Intercept first.
        """
        q = len(self._varying(k))
        n_draws = len(self.population.coef[which])
        require_memory(8.0 * n_draws * len(codes) * q, "draws of the group effects")
        to_user = self._to_user(k)[intercept_first(q)]
        draws = np.empty((n_draws, len(codes), q))
        others = self._others(seed, which)
        for part in slices(len(codes), self.budget.memory.rows_at_once // (n_draws * q * q)):
            internal = self._level_draws(k, codes[part], others, seed, which)
            np.einsum("ia,ask->ski", to_user, internal, out=draws[:, part])
        return draws

    def _others(self, seed, which) -> dict[int, np.ndarray]:
        """Draws of the effects of all factors but the leaf, (q, n_draws, n_levels + 1) each.

        All of the fit's draws are kept: with many crossed levels they are work.
        """
        if seed is not None:
            return self._draw_others(seed, which)
        if "_other_effects" not in self.__dict__:
            self._other_effects = self._draw_others(self.seed, slice(None))
        return {k: effects[:, which] for k, effects in self._other_effects.items()}

    def _draw_others(self, seed, which):
        draws, noise = self.population.take(which), {}
        others = [k for k in range(len(self.slopes)) if k != self.plan.chain[0]]
        numbers = len(draws.coef) * sum(self.stats.factors[k].zy.size for k in others)
        require_memory(3 * 8.0 * numbers, "draws of the group effects")
        for k in others:
            q, n_levels = self.stats.factors[k].zy.shape
            shape = (q, len(draws.coef), n_levels)
            noise[k] = level_stream(seed, k, NO_LEVEL).standard_normal(shape)
        return draw_others(self.layout, draws, noise, self.budget.memory) if noise else {}

    def _level_draws(self, k, codes, others, seed, which):
        """(q, n_draws, K); an unseen level's random numbers depend on seed and code only."""
        draws = self.population.take(which)
        seed = self.seed if seed is None else seed
        known = np.minimum(codes, self.n_levels[k])
        if k == self.plan.chain[0]:
            effects = condition(self.layout, draws, known, others)
            return effects.mean + _root_times(
                effects.root, self._noise(k, codes, len(draws.coef), seed)
            )
        out = others[k][..., known]
        new = known == self.n_levels[k]
        if new.any():
            noise = self._noise(k, codes[new], len(draws.coef), seed)
            root = np.moveaxis(draws.group_root[k], 0, -1)[..., None]
            out[..., new] = _root_times(np.broadcast_to(root, (*root.shape[:3], new.sum())), noise)
        return out

    def _noise(self, k, codes, n_draws, seed):
        """(q, n_draws, K); a level's random numbers depend on seed and code only."""
        q = len(self._varying(k))
        noise = np.empty((q, n_draws, len(codes)))
        for j, code in enumerate(codes):
            noise[..., j] = level_stream(seed, k, int(code)).standard_normal((q, n_draws))
        return noise

    def mean(self, x, codes) -> np.ndarray:
        """Posterior mean of the response at rows; ``codes`` as in :meth:`line_mean`."""
        if self.response.link == "identity":
            return self.line_mean(x, codes)
        return self._response_moments(x, codes)[0]

    def _response_moments(self, x, codes):
        """Mean and variance of new responses at rows, (2, n_rows)."""
        own, weights = self._own(self.rule.population), without_lightest(self.rule.weights)
        out = np.empty((2, len(x)))
        for rows, mean, sd in self.line_mixture(x, codes):
            of_mean = self.response.mean_over(mean, sd, own)
            variance = self.response.variance_over(mean, sd, own)
            out[:, rows] = total_moments(of_mean, variance, weights)
        return out

    def line_mean(self, x, codes) -> np.ndarray:
        """Posterior mean of the regression line at rows, in units of y.

        ``codes`` (n_rows, n_factors); those of a factor that does not count are ``OUT``.
        """
        x, zs = self._internal_rows(x)
        mean = x @ self.beta_mean
        for k, (z, m) in enumerate(zip(zs, self.moments, strict=True)):
            counts = codes[:, k] != OUT
            level = np.minimum(codes[counts, k], self.n_levels[k])
            mean[counts] += np.einsum("nq,nq->n", z[counts], m.mean[level])
        return self.units.y_mean + self.units.y_scale * mean

    def variance(self, x, codes) -> np.ndarray:
        """Posterior variance of the regression line at rows, in units of y squared.

        Averaged over theta in closed form, of several factors that count together over the
        components of :attr:`rule`.
        """
        if (codes != OUT).any(0).sum() > 1:
            variance = np.empty(len(x))
            for rows, mean, sd in self.line_mixture(x, codes):
                variance[rows] = mixture_moments(mean, sd, self.rule.weights)[1]
            return variance
        x, zs = self._internal_rows(x)
        variance = _spread(x, self.beta_cov)
        for k, (z, m) in enumerate(zip(zs, self.moments, strict=True)):
            counts = codes[:, k] != OUT
            g = np.minimum(codes[:, k], self.n_levels[k])
            known = counts & (g < self.n_levels[k])
            variance[known] = _spread(x[known], self.beta_cov_in_group)
            at = np.flatnonzero(counts)
            for part in slices(
                len(at), self.budget.memory.rows_at_once // (z.shape[1] * x.shape[1])
            ):
                rows = at[part]
                gr, zr = g[rows], z[rows]
                variance[rows] += np.einsum("na,nab,nb->n", zr, m.cov[gr], zr)
                variance[rows] += 2 * np.einsum("np,npq,nq->n", x[rows], m.cross[gr], zr)
        # a level's effects and the coefficients may be known by their sum alone: the parts cancel
        return self.units.y_scale**2 * np.maximum(variance, 0)

    def predictive_sd(self, x, codes) -> np.ndarray:
        """Sd of a new response at rows, in units of y."""
        if self.response.link != "identity":
            return np.sqrt(self._response_moments(x, codes)[1])
        side = side_of(self.units, x)
        noise = np.mean(self.observation_variance()) if side is None else side**2
        return np.sqrt(self.variance(x, codes) + noise)

    def line_mixture(self, x, codes) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The line's distribution at rows, a slice at a time: one normal per component.

        Coefficients and effects are integrated out, given each of the components of :attr:`rule`,
        whose weights are the mixture's. ``codes`` as in :meth:`mean`. Of a row the same bits
        whichever others are in the call.

        Yields
        ------
        rows : int array of shape (k,)
        mean, sd : array of shape (S, k)
            In units of y.
        """
        x, zs = self._internal_rows(x)
        for k, z in enumerate(zs):
            z[codes[:, k] == OUT] = 0
        levels = np.where(codes == OUT, self.n_levels, np.minimum(codes, self.n_levels))
        u = self.units
        for rows, mean, variance in self.lines.moments(x, zs, levels):
            yield rows, u.y_mean + u.y_scale * mean.T, u.y_scale * np.sqrt(variance.T)

    def response_mixture(self, x, codes) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As :meth:`line_mixture`, of new responses: noise included."""
        own = self._own(self.rule.population)
        for rows, mean, sd in self.line_mixture(x, codes):
            yield rows, *self.response.over_lines(mean, sd, self._at_rows(own, x[rows]))

    def row_log_densities(self, x, codes, y) -> np.ndarray:
        """Log density of each row given each joint draw, group effects too, (n_draws, n_rows).

        ``y`` and the density are of what the response transforms it to.
        """
        lines, response = self.sample_lines(x, codes, slice(None), None), self.response
        own = self.own_parameters(slice(None), x)
        density = response.log_density(response.untransformed(y), lines, own)
        return density - response.log_jacobian(y)

    def sample_lines(self, x, codes, which, seed) -> np.ndarray:
        """Joint draws of the line at rows, (n_draws, n_samples): rows of a level share its draw."""
        x, zs = self._internal_rows(x)
        lines = self.population.coef[which] @ x.T
        others = self._others(seed, which) if (codes != OUT).any() else {}
        for k, z in enumerate(zs):
            rows = np.flatnonzero(codes[:, k] != OUT)
            if not len(rows):
                continue
            levels, at = np.unique(codes[rows, k], return_inverse=True)
            effects = self._level_draws(k, levels, others, seed, which)
            for j, column in enumerate(z[rows].T):
                lines[:, rows] += effects[j][:, at] * column
        return self.units.y_mean + self.units.y_scale * lines

    def internal(self, x, y) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Designs of coefficients and of each factor's effects, and y, in internal units."""
        return *self._internal_rows(x), (y - self.units.y_mean) / self.units.y_scale

    def log_likelihood(self) -> np.ndarray:
        """Log density of the rows given each draw, group effects integrated out, (n_draws,).

        Up to a constant.
        """
        return log_marginal(self.layout, self.population, self.budget.memory)

    def own_parameters(self, which: Any = slice(None), x: Any = None) -> Mapping[str, np.ndarray]:
        """Draws of the response's own parameters, (n_draws, 1), or what rows ``x`` say of them."""
        return self._at_rows(self._own(self.population.take(which)), x)

    def _at_rows(self, own, x):
        side = None if x is None else side_of(self.units, x)
        return own if side is None else self.response.at_rows(0.0, own, side)[1]

    def rule_parameters(self) -> dict[str, np.ndarray]:
        """The response's own parameters at the components of :attr:`rule`, (S, 1) each."""
        return self._own(self.rule.population)

    def observation_variance(self) -> np.ndarray:
        """Draws of the variance of y around its line, (n_draws,), in units of y squared."""
        own = self.own_parameters()
        return np.broadcast_to(self.response.latent_variance(own, 0.0), (self.n_draws, 1))[:, 0]

    def _internal_rows(self, x):
        return internal_rows(self.units, self.slopes, x)

    def _varying(self, k) -> list[int]:
        return varying_columns(self.units, self.slopes[k])


def _root_times(root, noise):
    return np.einsum("ijsk,jsk->isk", root, noise)


def _spread(x, cov):
    return np.einsum("np,pr,nr->n", x, cov, x, optimize=True)


def _with_empty_level(stats: FactorStats) -> FactorStats:
    def widened(a):
        return np.ascontiguousarray(np.concatenate([a, np.zeros_like(a[..., :1])], axis=-1))

    return FactorStats(*map(widened, stats))
