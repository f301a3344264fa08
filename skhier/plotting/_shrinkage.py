"""From each group's own least squares to its partially pooled coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.plotting._choices import chosen_effects, chosen_factor
from skhier.plotting._fit import fitted_model, forbid_link, rows_of
from skhier.plotting._numerics import ellipse, no_pooling, population_coef
from skhier.plotting._style import BOLD, add_legend, figure_and_axes, styled
from skhier.plotting._text import effect_label
from skhier.utils.validation import check_number, check_target

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ShrinkageDisplay"]


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
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
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

        model, X = fitted_model(estimator, X)
        factor = chosen_factor(model, factor)
        forbid_link(model, "ShrinkageDisplay", "least squares within each group")
        names = _two_effects(model, factor, effects)
        rows = rows_of(model, X)
        own = no_pooling(model, factor, rows, check_target(y, rows.x))
        table = model.group_coef_[factor]
        display = cls(
            no_pooling=pd.DataFrame(own, index=table.index, columns=table.columns)[names],
            partial_pooling=table[names],
            population=population_coef(model, names),
            covariance=_mean_covariance(model, factor, names),
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
        figure, (axis,) = figure_and_axes(ax, 1, figsize=(6.4, 5.6))
        levels = sorted(np.atleast_1d(coverage).tolist())
        for level in levels:
            check_number("coverage", level, low=0, high=1, open_ends=True)
        centre, pooled = self.population.to_numpy(), self.partial_pooling.to_numpy()
        curves = [ellipse(centre, self.covariance.to_numpy(), level) for level in levels]
        shares = ", ".join(f"{level:.0%}" for level in levels)
        label = f"population: {shares} of groups"
        for k, curve in enumerate(curves):
            axis.fill(*curve.T, fc=BOLD, alpha=0.12, lw=0, zorder=0, label=None if k else label)
            axis.plot(*curve.T, color=BOLD, lw=0.8, zorder=4)
        drawn = np.isfinite(self.no_pooling.to_numpy()).all(axis=1)
        self._draw_arrows(axis, drawn, kwargs)
        axis.plot(*centre, "P", color="C3", mec="white", ms=10, zorder=5, label="population mean")
        beyond = self._set_limits(axis, drawn, np.concatenate([*curves, pooled]))
        first, second = self.partial_pooling.columns
        axis.set(xlabel=effect_label(first), ylabel=effect_label(second))
        axis.set_title(self._title(drawn, beyond), loc="left", size="medium")
        add_legend(figure, axis, ax is None, ncols=2)
        self.ax_, self.figure_ = axis, figure
        return self

    def _draw_arrows(self, axis, drawn, kwargs):
        from matplotlib.quiver import Quiver

        own, pooled = (t.to_numpy()[drawn] for t in (self.no_pooling, self.partial_pooling))
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

    def _set_limits(self, axis, drawn, core):
        """Limits around what the model knows; how many least-squares points lie beyond."""
        own = self.no_pooling.to_numpy()[drawn]
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

    def _title(self, drawn, beyond):
        left_out = int((~drawn).sum())
        parts = [f"{len(self.no_pooling):,} levels of {self.factor}"]
        if left_out:
            parts.append(f"{left_out:,} not drawn: no least squares of their own")
        if beyond:
            parts.append(f"{beyond:,} start beyond the axes")
        return "\n".join(parts)


def _two_effects(model, factor, effects) -> list[str]:
    """Names of the plane's axes; None stands for the first two."""
    first_two = list(model.group_coef_[factor].columns[:2])
    if effects is None and len(first_two) < 2:
        raise ValueError(
            f"{factor!r} has one effect, the intercept; a plane needs two. "
            "GroupCoefDisplay draws one."
        )
    names = chosen_effects(model, factor, first_two if effects is None else effects)
    if len(names) != 2:
        raise ValueError(f"`effects` must name two effects. Got {names!r}.")
    return names


def _mean_covariance(model, factor, effects) -> pd.DataFrame:
    """Posterior mean of Sigma, (n_effects, n_effects), in units of y per units of x."""
    import pandas as pd

    known = list(model.group_coef_[factor].columns)
    at = [known.index(name) for name in effects]
    tau = model.posterior_["group_scale"][factor][..., at]
    omega = model.posterior_["group_corr"][factor][..., at, :][..., at]
    sigma = (tau[..., :, None] * omega * tau[..., None, :]).mean(axis=(0, 1))
    return pd.DataFrame(sigma, index=effects, columns=effects)
