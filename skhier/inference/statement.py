"""What a problem and a prior make of each other: the static part of a model, and warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.kernels.records import FactorSpec, ModelSpec, PriorDists
from skhier.priors import GroupPrior, PriorChoice
from skhier.responses.base import Response
from skhier.responses.known_noise import KnownNoise
from skhier.responses.member import SCALE
from skhier.statistics.problem import Problem
from skhier.statistics.records import Units
from skhier.statistics.row_noise import RowNoise
from skhier.utils.budget import USUAL, Budget
from skhier.utils.design import Design
from skhier.utils.words import listed

if TYPE_CHECKING:
    from skhier.kernels.covariance import Covariance
    from skhier.utils.training import Training

__all__ = [
    "covariance_of",
    "covariance_prior",
    "model_spec",
    "origin_warnings",
    "prior_dists",
    "stated_problem",
    "stated_response",
]

FAR = 3.0  # sds from the data to X = 0, beyond which a prior there says little of the data


def origin_warnings(design: Design, problem: Problem, choice: PriorChoice) -> list[str]:
    """Varying slopes that a prior at X = 0, far from the rows, ties to the varying intercept."""
    scales = problem.scales
    varies = np.diag(problem.stats.xx)[:-1] > 0
    far = varies & (np.abs(scales.x_mean) > FAR * scales.x_sd)
    columns = {
        j
        for factor, prior in zip(design.factors, choice.groups, strict=True)
        for j in factor.slopes
        if far[j] and not prior.at_mean
    }
    if not columns:
        return []
    shown = listed(
        f"{design.feature_names[j]!r} (mean {scales.x_mean[j]:.6g}, sd {scales.x_sd[j]:.3g})"
        for j in sorted(columns)
    )
    return [
        "The prior of the group effects' scales speaks of the intercepts at X = 0, and X = 0 is "
        f"far from the data of {shown}: a slope that varies moves the intercepts "
        "there by far more than the prior allows, so that it shrinks the slopes towards the "
        "population's. Centre these columns (subtract their mean), or use priors that sit at the "
        "mean of X: prior=None, or numbers in Prior(group_scale=...)."
    ]


def model_spec(
    problem: Problem,
    choice: PriorChoice,
    response: Response,
    correlated: bool,
    noncentered: bool,
    budget: Budget = USUAL,
    noise_by: int | None = None,
) -> ModelSpec:
    """The static part of the model."""
    return ModelSpec(
        n_features=len(problem.units.x_mean),
        factors=tuple(
            FactorSpec(varying, covariance_of(prior, len(varying) + 1, correlated), prior.at_mean)
            for varying, prior in zip(problem.slopes, choice.groups, strict=True)
        ),
        plan=problem.plan,
        noncentered=noncentered,
        intercept_at_mean=choice.intercept_at_mean,
        coef_blocks=tuple(at for at, _ in choice.coef),
        kind=response.kind,
        budget=budget.kernels,
        noise_by=noise_by,
    )


def stated_response(problem: Problem, response: Response) -> Response:
    """The response with what the problem knows of the rows' noise."""
    return response if problem.noise is None else KnownNoise(problem.noise.scale)


def stated_problem(
    problem: Problem,
    response: Response,
    preset: str,
    rows: Training | None,
) -> Problem:
    """The problem in units, and with scales for the priors, in which the response can be stated.

    Parameters
    ----------
    problem : Problem
    response : Response
    preset : str
        Of the priors.
    rows : Training or None
        None: not known to whoever asks.
    """
    scales = response.prior_scales(problem.scales, preset, rows)
    problem = problem._replace(scales=scales)
    if response.standardises:
        return problem
    units = problem.units._replace(y_mean=0.0, y_scale=1.0)
    return problem._replace(reduction=problem.reduction._replace(units=units))


def covariance_of(prior: GroupPrior, n_effects: int, correlated: bool) -> Covariance:
    """The covariance of a factor's effects that a prior means."""
    from skhier.kernels.covariance import Decov, Independent, Lkj

    if prior.decov is not None:
        return Decov(n_effects, correlated)
    kind = Lkj if correlated else Independent
    return kind(n_effects, tuple(at for at, _ in prior.scales))


def prior_dists(choice: PriorChoice, eta: float, noise: RowNoise | None = None) -> PriorDists:
    """The numbers of the model's priors; ``noise``: that is known and has none."""
    return PriorDists(
        choice.intercept,
        dict(choice.own) | ({} if noise is None else {SCALE: noise.scale}),
        tuple(prior for _, prior in choice.coef),
        tuple(covariance_prior(prior, eta) for prior in choice.groups),
    )


def numbers_of_model(units: Units, choice: PriorChoice, eta: float, *known: Any) -> tuple:
    """Units, priors and what else a program of levels takes, all of one type: one program."""
    import jax

    numbers = units, prior_dists(choice, eta), *known
    return jax.tree.map(lambda a: np.asarray(a, np.float64), numbers)


def covariance_prior(prior: GroupPrior, eta: float) -> tuple:
    """The numbers of a covariance's prior, as the covariance takes them."""
    if prior.decov is not None:
        return (*prior.decov, eta)
    return tuple(family for _, family in prior.scales), eta
