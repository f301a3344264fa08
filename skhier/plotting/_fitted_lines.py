"""Data and fitted lines against one feature, a panel per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skhier.plotting._choices import chosen_factor, chosen_feature
from skhier.plotting._fit import (
    fitted_model,
    is_on_line,
    line_codes,
    line_means,
    line_quantiles,
    numbers_of,
    rows_of,
    target_label,
)
from skhier.plotting._numerics import tails, without_others
from skhier.plotting._panels import Panels, panels_of
from skhier.plotting._style import BOLD, REFERENCE, add_legend, draw_line, figure_and_axes
from skhier.plotting._text import target_name_of
from skhier.utils.validation import check_choice, check_number, check_target

__all__ = ["FittedLinesDisplay"]


class FittedLinesDisplay:
    """Data and fitted lines against one feature, a panel per group.

    Answers: does each group's line fit its rows, and what does it share with the population?
    With several grouping factors a group's line is the population's plus the effects of this factor
    alone, and the points are the responses less the other factors' effects. Where a link stands
    between line and response (counts, classes) the curves are of the mean of y, of classes the
    event's probability, and the points are the responses as they are.

    Parameters
    ----------
    grid : array of shape (n_points,)
        Values of the feature, in its units.
    mean, population : array of shape (n_panels, n_points)
        The groups' lines or curves and the population's, posterior means in units of y.
    bands : dict of str to array of shape (n_panels, n_points, 2)
        Ends of intervals: ``"mean"`` of the line or curve, ``"response"`` of new observations.
    points : list of arrays of shape (n_rows, 2)
        Feature and response of each panel's rows, the latter less the effects, at the posterior
        mean, of the factors in `others`.
    labels : list of str
        The panels' titles.
    coverage : float
        Of the intervals.
    n_groups : int
        How many groups there were to choose from.
    feature_name, target_name : str
    others : sequence of str
        Names of the other grouping factors whose effects were subtracted from the responses.
    curve_name : str
        What a group's mean of y over the feature is called.

    Attributes
    ----------
    axes_ : array of Axes, of shape (n_panels,)
    figure_ : Figure
    """

    def __init__(
        self,
        *,
        grid: np.ndarray,
        mean: np.ndarray,
        population: np.ndarray,
        bands: Mapping[str, np.ndarray],
        points: Sequence[np.ndarray],
        labels: Sequence[str],
        coverage: float,
        n_groups: int,
        feature_name: str,
        target_name: str = "y",
        others: Sequence[str] = (),
        curve_name: str = "line",
    ):
        self.grid, self.mean, self.population, self.bands = grid, mean, population, bands
        self.points, self.labels, self.coverage, self.n_groups = points, labels, coverage, n_groups
        self.feature_name, self.target_name, self.others = feature_name, target_name, others
        self.curve_name = curve_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        feature: str | None = None,
        factor: str | None = None,
        levels: Sequence[Any] | None = None,
        max_groups: int = 18,
        kind: str = "mean",
        coverage: float = 0.9,
        n_points: int = 50,
        ax: Any = None,
        **kwargs: Any,
    ) -> FittedLinesDisplay:
        """Compute the lines and draw them over the data.

        Lines span the feature's range in X. Other features are held at the mean of the panel's
        rows, the effects of other grouping factors at 0; what the latter contribute, at the
        posterior mean, is subtracted from y unless there is a link. Without a grouping factor there
        is one panel.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
            Fitted. Of a pipeline, the feature is that after its transformers.
        X : table of shape (n_samples, n_features_in_)
        y : array of shape (n_samples,)
        feature : str or None
            A name in ``coef_names_``; None: the first with a varying slope, else the first.
        factor : str or None
            The grouping factor; None: the only one.
        levels : sequence or None
            Labels of the panels, in this order; of a nesting tuples of labels. None: groups of X by
            their posterior mean slope (intercept, if the slope does not vary), and if there are
            more than `max_groups`, that many at equal steps of rank, the lowest and the highest
            included.
        max_groups : int
        kind : {"mean", "response", "both"}
            The band: of the line or curve, of new observations, or both.
        coverage : float in (0, 1)
        n_points : int
            Of the grid.
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        FittedLinesDisplay

        Raises
        ------
        ValueError
            No features, no such feature or factor, or levels that X does not hold.
        sklearn.exceptions.NotFittedError
        """
        model, X = fitted_model(estimator, X)
        target_name, rows = target_label(model, target_name_of(y)), rows_of(model, X)
        y, on_line = check_target(numbers_of(model, y), rows.x), is_on_line(model)
        check_choice("kind", kind, ("mean", "response", "both"))
        check_number("max_groups", max_groups, low=1, integer=True)
        check_number("n_points", n_points, low=2, integer=True)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        factor = _factor_of_panels(model, factor, levels)
        feature = chosen_feature(model, factor, feature)
        panels = panels_of(model, factor, feature, rows, levels, max_groups)
        if factor is not None and on_line:
            y = without_others(model, factor, rows, y)
        display = cls(
            **_lines_of_panels(model, factor, feature, rows.x, panels, kind, coverage, n_points),
            points=_points(model, feature, rows.x, y, panels),
            labels=panels.titles,
            coverage=coverage,
            n_groups=panels.n_groups,
            feature_name=feature,
            target_name=target_name,
            others=[name for name in model.group_levels_ if name != factor] if on_line else [],
            curve_name="line" if on_line else "curve",
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> FittedLinesDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : array of Axes or None
            One per panel; None: a new figure.
        **kwargs
            Of the fitted lines (``Axes.plot``).

        Returns
        -------
        FittedLinesDisplay
            The display itself.
        """
        n = len(self.labels)
        n_columns = min(6, int(np.ceil(np.sqrt(1.5 * n)))) if n > 1 else 1
        n_rows = -(-n // n_columns)
        size = (1.0 + 1.75 * n_columns, 1.2 + 1.75 * n_rows) if n > 1 else (6.4, 4.8)
        figure, axes = figure_and_axes(ax, n, n_columns, figsize=size, sharex=True, sharey=True)
        for k, axis in enumerate(axes):
            self._draw(axis, k, kwargs)
            axis.set_title(self.labels[k], loc="left", size="small", pad=3)
        if ax is None and n > 1:
            figure.supxlabel(self.feature_name, size="medium")
            figure.supylabel(self.target_name, size="medium")
        else:
            for axis in axes:
                axis.set(xlabel=self.feature_name, ylabel=self.target_name)
        title = f"{n} of {self.n_groups:,} groups" if n < self.n_groups else None
        add_legend(figure, axes[0], ax is None, ncols=4 if n_columns > 4 else 2, title=title)
        self.axes_, self.figure_ = axes, figure
        return self

    def _draw(self, axis, k, kwargs):
        x, y = self.points[k].T
        dense = len(x) > 200
        less = f", less effects of {', '.join(self.others)}" if self.others else ""
        axis.plot(
            x, y, "o", color="0.25", ms=1.5 if dense else 3, mew=0, alpha=0.4 if dense else 0.9,
            label=f"observed{less}", rasterized=dense,
        )  # fmt: skip
        words = {"mean": f"of the {self.curve_name}", "response": "of new observations"}
        for kind, band in self.bands.items():
            style = {"color": BOLD, "alpha": 0.25 if kind == "mean" else 0.12, "lw": 0}
            label = f"{self.coverage:.0%} interval {words[kind]}"
            axis.fill_between(self.grid, *band[k].T, **style, label=label)
        grouped = bool(self.labels[k])
        label = f"the group's {self.curve_name}" if grouped else f"fitted {self.curve_name}"
        draw_line(axis, self.grid, self.mean[k], {"color": BOLD, "label": label}, kwargs)
        if grouped:
            style = {"color": REFERENCE, "lw": 1.1, "ls": "--"}
            label = f"population {self.curve_name}"
            axis.plot(self.grid, self.population[k], **style, label=label)


def _factor_of_panels(model, factor, levels) -> str | None:
    """The grouping factor's name, None in a model without."""
    if factor is not None or model.group_levels_:
        return chosen_factor(model, factor)
    if levels is not None:
        raise ValueError("`levels` names groups, but this model has no grouping factor.")
    return None


def _points(model, feature, x, y, panels: Panels) -> list[np.ndarray]:
    """Feature and response of each panel's rows, (n_rows, 2)."""
    column = model.coef_names_.index(feature)
    rows_of_panels = (panels.of_rows == code for code in panels.codes)
    return [np.column_stack([x[mine, column], y[mine]]) for mine in rows_of_panels]


def _lines_of_panels(
    model, factor, feature, x, panels: Panels, kind, coverage, n_points
) -> dict[str, Any]:
    """``grid``, ``mean``, ``population`` and ``bands`` of the display."""
    column = model.coef_names_.index(feature)
    grid = np.linspace(x[:, column].min(), x[:, column].max(), n_points)
    held = [x[panels.of_rows == code].mean(axis=0) for code in panels.codes]
    at = np.repeat(held, n_points, axis=0)
    at[:, column] = np.tile(grid, len(panels.codes))
    codes = line_codes(model, len(at), factor, np.repeat(panels.codes, n_points))
    shape = (len(panels.codes), n_points)
    q = tails(coverage)
    kinds = ("response", "mean") if kind == "both" else (kind,)
    return {
        "grid": grid,
        "mean": line_means(model, at, codes).reshape(shape),
        "population": line_means(model, at, line_codes(model, len(at))).reshape(shape),
        "bands": {k: line_quantiles(model, at, codes, q, k).reshape(*shape, 2) for k in kinds},
    }
