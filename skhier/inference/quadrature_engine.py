"""Theta where quadrature integrates levels out: importance sampling, or NUTS where weights fail.

The rule has as many nodes as the next finer one wants: at weighted points the two are compared.
Near a single mode what the finer rule adds is a smooth function of theta, which a few points tell;
what remains of it after that is the error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from skhier.inference.chains import run_nuts, sample_stats
from skhier.inference.engines import frames_of
from skhier.inference.estimates import block_error, chain_error, estimates
from skhier.inference.importance import (
    Mixture,
    WeightedPoints,
    bridge,
    fitted_mixture,
    importance,
    mixture_of,
    resample,
    trustworthy,
    with_tails,
    without_tails,
)
from skhier.inference.mode import Laplace, find_modes
from skhier.inference.options import EngineOptions
from skhier.inference.quadrature_theta import QuadratureTheta
from skhier.inference.results import EngineResult, advice_on_modes, n_modes
from skhier.kernels.records import Components, Population
from skhier.kernels.user_units import in_user_units
from skhier.statistics.problem import Problem

__all__ = ["Gap", "TooCoarse", "modes_of", "of_draws", "refine", "sample_theta"]

TOO_COARSE = 4.0  # times the error that is wanted: then the user is told
GAP_REACH = 4.0  # sds from a mode up to which a gap changes


class TooCoarse(Exception):
    """Integrals over the levels' effects are not exact enough."""


class Gap(NamedTuple):
    """What the next finer rule adds to log densities near a mode, in nats.

    Attributes
    ----------
    normal : Laplace
        Of the mode.
    coefs : array of shape (1 + d,) or (1 + 2 d,)
        Of a constant, the normal's standard coordinates and their squares.
    """

    normal: Laplace
    coefs: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """The gap at points (n, d), (n,); far from the mode what it is less far."""
        z = np.linalg.solve(self.normal.root, (points - self.normal.mean).T).T
        return _terms(z)[:, : len(self.coefs)] @ self.coefs


def _terms(z):
    z = np.clip(z, -GAP_REACH, GAP_REACH)
    return np.column_stack([np.ones(len(z)), z, z**2])


def _gap(normal, z, finer_by) -> tuple[Gap | None, float]:
    """By least squares at points z, if they are many enough, and the sd of what it lacks."""
    n, d = z.shape
    n_terms = max((k for k in (1 + d, 1 + 2 * d) if 2 * k <= n), default=0)
    if not n_terms:
        return None, float(finer_by.std())
    terms = _terms(z)[:, :n_terms]
    coefs = np.linalg.lstsq(terms, finer_by, rcond=None)[0]
    rest = finer_by - terms @ coefs
    return Gap(normal, coefs), float(np.sqrt((rest**2).sum() / (n - n_terms)))


def modes_of(theta: QuadratureTheta, starts: np.ndarray, rng: np.random.Generator) -> Mixture:
    """Modes of theta's posterior from ``starts`` (n, d), in proportion to their masses."""
    search, budget = theta.search, theta.budget.engine
    if search.climbs * len(starts) * (2 * theta.size + 4) > budget.climb_share * budget.few_points:
        search = replace(search, climbs=0)
    how = rng, theta.steps, search
    return mixture_of(find_modes(theta.log_densities, theta.derivatives, starts, *how))


def refine(theta: QuadratureTheta, modes: Mixture, most: int, seed: int) -> Gap | None:
    """Take as many nodes as points around a mode want, before many points are asked for.

    What the gap is to the next rule those points tell, where they are many beside theta's entries
    and there is no other mode.
    """
    rng = np.random.default_rng([seed, 1])  # of its own, so that later numbers do not depend on it
    normal, *others = modes.normals()
    z = rng.standard_normal((theta.budget.quadrature.points_compared, theta.size))
    around = normal.mean + z @ normal.root.T
    while True:
        finer_by = _finer_by(theta, around)
        gap, error = (None, finer_by.std()) if others else _gap(normal, z, finer_by)
        if not _too_coarse(theta, error) or not theta.improve(most):
            return gap


