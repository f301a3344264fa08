"""Engines: each turns a problem and a prior into draws and says how far to trust them."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from skhier.inference.chains import (
    announce,
    progress_bar,
    run_in_frame,
    run_nuts,
    sample_stats,
    stand_ins,
)
from skhier.inference.checks import forbid_nonfinite
from skhier.inference.estimates import block_error, chain_error
from skhier.inference.importance import Mixture
from skhier.inference.options import EngineOptions
from skhier.inference.reach import Reached, reach
from skhier.inference.results import (
    EngineResult,
    advice_on_modes,
    n_modes,
    report_on,
    scalars,
    with_finite_numbers,
)
from skhier.inference.size_classes import Padding, in_class
from skhier.inference.statement import prior_dists
from skhier.inference.theta import Theta, population_of
from skhier.kernels.records import ModelSpec
from skhier.kernels.user_units import in_user_units
from skhier.priors import PriorChoice
from skhier.statistics.elimination import arrange
from skhier.statistics.padding import pad_groups
from skhier.statistics.plan import dense_size
from skhier.statistics.problem import Problem
from skhier.utils.callers import users_stacklevel
from skhier.utils.diagnostics import e_bfmi
from skhier.utils.imports import imports_without_trace
from skhier.utils.memory import require_address_space, require_memory

__all__ = [
    "engine_for",
    "frames_of",
    "load_jax",
    "run_joint",
    "run_marginal",
]


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


def engine_for(
    problem: Problem, options: EngineOptions, inference: str
) -> tuple[str, tuple[str, ...]]:
    """``"nuts"`` or ``"marginal"``, and what was warned of: before it begins, what takes long.

    Raises
    ------
    ValueError
        ``inference="marginal"`` with too many crossed effects.
    MemoryError
        So many that not even their moments could be formed.
    """
    budget, dense = options.budget.engine, dense_size(problem.stats, problem.plan)
    if inference == "nuts" or dense <= budget.max_dense:
        return "nuts" if inference == "nuts" else "marginal", ()
    size = (
        f"{dense} group effects are crossed with the largest factor's, more than the "
        f"{budget.max_dense} that can be integrated out at once"
    )
    if inference == "marginal":
        raise ValueError(f"{size}. Use inference='auto' or 'nuts', which samples them all.")
    require_memory(8 * 8.0 * dense**2, f"the joint distribution of {dense} crossed group effects")
    entries = sum(of_factor.zz.size for of_factor in problem.stats.factors)
    entries += sum(pair.zz.size for pair in problem.stats.pairs)
    transitions = options.n_warmup + options.n_draws
    rounds = -(-options.n_chains // (os.cpu_count() or 1))
    seconds = rounds * transitions * entries * budget.nuts_seconds
    low, high = (np.ceil(seconds * steps / 60) for steps in budget.nuts_steps)
    message = (
        f"{size}: inference='auto' samples every effect by NUTS instead, which may take some "
        f"{low:.0f} to {high:.0f} minutes on a CPU; verbose=1 shows progress."
    )
    warnings.warn(message, UserWarning, stacklevel=users_stacklevel())
    return "nuts", (message,)


def run_joint(
    problem: Problem, choice: PriorChoice, spec: ModelSpec, options: EngineOptions, seed: int
) -> EngineResult:
    """Sample every parameter of the joint model by NUTS.

    Raises
    ------
    RuntimeError
        No such device, no valid starting point, or a draw that is not finite.
    """
    from skhier.inference import runtime
    from skhier.inference import target as targets

    device = runtime.find_device(options.device)
    data = model_data(pad_groups(problem.stats), problem, choice, options)
    draws = run_nuts(targets.Joint(spec), [(options.n_chains, data)], options, device, seed)
    facts = {"sampler": "nuts", "evaluations": int(draws.n_steps.sum())}
    return with_finite_numbers(EngineResult(draws.values, "nuts", sample_stats(draws), facts=facts))


def run_marginal(
    problem: Problem,
    choice: PriorChoice,
    spec: ModelSpec,
    options: EngineOptions,
    seed: int,
    start: Mixture | None = None,
) -> EngineResult:
    """Importance sampling of theta, or NUTS where its weights fail; then exact conditionals.

    ``start``, of a similar problem, may spare the search for the modes.

    Raises
    ------
    RuntimeError
        No such device, no valid starting point, or a draw or moment that is not finite.
    """
    from skhier.inference import runtime
    from skhier.kernels.normal.collapse import is_worth_a_thread

    n_draws = options.n_chains * options.n_draws
    numbers = len(problem.stats.xy) + sum((len(z) + 1) ** 2 for z in problem.slopes) + 2
    require_memory(3 * 8.0 * n_draws * numbers, f"{n_draws} posterior draws")
    device = runtime.find_device(options.device)
    kernels = options.budget.kernels
    data, padding = class_data(problem, choice, spec, options)

    def interruptibly(task):
        def work(check):
            with ExitStack() as stack:
                stack.enter_context(runtime.precisely_on(device))
                workers = 1
                if is_worth_a_thread(data[0], kernels):
                    workers = stack.enter_context(runtime.side_by_side_calls(device))
                return task(workers, check)

        return runtime.run_side_by_side([work])[0]

    outcome = interruptibly(
        partial(_weigh_theta, data, padding, spec, options, device, seed, start)
    )
    if isinstance(outcome, EngineResult):
        return with_finite_numbers(outcome)
    announced = announce(outcome.theta, options)
    result = interruptibly(partial(_sample_theta, outcome, options, device, seed))
    return with_finite_numbers(result._replace(announced=announced))


class _NoWeights(NamedTuple):
    """Importance sampling did not do."""

    theta: Theta
    data: tuple
    reached: Reached
    rng: np.random.Generator


def _weigh_theta(
    data, padding, spec, options, device, seed, start, workers, check
) -> EngineResult | _NoWeights:
    from skhier.inference import runtime
    from skhier.inference.importance import of_no_parameters
    from skhier.kernels.normal.collapse import points_at_once

    rng = np.random.default_rng(seed)
    batch = points_at_once(data[0], runtime.is_cpu(device), options.budget.kernels)
    budget = options.budget
    with progress_bar(options.verbose, "Variance parameters", "evaluation") as progress:
        theta = Theta(spec, data, batch, check, workers, device, budget, padding)
        theta.progress = progress.update
        if not theta.size:  # known noise and no groups: nothing is left to weigh
            weighted = of_no_parameters(theta.log_densities, budget.importance.n_blocks)
            return _from_weighted_points(theta, data, options, weighted, rng)
        n_points = _n_points(data, options)
        if start is not None and start.means.shape[1] == theta.size <= budget.importance.plain_size:
            weighted = _from_similar(theta, start, n_points, rng)
            if weighted is not None:
                return _from_weighted_points(theta, data, options, weighted, rng)
        n_draws = options.n_chains * options.n_draws
        least = [options.least_ess(n) for n in (n_points, n_draws, np.inf)]
        modes = _search(theta, n_points, rng)
        reached = reach(theta, modes, n_points, least[0], rng, *least[1:])
        theta.progress = lambda n: None
        if reached.weighted is not None:
            return _from_weighted_points(theta, data, options, reached.weighted, rng)
        return _NoWeights(theta, data, reached, rng)


def _sample_theta(outcome, options, device, seed, workers, check) -> EngineResult:
    from skhier.inference import target as targets

    theta, data, reached, rng = outcome
    theta.check, theta.workers = check, workers
    coordinates = reached.coordinates
    frames = frames_of(reached.modes, data, options.n_chains, coordinates)

    target, placement = targets.Marginal(theta.program_spec), theta.placement

    def run(frames, options, states=None):
        frames = [(n, placement.frame(frame)) for n, frame in frames]
        draws = run_nuts(target, frames, options, device, seed, check, states)
        return placement.draws(draws)

    def result_of(draws):
        return _from_chains(theta, data, options, draws, reached, rng)

    def warns(result):
        response = theta.spec.response
        parameters = in_user_units(result.draws, theta.units, theta.slopes, response)
        return bool(report_on(result, scalars(parameters), options.max_tree_depth).warnings)

    # of few parameters chains are cheap; those of several modes agree at no length
    if len(frames) > 1 or theta.size <= options.budget.importance.plain_size:
        draws = run(frames, options)
        result = result_of(draws)
    else:
        draws, result = run_in_frame(run, frames, options, coordinates, result_of, warns)
    evidence = _evidence_of_chains(theta, data, draws, coordinates, rng)
    evaluations = theta.n_evaluations + int(draws.n_steps.sum())
    facts = {**result.facts, "evaluations": evaluations}
    return result._replace(log_evidence=evidence, facts=facts)


def _n_points(data, options) -> int:
    from skhier.kernels.normal.collapse import work_of_a_point

    budget, n_draws = options.budget.engine, options.n_chains * options.n_draws
    kernels = options.budget.kernels
    wanted = np.clip(n_draws, budget.min_points, budget.max_points)
    n_points = 2 ** int(np.ceil(np.log2(wanted)))
    if n_points > budget.few_points:  # where a point is much work theta varies little
        affordable = budget.patience / max(work_of_a_point(data[0], kernels), 1.0)
        n_points = int(np.clip(2 ** np.floor(np.log2(affordable)), budget.few_points, n_points))
    return n_points


def _from_similar(theta, start, n_points, rng):
    """Weighted points from the modes of a similar problem; None if these are not all, or poor.

    Good weights are no proof: points that never reach a mode say nothing of it.
    """
    from skhier.inference.importance import importance_of_scales

    if theta.has_other_modes(start):
        return None
    budget = replace(theta.budget.importance, max_rounds=1)
    how = theta.scales, n_points, rng, budget
    weighted = importance_of_scales(theta.log_densities, start, *how)
    good = weighted.k_hat <= budget.good_k_hat and weighted.ess >= budget.good_efficiency * n_points
    return weighted if good else None


def _search(theta, n_points, rng) -> Mixture:
    """Modes of theta's posterior."""
    from skhier.inference.importance import mixture_of, steadied
    from skhier.inference.mode import find_modes

    budget = theta.budget.engine
    starts, search = theta.starts(rng), theta.budget.search
    evaluations = search.climbs * len(starts) * (2 * theta.size + 4)
    if evaluations > budget.climb_share * n_points:
        search = replace(search, climbs=0)
    gradients = theta.gradients if theta.size > search.newton_size else None
    how = (theta.steps, search, gradients)
    modes = find_modes(theta.log_densities, theta.derivatives, starts, rng, *how)
    return steadied(mixture_of(modes))


