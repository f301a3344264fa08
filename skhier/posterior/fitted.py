"""What a fit knows: the columns, the posterior, the prior and how it was sampled, by name.

One record travels: attributes of the estimator are views of it, displays and reports read it, and
cross-validation makes one for each fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skhier.inference.estimates import Estimate
from skhier.inference.prior import PriorSetting
from skhier.inference.results import EngineResult
from skhier.kernels.records import Components
from skhier.posterior import tables
from skhier.posterior.designs import equal_components
from skhier.posterior.elpd import Elpd, rows_id, sums_id
from skhier.posterior.joint_noise import JointNoisePosterior
from skhier.posterior.leaving_out import (
    leave_groups_of_response_out,
    leave_one_group_out,
    leave_one_out,
    leave_rows_of_response_out,
)
from skhier.posterior.level_noises import LevelNoisesPosterior
from skhier.posterior.noise_posterior import NoisePosterior
from skhier.posterior.posterior import Posterior
from skhier.posterior.row_posterior import RowPosterior
from skhier.statistics.problem import Problem
from skhier.statistics.records import FactorStats
from skhier.statistics.reduction import Reduction, axes_of
from skhier.statistics.row_noise import RowNoise
from skhier.utils.budget import USUAL, Budget
from skhier.utils.design import Design
from skhier.utils.training import Training

__all__ = ["Fitted", "fitted_of"]


@dataclass(frozen=True)
class Fitted:
    """Arrays, labels and words; pickles hold neither the rows nor what follows from the rest.

    Attributes
    ----------
    design : Design
        Columns, factors and their levels.
    posterior : Posterior or RowPosterior
        Draws and moments of everything.
    components : Components or None
        Weighted points of the population parameters; None: the draws are all there is.
    prior : PriorSetting
    estimates : dict of str to Estimate
        Means and sds more exact than the draws', where known.
    sample_stats : dict of str to array of shape (n_chains, n_draws)
    engine : str
    max_ess : float
        Effective number of the points that the draws were resampled from.
    training : Training or None
        The rows of fit; None out of a pickle, and of a fit of statistics.
    noise : RowNoise or None
        Of rows whose noise is known.
    """

    design: Design
    posterior: Posterior | RowPosterior
    components: Components | None
    prior: PriorSetting
    estimates: Mapping[str, Estimate]
    sample_stats: Mapping[str, np.ndarray]
    engine: str
    max_ess: float
    training: Training | None = None
    noise: RowNoise | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows, and without what follows from the rest and needs no JAX."""
        state = dict(self.__dict__, training=None)
        state |= {"rows_id": self.rows_id, "prior_rows": self.prior_rows}
        state.pop("draws", None)
        if self.components is not None:
            state["components"] = self.components._replace(coef_cov=None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A frozen record is filled as a whole."""
        self.__dict__.update(state)

    @cached_property
    def rows_id(self) -> str:
        """Fingerprint of y and the weights, or of the sums that are all there was of them."""
        if self.training is None:  # a fit of statistics; out of a pickle the fingerprint is there
            return sums_id(self.reduction.stats, self.reduction.units)
        return rows_id(self.training)

    @property
    def has_statistics(self) -> bool:
        """Whether sums over the rows are all that was asked of them."""
        return isinstance(self.posterior, Posterior | NoisePosterior)

    @property
    def reduction(self) -> Reduction:
        """The statistics of fit, without the level that stands for unseen ones."""
        if isinstance(self.posterior, NoisePosterior):
            return Reduction(axes_of(self.design), self.posterior.units, self.posterior.stats)
        assert isinstance(self.posterior, Posterior)  # others have none
        stats = self.posterior.stats
        factors = (FactorStats(*(a[..., :-1] for a in factor)) for factor in stats.factors)
        known = stats._replace(factors=tuple(factors))
        return Reduction(axes_of(self.design), self.posterior.units, known)

    @cached_property
    def prior_rows(self) -> list[tuple[str, str, str]]:
        """The resolved priors in words: parameter, prior, what it is on."""
        eta = self.prior.eta if self.prior.correlated else None
        return tables.prior_rows(self.prior.resolve(), self.prior.response, self.design, eta)

    @property
    def budget(self) -> Budget:
        """What answers may spend."""
        return self.posterior.budget

    @property
    def mixture(self) -> Components:
        """The posterior of the population parameters as weighted points."""
        return self.components or equal_components(self.posterior.population)

    def index_of(self, factor: Any) -> int:
        """Place of a grouping factor; ValueError unless it is one of this fit."""
        names = [of_design.name for of_design in self.design.factors]
        if factor not in names:
            known = ", ".join(map(repr, names)) or "none"
            raise ValueError(f"{factor!r} is not a grouping factor of this fit. Factors: {known}.")
        return names.index(factor)

    def codes_of(self, factor: str, levels: Sequence[Any] | None) -> np.ndarray:
        """Codes of labels, (n_levels,), of all of them for None; ValueError for an unknown one."""
        known = list(self.design.factors[self.index_of(factor)].levels.labels)
        if levels is None:
            return np.arange(len(known))
        codes = {label: code for code, label in enumerate(known)}
        unknown = [label for label in levels if label not in codes]
        if unknown:
            raise ValueError(
                f"{len(unknown)} levels of {factor!r} were not seen in fit: "
                f"{', '.join(map(repr, unknown[:5]))}."
            )
        return np.array([codes[label] for label in levels], dtype=int)

    def effects(self) -> dict[str, list[str]]:
        """Per factor the names of its effects, the varying intercept first."""
        return {factor.name: self.design.effects(k) for k, factor in enumerate(self.design.factors)}

    @cached_property
    def draws(self) -> dict[str, Any]:
        """What ``posterior_`` holds: draws by parameter, those of groups by factor."""
        draws: dict[str, Any] = self.posterior.population_draws()
        by_factor: dict[str, Any] = {"group_scale": {}, "group_corr": {}}
        for k, factor in enumerate(self.design.factors):
            for part, of_factors in by_factor.items():
                of_factors[factor.name] = draws.pop(f"{part}_{k}")
        return by_factor | draws

    def named_draws(self, group_effects: bool = False) -> dict[str, np.ndarray]:
        """Every scalar parameter under its full name, (n_chains, n_draws) each.

        Parameters
        ----------
        group_effects : bool
            Also the deviation of every level, and the sd of its noise where it has one of its own.
        """
        effects = self.effects()
        names = self.design.feature_names, self.prior.response.parameters, effects
        named = tables.named_draws(self.draws, *names)
        if group_effects:
            for k, factor in enumerate(self.design.factors):
                labels = list(factor.levels.labels)
                draws = self.posterior.group_chains(k)
                named |= tables.named_effects(factor.name, labels, effects[factor.name], draws)
                of_fit = self.posterior
                if isinstance(of_fit, LevelNoisesPosterior) and of_fit.noise_factor == k:
                    noises = of_fit.noise_chains()
                    named |= tables.named_noises(factor.name, labels, noises)
        return named

    def named_estimates(self) -> dict[str, tuple[float, float, float]]:
        """Mean, sd and standard error of the population's, under the names of the draws."""
        names = self.design.feature_names, self.prior.response.parameters, self.effects()
        return tables.named_estimates(self.estimates, *names)

    def loo(self, conditional: bool = False) -> Elpd:
        """Every row left out; ``conditional``: given draws of group effects and coefficients.

        Needs ``training``.
        """
        assert self.training is not None
        if isinstance(self.posterior, RowPosterior):
            rows = self.posterior, self.training, conditional, self.rows_id
            return leave_rows_of_response_out(*rows)
        mixture = None if conditional else self.mixture
        return leave_one_out(self.posterior, mixture, self.training, self.rows_id)

    def logo(self) -> Elpd:
        """Every level of the only factor left out."""
        (factor,) = self.design.factors
        labels = factor.levels.labels
        if isinstance(self.posterior, RowPosterior):
            n_rows = self.posterior.n_rows[0]
            return leave_groups_of_response_out(
                self.posterior, factor.name, labels, n_rows, self.rows_id
            )
        rows = self.training, self.noise
        return leave_one_group_out(
            self.posterior, self.mixture, *rows, factor.name, labels, self.rows_id
        )


def fitted_of(
    design: Design,
    problem: Problem,
    result: EngineResult,
    prior: PriorSetting,
    seed: int,
    training: Training | None,
    budget: Budget = USUAL,
) -> Fitted:
    """The record of a fit.

    Parameters
    ----------
    design, problem
        Of the rows.
    result : EngineResult
    prior : PriorSetting
    seed : int
        Of the group effects' draws.
    training : Training or None
        The rows, if they are there.
    budget : Budget
        Of all that is asked of the fit later.
    """
    return Fitted(
        design=design,
        posterior=_posterior_of(problem, result, seed, prior, budget, training),
        components=result.components,
        prior=prior,
        estimates=result.estimates,
        sample_stats=result.sample_stats,
        engine=result.engine,
        max_ess=float(result.max_ess),
        training=training,
        noise=problem.noise,
    )


def _posterior_of(problem, result, seed, prior, budget, training) -> Posterior | RowPosterior:
    response, noise_by = prior.response, prior.noise_by
    units, stats = problem.units, problem.stats
    of_fit = result.draws, problem.slopes, seed, response, result.components
    if result.noises is None and result.effects is None:
        return Posterior(units, stats, problem.plan, *of_fit, budget)
    of_rows = stats.xx / stats.n, [of_factor.zz[-1, -1] for of_factor in stats.factors]
    if result.noises is not None:
        return NoisePosterior(units, *of_rows, *of_fit, result.noises, budget, stats=stats)
    if result.effects.log_noise is not None:
        return JointNoisePosterior(
            units, *of_rows, *of_fit, result.effects, budget, noise_factor=noise_by
        )
    mean_offset = 0.0
    lacking: np.ndarray | float = 0.0
    if training is not None and training.side is not None:
        mean_offset = float(np.average(training.side, weights=training.weights))
    if training is not None and len(stats.factors) == 1:
        normalisers = response.row_normaliser(training.y, training.weights)
        lacking = np.bincount(training.codes[:, 0], normalisers, stats.factors[0].zy.shape[-1])
    return RowPosterior(
        units, *of_rows, *of_fit, result.effects, budget, mean_offset=mean_offset, lacking=lacking
    )
