"""Hierarchical logistic and probit regression for two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skhier.estimators._base import Level
from skhier.estimators._model import HierarchicalModel
from skhier.posterior.predictive import log_predictive_density
from skhier.responses.base import Response
from skhier.responses.bernoulli import Bernoulli
from skhier.utils.validation import check_choice

__all__ = ["HierarchicalSlopesClassifier"]


class HierarchicalSlopesClassifier(ClassifierMixin, HierarchicalModel):
    """Bayesian logistic or probit regression with intercepts and slopes that vary by group.

        P(y_i = classes_[1]) = link^-1(eta_i),   eta_i = x_i' beta + z_i' b_g(i),
        b_g ~ Normal(0, Sigma),  Sigma = diag(tau) Omega diag(tau),  Omega ~ LKJ(eta)

    Coefficients, group effects and scales are on the scale of the line: log odds, or probits.

    Parameters
    ----------
    groups, slopes, correlated, eta, prior, noncentered, group_means
        As of :class:`~skhier.HierarchicalSlopesRegressor`. Default priors: the intercept at the
        mean of X ``Normal(0, 2.5)``, slopes ``Normal(0, 2.5 / sd(x_j))``, standard deviations of
        the effects ``Exponential`` with mean ``1 / sd(x_j)``, 1 for the intercept's.
    link : {"logit", "probit"}, default="logit"
    exposure : None
        Of :class:`~skhier.HierarchicalSlopesRegressor`, where the line is the log of a mean;
        anything else is an error in ``fit``.
    inference : {"auto", "marginal", "nuts"}, default="auto"
        ``"marginal"``: of one factor with at most two varying slopes, or none, group effects are
        integrated out by adaptive Gauss-Hermite quadrature, its nodes raised until the error hardly
        matters, and the rest is sampled by importance sampling or, where its weights fail, by the
        No-U-Turn sampler. ``"nuts"``: that sampler on every parameter; ``"auto"``: ``"marginal"``
        where it can be.
    n_chains, n_warmup, n_draws, target_accept, max_tree_depth, handle_unknown, device, \
random_state, verbose
        As of :class:`~skhier.HierarchicalSlopesRegressor`.

    Attributes
    ----------
    classes_ : array of shape (2,) or (1,)
        Labels, sorted; the second is the event.
    intercept_, coef_, coef_names_, group_coef_, group_coef_std_, group_effects_, group_scale_, \