def frames_of(modes, data, n_chains, coordinates=None) -> list[tuple[int, tuple]]:
    """Numbers of chains, and the data in whose frame they move: each mode's own.

    Chains seldom change modes, so they start in proportion to the masses: largest remainders.
    """
    wanted = n_chains * modes.shares
    counts = np.floor(wanted).astype(int)
    rest = np.argsort(counts - wanted, kind="stable")
    counts[rest[: n_chains - counts.sum()]] += 1
    parts = zip(counts, modes.means, modes.roots, strict=True)
    others = () if coordinates is None or coordinates.are_plain else (coordinates,)
    return [(int(n), (*data, mean, root, *others)) for n, mean, root in parts if n]


def _from_weighted_points(theta, data, options, weighted, rng) -> EngineResult:
    from skhier.inference.importance import fitted_mixture, resample

    stats, units = data[0], theta.units
    n_draws = options.n_chains * options.n_draws
    chosen = resample(weighted.weights, n_draws, rng).reshape(options.n_chains, options.n_draws)
    error = block_error(theta.budget.importance.n_blocks)
    population = population_of(theta, units, weighted.points, weighted.weights, chosen, error, rng)
    normal = fitted_mixture(weighted)
    facts = {
        "sampler": "importance",
        "pareto_k": weighted.k_hat,
        "ess_importance": float(weighted.ess),
        "modes": n_modes(normal.shares, theta.budget.search),
        "evaluations": theta.n_evaluations,
    }
    evidence = float(weighted.log_evidence - stats.n * np.log(units.y_scale))
    sample_stats = {"lp": weighted.log_density[chosen]}
    return EngineResult(
        population.draws,
        "marginal",
        sample_stats,
        population.components,
        population.estimates,
        facts,
        evidence,
        weighted.ess,
        normal,
    )


