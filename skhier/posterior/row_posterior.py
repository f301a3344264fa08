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
    internal_rows,
    level_stream,
    side_of,
    varying_columns,
)
from skhier.posterior.drawn import Drawn
from skhier.posterior.mixture import mixture_quantiles, total_moments, without_lightest
from skhier.posterior.reached import reached
from skhier.posterior.skewed import in_parts, skewed_noise
from skhier.responses.base import Response
from skhier.responses.member import LINE_NODES
from skhier.statistics.records import Units
from skhier.utils.budget import USUAL, Budget
from skhier.utils.hermite import normal_rule
from skhier.utils.memory import require_memory
from skhier.utils.slices import slices
from skhier.utils.training import Training

__all__ = ["RowPosterior", "RowsLeftOut"]

OF_QUANTILES = 7  # nodes of a line where a distribution function is inverted


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
        left_out = ("population", "budget")
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    @cached_property
    def population(self) -> Population:
        """Draws of all chains: components, so that effects and coefficients belong together."""
        return self.rule.population.take(self.effects.place.ravel())

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
        self, x, codes, n: int | None = None, of_response: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The line's distribution at rows, a slice at a time: one normal per component, or three.

        ``x`` with logs of exposures as its last column, if the rows of fit had them; ``codes``
        (n_rows, n_factors), those of a factor that does not count are ``OUT``. ``n``: of
        the first components only. ``of_response``: under a log link a normal each, with the
        variance that gives the mean of y, whose upper tail it has.

        Yields
        ------
        rows : int array of shape (k,)
        mean, sd : array of shape (S, k) or (3 S, k)
            Where effects are skewed, the first part of all components, then the second and third.
        """
        offset = side_of(self.units, x)
        x, zs = internal_rows(self.units, self.slopes, x)
        u, part = self.units, slice(n)
        coef = self.rule.coef[part]
        roots = [root[part] for root in self.rule.group_root]
        stretch = self.effects.stretch if of_response else None
        skew = None if stretch is not None else self.effects.skew
        for here in slices(len(x), self.budget.memory.rows_at_once // (8 * len(coef))):
            rows = np.arange(len(x))[here]
            mean, variance = coef @ x[rows].T, np.zeros((len(coef), len(rows)))
            third = np.zeros_like(mean)
            for k, z in enumerate(zs):
                code, z = codes[rows, k], z[rows]
                known = self._has_rows(k)[np.minimum(code, self.n_levels[k])]
                old = np.flatnonzero((code != OUT) & known)
                new = np.flatnonzero((code != OUT) & ~known)
                level = code[old]
                of_level = self.effects.mean[k][part][..., level]
                mean[:, old] += np.einsum("sak,ka->sk", of_level, z[old])
                spread = np.einsum("sabk,ka->sbk", self.effects.root[k][part][..., level], z[old])
                by = 1.0 if stretch is None else stretch[k][part][:, level]
                variance[:, old] += by * (spread**2).sum(1)
                if skew is not None:
                    third[:, old] += (skew[k][part][..., level] * spread**3).sum(1)
                variance[:, new] += (np.einsum("sab,ka->sbk", roots[k], z[new]) ** 2).sum(1)
            sd = np.sqrt(variance)
            if skew is not None:
                mean, sd = in_parts(mean, sd, third)
            mean = u.y_mean + u.y_scale * mean
            if offset is not None:
                mean += offset[rows]
            yield rows, mean, u.y_scale * sd

    def mean(self, x, codes) -> np.ndarray:
        """Posterior mean of the response at rows."""
        out = np.empty(len(x))
        for rows, mean, sd in self.line_mixture(x, codes, of_response=True):
            own, weights = self._shares_of_moments(len(mean), codes[rows])
            out[rows] = weights @ self.response.mean_over(mean, sd, own)
        return out

    def predictive_sd(self, x, codes) -> np.ndarray:
        """Sd of a new response at rows."""
        out = np.empty(len(x))
        for rows, mean, sd in self.line_mixture(x, codes, of_response=True):
            own, weights = self._shares_of_moments(len(mean), codes[rows])
            of_mean = self.response.mean_over(mean, sd, own)
            variance = self.response.variance_over(mean, sd, own)
            out[rows] = np.sqrt(total_moments(of_mean, variance, weights)[1])
        return out

    def quantiles(self, x, codes, q: np.ndarray, kind: str) -> np.ndarray:
        """Quantiles (n_rows, len(q)) of new responses, or with ``kind="mean"`` of their mean.

        Of counts and classes the smallest value that has at least that probability up to it.
        """
        n = min(self.budget.memory.moment_components[0], len(self.rule.weights))
        out = np.empty((len(x), len(q)))
        for rows, mean, sd in self.line_mixture(x, codes, n, of_response=kind == "response"):
            own, weights = self._shares(len(mean), codes[rows], n)
            kept = weights > 0
            mean, sd, weights = mean[kept], sd[kept], weights[kept]
            if kind == "mean":
                line = mixture_quantiles(mean, sd, q, weights)
                out[rows] = self.response.mean(line, {})
            else:
                own = {name: values[kept] for name, values in own.items()}
                out[rows] = self._response_quantiles(mean, sd, own, weights, q)
        return out

    def _shares_of_moments(self, n_normals, codes):
        """As :meth:`_shares`; under a log link lines far out have means beyond all others."""
        own, weights = self._shares(n_normals, codes)
        return own, without_lightest(weights) if self.response.link == "log" else weights

    def _shares(self, n_normals, codes, n=None):
        """Own parameters and weights, of sum 1, of each normal of :meth:`line_mixture`.

        ``codes`` (K, n_factors) are those of its rows.
        """
        part = slice(n)
        weights, own = self.rule.weights[part], self._own(self.rule.population.take(part))
        times = n_normals // len(weights)
        weights = np.tile(weights, times)
        own = {name: np.tile(values, (times, 1)) for name, values in own.items()}
        return own, weights / weights.sum()

    def _response_quantiles(self, mean, sd, own, weights, q):
        nodes, shares = normal_rule(OF_QUANTILES)

        def below(y):
            """P(Y <= y), (k,)."""
            total = np.zeros(len(y))
            for node, share in zip(nodes, shares, strict=True):
                total += share * (weights @ self.response.cdf(y, mean + node * sd, own))
            return total

        return np.stack([reached(below, level, mean, self.response) for level in q], axis=1)

    def distribution_function(self, x, codes, y) -> np.ndarray:
        """Probability of a response up to y, each row on its own, (n_rows,)."""
        nodes, shares = normal_rule(LINE_NODES)
        out = np.zeros(len(y))
        for rows, mean, sd in self.line_mixture(x, codes, of_response=True):
            own, weights = self._shares(len(mean), codes[rows])
            for node, share in zip(nodes, shares, strict=True):
                below = self.response.cdf(y[rows], mean + node * sd, own)
                out[rows] += share * (weights @ below)
        return out

    def log_density(self, x, codes, y) -> np.ndarray:
        """Log posterior predictive density of each row on its own, (n_rows,)."""
        out = np.empty(len(y))
        for rows, mean, sd in self.line_mixture(x, codes, of_response=True):
            own, weights = self._shares(len(mean), codes[rows])
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
