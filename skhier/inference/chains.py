"""Markov chains of any target, side by side, with a progress bar."""

from __future__ import annotations

import os
import threading
import warnings
from functools import partial
from typing import Any

import numpy as np

from skhier.inference.importance import covariance_root
from skhier.inference.mode import Laplace
from skhier.inference.options import EngineOptions
from skhier.utils.callers import users_stacklevel
from skhier.utils.convergence import E_BFMI_LIMIT, ESS_LIMIT
from skhier.utils.diagnostics import e_bfmi, ess_bulk, ess_tail, rank_rhat

__all__ = [
    "announce",
    "progress_bar",
    "run_in_frame",
    "run_nuts",
    "run_shortly",
    "sample_stats",
    "stand_ins",
]


def run_nuts(
    target,
    frames,
    options,
    device,
    seed,
    check_caller=lambda: None,
    states=None,
    adapts_scales=True,
):
    """Draws of all chains, in threads that Ctrl-C can leave behind.

    ``frames`` are pairs: a number of chains, and their data. ``states``: those of earlier draws in
    the same frames, from where the chains go on. ``adapts_scales``: see
    :class:`~skhier.inference.nuts.NutsSettings`.
    """
    import jax

    from skhier.inference import nuts, runtime

    search, chains = options.budget.search, options.budget.chains
    of_chains = options.n_warmup, options.target_accept, options.max_tree_depth
    of_search = search.start_tries, chains.slice_rows, adapts_scales
    settings = nuts.NutsSettings(*of_chains, *of_search)
    with runtime.precisely_on(device):
        keys = np.asarray(jax.random.split(jax.random.PRNGKey(seed), options.n_chains))
    ends = np.cumsum([n for n, _ in frames])[:-1]
    bundles = []
    for of_frame, (n, data) in zip(np.split(keys, ends), frames, strict=True):
        bundles += [(b, data) for b in np.split(of_frame, n if runtime.is_cpu(device) else 1)]

    states = states or [None] * len(bundles)
    n_warmup = 0 if states[0] is not None else options.n_warmup
    total = options.n_chains * (n_warmup + options.n_draws)
    bar = f"NUTS, {options.n_chains} chains", "draw", total
    with progress_bar(options.verbose, *bar) as progress:

        def work(bundle, data, state, check):
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
                    state,
                )

        works = zip(bundles, states, strict=True)
        drawn = runtime.run_side_by_side([partial(work, *bundle, at) for bundle, at in works])
    states = [of_bundle.state for of_bundle in drawn]
    draws = jax.tree.map(
        lambda *a: np.concatenate(a), *(of_bundle._replace(state=None) for of_bundle in drawn)
    )
    return draws._replace(state=states)


def run_in_frame(run, frames, options, coordinates, result_of, warns):
    """Draws of theta in the frame of a normal approximation: :func:`run_shortly`; and their result.

    New chains move in the draws' own frame.

    Parameters
    ----------
    run : callable
        Takes frames, options and ``states``, as :func:`run_nuts` does, to draws.
    frames, options
    coordinates : Signs or Bartlett
        Of the frames.
    result_of : callable
        Takes draws to the result whose draws a fit reports.
    warns : callable
        Whether the diagnostics of a fit with such a result warn of anything.

    Returns
    -------
    draws : SamplerDraws
    result : EngineResult
    """
    judged: list[Any] = []

    def anew(draws):
        points = draws.values.reshape(-1, draws.values.shape[-1])
        normal = coordinates.even(Laplace(points.mean(0), covariance_root(np.cov(points.T))))
        ((_, data),) = frames
        frame = (*data[:3], *normal, *data[5:])
        return run([(options.n_chains, frame)], options)

    def seen(draws):
        return coordinates.to_theta(draws.values)

    def fit_warns(draws):
        judged[:] = draws, result_of(draws)
        return warns(judged[1])

    if options.n_chains == 1 or options.n_draws < ESS_LIMIT:  # which diagnostics warn of anyway
        draws = run(frames, options)
    else:
        how = options, _short(options), seen, anew, fit_warns
        draws = run_shortly(partial(run, frames), *how)
    if judged and judged[0] is draws:
        return draws, judged[1]
    return draws, result_of(draws)


def run_shortly(run, options, short, seen, anew, fit_warns, close=None):
    """Draws in a frame where the posterior is near a standard normal, or as they were asked for.

    Where the frame is good few transitions of few steps warm up and move through the posterior, and
    fewer draws than were asked for have the effective number that is enough. Whether they have,
    R-hat, effective numbers, energies and divergences tell, of what is seen and of all that the
    diagnostics of the fit judge; if not, the chains go on where that may do, up to as many draws as
    were asked for. If these do not agree either chains of smaller steps, and of as many as they
    want, may, in the same frame; at last new ones are made as asked for; the better stay.

    Parameters
    ----------
    run : callable
        Takes options and ``states`` to draws.
    options, short : EngineOptions
        As asked for, and of a good frame.
    seen : callable
        Takes draws to an array (n_chains, n_draws, d) of what is to be told by them.
    anew : callable
        Takes draws that do not agree to others.
    fit_warns : callable
        Takes draws to whether the diagnostics of a fit with them warn of anything.
    close : EngineOptions or None
        Of chains in the same frame with smaller steps; None: there are none.
    """

    def agree(draws):
        return _agree(seen(draws), draws, options) and not fit_warns(draws)

    def quality(draws):
        return not draws.diverging.any(), _effective(seen(draws))

    stages = [(short, options.n_draws)]
    if close is not None:
        stages.append((close, options.budget.chains.most_close * options.n_draws))
    for how, most in stages:
        draws = run(how)
        if agree(draws):
            return draws
        further = _further(seen(draws), draws, options, most)
        if further:
            draws = _continued(draws, run(how._replace(n_draws=further), draws.state))
            if agree(draws):
                return draws
    return max(anew(draws), draws, key=quality)


