"""The engine of levels with a noise of their own: one factor, from statistics.

Group effects are integrated out in closed form and noises by quadrature of one dimension
(:mod:`skhier.kernels.normal.level_noise`). Theta, which holds the coefficients too, is sampled by
importance or, where weights fail, by NUTS. ``inference="nuts"`` samples every effect and noise;
what is said of levels then follows from the draws of the population as it does otherwise.
"""

from __future__ import annotations

import warnings

import numpy as np

from skhier.inference.chains import run_nuts, sample_stats
from skhier.inference.engines import (
    EngineResult,
    advice_on_modes,
    frames_of,
    n_modes,
    with_finite_numbers,
)
from skhier.inference.estimates import block_error, chain_error, estimates
from skhier.inference.model import prior_dists
from skhier.inference.noise_theta import NoiseTheta
from skhier.inference.options import EngineOptions
from skhier.kernels.records import MIN_VARIANCE, Components, LevelNoises, ModelSpec
from skhier.kernels.user_units import in_user_units
from skhier.priors import PriorChoice
from skhier.statistics.level_roots import (
    LevelRoots,
    level_roots,
    roots_of_products,
    without_residual,
)
from skhier.statistics.problem import Problem
from skhier.utils.callers import users_stacklevel
from skhier.utils.training import Training
from skhier.utils.words import listed

__all__ = ["run_noise"]

CHECKED = 32  # weighted points at which two rules are compared
MAX_NODES = 25
LEVELS_OF_POINTS = 2**20  # levels x points of a round
NODES_OF_MOMENTS = 9  # at least, of what is kept of the levels


def run_noise(
    problem: Problem,
    training: Training | None,
    choice: PriorChoice,
    spec: ModelSpec,
    options: EngineOptions,
    seed: int,
    inference: str,
) -> EngineResult:
    """Sample a model whose levels have a noise of their own.

    Parameters
    ----------
    problem : Problem
        Of one factor.
    training : Training or None
        The rows, in the user's units; None: statistics are all there is.
    choice : PriorChoice
    spec : ModelSpec
    options : EngineOptions
    seed : int
    inference : {"auto", "marginal", "nuts"}

    Raises
    ------
    RuntimeError
        No such device, no valid starting point, or a draw or moment that is not finite.
    ValueError
        The statistics do not hold each level's sum of squares of y.
    """
    import jax

    from skhier.inference import runtime

    (slopes,), (factor,) = problem.slopes, problem.stats.factors
    if training is None:
        levels = roots_of_products(factor, slopes)
    else:
        levels = level_roots(training, problem.units, slopes, factor.zy.shape[-1])
    announced = _exact_levels(levels, problem)
    device = runtime.find_device(options.device)
    dists = prior_dists(choice, options.eta)
    model = jax.tree.map(lambda a: np.asarray(a, np.float64), (problem.units, dists))
    sample = _sample_joint if inference == "nuts" else _sample_theta

    def work(check):
        with runtime.precisely_on(device):
            few = 3 if levels.n.mean() >= 25 else 5
            theta = NoiseTheta(spec, levels, model, few, check, device, options.budget)
            return sample(theta, levels, problem, options, seed)

    (result,) = runtime.run_side_by_side([work])
    evidence = result.log_evidence - float(levels.n.sum() * np.log(problem.units.y_scale))
    return with_finite_numbers(result._replace(log_evidence=evidence, announced=announced))


def _exact_levels(levels: LevelRoots, problem: Problem) -> tuple[str, ...]:
    """Warn of levels without a residual, whose noise nothing bounds but rounding."""
    exact = without_residual(levels, MIN_VARIANCE)
    if not len(exact):
        return ()
    (axis,) = problem.reduction.axes.factors
    shown = listed(map(repr, np.asarray(axis.levels.labels)[exact].tolist()))
    message = (
        f"The rows of {len(exact)} level(s) of {axis.name!r} fit exactly, with no residual: "
        f"{shown}. The likelihood of their noise has no upper bound as it falls to 0, so that the "
        "spread of noises leans on the smallest sd that is counted, 1e-6 of y's. Is y rounded, or "
        "are rows there twice? Consider leaving these levels out, or noise_by=None."
    )
    warnings.warn(message, UserWarning, stacklevel=users_stacklevel())
    return (message,)


def _sample_theta(theta, levels, problem, options, seed) -> EngineResult:
    from skhier.inference import noise_target
    from skhier.inference.importance import fitted_mixture, importance, mixture_of, trustworthy
    from skhier.inference.mode import find_modes

    rng, budget = np.random.default_rng(seed), options.budget
    starts = theta.starts(problem.stats)
    tops = find_modes(
        theta.log_densities, theta.derivatives, starts, rng, theta.steps, budget.search
    )
    modes = mixture_of(tops)
    n_points = _n_points(theta, options)
    wanted = budget.engine.min_ess_per_chain * options.n_chains
    while True:
        weighted = importance(theta.log_densities, modes, n_points, rng, budget.importance)
        modes = fitted_mixture(weighted)
        error = _quadrature_error(theta, weighted, rng)
        if error > budget.engine.quadrature_error and theta.n_nodes < MAX_NODES:
            theta.use(theta.n_nodes + 2)
            continue
        if weighted.ess >= wanted or weighted.k_hat > 1 or n_points >= 2**14:
            break
        n_points *= 4
    facts = {"nodes": theta.n_nodes, "quadrature_error": error}
    if trustworthy(weighted, min(wanted, 0.1 * len(weighted.weights))):
        return _from_weighted(theta, levels, problem, options, weighted, modes, facts, rng)
    frames = frames_of(modes, theta.data, options.n_chains)
    target = noise_target.MarginalOfLevels(theta.spec)
    draws = run_nuts(target, frames, options, theta.device, seed, theta.check)
    return _from_chains(theta, levels, problem, draws, weighted, modes, facts, rng)


