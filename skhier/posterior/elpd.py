"""Scores of a model by what it says of data that were left out: the record, and its fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.utils.pareto import reliable_k

if TYPE_CHECKING:
    import pandas as pd

    from skhier.statistics.records import GroupStats, Units
    from skhier.utils.training import Training

__all__ = ["Elpd", "rows_id", "summed", "sums_id"]


@dataclass(frozen=True, repr=False)
class Elpd:
    """Expected log pointwise predictive density, estimated by leaving data out.

    Attributes
    ----------
    elpd : float
        Sum over what was left out: the higher, the better. In nats; y in its own units.
    se : float
        Its standard error over the rows or groups that might have been observed instead.
    p : float
        How much the data's own log predictive density, each seen in fit, exceeds it: the effective
        number of parameters.
    pointwise : DataFrame
        One row a row of the data, or a level: ``elpd``, ``p``, ``pareto_k``, ``mcse`` (Monte Carlo
        standard error of elpd) and ``weight`` (how many rows) or ``n_rows``.
    kind : {"loo", "conditional loo", "logo"}
        ``"loo"``: group effects and coefficients integrated out; ``"conditional loo"``: given
        draws of them, as packages compute it that know no closed form.
    factor : str or None
        Of ``"logo"``.
    n_components : int
        Points of the posterior behind each average.
    rows_id : str
        Equal if two models were fitted to the same numbers in y, in the same order.
    """

    elpd: float
    se: float
    p: float
    pointwise: pd.DataFrame
    kind: str
    factor: str | None
    n_components: int
    rows_id: str

    @property
    def counts(self) -> np.ndarray:
        """How often each row counts; a group once."""
        return _counts(self.pointwise)

    @property
    def good_k(self) -> float:
        """Largest Pareto k that can be relied on with so many components."""
        return reliable_k(self.n_components)

    @property
    def n_bad(self) -> int:
        """How many of the left out have a Pareto k above ``good_k``."""
        return int((self.pointwise["pareto_k"] > self.good_k).sum())

    def __repr__(self) -> str:
        """The sums, and how far to trust them."""
        of = f"level of {self.factor!r}" if self.factor else "row"
        condition = ", given drawn group effects" if self.kind == "conditional loo" else ""
        mcse = float(np.sqrt((self.pointwise["mcse"] ** 2).sum()))
        worst = self.pointwise["pareto_k"].max()
        trust = (
            f"all {len(self.pointwise)} Pareto k <= {self.good_k:.2f} (largest {worst:.2f})"
            if not self.n_bad
            else f"{self.n_bad} of {len(self.pointwise)} Pareto k > {self.good_k:.2f} "
            f"(largest {worst:.2f}): their elpd may be too high"
        )
        return (
            f"Leave one {of} out, {len(self.pointwise)} of them{condition}\n"
            f"  elpd {self.elpd:12.2f}   se {self.se:.2f}   (Monte Carlo error {mcse:.2g})\n"
            f"  p    {self.p:12.2f}\n"
            f"  {trust}"
        )

    def to_arviz(self) -> Any:
        """The same as ArviZ's ``ELPDData``.

        Returns
        -------
        arviz.stats.ELPDData
            Of whichever ArviZ is installed; ``arviz.compare`` takes it.
        """
        from skhier.posterior.arviz import elpd_to_arviz

        return elpd_to_arviz(self)


def rows_id(training: Training) -> str:
    """A fingerprint of y and the weights, to refuse a comparison of models of different rows."""
    rows = np.stack([training.y, training.weights])
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()


def sums_id(stats: GroupStats, units: Units) -> str:
    """As :func:`rows_id`, where statistics are all that is known of the rows."""
    sums = np.array([stats.n, stats.yy, stats.xy[-1], units.y_mean, units.y_scale], dtype=float)
    return hashlib.sha256(sums.tobytes()).hexdigest()


def _counts(pointwise: pd.DataFrame) -> np.ndarray:
    if "weight" in pointwise:
        return pointwise["weight"].to_numpy()
    return np.ones(len(pointwise))


def summed(
    pointwise: pd.DataFrame, kind: str, factor: str | None, n_components: int, fingerprint: str
) -> Elpd:
    """The score that rows or groups make, see :class:`Elpd`."""
    counts, elpd = _counts(pointwise), pointwise["elpd"].to_numpy()
    total = float(counts @ elpd)
    return Elpd(
        elpd=total,
        se=float(np.sqrt(counts @ (elpd - total / counts.sum()) ** 2)),
        p=float(counts @ pointwise["p"].to_numpy()),
        pointwise=pointwise,
        kind=kind,
        factor=factor,
        n_components=n_components,
        rows_id=fingerprint,
    )
