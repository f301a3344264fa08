"""What posteriors have in common in which the levels of one factor have noises of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from skhier.posterior.row_posterior import RowPosterior
from skhier.responses.normal import SCALE

__all__ = ["LevelNoisesPosterior"]


class LevelNoisesPosterior(RowPosterior):
    """See :class:`~skhier.posterior.row_posterior.RowPosterior`.

    ``noise_factor`` is the place of the factor whose levels have a noise of their own.
    """

    noise_factor: int

    @abstractmethod
    def noise_table(self) -> np.ndarray:
        """Posterior mean and sd of each level's noise scale, (n_levels, 2), in units of y."""

    @abstractmethod
    def noise_draws(
        self, codes: np.ndarray, seed: int | None = None, which: Any = slice(None)
    ) -> np.ndarray:
        """Draws of the noise scales of some levels, (n_draws, K), in units of y.

        Those with which effects of the same seed are drawn. Codes past the known levels are unseen
        ones; ``OUT`` too is one of them.
        """

    @abstractmethod
    def response_mixture(self, x, codes) -> Iterator[tuple[np.ndarray, ...]]:
        """New normal responses at rows, a slice at a time, as mixtures of normals.

        Yields
        ------
        rows : int array of shape (k,)
        mean, sd : array of shape (n_components, k)
            In units of y.
        weights : array of shape (n_components,) or (n_components, k)
        """

    def noise_chains(self) -> np.ndarray:
        """:meth:`noise_draws` of all known levels, (n_chains, n_draws, n_levels)."""
        draws = self.noise_draws(np.arange(self.n_levels[self.noise_factor]))
        return draws.reshape(*self.shape, -1)

    def own_of_rows(self, x, codes, which, seed) -> dict[str, np.ndarray]:
        """The response's own parameters at rows, (n_draws, n_rows), of the draws of lines."""
        levels, at = np.unique(codes[:, self.noise_factor], return_inverse=True)
        own = self._own(self.population.take(which))
        return own | {SCALE: self.noise_draws(levels, seed, which)[:, at]}

    def row_log_densities(self, x, codes, y) -> np.ndarray:
        """Log density of each row given each joint draw, effects too, (n_draws, n_rows)."""
        lines = self.sample_lines(x, codes, slice(None), None)
        return self.response.log_density(y, lines, self.own_of_rows(x, codes, slice(None), None))
