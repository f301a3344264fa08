"""Are predictive distributions as wide as they should be? Probability integral transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier.plotting._fit import fitted_model, forbid_discrete, probabilities_below, rows_of
from skhier.plotting._replicates import read_probabilities
from skhier.plotting._style import BOLD, FAINT, REFERENCE, add_legend, draw_line, figure_and_axes
from skhier.utils.uniformity import rank_band
from skhier.utils.validation import check_choice, check_number, check_target

__all__ = ["PredictiveCalibrationDisplay"]

N_CELLS = 100  # of the interval from 0 to 1, at whose ends a band is exact


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
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
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
        model, X = fitted_model(estimator, X)
        forbid_discrete(model)
        rows = rows_of(model, X)
        y = check_target(y, rows.x)
        display = cls(pit=probabilities_below(model, rows, y))
        return display.plot(ax, kind=kind, coverage=coverage, **kwargs)

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
        display = cls(pit=read_probabilities(pit, "pit"))
        return display.plot(ax, kind=kind, coverage=coverage, **kwargs)

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
        figure, (axis,) = figure_and_axes(
            ax, 1, figsize=(6.4, 4.4) if kind == "pit" else (5.0, 5.0)
        )
        values = np.sort(self.pit if kind == "pit" else np.abs(2 * self.pit - 1))
        n = len(values)
        points = np.arange(N_CELLS + 1) / N_CELLS
        lower, upper = (
            np.concatenate([[0], counts, [n]]) / n
            for counts in rank_band(n, N_CELLS, float(coverage))
        )
        share = np.searchsorted(values, points) / n
        share[-1] = 1.0
        base = points if kind == "pit" else 0.0
        style = {"color": FAINT, "alpha": 0.35, "lw": 0}
        band = f"{coverage:.0%} band if calibrated"
        axis.fill_between(points, lower - base, upper - base, **style, label=band)
        axis.plot(points, points - base, color=REFERENCE, lw=1.0, ls="--", label="calibrated")
        label = f"observed ({n:,} rows)"
        style = {"color": BOLD, "lw": 1.6, "label": label}
        draw_line(axis, points, share - base, style, kwargs)
        if kind == "pit":
            axis.set(xlabel="PIT", ylabel="ECDF - uniform", xlim=(0, 1))
            reach = 1.15 * max(abs(value) for value in axis.get_ylim())
            axis.set_ylim(-reach, reach)
        else:
            words = {"xlabel": "Nominal coverage", "ylabel": "Observed coverage"}
            axis.set(**words, xlim=(0, 1), ylim=(0, 1), aspect="equal")
        add_legend(figure, axis, ax is None, ncols=3 if kind == "pit" else 2)
        self.ax_, self.figure_ = axis, figure
        return self