def _effective(seen) -> float:
    """The least effective number, in the bulk and in the tails."""
    return float(min(ess_bulk(seen).min(), ess_tail(seen).min()))


def _further(seen, draws, options, most) -> int:
    """Draws with which the same chains, ``most`` in all, may agree; 0: none would do."""
    n = draws.lp.shape[1]
    if draws.diverging.any() or not np.isfinite(seen).all():
        return 0
    wanted = n * options.least_ess(options.n_chains * options.n_draws) / _effective(seen)
    reserve = options.budget.chains.reserve
    if wanted > reserve * most:
        return 0
    if wanted <= n:  # what does not agree is something else, of which nothing is known
        return most - n
    return int(np.ceil(np.clip(reserve * wanted, reserve * n, most))) - n


def _continued(draws, more):
    """Draws (n_chains, n_draws, ...) and those that the same chains made next."""
    import jax

    of_transitions = ("values", "lp", "energy", "n_steps", "accept", "diverging")
    pairs = ((getattr(draws, name), getattr(more, name)) for name in of_transitions)
    both = (jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pair) for pair in pairs)
    return more._replace(**dict(zip(of_transitions, both, strict=True)))


def _short(options):
    chains = options.budget.chains
    return options._replace(
        n_warmup=min(options.n_warmup, chains.short_warmup),
        max_tree_depth=min(options.max_tree_depth, chains.short_depth),
        target_accept=min(options.target_accept, chains.short_accept),
        n_draws=int(np.ceil(chains.short_share * options.n_draws)),
    )


def _agree(theta, draws, options) -> bool:
    """Whether chains have the effective numbers that weights would have to have."""
    if draws.diverging.any() or not np.isfinite(theta).all():
        return False
    if e_bfmi(draws.energy).min() < E_BFMI_LIMIT:
        return False
    least = options.least_ess(options.n_chains * options.n_draws)
    enough = _effective(theta) >= least
    return bool(enough and rank_rhat(theta).max() <= options.budget.chains.good_r_hat)


def _seconds(options, gradient_seconds):
    """How long chains in a good frame will take, from the seconds of a gradient."""
    short = _short(options)
    steps = (short.n_warmup + short.n_draws) * (2**short.max_tree_depth - 1)
    return -(-options.n_chains // (os.cpu_count() or 1)) * steps * gradient_seconds


def stand_ins(n: int, n_draws: int) -> np.ndarray:
    """Which of a chain's n states each of the draws is, (n_draws,).

    The same ones in a row: autocorrelations, and with them effective numbers, are then what they
    are. Of more states evenly spaced ones.
    """
    return np.arange(n_draws) * n // n_draws


def announce(theta: Any, options: EngineOptions) -> tuple[str, ...]:
    """Warn, in the caller's thread, before chains of theta take long; what was said."""
    seconds = _seconds(options, theta.gradient_seconds)
    if not np.isfinite(seconds) or seconds < options.budget.chains.long_seconds:
        return ()
    n_slopes = max(len(factor.slopes) for factor in theta.spec.factors)
    are_correlated = any(name.startswith("group_corr_chol") for name in theta.priors.sites)
    advice = ["slopes=[...] with fewer features"] * (n_slopes > 0)
    advice += ["correlated=False"] * are_correlated
    shorter = f" {' or '.join(advice)} shortens it;" if advice else ""
    message = (
        f"the effects' covariances have {theta.size} parameters ({n_slopes} slopes vary by group) "
        f"and need Markov chains, which may take some {seconds:.0f} seconds on this machine;"
        f"{shorter} verbose=1 shows progress."
    )
    warnings.warn(message, UserWarning, stacklevel=users_stacklevel())
    return (message,)


def sample_stats(draws: Any, n_draws: int | None = None) -> dict[str, np.ndarray]:
    """What the sampler says of itself, under ArviZ's names, (n_chains, n_draws) each.

    Where a state stands for several draws, or some are left out, its energy is left out: what is
    told by it are changes from one transition to the next.
    """
    n = draws.lp.shape[1]
    if n_draws is not None and n_draws != n:
        which = stand_ins(n, n_draws)
        return {name: a[:, which] for name, a in sample_stats(draws).items() if name != "energy"}
    return {
        "lp": draws.lp,
        "energy": draws.energy,
        "acceptance_rate": draws.accept,
        "n_steps": draws.n_steps,
        "tree_depth": np.floor(np.log2(np.maximum(draws.n_steps, 1))).astype(int) + 1,
        "diverging": draws.diverging,
        "step_size": np.broadcast_to(draws.step_size[:, None], draws.lp.shape).copy(),
    }


def progress_bar(is_wanted: bool, what: str, unit: str, total: int | None = None) -> _Bar:
    """A context with ``update(n)``: counts transitions of chains, or evaluations without an end."""
    return _Bar(is_wanted, what, unit, total)


class _Bar:
    """A bar, if one is wanted."""

    def __init__(self, is_wanted: bool, what: str, unit: str, total: int | None):
        self.bar, self.lock = None, threading.Lock()
        if is_wanted:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, desc=what, unit=unit)

    def __enter__(self) -> _Bar:
        return self

    def update(self, n: int) -> None:
        """Count more of them; from any thread."""
        if self.bar is not None:
            with self.lock:
                self.bar.update(n)

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()
