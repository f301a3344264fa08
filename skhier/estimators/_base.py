"""What estimators share: parameters and pickles, predictions, and draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skhier import __version__
from skhier.estimators._group_tables import group_arrays, group_tables
from skhier.estimators._new_rows import Level, NewRows
from skhier.inference.engines import load_jax
from skhier.posterior.fitted import Fitted
from skhier.posterior.predictive import log_predictive_density, normals, quantiles, responses
from skhier.posterior.prior_draws import draw_responses, prior_without_fit
from skhier.presets import prior_from
from skhier.priors import Prior
from skhier.utils.budget import USUAL
from skhier.utils.design import read_rows
from skhier.utils.forks import forbid_forked_process
from skhier.utils.table import read_table
from skhier.utils.validation import check_choice, check_number, check_target

__all__ = ["BaseHierarchical", "drawn_seed"]

BY_FACTOR = ("groups", "group_means")  # parameters that may be dicts from factor


class FactorItems(NamedTuple):
    """A dict from factor, as pickles and files of skops hold it."""

    items: tuple[tuple[Any, Any], ...]


class BaseHierarchical(NewRows, BaseEstimator):
    """Predictions from ``_fitted``, which subclasses make in ``fit``, with the attributes."""

    _fitted: Fitted
    # no parameter and no part of what was fitted: neither clones nor pickles hold another
    _budget = USUAL

    # extra arguments of predict travel through a Pipeline under metadata routing
    __metadata_request__predict = {"return_std": True, "level": True}

    def set_params(self, **params: Any) -> Self:
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
        state["_skhier_version"] = __version__
        state.pop("_budget", None)
        arrays = group_arrays(state)
        if arrays:
            state["_group_arrays"] = arrays
        for name in BY_FACTOR:
            if type(state.get(name)) is dict:  # whose keys, in a file of skops, cannot be tuples
                state[name] = FactorItems(tuple(state[name].items()))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Raise ValueError for a fit by a version that kept other things."""
        state = dict(state)
        version = state.pop("_skhier_version", "0.1.0")
        if not state.keys().isdisjoint(("coef_", "_blocks")) and version != __version__:
            raise ValueError(
                f"This {type(self).__name__} was fitted and saved by skhier {version}, and this is "
                f"skhier {__version__}, which keeps a fit in another form. Load it with skhier "
                f"{version}, or fit again."
            )
        for name in BY_FACTOR:
            if isinstance(state.get(name), FactorItems):
                state[name] = dict(state[name].items)
        if "_group_arrays" in state:
            state |= group_tables(state.pop("_group_arrays"), state["_fitted"].design)
        super().__setstate__(state)

    def predict(self, X: Any, return_std: bool = False, level: Level = "group") -> Any:
        """Posterior mean of the response.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        return_std : bool
            Also return the standard deviation of the posterior predictive distribution, noise
            included. With several factors it is that of the components behind intervals, see
            :meth:`predict_interval`, exact to some 1%.
        level : "group", "population" or list of str
            ``"population"``: the population line, group effects 0; a list of factors' names: only
            these factors' effects count, the others' are 0. Grouping columns of factors that do not
            count may hold anything, and of a data frame they may be missing; but level means of
            ``group_means`` are predictors of the population, for which their labels are still
            read: a row without one is its own mean.

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
        rows = self._rows_of(X, level, noise=return_std)
        posterior = self._fitted.posterior
        mean = posterior.mean(rows.x, rows.codes)
        if not return_std:
            return mean
        return mean, posterior.predictive_sd(rows.x, rows.codes)

    def _predicted_columns(
        self, X: Any, std: bool = False, coverage: float | None = None
    ) -> dict[str, np.ndarray]:
        """What :func:`skhier.frames.predict` adds to a block of rows.

        Levels that fit never saw are predicted as new members of the population, without a warning
        for each block.

        Parameters
        ----------
        X : table of shape (n_samples, n_features_in_)
        std : bool
        coverage : float in (0, 1) or None

        Returns
        -------
        dict of str to array of shape (n_samples,)
            ``"prediction"``; ``"prediction_std"``; ``"lower"`` and ``"upper"``.
        """
        rows = self._rows_of(X, "group", announced=False, noise=std or coverage is not None)
        posterior = self._fitted.posterior
        columns = {"prediction": posterior.mean(rows.x, rows.codes)}
        if std:
            columns["prediction_std"] = posterior.predictive_sd(rows.x, rows.codes)
        if coverage is not None:
            tail = (1 - coverage) / 2
            both = self._quantiles(rows, np.array([tail, 1 - tail]), "response")
            columns |= {"lower": both[:, 0], "upper": both[:, 1]}
        return columns

    def predict_interval(
        self, X: Any, coverage: float = 0.9, kind: str = "response", level: Level = "group"
    ) -> np.ndarray:
        """Equal-tailed posterior interval.

        Of the mixture over the variance parameters, coefficients and group effects integrated out.
        A few dozen or hundred weighted components stand for all of them, so chosen in the first
        call that the ends are within 0.02 sd of those of 100,000 draws. After
        ``inference="nuts"`` every draw is a component. With crossed factors of thousands of levels
        the first call eliminates all their effects once for each component, which takes seconds.

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
        rows = self._rows_of(X, level, noise=kind != "mean")
        return self._quantiles(rows, np.array([tail, 1 - tail]), kind)

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
        return self._quantiles(self._rows_of(X, level, noise=kind != "mean"), q, kind)

    def _quantiles(self, rows, q, kind):
        check_choice("kind", kind, ("response", "mean"))
        return quantiles(self._fitted.posterior, rows.x, rows.codes, q, kind)

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
        y = check_target(y, rows.x)
        return log_predictive_density(self._fitted.posterior, rows.x, rows.codes, y)

    def _predictive_mixture(self, X: Any) -> Iterator[tuple[np.ndarray, ...]]:
        """Of each slice of the rows of X: which, means and sds (n, k) of normals, weights (n,)."""
        rows = self._rows_of(X, "group")
        return normals(self._fitted.posterior, rows.x, rows.codes)

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
        return responses(self._fitted.posterior, rows.x, rows.codes, which, rng).T

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
        load_jax()
        check_number("n_samples", n_samples, low=1, integer=True)
        if y is not None or not hasattr(self, "_fitted"):
            setting, rows = prior_without_fit(self, X, y)
        else:
            table = read_table(X)
            self._check_columns(table)
            setting, rows = self._fitted.prior, read_rows(table, self._fitted.design)
        return draw_responses(setting, rows, int(n_samples), _generator(random_state))

    def _choose_draws(self, n_draws, rng):
        """Distinct posterior draws as far as there are enough."""
        total = self._fitted.posterior.n_draws
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
        check_is_fitted(self)
        k = self._fitted.index_of(factor)
        codes = self._fitted.codes_of(factor, levels)
        if n_draws is None and random_state is None:
            return self._fitted.posterior.group_draws(k, codes)
        rng = _generator(random_state)
        which: Any = slice(None)
        if n_draws is not None:
            check_number("n_draws", n_draws, low=1, integer=True)
            which = self._choose_draws(n_draws, rng)
        return self._fitted.posterior.group_draws(k, codes, int(rng.integers(2**31)), which)


def drawn_seed(random_state: Any) -> int:
    """What a call draws from its ``random_state``."""
    return check_random_state(random_state).randint(2**31 - 1)


def _generator(random_state) -> np.random.Generator:
    return np.random.default_rng(drawn_seed(random_state))
