"""The regressor: its parameters, and what they mean."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import RegressorMixin

from skhier.estimators._model import HierarchicalModel
from skhier.responses.base import Response
from skhier.responses.by_level import unequal
from skhier.responses.choice import response_from
from skhier.responses.known_noise import KnownNoise

__all__ = ["HierarchicalSlopesRegressor"]


class HierarchicalSlopesRegressor(RegressorMixin, HierarchicalModel):
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
        is the same. False suits groups with many rows each, True suits the others. Of responses
        without sufficient statistics, where chains in coordinates of their own do not do.
    response : str or response object, default="normal"
        What y is, given the line: ``"normal"``, ``"lognormal"`` (both exact), ``"student_t"``,
        ``"poisson"``, ``"negative_binomial"``, ``"gamma"``, ``"binomial"`` (y is a share in [0, 1],
        ``sample_weight`` its trials), or an object of :mod:`skhier.responses` whose own parameters
        have priors or fixed values. Coefficients, group effects and scales are on the scale of the
        line: the logarithm of the mean, its logit. Those that are not exact integrate the effects
        of one factor, with at most two varying slopes, out by quadrature
        (``diagnostics_["quadrature_error"]``), and sample the effects of several factors, or where
        that error is large.
    exposure : str, int, callable or None, default=None
        A column of X, by name or position, or a callable that picks it: each row's exposure, the
        time or the number of people that a count is of. The mean of y is exposure times
        ``exp(line)``; the column is no feature. For ``response="poisson"``,
        ``"negative_binomial"`` or ``"gamma"``; positive, in ``predict`` too.
    group_means : None, "all", list of columns or dict, default=None
        Features whose means over the levels are predictors of their own, called
        ``"mean(exp | person)"``: the coefficient of the feature is then its effect within levels,
        and the mean's by how much the effect between levels exceeds it. For every factor, or a dict
        from factor to either. ``"all"``: those that vary within levels and whose means vary between
        them; ``diagnostics_`` says which do not. Means are those of the rows of fit; in ``predict``
        a level that fit never saw has the mean of its rows in the call, so that a row predicted on
        its own is its own mean. They have no varying slopes.
    noise_by : str, int, tuple or None, default=None
        The grouping factor, as ``groups`` has it, whose levels have a noise of their own:
        ``log sigma_g ~ Normal(log noise_scale, noise_spread^2)``. For normal and Student t
        responses; noises of the only factor of a normal response are integrated out, others sampled
        with every effect by the No-U-Turn sampler. Predictions and intervals of a level have its
        own noise, those of a level that fit never saw a noise drawn from the population of noises.
    known_noise : str, int, callable or None, default=None
        A column of X, named as in ``exposure``: each row's known standard error, in units of y, as
        in meta-analysis. For normal responses; sigma is then no parameter, so that ``noise_scale_``
        and its prior are not there. Where only means are predicted, the column may hold anything,
        and of a data frame be missing.
    inference : {"auto", "marginal", "nuts"}, default="auto"
        ``"marginal"``: group effects and coefficients are integrated out in closed form and the
        few variance parameters sampled, by importance sampling or, where its weights fail, by the
        No-U-Turn sampler. ``"nuts"``: that sampler on every parameter of the joint model.
        ``"auto"``: ``"marginal"``, which is exact for a normal response, unless more than 3000
        effects of factors are crossed with the largest one.
    n_chains, n_warmup, n_draws : int, default=4, 1000, 1000
        ``n_chains`` times ``n_draws`` draws are kept; a Markov chain has ``n_warmup`` transitions
        before them, in the marginal engine at first at most 200 and shorter trees: only if such
        chains do not agree, others as long as that follow.
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
        1: progress bars.

    Attributes
    ----------
    intercept_ : float
        Posterior mean of the population intercept at X = 0, in units of y.
    coef_ : array of shape (n_coef,)
        Posterior means of the population slopes; names in ``coef_names_``.
    coef_names_ : list of str
        Feature columns, grouping columns left out; then the level means of ``group_means``.
    noise_scale_ : float
        Posterior mean of sigma; with ``noise_by`` that of the median over levels. Not there with
        ``known_noise``.
    noise_spread_ : float
        With ``noise_by``, the posterior mean of the sd of the log of the levels' sigmas.
    group_noise_ : dict of str to DataFrame (level x "mean", "sd")
        With ``noise_by``, per level the posterior mean and sd of its sigma.
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
        with ``noise_by`` ``noise_spread``, and per factor ``group_scale[factor]``,
        ``group_corr[factor]``.
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
        used the whole tree); ``evaluations`` (of the density or its gradient, in the search for
        modes, for weights, and in the transitions of the chains that are kept: those of warm-up,
        and of chains that were given up for longer ones, are not counted), ``seconds`` (of
        ``fit``; after a search, of its best candidate's fit to all rows),
        ``warnings``, ``n_rows``, ``n_groups`` (per factor), ``n_dense`` (group effects that are
        integrated out as one block: of crossed factors all but the largest), ``slopes_left_out``
        (per factor the features that ``slopes="all"`` leaves without a varying slope),
        ``group_means_left_out`` (per factor the features of ``group_means`` that can have none),
        ``within_between`` (per factor and feature, by how many standard errors the effect between
        levels exceeds that within them; a large one is a reason for ``group_means``).
    statistics_ : GroupStatistics
        Of the rows of fit, of a normal response without ``group_means``.
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

    def __init__(
        self,
        groups=None,
        *,
        slopes="all",
        correlated=True,
        eta=2.0,
        prior=None,
        noncentered=True,
        response="normal",
        exposure=None,
        group_means=None,
        noise_by=None,
        known_noise=None,
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
        self.response = response
        self.exposure = exposure
        self.group_means = group_means
        self.noise_by = noise_by
        self.known_noise = known_noise
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

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``prior__*`` and ``response__*`` reach into presets and names too.

        Parameters
        ----------
        **params
            As in scikit-learn; ``response__df=4`` on ``response="student_t"`` makes
            ``StudentT(df=4)``.
        """
        response = params.get("response", self.response)
        nested = any(name.startswith("response__") for name in params)
        if nested and isinstance(response, str):
            params = {**params, "response": response_from(response)}
        return super().set_params(**params)

    @property
    def _response(self) -> Response:
        response = response_from(self.response)
        known = self.known_noise is not None
        if self.noise_by is not None:
            return unequal(response, known)
        return KnownNoise() if known and response.name == "normal" else response
