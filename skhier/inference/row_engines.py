"""Engines for responses without sufficient statistics: quadrature of one factor, or every effect.

Of one grouping factor, or none, the group effects are integrated out numerically
(:mod:`skhier.kernels.rows.quadrature`) and theta, which holds the coefficients and the response's
own parameters too, is sampled by importance or, where weights fail, by NUTS. Several factors are
sampled with all their effects by NUTS.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from skhier.inference.chains import run_nuts, sample_stats
from skhier.inference.engines import EngineResult, advice_on_modes, n_modes, with_finite_numbers
from skhier.inference.estimates import block_error, chain_error, estimates
from skhier.inference.importance import Mixture
from skhier.inference.mode import STEP, Derivatives, from_gradients, from_values
from skhier.inference.model import prior_dists
from skhier.inference.options import EngineOptions
from skhier.inference.starts import PriorTops, prior_tops
from skhier.kernels.records import Components, EffectMoments, ModelSpec, Population
from skhier.kernels.user_units import in_user_units
from skhier.priors import PriorChoice
from skhier.statistics.problem import Problem
from skhier.statistics.records import Units
from skhier.statistics.rows import RowBlocks, arrange_rows, merge_equal_rows
from skhier.statistics.training import Training
from skhier.utils.budget import Budget

__all__ = ["internal_rows", "run_rows"]

CHECKED = 32  # weighted points at which two rules are compared
MAX_NODES = 15
MOST_EFFECTS = 3  # of a level, whose product rule is small enough


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

    many = any(factor.n_effects > MOST_EFFECTS for factor in spec.factors)
    if inference == "marginal" and (len(spec.factors) > 1 or many):
        raise ValueError(
            f"inference='marginal' integrates effects of one factor, at most {MOST_EFFECTS} a "
            f"level, for response={spec.response.name!r}. Use inference='auto' or 'nuts', which "
            "samples them."
        )
    device = runtime.find_device(options.device)
    rows = internal_rows(problem.units, training)
    model = _typed((problem.units, prior_dists(choice, options.eta), fixed))
    if inference == "nuts" or len(spec.factors) > 1 or many:
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


def internal_rows(units: Units, training: Training, merge: bool = True) -> tuple[Any, ...]:
    """X with the constant last, codes, y, weights and offset in internal units.

    ``merge``: equal rows as one, and none without weight.
    """
    rows = training.x, training.codes, training.y, training.weights, np.zeros(len(training.y))
    if merge:
        rows = merge_equal_rows(*rows)
    x, codes, y, weights, offset = rows
    x = np.column_stack([(x - units.x_mean) / units.x_scale, np.ones(len(x))])
    y = (y - units.y_mean) / units.y_scale
    return x, codes, y, weights, offset / units.y_scale


class RowTheta:
    """The posterior of theta as functions of many points, evaluated a batch at a time.

    Parameters
    ----------
    spec : ModelSpec
    rows : RowBlocks
    model : tuple
        Units, priors and known parameters.
    n_nodes : int
        Of the rule, a dimension.
    check : callable
        Called between batches; may raise to stop.
    device : Device or None
    budget : Budget
    """

    def __init__(self, spec: ModelSpec, rows: RowBlocks, model, n_nodes, check, device, budget):
        import jax

        from skhier.inference import row_target

        self.spec, self.model, self.check, self.device = spec, model, check, device
        self.rows: RowBlocks = jax.device_put(rows)
        self.budget: Budget = budget
        self.target = row_target
        self.size = len(row_target.size(model, spec))
        self.batch = int(np.clip(2**15 // rows.y.size, 1, 32))
        self.n_evaluations = 0
        self.use(n_nodes)

    @property
    def q(self) -> int:
        """Effects of a level."""
        return self.spec.factors[0].n_effects if self.spec.factors else 0

    def use(self, n_nodes: int) -> None:
        """Take a rule of so many nodes a dimension."""
        from skhier.kernels.rows.quadrature import rule_of

        self.n_nodes = n_nodes
        self.rule = rule_of(n_nodes, self.q)

    @property
    def data(self) -> tuple:
        """Arguments of the compiled functions."""
        return self.rows, self.rule, self.model

    @cached_property
    def priors(self) -> PriorTops:
        """Where the prior of each entry of theta has its modes."""

        def profiles(grids):
            of_sites = self.target.prior_profiles(grids, self.model, self.spec)
            heights = {name: np.asarray(values) for name, values in of_sites.items()}
            return {name: np.where(np.isfinite(v), v, -np.inf) for name, v in heights.items()}

        return prior_tops(profiles, self.size, self.budget.search)

    @cached_property
    def steps(self) -> np.ndarray:
        """Of differences, (d,): well below the width of a narrow prior."""
        return np.minimum(STEP, self.priors.widths / 20)

    def starts(self) -> np.ndarray:
        """Where modes may be, (n_starts, d): a fit without groups, and scales of two sizes."""
        sites = self.priors.sites
        start = np.zeros(self.size)
        own = self.populations(start[None]).take(0).own
        coef = _fit_without_groups(self.spec.response, self.rows, own)
        for i, block in enumerate(self.spec.coef_blocks):
            start[list(sites[f"coef_{i}"])] = coef[list(block)]
        start[list(sites["intercept"])] = coef[-1]
        scales = [j for name, entries in sites.items() if _is_scale(name) for j in entries]
        start[scales] = -0.7
        without = start.copy()
        without[scales] = -4.0
        return np.unique([start, without, np.zeros(self.size)], axis=0)

    def derivatives(self, point: np.ndarray) -> Derivatives:
        """Of the log density at a point (d,); whichever way compiles and runs faster."""
        if self.size <= self.budget.search.max_size_by_values:
            return from_values(self.log_densities, point, self.steps)
        return from_gradients(self._density_and_gradient, point)

    def _density_and_gradient(self, points):
        self.n_evaluations += len(points)
        values, gradients = np.empty(len(points)), np.empty(points.shape)
        for i, point in enumerate(points):
            self.check()
            values[i], gradients[i] = self.target.density_and_gradient(point, self.data, self.spec)
        return values, gradients

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """(n, d) points to (n,) log densities."""
        self.n_evaluations += len(points)
        parts = self.over(self.target.evaluate, points)
        return np.concatenate([np.asarray(part) for part in parts])[: len(points)]

    def over(self, function: Any, points: np.ndarray) -> list[Any]:
        """A compiled function at all points, a padded batch at a time, two of them side by side."""
        import jax

        from skhier.inference import runtime

        def at(begin):
            self.check()
            part = points[begin : begin + self.batch]
            padding = np.broadcast_to(part[:1], (self.batch - len(part), self.size))
            with runtime.precisely_on(self.device):
                out = function(np.concatenate([part, padding]), self.data, self.spec)
                return jax.block_until_ready(out)

        begins = range(0, len(points), self.batch)
        if len(begins) == 1:
            return [at(0)]
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(at, begins))

    def populations(self, points: np.ndarray) -> Population:
        """The population at each of (n, d) points."""
        import jax

        return jax.tree.map(np.asarray, self.target.populations(points, self.model, self.spec))

    def moments(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Means, roots of the covariances and log densities of the levels, see EffectMoments."""
        parts = self.over(self.target.moments, points)
        mean, cov, density = (
            np.concatenate([np.asarray(part[i]) for part in parts])[: len(points)] for i in range(3)
        )
        values, vectors = np.linalg.eigh(np.moveaxis(cov, -1, 1))
        root = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
        return mean, np.moveaxis(root, 1, -1), density


