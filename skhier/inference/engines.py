"""Engines: each turns a problem and a prior into draws and says how far to trust them."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.estimates import block_error, chain_error
from skhier.inference.mode import Laplace
from skhier.inference.theta import Population, Theta, population_of
from skhier.kernels.records import Hyper, ModelSpec, PriorDists
from skhier.priors import PriorChoice
from skhier.statistics.elimination import arrange, dense_size
from skhier.statistics.problem import Problem
from skhier.statistics.products import pad_groups
from skhier.utils.imports import imports_without_trace
from skhier.utils.memory import require_address_space, require_memory

__all__ = [
    "EngineOptions",
    "EngineResult",
    "constant_posterior",
    "engine_for",
    "load_jax",
    "run_joint",
    "run_marginal",
]

MAX_IMPORTANCE_SIZE = 30  # entries of theta beyond which importance weights degenerate
MAX_LAPLACE_SIZE = 64  # beyond which a Hessian costs more than it spares NUTS
MIN_POINTS, MAX_POINTS = 2**9, 2**17
FEW_POINTS, PATIENCE = 2**10, 1e10  # points, multiplications
MAX_DENSE = 3000  # crossed effects beyond which their matrix is too large to factorise often
MIN_ESS_PER_CHAIN = 100
NUTS_SECONDS, NUTS_STEPS = 1e-8, (63, 511)  # of a step per cross-product; steps of a transition


class EngineResult(NamedTuple):
    """Draws of the population parameters and the facts of their making.

    Attributes
    ----------
    hyper : Hyper
        Internal coordinates, (n_chains, n_draws, ...).
    engine : str
    sample_stats : dict of str to array of shape (n_chains, n_draws)
        ArviZ's names.
    population : Population or None
        The same posterior with the coefficients in closed form; None: the draws are all there is.
    facts : dict
        For ``diagnostics_``.
    log_evidence : float
    max_ess : float
        Effective number of the points that the draws were resampled from.
    normal : Laplace or None
        Mean and spread of theta: where a similar problem may begin.
    """

    hyper: Hyper
    engine: str
    sample_stats: dict[str, np.ndarray]
    population: Population | None = None
    facts: Mapping[str, Any] = {}
    log_evidence: float = float("nan")
    max_ess: float = float("inf")
    normal: Laplace | None = None


class EngineOptions(NamedTuple):
    """The estimator's parameters that concern sampling."""

    n_chains: int
    n_warmup: int
    n_draws: int
    target_accept: float
    max_tree_depth: int
    eta: float
    device: str | None
    verbose: bool


def load_jax() -> None:
    """Import JAX, NumPyro and the kernels that use them; the first time that takes seconds.

    Raises
    ------
    MemoryError
        A limit on the address space leaves JAX too little.
    """
    require_address_space()
    if "skhier.inference.nuts" not in sys.modules:
        with imports_without_trace():
            from skhier.inference import nuts, runtime  # noqa: F401


