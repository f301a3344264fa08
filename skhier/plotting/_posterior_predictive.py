"""The observed response among data sets that the fitted model draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import gaussian_kde

from skhier.plotting._fit import fitted_model, forbid_classes
from skhier.plotting._replicates import draw_replicates, read_replicates
from skhier.plotting._style import BOLD, add_legend, draw_line, figure_and_axes
from skhier.utils.validation import check_choice

__all__ = ["PosteriorPredictiveDisplay"]

CURVE_POINTS = 1000  # of a distribution function
KDE_POINTS = 1000  # quantiles that stand for the rows in a density


class PosteriorPredictiveDisplay:
    """Posterior predictive check: the observed response among replicated data sets.

    Answers: could the model have produced data that are distributed like these?

    Parameters
    ----------
    y : array of shape (n_samples,)
        Observed.
    y_replicated : array of shape (n_samples, n_replicates)
        Draws from the posterior predictive distribution for the same rows.
    target_name : str

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    References
    ----------
    Gabry, Simpson, Vehtari, Betancourt and Gelman (2019), J. R. Stat. Soc. A 182, sec. 5.
    """

    def __init__(self, *, y: np.ndarray, y_replicated: np.ndarray, target_name: str = "y"):
        self.y, self.y_replicated, self.target_name = y, y_replicated, target_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_replicates: int = 50,
        random_state: Any = None,
        kind: str = "kde",
        ax: Any = None,
        **kwargs: Any,
    ) -> PosteriorPredictiveDisplay:
        """Draw replicated data sets for the rows of X.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
            Fitted.
        X : table of shape (n_samples, n_features_in_)
        y : array of shape (n_samples,)
        n_replicates : int
        random_state : int, RandomState or None
            Of ``sample_y``.
        kind, ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        PosteriorPredictiveDisplay

        Raises
        ------
        ValueError
            A classifier.
        sklearn.exceptions.NotFittedError
        """
        model, X = fitted_model(estimator, X)
        forbid_classes(model)
        drawn = draw_replicates(model, X, n_replicates, random_state)
        return cls.from_predictions(y, drawn, kind=kind, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, y: Any, y_replicated: Any, *, kind: str = "kde", ax: Any = None, **kwargs: Any
    ) -> PosteriorPredictiveDisplay:
        """Draw given replicated data sets.

        Parameters
        ----------
        y : array of shape (n_samples,)
            Its name, if it has one, labels the axis.
        y_replicated : array of shape (n_samples, n_replicates)
        kind, ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        PosteriorPredictiveDisplay

        Raises
        ------
        ValueError
            Lengths that differ, or numbers that are not finite.
        """
        target_name, y, replicated = read_replicates(y, y_replicated)
        return cls(y=y, y_replicated=replicated, target_name=target_name).plot(
            ax, kind=kind, **kwargs
        )

    def plot(
        self, ax: Any = None, *, kind: str = "kde", **kwargs: Any
    ) -> PosteriorPredictiveDisplay:
        """Draw the distributions.

        Parameters
        ----------
        ax : Axes or None
            None: a new figure.
        kind : {"kde", "ecdf"}
            Kernel density estimates (Scott's rule), or empirical distribution functions, which
            smooth nothing.
        **kwargs
            Of the observed data's line (``Axes.plot``).

        Returns
        -------
        PosteriorPredictiveDisplay
            The display itself.

        Raises
        ------
        ValueError
            A density of rows that are all equal.
        """
        check_choice("kind", kind, ("kde", "ecdf"))
        constant = np.ptp(self.y) == 0 or np.any(np.ptp(self.y_replicated, axis=0) == 0)
        if kind == "kde" and constant:
            raise ValueError("A density needs rows that differ. Use kind='ecdf'.")
        figure, (axis,) = figure_and_axes(ax, 1, figsize=(6.4, 4.4))
        draw = _draw_density if kind == "kde" else _draw_ecdf
        replicated = self.y_replicated
        ends = replicated.min(initial=self.y.min()), replicated.max(initial=self.y.max())
        n_replicates = replicated.shape[1]
        label = f"{n_replicates} replicated data sets"
        alpha = max(0.1, min(0.6, 15 / max(1, n_replicates)))
        style = {"color": BOLD, "lw": 0.7, "alpha": alpha}
        for k, replicate in enumerate(replicated.T):
            draw(axis, replicate, ends, style | {"label": None if k else label}, {})
        style = {"color": "black", "lw": 1.8, "label": "observed"}
        draw(axis, self.y, ends, style, kwargs)
        axis.set(
            xlabel=self.target_name,
            ylabel="Density" if kind == "kde" else "Share of rows up to this value",
        )
        axis.set_ylim(bottom=0)
        add_legend(figure, axis, ax is None, ncols=2)
        self.ax_, self.figure_ = axis, figure
        return self


def _draw_density(axis, values, ends, style, user):
    bandwidth = len(values) ** -0.2  # Scott's rule
    if len(values) > KDE_POINTS:
        values = np.quantile(values, (np.arange(KDE_POINTS) + 0.5) / KDE_POINTS)
    margin = 3 * bandwidth * values.std()
    grid = np.linspace(ends[0] - margin, ends[1] + margin, 200)
    draw_line(axis, grid, gaussian_kde(values, bandwidth)(grid), style, user)


def _draw_ecdf(axis, values, ends, style, user):
    """Steps; of many rows, at some of them."""
    n = min(len(values), CURVE_POINTS)
    counts = np.arange(1, n + 1) * len(values) // n
    curve = [ends[0], *np.sort(values)[counts - 1], ends[1]], [0.0, *counts / len(values), 1.0]
    draw_line(axis, *curve, style | {"drawstyle": "steps-post"}, user)
