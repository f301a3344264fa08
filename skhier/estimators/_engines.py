"""Engines: each turns a problem and a prior into draws and says how far to trust them."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from skhier.estimators._problem import Problem
from skhier.kernels.stats import pad_groups
from skhier.kernels.types import Hyper, ModelSpec, PriorDists
from skhier.priors import PriorChoice

__all__ = ["EngineResult", "NutsOptions", "constant_posterior", "forbid_forked_process", "run_nuts"]


class EngineResult(NamedTuple):
    """Draws of the population parameters and the facts of their making.

    Attributes
    ----------
    hyper : Hyper
        Internal coordinates, (n_chains, n_draws, ...).
    engine : str
    sample_stats : dict of str to array of shape (n_chains, n_draws)
        ArviZ's names.
    """

    hyper: Hyper
    engine: str
    sample_stats: dict[str, np.ndarray]


class NutsOptions(NamedTuple):
    """The estimator's parameters that concern NUTS."""

    n_chains: int
    n_warmup: int
    n_draws: int
    target_accept: float
    max_tree_depth: int
    eta: float
    device: str | None
    verbose: bool


def forbid_forked_process() -> None:
    """Refuse to go on in a process forked after JAX had started; see ``kernels.runtime``."""
    from skhier.kernels import runtime

    runtime.forbid_forked_process()


def run_nuts(
    problem: Problem, choice: PriorChoice, spec: ModelSpec, options: NutsOptions, seed: int
) -> EngineResult:
    """Sample every parameter of the joint model, in threads that Ctrl-C can leave behind.

    Raises
    ------
    RuntimeError
        No such device, or no valid starting point.
    """
    import jax

    from skhier.kernels import nuts, runtime

    device = runtime.find_device(options.device)
    data = (pad_groups(problem.stats), problem.units, _prior_dists(choice, options.eta))
    data = jax.tree.map(lambda a: np.asarray(a, np.float64), data)  # one type, one program
    settings = nuts.NutsSettings(options.n_warmup, options.target_accept, options.max_tree_depth)
    with runtime.precisely_on(device):
        keys = np.asarray(jax.random.split(jax.random.PRNGKey(seed), options.n_chains))
    bundles = np.split(keys, options.n_chains if runtime.is_cpu(device) else 1)

    with _Progress(options) as progress:

        def work(bundle, check):
            def advanced(rows):
                check()
                progress.update(rows * len(bundle))

            with runtime.precisely_on(device):
                return nuts.sample_nuts(spec, settings, data, bundle, options.n_draws, advanced)

        drawn = runtime.run_side_by_side([partial(work, bundle) for bundle in bundles])
    draws = jax.tree.map(lambda *a: np.concatenate(a), *drawn)
    return EngineResult(draws.hyper, "nuts", _sample_stats(draws))


def _prior_dists(choice: PriorChoice, eta: float) -> PriorDists:
    return PriorDists(
        choice.intercept,
        choice.noise_scale,
        tuple(prior for _, prior in choice.coef),
        tuple(prior for _, prior in choice.group_scale),
        choice.decov,
        eta,
    )


def _sample_stats(draws: Any) -> dict[str, np.ndarray]:
    return {
        "lp": draws.lp,
        "energy": draws.energy,
        "acceptance_rate": draws.accept,
        "n_steps": draws.n_steps,
        "tree_depth": np.floor(np.log2(np.maximum(draws.n_steps, 1))).astype(int) + 1,
        "diverging": draws.diverging,
        "step_size": np.broadcast_to(draws.step_size[:, None], draws.lp.shape).copy(),
    }


def constant_posterior(problem: Problem, n_chains: int, n_draws: int) -> EngineResult:
    """Where y does not vary every autoscaled prior, and with it the posterior, is a point."""
    size = problem.scales.y_sd
    q = 0 if problem.slopes is None else len(problem.slopes) + 1
    shape = (n_chains, n_draws)
    hyper = Hyper(
        coef=np.zeros((*shape, len(problem.units.x_mean))),
        intercept=np.zeros(shape),
        noise_scale=np.full(shape, size),
        group_scale=np.full((*shape, q), size),
        corr_chol=np.broadcast_to(np.eye(q), (*shape, q, q)),
    )
    return EngineResult(hyper, "constant", {})


class _Progress:
    """A bar over the transitions of all chains, if one is wanted."""

    def __init__(self, options: NutsOptions):
        self.bar, self.lock = None, threading.Lock()
        if options.verbose:
            from tqdm.auto import tqdm

            total = options.n_chains * (options.n_warmup + options.n_draws)
            self.bar = tqdm(total=total, desc=f"NUTS, {options.n_chains} chains", unit="draw")

    def __enter__(self) -> _Progress:
        return self

    def update(self, transitions: int) -> None:
        """Count more transitions; from any thread."""
        if self.bar is not None:
            with self.lock:
                self.bar.update(transitions)

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()
