"""The engine of levels with a noise of their own: one factor, from statistics.

Group effects are integrated out in closed form and noises by quadrature of one dimension
(:mod:`skhier.kernels.normal.level_noise`). Theta, which holds the coefficients too, is sampled by
importance or, where weights fail, by NUTS. ``inference="nuts"`` samples every effect and noise;
what is said of levels then follows from the draws of the population as it does otherwise.
"""

from __future__ import annotations

import warnings

import numpy as np

from skhier.inference.chains import run_nuts
from skhier.inference.noise_theta import NoiseTheta
from skhier.inference.options import EngineOptions
from skhier.inference.quadrature_engine import modes_of, of_draws, sample_theta
from skhier.inference.results import EngineResult, with_finite_numbers
from skhier.inference.statement import numbers_of_model
from skhier.kernels.records import MIN_VARIANCE, ModelSpec
from skhier.priors import PriorChoice
from skhier.responses.base import Response
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

__all__ = ["integrates_noises", "run_noise"]


def integrates_noises(response: Response, n_factors: int) -> bool:
    """Whether levels have a closed form given their noise, which is integrated out."""
    return response.name == "normal" and n_factors == 1


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
    from skhier.inference import runtime

    (slopes,), (factor,) = problem.slopes, problem.stats.factors
    if training is None:
        levels = roots_of_products(factor, slopes)
    else:
        of_rows = training, problem.units, slopes, factor.zy.shape[-1]
        levels = level_roots(*of_rows, options.budget.data)
    announced = _exact_levels(levels, problem)
    device = runtime.find_device(options.device)
    model = numbers_of_model(problem.units, choice, options.eta)
    sample = _sample_joint if inference == "nuts" else _sample_theta

    def work(check):
        with runtime.precisely_on(device):
            few = 3 if levels.n.mean() >= 25 else 5
            theta = NoiseTheta(spec, levels, model, few, check, device, options.budget)
            return sample(theta, problem, options, seed)

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


def _sample_theta(theta, problem, options, seed) -> EngineResult:
    rng = np.random.default_rng(seed)
    modes = modes_of(theta, theta.starts(problem.stats), rng)
    n_points = _n_points(theta, options)
    most = options.budget.quadrature.most_noise_nodes
    return sample_theta(theta, modes, n_points, most, problem, options, rng, seed)


def _n_points(theta, options) -> int:
    """As many as draws are wanted; fewer where each is much work."""
    budget, n_draws = options.budget.engine, options.n_chains * options.n_draws
    n_points = 2 ** int(np.ceil(np.log2(max(n_draws, budget.min_points))))
    affordable = max(budget.few_points, options.budget.quadrature.round_points // theta.n_levels)
    return min(n_points, 2 ** int(np.log2(affordable)))


def _sample_joint(theta, problem, options, seed) -> EngineResult:
    """Every parameter by NUTS; of the draws the population is kept."""
    from skhier.inference.quadrature_target import Joint

    target = Joint(theta.program, theta.spec)
    frames = [(options.n_chains, (theta.padded, *theta.model))]
    draws = run_nuts(target, frames, options, theta.device, seed, theta.check)
    order = np.random.default_rng(seed).permutation(draws.lp.size)
    facts = {"sampler": "nuts", "evaluations": int(draws.n_steps.sum())}
    return of_draws(theta, problem, draws, draws.values.flat().take(order), order, facts)
