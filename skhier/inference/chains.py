"""Markov chains of any target, side by side, with a progress bar."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np

from skhier.inference.options import EngineOptions

__all__ = ["run_nuts", "sample_stats"]


def run_nuts(target, frames, options, device, seed, check_caller=lambda: None):
    """Draws of all chains, in threads that Ctrl-C can leave behind.

    ``frames`` are pairs: a number of chains, and their data.
    """
    import jax

    from skhier.inference import nuts, runtime

    search, chains = options.budget.search, options.budget.chains
    settings = nuts.NutsSettings(
        options.n_warmup,
        options.target_accept,
        options.max_tree_depth,
        search.start_tries,
        chains.slice_rows,
    )
    with runtime.precisely_on(device):
        keys = np.asarray(jax.random.split(jax.random.PRNGKey(seed), options.n_chains))
    ends = np.cumsum([n for n, _ in frames])[:-1]
    bundles = []
    for of_frame, (n, data) in zip(np.split(keys, ends), frames, strict=True):
        bundles += [(b, data) for b in np.split(of_frame, n if runtime.is_cpu(device) else 1)]

    with _Progress(options) as progress:

        def work(bundle, data, check):
            def advanced(rows):
                check_caller()
                check()
                progress.update(rows * len(bundle))

            with runtime.precisely_on(device):
                return nuts.sample_nuts(
                    target,
                    settings,
                    data,
                    bundle,
                    options.n_draws,
                    advanced,
                    chains.slice_seconds,
                )

        drawn = runtime.run_side_by_side([partial(work, *bundle) for bundle in bundles])
    return jax.tree.map(lambda *a: np.concatenate(a), *drawn)


def sample_stats(draws: Any) -> dict[str, np.ndarray]:
    """What the sampler says of itself, under ArviZ's names, (n_chains, n_draws) each."""
    return {
        "lp": draws.lp,
        "energy": draws.energy,
        "acceptance_rate": draws.accept,
        "n_steps": draws.n_steps,
        "tree_depth": np.floor(np.log2(np.maximum(draws.n_steps, 1))).astype(int) + 1,
        "diverging": draws.diverging,
        "step_size": np.broadcast_to(draws.step_size[:, None], draws.lp.shape).copy(),
    }


class _Progress:
    """A bar over the transitions of all chains, if one is wanted."""

    def __init__(self, options: EngineOptions):
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
