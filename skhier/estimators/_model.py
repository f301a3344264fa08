"""Fitting, whatever the response: from a table to a posterior and the attributes that show it."""

from __future__ import annotations

import re
import time
from typing import Any, Self

from sklearn.utils.validation import validate_data

from skhier.estimators._base import BaseHierarchical, drawn_seed
from skhier.estimators._group_tables import BY_EFFECT, BY_LEVEL, NOISE, group_tables
from skhier.estimators._reports import Reports
from skhier.estimators._scores import Scores
from skhier.estimators._statistics import Statistics
from skhier.inference.checks import forbid_improper, forbid_nonfinite
from skhier.inference.dispatch import sample
from skhier.inference.engines import load_jax
from skhier.inference.options import EngineOptions
from skhier.inference.prior import PriorSetting
from skhier.inference.results import EngineResult, report_on
from skhier.inference.separation import forbid_separation
from skhier.inference.statement import (
    model_spec,
    origin_warnings,
    stated_problem,
    stated_response,
)
from skhier.posterior.fitted import fitted_of
from skhier.posterior.level_noises import LevelNoisesPosterior
from skhier.posterior.within_between import by_factor, contrast_warnings, contrasts
from skhier.presets import preset_of, prior_from
from skhier.priors import PriorChoice
from skhier.responses.base import Response
from skhier.responses.checks import check_side
from skhier.statistics.data_warnings import problem_warnings
from skhier.statistics.group_means import add_group_means
from skhier.statistics.plan import dense_size
from skhier.statistics.problem import reduce_rows
from skhier.utils.columns import forbid_unused_slopes
from skhier.utils.forks import forbid_forked_process
from skhier.utils.lazy_engines import lazy_engine
from skhier.utils.named_columns import split_named
from skhier.utils.noise_by import noise_factor
from skhier.utils.side_column import Wanted, wanted_side
from skhier.utils.table import read_table
from skhier.utils.training import read_training
from skhier.utils.validation import check_choice, check_flag, check_number
from skhier.utils.wanted_means import wanted_means

__all__ = ["HierarchicalModel"]

DEVICES = r"(cpu|gpu|cuda|rocm|tpu)(:\d+)?"