def _is_scale(name):
    return name.startswith(("group_scale_", "decov_size_"))


def _fit_without_groups(response, rows, own) -> np.ndarray:
    """Coefficients (p,) of a fit that ignores groups, drawn a little to 0."""
    x = np.asarray(rows.x).reshape(len(rows.x), -1)
    y, weight, offset = (np.asarray(a).ravel() for a in (rows.y, rows.weight, rows.offset))
    coef = np.zeros(len(x))
    coef[-1] = response.start(y[weight > 0], weight[weight > 0]) - np.average(
        offset, weights=weight
    )

    def value(at):
        density = weight * response.log_density(y, at @ x + offset, own)
        return density.sum() - 0.5 * at[:-1] @ at[:-1]

    ridge = np.append(np.ones(len(x) - 1), 1e-6)
    for _ in range(25):
        line = coef @ x + offset
        score = x @ (weight * response.score(y, line, own)) - ridge * coef
        curvature = weight * np.maximum(response.curvature(y, line, own), 0)
        step = np.linalg.solve((x * curvature) @ x.T + np.diag(ridge + 1e-9), score)
        for _ in range(20):
            if value(coef + step) >= value(coef):
                break
            step = step / 2
        coef = coef + step
        if np.abs(step).max() < 1e-3:
            break
    return coef


