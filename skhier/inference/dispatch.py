"""Which engine samples a problem."""

from __future__ import annotations

from skhier.inference.engines import engine_for, run_joint, run_marginal
from skhier.inference.importance import Mixture
from skhier.inference.noise_engine import integrates_noises, run_noise
from skhier.inference.options import EngineOptions
from skhier.inference.results import EngineResult, constant_posterior
from skhier.inference.row_engines import run_rows
from skhier.kernels.records import ModelSpec
from skhier.priors import PriorChoice
from skhier.responses.base import Response
from skhier.statistics.problem import Problem
from skhier.utils.training import Training

__all__ = ["sample"]


def sample(
    problem: Problem,
    training: Training | None,
    choice: PriorChoice,
    spec: ModelSpec,
    response: Response,
    options: EngineOptions,
    seed: int,
    inference: str,
    start: Mixture | None = None,
) -> EngineResult:
    """Sample a problem by the engine that ``inference`` names or, if it may, by the best one.

    Parameters
    ----------
    problem : Problem
        In units in which the response can be stated.
    training : Training or None
        The rows, in the user's units, if there are more than statistics.
    choice : PriorChoice
    spec : ModelSpec
    response : Response
        With the values of its own parameters that are known.
    options : EngineOptions
    seed : int
    inference : {"auto", "marginal", "nuts"}
    start : Mixture or None
        Modes of a similar problem, which may spare the search for those of a normal response.

    Raises
    ------
    RuntimeError
        No such device, no valid starting point, or a draw or moment that is not finite.
    ValueError
        ``inference`` names an engine that cannot sample this.
    MemoryError
        What would not fit.
    """
    if problem.y_is_constant and response.standardises:
        return constant_posterior(problem, response, options.n_chains, options.n_draws)
    if spec.noise_by is not None and integrates_noises(response, len(spec.factors)):
        return run_noise(problem, training, choice, spec, options, seed, inference)
    if not response.conjugate:
        fixed = response.fixed
        return run_rows(problem, training, choice, fixed, spec, options, seed, inference)
    engine, announced = engine_for(problem, options, inference)
    if engine == "nuts":
        result = run_joint(problem, choice, spec, options, seed)
    else:
        result = run_marginal(problem, choice, spec, options, seed, start)
    lacking = 0.0 if problem.noise is None else problem.noise.log_density
    if training is not None:
        lacking += float(response.log_jacobian(training.y) @ training.weights)
    return result._replace(
        announced=(*announced, *result.announced), log_evidence=result.log_evidence + lacking
    )
