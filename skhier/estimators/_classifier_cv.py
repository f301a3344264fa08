"""Choosing a classifier's priors, link and structure by cross-validation."""

from __future__ import annotations

from skhier.estimators._classifier import HierarchicalSlopesClassifier
from skhier.estimators._search import Search

__all__ = ["HierarchicalSlopesClassifierCV"]


class HierarchicalSlopesClassifierCV(Search, HierarchicalSlopesClassifier):
    """Hierarchical classification whose priors, link and structure are chosen by cross-validation.

    Each candidate is fitted to the training rows of each fold, all by one compiled program. Then
    the best one is fitted to all rows, and this estimator is that fit.

    Parameters
    ----------
    groups : str, int, list, dict, callable or None, default=None
        As of :class:`HierarchicalSlopesClassifier`, and so are all parameters not listed here.
    param_grid : dict, list of dict or None, default=None
        As of ``GridSearchCV``, over ``eta``, ``prior``, ``prior__*``, ``slopes``,
        ``correlated``, ``group_means`` and ``link``. None: ``{"eta": [1, 2, 4]}``.
    cv : int, splitter, iterable, {"loo", "logo", "evidence"} or None, default=None
        As of :class:`HierarchicalSlopesRegressorCV`; a number, and None, which is 5, are stratified
        folds.
    scoring : str, callable or None, default=None
        None: accuracy. ``"log_predictive_density"``: mean log probability of the classes of a
        fold, which also judges how sure the model is. Else any scorer of scikit-learn
        (``"roc_auc"``, ``"neg_log_loss"``) or of ``skhier.metrics``, slower. Must be None if ``cv``
        names a score.

    Attributes
    ----------
    best_params_, best_score_, best_index_, scores_, cv_results_, n_splits_
        As of :class:`HierarchicalSlopesRegressorCV`.
    classes_, coef_, group_coef_, posterior_, ...
        All attributes of :class:`HierarchicalSlopesClassifier`, of the best candidate fitted to all
        rows.

    Notes
    -----
    A fold whose training rows have one class is fitted: the priors do their work. ``cv="loo"`` and
    ``"logo"`` fit the model without a row or group whose Pareto k is too high, as
    :class:`HierarchicalSlopesRegressorCV` does.

    Examples
    --------
    >>> import numpy as np
    >>> from skhier import HierarchicalSlopesClassifierCV
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([rng.normal(size=60), np.arange(60) % 6])
    >>> y = np.where(2 * X[:, 0] + rng.normal(size=60) > 0, "yes", "no")
    >>> model = HierarchicalSlopesClassifierCV(
    ...     groups=1, slopes=None, param_grid={"prior__coef": [0.01, 2.5]}, cv="evidence"
    ... ).fit(X, y)
    >>> model.best_params_
    {'prior__coef': 2.5}
    """

    _plain = HierarchicalSlopesClassifier
    _tunable = ("link",)

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
        link="logit",
        group_means=None,
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
            link=link,
            group_means=group_means,
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
