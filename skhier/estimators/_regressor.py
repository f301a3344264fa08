"""Hierarchical regression with a normal response."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from skhier.estimators._base import BaseHierarchical, drawn_seed
from skhier.estimators._group_tables import BY_EFFECT, BY_LEVEL, group_tables
from skhier.estimators._reports import Reports
from skhier.estimators._scores import Scores
from skhier.estimators._statistics import Statistics
from skhier.inference.checks import forbid_improper, forbid_nonfinite
from skhier.inference.engines import (
    EngineResult,
    constant_posterior,
    engine_for,
    load_jax,
    run_joint,
    run_marginal,
)
from skhier.inference.model import model_spec, origin_warnings
from skhier.inference.options import EngineOptions
from skhier.inference.prior import PriorSetting
from skhier.posterior.fitted import fitted_of
from skhier.priors import PriorChoice
from skhier.responses.base import Response
from skhier.responses.normal import NORMAL
from skhier.statistics.data_warnings import problem_warnings
from skhier.statistics.plan import dense_size
from skhier.statistics.problem import reduce_rows
from skhier.statistics.training import read_training
from skhier.utils.columns import forbid_unused_slopes
from skhier.utils.convergence import convergence_report
from skhier.utils.engines import lazy_engine
from skhier.utils.forks import forbid_forked_process
from skhier.utils.frames import as_table
from skhier.utils.named_columns import split_named
from skhier.utils.validation import check_choice, check_flag, check_number

__all__ = ["HierarchicalSlopesRegressor"]


class HierarchicalSlopesRegressor(RegressorMixin, Reports, Scores, Statistics, BaseHierarchical):
    """Bayesian linear regression with intercepts and slopes that vary by group.

        y_i ~ Normal(x_i' beta + z_i' b_g(i), sigma^2),   b_g ~ Normal(0, Sigma),
        Sigma = diag(tau) Omega diag(tau),   Omega ~ LKJ(eta)

    With several grouping factors each adds its own ``z_i' b_g(i)`` with its own ``Sigma``.

    Parameters
    ----------
    groups : str, int, list, dict, callable or None, default=None
        The columns of X that hold the grouping factors: a name or an integer position; a list of
        several, crossed or nested by their labels; in a list a tuple, which is one factor whose
        levels are combinations (``["state", ("state", "cafe")]``: cafes within states); a dict from
        factor to its ``slopes``; or a callable that picks columns from X
        (``make_column_selector``). Labels are strings, numbers, booleans or dates, never missing.
        The columns are no features. None: ordinary Bayesian linear regression.
    slopes : "all", list of columns or None, default="all"
        Features whose slopes vary by group, for every factor to which no dict in ``groups`` gives
        its own. The intercept always does. ``"all"``: those that vary within the levels of the
        factor; a column that is constant within every level, such as a store's region, has no
        varying slope, which ``summary`` and ``diagnostics_`` say.
    correlated : bool, default=True
        Correlations between a group's effects have an LKJ prior; False: they are 0. Where the
        prior speaks of the intercept at the mean of X, as by default, they are 0 there; reported
        correlations are those at X = 0.
    eta : float, default=2.0
        Concentration of the LKJ prior: 1 is flat over correlation matrices, larger values are
        more sceptical of strong correlations.
    prior : None, str, Prior or DecovPrior, default=None
        ``"default"``, ``"mcelreath"``, ``"bambi"``, ``"brms"``, ``"rstanarm"`` or an object; None
        is ``"default"``, weakly informative priors scaled by the data. See ``prior_summary``.
    noncentered : bool, default=True
        Parameterisation of the joint model's group effects (``inference="nuts"``); the posterior
        is the same. False suits groups with many rows each, True suits the others.
    inference : {"auto", "marginal", "nuts"}, default="auto"
        ``"marginal"``: group effects and coefficients are integrated out in closed form and the
        few variance parameters sampled, by importance sampling or, where its weights fail, by the
        No-U-Turn sampler. ``"nuts"``: that sampler on every parameter of the joint model.
        ``"auto"``: ``"marginal"``, which is exact for a normal response, unless more than 3000
        effects of factors are crossed with the largest one.
    n_chains, n_warmup, n_draws : int, default=4, 1000, 1000
        ``n_chains`` times ``n_draws`` draws are kept; a Markov chain has ``n_warmup`` transitions
        before them.
    target_accept : float in (0, 1), default=0.8
        Of the No-U-Turn sampler; larger values make smaller steps.
    max_tree_depth : int, default=10
        A transition has at most ``2**max_tree_depth - 1`` steps.
    handle_unknown : {"population", "error"}, default="population"
        Levels in ``predict`` that fit never saw: new members of the population, with a warning,
        or an error.
    device : None, "cpu", "gpu", "gpu:1", ..., default=None
        Where to sample; None: JAX's default device.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1: a progress bar.

    Attributes
    ----------
    intercept_ : float
        Posterior mean of the population intercept at X = 0, in units of y.
    coef_ : array of shape (n_coef,)
        Posterior means of the population slopes; names in ``coef_names_``.
    coef_names_ : list of str
        Feature columns, grouping columns left out.
    noise_scale_ : float
        Posterior mean of sigma.
    group_coef_, group_coef_std_, group_effects_ : dict of str to DataFrame (level x effect)
        Per factor: posterior means and sds of population + group effect, and posterior means of
        the group effects alone. A nesting is called ``"state:cafe"`` and has a MultiIndex.
    group_scale_ : dict of str to Series
        Posterior means of tau.
    group_corr_ : dict of str to DataFrame (effect x effect)
        Posterior mean of Omega.
    group_levels_ : dict of str to array
        Labels; of a nesting tuples of them.
    posterior_ : dict
        Equally weighted draws (n_chains, n_draws, ...): ``intercept``, ``coef``, ``noise_scale``,
        and per factor ``group_scale[factor]``, ``group_corr[factor]``.
    log_evidence_ : float
        Log density of y given the model, its parameters integrated out: the higher, the better
        model and prior predict the data. It counts constants of improper priors as they come; NaN
        from ``inference="nuts"`` and for a constant y.
    diagnostics_ : dict
        ``engine`` ("marginal", "nuts"), ``sampler`` ("importance", "nuts"), ``pareto_k`` and
        ``ess_importance`` (of the importance weights), ``modes`` (that the posterior of the
        variance parameters was found to have, those of a thousandth of the mass left out), worst
        ``r_hat``, ``ess_bulk``, ``ess_tail`` and the parameters they belong to, ``divergences``;
        of Markov chains only, ``e_bfmi`` and ``max_tree_depth_reached`` (how many transitions
        used the whole tree); ``evaluations`` (of the density or, after warm-up, its gradient),
        ``seconds`` (of ``fit``; after a search, of its best candidate's fit to all rows),
        ``warnings``, ``n_rows``, ``n_groups`` (per factor), ``n_dense`` (group effects that are
        integrated out as one block: of crossed factors all but the largest), ``slopes_left_out``
        (per factor the features that ``slopes="all"`` leaves without a varying slope).
    statistics_ : GroupStatistics
        Of the rows of fit.
    n_features_in_ : int
    feature_names_in_ : array of str
        Only if X has string column names.

    Notes
    -----
    The response is normal, so given the variance parameters coefficients and group effects have a
    closed form: they are integrated out, and drawn exactly, or averaged, where they are asked for.
    Means and standard deviations carry less Monte Carlo error than draws would, and nothing of
    size draws x groups is stored.

    References
    ----------
    Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1). Lai, Sheldon and Domke (2024),
    NeurIPS. Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25.
    McElreath (2020), *Statistical Rethinking*, 2nd ed., ch. 14. Lewandowski, Kurowicka and Joe
    (2009), J. Multivar. Anal. 100. Hoffman and Gelman (2014), JMLR 15.

    Examples
    --------
    >>> from skhier import HierarchicalSlopesRegressor
    >>> from skhier.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> model = HierarchicalSlopesRegressor(groups="Subject", random_state=0).fit(X, y)
    >>> model.group_coef_["Subject"].shape
    (18, 2)
    """

    _response: Response = NORMAL

    def __init__(
        self,
        groups=None,
        *,
        slopes="all",
        correlated=True,
        eta=2.0,
        prior=None,
        noncentered=True,
        inference="auto",
        n_chains=4,
        n_warmup=1000,
        n_draws=1000,
        target_accept=0.8,
        max_tree_depth=10,
        handle_unknown="population",
        device=None,
        random_state=None,
        verbose=0,
    ):
        self.groups = groups
        self.slopes = slopes
        self.correlated = correlated
        self.eta = eta
        self.prior = prior
        self.noncentered = noncentered
        self.inference = inference
        self.n_chains = n_chains
        self.n_warmup = n_warmup
        self.n_draws = n_draws
        self.target_accept = target_accept
        self.max_tree_depth = max_tree_depth
        self.handle_unknown = handle_unknown
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HierarchicalSlopesRegressor:
        """Sample the posterior.

        Parameters
        ----------
        X : table of shape (n_samples, n_columns)
            NumPy array, pandas, polars or pyarrow data frame; the grouping column included. Or a
            lazy one, a Polars ``LazyFrame``, DuckDB relation or Dask data frame, of which y and
            sample_weight are columns: its engine sums, and no row comes into memory.
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

    def _fit(self, X, y, sample_weight):
        began = time.perf_counter()
        self._check_params()
        seed = drawn_seed(self.random_state)
        table = as_table(X)
        validate_data(self, table, y, skip_check_array=True)
        names = getattr(self, "feature_names_in_", None)
        design, training = read_training(table, y, sample_weight, names, self.groups, self.slopes)
        return self._fit_problem(design, training, reduce_rows(design, training), seed, began)

    def _fit_problem(self, design, training, problem, seed, began, n_rows=None):
        """Set the attributes; warnings of the data and of convergence.

        ``training`` and ``n_rows``: the rows, or how many they were.
        """
        setting, choice, result = self._sample(design, problem, seed)
        self._fitted = fitted_of(design, problem, result, setting, seed, training, self._budget)
        self.log_evidence_ = result.log_evidence
        self._set_attributes()
        forbid_nonfinite({name: getattr(self, name) for name in BY_LEVEL})
        data_warnings = problem_warnings(design, problem)
        data_warnings += origin_warnings(design, problem, choice)
        self.diagnostics_, convergence_warnings = self._diagnose(result)
        self.diagnostics_ |= {
            "warnings": [*result.announced, *data_warnings, *convergence_warnings],
            "n_rows": n_rows if training is None else len(training.y),
            "n_groups": self._n_groups(),
            "n_dense": dense_size(problem.stats, problem.plan),
            "slopes_left_out": design.slopes_left_out(),
            "seconds": time.perf_counter() - began,
        }
        return data_warnings, convergence_warnings

    def _sample(
        self, design, problem, seed, start=None
    ) -> tuple[PriorSetting, PriorChoice, EngineResult]:
        """The prior, what it means for these data, and what was sampled."""
        load_jax()
        setting = PriorSetting.of(self, problem.scales, design)
        choice = setting.resolve()
        forbid_improper(problem, choice, design.feature_names)
        spec = model_spec(
            problem, choice, setting.response, bool(self.correlated), bool(self.noncentered)
        )
        if problem.y_is_constant:
            result = constant_posterior(
                problem, setting.response, int(self.n_chains), int(self.n_draws)
            )
            return setting, choice, result
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
        engine, announced = engine_for(problem, options, self.inference)
        if engine == "nuts":
            result = run_joint(problem, choice, spec, options, seed)
        else:
            result = run_marginal(problem, choice, spec, options, seed, start)
        return setting, choice, result._replace(announced=announced)

    def _check_params(self):
        check_number("eta", self.eta, low=0, open_ends=True)
        check_number("n_chains", self.n_chains, low=1, integer=True)
        check_number("n_warmup", self.n_warmup, low=1, integer=True)
        check_number("n_draws", self.n_draws, low=4, integer=True)
        check_number("target_accept", self.target_accept, low=0, high=1, open_ends=True)
        check_number("max_tree_depth", self.max_tree_depth, low=1, high=20, integer=True)
        check_flag("correlated", self.correlated)
        check_flag("noncentered", self.noncentered)
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
        stats = result.sample_stats
        draws = self._fitted.named_draws() | {"lp": stats["lp"]}
        chains = {k: stats[k] for k in ("diverging", "energy", "n_steps") if k in stats}
        report = convergence_report(
            draws,
            **chains,
            max_tree_depth=int(self.max_tree_depth),
            noncentered=result.engine == "marginal"
            or bool(self.noncentered)
            or not self._fitted.design.factors,
            max_ess=result.max_ess if np.isfinite(result.max_ess) else None,
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
        if chains:
            diagnostics["max_tree_depth_reached"] = report.n_saturated
            diagnostics["e_bfmi"] = report.min_e_bfmi
        return diagnostics, [*result.advice, *report.warnings]


DEVICES = r"(cpu|gpu|cuda|rocm|tpu)(:\d+)?"