def _sample_theta(rows, problem, model, spec, options, device, seed, check) -> EngineResult:
    from skhier.inference import row_target
    from skhier.inference.importance import fitted_mixture, importance, mixture_of, trustworthy
    from skhier.inference.mode import find_modes

    rng = np.random.default_rng(seed)
    x, codes, y, weights, offset = rows
    codes = codes[:, 0] if codes.shape[1] else np.zeros(len(y), int)
    n_levels = len(problem.stats.factors[0].zy[0]) if spec.factors else 1
    blocks, _ = arrange_rows(x, codes, y, weights, offset, n_levels)
    budget = options.budget
    start_nodes = _first_nodes(len(y) / n_levels, spec)
    theta = RowTheta(spec, blocks, model, start_nodes, check, device, budget)
    found = find_modes(
        theta.log_densities, theta.derivatives, theta.starts(), rng, theta.steps, budget.search
    )
    modes = mixture_of(found)
    wanted = min(budget.engine.min_ess_per_chain * options.n_chains, 0.1 * budget.engine.few_points)
    n_points = budget.engine.few_points
    while True:
        weighted = importance(theta.log_densities, modes, n_points, rng, budget.importance)
        modes = fitted_mixture(weighted)
        error = _quadrature_error(theta, weighted, rng)
        if error > budget.engine.quadrature_error and theta.n_nodes < MAX_NODES and theta.q:
            theta.use(theta.n_nodes + 2)
            continue
        enough = weighted.ess >= budget.engine.min_ess_per_chain * options.n_chains
        if enough or weighted.k_hat > 1 or n_points >= 2**14:
            break
        n_points *= 4
    facts = {"nodes": theta.n_nodes, "quadrature_error": error}
    if trustworthy(weighted, wanted):
        return _from_weighted(theta, problem, options, weighted, modes, n_levels, facts, rng)
    frames = [
        (n, (theta.rows, theta.rule, model, mean, root))
        for n, mean, root in _chains(modes, options.n_chains)
    ]
    draws = run_nuts(row_target.MarginalOfRows(spec), frames, options, device, seed, check)
    return _from_chains(theta, problem, draws, weighted, modes, n_levels, facts, rng)


def _first_nodes(rows_of_a_level: float, spec) -> int:
    """Nodes a dimension to begin with: the more rows, the nearer to normal a level's effects."""
    if not spec.factors:
        return 1
    return 3 if rows_of_a_level >= 25 else 5 if rows_of_a_level >= 8 else 7


def _quadrature_error(theta, weighted, rng) -> float:
    """Spread, in nats, of what the next finer rule changes at points drawn by their weights."""
    if not theta.q:
        return 0.0
    which = rng.choice(len(weighted.weights), CHECKED, p=weighted.weights)
    points, nodes = weighted.points[which], theta.n_nodes
    coarse = theta.log_densities(points)
    theta.use(nodes + 2)
    fine = theta.log_densities(points)
    theta.use(nodes)
    return float(np.std(fine - coarse))


def _chains(modes: Mixture, n_chains):
    wanted = n_chains * modes.shares
    counts = np.floor(wanted).astype(int)
    rest = np.argsort(counts - wanted, kind="stable")
    counts[rest[: n_chains - counts.sum()]] += 1
    parts = zip(counts, modes.means, modes.roots, strict=True)
    return [(int(n), mean, root) for n, mean, root in parts if n]


def _kept(theta, n_levels, n_points) -> int:
    """Points whose levels' moments are kept."""
    size = max(n_levels * (theta.q + theta.q**2), 1)
    return int(np.clip(theta.budget.memory.effect_entries // size, 64, n_points))


def _effects(theta, points, place, n_levels) -> EffectMoments:
    mean, root, density = theta.moments(points)
    known = slice(0, n_levels)
    density = density[:, known]
    if not theta.q:
        return EffectMoments((), (), density, place, theta.n_nodes)
    return EffectMoments((mean[..., known],), (root[..., known],), density, place, theta.n_nodes)


def _from_weighted(theta, problem, options, weighted, modes, n_levels, facts, rng) -> EngineResult:
    from skhier.inference.importance import resample

    n_kept = _kept(theta, n_levels, len(weighted.weights))
    components = Components(weighted.weights, theta.populations(weighted.points))
    error = block_error(theta.budget.importance.n_blocks)
    moments = estimates(
        weighted.weights, _in_user_units(components.population, problem, theta), {}, error
    )
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
        effects=_effects(theta, weighted.points[:n_kept], place, n_levels),
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
    drawn = components.population.take(place)
    of_modes = n_modes(modes.shares, theta.budget.search)
    return EngineResult(
        drawn,
        "marginal",
        sample_stats(draws),
        components.first(n_kept),
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
        effects=_effects(theta, points[:n_kept], place % n_kept, n_levels),
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
