"""Engines for responses without sufficient statistics: quadrature of one factor, or every effect.

Of one grouping factor, or none, the group effects are integrated out numerically
(:mod:`skhier.kernels.rows.quadrature`) and theta, which holds the coefficients and the response's
own parameters too, is sampled by importance or, where weights fail, by NUTS. Several factors are
sampled with all their effects by NUTS.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.special import logsumexp

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
from skhier.inference.options import EngineOptions
from skhier.inference.row_theta import RowTheta
from skhier.kernels.records import Components, EffectMoments, ModelSpec
from skhier.kernels.user_units import in_user_units
from skhier.priors import PriorChoice
from skhier.statistics.problem import Problem
from skhier.statistics.records import Units
from skhier.statistics.rows import arrange_rows, merge_equal_rows
from skhier.statistics.training import Training

__all__ = ["MOST_EFFECTS", "engine_rows", "integrates_effects", "run_rows"]

CHECKED = 32  # weighted points at which two rules are compared
MAX_NODES = 15
REPEATED = 8  # equal rows that count as one where a level's effects are judged for their shape
MOST_EFFECTS = 3  # of a level, whose product rule is small enough


def integrates_effects(n_slopes: Sequence[int]) -> bool:
    """Whether quadrature integrates the effects out: ``n_slopes`` of each factor vary."""
    return len(n_slopes) == 0 or (len(n_slopes) == 1 and n_slopes[0] < MOST_EFFECTS)


def run_rows(
    problem: Problem,
    training: Training,
    choice: PriorChoice,
    fixed: dict[str, float],
    spec: ModelSpec,
    options: EngineOptions,
    seed: int,
    inference: str,
) -> EngineResult:
    """Sample a model of rows.

    Parameters
    ----------
    problem : Problem
        In units in which the response can be stated.
    training : Training
        The rows, in the user's units.
    choice : PriorChoice
    fixed : dict of str to float
        Own parameters of the response that are known.
    spec : ModelSpec
    options : EngineOptions
    seed : int
    inference : {"auto", "marginal", "nuts"}

    Raises
    ------
    RuntimeError
        No such device, no valid starting point, or a draw or moment that is not finite.
    ValueError
        ``inference="marginal"`` of several factors, or of more effects than quadrature can bear.
    """
    from skhier.inference import runtime

    sampled = not integrates_effects([len(factor.slopes) for factor in spec.factors])
    if inference == "marginal" and sampled:
        raise ValueError(
            f"inference='marginal' integrates effects of one factor, at most {MOST_EFFECTS} a "
            f"level, for response={spec.response.name!r}. Use inference='auto' or 'nuts', which "
            "samples them."
        )
    device = runtime.find_device(options.device)
    rows = engine_rows(problem.units, training)
    model = _typed((problem.units, prior_dists(choice, options.eta), fixed))
    if inference == "nuts" or sampled:
        result = _run_joint(rows, problem, model, spec, options, device, seed)
    else:

        def work(check):
            with runtime.precisely_on(device):
                return _sample_theta(rows, problem, model, spec, options, device, seed, check)

        (result,) = runtime.run_side_by_side([work])
    constant = spec.response.log_normaliser(training.y, training.weights)
    constant -= training.weights.sum() * np.log(problem.units.y_scale)
    return with_finite_numbers(
        result._replace(log_evidence=result.log_evidence + float(np.sum(constant)))
    )


def _typed(tree):
    import jax

    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def engine_rows(units: Units, training: Training, merge: bool = True) -> tuple[Any, ...]:
    """X with the constant last, codes, y, weights and offset in internal units.

    ``merge``: equal rows as one, and none without weight.
    """
    offset = np.zeros(len(training.y)) if training.side is None else training.side
    rows = training.x, training.codes, training.y, training.weights, offset
    if merge:
        rows = merge_equal_rows(*rows)
    x, codes, y, weights, offset = rows
    x = np.column_stack([(x - units.x_mean) / units.x_scale, np.ones(len(x))])
    y = (y - units.y_mean) / units.y_scale
    return x, codes, y, weights, offset / units.y_scale


def _sample_theta(rows, problem, model, spec, options, device, seed, check) -> EngineResult:
    from skhier.inference import row_target
    from skhier.inference.importance import (
        fitted_mixture,
        importance,
        mixture_of,
        steadied,
        trustworthy,
    )
    from skhier.inference.mode import find_modes

    rng = np.random.default_rng(seed)
    x, codes, y, weights, offset = rows
    codes = codes[:, 0] if codes.shape[1] else np.zeros(len(y), int)
    n_levels = len(problem.stats.factors[0].zy[0]) if spec.factors else 1
    blocks, _ = arrange_rows(x, codes, y, weights, offset, n_levels)
    budget = options.budget
    rows_of_a_level = max(len(y), weights.sum() / REPEATED) / n_levels
    start_nodes = _first_nodes(rows_of_a_level, spec)
    theta = RowTheta(spec, blocks, model, start_nodes, check, device, budget)
    found = find_modes(
        theta.log_densities, theta.derivatives, theta.starts(), rng, theta.steps, budget.search
    )
    modes = steadied(mixture_of(found))
    _refine(theta, modes.normals()[0], seed)
    wanted = min(budget.engine.min_ess_per_chain * options.n_chains, 0.1 * budget.engine.few_points)
    n_points = budget.engine.few_points
    n_kept = _kept(theta, n_levels, n_points)
    rough = partial(theta.rough_log_densities, n_kept=n_kept)
    while True:
        weighted = importance(rough, modes, n_points, rng, budget.importance)
        modes = fitted_mixture(weighted)
        which = rng.choice(n_points, CHECKED, p=weighted.weights)
        finer_by = _finer_by(theta, weighted.points[which], weighted.log_density[which])
        error = float(finer_by.std())
        if _too_coarse(theta, error):
            theta.use(theta.n_nodes + 2)
            continue
        enough = weighted.ess >= budget.engine.min_ess_per_chain * options.n_chains
        if enough or weighted.k_hat > 1 or n_points >= 2**14:
            break
        n_points *= 4
    facts = {"nodes": theta.n_nodes, "quadrature_error": error}
    # of the finer rule: the mean, over the posterior, of the quotient of the densities
    evidence = float(logsumexp(finer_by) - np.log(CHECKED))
    weighted = weighted._replace(log_evidence=weighted.log_evidence + evidence)
    if trustworthy(weighted, wanted):
        return _from_weighted(theta, problem, options, weighted, modes, n_levels, facts, rng)
    frames = frames_of(modes, theta.data, options.n_chains)
    draws = run_nuts(row_target.MarginalOfRows(spec), frames, options, device, seed, check)
    result = _from_chains(theta, problem, draws, weighted, modes, n_levels, facts, rng)
    return result._replace(log_evidence=result.log_evidence + evidence)


def _refine(theta, normal, seed) -> None:
    """Take as many nodes as points around a mode want, before many points are asked for."""
    rng = np.random.default_rng([seed, 1])  # of its own, so that later numbers do not depend on it
    around = normal.mean + rng.standard_normal((CHECKED, theta.size)) @ normal.root.T
    while _too_coarse(theta, _finer_by(theta, around).std()):
        theta.use(theta.n_nodes + 2)


def _first_nodes(rows_of_a_level: float, spec) -> int:
    """Nodes a dimension to begin with: the more rows, the nearer to normal a level's effects."""
    if not spec.factors:
        return 1
    return 3 if rows_of_a_level >= 25 else 5 if rows_of_a_level >= 8 else 7


