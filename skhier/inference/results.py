"""What an engine hands over, and what it has to say of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.checks import forbid_nonfinite
from skhier.inference.estimates import Estimate
from skhier.inference.importance import Mixture
from skhier.kernels.records import Components, EffectMoments, LevelNoises, Population
from skhier.responses.base import Response
from skhier.statistics.problem import Problem
from skhier.utils.budget import SearchBudget
from skhier.utils.convergence import ConvergenceReport, convergence_report

__all__ = [
    "EngineResult",
    "advice_on_modes",
    "constant_posterior",
    "n_modes",
    "report_on",
    "scalars",
    "with_finite_numbers",
]


class EngineResult(NamedTuple):
    """Draws of the population parameters and the facts of their making.

    Attributes
    ----------
    draws : Population
        (n_chains, n_draws, ...).
    engine : str
    sample_stats : dict of str to array of shape (n_chains, n_draws)
        ArviZ's names.
    components : Components or None
        The same posterior with the coefficients in closed form; None: the draws are all there is.
    estimates : dict of str to Estimate
        Means and sds more exact than the draws', where known.
    facts : dict
        For ``diagnostics_``.
    log_evidence : float
    max_ess : float
        Effective number of the points that the draws were resampled from.
    normal : Mixture or None
        Where theta's modes are and how wide: where a similar problem may begin.
    announced : tuple of str
        What was warned of before sampling.
    advice : tuple of str
        What is wrong with the draws and does not show in them.
    effects : EffectMoments or None
        Group effects, where they do not follow from the statistics.
    noises : LevelNoises or None
        Of levels that have a noise of their own.
    """

    draws: Population
    engine: str
    sample_stats: dict[str, np.ndarray]
    components: Components | None = None
    estimates: Mapping[str, Estimate] = {}
    facts: Mapping[str, Any] = {}
    log_evidence: float = float("nan")
    max_ess: float = float("inf")
    normal: Mixture | None = None
    announced: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    effects: EffectMoments | None = None
    noises: LevelNoises | None = None


def with_finite_numbers(result: EngineResult) -> EngineResult:
    """The result, if its draws and moments are numbers."""
    draws = result.draws
    values = {"coef": draws.coef, "group_root": draws.group_root, **draws.own}
    moments = {f"moments of {name}": e[:2] for name, e in result.estimates.items()}
    lp = result.sample_stats["lp"]
    forbid_nonfinite({**values, "lp": lp, "components": result.components, **moments})
    return result


def report_on(
    result: EngineResult,
    parameters: Mapping[str, np.ndarray],
    max_tree_depth: int,
    noncentered: bool = True,
) -> ConvergenceReport:
    """What diagnostics say of a result, whose scalar ``parameters`` (n_chains, n_draws) have these
    draws; the log density is one more.
    """
    stats = result.sample_stats
    return convergence_report(
        {**parameters, "lp": stats["lp"]},
        **{fact: stats[fact] for fact in ("diverging", "energy", "n_steps") if fact in stats},
        max_tree_depth=max_tree_depth,
        noncentered=noncentered,
        max_ess=result.max_ess if np.isfinite(result.max_ess) else None,
    )


def scalars(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each entry of ``parameters`` (n_chains, n_draws, ...) by itself; of correlations one half.

    As :func:`~skhier.kernels.user_units.in_user_units` has them.
    """
    by_entry: dict[str, np.ndarray] = {}
    for name, draws in parameters.items():
        if name.startswith("group_corr"):
            i, j = np.tril_indices(draws.shape[-1], -1)
            draws = draws[..., i, j]
        draws = draws.reshape(*draws.shape[:2], -1)
        by_entry |= {f"{name}[{i}]": draws[..., i] for i in range(draws.shape[2])}
    return by_entry


def constant_posterior(
    problem: Problem, response: Response, n_chains: int, n_draws: int
) -> EngineResult:
    """Where y does not vary every autoscaled prior, and with it the posterior, is a point."""
    size = problem.scales.y_sd
    sizes = [len(varying) + 1 for varying in problem.slopes]
    shape = (n_chains, n_draws)
    draws = Population(
        coef=np.zeros((*shape, len(problem.units.x_mean) + 1)),
        group_root=tuple(np.broadcast_to(size * np.eye(q), (*shape, q, q)) for q in sizes),
        own={name: np.full(shape, size) for name in response.parameters},
    )
    return EngineResult(draws, "constant", {})


def n_modes(shares: np.ndarray, search: SearchBudget) -> int:
    """Those that have any mass to speak of."""
    return int((shares > np.exp(-search.less_mass)).sum())


def advice_on_modes(n_modes: int, n_chains: int) -> tuple[str, ...]:
    """What chains cannot tell of a posterior with several modes."""
    if n_modes == 1:
        return ()
    return (
        f"The posterior has {n_modes} modes and chains seldom leave the one they start in: the "
        f"modes' shares of the draws are known no better than 1/{n_chains}. Raise n_chains, or use "
        "a prior that rules modes out.",
    )