def _from_chains(theta, data, options, draws, reached, rng) -> EngineResult:
    """All but the evidence, and what it costs."""
    forbid_nonfinite({"draws of the variance parameters": draws.values, "lp": draws.lp})
    shape = draws.lp.shape
    order = rng.permutation(draws.lp.size)  # any first few points stand for the posterior
    place = np.argsort(order).reshape(shape)[:, stand_ins(shape[1], options.n_draws)]
    points = draws.values.reshape(draws.lp.size, theta.size)[order]
    points = reached.coordinates.to_theta(points)
    weights = np.full(len(points), 1 / len(points))
    error = chain_error(place)
    population = population_of(theta, theta.units, points, weights, place, error, rng)
    facts = {
        "sampler": "nuts",
        "pareto_k": reached.k_hat,
        "modes": n_modes(reached.modes.shares, theta.budget.search),
        "e_bfmi": float(e_bfmi(draws.energy).min()),
    }
    return EngineResult(
        population.draws,
        "marginal",
        sample_stats(draws, options.n_draws),
        population.components,
        population.estimates,
        facts,
        advice=advice_on_modes(facts["modes"], len(draws.lp)),
    )


def _evidence_of_chains(theta, data, draws, coordinates, rng) -> float:
    """Log evidence, in the user's units of y, from draws in such coordinates."""
    from skhier.inference.importance import bridge

    stats, units, _ = data
    order = rng.permutation(draws.lp.size)
    points = draws.values.reshape(draws.lp.size, theta.size)[order]
    both_signs, lp = coordinates.flipped(points, rng), draws.lp.ravel()[order]
    density, budget = coordinates.density(theta.log_densities), theta.budget.importance
    return float(bridge(density, both_signs, lp, rng, budget) - stats.n * np.log(units.y_scale))


def model_data(stats, problem, choice, options):
    """Arguments of the NumPyro programs, each number of one type: one program."""
    return _typed((stats, problem.units, prior_dists(choice, options.eta, problem.noise)))


def class_data(problem, choice, spec, options) -> tuple[tuple, Padding | None]:
    """The same of the marginal model of the problem's size class, and its place in there."""
    prior = prior_dists(choice, options.eta, problem.noise)
    numbers, padding = in_class(spec, problem.stats, problem.units, prior)
    stats, *others = numbers
    return _typed((arrange(stats, problem.plan, options.budget.kernels), *others)), padding


def _typed(numbers):
    import jax

    def typed(a):
        is_index = isinstance(a, np.ndarray) and a.dtype.kind == "i"
        return np.asarray(a, np.int32 if is_index else np.float64)

    return jax.tree.map(typed, numbers)