def engine_for(problem: Problem, options: EngineOptions, inference: str) -> str:
    """``"nuts"`` or ``"marginal"``; warns, before it begins, of what will take long.

    Raises
    ------
    ValueError
        ``inference="marginal"`` with too many crossed effects.
    MemoryError
        So many that not even their moments could be formed.
    """
    dense = dense_size(problem.stats, problem.plan)
    if inference == "nuts" or dense <= MAX_DENSE:
        return "nuts" if inference == "nuts" else "marginal"
    size = (
        f"{dense} group effects are crossed with the largest factor's, more than the {MAX_DENSE} "
        "that can be integrated out at once"
    )
    if inference == "marginal":
        raise ValueError(f"{size}. Use inference='auto' or 'nuts', which samples them all.")
    require_memory(8 * 8.0 * dense**2, f"the joint distribution of {dense} crossed group effects")
    entries = sum(found.zz.size for found in problem.stats.factors)
    entries += sum(pair.zz.size for pair in problem.stats.pairs)
    transitions = options.n_warmup + options.n_draws
    rounds = -(-options.n_chains // (os.cpu_count() or 1))
    seconds = rounds * transitions * entries * NUTS_SECONDS
    low, high = (np.ceil(seconds * steps / 60) for steps in NUTS_STEPS)
    warnings.warn(
        f"{size}: inference='auto' samples every effect by NUTS instead, which may take some "
        f"{low:.0f} to {high:.0f} minutes on a CPU; verbose=1 shows progress.",
        UserWarning,
        stacklevel=5,
    )
    return "nuts"


def run_joint(
    problem: Problem, choice: PriorChoice, spec: ModelSpec, options: EngineOptions, seed: int
) -> EngineResult:
    """Sample every parameter of the joint model by NUTS.

    Raises
    ------
    RuntimeError
        No such device, or no valid starting point.
    """
    from skhier.inference import runtime
    from skhier.inference import target as targets

    device = runtime.find_device(options.device)
    data = _data(pad_groups(problem.stats), problem, choice, options)
    draws = _run_nuts(targets.Joint(spec), data, options, device, seed)
    facts = {"sampler": "nuts", "evaluations": int(draws.n_steps.sum())}
    return EngineResult(draws.values, "nuts", _sample_stats(draws), facts=facts)


def run_marginal(
    problem: Problem,
    choice: PriorChoice,
    spec: ModelSpec,
    options: EngineOptions,
    seed: int,
    start: Laplace | None = None,
) -> EngineResult:
    """Importance sampling of theta, or NUTS where its weights fail; then exact conditionals.

    ``start``, of a similar problem, may spare the search for the mode.

    Raises
    ------
    RuntimeError
        No such device, or no valid starting point.
    """
    from skhier.inference import runtime
    from skhier.kernels.cholesky import LARGE

    n_draws = options.n_chains * options.n_draws
    numbers = len(problem.stats.xy) + sum((len(z) + 1) ** 2 for z in problem.slopes) + 2
    require_memory(3 * 8.0 * n_draws * numbers, f"{n_draws} posterior draws")
    device = runtime.find_device(options.device)
    data = _data(arrange(problem.stats, problem.plan), problem, choice, options)

    def work(check):
        with ExitStack() as stack:
            stack.enter_context(runtime.precisely_on(device))
            workers = 1
            if len(data[0].gram) > LARGE:
                workers = stack.enter_context(runtime.side_by_side_calls(device))
            return _sample_theta(data, spec, options, device, workers, seed, start, check)

    return runtime.run_side_by_side([work])[0]


def _sample_theta(data, spec, options, device, workers, seed, start, check) -> EngineResult:
    from skhier.inference import runtime
    from skhier.inference import target as targets
    from skhier.inference.importance import (
        GOOD_EFFICIENCY,
        GOOD_K_HAT,
        fitted_normal,
        importance,
        trustworthy,
    )
    from skhier.inference.mode import laplace
    from skhier.kernels.normal.collapse import points_at_once, work_of_a_point

    rng = np.random.default_rng(seed)
    batch = points_at_once(data[0], runtime.is_cpu(device))
    theta = Theta(spec, data, batch, check, workers, device)
    n_draws = options.n_chains * options.n_draws
    n_points = 2 ** int(np.ceil(np.log2(np.clip(n_draws, MIN_POINTS, MAX_POINTS))))
    if n_points > FEW_POINTS:  # where a point is much work theta varies little
        affordable = PATIENCE / max(work_of_a_point(data[0]), 1.0)
        n_points = int(np.clip(2 ** np.floor(np.log2(affordable)), FEW_POINTS, n_points))
    if start is not None and len(start.mean) == theta.size <= MAX_IMPORTANCE_SIZE:
        found = importance(theta.log_densities, start, n_points, rng, max_rounds=1)
        if found.k_hat <= GOOD_K_HAT and found.ess >= GOOD_EFFICIENCY * n_points:
            return _from_weighted_points(theta, data, options, found, rng)
    normal, k_hat = Laplace(np.zeros(theta.size), np.eye(theta.size)), np.nan
    if theta.size <= MAX_LAPLACE_SIZE:
        normal = laplace(theta.derivatives, theta.promising(rng), rng)
    if theta.size <= MAX_IMPORTANCE_SIZE:
        found = importance(theta.log_densities, normal, n_points, rng)
        if trustworthy(found, min(MIN_ESS_PER_CHAIN * options.n_chains, 0.1 * n_points)):
            return _from_weighted_points(theta, data, options, found, rng)
        normal, k_hat = fitted_normal(found), found.k_hat
    frame = (*data, normal.mean, normal.root)
    draws = _run_nuts(targets.Marginal(spec), frame, options, device, seed, check)
    return _from_chains(theta, data, draws, k_hat, rng)


def _from_weighted_points(theta, data, options, found, rng) -> EngineResult:
    from skhier.inference.importance import N_BLOCKS, fitted_normal, resample

    stats, units, _ = data
    n_draws = options.n_chains * options.n_draws
    chosen = resample(found.weights, n_draws, rng).reshape(options.n_chains, options.n_draws)
    error = block_error(N_BLOCKS)
    population = population_of(theta, units, found.points, found.weights, chosen, error, rng)
    facts = {
        "sampler": "importance",
        "pareto_k": found.k_hat,
        "ess_importance": float(found.ess),
        "evaluations": theta.n_evaluations,
    }
    evidence = float(found.log_evidence - stats.n * np.log(units.y_scale))
    sample_stats = {"lp": found.log_density[chosen]}
    return EngineResult(
        population.hyper,
        "marginal",
        sample_stats,
        population,
        facts,
        evidence,
        found.ess,
        fitted_normal(found),
    )


def _from_chains(theta, data, draws, k_hat, rng) -> EngineResult:
    from skhier.inference.importance import bridge

    stats, units, _ = data
    shape = draws.lp.shape
    order = rng.permutation(draws.lp.size)  # any first few points stand for the posterior
    place = np.argsort(order).reshape(shape)
    points = draws.values.reshape(draws.lp.size, theta.size)[order]
    log_evidence = bridge(theta.log_densities, points, draws.lp.ravel()[order], rng)
    weights = np.full(len(points), 1 / len(points))
    population = population_of(theta, units, points, weights, place, chain_error(place), rng)
    facts = {
        "sampler": "nuts",
        "pareto_k": k_hat,
        "evaluations": theta.n_evaluations + int(draws.n_steps.sum()),
    }
    evidence = float(log_evidence - stats.n * np.log(units.y_scale))
    sample_stats = _sample_stats(draws)
    return EngineResult(population.hyper, "marginal", sample_stats, population, facts, evidence)


def _data(stats, problem, choice, options):
    """Arguments of the NumPyro programs, each number of one type: one program."""
    import jax

    def typed(a):
        is_index = isinstance(a, np.ndarray) and a.dtype.kind == "i"
        return np.asarray(a, np.int32 if is_index else np.float64)

    return jax.tree.map(typed, (stats, problem.units, _prior_dists(choice, options.eta)))


def _run_nuts(target, data, options, device, seed, check_caller=lambda: None):
    """Draws of all chains, in threads that Ctrl-C can leave behind."""
    import jax

    from skhier.inference import nuts, runtime

    settings = nuts.NutsSettings(options.n_warmup, options.target_accept, options.max_tree_depth)
    with runtime.precisely_on(device):
        keys = np.asarray(jax.random.split(jax.random.PRNGKey(seed), options.n_chains))
    bundles = np.split(keys, options.n_chains if runtime.is_cpu(device) else 1)

    with _Progress(options) as progress:

        def work(bundle, check):
            def advanced(rows):
                check_caller()
                check()
                progress.update(rows * len(bundle))

            with runtime.precisely_on(device):
                return nuts.sample_nuts(target, settings, data, bundle, options.n_draws, advanced)

        drawn = runtime.run_side_by_side([partial(work, bundle) for bundle in bundles])
    return jax.tree.map(lambda *a: np.concatenate(a), *drawn)


def _prior_dists(choice: PriorChoice, eta: float) -> PriorDists:
    return PriorDists(
        choice.intercept,
        choice.noise_scale,
        tuple(prior for _, prior in choice.coef),
        tuple(tuple(prior for _, prior in blocks) for blocks in choice.group_scale),
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
    sizes = [len(varying) + 1 for varying in problem.slopes]
    shape = (n_chains, n_draws)
    hyper = Hyper(
        coef=np.zeros((*shape, len(problem.units.x_mean))),
        intercept=np.zeros(shape),
        noise_scale=np.full(shape, size),
        group_scale=tuple(np.full((*shape, q), size) for q in sizes),
        corr_chol=tuple(np.broadcast_to(np.eye(q), (*shape, q, q)) for q in sizes),
    )
    return EngineResult(hyper, "constant", {})


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
