"""Are predicted probabilities of a class what they say? Shares of the event among such rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from skhier.plotting._fit import event_of, fitted_model, forbid_all_but_classes
from skhier.plotting._numerics import tails
from skhier.plotting._replicates import draw_replicates, read_probabilities
from skhier.plotting._style import BOLD, FAINT, REFERENCE, add_legend, draw_line, figure_and_axes
from skhier.utils.validation import check_choice, check_number, check_target

__all__ = ["ClassCalibrationDisplay"]

N_POINTS = 200  # of a curve
N_BINS = 10  # of about as many rows each


class ClassCalibrationDisplay:
    """Are predicted probabilities of a class what they say?

    The share of rows with the event among those of each predicted probability; of a calibrated
    model the two agree, up to chance, which the band shows: curves of replicated data sets that the
    model itself drew.

    Parameters
    ----------
    probability : array of shape (n_points,)
        Predicted, of the event; increasing.
    share : array of shape (n_points,)
        Of the event among the rows of that probability.
    band : array of shape (n_points, 2)
        Ends of the intervals of the share, each on its own, if the model is right.
    coverage : float
        Of the intervals.
    histogram : array of shape (20,)
        How many rows have a probability in each twentieth of (0, 1).
    event_name : str

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), PNAS 118(8), for the monotone curve. Sailynoja,
    Johnson, Martin and Vehtari (2025), arXiv:2503.01509, for replicated curves as a predictive
    check.
    """

    def __init__(
        self,
        *,
        probability: np.ndarray,
        share: np.ndarray,
        band: np.ndarray,
        coverage: float,
        histogram: np.ndarray,
        event_name: str = "event",
    ):
        self.probability, self.share, self.band = probability, share, band
        self.coverage, self.histogram, self.event_name = coverage, histogram, event_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_replicates: int = 200,
        random_state: Any = None,
        kind: str = "monotone",
        coverage: float = 0.9,
        ax: Any = None,
        **kwargs: Any,
    ) -> ClassCalibrationDisplay:
        """Compare predicted probabilities with the classes of y, and with those of `sample_y`.

        Parameters
        ----------
        estimator : HierarchicalSlopesClassifier, or Pipeline or search that ends in one
            Fitted.
        X : table of shape (n_samples, n_features_in_)
        y : array of shape (n_samples,)
            Classes. Of the rows of fit a check whether the model could have produced them; of rows
            that fit did not see, of its predictions.
        n_replicates : int
        random_state : int, RandomState or None
            Of ``sample_y``.
        kind, coverage, ax, **kwargs
            As in :meth:`from_predictions`.

        Returns
        -------
        ClassCalibrationDisplay

        Raises
        ------
        ValueError
            A response that has no classes, one class, or one that fit did not see.
        sklearn.exceptions.NotFittedError
        """
        model, X = fitted_model(estimator, X)
        forbid_all_but_classes(model)
        drawn = event_of(model, draw_replicates(model, X, n_replicates, random_state))
        probability = model.predict_proba(X)[:, -1]
        return cls._of(
            event_of(model, y), probability, drawn, kind, coverage, str(model.classes_[-1])
        ).plot(ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        probability: Any,
        *,
        n_replicates: int = 200,
        random_state: Any = None,
        kind: str = "monotone",
        coverage: float = 0.9,
        ax: Any = None,
        **kwargs: Any,
    ) -> ClassCalibrationDisplay:
        """Compare given probabilities with whether the event was there.

        Parameters
        ----------
        y : array of shape (n_samples,)
            1 for the event, else 0.
        probability : array of shape (n_samples,)
        n_replicates, random_state
            Of the data sets in which each row has the event with its probability, independently.
        kind : {"monotone", "bins"}
            The increasing curve that is nearest to y (isotonic regression), which asks for no
            choice of bins; or shares in ten bins of about as many rows.
        coverage : float in (0, 1)
            Of the intervals, each on its own.
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        ClassCalibrationDisplay

        Raises
        ------
        ValueError
            Lengths that differ, a y that is neither 0 nor 1, or no probabilities.
        """
        probability = read_probabilities(probability, "probability")
        y = check_target(y, probability)
        wrong = y[~np.isin(y, (0, 1))]
        if len(wrong):
            raise ValueError(f"`y` must be 1 for the event, else 0. Got {wrong[0]:g}.")
        check_number("n_replicates", n_replicates, low=1, integer=True)
        rng = np.random.default_rng(random_state)
        drawn = rng.random((len(y), n_replicates)) < probability[:, None]
        return cls._of(y, probability, drawn.astype(float), kind, coverage, "event").plot(
            ax, **kwargs
        )

    @classmethod
    def _of(cls, y, probability, drawn, kind, coverage, event_name):
        check_choice("kind", kind, ("monotone", "bins"))
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        order = np.argsort(probability, kind="stable")
        y, probability, drawn = y[order], probability[order], drawn[order]
        curve = _monotone if kind == "monotone" else _in_bins
        points, share = curve(probability, y)
        replicates = np.stack([curve(probability, one)[1] for one in drawn.T])
        return cls(
            probability=points,
            share=share,
            band=np.quantile(replicates, tails(coverage), axis=0).T,
            coverage=coverage,
            histogram=np.histogram(probability, 20, (0, 1))[0],
            event_name=event_name,
        )

    def plot(self, ax: Any = None, **kwargs: Any) -> ClassCalibrationDisplay:
        """Draw the curve, its band and how the probabilities are spread.

        Parameters
        ----------
        ax : Axes or None
            None: a new figure.
        **kwargs
            Of the curve (``Axes.plot``).

        Returns
        -------
        ClassCalibrationDisplay
            The display itself.
        """
        figure, (axis,) = figure_and_axes(ax, 1, figsize=(5.0, 5.2))
        edges = np.linspace(0, 1, len(self.histogram) + 1)
        height = 0.15 * self.histogram / max(self.histogram.max(), 1)
        axis.bar(edges[:-1], height, np.diff(edges), align="edge", color="0.85", label="rows")
        style = {"color": FAINT, "alpha": 0.4, "lw": 0}
        label = f"{self.coverage:.0%} interval if the model is right"
        axis.fill_between(self.probability, *self.band.T, **style, label=label)
        axis.plot([0, 1], [0, 1], color=REFERENCE, lw=1.0, ls="--", label="calibrated")
        style = {"color": BOLD, "lw": 1.6, "label": "observed"}
        if len(self.probability) <= N_BINS:
            style |= {"marker": "o", "ms": 4}
        draw_line(axis, self.probability, self.share, style, kwargs)
        words = {
            "xlabel": f"Predicted probability of {self.event_name}",
            "ylabel": f"Share of {self.event_name}",
        }
        axis.set(**words, xlim=(0, 1), ylim=(0, 1), aspect="equal")
        add_legend(figure, axis, ax is None, ncols=2)
        self.ax_, self.figure_ = axis, figure
        return self


def _monotone(probability: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Isotonic regression of y on the probabilities, both sorted, at points between their ends."""
    fit = IsotonicRegression(y_min=0, y_max=1).fit(probability, y)
    points = np.linspace(probability[0], probability[-1], N_POINTS)
    return points, fit.predict(points)


def _in_bins(probability: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability and share of each bin of the sorted rows."""
    parts = np.array_split(np.arange(len(y)), min(N_BINS, len(y)))
    points, share = (np.array([a[part].mean() for part in parts]) for a in (probability, y))
    return points, share
