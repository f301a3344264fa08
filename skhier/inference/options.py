"""How to sample, as the engines take it."""

from typing import NamedTuple

from skhier.utils.budget import USUAL, Budget

__all__ = ["EngineOptions"]


class EngineOptions(NamedTuple):
    """The estimator's parameters that concern sampling, and what sampling may spend."""

    n_chains: int
    n_warmup: int
    n_draws: int
    target_accept: float
    max_tree_depth: int
    eta: float
    device: str | None
    verbose: bool
    budget: Budget = USUAL

    def least_ess(self, n: int) -> float:
        """The effective number, of n points or draws in all, below which they are not trusted.

        The one by which diagnostics judge as many chains as were asked for; a share of the n where
        these are too few for that. Weights are asked for it of their points, and chains, and the
        points of a long theta that stand for chains, of the draws.
        """
        engine = self.budget.engine
        return min(engine.min_ess_per_chain * self.n_chains, engine.min_ess_share * n)