class HierarchicalModel(Reports, Scores, Statistics, BaseHierarchical):
    """What the estimators share beside predictions: parameters, fit and fitted attributes."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Sample the posterior.

        Parameters
        ----------
        X : table of shape (n_samples, n_columns)
            NumPy array, pandas, polars or pyarrow data frame; the grouping column included. Or a
            lazy one, a Polars ``LazyFrame``, DuckDB relation, Ibis table or data frame of Dask or
            PySpark, of which y and sample_weight are columns: its engine sums, and no row comes
            into memory; of a response other than normal, distinct rows come.
            Features are numbers: categorical columns are refused, and so are strings, of digits
            too, except in NumPy's string arrays, where they are converted.
        y : array of shape (n_samples,) or str
            A string names a column of X, which is then no feature.
        sample_weight : array of shape (n_samples,), str or None
            A weight of 2 is the row twice; a weight of 0, no row. A string names a column of X.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Bad data or parameters.
        RuntimeError
            No device, no valid starting point, numbers that are not finite, or a forked process.
        MemoryError
            What would not fit, or a limit on the address space (``ulimit -v``) under which JAX
            would end the process.

        Warns
        -----
        ConvergenceWarning
            The chains cannot be trusted yet; with advice, also in ``diagnostics_``.
        UserWarning
            The data say nothing of some parameters.
        """
        forbid_forked_process("fit")
        self._all_or_nothing(lambda: self._fit_rows(X, y, sample_weight))
        return self

    def _fit_rows(self, X, y, sample_weight):
        """As :meth:`_fit`, of rows whose y and weights may be columns of X."""
        if lazy_engine(X) is not None:
            return self._fit_lazy(X, y, sample_weight)
        messages = self._fit(*split_named(X, y, sample_weight))
        self.__dict__.pop("_blocks", None)
        return messages

    @property
    def _response(self) -> Response:
        """What y is, given the line."""
        raise NotImplementedError

    @property
    def _side(self) -> Wanted | None:
        """The parameter that names a column of a number for each row."""
        return wanted_side(*self._side_parameters)

    @property
    def _side_parameters(self) -> tuple[Any, Any]:
        """``exposure`` and ``known_noise``, which not every estimator has."""
        return getattr(self, "exposure", None), getattr(self, "known_noise", None)

    @property
    def _noise_by(self) -> Any:
        """The factor whose levels have a noise of their own, if the response has a noise."""
        return getattr(self, "noise_by", None)

    def _fit(self, X, y, sample_weight):
        began = time.perf_counter()
        self._check_params()
        seed = drawn_seed(self.random_state)
        table = read_table(X)
        validate_data(self, table.native, y, skip_check_array=True)
        columns, budget = (self.groups, self.slopes, self._side), self._budget.data
        design, training = read_training(table, y, sample_weight, *columns, budget)
        wanted = wanted_means(self.group_means, table, design)
        response = self._response
        response.check_target(training.y, training.weights)
        training = training._replace(y=response.transformed(training.y))
        problem = reduce_rows(design, training, budget=budget)
        design, training, problem = add_group_means(wanted, design, training, problem)
        return self._fit_problem(design, training, problem, seed, began)

    def _fit_problem(self, design, training, problem, seed, began, n_rows=None):
        """Set the attributes; warnings of the data and of convergence.

        ``training`` and ``n_rows``: the rows, or how many they were.
        """
        problem = self._stated(problem, training)
        setting, choice, result = self._sample(design, problem, seed, training=training)
        self._fitted = fitted_of(design, problem, result, setting, seed, training, self._budget)
        self.log_evidence_ = result.log_evidence
        self._set_attributes()
        forbid_nonfinite({name: getattr(self, name) for name in BY_LEVEL})
        is_point = result.engine == "constant"
        point = float(self._response.untransformed(problem.scales.y_mean)) if is_point else None
        data_warnings = problem_warnings(design, problem, point)
        data_warnings += origin_warnings(design, problem, choice)
        of_means = contrasts(design, problem, self._fitted.posterior, self._fitted.mixture)
        names = getattr(self, "feature_names_in_", None)
        data_warnings += contrast_warnings(of_means, design, names)
        self.diagnostics_, convergence_warnings = self._diagnose(result)
        self.diagnostics_ |= {
            "warnings": [*result.announced, *data_warnings, *convergence_warnings],
            "n_rows": n_rows if training is None else len(training.y),
            "n_groups": self._n_groups(),
            "n_dense": dense_size(problem.stats, problem.plan),
            "slopes_left_out": design.slopes_left_out(),
            "group_means_left_out": design.group_means_left_out(),
            "within_between": by_factor(of_means, design),
            "seconds": time.perf_counter() - began,
        }
        return data_warnings, convergence_warnings

    def _numbers_of(self, y):
        """What is fitted where y is as the user gave it."""
        return y

    def _stated(self, problem, rows):
        """The problem in units in which the response can be stated, see :func:`stated_problem`."""
        preset = preset_of(prior_from(self.prior))
        return stated_problem(problem, self._response, preset, rows)

    def _sample(
        self, design, problem, seed, start=None, training=None
    ) -> tuple[PriorSetting, PriorChoice, EngineResult]:
        """The prior, what it means for these data, and what was sampled."""
        noise_by = noise_factor(self._noise_by, design, getattr(self, "feature_names_in_", None))
        load_jax()
        response = stated_response(problem, self._response)
        setting = PriorSetting.of(self, problem.scales, design, response, noise_by)
        choice = setting.resolve()
        forbid_improper(problem, choice, design.feature_names)
        if training is not None and not response.conjugate:
            of_rows = training, problem.units, response, choice
            forbid_separation(*of_rows, design.feature_names)
        how = bool(self.correlated), bool(self.noncentered), self._budget
        spec = model_spec(problem, choice, setting.response, *how, noise_by)
        options = EngineOptions(
            n_chains=int(self.n_chains),
            n_warmup=int(self.n_warmup),
            n_draws=int(self.n_draws),
            target_accept=float(self.target_accept),
            max_tree_depth=int(self.max_tree_depth),
            eta=float(self.eta),
            device=self.device,
            verbose=bool(self.verbose),
            budget=self._budget,
        )
        inference, response = self.inference, setting.response
        result = sample(problem, training, choice, spec, response, options, seed, inference, start)
        return setting, choice, result

    def _check_params(self):
        check_number("eta", self.eta, low=0, open_ends=True)
        check_number("n_chains", self.n_chains, low=1, integer=True)
        check_number("n_warmup", self.n_warmup, low=1, integer=True)
        check_number("n_draws", self.n_draws, low=4, integer=True)
        check_number("target_accept", self.target_accept, low=0, high=1, open_ends=True)
        check_number("max_tree_depth", self.max_tree_depth, low=1, high=20, integer=True)
        check_flag("correlated", self.correlated)
        check_flag("noncentered", self.noncentered)
        _ = self._response.kind
        check_side(self._response, *self._side_parameters, self.group_means)
        check_choice("inference", self.inference, ("auto", "marginal", "nuts"))
        check_choice("handle_unknown", self.handle_unknown, ("population", "error"))
        forbid_unused_slopes(self.groups, self.slopes)
        if not isinstance(self.verbose, bool):
            check_number("verbose", self.verbose, low=0, integer=True)
        known = isinstance(self.device, str) and re.fullmatch(DEVICES, self.device)
        if not (self.device is None or known):
            raise ValueError(
                f"The 'device' parameter must be None, 'cpu', 'gpu' or, of several, 'gpu:1'. "
                f"Got {self.device!r} instead."
            )

    def _set_attributes(self):
        fit = self._fitted
        design, draws = fit.design, fit.draws

        def mean(name, drawn):
            known = fit.estimates.get(name)
            return drawn.mean((0, 1)) if known is None else known.mean

        self.coef_names_ = list(design.feature_names)
        self.intercept_ = float(mean("intercept", draws["intercept"]))
        self.coef_ = mean("coef", draws["coef"])
        for name in fit.prior.response.parameters:
            setattr(self, f"{name}_", float(mean(name, draws[name])))
        self.posterior_ = draws
        arrays: dict[str, Any] = {attribute: {} for attribute in (*BY_LEVEL, *BY_EFFECT)}
        for k, factor in enumerate(design.factors):
            of_effects = (
                mean(f"{part}_{k}", draws[part][factor.name])
                for part in ("group_scale", "group_corr")
            )
            values = (*fit.posterior.group_table(k), *of_effects)
            for attribute, array in zip(arrays, values, strict=True):
                arrays[attribute][factor.name] = array
        self.__dict__.pop(NOISE, None)
        if isinstance(fit.posterior, LevelNoisesPosterior):
            name = design.factors[fit.posterior.noise_factor].name
            arrays[NOISE] = {name: fit.posterior.noise_table()}
        for attribute, tables in group_tables(arrays, design).items():
            setattr(self, attribute, tables)

    def _n_groups(self):
        """A number for one factor, else one per factor."""
        sizes = {factor.name: len(factor.levels.labels) for factor in self._fitted.design.factors}
        return sum(sizes.values()) if len(sizes) < 2 else sizes

    def _diagnose(self, result: EngineResult) -> tuple[dict[str, Any], list[str]]:
        """``diagnostics_`` as far as the engine knows them, and advice."""
        if result.engine == "constant":
            unknown = dict.fromkeys(("r_hat", "ess_bulk", "ess_tail", "e_bfmi"), float("nan"))
            return {"engine": result.engine, "divergences": 0, "evaluations": 0} | unknown, []
        report = report_on(
            result,
            self._fitted.named_draws(),
            int(self.max_tree_depth),
            result.engine == "marginal"
            or bool(self.noncentered)
            or not self._fitted.design.factors,
        )
        diagnostics = {
            "engine": result.engine,
            **result.facts,
            "r_hat": report.max_rhat,
            "r_hat_parameter": report.max_rhat_name,
            "ess_bulk": report.min_ess_bulk,
            "ess_bulk_parameter": report.min_ess_bulk_name,
            "ess_tail": report.min_ess_tail,
            "ess_tail_parameter": report.min_ess_tail_name,
            "divergences": report.n_divergences,
        }
        if "n_steps" in result.sample_stats:
            diagnostics["max_tree_depth_reached"] = report.n_saturated
        if "energy" in result.sample_stats:
            diagnostics["e_bfmi"] = report.min_e_bfmi
        return diagnostics, [*result.advice, *report.warnings]
