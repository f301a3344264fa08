"""Recipes shared by estimators with a fitted :class:`Posterior`: predictions, draws, tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skhier.estimators._group_tables import group_arrays, group_tables
from skhier.kernels.normal.conditional import Components
from skhier.posterior import tables as _tables
from skhier.posterior.elpd import Elpd, leave_one_group_out, leave_one_out, rows_id
from skhier.posterior.mixture import mixture_quantiles
from skhier.posterior.posterior import OUT, equal_components
from skhier.posterior.prior_draws import draw_responses, prior_without_fit
from skhier.posterior.sensitivity import log_likelihood, log_prior, sensitivity_table
from skhier.posterior.shares import variance_shares
from skhier.presets import prior_from
from skhier.priors import Prior
from skhier.utils.design import Rows, read_rows
from skhier.utils.forks import forbid_forked_process
from skhier.utils.frames import as_table, column_names, index_names, with_columns_of_fit
from skhier.utils.identifiability import slope_notes
from skhier.utils.pareto import MAX_K_HAT
from skhier.utils.validation import check_choice, check_number, check_target

__all__ = ["BaseHierarchical"]

Level = str | Sequence[str]


class FactorItems(NamedTuple):
    """A dict of ``groups``, as pickles and files of skops hold it."""

    items: tuple[tuple[Any, Any], ...]


class BaseHierarchical(BaseEstimator):
    """Prediction and reporting; subclasses fit ``_design``, ``_posterior`` and the attributes."""

    # extra arguments of predict travel through a Pipeline under metadata routing
    __metadata_request__predict = {"return_std": True, "level": True}

    def set_params(self, **params: Any) -> BaseHierarchical:
        """Set parameters; ``prior__*`` also reaches into ``prior=None`` and presets.

        Parameters
        ----------
        **params
            As in scikit-learn; ``prior__group_scale=2`` on ``prior=None`` makes
            ``Prior(group_scale=2)``.
        """
        prior = params.get("prior", self.prior)
        if any(name.startswith("prior__") for name in params) and not isinstance(prior, Prior):
            params = {**params, "prior": prior_from(prior)}
        return super().set_params(**params)

    def __getstate__(self) -> dict[str, Any]:
        """Arrays, labels and words: no pandas, and of the training rows a fingerprint alone.

        Pickles are then independent of pandas' version, and skops can save them.
        """
        state = dict(super().__getstate__())
        training, components = state.pop("_training", None), state.pop("_components", None)
        if training is not None:
            state["_rows_id"] = rows_id(training)
        if components is not None and components.prior is not None:
            state["_components"] = components._replace(beta_cov=None)
        arrays = group_arrays(state)
        if arrays:
            state["_group_arrays"] = arrays
        if type(state.get("groups")) is dict:  # whose keys, in a file of skops, cannot be tuples
            state["groups"] = FactorItems(tuple(state["groups"].items()))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if isinstance(state.get("groups"), FactorItems):
            state["groups"] = dict(state["groups"].items)
        if "_group_arrays" in state:
            state |= group_tables(state.pop("_group_arrays"), state["_design"])
        super().__setstate__(state)

    def predict(self, X: Any, return_std: bool = False, level: Level = "group") -> Any:
        """Posterior mean of the response.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        return_std : bool
            Also return the standard deviation of the posterior predictive distribution, noise
            included. With several factors it is that of the draws, and carries some 1% of Monte
            Carlo error at 4000 draws.
        level : "group", "population" or list of str
            ``"population"``: the population line, group effects 0; a list of factors' names: only
            these factors' effects count, the others' are 0. Grouping columns of factors that do not
            count may hold anything, and of a data frame they may be missing.

        Returns
        -------
        mean : array of shape (n_samples,)
        std : array of shape (n_samples,)
            Only with ``return_std``.

        Raises
        ------
        ValueError, TypeError
            X does not fit the columns of fit; or has unseen levels with
            ``handle_unknown="error"``.

        Warns
        -----
        UserWarning
            Levels not seen in fit: their mean is the population line, their sd that of a new
            member of the population.
        """
        rows = self._rows_of(X, level)
        mean = self._posterior.mean(rows.x, rows.codes)
        if not return_std:
            return mean
        variance = self._posterior.variance(rows.x, rows.codes)
        return mean, np.sqrt(variance + np.mean(self._posterior.noise_draws() ** 2))

    def predict_interval(
        self, X: Any, coverage: float = 0.9, kind: str = "response", level: Level = "group"
    ) -> np.ndarray:
        """Equal-tailed posterior interval.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        coverage : float in (0, 1)
        kind : {"response", "mean"}
            Of a new response, or of the regression line without noise.
        level : "group", "population" or list of str
            As in :meth:`predict`.

        Returns
        -------
        array of shape (n_samples, 2)
        """
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        tail = (1 - coverage) / 2
        return self._quantiles(self._rows_of(X, level), np.array([tail, 1 - tail]), kind)

    def predict_quantiles(
        self, X: Any, q: Any, kind: str = "response", level: Level = "group"
    ) -> np.ndarray:
        """Quantiles of the posterior predictive distribution.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        q : float or sequence of float in (0, 1)
        kind, level
            As in :meth:`predict_interval`.

        Returns
        -------
        array of shape (n_samples, len(q))
        """
        q = np.atleast_1d(np.asarray(q, dtype=float))
        if q.ndim != 1 or not q.size or not np.all((q > 0) & (q < 1)):
            raise ValueError(f"`q` must be numbers between 0 and 1, both excluded. Got {q!r}.")
        return self._quantiles(self._rows_of(X, level), q, kind)

    def _quantiles(self, rows, q, kind):
        check_choice("kind", kind, ("response", "mean"))
        out = np.empty((len(rows.x), len(q)))
        posterior = self._posterior
        mixture = posterior.line_mixture if kind == "mean" else posterior.response_mixture
        for at, mean, sd in mixture(rows.x, rows.codes):
            out[at] = mixture_quantiles(mean, sd, q)
        return out

    def log_predictive_density(self, X: Any, y: Any) -> np.ndarray:
        """Log posterior predictive density of each row on its own.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        y : array of shape (n_samples,)

        Returns
        -------
        array of shape (n_samples,)
            In units of log(1 / units of y).
        """
        rows = self._rows_of(X, "group")
        return self._posterior.log_density(rows.x, rows.codes, check_target(y, rows.x))

    def _predictive_mixture(self, X: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows of X, a slice at a time, and the (n_draws, k) normals that predict them."""
        rows = self._rows_of(X, "group")
        return self._posterior.response_mixture(rows.x, rows.codes)

    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = None, level: Level = "group"
    ) -> np.ndarray:
        """Draws from the posterior predictive distribution, jointly over the rows.

        Parameters
        ----------
        X : table of shape (n_rows, n_features_in_)
        n_samples : int
        random_state : int, RandomState or None
        level : "group", "population" or list of str
            As in :meth:`predict`.

        Returns
        -------
        array of shape (n_rows, n_samples)
            Rows of one level, seen or unseen, share its effects within a draw.
        """
        check_number("n_samples", n_samples, low=1, integer=True)
        rows = self._rows_of(X, level)
        rng = _generator(random_state)
        which = self._choose_draws(n_samples, rng)
        lines = self._posterior.sample_lines(rows.x, rows.codes, which, rng.integers(2**31))
        noise = self._posterior.noise_draws(which)[:, None] * rng.standard_normal(lines.shape)
        return (lines + noise).T

    def sample_prior(
        self, X: Any, n_samples: int = 1, random_state: Any = None, *, y: Any = None
    ) -> np.ndarray:
        """Draws of the response from the prior predictive distribution, jointly over the rows.

        What the model expects before it sees any y: draws far outside of what is possible say
        that a prior is too wide, draws that miss what is plausible that it is too narrow.

        Parameters
        ----------
        X : table of shape (n_rows, n_features)
        n_samples : int
        random_state : int, RandomState or None
        y : array of shape (n_rows,) or None
            With y: the prior that ``fit(X, y)`` would use with the parameters as they are now.
            Without: that of the last fit; before any fit the prior must not depend on y, so all
            its parts are NumPyro distributions. Default priors depend on it by its mean and sd
            alone. Unless it is that of the last fit, ``slopes="all"`` is decided on this X.

        Returns
        -------
        array of shape (n_rows, n_samples)
            In units of y, noise included. Rows of one level share its effects within a draw;
            under the prior, levels that fit saw and those it never saw are alike.

        Raises
        ------
        ValueError
            A prior is scaled by y and there is neither y nor a fit; or is flat, as brms's of the
            slopes: nothing can be drawn from it. Also where X does not suit.

        References
        ----------
        Gabry, Simpson, Vehtari, Betancourt and Gelman (2019), J. R. Stat. Soc. A 182, sec. 3.
        """
        forbid_forked_process("sample_prior")
        check_number("n_samples", n_samples, low=1, integer=True)
        if y is not None or "_prior_setting" not in self.__dict__:
            setting, rows = prior_without_fit(self, X, y)
        else:
            table = as_table(X)
            self._check_columns(table)
            setting, rows = self._prior_setting, read_rows(table, self._design)
        return draw_responses(setting, rows, int(n_samples), _generator(random_state))

    def _choose_draws(self, n_draws, rng):
        """Distinct posterior draws as far as there are enough."""
        total = len(self._posterior.population.sigma)
        rounds = [rng.permutation(total) for _ in range(-(-n_draws // total))]
        return np.concatenate(rounds)[:n_draws]

    def sample_group_effects(
        self,
        factor: str,
        levels: Sequence[Any] | None = None,
        n_draws: int | None = None,
        random_state: Any = None,
    ) -> np.ndarray:
        """Posterior draws of group effects (deviations from the population) of chosen levels.

        Parameters
        ----------
        factor : str
            The grouping factor's name.
        levels : sequence or None
            Labels, of a nesting tuples of labels; None: all, in the order of ``group_levels_``.
        n_draws : int or None
            None: one for every draw in ``posterior_``, in its order (chain by chain).
        random_state : int, RandomState or None
            None: the same draws in every call, those of ``to_arviz`` and ``summary``.

        Returns
        -------
        array of shape (n_draws, n_levels, n_effects)
            Effects in the order of ``group_coef_``'s columns, in units of y per unit of x.

        Raises
        ------
        ValueError
            An unknown factor or level.
        MemoryError
            The draws would not fit into the memory available; before allocating.
        """
        k = self._index_of(factor)
        codes = self._codes_of(factor, levels)
        if n_draws is None and random_state is None:
            return self._posterior.group_draws(k, codes)
        rng = _generator(random_state)
        which: Any = slice(None)
        if n_draws is not None:
            check_number("n_draws", n_draws, low=1, integer=True)
            which = self._choose_draws(n_draws, rng)
        return self._posterior.group_draws(k, codes, int(rng.integers(2**31)), which)

    def _index_of(self, factor) -> int:
        check_is_fitted(self)
        if factor not in self.group_levels_:
            known = ", ".join(map(repr, self.group_levels_)) or "none"
            raise ValueError(f"{factor!r} is not a grouping factor of this fit. Factors: {known}.")
        return list(self.group_levels_).index(factor)

    def _codes_of(self, factor, levels):
        known = list(self.group_levels_[factor])
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
            slope.
        """
        check_is_fitted(self)
        named = _tables.named_estimates(self._estimates, self.coef_names_, self._effects())
        draws, notes = self._named_draws(group_effects), slope_notes(self._design)
        return _tables.summary(draws, named, self._max_ess, notes)

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
        constant = self.diagnostics_["engine"] == "constant"
        shares = [] if constant else variance_shares(self._posterior).icc
        return _tables.variance_components(self.posterior_, self._effects(), shares)

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
        if self.diagnostics_["engine"] == "constant":
            raise ValueError("r_squared has no variance to explain: y is constant.")
        shares = variance_shares(self._posterior)
        draws = {"marginal": shares.marginal, "conditional": shares.conditional}
        return draws if return_draws else _tables.intervals(draws)

    def loo(self, conditional: bool = False) -> Elpd:
        """Leave-one-out expected log predictive density: how well new rows are predicted.

        Group effects and coefficients are integrated out in closed form; only the few variance
        parameters are averaged over, with Pareto-smoothed weights.

        Parameters
        ----------
        conditional : bool
            True: from the log likelihood given draws of group effects and coefficients instead, as
            packages compute it that know no closed form. Its weights are less reliable.

        Returns
        -------
        Elpd
            ``elpd``, ``se``, ``p`` and ``pointwise``, a row of the data each.

        Raises
        ------
        ValueError
            The rows are not there (an estimator out of a pickle), y is constant,
            ``sample_weight`` had fractions, or a coefficient has no proper distribution without
            some row.

        References
        ----------
        Vehtari, Gelman and Gabry (2017), Stat. Comput. 27. Sundararajan and Keerthi (2001),
        Neural Comput. 13.
        """
        components = self._left_out("loo")
        training = self.__dict__.get("_training")
        if training is None:
            raise ValueError(
                "loo needs the rows of fit, which pickles and copies do not hold: call it where "
                "the model was fitted, or fit again; logo() works without."
            )
        return leave_one_out(self._posterior, None if conditional else components, training)

    def logo(self, factor: str | None = None) -> Elpd:
        """Leave-one-group-out expected log predictive density: how well new groups are predicted.

        Parameters
        ----------
        factor : str or None
            The grouping factor's name; None: the only one.

        Returns
        -------
        Elpd
            ``pointwise`` has a row a level: the joint log density of all its rows given all
            others'.

        Raises
        ------
        ValueError
            y is constant; several factors or an unknown one; fewer than two levels; or a
            coefficient that, without the rows of some level, has no proper distribution.

        Notes
        -----
        Needs no rows, so that it works after a pickle too.
        """
        check_is_fitted(self)
        factor = next(iter(self.group_levels_), "") if factor is None else factor
        self._index_of(factor)
        if len(self.group_levels_) > 1:
            raise ValueError(
                "logo is for one grouping factor, and this fit has "
                f"{', '.join(map(repr, self.group_levels_))}. Cross-validate instead, with "
                "GroupKFold or LeaveOneGroupOut and the column of the factor."
            )
        components = self._left_out("logo")
        labels = self.group_levels_[factor]
        if len(labels) < 2:
            raise ValueError("logo leaves one level out at a time and needs two or more.")
        training, fingerprint = (self.__dict__.get(name) for name in ("_training", "_rows_id"))
        return leave_one_group_out(
            self._posterior, components, training, factor, labels, fingerprint
        )

    def _left_out(self, method) -> Components:
        """The posterior's components."""
        check_is_fitted(self)
        if self.diagnostics_["engine"] == "constant":
            raise ValueError(f"{method} has nothing to score: y is constant.")
        if "_components" in self.__dict__:
            return self._components
        return equal_components(self._posterior.population)

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
        if self.diagnostics_["engine"] == "constant":
            raise ValueError("prior_sensitivity has nothing to weigh: y is constant.")
        table = sensitivity_table(
            self._named_draws(group_effects=False),
            log_prior(self._prior_setting, self._posterior),
            log_likelihood(self._posterior),
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
        return _tables.prior_table(self._prior_rows)

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
        return _tables.to_arviz(self, group_effects, log_likelihood)

    def _effects(self) -> dict[str, list[str]]:
        design = self._design
        return {factor.name: design.effects(k) for k, factor in enumerate(design.factors)}

    def _named_draws(self, group_effects: bool) -> dict[str, np.ndarray]:
        named = _tables.named_draws(self.posterior_, self.coef_names_, self._effects())
        if group_effects:
            for k, (factor, levels) in enumerate(self.group_levels_.items()):
                draws = self._posterior.group_draws(k, np.arange(len(levels)))
                draws = draws.reshape(*self._posterior.shape, *draws.shape[1:])
                for g, label in enumerate(levels):
                    for j, effect in enumerate(self._effects()[factor]):
                        level = _tables.joined_label(label)
                        name = _tables.full_name("group_effects", factor, level, effect)
                        named[name] = draws[..., g, j]
        return named

    def _rows_of(self, X, level) -> Rows:
        """Rows of a new X, codes OUT of factors that do not count; warns of unseen levels."""
        check_is_fitted(self)
        counts = self._counting(level)
        unread = self._design.unread(counts)
        table = as_table(X, unread)
        names = getattr(self, "feature_names_in_", None)
        table = with_columns_of_fit(table, names, unread)
        self._check_columns(table)
        rows = read_rows(table, self._design, counts)
        rows.codes[:, [k for k in range(len(rows.unseen)) if k not in counts]] = OUT
        for k in counts:
            if len(rows.unseen[k]):
                self._report_unseen(rows.unseen[k], self._design.factors[k].name)
        return rows

    def _check_columns(self, table):
        """scikit-learn's check of X's columns, and advice where grouping columns are missing."""
        try:
            validate_data(self, table, reset=False, skip_check_array=True)
        except ValueError as error:
            hint = self._missing_groups(table)
            if not hint:
                raise
            raise ValueError(f"{str(error).rstrip()}\n{hint}") from None

    def _missing_groups(self, table) -> str:
        """Advice where nothing but grouping columns is missing."""
        known: Any = getattr(self, "feature_names_in_", np.array([]))
        factors = self._design.factors
        missing = set(known).difference(column_names(table))
        if not missing or not missing <= {known[at] for at in self._design.unread([])}:
            return ""
        names = ", ".join(map(repr, sorted(missing)))
        if missing <= set(index_names(table)):
            return (
                f"X has {names} in its row index. Pass X.reset_index(), which makes columns of it."
            )
        there = [f.name for f in factors if missing.isdisjoint(known[list(f.positions)])]
        return f"To predict without {names}, pass level={there or 'population'!r}."

    def _counting(self, level) -> list[int]:
        """The factors whose effects count."""
        if isinstance(level, str):
            check_choice("level", level, ("group", "population"))
            return list(range(len(self._design.factors))) if level == "group" else []
        if not isinstance(level, list | tuple):
            raise ValueError(
                "`level` must be 'group', 'population' or a list of grouping factors' names. "
                f"Got {level!r} instead."
            )
        return [self._index_of(factor) for factor in level]

    def _report_unseen(self, unseen, name):
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        shown = ", ".join(map(repr, unseen[:5].tolist())) + more
        what = f"X contains {len(unseen)} unseen group(s) of {name!r}"
        found = f"{what}, not in the data of fit: {shown}."
        if self.handle_unknown == "error":
            raise ValueError(f"{found} Set handle_unknown='population' to predict them.")
        warnings.warn(
            f"{found} They are predicted as new members of the population.",
            UserWarning,
            stacklevel=4,
        )


def _generator(random_state) -> np.random.Generator:
    return np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
