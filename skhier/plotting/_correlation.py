"""Heat map of the correlations between a factor's effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.plotting._choices import chosen_factor
from skhier.plotting._fit import fitted_model
from skhier.plotting._numerics import tails
from skhier.plotting._style import figure_and_axes
from skhier.plotting._text import printed_number, shortened
from skhier.utils.validation import check_choice, check_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CorrelationDisplay"]


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
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
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

        model, _ = fitted_model(estimator)
        factor = chosen_factor(model, factor)
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        corr = model.group_corr_[factor]
        if len(corr) < 2:
            raise ValueError(f"{factor!r} has one effect, the intercept: there is no correlation.")
        draws = model.posterior_["group_corr"][factor]
        if not np.any(draws[..., 0, 1]):
            raise ValueError(
                "Every correlation is 0: the model has correlated=False, or y was constant."
            )
        numbers = (draws.std(axis=(0, 1)), *np.quantile(draws, tails(coverage), axis=(0, 1)))
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
        figure, (axis,) = figure_and_axes(ax, 1, figsize=(side + 2.2, side + 1.0))
        shown = np.ma.masked_array(self.corr, np.eye(q, dtype=bool))
        image = axis.imshow(shown, **{**_colours(kwargs), "aspect": "auto"} | kwargs)
        axis.set_facecolor("0.93")
        for i in range(q):
            for j in range(q):
                self._write(axis, image, i, j, spread)
        names = [shortened(str(name), 20) for name in self.corr.columns]
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
            axis.text(j, i, printed_number(mean), va="center", **style)
            return
        axis.text(j, i - 0.02, printed_number(mean), va="bottom", **style)
        small = (
            f"({sd:.2f})" if spread == "sd" else f"{printed_number(low)} to {printed_number(high)}"
        )
        axis.text(j, i + 0.06, small, va="top", size="x-small", **style)


def _colours(user):
    """Of a correlation, as far as the user's ``norm`` or ``colorizer`` do not say it."""
    if "colorizer" in user:
        return {}
    ends_known = isinstance(user.get("norm"), str | type(None))
    return {"cmap": "RdBu_r"} | ({"vmin": -1, "vmax": 1} if ends_known else {})