group_corr_, group_levels_, posterior_, log_evidence_, diagnostics_
        As of :class:`~skhier.HierarchicalSlopesRegressor`, on the scale of the line.

    References
    ----------
    Pinheiro and Bates (1995), J. Comput. Graph. Stat. 4, for the quadrature.

    Examples
    --------
    >>> import numpy as np
    >>> from skhier import HierarchicalSlopesClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([rng.normal(size=60), np.arange(60) % 6])
    >>> y = np.where(X[:, 0] + rng.normal(size=60) > 0, "yes", "no")
    >>> model = HierarchicalSlopesClassifier(groups=1, slopes=None, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape
    (60, 2)
    """

    _takes_statistics = False

    def __init__(
        self,
        groups=None,
        *,
        slopes="all",
        correlated=True,
        eta=2.0,
        prior=None,
        noncentered=True,
        link="logit",
        exposure=None,
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
        self.groups = groups
        self.slopes = slopes
        self.correlated = correlated
        self.eta = eta
        self.prior = prior
        self.noncentered = noncentered
        self.link = link
        self.exposure = exposure
        self.group_means = group_means
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

    def __sklearn_tags__(self):
        """Two classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    @property
    def _response(self) -> Response:
        return Bernoulli(link=self.link)

    def _check_params(self):
        check_choice("link", self.link, ("logit", "probit"))
        super()._check_params()

    def _fit(self, X, y, sample_weight):
        return super()._fit(X, self._numbers_of(y), sample_weight)

    def _numbers_of(self, y):
        """1 for the event, else 0; sets ``classes_``."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) > 2:
            raise ValueError(
                f"Only binary classification is supported. The type of the target is "
                f"{type_of_target(y)}. Got {len(classes)} classes: wrap the estimator in "
                "sklearn.multiclass.OneVsRestClassifier."
            )
        self.classes_ = classes
        # a single class is the event: its probability is what the prior leaves of 1
        return codes.astype(float) if len(classes) == 2 else np.ones(len(codes))

    def predict_proba(self, X: Any, level: Level = "group") -> np.ndarray:
        """Posterior mean of each class's probability.

        Of a level that fit never saw the average over a new member of the population.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        level : "group", "population" or list of str
            As in :meth:`predict`.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        rows = self._rows_of(X, level)
        event = self._fitted.posterior.mean(rows.x, rows.codes)
        if len(self.classes_) == 1:
            return np.ones((len(event), 1))
        return np.column_stack([1 - event, event])

    def predict_log_proba(self, X: Any, level: Level = "group") -> np.ndarray:
        """Logarithm of :meth:`predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, level))

    def predict(  # type: ignore[override]
        self, X: Any, level: Level = "group"
    ) -> np.ndarray:
        """The more probable class of each row.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        level : "group", "population" or list of str
            ``"population"``: group effects 0; a list of factors' names: only these factors'
            effects count.

        Returns
        -------
        array of shape (n_samples,)
        """
        which = self.predict_proba(X, level).argmax(axis=1)
        return self.classes_[which]

    def decision_function(self, X: Any, level: Level = "group") -> np.ndarray:
        """The line whose probability is the predicted one, (n_samples,): log odds, or probits.

        Positive where the event is likelier; it ranks rows as :meth:`predict_proba` does, which the
        posterior mean of the line need not.
        """
        rows = self._rows_of(X, level)
        posterior = self._fitted.posterior
        return posterior.response.link_of(posterior.mean(rows.x, rows.codes))

    def predict_interval(
        self, X: Any, coverage: float = 0.9, kind: str = "mean", level: Level = "group"
    ) -> np.ndarray:
        """Equal-tailed posterior interval of the event's probability.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        coverage : float in (0, 1)
        kind : {"mean", "response"}
            Of the probability, or of a new response, 1 for the event.
        level : "group", "population" or list of str

        Returns
        -------
        array of shape (n_samples, 2)
        """
        return super().predict_interval(X, coverage, kind, level)

    def predict_quantiles(
        self, X: Any, q: Any, kind: str = "mean", level: Level = "group"
    ) -> np.ndarray:
        """Quantiles of the event's probability, (n_samples, len(q)), see `predict_interval`."""
        return super().predict_quantiles(X, q, kind, level)

    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = None, level: Level = "group"
    ) -> np.ndarray:
        """Draws of the class, jointly over the rows, (n_samples, n_draws), labels."""
        drawn = super().sample_y(X, n_samples, random_state, level)
        return self.classes_[drawn.astype(int) * (len(self.classes_) - 1)]

    def sample_prior(
        self, X: Any, n_samples: int = 1, random_state: Any = None, *, y: Any = None
    ) -> np.ndarray:
        """Draws of the class from the prior predictive distribution, jointly over the rows.

        Parameters
        ----------
        X, n_samples, random_state, y
            As of :meth:`HierarchicalSlopesRegressor.sample_prior`. The default priors do not
            depend on y, which names the classes.

        Returns
        -------
        array of shape (n_rows, n_samples)
            Labels; before any fit and without y, 1 for the event and 0.
        """
        drawn = super().sample_prior(X, n_samples, random_state, y=y).astype(int)
        labels = getattr(self, "classes_", np.arange(2)) if y is None else np.unique(y)
        return labels[drawn * (len(labels) - 1)]

    def log_predictive_density(self, X: Any, y: Any) -> np.ndarray:
        """Log posterior predictive probability of each row's class, (n_samples,).

        Raises
        ------
        ValueError
            A class that fit did not see.
        """
        check_is_fitted(self)
        rows = self._rows_of(X, "group")
        y = column_or_1d(y)
        unknown = ~np.isin(y, self.classes_)
        if unknown.any():
            first = y[unknown].tolist()[0]
            raise ValueError(
                f"y holds {int(unknown.sum())} values that are no class of this fit, the first "
                f"{first!r}. Classes: {', '.join(map(repr, self.classes_.tolist()))}."
            )
        event = (y == self.classes_[-1]).astype(float)
        return log_predictive_density(self._fitted.posterior, rows.x, rows.codes, event)
