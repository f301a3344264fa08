"""A fitted posterior of levels with a noise of their own: components, and each level's noise.

The same questions as :class:`~skhier.posterior.row_posterior.RowPosterior` answers. Given a
component and its noise all of a level is normal in closed form
(:mod:`skhier.kernels.normal.given_noise`), so that a line, or a new response, is a mixture of
normals over components and nodes of the level's noise. A level that fit never saw has a noise drawn
from the population of noises, and so has a row whose level does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from skhier.kernels.normal.conditional import coef_moments
from skhier.kernels.normal.given_noise import (
    FARTHEST_LOG_NOISE,
    given_noise,
    levels_given,
    rows_given,
)
from skhier.kernels.normal.left_out import LeftOut
from skhier.kernels.records import LevelNoises, Population
from skhier.kernels.user_units import coef_to_user, intercept_first
from skhier.posterior.designs import (
    OUT,
    asked_rows,
    internal_rows,
    level_stream,
    varying_columns,
)
from skhier.posterior.few import Behind, without_light_ones
from skhier.posterior.level_noises import LevelNoisesPosterior
from skhier.posterior.mixture import (
    mixture_cdf,
    mixture_log_density,
    mixture_quantiles,
    without_lightest,
)
from skhier.posterior.row_posterior import RowsLeftOut
from skhier.posterior.rule import places_by_lines
from skhier.responses.by_level import SPREAD
from skhier.responses.normal import SCALE
from skhier.utils.hermite import normal_rule
from skhier.utils.slices import slices
from skhier.utils.training import Training
from skhier.utils.validation import forbid_fractional_rows

__all__ = ["NoisePosterior"]

LARGEST_VARIANCE = 1e150  # variance of a level that nobody saw, whose square is a number
MAX_SKEW = 1.0  # of a drawn log sd: up to it the map from a normal number rises within 3 sds


class _Moments(NamedTuple):
    """Of each level: sd of the noise, its square and that one's inverse (G,), and of the effects.

    Internal units. ``mean`` (q, G), ``cov`` (q, q, G), ``cross`` (p, q, G) with the coefficients,
    whose mean and covariance over the same components are ``beta`` (p,) and ``beta_cov`` (p, p).
    """

    sd: np.ndarray
    variance: np.ndarray
    precision: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    cross: np.ndarray
    beta: np.ndarray
    beta_cov: np.ndarray


class _Mixture(NamedTuple):
    """Of k rows: means of the line, its sds and the noise's, and weights, (C, k) each."""

    mean: np.ndarray
    sd: np.ndarray
    noise: np.ndarray
    weights: np.ndarray