def _finer_by(theta, points, coarse=None) -> np.ndarray:
    """What the next finer rule adds to log densities at points, in nats."""
    if not theta.q:
        return np.zeros(len(points))
    nodes = theta.n_nodes
    coarse = theta.rough_log_densities(points) if coarse is None else coarse
    theta.use(nodes + 2)
    finer = theta.rough_log_densities(points)
    theta.use(nodes)
    return finer - coarse


def _too_coarse(theta, error) -> bool:
    return error > theta.budget.engine.quadrature_error and theta.n_nodes < MAX_NODES


def _kept(theta, n_levels, n_points) -> int:
    """Points whose levels' moments are kept."""
    size = max(n_levels * (2 * theta.q + theta.q**2), 1)
    return int(np.clip(theta.budget.memory.effect_entries // size, 64, n_points))


def _possible(weights) -> np.ndarray:
    """Of each point itself, or one that stands in: what has no weight need not be a number."""
    return np.where(weights > 0, np.arange(len(weights)), weights.argmax())


def _effects(theta, points, weights, place, n_levels) -> EffectMoments:
    moments, stretch = theta.moments(points)
    at = _possible(weights)

    def known(a):
        return np.asarray(a)[at][..., :n_levels]

    density = known(moments.log_density)
    if not theta.q:
        return EffectMoments((), (), density, place, theta.n_nodes)
    mean, root, skew = ((known(a),) for a in (moments.mean, moments.root, moments.skew))
    of_log = (known(stretch),) if theta.spec.response.link == "log" else None
    return EffectMoments(mean, root, density, place, theta.n_nodes, skew, of_log)


def _from_weighted(theta, problem, options, weighted, modes, n_levels, facts, rng) -> EngineResult:
    from skhier.inference.importance import resample

    n_kept = _kept(theta, n_levels, len(weighted.weights))
    weights = weighted.weights
    components = Components(weights, theta.populations(weighted.points).take(_possible(weights)))
    error = block_error(theta.budget.importance.n_blocks)
    moments = estimates(weights, _in_user_units(components.population, problem, theta), {}, error)
    kept = components.first(n_kept)
    n_draws = options.n_chains * options.n_draws
    place = resample(kept.weights, n_draws, rng).reshape(options.n_chains, options.n_draws)
    return EngineResult(
        kept.population.take(place),
        "marginal",
        {"lp": weighted.log_density[place]},
        kept,
        moments,
        facts
        | {
            "sampler": "importance",
            "pareto_k": weighted.k_hat,
            "ess_importance": float(weighted.ess),
            "modes": n_modes(modes.shares, theta.budget.search),
            "evaluations": theta.n_evaluations,
        },
        float(weighted.log_evidence),
        weighted.ess,
        modes,
        effects=_effects(theta, weighted.points[:n_kept], kept.weights, place, n_levels),
    )


def _in_user_units(population, problem, theta):
    slopes = tuple(factor.slopes for factor in theta.spec.factors)
    return in_user_units(population, problem.units, slopes, theta.spec.response)


def _from_chains(theta, problem, draws, weighted, modes, n_levels, facts, rng) -> EngineResult:
    from skhier.inference.importance import bridge

    shape = draws.lp.shape
    order = rng.permutation(draws.lp.size)  # any first few points stand for the posterior
    points = draws.values.reshape(draws.lp.size, theta.size)[order]
    evidence = bridge(theta.log_densities, points, draws.lp.ravel()[order], rng)
    components = Components(np.full(len(points), 1 / len(points)), theta.populations(points))
    place = np.argsort(order).reshape(shape)
    values = _in_user_units(components.population, problem, theta)
    moments = estimates(components.weights, values, {}, chain_error(place))
    n_kept = _kept(theta, n_levels, len(points))
    drawn, kept = components.population.take(place), components.first(n_kept)
    of_modes = n_modes(modes.shares, theta.budget.search)
    return EngineResult(
        drawn,
        "marginal",
        sample_stats(draws),
        kept,
        moments,
        facts
        | {
            "sampler": "nuts",
            "pareto_k": weighted.k_hat,
            "modes": of_modes,
            "evaluations": theta.n_evaluations + int(draws.n_steps.sum()),
        },
        float(evidence),
        advice=advice_on_modes(of_modes, shape[0]),
        effects=_effects(theta, points[:n_kept], kept.weights, place % n_kept, n_levels),
    )


def _run_joint(rows, problem, model, spec, options, device, seed) -> EngineResult:
    """Every effect by NUTS; evenly spaced draws of the effects are kept."""
    from skhier.inference import row_target
    from skhier.kernels.rows.models import JointRows

    x, codes, y, weights, offset = rows
    present = tuple((f.zz[-1, -1] > 0).astype(float) for f in problem.stats.factors)
    joint = JointRows(x, y, weights, offset, codes.astype(np.int32), present)
    draws = run_nuts(
        row_target.JointOfRows(spec), [(options.n_chains, (joint, *model))], options, device, seed
    )
    population, effects = draws.values
    flat = population.flat()
    n_draws = len(flat.coef)
    size = max(sum(b.shape[2] * b.shape[3] for b in effects), 1)
    n_kept = int(np.clip(options.budget.memory.effect_entries // size, 64, n_draws))
    which = (np.arange(n_kept) * n_draws) // n_kept
    place = (np.arange(n_draws) * n_kept) // n_draws
    mean = tuple(b.reshape(n_draws, *b.shape[2:])[which] for b in effects)
    root = tuple(np.zeros((n_kept, b.shape[1], *b.shape[1:])) for b in mean)
    facts = {"sampler": "nuts", "evaluations": int(draws.n_steps.sum())}
    return EngineResult(
        population,
        "nuts",
        sample_stats(draws),
        Components(np.full(n_kept, 1 / n_kept), flat.take(which)),
        {},
        facts,
        effects=EffectMoments(mean, root, None, place.reshape(population.coef.shape[:2]), 0),
    )
