"""Tables of a fit: summaries, variance components, priors, and exchange with ArviZ."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.utils.validation import check_is_fitted

from skhier.inference.engines import load_jax
from skhier.posterior import tables
from skhier.posterior.arviz import to_arviz
from skhier.posterior.fitted import Fitted
from skhier.posterior.sensitivity import log_likelihood, log_prior, sensitivity_table
from skhier.posterior.shares import variance_shares
from skhier.utils.forks import forbid_forked_process
from skhier.utils.identifiability import mean_notes, slope_notes
from skhier.utils.pareto import MAX_K_HAT

__all__ = ["Reports"]


class Reports:
    """Reports of an estimator whose ``_fitted`` is a :class:`~skhier.posterior.fitted.Fitted`."""

    _fitted: Fitted

    def summary(self, group_effects: bool = False) -> Any:
        """Posterior summary of every parameter that varies.

        Parameters
        ----------
        group_effects : bool
            Also the deviation of every level.

        Returns
        -------
        DataFrame
            One row a parameter: mean, sd, the ends of the 90% highest-density interval, Monte
            Carlo standard error of the mean, effective sample sizes (bulk, tail) and R-hat.
            ``attrs["notes"]``, printed beneath: features to which ``slopes="all"`` gave no varying
            slope, or ``group_means="all"`` no mean.
        """
        check_is_fitted(self)
        fit = self._fitted
        draws, notes = (
            fit.named_draws(group_effects),
            slope_notes(fit.design) + mean_notes(fit.design),
        )
        return tables.summary(draws, fit.named_estimates(), fit.max_ess, notes, fit.budget.memory)

    def variance_components(self) -> Any:
        """Standard deviations and correlations of the group effects and of the noise, and shares.

        A factor's share of the variance (intraclass correlation) is its effects' variance, averaged
        over the rows of fit where slopes vary, over that of all factors and the noise; what the
        features explain is not counted.

        Returns
        -------
        DataFrame
            Columns factor, effect, with (the other effect of a correlation, else empty),
            parameter ("sd", "corr" or "icc"), posterior mean, sd and 90% highest-density interval.
            Of a constant y there are no "icc" rows: it has no variance to share.

        References
        ----------
        Nakagawa, Johnson and Schielzeth (2017), J. R. Soc. Interface 14; Johnson (2014), Methods
        Ecol. Evol. 5.
        """
        check_is_fitted(self)
        fit = self._fitted
        shares = [] if fit.engine == "constant" else variance_shares(fit.posterior).icc
        residual = fit.posterior.residual_sd()
        return tables.variance_components(fit.draws, residual, fit.effects(), shares)

    def r_squared(self, return_draws: bool = False) -> Any:
        """Posterior of the explained share of the variance of y: by the features, and by all.

        ``marginal``: the variance of the population line over the rows of fit; ``conditional``:
        that and the variance of all group effects; over the sum of these and the noise.

        Parameters
        ----------
        return_draws : bool
            True: a dict of arrays of shape (n_chains, n_draws) instead.

        Returns
        -------
        DataFrame
            Rows marginal and conditional; posterior mean, sd and 90% highest-density interval.

        Raises
        ------
        ValueError
            y is constant.

        References
        ----------
        Nakagawa and Schielzeth (2013), Methods Ecol. Evol. 4. Johnson (2014), Methods Ecol. Evol.
        5.
        """
        check_is_fitted(self)
        if self._fitted.engine == "constant":
            raise ValueError("r_squared has no variance to explain: y is constant.")
        shares = variance_shares(self._fitted.posterior)
        draws = {"marginal": shares.marginal, "conditional": shares.conditional}
        return draws if return_draws else tables.intervals(draws)

    def prior_sensitivity(self) -> Any:
        """How much each parameter's posterior leans on the prior, and how much on the data.

        Prior and likelihood are in turn raised to powers near 1, which makes them count more or
        less; the stored draws are weighted accordingly, so nothing is fitted again. A sensitivity
        is the distance that the posterior moves (cumulative Jensen-Shannon) per doubling of the
        power. All priors are scaled together, correlations and noise included. The normal
        distribution of the group effects is part of the model and stays as it is.

        Returns
        -------
        DataFrame
            One row a parameter that varies: ``prior`` and ``likelihood``, the sensitivities; at
            0.05 a normal posterior's mean moves by some 0.3 sd per doubling of the power, or its
            sd by a quarter. ``pareto_k``, the worst of the weights, all rows alike; reliable below
            0.7. ``diagnosis``: "prior-data conflict possible" if both are 0.05 or more, "strong
            prior or weak data" if only the prior's is, else "-".

        Raises
        ------
        ValueError
            y is constant.

        Warns
        -----
        UserWarning
            ``pareto_k`` is above 0.7.

        References
        ----------
        Kallioinen, Paananen, Buerkner and Vehtari (2024), Stat. Comput. 34, 57.
        """
        forbid_forked_process("prior_sensitivity")
        check_is_fitted(self)
        load_jax()
        if self._fitted.engine == "constant":
            raise ValueError("prior_sensitivity has nothing to weigh: y is constant.")
        table = sensitivity_table(
            self._fitted.named_draws(group_effects=False),
            log_prior(self._fitted.prior, self._fitted.posterior),
            log_likelihood(self._fitted.posterior),
        )
        k_hat = table["pareto_k"].max()
        if k_hat > MAX_K_HAT:
            warnings.warn(
                f"Pareto k of the weights is {k_hat:.2f} (> {MAX_K_HAT}): the sensitivities cannot "
                "be trusted. Raise n_draws, or fit with another prior and compare.",
                UserWarning,
                stacklevel=2,
            )
        return table

    def prior_summary(self) -> Any:
        """The priors as fit resolved them, in the data's units.

        Returns
        -------
        DataFrame
            One row a parameter: the distribution, and what it is on.
        """
        check_is_fitted(self)
        return tables.prior_table(self._fitted.prior_rows)

    def to_arviz(self, group_effects: bool = True, log_likelihood: bool = True) -> Any:
        """The posterior as ArviZ's exchange object.

        Parameters
        ----------
        group_effects : bool
            Also draws of every level's deviations: 8 bytes for each draw of each effect.
        log_likelihood : bool
            Also the log density of every row given every draw: 8 bytes for each; 10 GB of 300,000
            rows and 4000 draws.

        Returns
        -------
        arviz.InferenceData or xarray.DataTree
            The former with ArviZ before 1.0. Groups posterior, sample_stats and, unless the
            estimator came out of a pickle (which holds no rows), observed_data and
            log_likelihood.

        Raises
        ------
        MemoryError
            The draws would not fit into the memory available; before allocating.
        """
        check_is_fitted(self)
        return to_arviz(self._fitted, group_effects, log_likelihood)
