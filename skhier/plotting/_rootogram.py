"""How often each count was observed and expected, on the scale of square roots."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier.plotting._fit import fitted_model, forbid_all_but_counts
from skhier.plotting._numerics import tails
from skhier.plotting._replicates import draw_replicates, read_replicates
from skhier.plotting._style import BOLD, REFERENCE, add_legend, draw_line, figure_and_axes
from skhier.utils.validation import check_choice, check_number

__all__ = ["RootogramDisplay"]

MAX_BARS = 60  # more values than that share bars


class RootogramDisplay:
    """Posterior predictive check of counts: how often each value is there, and was expected.

    Answers: are there too many zeros, too many large counts, too little spread? Square roots of
    frequencies make deviations of rare values as visible as those of frequent ones.

    Parameters
    ----------
    values : array of shape (n_bars + 1,)
        Edges of the bars: bar k counts the values from ``values[k]`` to before ``values[k + 1]``.
    observed : array of shape (n_bars,)
        Numbers of rows.
    expected : array of shape (n_bars,)
        Their posterior predictive means.
    bands : array of shape (n_bars, 2)
        Ends of the posterior predictive intervals of the numbers of rows.
    coverage : float
        Of the intervals, each on its own.
    target_name : str

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    References
    ----------
    Kleiber and Zeileis (2016), Am. Stat. 70(3), 296-303.
    """

    def __init__(
        self,
        *,
        values: np.ndarray,
        observed: np.ndarray,
        expected: np.ndarray,
        bands: np.ndarray,
        coverage: float = 0.9,
        target_name: str = "y",
    ):
        self.values, self.observed, self.expected = values, observed, expected
        self.bands, self.coverage, self.target_name = bands, coverage, target_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_replicates: int = 500,
        random_state: Any = None,
        kind: str = "hanging",
        coverage: float = 0.9,
        max_value: int | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RootogramDisplay:
        """Count the values of y and of replicated data sets for the rows of X.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
            Fitted, of a response that counts.
        X : table of shape (n_samples, n_features_in_)
        y : array of shape (n_samples,)
        n_replicates : int
        random_state : int, RandomState or None
            Of ``sample_y``.
        kind, coverage, max_value, ax, **kwargs
            As in :meth:`from_predictions`.

        Returns
        -------
        RootogramDisplay

        Raises
        ------
        ValueError
            A response that does not count.
        sklearn.exceptions.NotFittedError
        """
        model, X = fitted_model(estimator, X)
        forbid_all_but_counts(model)
        drawn = draw_replicates(model, X, n_replicates, random_state)
        shown = {"coverage": coverage, "max_value": max_value, "ax": ax, **kwargs}
        return cls.from_predictions(y, drawn, kind=kind, **shown)

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        y_replicated: Any,
        *,
        kind: str = "hanging",
        coverage: float = 0.9,
        max_value: int | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RootogramDisplay:
        """Count the values of given replicated data sets.

        Parameters
        ----------
        y : array of shape (n_samples,)
            Counts. Its name, if it has one, labels the axis.
        y_replicated : array of shape (n_samples, n_replicates)
        kind, ax, **kwargs
            As in :meth:`plot`.
        coverage : float in (0, 1)
            Of the intervals.
        max_value : int or None
            Largest count that is drawn; None: the largest of y, or the value that 99.9% of the
            replicated counts do not exceed, if that is larger. Larger ones are left out; more than
            60 values share bars.

        Returns
        -------
        RootogramDisplay

        Raises
        ------
        ValueError
            Lengths that differ, or numbers that are no counts.
        """
        target_name, y, replicated = read_replicates(y, y_replicated)
        for name, counts in (("y", y), ("y_replicated", replicated)):
            wrong = counts[(counts < 0) | (counts != np.rint(counts))]
            if len(wrong):
                raise ValueError(f"`{name}` must hold counts, 0, 1, 2, ... Got {wrong[0]:g}.")
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        if max_value is not None:
            check_number("max_value", max_value, low=1, integer=True)
        last = max(y.max(), np.quantile(replicated, 0.999)) if max_value is None else max_value
        values = np.arange(0.0, last + 2.0, np.ceil((last + 1.0) / MAX_BARS))
        if values[-1] <= last:
            values = np.append(values, 2 * values[-1] - values[-2])
        of_replicates = np.stack([_frequencies(one, values) for one in replicated.T])
        return cls(
            values=values,
            observed=_frequencies(y, values),
            expected=of_replicates.mean(0),
            bands=np.quantile(of_replicates, tails(coverage), axis=0).T,
            coverage=coverage,
            target_name=target_name,
        ).plot(ax, kind=kind, **kwargs)

    def plot(self, ax: Any = None, *, kind: str = "hanging", **kwargs: Any) -> RootogramDisplay:
        """Draw bars and the expected frequencies.

        Parameters
        ----------
        ax : Axes or None
            None: a new figure.
        kind : {"hanging", "suspended", "standing"}
            Bars of the observed frequencies hang from the expected ones, so that they should end
            at 0, within the band; ``"suspended"``: the expected less the observed, alone;
            ``"standing"``: bars from 0, and the band around what was expected.
        **kwargs
            Of the line of expected frequencies, or with ``"suspended"`` of the line at 0
            (``Axes.plot``).

        Returns
        -------
        RootogramDisplay
            The display itself.
        """
        check_choice("kind", kind, ("hanging", "suspended", "standing"))
        figure, (axis,) = figure_and_axes(ax, 1, figsize=(6.4, 4.4))
        middle, width = (self.values[:-1] + self.values[1:] - 1) / 2, np.diff(self.values)
        observed, expected = np.sqrt(self.observed), np.sqrt(self.expected)
        low, high = np.sqrt(self.bands).T
        if kind == "standing":
            bars, bottom, ends = observed, np.zeros_like(observed), (low, high)
        else:  # where the observed frequency would end, were it at an end of its interval
            ends = expected - high, expected - low
            hanging = kind == "hanging"
            bars = -observed if hanging else expected - observed
            bottom = expected if hanging else np.zeros_like(expected)
        axis.bar(
            middle, bars, 0.9 * width, bottom, color="0.8", ec="0.45", lw=0.5, label="observed"
        )
        axis.bar(
            middle, ends[1] - ends[0], 0.5 * width, ends[0], color=BOLD, alpha=0.35, lw=0,
            label=f"{self.coverage:.0%} interval if the model is right",
        )  # fmt: skip
        if kind != "standing":
            axis.axhline(0, color=REFERENCE, lw=0.8)
        line = expected if kind != "suspended" else np.zeros_like(expected)
        label = "expected" if kind != "suspended" else "as expected"
        style = {"color": BOLD, "lw": 1.5, "marker": "o", "ms": 3, "label": label}
        draw_line(axis, middle, line, style, kwargs)
        what = "Square root of frequency" if kind != "suspended" else "Expected less observed root"
        axis.set(xlabel=self.target_name, ylabel=what)
        add_legend(figure, axis, ax is None, ncols=3)
        self.ax_, self.figure_ = axis, figure
        return self


def _frequencies(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many are in each bar, (n_bars,)."""
    return np.histogram(counts, np.append(values[:-1], values[-1] - 0.5))[0].astype(float)
