"""Shares of the variance by grouping factor, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.plotting._fit import fitted_model, shares_of
from skhier.plotting._style import BOLD, REFERENCE, add_legend, draw_intervals, figure_and_axes
from skhier.plotting._text import printed_labels
from skhier.utils.diagnostics import hdi
from skhier.utils.validation import check_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VarianceSharesDisplay"]


class VarianceSharesDisplay:
    """Shares of the variance: of each grouping factor and of the noise, with intervals.

    Answers: at which level do the rows differ? Shares (intraclass correlations) are those of
    ``variance_components()``: of the variance that the features leave, and they add up to 1.

    Parameters
    ----------
    shares : DataFrame of shape (n_factors + 1, 3)
        Columns ``mean``, ``lower`` and ``upper``: posterior mean and ends of the highest-density
        interval; a row per factor, and ``"residual"`` last.
    coverage : float
        Of each interval.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    """

    def __init__(self, *, shares: pd.DataFrame, coverage: float):
        self.shares, self.coverage = shares, coverage

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, coverage: float = 0.9, ax: Any = None, **kwargs: Any
    ) -> VarianceSharesDisplay:
        """Compute the shares and draw them.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
            Fitted.
        coverage : float in (0, 1)
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        VarianceSharesDisplay

        Raises
        ------
        ValueError
            No grouping factor, or y was constant.
        sklearn.exceptions.NotFittedError
        """
        import pandas as pd

        model, _ = fitted_model(estimator)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        names = list(model.group_levels_)
        if not names:
            raise ValueError("This model has no grouping factor: all of the variance is residual.")
        if model.diagnostics_["engine"] == "constant":
            raise ValueError("y was constant: there is no variance to share.")
        draws = np.stack(shares_of(model), axis=-1)
        ends = hdi(draws, float(coverage))
        columns = {"mean": draws.mean((0, 1)), "lower": ends[:, 0], "upper": ends[:, 1]}
        shares = pd.DataFrame(columns, index=[*names, "residual"])
        return cls(shares=shares, coverage=coverage).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> VarianceSharesDisplay:
        """Draw a line per share, in percent.

        Parameters
        ----------
        ax : Axes or None
            None: a new figure.
        **kwargs
            Of the interval lines (``Axes.hlines``).

        Returns
        -------
        VarianceSharesDisplay
            The display itself.
        """
        at, percent = np.arange(len(self.shares)), 100 * self.shares
        figure, (axis,) = figure_and_axes(ax, 1, figsize=(6.4, 1.5 + 0.4 * len(at)))
        label = f"{self.coverage:.0%} interval"
        style = {"color": BOLD, "lw": 2.0, "label": label}
        draw_intervals(axis, at, percent["lower"], percent["upper"], style, kwargs)
        axis.plot(percent["mean"], at, "o", color=BOLD, ms=6, mew=0, label="posterior mean")
        for y, (mean, low, high) in zip(at, percent.to_numpy(), strict=True):
            words = {"va": "center", "ha": "left", "size": "small", "color": REFERENCE}
            place = {"xytext": (8, 0), "textcoords": "offset points"}
            axis.annotate(f"{mean:.1f} ({low:.1f} to {high:.1f})", (high, y), **place, **words)
        axis.set_yticks(at, printed_labels(self.shares.index))
        axis.set(xlim=(0, 100), ylim=(len(at) - 0.5, -0.5))
        axis.set_xlabel("Share of the variance that the features leave, %")
        add_legend(figure, axis, ax is None, ncols=2)
        self.ax_, self.figure_ = axis, figure
        return self
