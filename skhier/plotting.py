"""Pictures of a fitted model and of its predictions, as scikit-learn displays.

A display holds the numbers that it draws. ``from_estimator`` computes them and draws, ``plot``
draws again. Matplotlib, and ArviZ for :class:`TraceDisplay`, load with the first picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import gaussian_kde
from sklearn.utils.validation import check_is_fitted

from skhier.estimators._base import BaseHierarchical
from skhier.posterior.mixture import mixture_cdf
from skhier.posterior.posterior import OUT
from skhier.posterior.shares import variance_shares
from skhier.utils.design import Rows
from skhier.utils.diagnostics import hdi, is_constant
from skhier.utils.figures import axes_of, pyplot, styled
from skhier.utils.frames import as_float64
from skhier.utils.pipelines import unwrap
from skhier.utils.uniformity import rank_band
from skhier.utils.validation import check_choice, check_number, check_target

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CorrelationDisplay",
    "FittedLinesDisplay",
    "GroupCoefDisplay",
    "PosteriorPredictiveDisplay",
    "PredictiveCalibrationDisplay",
    "ShrinkageDisplay",
    "TraceDisplay",
    "VarianceSharesDisplay",
]

MOST_LABELS = 40  # levels beyond which their names are not readable
LABEL_LENGTH = 24
LEVELS_AT_ONCE = 500
CURVE_POINTS = 1000
N_CELLS = 100  # of the interval from 0 to 1, at whose ends a band is exact
KDE_POINTS = 1000
BOLD, FAINT, REFERENCE = "C0", "0.65", "0.35"


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
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
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
        model, _ = _fitted(estimator)
        factor = _factor_of(model, factor)
        names = _effects_of(model, factor, effects)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        check_choice("interval", interval, ("normal", "quantile"))
        coef = model.group_coef_[factor][names]
        if interval == "normal":
            reach = ndtri((1 + coverage) / 2) * model.group_coef_std_[factor][names]
            lower, upper = coef - reach, coef + reach
        else:
            lower, upper = _coef_quantiles(model, factor, names, coverage)
        display = cls(
            coef=coef,
            lower=lower,
            upper=upper,
            population=_population(model, names),
            factor=factor,
            coverage=coverage,
        )
        return display.plot(ax, sort_by=sort_by, **kwargs)

    def plot(self, ax: Any = None, *, sort_by: str | None = None, **kwargs: Any) -> Any:
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
        figure, axes = axes_of(ax, len(effects), figsize=(1.2 + 3.6 * len(effects), height))
        for axis, effect in zip(axes, effects, strict=True):
            order = np.argsort(self.coef[sort_by or effect].to_numpy(), kind="stable")
            self._draw(axis, effect, order, named, kwargs)
            axis.set_xlabel(_effect_label(effect))
            if named and (axis is axes[0] or sort_by is None):
                axis.set_yticks(np.arange(n), _words(self.coef.index[order]))
            else:
                axis.set_yticks([])
        by = f", by {_effect_label(sort_by).lower()}" if sort_by else ", sorted"
        axes[0].set_ylabel(self.factor if named else f"{n:,} levels of {self.factor}{by}")
        _legend(figure, axes[0], ax is None, ncols=3 if len(effects) > 1 else 1)
        self.axes_, self.figure_ = axes, figure
        return self

    def _draw(self, axis, effect, order, named, kwargs):
        at = np.arange(len(order))
        mean, low, high = (t[effect].to_numpy()[order] for t in (self.coef, self.lower, self.upper))
        style: dict[str, Any] = {"color": BOLD, "label": f"{self.coverage:.0%} interval"}
        thin = {"lw": min(1.5, max(0.3, 200 / len(order))), "alpha": 0.35}
        style |= {"lw": 1.5} if named else thin
        _draw_intervals(axis, at, low, high, style, kwargs)
        size = 4 if named else max(0.7, min(2.0, 800 / len(order)))
        axis.plot(mean, at, "o", color=BOLD, ms=size, mew=0, label="posterior mean")
        line = {"color": REFERENCE, "lw": 1.0, "ls": "--", "zorder": 0 if named else 3}
        axis.axvline(self.population[effect], label="population", **line)
        axis.set_ylim(-0.7, len(order) - 0.3)
        axis.spines[["top", "right"]].set_visible(False)


class ShrinkageDisplay:
    """Arrows from each group's own least squares to its partially pooled coefficients.

    Answers: how far, and in which direction, does the model pull the groups?

    Parameters
    ----------
    no_pooling, partial_pooling : DataFrame of shape (n_levels, 2)
        Least squares on a group's own rows, and posterior means; columns are the two effects.
        Rows of NaN in ``no_pooling`` are groups whose own least squares are not determined.
    population : Series of shape (2,)
        Posterior means of the population's coefficients.
    covariance : DataFrame of shape (2, 2)
        Posterior mean of the covariance Sigma of the two group effects.
    factor : str
        The grouping factor's name.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    """

    def __init__(
        self,
        *,
        no_pooling: pd.DataFrame,
        partial_pooling: pd.DataFrame,
        population: pd.Series,
        covariance: pd.DataFrame,
        factor: str,
    ):
        self.no_pooling, self.partial_pooling = no_pooling, partial_pooling
        self.population, self.covariance, self.factor = population, covariance, factor

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        factor: str | None = None,
        effects: Sequence[str] | None = None,
        coverage: float | Sequence[float] = (0.5, 0.9),
        ax: Any = None,
        **kwargs: Any,
    ) -> ShrinkageDisplay:
        """Fit every group on its own and draw.

        A group's own fit is least squares on the intercept and the varying slopes; what features
        without a varying slope and other grouping factors contribute, at the posterior mean, is
        subtracted from y first.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
            Fitted.
        X : table of shape (n_samples, n_features_in_)
        y : array of shape (n_samples,)
            The data of fit.
        factor : str or None
            The grouping factor; None: the only one.
        effects : two of str, or None
            Which effects: ``"intercept"`` and names of features. None: the first two, the
            intercept and the first varying slope.
        coverage, ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        ShrinkageDisplay

        Raises
        ------
        ValueError
            No grouping factor, no such effect, or not two of them.
        sklearn.exceptions.NotFittedError
        """
        import pandas as pd

        model, X = _fitted(estimator, X)
        factor = _factor_of(model, factor)
        table = model.group_coef_[factor]
        if effects is None and table.shape[1] < 2:
            raise ValueError(
                f"{factor!r} has one effect, the intercept; a plane needs two. "
                "GroupCoefDisplay draws one."
            )
        names = _effects_of(model, factor, list(table.columns[:2]) if effects is None else effects)
        if len(names) != 2:
            raise ValueError(f"`effects` must name two effects. Got {names!r}.")
        rows = model._rows_of(X, "group")
        own = _no_pooling(model, factor, rows, check_target(y, rows.x))
        at = [list(table.columns).index(name) for name in names]
        tau = model.posterior_["group_scale"][factor][..., at]
        omega = model.posterior_["group_corr"][factor][..., at, :][..., at]
        sigma = (tau[..., :, None] * omega * tau[..., None, :]).mean(axis=(0, 1))
        display = cls(
            no_pooling=pd.DataFrame(own, index=table.index, columns=table.columns)[names],
            partial_pooling=table[names],
            population=_population(model, names),
            covariance=pd.DataFrame(sigma, index=names, columns=names),
            factor=factor,
        )
        return display.plot(ax, coverage=coverage, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        coverage: float | Sequence[float] = (0.5, 0.9),
        **kwargs: Any,
    ) -> ShrinkageDisplay:
        """Draw arrows, population and ellipses.

        Parameters
        ----------
        ax : Axes or None
            None: a new figure.
        coverage : float or sequence of float in (0, 1)
            Shares of the population's groups inside the ellipses, which are those of a normal
            distribution with the posterior mean of Sigma around the population's posterior mean.
        **kwargs
            Of the arrows (``Axes.quiver``).

        Returns
        -------
        ShrinkageDisplay
            The display itself.
        """
        figure, (axis,) = axes_of(ax, 1, figsize=(6.4, 5.6))
        levels = sorted(np.atleast_1d(coverage).tolist())
        for level in levels:
            check_number("coverage", level, low=0, high=1, open_ends=True)
        centre, pooled = self.population.to_numpy(), self.partial_pooling.to_numpy()
        curves = [_ellipse(centre, self.covariance.to_numpy(), level) for level in levels]
        for k, curve in enumerate(curves):
            shares = ", ".join(f"{level:.0%}" for level in levels)
            label = f"population: {shares} of groups" if k == 0 else None
            axis.fill(*curve.T, fc=BOLD, alpha=0.12, lw=0, zorder=0, label=label)
            axis.plot(*curve.T, color=BOLD, lw=0.8, zorder=4)
        self._draw_arrows(axis, kwargs)
        axis.plot(*centre, "P", color="C3", mec="white", ms=10, zorder=5, label="population mean")
        beyond = self._set_limits(axis, np.concatenate([*curves, pooled]))
        first, second = self.partial_pooling.columns
        axis.set(xlabel=_effect_label(first), ylabel=_effect_label(second))
        axis.set_title(self._title(beyond), loc="left", size="medium")
        axis.spines[["top", "right"]].set_visible(False)
        _legend(figure, axis, ax is None, ncols=2)
        self.ax_, self.figure_ = axis, figure
        return self

    def _draw_arrows(self, axis, kwargs):
        from matplotlib.quiver import Quiver

        own, pooled = self.no_pooling.to_numpy(), self.partial_pooling.to_numpy()
        drawn = np.isfinite(own).all(axis=1)
        own, pooled = own[drawn], pooled[drawn]
        few = len(own) <= 100
        size, alpha = (5.0, 1.0) if few else (2.0, 0.6)
        style = {"color": "0.5", "width": 0.003} if few else {"color": "0.4", "width": 0.001}
        style |= {"alpha": 0.8 if few else 0.25, "headwidth": 4, "headlength": 5, "zorder": 2}
        style |= {"angles": "xy", "scale_units": "xy", "scale": 1}
        axis.quiver(*own.T, *(pooled - own).T, **styled(Quiver, style, kwargs))
        dots = {"ls": "none", "marker": "o", "ms": size, "alpha": alpha}
        label = f"each {self.factor} on its own"
        axis.plot(*own.T, **dots, mfc="none", mec="0.5", mew=0.25 * size**0.7, label=label)
        axis.plot(*pooled.T, **dots, color=BOLD, mew=0, zorder=3, label="partially pooled")

    def _set_limits(self, axis, core):
        """Limits around what the model knows; how many least-squares points lie beyond."""
        own = self.no_pooling.to_numpy()
        own = own[np.isfinite(own).all(axis=1)]
        low, high = core.min(axis=0), core.max(axis=0)
        size = np.where(high > low, high - low, 1.0)
        near = np.all((own >= low - size / 2) & (own <= high + size / 2), axis=1)
        shown = np.concatenate([core, own[near]])
        low, high = shown.min(axis=0), shown.max(axis=0)
        margin = 0.05 * np.where(high > low, high - low, 1.0)
        axis.set(
            xlim=(low[0] - margin[0], high[0] + margin[0]),
            ylim=(low[1] - margin[1], high[1] + margin[1]),
        )
        return int((~near).sum())

    def _title(self, beyond):
        left_out = int(self.no_pooling.isna().any(axis=1).sum())
        parts = [f"{len(self.no_pooling):,} levels of {self.factor}"]
        if left_out:
            parts.append(f"{left_out:,} not drawn: no least squares of their own")
        if beyond:
            parts.append(f"{beyond:,} start beyond the axes")
        return "\n".join(parts)


