"""Ranks of true values, how far they are from uniform, and their picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.plotting._style import figure_and_axes
from skhier.utils.uniformity import counts_below, pointwise_tails, rank_band, rank_p_value
from skhier.utils.validation import check_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Calibration"]

N_COLUMNS = 5  # of panels


@dataclass(frozen=True, repr=False)
class Calibration:
    """Ranks of true values among posterior draws, one row a simulation.

    Attributes
    ----------
    ranks : DataFrame of int, simulations x quantities
        How many of ``n_draws`` draws are below the true value; uniform on ``0, ..., n_draws`` if
        the model is calibrated.
    n_draws : int
        Draws that each true value is ranked among.
    fits : DataFrame
        One row a simulation: ``random_state`` of the fit, ``sampler``, ``pareto_k``, worst
        ``ess_bulk`` and ``r_hat``, ``divergences``, ``n_warnings``, ``seconds``.
    """

    ranks: pd.DataFrame
    n_draws: int
    fits: pd.DataFrame

    @property
    def p_value(self) -> float:
        """Of all quantities together: the smallest one's, times their number (Bonferroni)."""
        return _together([self._p_value(name) for name in self.ranks])

    def to_frame(self) -> pd.DataFrame:
        """How far each quantity's ranks are from uniform.

        Returns
        -------
        DataFrame
            One row a quantity. ``mean_rank``: relative, 0.5 if calibrated. ``deviation``: the
            empirical distribution function less the uniform one, where it is least probable, and
            ``at`` which relative rank that is. ``p_value``: the probability of so improbable a
            deviation anywhere, had the ranks been uniform. ``in_50``, ``in_90``: how often the
            central intervals of the draws held the true value.
        """
        import pandas as pd

        n, size = len(self.ranks), self.n_draws + 1
        rows = []
        for name in self.ranks:
            counts = counts_below(self.ranks[name].to_numpy(), size)
            k = int(pointwise_tails(counts, n).argmin())
            relative = (self.ranks[name] + 0.5) / size
            rows.append(
                {
                    "mean_rank": relative.mean(),
                    "deviation": counts[k] / n - (k + 1) / size,
                    "at": (k + 1) / size,
                    "p_value": self._p_value(name),
                    "in_50": (abs(relative - 0.5) < 0.25).mean(),
                    "in_90": (abs(relative - 0.5) < 0.45).mean(),
                }
            )
        return pd.DataFrame(rows, index=pd.Index(list(self.ranks), name="quantity"))

    def plot(self, coverage: float = 0.95) -> Any:
        """Distribution functions of the ranks less the uniform one, with their simultaneous bands.

        A hill: the true values are too often low, the posterior too high. A valley: the reverse.
        A hill before a valley: the posterior is too narrow; a valley before a hill: too wide.

        Parameters
        ----------
        coverage : float in (0, 1)
            Probability that a calibrated quantity's whole curve stays in its band.

        Returns
        -------
        matplotlib.figure.Figure
            Curves that leave their band are red.
        """
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        n, size = len(self.ranks), self.n_draws + 1
        low, high = rank_band(n, size, coverage)
        share = np.arange(1, size) / size
        used = self.ranks.shape[1]
        size_of_figure = (2.4 * N_COLUMNS, 1.8 * -(-used // N_COLUMNS) + 0.8)
        shared = {"sharex": True, "sharey": True}
        fig, axes = figure_and_axes(None, used, N_COLUMNS, figsize=size_of_figure, **shared)
        for axis, name in zip(axes, self.ranks, strict=True):
            counts = counts_below(self.ranks[name].to_numpy(), size)
            inside = np.all((counts >= low) & (counts <= high))
            axis.fill_between(share, low / n - share, high / n - share, color="0.88", lw=0)
            axis.axhline(0, color="0.6", lw=0.8)
            axis.plot(share, counts / n - share, color="C0" if inside else "C3", lw=1.3)
            axis.set_title(f"{name}\np = {self._p_value(name):.2g}", loc="left", size=9, pad=3)
        axes[0].set(xlim=(0, 1), xticks=[0, 0.5, 1])
        fig.supxlabel(f"Relative rank of the true value among {self.n_draws} draws", size=10)
        fig.supylabel("ECDF less uniform", size=10)
        fig.suptitle(f"{n} simulations, simultaneous {100 * coverage:g}% bands", size=11)
        return fig

    def __repr__(self) -> str:
        """The table, what it amounts to, and how the fits went."""
        table, fits = self.to_frame(), self.fits
        p = _together(table["p_value"])
        samplers = ", ".join(f"{k} {v}" for k, v in fits["sampler"].value_counts().items())
        poor = int((fits["ess_bulk"] < self.n_draws).sum())
        return (
            f"Simulation-based calibration: {len(self.ranks)} simulations, ranks among "
            f"{self.n_draws} draws\n"
            f"{table.to_string(float_format=lambda v: f'{v:.3g}')}\n"
            f"p-value of all {self.ranks.shape[1]} quantities together {p:.2g}"
            f"{': NOT calibrated' if p < 0.001 else ''}\n"
            f"fits: {samplers}; {int((fits['n_warnings'] > 0).sum())} warned, in {poor} an "
            f"effective sample size is below {self.n_draws}"
        )

    def _p_value(self, name):
        return rank_p_value(self.ranks[name].to_numpy(), self.n_draws + 1)


def _together(p_values) -> float:
    """Bonferroni's."""
    return min(1.0, min(p_values) * len(p_values))
