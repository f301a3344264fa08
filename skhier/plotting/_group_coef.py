"""The coefficients of every group, sorted: a caterpillar plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from skhier.plotting._choices import chosen_effects, chosen_factor
from skhier.plotting._fit import fitted_model
from skhier.plotting._numerics import coef_quantiles, population_coef
from skhier.plotting._style import BOLD, REFERENCE, add_legend, draw_intervals, figure_and_axes
from skhier.plotting._text import effect_label, printed_labels
from skhier.utils.validation import check_choice, check_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GroupCoefDisplay"]

MOST_LABELS = 40  # levels beyond which their names are not readable


class GroupCoefDisplay:
    """Caterpillar plot: the coefficients of every group with their intervals, sorted.

    Answers: which groups differ from the population, by how much, and how sure is that?

    Parameters
    ----------
    coef : DataFrame of shape (n_levels, n_effects)
        Population plus this factor's group effect, posterior means, in units of y per unit of x.
    lower, upper : DataFrame of shape (n_levels, n_effects)
        Ends of the intervals.
    population : Series of shape (n_effects,)
        Posterior means of the population's coefficients.
    factor : str
        The grouping factor's name.
    coverage : float
        Of each interval.

    Attributes
    ----------
    axes_ : array of Axes, of shape (n_effects,)
    figure_ : Figure

    Examples
    --------
    >>> from skhier.plotting import GroupCoefDisplay
    >>> display = GroupCoefDisplay.from_estimator(model)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        coef: pd.DataFrame,
        lower: pd.DataFrame,
        upper: pd.DataFrame,
        population: pd.Series,
        factor: str,
        coverage: float,
    ):
        self.coef, self.lower, self.upper = coef, lower, upper
        self.population, self.factor, self.coverage = population, factor, coverage

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        factor: str | None = None,
        effects: str | Sequence[str] | None = None,
        coverage: float = 0.9,
        interval: str = "normal",
        sort_by: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> GroupCoefDisplay:
        """Compute the intervals and draw them.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
            Fitted.
        factor : str or None
            The grouping factor; None: the only one.
        effects : str, list of str or None
            Which effects, a panel each: ``"intercept"`` and names of features. None: all.
        coverage : float in (0, 1)
        interval : {"normal", "quantile"}
            Posterior mean plus and minus a multiple of the posterior sd; or equal-tailed quantiles
            of the posterior draws.
        sort_by, ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        GroupCoefDisplay

        Raises
        ------
        ValueError
            No grouping factor, or no such factor or effect.
        sklearn.exceptions.NotFittedError
        """
        model, _ = fitted_model(estimator)
        factor = chosen_factor(model, factor)
        names = chosen_effects(model, factor, effects)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        check_choice("interval", interval, ("normal", "quantile"))
        coef = model.group_coef_[factor][names]
        if interval == "normal":
            reach = ndtri((1 + coverage) / 2) * model.group_coef_std_[factor][names]
            lower, upper = coef - reach, coef + reach
        else:
            lower, upper = coef_quantiles(model, factor, names, coverage)
        display = cls(
            coef=coef,
            lower=lower,
            upper=upper,
            population=population_coef(model, names),
            factor=factor,
            coverage=coverage,
        )
        return display.plot(ax, sort_by=sort_by, **kwargs)

    def plot(
        self, ax: Any = None, *, sort_by: str | None = None, **kwargs: Any
    ) -> GroupCoefDisplay:
        """Draw a panel per effect.

        Up to 40 levels are named; of more, only their number is.

        Parameters
        ----------
        ax : Axes, array of Axes or None
            One per effect; None: a new figure.
        sort_by : str or None
            The effect whose order all panels share; None: each panel has its own.
        **kwargs
            Of the interval lines (``Axes.hlines``).

        Returns
        -------
        GroupCoefDisplay
            The display itself.
        """
        effects = list(self.coef.columns)
        if sort_by is not None:
            check_choice("sort_by", sort_by, effects)
        n = len(self.coef)
        named = n <= MOST_LABELS
        height = max(2.4, 1.4 + 0.2 * n) if named else 6.0
        figure, axes = figure_and_axes(ax, len(effects), figsize=(1.2 + 3.6 * len(effects), height))
        for axis, effect in zip(axes, effects, strict=True):
            order = np.argsort(self.coef[sort_by or effect].to_numpy(), kind="stable")
            self._draw(axis, effect, order, named, kwargs)
            axis.set_xlabel(effect_label(effect))
            if named and (axis is axes[0] or sort_by is None):
                axis.set_yticks(np.arange(n), printed_labels(self.coef.index[order]))
            else:
                axis.set_yticks([])
        by = f", by {effect_label(sort_by).lower()}" if sort_by else ", sorted"
        axes[0].set_ylabel(self.factor if named else f"{n:,} levels of {self.factor}{by}")
        add_legend(figure, axes[0], ax is None, ncols=3 if len(effects) > 1 else 1)
        self.axes_, self.figure_ = axes, figure
        return self

    def _draw(self, axis, effect, order, named, kwargs):
        at = np.arange(len(order))
        mean, low, high = (t[effect].to_numpy()[order] for t in (self.coef, self.lower, self.upper))
        style: dict[str, Any] = {"color": BOLD, "label": f"{self.coverage:.0%} interval"}
        thin = {"lw": min(1.5, max(0.3, 200 / len(order))), "alpha": 0.35}
        style |= {"lw": 1.5} if named else thin
        draw_intervals(axis, at, low, high, style, kwargs)
        size = 4 if named else max(0.7, min(2.0, 800 / len(order)))
        axis.plot(mean, at, "o", color=BOLD, ms=size, mew=0, label="posterior mean")
        line = {"color": REFERENCE, "lw": 1.0, "ls": "--", "zorder": 0 if named else 3}
        axis.axvline(self.population[effect], label="population", **line)
        axis.set_ylim(-0.7, len(order) - 0.3)