class FittedLinesDisplay:
    """Data and fitted lines against one feature, a panel per group.

    Answers: does each group's line fit its rows, and what does it share with the population?
    With several grouping factors a group's line is the population's plus the effects of this factor
    alone, and the points are the responses less the other factors' effects.

    Parameters
    ----------
    grid : array of shape (n_points,)
        Values of the feature, in its units.
    mean, population : array of shape (n_panels, n_points)
        The groups' lines and the population's, posterior means in units of y.
    bands : dict of str to array of shape (n_panels, n_points, 2)
        Ends of intervals: ``"mean"`` of the line, ``"response"`` of new observations.
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
        Names of the other grouping factors.

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
    ):
        self.grid, self.mean, self.population, self.bands = grid, mean, population, bands
        self.points, self.labels, self.coverage, self.n_groups = points, labels, coverage, n_groups
        self.feature_name, self.target_name, self.others = feature_name, target_name, others

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
        posterior mean, is subtracted from y. Without a grouping factor there is one panel.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
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
            The band: of the line, of new observations, or both.
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
        target_name = _name_of(y)
        model, X = _fitted(estimator, X)
        rows = model._rows_of(X, "group")
        y = check_target(y, rows.x)
        check_choice("kind", kind, ("mean", "response", "both"))
        check_number("max_groups", max_groups, low=1, integer=True)
        check_number("n_points", n_points, low=2, integer=True)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        if factor is not None or model.group_levels_:
            factor = _factor_of(model, factor)
        elif levels is not None:
            raise ValueError("`levels` names groups, but this model has no grouping factor.")
        feature = _feature_of(model, factor, feature)
        column = model.coef_names_.index(feature)
        if factor is None:
            codes, titles, n_groups = np.zeros(1, dtype=int), [""], 1
            row_codes = np.zeros(len(y), dtype=int)
        else:
            codes, labels, n_groups = _panel_codes(model, factor, feature, rows, levels, max_groups)
            titles = _panel_titles(factor, labels)
            row_codes = rows.codes[:, model._index_of(factor)]
            y = _without_others(model, factor, rows, y)
        points, held = [], []
        for code in codes:
            mine = row_codes == code
            points.append(np.column_stack([rows.x[mine, column], y[mine]]))
            held.append(rows.x[mine].mean(axis=0))
        grid = np.linspace(rows.x[:, column].min(), rows.x[:, column].max(), n_points)
        x = np.repeat(held, n_points, axis=0)
        x[:, column] = np.tile(grid, len(codes))
        population = np.full((len(x), rows.codes.shape[1]), OUT)
        of_groups = population.copy()
        if factor is not None:
            of_groups[:, model._index_of(factor)] = np.repeat(codes, n_points)
        lines = Rows(x, of_groups, rows.unseen)
        shape = (len(codes), n_points)
        tails = np.array([(1 - coverage) / 2, (1 + coverage) / 2])
        kinds = ("response", "mean") if kind == "both" else (kind,)
        display = cls(
            grid=grid,
            mean=model._posterior.mean(x, of_groups).reshape(shape),
            population=model._posterior.mean(x, population).reshape(shape),
            bands={k: model._quantiles(lines, tails, k).reshape(*shape, 2) for k in kinds},
            points=points,
            labels=titles,
            coverage=coverage,
            n_groups=n_groups,
            feature_name=feature,
            target_name=target_name,
            others=[name for name in model.group_levels_ if name != factor],
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
        figure, axes = axes_of(ax, n, n_columns, figsize=size, sharex=True, sharey=True)
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
        _legend(figure, axes[0], ax is None, ncols=4 if n_columns > 4 else 2, title=title)
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
        words = {"mean": "of the line", "response": "of new observations"}
        for kind, band in self.bands.items():
            style = {"color": BOLD, "alpha": 0.25 if kind == "mean" else 0.12, "lw": 0}
            label = f"{self.coverage:.0%} interval {words[kind]}"
            axis.fill_between(self.grid, *band[k].T, **style, label=label)
        grouped = bool(self.labels[k])
        label = "the group's line" if grouped else "fitted line"
        _draw_line(axis, self.grid, self.mean[k], {"color": BOLD, "label": label}, kwargs)
        if grouped:
            style = {"color": REFERENCE, "lw": 1.1, "ls": "--"}
            axis.plot(self.grid, self.population[k], **style, label="population line")
        axis.spines[["top", "right"]].set_visible(False)


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
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
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
        sklearn.exceptions.NotFittedError
        """
        model, X = _fitted(estimator, X)
        check_number("n_replicates", n_replicates, low=1, integer=True)
        drawn = model.sample_y(X, n_replicates, random_state=random_state)
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
        target_name = _name_of(y)
        replicated = as_float64(y_replicated, "y_replicated")
        if replicated.ndim != 2:
            raise ValueError(
                "`y_replicated` must be of shape (n_samples, n_replicates). "
                f"Got {replicated.shape}."
            )
        y = check_target(y, replicated)
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
        figure, (axis,) = axes_of(ax, 1, figsize=(6.4, 4.4))
        draw = _draw_density if kind == "kde" else _draw_ecdf
        every = np.concatenate([self.y, self.y_replicated.ravel()])
        ends = every.min(), every.max()
        n_replicates = self.y_replicated.shape[1]
        label = f"{n_replicates} replicated data sets"
        for k, replicate in enumerate(self.y_replicated.T):
            style = {"color": BOLD, "lw": 0.7, "alpha": max(0.1, min(0.6, 15 / n_replicates))}
            draw(axis, replicate, ends, style | {"label": None if k else label}, {})
        style = {"color": "black", "lw": 1.8, "label": "observed"}
        draw(axis, self.y, ends, style, kwargs)
        axis.set(
            xlabel=self.target_name,
            ylabel="Density" if kind == "kde" else "Share of rows up to this value",
        )
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
        _legend(figure, axis, ax is None, ncols=2)
        self.ax_, self.figure_ = axis, figure
        return self


