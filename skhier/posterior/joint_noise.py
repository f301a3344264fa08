"""A fitted posterior of every parameter, the noises of one factor's levels among them.

As :class:`~skhier.posterior.row_posterior.RowPosterior` answers, from draws: given one a row's
noise is that of its level. A level that fit never saw, and a row whose level does not count, has a
noise of the population of noises, one for each component at evenly spaced quantiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import ndtri

from skhier.posterior.designs import OUT, level_stream
from skhier.posterior.level_noises import LevelNoisesPosterior
from skhier.responses.by_level import SPREAD
from skhier.responses.normal import SCALE

__all__ = ["JointNoisePosterior"]


class JointNoisePosterior(LevelNoisesPosterior):
    """Draws behind every prediction.

    Parameters are those of :class:`~skhier.posterior.row_posterior.RowPosterior`, ``effects`` with
    ``log_noise``, and ``noise_factor``, the place of the factor whose levels have a noise of their
    own.
    """

    def __init__(self, *args: Any, noise_factor: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.noise_factor = noise_factor

    @property
    def log_noise(self) -> np.ndarray:
        """Logs of the noise scales of the levels given each component, internal units."""
        assert self.effects.log_noise is not None
        return self.effects.log_noise

    def noise_table(self) -> np.ndarray:
        """Posterior mean and sd of each level's noise scale, (n_levels, 2), in units of y."""
        noise, weights = np.exp(self.log_noise), self.rule.weights
        mean = weights @ noise
        return self.units.y_scale * np.stack([mean, np.sqrt(weights @ (noise - mean) ** 2)], axis=1)

    def noise_draws(
        self, codes: np.ndarray, seed: int | None = None, which: Any = slice(None)
    ) -> np.ndarray:
        """See :class:`~skhier.posterior.level_noises.LevelNoisesPosterior`."""
        k, seed = self.noise_factor, self.seed if seed is None else seed
        place = self.effects.place.ravel()[which]
        own, n = self.rule.population.take(place).own, self.n_levels[k]
        log_noise = np.empty((len(place), len(codes)))
        for j, code in enumerate(codes):
            if 0 <= code < n:
                log_noise[:, j] = self.log_noise[place, code]
                continue
            # past the numbers of its effects
            rng = level_stream(seed, k, n if code == OUT else int(code))
            z = rng.standard_normal((len(self.slopes[k]) + 2, len(place)))[-1]
            log_noise[:, j] = np.log(own[SCALE]) + own[SPREAD] * z
        return self.units.y_scale * np.exp(log_noise)

    def _shares(self, n_normals, codes, behind):
        own, weights = super()._shares(n_normals, codes, behind)
        return own | {SCALE: self.units.y_scale * self._noises(codes, len(weights))}, weights

    def _noises(self, codes, n):
        """Noise scales (n, K) of rows given the first n components, internal units."""
        code, own = codes[:, self.noise_factor], self.rule.population.own
        log_noise = np.log(own[SCALE][:n]) + own[SPREAD][:n] * self._scores[:n]
        out = np.repeat(np.exp(log_noise)[:, None], len(code), axis=1)
        known = np.flatnonzero((code != OUT) & (code < self.n_levels[self.noise_factor]))
        out[:, known] = np.exp(self.log_noise[:n, code[known]])
        return out

    @cached_property
    def _scores(self) -> np.ndarray:
        """Standard normal quantiles, in an order that makes any first few a random choice."""
        n = len(self.rule.weights)
        return ndtri((np.random.default_rng(0).permutation(n) + 0.5) / n)

    def response_mixture(self, x, codes) -> Iterator[tuple[np.ndarray, ...]]:
        """New normal responses at rows, one normal a component."""
        for rows, mean, sd in self.line_mixture(x, codes):
            noise = self.units.y_scale * self._noises(codes[rows], len(mean))
            yield rows, mean, np.hypot(sd, noise), self.rule.weights

    def observation_variance(self) -> np.ndarray:
        """Draws of the noise's variance, averaged over the rows of fit, (n_draws,)."""
        n_rows, place = self.n_rows[self.noise_factor], self.effects.place.ravel()
        square = np.exp(2 * self.log_noise) @ (n_rows / n_rows.sum())
        own = self.own_parameters()
        own[SCALE] = self.units.y_scale * np.sqrt(square[place])[:, None]
        return self.response.variance(np.zeros((len(place), 1)), own)[:, 0]

    def __getstate__(self) -> dict[str, Any]:
        """What follows from the rest is left out."""
        return {k: v for k, v in super().__getstate__().items() if k != "_scores"}
