"""Choosing priors and structure by cross-validation, from statistics that add."""

from __future__ import annotations

from skhier.estimators._folds import FoldStatistics
from skhier.estimators._regressor import HierarchicalSlopesRegressor
from skhier.estimators._search import Search

__all__ = ["HierarchicalSlopesRegressorCV"]


class HierarchicalSlopesRegressorCV(FoldStatistics, Search, HierarchicalSlopesRegressor):
    """Hierarchical regression whose priors and structure are chosen by cross-validation.

    Of a normal or lognormal response the rows are reduced to group statistics once for each value
    of ``slopes``, as a whole and fold by fold: a fold's training statistics are the sum of the
    others'. Of others each fold's rows are fitted, by one compiled program. Then the best candidate
    is fitted to all rows, and this estimator is that fit.

    Parameters
    ----------
    groups : str, int, list, dict, callable or None, default=None
        As of :class:`HierarchicalSlopesRegressor`, and so are all parameters not listed here.
        Every candidate has them; a fold's rows have their own ``exposure`` or ``known_noise``.
    param_grid : dict, list of dict or None, default=None
        As of ``GridSearchCV``, over ``eta``, ``prior``, ``prior__*``, ``slopes``,
        ``correlated``, ``group_means``, ``noise_by``, ``response`` and ``response__*``
        (``response__df``).
        None: ``{"eta": [1, 2, 4]}``.
    cv : int, splitter, iterable, {"loo", "logo", "evidence"}, str or None, default=None
        As of ``GridSearchCV``, or the name of a column of X, no feature, whose values are the
        folds. Rows of a lazy frame are summed by fold where they are: such a column, or an int, a
        hash of the row that puts equal rows into one fold. Splitters that split by group
        (``GroupKFold``) get the first factor of ``groups``. A splitter counts rows of weight 0
        too, which then leave its folds; a fold without other test rows is none. ``"loo"``,
        ``"logo"``: the expected log predictive density of a row, or of a group, left out, from one
        fit to all rows; ``"evidence"``: its log evidence.
    scoring : str, callable or None, default=None
        None: R^2 as of ``r2_score``, for folds of two test rows or more.
        ``"log_predictive_density"``: mean over the rows of a fold, which also judges the
        uncertainty. Else any scorer of scikit-learn or of ``skhier.metrics``, slower. Must be None
        if ``cv`` names a score. Of lazy frames and in ``fit_statistics``: None, ``"r2"``,
        ``"neg_mean_squared_error"`` or ``"neg_root_mean_squared_error"``.

    Attributes
    ----------
    best_params_ : dict
    best_score_ : float
    best_index_ : int
    scores_ : array of shape (n_candidates, n_splits)
        The higher the better.
    cv_results_ : dict
        As of ``GridSearchCV``: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``. Of ``cv="loo"`` and
        ``"logo"`` also ``se_test_score``, the standard error over rows or groups;
        ``max_pareto_k`` and ``n_bad_pareto_k``, of the rows or groups left out by weights;
        ``n_refits``, for how many of those a fit without them gave the density instead; and
        ``unreliable``, the positions of rows in X, or the groups, for which neither did.
    n_splits_ : int
        Folds with a test row; 1 if ``cv`` names a score.
    coef_, group_coef_, posterior_, ...
        All attributes of :class:`HierarchicalSlopesRegressor`, of the best candidate fitted to all
        rows.

    Notes
    -----
    A fold's score is weighted by ``sample_weight``, if any. A scorer gets the weights where it
    accepts them or, where scikit-learn's metadata routing is enabled, where it asks for them.

    Candidates whose score is NaN or infinite are named in a warning and never chosen. ``cv="loo"``
    and ``"logo"`` weigh one fit's posterior as if a row or group had not been there; where the
    Pareto k says that this fails, the model is fitted without it, for at most 30 of them a
    candidate, the worst first, unless Markov chains sampled the fit. What is left is named in a
    warning, which also says whether the choice rests on it. ``"evidence"`` compares densities of
    y, so that of a count with that of a positive number means nothing.

    ``inference="nuts"`` fits each candidate in full, and gains nothing over ``GridSearchCV`` but
    the columns of groups.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold
    >>> from skhier import HierarchicalSlopesRegressorCV
    >>> from skhier.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> model = HierarchicalSlopesRegressorCV(
    ...     groups="Subject",
    ...     param_grid={"prior__group_scale": [0.1, 1.0]},
    ...     cv=GroupKFold(3),
    ...     scoring="log_predictive_density",
    ...     random_state=0,
    ... ).fit(X, y)
    >>> model.best_params_
    {'prior__group_scale': 1.0}
    """

    _plain = HierarchicalSlopesRegressor
    _tunable = ("response", "noise_by")
    _folds_are = "a splitter, the name of a column of X"

    def __init__(
        self,
        groups=None,
        *,
        param_grid=None,
        cv=None,
        scoring=None,
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
        super().__init__(
            groups,
            slopes=slopes,
            correlated=correlated,
            eta=eta,
            prior=prior,
            noncentered=noncentered,
            response=response,
            exposure=exposure,
            group_means=group_means,
            noise_by=noise_by,
            known_noise=known_noise,
            inference=inference,
            n_chains=n_chains,
            n_warmup=n_warmup,
            n_draws=n_draws,
            target_accept=target_accept,
            max_tree_depth=max_tree_depth,
            handle_unknown=handle_unknown,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.param_grid = param_grid
        self.cv = cv
        self.scoring = scoring