class CorrelationDisplay:
    """Heat map of the correlations between a factor's effects.

    Answers: do groups with a higher intercept have steeper slopes, and is that certain?

    Parameters
    ----------
    corr : DataFrame of shape (n_effects, n_effects)
        Posterior means.
    sd, lower, upper : DataFrame of shape (n_effects, n_effects)
        Posterior sds and ends of equal-tailed intervals.
    factor : str
        The grouping factor's name.
    coverage : float
        Of each interval.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    """

    def __init__(
        self,
        *,
        corr: pd.DataFrame,
        sd: pd.DataFrame,
        lower: pd.DataFrame,
        upper: pd.DataFrame,
        factor: str,
        coverage: float,
    ):
        self.corr, self.sd, self.lower, self.upper = corr, sd, lower, upper
        self.factor, self.coverage = factor, coverage

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        factor: str | None = None,
        coverage: float = 0.9,
        spread: str | None = "interval",
        ax: Any = None,
        **kwargs: Any,
    ) -> CorrelationDisplay:
        """Take means, sds and intervals from the posterior, and draw.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
            Fitted.
        factor : str or None
            The grouping factor; None: the only one.
        coverage : float in (0, 1)
        spread, ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        CorrelationDisplay

        Raises
        ------
        ValueError
            No grouping factor, no such factor, only one effect, or correlations that are 0.
        sklearn.exceptions.NotFittedError
        """
        import pandas as pd

        model, _ = _fitted(estimator)
        factor = _factor_of(model, factor)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        corr = model.group_corr_[factor]
        if len(corr) < 2:
            raise ValueError(f"{factor!r} has one effect, the intercept: there is no correlation.")
        draws = model.posterior_["group_corr"][factor]
        if not np.any(draws[..., 0, 1]):
            raise ValueError(
                "Every correlation is 0: the model has correlated=False, or y was constant."
            )
        tails = [(1 - coverage) / 2, (1 + coverage) / 2]
        numbers = (draws.std(axis=(0, 1)), *np.quantile(draws, tails, axis=(0, 1)))
        sd, lower, upper = (pd.DataFrame(a, corr.index, corr.columns) for a in numbers)
        display = cls(corr=corr, sd=sd, lower=lower, upper=upper, factor=factor, coverage=coverage)
        return display.plot(ax, spread=spread, **kwargs)

    def plot(
        self, ax: Any = None, *, spread: str | None = "interval", **kwargs: Any
    ) -> CorrelationDisplay:
        """Draw the matrix, colours centred at 0.

        Parameters
        ----------
        ax : Axes or None
            None: a new figure.
        spread : {"interval", "sd"} or None
            What the smaller print says.
        **kwargs
            Of the heat map (``Axes.imshow``).

        Returns
        -------
        CorrelationDisplay
            The display itself.
        """
        if spread is not None:
            check_choice("spread", spread, ("interval", "sd"))
        q = len(self.corr)
        side = max(1.1 if spread == "interval" else 0.9, 3.0 / q) * q
        figure, (axis,) = axes_of(ax, 1, figsize=(side + 2.2, side + 1.0))
        shown = np.ma.masked_array(self.corr, np.eye(q, dtype=bool))
        image = axis.imshow(shown, **{**_colours(kwargs), "aspect": "auto"} | kwargs)
        axis.set_facecolor("0.93")
        for i in range(q):
            for j in range(q):
                self._write(axis, image, i, j, spread)
        names = [_short(str(name), 20) for name in self.corr.columns]
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(q), names, **(turn if max(map(len, names)) * q > 40 else {}))
        axis.set_yticks(range(q), names)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(f"Correlations across {self.factor}", loc="left", size="medium")
        below = {
            None: "",
            "sd": " (sd)",
            "interval": f" ({self.coverage:.0%} interval)",
        }
        bar = figure.colorbar(image, ax=axis, shrink=0.8, ticks=[-1, -0.5, 0, 0.5, 1])
        bar.set_label(f"Posterior mean{below[spread]}")
        bar.outline.set_visible(False)
        self.ax_, self.figure_ = axis, figure
        return self

    def _write(self, axis, image, i, j, spread):
        mean, sd, low, high = (
            table.to_numpy()[i, j] for table in (self.corr, self.sd, self.lower, self.upper)
        )
        if i == j:
            axis.text(j, i, "1", ha="center", va="center", color="0.5")
            return
        red, green, blue, _ = image.cmap(image.norm(mean))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        style = {"ha": "center", "color": "white" if dark else "black"}
        if spread is None:
            axis.text(j, i, _number(mean), va="center", **style)
            return
        axis.text(j, i - 0.02, _number(mean), va="bottom", **style)
        small = f"({sd:.2f})" if spread == "sd" else f"{_number(low)} to {_number(high)}"
        axis.text(j, i + 0.06, small, va="top", size="x-small", **style)


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
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
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

        model, _ = _fitted(estimator)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        names = list(model.group_levels_)
        if not names:
            raise ValueError("This model has no grouping factor: all of the variance is residual.")
        if model.diagnostics_["engine"] == "constant":
            raise ValueError("y was constant: there is no variance to share.")
        draws = np.stack(variance_shares(model._posterior).icc, axis=-1)
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
        figure, (axis,) = axes_of(ax, 1, figsize=(6.4, 1.5 + 0.4 * len(at)))
        label = f"{self.coverage:.0%} interval"
        style = {"color": BOLD, "lw": 2.0, "label": label}
        _draw_intervals(axis, at, percent["lower"], percent["upper"], style, kwargs)
        axis.plot(percent["mean"], at, "o", color=BOLD, ms=6, mew=0, label="posterior mean")
        for y, (mean, low, high) in zip(at, percent.to_numpy(), strict=True):
            words = {"va": "center", "ha": "left", "size": "small", "color": REFERENCE}
            place = {"xytext": (8, 0), "textcoords": "offset points"}
            axis.annotate(f"{mean:.1f} ({low:.1f} to {high:.1f})", (high, y), **place, **words)
        axis.set_yticks(at, _words(self.shares.index))
        axis.set(xlim=(0, 100), ylim=(len(at) - 0.5, -0.5))
        axis.set_xlabel("Share of the variance that the features leave, %")
        axis.spines[["top", "right"]].set_visible(False)
        _legend(figure, axis, ax is None, ncols=2)
        self.ax_, self.figure_ = axis, figure
        return self