class NoisePosterior(LevelNoisesPosterior):
    """Components, level noises and draws behind every prediction; one factor.

    Parameters are those of :class:`~skhier.posterior.row_posterior.RowPosterior`, ``effects`` a
    :class:`~skhier.kernels.records.LevelNoises`, and ``stats``, the statistics of fit.
    """

    effects: Any
    noise_factor = 0

    def __init__(self, *args: Any, stats: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.stats = stats
        self.beta_mean, self.beta_cov = coef_moments(self.rule)
        self.moments = self._moments_of_levels()

    @property
    def noises(self) -> LevelNoises:
        """Of the levels given each component."""
        return self.effects

    def _moments_of_levels(self) -> _Moments:
        levels, q = self.n_levels[0], len(self.slopes[0]) + 1
        own, memory = self.budget.noises, self.budget.memory
        size = memory.group_entries // (levels * own.nodes_of_averages)
        fewest = min(own.fewest_of_levels, len(self.rule.weights))
        rule = self.rule.first(int(np.clip(size, fewest, None)))
        mean, beta = rule.weights @ rule.coef, rule.coef
        off = beta - mean
        out = _Moments(
            np.empty(levels),
            np.empty(levels),
            np.empty(levels),
            np.empty((q, levels)),
            np.empty((q, q, levels)),
            np.empty((len(mean), q, levels)),
            mean,
            (rule.weights[:, None] * off).T @ off,
        )
        each = len(rule.weights) * own.nodes_of_averages * (q * q + 4)
        work = memory.rows_at_once // each
        for part in slices(levels, work):
            which = np.arange(levels)[part]
            given = levels_given(self.noises, rule.population, which, own.nodes_of_averages)
            share = rule.weights[:, None, None] * np.exp(given.log_share)
            out.sd[part] = (share * np.sqrt(given.variance)).sum((0, 1))
            out.variance[part] = (share * given.variance).sum((0, 1))
            out.precision[part] = (share / given.variance).sum((0, 1))
            centre = out.mean[:, part] = np.einsum("SNK,iSNK->iK", share, given.mean)
            apart = given.mean - centre[:, None, None]
            out.cov[..., part] = np.einsum("SNK,iSNK,jSNK->ijK", share, apart, apart, optimize=True)
            spread = np.einsum("SNK,iaSNK,jaSNK->ijK", share, given.root, given.root, optimize=True)
            out.cov[..., part] += spread
            of_points = np.einsum("SNK,iSNK->iSK", share, apart)
            out.cross[..., part] = np.einsum("Sp,iSK->piK", off, of_points)
        # in a level's line coefficients and effects cancel: means of all components in both
        out.mean[...] += (mean - self.beta_mean)[self._varying(), None]
        return out

    def _varying(self):
        return varying_columns(self.units, self.slopes[0])

    def noise_table(self) -> np.ndarray:
        """Posterior mean and sd of each level's noise sd, (n_levels, 2), in units of y."""
        m = self.moments
        sd = np.sqrt(np.maximum(m.variance - m.sd**2, 0))
        return self.units.y_scale * np.stack([m.sd, sd], axis=1)

    def group_table(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior means of the effects, and means and sds of the group coefficients.

        As :meth:`skhier.posterior.posterior.Posterior.group_table`.
        """
        varying, m = self._varying(), self.moments
        order = intercept_first(len(varying))
        of_beta, of_b = coef_to_user(self.units)[varying], self._to_user(k)
        effects = (of_b @ m.mean).T
        cross = np.einsum("ip,pag,ja->gij", of_beta, m.cross, of_b, optimize=True)
        cov = np.einsum("ia,abg,jb->gij", of_b, m.cov, of_b, optimize=True)
        cov = cov + of_beta @ m.beta_cov @ of_beta.T + cross + np.swapaxes(cross, 1, 2)
        population = of_beta @ self.beta_mean
        population[-1] += self.units.y_mean
        sd = np.sqrt(np.maximum(np.diagonal(cov, axis1=1, axis2=2), 0))
        return effects[:, order], (effects + population)[:, order], sd[:, order]

    def noise_draws(
        self, codes: np.ndarray, seed: int | None = None, which: Any = slice(None)
    ) -> np.ndarray:
        """See :class:`~skhier.posterior.level_noises.LevelNoisesPosterior`."""
        place = self.noises.place.ravel()[which]
        return self.units.y_scale * self._drawn(codes, seed, place)[1]

    def _level_draws(self, k, codes, seed, place):
        return self._drawn(codes, seed, place)[0]

    def _drawn(self, codes, seed, place):
        """Effects (q, n_draws, K) and noise sds (n_draws, K) together."""
        seed = self.seed if seed is None else seed
        q, n = len(self.slopes[0]) + 1, len(place)
        codes = np.asarray(codes)
        effects, sd = np.empty((q, n, len(codes))), np.empty((n, len(codes)))
        everyone = self.rule.population.take(place)
        size = self.budget.memory.rows_at_once // (8 * n * q * q)
        for part in slices(len(codes), size):
            here = codes[part]
            noise = np.stack([self._random(seed, code, (q + 1, n)) for code in here], axis=-1)
            sd[:, part] = self._noise_sds(everyone, here, place, noise[-1])
            known = np.flatnonzero((here != OUT) & (here < self.n_levels[0]))
            root = np.moveaxis(everyone.group_root[0], 0, -1)[..., None]
            effects[..., part] = np.einsum("abnK,bnK->anK", root, noise[:-1])
            levels = self.noises.levels.take(here[known])
            variance = sd[:, None, part][..., known] ** 2
            mean, root = (a[..., 0, :] for a in given_noise(levels, everyone, variance))
            at = np.arange(len(codes))[part][known]
            effects[..., at] = mean + np.einsum("abnK,bnK->anK", root, noise[:-1][..., known])
        return effects, sd

    def _random(self, seed, code, shape):
        """Random numbers of a level, which depend on seed and code only."""
        code = self.n_levels[0] if code == OUT else int(code)
        return level_stream(seed, 0, code).standard_normal(shape)

    def _noise_sds(self, everyone, codes, place, noise):
        """Noise sds (n_draws, K) of which ``noise`` are the normal numbers."""
        own = everyone.own
        log_sd = np.log(own[SCALE])[:, None] + own[SPREAD][:, None] * noise
        known = np.flatnonzero((codes != OUT) & (codes < self.n_levels[0]))
        level = codes[known]
        location, spread = (a[place][:, level] for a in self.noises[1:3])
        skew = np.clip(self.noises.skew[place][:, level], -MAX_SKEW, MAX_SKEW)
        z = noise[:, known]
        z = (z + skew * (z**2 - 1) / 6) / np.sqrt(1 + skew**2 / 18)  # Cornish and Fisher (1938)
        log_sd[:, known] = location + spread * z
        return np.exp(np.clip(log_sd, -FARTHEST_LOG_NOISE, FARTHEST_LOG_NOISE))

    def mean(self, x, codes) -> np.ndarray:
        """Posterior mean of the response at rows."""
        return self._moments(x, codes)[0]

    def predictive_sd(self, x, codes) -> np.ndarray:
        """Sd of a new response at rows."""
        return np.sqrt(self._moments(x, codes)[1])

    def _moments(self, x, codes):
        """Mean and variance of new responses at rows, (2, n_rows)."""
        u, m = self.units, self.moments
        x, (z,) = internal_rows(u, self.slopes, x)
        code = codes[:, 0]
        own, weights = self.rule.population.own, self.rule.weights
        mean = x @ self.beta_mean
        variance = np.einsum("np,pr,nr->n", x, self.beta_cov, x, optimize=True)
        new = (code != OUT) & (code >= self.n_levels[0])
        root = self.rule.group_root[0]
        sigma = np.einsum("s,sab,scb->ac", weights, root, root, optimize=True)
        variance[new] += np.einsum("na,ab,nb->n", z[new], sigma, z[new])
        with np.errstate(over="ignore"):  # the mean over all levels has no bound but float64's
            new_noise = self.response.latent_variance(own, 0.0)
        variance += without_lightest(weights) @ np.minimum(new_noise, LARGEST_VARIANCE)
        known = np.flatnonzero((code != OUT) & ~new)
        for part in slices(len(known), self.budget.memory.rows_at_once // m.cross[..., 0].size):
            rows = known[part]
            g, zr, xr = code[rows], z[rows], x[rows]
            mean[rows] += np.einsum("an,na->n", m.mean[:, g], zr)
            of_rows = np.einsum("np,pr,nr->n", xr, m.beta_cov, xr, optimize=True)
            of_rows += np.einsum("na,abn,nb->n", zr, m.cov[..., g], zr)
            of_rows += 2 * np.einsum("np,pan,na->n", xr, m.cross[..., g], zr)
            variance[rows] = np.maximum(of_rows, 0) + m.variance[g]
        return np.stack([u.y_mean + u.y_scale * mean, u.y_scale**2 * variance])

    @cached_property
    def few(self) -> Behind:
        """A few weighted components that predict as all do, see :mod:`.few`."""
        scale = np.sqrt(np.diagonal(self.mean_square))[:-1]
        x, codes = asked_rows(scale, self.n_levels, self.budget.rule)
        code = codes[:, 0]
        every = without_light_ones(self.every)
        z, n_nodes = x[:, self._varying()], self.budget.noises.nodes_of_averages
        shape = len(every.rule.weights), n_nodes, len(x)
        mixture = self._mixture_of(every, x, z, code, n_nodes)
        line, sd, noise, weights = (a.reshape(shape) for a in mixture)
        weights = weights / weights.sum(1, keepdims=True)
        mean = (weights * line).sum(1)
        variance = (weights * (sd**2 + (line - mean[:, None]) ** 2)).sum(1)
        # of every second row the response, and of those of no level, whose lines are points; by the
        # typical noise: a mean square may be that of one component far out
        is_response = (np.arange(len(x)) % 2 == 0) | (code == OUT)
        typical = np.exp(2 * (weights * np.log(noise)).sum(1))
        variance[:, is_response] += typical[:, is_response]
        how = every.rule, mean.T, np.sqrt(variance).T
        places, weights, _ = places_by_lines(*how, budget=self.budget.rule)
        return every.take(places, weights)

    def _mixture(self, x, codes) -> Iterator[tuple[np.ndarray, _Mixture]]:
        """Rows, a slice at a time, as mixtures over components and nodes of the noise."""
        x, (z,) = internal_rows(self.units, self.slopes, x)
        code = codes[:, 0]
        order = np.argsort(code, kind="stable")  # a level's nodes are made once
        known = (code[order] != OUT) & (code[order] < self.n_levels[0])
        is_large = known.copy()
        own = self.budget.noises
        is_large[known] = self.n_rows[0][code[order][known]] >= own.large_level
        halves = (order[is_large], own.nodes_of_large), (order[~is_large], own.nodes)
        for some, n_nodes in halves:
            size = self.budget.memory.rows_at_once // (8 * len(self.few.rule.weights) * n_nodes)
            for part in slices(len(some), size):
                rows = some[part]
                yield rows, self._mixture_of(self.few, x[rows], z[rows], code[rows], n_nodes)

    def _mixture_of(self, behind, x, z, code, n_nodes) -> _Mixture:
        rule, noises = behind
        nodes, weight = normal_rule(n_nodes)
        shape = (len(rule.weights), n_nodes, len(x))
        own, root = rule.population.own, rule.group_root[0]
        line = np.broadcast_to((rule.coef @ x.T)[:, None], shape).copy()
        far = np.clip(own[SPREAD][:, None] * nodes, -FARTHEST_LOG_NOISE, FARTHEST_LOG_NOISE)
        noise = own[SCALE][:, None] * np.exp(far)
        noise = np.broadcast_to(noise[..., None], shape).copy()
        share = np.broadcast_to(weight[:, None], shape).copy()
        counts = (code != OUT).astype(float)
        prior = np.einsum("Sab,na->Sbn", root, z) * counts
        variance = np.broadcast_to((prior**2).sum(1)[:, None], shape).copy()
        known = np.flatnonzero((code != OUT) & (code < self.n_levels[0]))
        levels, at = np.unique(code[known], return_inverse=True)
        if len(levels):
            given = levels_given(noises, rule.population, levels, n_nodes)
            zk = z[known]
            line[..., known] += np.einsum("aSNk,ka->SNk", given.mean[..., at], zk)
            spread = np.einsum("abSNk,ka->bSNk", given.root[..., at], zk)
            variance[..., known] = (spread**2).sum(0)
            noise[..., known] = np.sqrt(given.variance[..., at])
            share[..., known] = np.exp(given.log_share[..., at])
        share *= rule.weights[:, None, None]
        u = self.units
        parts = u.y_mean + u.y_scale * line, u.y_scale * np.sqrt(variance), u.y_scale * noise, share
        return _Mixture(*(a.reshape(-1, len(x)) for a in parts))

    def __getstate__(self) -> dict[str, Any]:
        """What follows from the rest is left out."""
        left_out = ("few", "_noise_variance")
        return {k: v for k, v in super().__getstate__().items() if k not in left_out}

    def _line(self, x):
        """The design of the coefficients, internal units."""
        return internal_rows(self.units, self.slopes, x)[0]

    def quantiles(self, x, codes, q: np.ndarray, kind: str) -> np.ndarray:
        """Quantiles (n_rows, len(q)) of new responses, or with ``kind="mean"`` of the line."""
        out = np.empty((len(x), len(q)))
        if kind == "mean" and (codes == OUT).all():
            line = self.units.y_mean + self.units.y_scale * (self.rule.coef @ self._line(x).T)
            return mixture_quantiles(line, np.zeros_like(line), q, self.rule.weights)
        for rows, mixture in self._mixture(x, codes):
            sd = mixture.sd if kind == "mean" else np.hypot(mixture.sd, mixture.noise)
            out[rows] = mixture_quantiles(mixture.mean, sd, q, mixture.weights)
        return out

    def distribution_function(self, x, codes, y) -> np.ndarray:
        """Probability of a response up to y, each row on its own, (n_rows,)."""
        out = np.empty(len(y))
        for rows, *mixture in self.response_mixture(x, codes):
            out[rows] = mixture_cdf(y[rows], *mixture)
        return out

    def log_density(self, x, codes, y) -> np.ndarray:
        """Log posterior predictive density of each row on its own, (n_rows,)."""
        out = np.empty(len(y))
        for rows, *mixture in self.response_mixture(x, codes):
            out[rows] = mixture_log_density(y[rows], *mixture)
        return out

    def response_mixture(self, x, codes) -> Iterator[tuple[np.ndarray, ...]]:
        """New responses at rows; weights (n_components, k) sum to 1 in each row."""
        for rows, (mean, sd, noise, weights) in self._mixture(x, codes):
            yield rows, mean, np.hypot(sd, noise), weights

    def rows_left_out(self, training: Training) -> RowsLeftOut:
        """As of :class:`~skhier.posterior.row_posterior.RowPosterior`, with few components."""
        forbid_fractional_rows(training.weights)
        u, codes = self.units, training.codes[:, 0]
        x, (z,) = internal_rows(u, self.slopes, training.x)
        xy = np.column_stack([x, (training.y - u.y_mean) / u.y_scale])
        own = self.budget.noises
        is_large = self.n_rows[0] >= own.large_level
        n_nodes = np.where(is_large, own.nodes_of_large, own.nodes)[codes]
        rule = self.rule.first(self.budget.scores.n_components(n_nodes.sum()))
        everyone: Population = rule.population

        def evaluate(rows):
            out = LeftOut(*(np.empty((len(rows), len(rule.weights))) for _ in range(2)))
            for n in (own.nodes_of_large, own.nodes):
                at = np.flatnonzero(n_nodes[rows] == n)
                some = rows[at]
                of_rows = codes[some], xy[some], z[some], n, self.budget.memory
                pair = rows_given(self.noises, everyone, *of_rows)
                out.without[at], out.within[at] = pair
            return LeftOut(*((part - np.log(u.y_scale)).T for part in out))

        return RowsLeftOut(rule.weights, np.argsort(codes, kind="stable"), evaluate)

    @cached_property
    def _noise_variance(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the noise's variance averaged over the rows of fit, given each component: mean, sd."""
        x, weights = normal_rule(self.budget.noises.nodes_of_averages)
        share = self.n_rows[0] / self.n_rows[0].sum()
        mean, square = np.zeros((2, *self.noises.log_sd.shape))
        for node, weight in zip(x, weights, strict=True):
            variance = np.exp(2 * (self.noises.log_sd + self.noises.spread * node))
            mean += weight * variance
            square += weight * variance**2
        return mean @ share, np.sqrt(np.maximum(square - mean**2, 0.0) @ share**2)

    def observation_variance(self) -> np.ndarray:
        """Draws of the noise's variance, averaged over the rows of fit, (n_draws,).

        Lognormal given a component, with the moments of the average over levels.
        """
        mean, sd = (a[self.noises.place.ravel()] for a in self._noise_variance)
        spread = np.log1p((sd / mean) ** 2)
        z = np.random.default_rng([self.seed, 2]).standard_normal(len(mean))
        return self.units.y_scale**2 * mean * np.exp(np.sqrt(spread) * z - spread / 2)