def _n_points(theta, options) -> int:
    """As many as draws are wanted; fewer where each is much work."""
    budget, n_draws = options.budget.engine, options.n_chains * options.n_draws
    n_points = 2 ** int(np.ceil(np.log2(max(n_draws, budget.min_points))))
    affordable = max(budget.few_points, LEVELS_OF_POINTS // theta.n_levels)
    return min(n_points, 2 ** int(np.log2(affordable)))


def _quadrature_error(theta, weighted, rng) -> float:
    """Spread, in nats, of what the next finer rule changes at points drawn by their weights."""
    which = rng.choice(len(weighted.weights), CHECKED, p=weighted.weights)
    points, nodes = weighted.points[which], theta.n_nodes
    coarse = theta.log_densities(points)
    theta.use(nodes + 2)
    fine = theta.log_densities(points)
    theta.use(nodes)
    return float(np.std(fine - coarse))


def _noises(theta, levels, populations, place) -> LevelNoises:
    """What is known of the levels at each component."""
    theta.use(max(theta.n_nodes, NODES_OF_MOMENTS))
    log_sd, spread, skew, log_density = theta.moments(populations)
    return LevelNoises(levels, log_sd, spread, skew, log_density, place)


def _n_kept(theta, n_points) -> int:
    """Components whose levels' moments are kept."""
    return int(np.clip(theta.budget.memory.effect_entries // (4 * theta.n_levels), 64, n_points))


def _from_weighted(theta, levels, problem, options, weighted, modes, facts, rng) -> EngineResult:
    from skhier.inference.importance import resample

    components = Components(weighted.weights, theta.populations(weighted.points))
    error = block_error(theta.budget.importance.n_blocks)
    values = _in_user_units(components.population, problem, theta)
    moments = estimates(weighted.weights, values, {}, error)
    kept = components.first(_n_kept(theta, len(weighted.weights)))
    counts = np.flatnonzero(kept.weights)  # what has no weight need not even be possible
    kept = kept.take(counts)
    n_draws = options.n_chains * options.n_draws
    place = resample(kept.weights, n_draws, rng).reshape(options.n_chains, options.n_draws)
    facts |= {
        "sampler": "importance",
        "pareto_k": weighted.k_hat,
        "ess_importance": float(weighted.ess),
        "modes": n_modes(modes.shares, theta.budget.search),
        "evaluations": theta.n_evaluations,
    }
    return EngineResult(
        kept.population.take(place),
        "marginal",
        {"lp": weighted.log_density[counts[place]]},
        kept,
        moments,
        facts,
        float(weighted.log_evidence),
        weighted.ess,
        modes,
        noises=_noises(theta, levels, kept.population, place),
    )


def _in_user_units(population, problem, theta):
    return in_user_units(population, problem.units, problem.slopes, theta.spec.response)


def _from_chains(theta, levels, problem, draws, weighted, modes, facts, rng) -> EngineResult:
    from skhier.inference.importance import bridge

    order = rng.permutation(draws.lp.size)  # any first few points stand for the posterior
    points = draws.values.reshape(draws.lp.size, theta.size)[order]
    evidence = bridge(theta.log_densities, points, draws.lp.ravel()[order], rng)
    of_modes = n_modes(modes.shares, theta.budget.search)
    facts |= {
        "sampler": "nuts",
        "pareto_k": weighted.k_hat,
        "modes": of_modes,
        "evaluations": theta.n_evaluations + int(draws.n_steps.sum()),
    }
    result = _of_draws(theta, levels, problem, draws, theta.populations(points), order, facts)
    advice = advice_on_modes(of_modes, len(draws.lp))
    return result._replace(engine="marginal", log_evidence=float(evidence), advice=advice)


def _sample_joint(theta, levels, problem, options, seed) -> EngineResult:
    """Every parameter by NUTS; of the draws the population is kept."""
    from skhier.inference import noise_target

    data = (theta.levels, *theta.model)
    target = noise_target.JointOfLevels(theta.spec)
    frames = [(options.n_chains, data)]
    draws = run_nuts(target, frames, options, theta.device, seed, theta.check)
    order = np.random.default_rng(seed).permutation(draws.lp.size)
    facts = {"sampler": "nuts", "evaluations": int(draws.n_steps.sum())}
    return _of_draws(theta, levels, problem, draws, draws.values.flat().take(order), order, facts)


def _of_draws(theta, levels, problem, draws, populations, order, facts) -> EngineResult:
    """``populations`` are those of all draws in that order."""
    n = draws.lp.size
    components = Components(np.full(n, 1 / n), populations)
    place = np.argsort(order).reshape(draws.lp.shape)
    values = _in_user_units(populations, problem, theta)
    moments = estimates(components.weights, values, {}, chain_error(place))
    kept = components.first(_n_kept(theta, n))
    place = place % len(kept.weights)
    return EngineResult(
        populations.take(np.argsort(order).reshape(draws.lp.shape)),
        "nuts",
        sample_stats(draws),
        kept,
        moments,
        facts,
        noises=_noises(theta, levels, kept.population, place),
    )