class PredictiveCalibrationDisplay:
    """Are the predictive distributions as wide as they should be?

    The probability integral transform (PIT) of a row is the predictive probability of a response
    below the observed one. Of a calibrated model and rows that fit did not see, the PITs are
    uniform.

    Parameters
    ----------
    pit : array of shape (n_samples,)
        In [0, 1].

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    Notes
    -----
    The band holds the whole curve, at 99 points, with probability `coverage` if the PITs are
    independent and uniform: it is simultaneous and exact (Sailynoja et al.). Rows that share
    a group or an uncertain coefficient are not quite independent, and PITs of the rows of fit are
    closer to 1/2 than uniform ones: leave rows out.

    References
    ----------
    Sailynoja, Buerkner and Vehtari (2022), Stat. Comput. 32:32. Gneiting, Balabdaoui and Raftery
    (2007), J. R. Stat. Soc. B 69(2), 243-268.
    """

    def __init__(self, *, pit: np.ndarray):
        self.pit = pit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        kind: str = "pit",
        coverage: float = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> PredictiveCalibrationDisplay:
        """Compute the PITs in closed form, as averages over the posterior of normal ones.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
            Fitted.
        X : table of shape (n_samples, n_features_in_)
        y : array of shape (n_samples,)
            Rows that fit did not see.
        kind, coverage, ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        PredictiveCalibrationDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
        """
        model, X = _fitted(estimator, X)
        rows = model._rows_of(X, "group")
        y = check_target(y, rows.x)
        pit = np.empty(len(y))
        for at, mean, sd in model._posterior.response_mixture(rows.x, rows.codes):
            pit[at] = mixture_cdf(y[at], mean, sd)
        return cls(pit=pit).plot(ax, kind=kind, coverage=coverage, **kwargs)

    @classmethod
    def from_predictions(
        cls, pit: Any, *, kind: str = "pit", coverage: float = 0.95, ax: Any = None, **kwargs: Any
    ) -> PredictiveCalibrationDisplay:
        """Draw given PITs, of cross-validation for example.

        Parameters
        ----------
        pit : array of shape (n_samples,)
        kind, coverage, ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        PredictiveCalibrationDisplay

        Raises
        ------
        ValueError
            Not one-dimensional, or not in [0, 1].
        """
        pit = as_float64(pit, "pit")
        if pit.ndim != 1 or pit.min() < 0 or pit.max() > 1:
            raise ValueError(
                "`pit` must be one-dimensional with numbers from 0 to 1. "
                f"Got shape {pit.shape}, from {pit.min():g} to {pit.max():g}."
            )
        return cls(pit=pit).plot(ax, kind=kind, coverage=coverage, **kwargs)

    def plot(
        self, ax: Any = None, *, kind: str = "pit", coverage: float = 0.95, **kwargs: Any
    ) -> PredictiveCalibrationDisplay:
        """Draw the curve and the band.

        Parameters
        ----------
        ax : Axes or None
            None: a new figure.
        kind : {"pit", "coverage"}
            ``"pit"``: the empirical distribution function of the PITs minus the uniform one.
            ``"coverage"``: which share of the rows the central predictive intervals cover, against
            their nominal coverage; a row is inside the interval of coverage ``|2 PIT - 1|`` and
            more.
        coverage : float in (0, 1)
            Of the band: the probability that a calibrated model's curve is inside all along.
        **kwargs
            Of the curve (``Axes.plot``).

        Returns
        -------
        PredictiveCalibrationDisplay
            The display itself.
        """
        check_choice("kind", kind, ("pit", "coverage"))
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        figure, (axis,) = axes_of(ax, 1, figsize=(6.4, 4.4) if kind == "pit" else (5.0, 5.0))
        values = np.sort(self.pit if kind == "pit" else np.abs(2 * self.pit - 1))
        n = len(values)
        points = np.arange(N_CELLS + 1) / N_CELLS
        lower, upper = (
            np.concatenate([[0], counts, [n]]) / n
            for counts in rank_band(n, N_CELLS, float(coverage))
        )
        found = np.searchsorted(values, points) / n
        found[-1] = 1.0
        base = points if kind == "pit" else 0.0
        style = {"color": FAINT, "alpha": 0.35, "lw": 0}
        band = f"{coverage:.0%} band if calibrated"
        axis.fill_between(points, lower - base, upper - base, **style, label=band)
        axis.plot(points, points - base, color=REFERENCE, lw=1.0, ls="--", label="calibrated")
        label = f"observed ({n:,} rows)"
        style = {"color": BOLD, "lw": 1.6, "label": label}
        _draw_line(axis, points, found - base, style, kwargs)
        if kind == "pit":
            axis.set(xlabel="PIT", ylabel="ECDF - uniform", xlim=(0, 1))
            reach = 1.15 * max(abs(value) for value in axis.get_ylim())
            axis.set_ylim(-reach, reach)
        else:
            words = {"xlabel": "Nominal coverage", "ylabel": "Observed coverage"}
            axis.set(**words, xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.spines[["top", "right"]].set_visible(False)
        _legend(figure, axis, ax is None, ncols=3 if kind == "pit" else 2)
        self.ax_, self.figure_ = axis, figure
        return self


class TraceDisplay:
    """Trace or rank plots of the posterior draws, by ArviZ.

    Answers: have the chains mixed? Independent draws (``diagnostics_["sampler"]`` is
    ``"importance"``) are no chains: their traces are noise, and ranks uniform, by construction.

    Parameters
    ----------
    draws : dict of str to array of shape (n_chains, n_draws)
        Parameters under their names in ``summary()``.

    Attributes
    ----------
    axes_ : array of Axes
        In ArviZ's order.
    figure_ : Figure

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Bayesian Analysis 16(2), sec. 5.
    """

    def __init__(self, *, draws: Mapping[str, np.ndarray]):
        self.draws = draws

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        parameters: str | Sequence[str] | None = None,
        kind: str = "trace",
        **kwargs: Any,
    ) -> TraceDisplay:
        """Take the draws of the parameters that vary, and draw.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor or Pipeline that ends in one
            Fitted.
        parameters : str, list of str or None
            Names as in ``summary(group_effects=True)``, such as ``"coef[Days]"``; None: all but
            the group effects.
        kind, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        TraceDisplay

        Raises
        ------
        ValueError
            No such parameter, or none that varies.
        sklearn.exceptions.NotFittedError
        """
        model, _ = _fitted(estimator)
        wanted = [parameters] if isinstance(parameters, str) else parameters
        known = model._named_draws(False)
        if wanted is not None and not set(wanted) <= set(known):
            known = model._named_draws(True)
        for name in wanted or ():
            if name not in known:
                shown = ", ".join(map(repr, list(known)[:20]))
                raise ValueError(f"{name!r} is not a parameter of this fit. Parameters: {shown}.")
        draws = {name: known[name] for name in (known if wanted is None else wanted)}
        draws = {name: values for name, values in draws.items() if not is_constant(values)}
        if not draws:
            raise ValueError("None of these parameters varies: there is nothing to draw.")
        return cls(draws=draws).plot(kind=kind, **kwargs)

    def plot(self, *, kind: str = "trace", **kwargs: Any) -> TraceDisplay:
        """Draw a row, or a panel, per parameter in a new figure.

        Parameters
        ----------
        kind : {"trace", "rank"}
            Densities and traces of the chains; or the distribution of each chain's ranks among
            all, which is uniform if the chains agree.
        **kwargs
            Of ArviZ's function: ``plot_trace`` or ``plot_rank`` before ArviZ 1.0,
            ``plot_trace_dist`` or ``plot_rank`` after.

        Returns
        -------
        TraceDisplay
            The display itself.
        """
        check_choice("kind", kind, ("trace", "rank"))
        pyplot()  # or an error that says what to install
        import arviz as az

        draws = {
            name if len(name) < 20 else name.replace("[", "\n["): values
            for name, values in self.draws.items()
        }
        if hasattr(az, "plot_trace_dist"):  # since ArviZ 1.0
            data = az.from_dict({"posterior": draws})
            draw = az.plot_trace_dist if kind == "trace" else az.plot_rank
            figure = draw(data, backend="matplotlib", **kwargs).viz["figure"].item()
        else:
            data = az.from_dict(posterior=draws)
            draw = az.plot_trace if kind == "trace" else az.plot_rank
            figure = np.ravel(draw(data, backend="matplotlib", **kwargs))[0].figure
        rows = figure.axes[0].get_gridspec().nrows
        figure.set_size_inches(10.0, 1.0 + (1.5 if kind == "trace" else 2.0) * rows)
        figure.set_layout_engine("constrained")
        for axis in figure.axes:
            axis.tick_params(labelsize="small")
            for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
                text.set_size("small")
        self.axes_, self.figure_ = np.array(figure.axes), figure
        return self


