"""A fitted posterior: draws of the population parameters and, given those, exact group effects.

Holds NumPy arrays only, in internal coordinates, and nothing of size draws x groups: the effects of
any group follow in closed form from its cross-products (:mod:`skhier.kernels.conditional`).
A level that fit never saw is a group without rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from skhier.estimators._units import (
    coef_to_user,
    effect_scale,
    in_user_units,
    intercept_first,
)
from skhier.kernels.conditional import (
    Components,
    GroupMoments,
    PopulationDraws,
    coef_moments,
    condition,
    group_moments,
    take_groups,
)
from skhier.kernels.types import GroupStats, Hyper, Units
from skhier.utils.memory import require_memory
from skhier.utils.mixture import mixture_log_density

__all__ = ["Posterior", "equal_components"]

ROWS_AT_ONCE = 2**22
GROUP_ENTRIES = 2**22  # of groups x components x q^2
MIN_COMPONENTS, MAX_COMPONENTS = 256, 1024


class Posterior:
    """Draws, statistics and moments behind every prediction.

    The arrays are contiguous, as pickling makes them: a sum's last bit depends on the layout.

    Parameters
    ----------
    units : Units
    stats : GroupStats
        Not padded.
    hyper : Hyper
        Draws, each of shape (n_chains, n_draws, ...).
    slopes : tuple of int or None
        Features with a varying slope; None: no grouping factor.
    seed : int
        Of the group effects' draws.
    components : Components or None
        The same posterior with the coefficients in closed form; None: that of the draws.
    group_entries : int
        Of groups x components x q^2 in the group moments, beyond which fewer components do.
    """

    def __init__(
        self,
        units: Units,
        stats: GroupStats,
        hyper: Hyper,
        slopes: tuple[int, ...] | None,
        seed: int,
        components: Components | None = None,
        group_entries: int = GROUP_ENTRIES,
    ):
        self.units, self.hyper, self.slopes, self.seed = units, hyper, slopes, seed
        self.stats = stats
        self.n_groups = 0 if slopes is None else stats.zy.shape[-1]
        self.population = self._population_draws()
        components = components or equal_components(self.population)
        self.beta_mean, self.beta_cov = coef_moments(components)
        if slopes is not None:
            # the last group has no rows: it stands for every level that fit never saw
            self.stats = stats._replace(
                **{k: _with_empty_group(getattr(stats, k)) for k in ("zz", "zx", "zy")}
            )
            entries = (self.n_groups + 1) * len(stats.zy) ** 2
            n_kept = int(np.clip(group_entries // entries, MIN_COMPONENTS, MAX_COMPONENTS))
            kept = components.first(n_kept)
            # in a group's line coefficients and effects cancel: moments of the same components
            beta_mean, self.beta_cov_in_group = coef_moments(kept)
            moments = GroupMoments(*map(np.ascontiguousarray, group_moments(self.stats, kept)))
            moments.mean[:-1] += (beta_mean - self.beta_mean)[self._varying()]
            self.moments = moments

    def _population_draws(self) -> PopulationDraws:
        n_chains, n_draws = self.hyper.noise_scale.shape
        flat = Hyper(*(a.reshape(n_chains * n_draws, *a.shape[2:]) for a in self.hyper))
        beta = np.concatenate([flat.coef, flat.intercept[:, None]], axis=1)
        chol = flat.group_scale[:, :, None] * flat.corr_chol
        if self.slopes is not None:
            chol = self.units.effects_at_mean @ chol
        return PopulationDraws(beta, flat.noise_scale, chol)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_chains, n_draws)."""
        return self.hyper.noise_scale.shape

    def population_draws(self) -> dict[str, np.ndarray]:
        """Draws in the user's units, see :func:`~skhier.estimators._units.in_user_units`."""
        return in_user_units(self.hyper, self.units, self.slopes)

    def group_table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior means of the effects, and means and sds of the group coefficients.

        Returns
        -------
        effects, coef, coef_sd : array of shape (n_groups, q)
            In the user's units, intercept (at X = 0) first.
        """
        order, m = intercept_first(len(self._varying())), self.moments
        of_beta, of_b = coef_to_user(self.units)[self._varying()], self._to_user()
        effects = m.mean @ of_b.T
        cross = np.einsum("ip,gpa,ja->gij", of_beta, m.cross, of_b, optimize=True)
        cov = of_beta @ self.beta_cov_in_group @ of_beta.T + of_b @ m.cov @ of_b.T
        cov = cov + cross + np.swapaxes(cross, 1, 2)
        population = of_beta @ self.beta_mean
        population[-1] += self.units.y_mean
        sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
        return effects[:-1, order], (effects + population)[:-1, order], sd[:-1, order]

    def group_draws(
        self, codes: np.ndarray, seed: int | None = None, which: Any = slice(None)
    ) -> np.ndarray:
        """Draws of the effects (deviations) of some groups, in the user's units.

        Parameters
        ----------
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
        q = len(self._varying())
        n_draws = len(self.population.sigma[which])
        require_memory(8.0 * n_draws * len(codes) * q, "draws of the group effects")
        to_user = self._to_user()[intercept_first(len(self._varying()))]
        draws = np.empty((n_draws, len(codes), q))
        for part in _slices(len(codes), ROWS_AT_ONCE // (n_draws * q * q)):
            internal = self._internal_group_draws(codes[part], seed, which)
            np.einsum("ia,ask->ski", to_user, internal, out=draws[:, part])
        return draws

    def _internal_group_draws(self, codes, seed, which):
        """(q, n_draws, K); a level's random numbers depend on seed and code only."""
        draws = PopulationDraws(*(a[which] for a in self.population))
        known = np.minimum(codes, self.n_groups)
        given = condition(take_groups(self.stats, known), draws)
        q, n_draws, _ = given.mean.shape
        seed = self.seed if seed is None else seed
        noise = np.empty((q, n_draws, len(codes)))
        for k, code in enumerate(codes):
            stream = np.random.Philox(key=(int(seed) << 64) + int(code))
            noise[..., k] = np.random.Generator(stream).standard_normal((q, n_draws))
        return given.mean + np.einsum("ijsk,jsk->isk", given.root, noise)

    def mean_and_variance(self, x, codes) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and variance of the regression line at rows, in units of y.

        ``codes`` None: the population line.
        """
        x, z = self._internal_rows(x)
        mean, variance = x @ self.beta_mean, _spread(x, self.beta_cov)
        if codes is not None:
            known = codes < self.n_groups
            variance[known] = _spread(x[known], self.beta_cov_in_group)
            g = np.minimum(codes, self.n_groups)
            m = self.moments
            mean += np.einsum("nq,nq->n", z, m.mean[g])
            for rows in _slices(len(x), ROWS_AT_ONCE // (z.shape[1] * x.shape[1])):
                gr, zr = g[rows], z[rows]
                variance[rows] += np.einsum("na,nab,nb->n", zr, m.cov[gr], zr)
                variance[rows] += 2 * np.einsum("np,npq,nq->n", x[rows], m.cross[gr], zr)
        return self.units.y_mean + self.units.y_scale * mean, self.units.y_scale**2 * variance

    def line_mixture(self, x, codes) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The line's distribution at rows, a slice at a time: one normal per draw.

        Yields
        ------
        rows : int array of shape (k,)
        mean, sd : array of shape (n_draws, k)
            In units of y.
        """
        x, z = self._internal_rows(x)
        u, draws = self.units, self.population
        q = z.shape[1]
        order = np.arange(len(x)) if codes is None else np.argsort(codes, kind="stable")
        for part in _slices(len(x), ROWS_AT_ONCE // (len(draws.sigma) * (1 + q * q))):
            rows = order[part]
            mean = draws.beta @ x[rows].T
            sd = np.zeros_like(mean)
            if codes is not None:
                known, at = np.unique(np.minimum(codes[rows], self.n_groups), return_inverse=True)
                given = condition(take_groups(self.stats, known), draws)
                mean += np.einsum("isk,ki->sk", given.mean[..., at], z[rows])
                spread = np.einsum("ijsk,ki->jsk", given.root[..., at], z[rows])
                sd = np.sqrt((spread**2).sum(0))
            yield rows, u.y_mean + u.y_scale * mean, u.y_scale * sd

    def response_mixture(self, x, codes) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As :meth:`line_mixture`, of new responses: noise included."""
        noise = self.noise_draws()[:, None]
        for rows, mean, sd in self.line_mixture(x, codes):
            yield rows, mean, np.hypot(sd, noise)

    def log_density(self, x, codes, y) -> np.ndarray:
        """Log posterior predictive density of each row on its own, (n_samples,)."""
        out = np.empty(len(y))
        for rows, mean, sd in self.response_mixture(x, codes):
            out[rows] = mixture_log_density(y[rows], mean, sd)
        return out

    def row_log_densities(self, x, codes, y) -> np.ndarray:
        """Log density of each row given each joint draw, group effects too, (n_draws, n_rows)."""
        sigma = self.noise_draws()[:, None]
        z = (y - self.sample_lines(x, codes, slice(None), None)) / sigma
        return -0.5 * z**2 - np.log(sigma * np.sqrt(2 * np.pi))

    def sample_lines(self, x, codes, which, seed) -> np.ndarray:
        """Joint draws of the line at rows, (n_draws, n_samples): rows of a level share its draw."""
        x, z = self._internal_rows(x)
        lines = self.population.beta[which] @ x.T
        if codes is not None:
            levels, at = np.unique(codes, return_inverse=True)
            effects = self._internal_group_draws(levels, seed, which)
            for j, column in enumerate(z.T):
                lines += effects[j][:, at] * column
        return self.units.y_mean + self.units.y_scale * lines

    def internal(self, x, y) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Designs of coefficients and of group effects, and the response, in internal units."""
        return *self._internal_rows(x), (y - self.units.y_mean) / self.units.y_scale

    def noise_draws(self, which: Any = slice(None)) -> np.ndarray:
        """Draws of the noise's sd, (n_draws,), in units of y."""
        return self.units.y_scale * self.population.sigma[which]

    def _internal_rows(self, x):
        """Designs of the population coefficients and of the group effects, constant last."""
        u = self.units
        x = np.column_stack([(x - u.x_mean) / u.x_scale, np.ones(len(x))])
        return x, x[:, self._varying()] if self.slopes is not None else x[:, :0]

    def _varying(self) -> list[int]:
        return [*(self.slopes or ()), len(self.units.x_mean)]

    def _to_user(self):
        """Matrix from internal effects, intercept at the mean of x, to the user's, at x = 0."""
        scale = effect_scale(self.units, self.slopes)
        return scale[:, None] * np.linalg.inv(self.units.effects_at_mean)


def _spread(x, cov):
    return np.einsum("np,pr,nr->n", x, cov, x, optimize=True)


def equal_components(draws: PopulationDraws) -> Components:
    """Draws as components, in an order that makes any first few a random choice."""
    n = len(draws.sigma)
    order = np.random.default_rng(0).permutation(n)
    beta, sigma, chol = (a[order] for a in draws)
    return Components(np.full(n, 1 / n), beta, None, sigma, chol)


def _slices(n: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(i, i + size) for i in range(0, n, size))


def _with_empty_group(a):
    return np.ascontiguousarray(np.concatenate([a, np.zeros_like(a[..., :1])], axis=-1))