def sample_theta(
    theta: QuadratureTheta,
    modes: Mixture,
    n_points: int,
    most_nodes: int,
    problem: Problem,
    options: EngineOptions,
    rng: np.random.Generator,
    seed: int,
    gap: Gap | None = None,
    only_if_exact: bool = False,
) -> EngineResult:
    """Weighted points of theta, or chains where the weights fail; and what is kept of the levels.

    Parameters
    ----------
    theta : QuadratureTheta
    modes : Mixture
    n_points : int
        To begin with, a power of two; there are more if they turn out to be few.
    most_nodes : int
        Of the rule, a dimension.
    problem : Problem
    options : EngineOptions
    rng : Generator
    seed : int
        Of the chains.
    gap : Gap or None
        Of the rule that theta has.
    only_if_exact : bool
        Whether integrals that are too coarse are an error, and not a warning.

    Raises
    ------
    TooCoarse
        They are, with as many nodes as there may be.
    """
    from skhier.inference import quadrature_target

    wanted = options.least_ess(options.budget.quadrature.most_points)
    least = options.least_ess(n_points)
    for of_rule in [None] if gap is None else [gap, None]:  # chains know of no gap
        how = n_points, most_nodes, wanted, of_rule
        weighted, modes, facts, finer_by = _weigh(theta, modes, *how, rng)
        misleads = _misleads(theta, facts)
        if only_if_exact and misleads:
            raise TooCoarse
        # of the finer rule: the mean, over the posterior, of the quotient of the densities
        evidence = float(logsumexp(finer_by) - np.log(len(finer_by)))
        if trustworthy(weighted, least) or misleads:  # chains would be misled, and slow
            weighted = weighted._replace(log_evidence=weighted.log_evidence + evidence)
            result = _from_weighted(theta, problem, options, weighted, modes, facts, rng)
            return _with_advice(result, theta)
    frames = frames_of(modes, theta.data, options.n_chains)
    target = quadrature_target.Marginal(theta.program, theta.spec)
    draws = run_nuts(target, frames, options, theta.device, seed, theta.check)
    result = _from_chains(theta, problem, draws, weighted, modes, facts, rng)
    return _with_advice(result._replace(log_evidence=result.log_evidence + evidence), theta)


def _weigh(theta, modes, n_points, most_nodes, wanted, gap, rng):
    """Weighted points, a mixture fitted to them, facts, and what a finer rule adds at some."""
    n_kept, budget = theta.n_kept(n_points), theta.budget.quadrature
    proposal = with_tails(modes, theta.scales, theta.budget.importance)

    def rough(points):
        values = theta.rough_log_densities(points, n_kept)
        return values if gap is None else values + gap.at(points)

    while True:
        weighted = importance(rough, proposal, n_points, rng, theta.budget.importance)
        proposal = fitted_mixture(weighted)
        which = rng.choice(n_points, budget.points_compared, p=weighted.weights)
        finer_by = _finer_by(theta, weighted.points[which], weighted.log_density[which])
        error = float(finer_by.std())
        if _too_coarse(theta, error) and theta.improve(most_nodes):
            gap = None
            continue
        few = which[: budget.far_points]
        far = _far_by(theta, weighted.points[few], weighted.log_density[few])
        if _too_coarse(theta, far):
            gap = None
            theta.reach_far()
            continue
        facts = {"nodes": theta.n_nodes, "quadrature_error": max(error, far)}
        enough = weighted.ess >= wanted or weighted.k_hat > 1 or n_points >= budget.most_points
        if enough or _misleads(theta, facts):
            of_modes = fitted_mixture(without_tails(weighted, len(modes.shares)))
            return weighted, of_modes, facts, finer_by
        n_points *= 4


def _finer_by(theta, points, coarse=None) -> np.ndarray:
    """What the next finer rule adds to log densities at points, in nats."""
    if theta.is_exact:
        return np.zeros(len(points))
    coarse = theta.rough_log_densities(points) if coarse is None else coarse
    return theta.finer_log_densities(points) - coarse