def _legend(figure, axis, own_figure, ncols, title=None):
    """Above a figure of one's own, inside the axes of somebody else's; faint artists in full."""
    handles, labels = axis.get_legend_handles_labels()
    style: dict[str, Any] = {"frameon": False, "title": title}
    if own_figure:
        made = figure.legend(handles, labels, loc="outside upper center", ncols=ncols, **style)
    else:
        made = axis.legend(handles, labels, fontsize="small", **style)
    for handle in made.legend_handles:
        if hasattr(handle, "set_markersize"):
            handle.set(alpha=1.0, markersize=max(5.0, handle.get_markersize()))
        if hasattr(handle, "get_segments") or getattr(handle, "get_linewidth", float)() > 0:
            handle.set(alpha=1.0, linewidth=max(1.2, np.max(handle.get_linewidth())))


def _fitted(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """The estimator, out of its search and its pipeline, and X as it sees it."""
    estimator, X = unwrap(estimator, X)
    if not isinstance(estimator, BaseHierarchical):
        raise TypeError(
            "`estimator` must be a HierarchicalSlopesRegressor, or a Pipeline or search that ends "
            f"in one. Got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    return estimator, X


def _factor_of(model, factor) -> str:
    known = list(model.group_levels_)
    if factor is None and len(known) == 1:
        return known[0]
    if not known:
        raise ValueError("This model has no grouping factor (groups=None): no groups to draw.")
    if factor is None:
        raise ValueError(f"`factor` must name one of {', '.join(map(repr, known))}.")
    model._index_of(factor)
    return factor


def _effects_of(model, factor, effects) -> list[str]:
    known = list(model.group_coef_[factor].columns)
    names = known if effects is None else [effects] if isinstance(effects, str) else list(effects)
    for name in names:
        if name not in known:
            shown = ", ".join(map(repr, known))
            raise ValueError(f"{name!r} is not an effect of {factor!r}. Effects: {shown}.")
    if len(names) != len(set(names)) or not names:
        raise ValueError(f"`effects` must name effects, each once. Got {names!r}.")
    return names


def _feature_of(model, factor, feature) -> str:
    known = model.coef_names_
    if not known:
        raise ValueError("This model has no features: there is nothing to draw lines against.")
    if feature is None:
        varying = list(model.group_coef_[factor].columns[1:]) if factor else []
        return varying[0] if varying else known[0]
    if feature not in known:
        shown = ", ".join(map(repr, known[:20]))
        raise ValueError(f"`feature={feature!r}` is not a feature of this fit. Features: {shown}.")
    return feature


def _population(model, effects) -> pd.Series:
    import pandas as pd

    # a feature without a varying slope may be called "intercept" too
    values = dict(zip(model.coef_names_, model.coef_, strict=True)) | {
        "intercept": model.intercept_
    }
    return pd.Series({name: float(values[name]) for name in effects})


def _coef_quantiles(model, factor, effects, coverage) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Quantiles of population plus group effect over the draws in ``posterior_``."""
    import pandas as pd

    table, levels = model.group_coef_[factor], model.group_levels_[factor]
    at = [list(table.columns).index(name) for name in effects]
    draws = model.posterior_
    slopes = [draws["coef"][..., model.coef_names_.index(name)] for name in table.columns[1:]]
    population = np.stack([draws["intercept"], *slopes], axis=-1).reshape(-1, 1, table.shape[1])
    tails, found = [(1 - coverage) / 2, (1 + coverage) / 2], []
    for first in range(0, len(levels), LEVELS_AT_ONCE):
        some = model.sample_group_effects(factor, levels[first : first + LEVELS_AT_ONCE])
        found.append(np.quantile((population + some)[..., at], tails, axis=0))
    ends = np.concatenate(found, axis=1)
    lower, upper = (pd.DataFrame(end, table.index, effects) for end in ends)
    return lower, upper


def _no_pooling(model, factor, rows, y) -> np.ndarray:
    """Each known group's own least squares, (n_levels, n_effects); NaN where not determined."""
    names = list(model.group_coef_[factor].columns[1:])
    varying = [model.coef_names_.index(name) for name in names]
    fixed = [j for j in range(rows.x.shape[1]) if j not in varying]
    y = _without_others(model, factor, rows, y) - rows.x[:, fixed] @ model.coef_[fixed]
    z = rows.x[:, varying]
    scale = np.where((spread := z.std(axis=0)) > 0, spread, 1.0)
    found = np.full((len(model.group_levels_[factor]), 1 + len(names)), np.nan)
    of_rows = rows.codes[:, model._index_of(factor)]
    order = np.argsort(of_rows, kind="stable")
    codes, starts = np.unique(of_rows[order], return_index=True)
    for code, mine in zip(codes, np.split(order, starts[1:]), strict=True):
        if code >= len(found) or len(mine) < found.shape[1]:
            continue
        origin = z[mine[0]]  # exactly 0 where x is constant, at any offset
        design = np.column_stack([np.ones(len(mine)), (z[mine] - origin) / scale])
        coef, _, rank, _ = np.linalg.lstsq(design, y[mine], rcond=1e-8)
        if rank == design.shape[1]:
            slopes = coef[1:] / scale
            found[code] = [coef[0] - slopes @ origin, *slopes]
    return found


def _without_others(model, factor, rows, y) -> np.ndarray:
    """Responses less the effects, at the posterior mean, of all other grouping factors."""
    others, population = rows.codes.copy(), np.full_like(rows.codes, OUT)
    others[:, model._index_of(factor)] = OUT
    return y - (model._posterior.mean(rows.x, others) - model._posterior.mean(rows.x, population))


def _panel_codes(model, factor, feature, rows, levels, max_groups):
    """Codes and labels of the panels, and of how many groups they are a choice."""
    k = model._index_of(factor)
    known = [*model.group_levels_[factor], *rows.unseen[k]]
    present = np.unique(rows.codes[:, k])
    if levels is not None:
        code_of = {known[code]: code for code in present}
        missing = [label for label in levels if label not in code_of]
        if missing or not len(levels):
            shown = ", ".join(map(repr, missing[:5])) or "none were named"
            raise ValueError(f"`levels` must be levels of {factor!r} in X: {shown}.")
        chosen = np.array([code_of[label] for label in levels])
    else:
        table = model.group_coef_[factor]
        effect = feature if feature in table.columns[1:] else "intercept"
        newcomers = np.full(len(rows.unseen[k]), _population(model, [effect])[effect])
        size = np.concatenate([table[effect].to_numpy(), newcomers])[present]
        ranks = np.linspace(0, len(present) - 1, min(max_groups, len(present)))
        chosen = present[np.argsort(size, kind="stable")[ranks.round().astype(int)]]
    return chosen, [known[code] for code in chosen], len(present)


def _panel_titles(factor, labels) -> list[str]:
    words = _words(labels)
    named = [f"{factor} {word}" for word in words]
    too_long = isinstance(labels[0], tuple) and max(map(len, named)) > LABEL_LENGTH
    return words if too_long or words[0].startswith(factor) else named


def _ellipse(centre, covariance, level) -> np.ndarray:
    """Outline, (n_points, 2), that holds this share of a bivariate normal distribution."""
    values, vectors = np.linalg.eigh(covariance)
    reach = np.sqrt(-2 * np.log1p(-level) * np.maximum(values, 0))  # chi-squared, 2 df
    angle = np.linspace(0, 2 * np.pi, 200)
    return centre + (np.column_stack([np.cos(angle), np.sin(angle)]) * reach) @ vectors.T


def _draw_line(axis, x, y, style, user):
    from matplotlib.lines import Line2D

    axis.plot(x, y, **styled(Line2D, style, user))


def _draw_intervals(axis, at, low, high, style, user):
    from matplotlib.collections import LineCollection

    axis.hlines(at, low, high, **styled(LineCollection, style, user))


def _colours(user):
    """Of a correlation, as far as the user's ``norm`` or ``colorizer`` do not say it."""
    if "colorizer" in user:
        return {}
    ends_known = isinstance(user.get("norm"), str | type(None))
    return {"cmap": "RdBu_r"} | ({"vmin": -1, "vmax": 1} if ends_known else {})


def _draw_density(axis, values, ends, style, user):
    bandwidth = len(values) ** -0.2  # Scott's rule
    if len(values) > KDE_POINTS:
        values = np.quantile(values, (np.arange(KDE_POINTS) + 0.5) / KDE_POINTS)
    margin = 3 * bandwidth * values.std()
    grid = np.linspace(ends[0] - margin, ends[1] + margin, 200)
    _draw_line(axis, grid, gaussian_kde(values, bandwidth)(grid), style, user)


def _draw_ecdf(axis, values, ends, style, user):
    """Steps; of many rows, at some of them."""
    n = min(len(values), CURVE_POINTS)
    counts = np.arange(1, n + 1) * len(values) // n
    curve = [ends[0], *np.sort(values)[counts - 1], ends[1]], [0.0, *counts / len(values), 1.0]
    _draw_line(axis, *curve, style | {"drawstyle": "steps-post"}, user)


def _effect_label(effect) -> str:
    return "Intercept" if effect == "intercept" else f"Slope of {effect}"


def _number(value) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _name_of(y) -> str:
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else "y"


def _words(labels) -> list[str]:
    """Labels to print; days without a time, of a nesting ``state:cafe``."""
    import pandas as pd

    index = labels if isinstance(labels, pd.Index) else pd.Index(labels)
    columns = [index.get_level_values(k).astype(str) for k in range(index.nlevels)]
    return [_short(":".join(parts)) for parts in zip(*columns, strict=True)]


def _short(text: str, length: int = LABEL_LENGTH) -> str:
    """Both ends of a long text: either may tell it from others."""
    head, tail = length - length // 2 - 1, length // 2
    return text if len(text) <= length else f"{text[:head]}…{text[-tail:]}"
