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