def _far_by(theta, points, coarse) -> float:
    """Sd of what a rule that reaches farther adds to log densities at points, in nats."""
    far = theta.far_log_densities(points)
    return 0.0 if far is None else float((far - coarse).std())


def _too_coarse(theta, error) -> bool:
    return error > theta.budget.engine.quadrature_error


def _misleads(theta, facts) -> bool:
    return facts["quadrature_error"] > TOO_COARSE * theta.budget.engine.quadrature_error


def _with_advice(result, theta) -> EngineResult:
    """Of integrals that are too coarse with as many nodes as there may be."""
    if not _misleads(theta, result.facts):
        return result
    error = result.facts["quadrature_error"]
    return result._replace(
        advice=(
            *result.advice,
            f"Integrals over the levels are exact to {error:.2g} nats only, which moves the "
            "posterior: levels may have effects with several modes, far apart. Use "
            "inference='nuts', which samples the effects, or a prior that rules modes out.",
        )
    )


def _from_weighted(
    theta: QuadratureTheta,
    problem: Problem,
    options: EngineOptions,
    weighted: WeightedPoints,
    modes: Mixture,
    facts: dict[str, Any],
    rng: np.random.Generator,
) -> EngineResult:
    populations = theta.populations(weighted.points).take(_possible(weighted.weights))
    components = Components(weighted.weights, populations)
    error = block_error(theta.budget.importance.n_blocks)
    values = _in_user_units(components.population, problem, theta)
    moments = estimates(weighted.weights, values, {}, error)
    kept = components.first(theta.n_kept(len(weighted.weights)))
    points = weighted.points[: len(kept.weights)]
    counts = np.flatnonzero(kept.weights)
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
    result = EngineResult(
        kept.population.take(place),
        "marginal",
        {"lp": weighted.log_density[counts[place]]},
        kept,
        moments,
        facts,
        float(weighted.log_evidence),
        weighted.ess,
        modes,
    )
    return _with_levels(result, theta, points, counts, place)


def _possible(weights) -> np.ndarray:
    """Of each point itself, or one that stands in: what has no weight need not be a number."""
    return np.where(weights > 0, np.arange(len(weights)), weights.argmax())


def _with_levels(result, theta, points, which, place) -> EngineResult:
    levels = theta.of_levels(points, which, result.components.population, place)
    return result._replace(**{theta.levels_are: levels})


def _in_user_units(population, problem, theta):
    return in_user_units(population, problem.units, problem.slopes, theta.spec.response)


def _from_chains(theta, problem, draws, weighted, modes, facts, rng) -> EngineResult:
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
    result = of_draws(theta, problem, draws, theta.populations(points), order, facts, points)
    advice = advice_on_modes(of_modes, len(draws.lp))
    return result._replace(engine="marginal", log_evidence=float(evidence), advice=advice)


def of_draws(
    theta: QuadratureTheta,
    problem: Problem,
    draws: Any,
    populations: Population,
    order: np.ndarray,
    facts: dict[str, Any],
    points: np.ndarray | None = None,
) -> EngineResult:
    """What chains know, of theta or of every parameter.

    Parameters
    ----------
    theta : QuadratureTheta
    problem : Problem
    draws : SamplerDraws
    populations : Population
        Of all draws (n, ...), in the order ``order`` (n,) of their places.
    facts : dict
    points : array of shape (n, d) or None
        Theta, in that order.
    """
    n = draws.lp.size
    components = Components(np.full(n, 1 / n), populations)
    place = np.argsort(order).reshape(draws.lp.shape)
    values = _in_user_units(populations, problem, theta)
    moments = estimates(components.weights, values, {}, chain_error(place))
    kept = components.first(theta.n_kept(n))
    n_kept = len(kept.weights)
    drawn, stats = populations.take(place), sample_stats(draws)
    result = EngineResult(drawn, "nuts", stats, kept, moments, facts)
    points = None if points is None else points[:n_kept]
    return _with_levels(result, theta, points, np.arange(n_kept), place % n_kept)
