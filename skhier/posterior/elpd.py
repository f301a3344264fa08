"""Leave-one-out and leave-one-group-out scores of a fitted model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.kernels.normal.conditional import Components
from skhier.kernels.normal.eliminate import Layout, is_wide, layout_of
from skhier.kernels.normal.left_out import (
    GroupProducts,
    LeftOut,
    leave_groups_out,
    leave_rows_out,
    smoothed,
)
from skhier.statistics.records import FactorStats
from skhier.utils.memory import require_memory
from skhier.utils.pareto import reliable_k

if TYPE_CHECKING:
    import pandas as pd

    from skhier.posterior.posterior import Posterior
    from skhier.statistics.problem import Training

__all__ = ["Elpd", "leave_one_group_out", "leave_one_out"]

AT_ONCE = 2**21  # entries of the arrays over components and rows
MAX_CROSSED = 1e9  # rows x squared number of crossed effects
PAIRS = 2**28  # of components and rows, beyond which fewer components do
MIN_COMPONENTS, MAX_COMPONENTS = 1000, 4096


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
        given = ", given drawn group effects" if self.kind == "conditional loo" else ""
        mcse = float(np.sqrt((self.pointwise["mcse"] ** 2).sum()))
        worst = self.pointwise["pareto_k"].max()
        trust = (
            f"all {len(self.pointwise)} Pareto k <= {self.good_k:.2f} (largest {worst:.2f})"
            if not self.n_bad
            else f"{self.n_bad} of {len(self.pointwise)} Pareto k > {self.good_k:.2f} "
            f"(largest {worst:.2f}): their elpd may be too high"
        )
        return (
            f"Leave one {of} out, {len(self.pointwise)} of them{given}\n"
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
        from skhier.posterior.tables import elpd_to_arviz

        return elpd_to_arviz(self)


def leave_one_out(posterior: Posterior, components: Components | None, training: Training) -> Elpd:
    """Every row on its own; without components, from draws that include the group effects."""
    import pandas as pd

    weights = training.weights
    if np.any(weights != np.rint(weights)):
        raise ValueError(
            "loo leaves one row out at a time, which says nothing of a row that counts "
            "fractionally: sample_weight must be whole numbers of rows."
        )
    n = len(training.y)
    x, zs, y = posterior.internal(training.x, training.y)
    codes = training.codes
    log_scale = np.log(posterior.units.y_scale)
    if components is None:
        n_draws = len(posterior.population.sigma)
        mass = np.full(n_draws, 1 / n_draws)

        def evaluate(rows):
            density = posterior.row_log_densities(training.x[rows], codes[rows], training.y[rows])
            return LeftOut(density + log_scale, density + log_scale)

    else:
        if len(zs) > 1:
            _check_size(posterior, n)
        components = components.first(int(np.clip(PAIRS // n, MIN_COMPONENTS, MAX_COMPONENTS)))
        mass = components.weights

        def evaluate(rows):
            layout, of_rows = _layout_of_rows(posterior, codes[rows])
            return leave_rows_out(
                layout, components, x[rows], [z[rows] for z in zs], y[rows], of_rows
            )

    order = np.argsort(codes[:, 0], kind="stable") if len(zs) else np.arange(n)
    at_once = AT_ONCE // (len(mass) * (x.shape[1] + sum(z.shape[1] for z in zs) ** 2 + 1))
    if len(zs) > 1:  # their elimination needs all levels: all rows at once
        at_once = n
    found = _over(order, evaluate, mass, at_once)
    table = pd.DataFrame(_columns(found, log_scale))
    table["weight"] = weights
    table.index.name = "row"
    kind = "loo" if components is not None else "conditional loo"
    return _summed(table, weights, kind, None, len(mass), training)


def leave_one_group_out(
    posterior: Posterior,
    components: Components,
    training: Training,
    factor: str,
    labels: np.ndarray,
) -> Elpd:
    """Every level of the factor on its own, all its rows at once."""
    import pandas as pd

    n_groups, codes = len(labels), training.codes[:, 0]
    components = components.first(int(np.clip(PAIRS // n_groups, MIN_COMPONENTS, MAX_COMPONENTS)))
    x, _, y = posterior.internal(training.x, training.y)
    rows = np.column_stack([x, y])
    products = np.stack(
        [
            [np.bincount(codes, training.weights * a * b, minlength=n_groups) for b in rows.T]
            for a in rows.T
        ]
    )
    n_rows = np.bincount(codes, training.weights, minlength=n_groups)

    def evaluate(which):
        groups = GroupProducts(products[..., which], n_rows[which])
        layout, _ = _layout_of_rows(posterior, which[:, None])
        found = leave_groups_out(layout, components, groups)
        if np.isneginf(found.without).any():
            raise ValueError(
                "without the rows of some level a coefficient has no proper distribution: that "
                "level alone determines it, and its prior is flat. Give it a proper prior."
            )
        return found

    at_once = AT_ONCE // (4 * rows.shape[1] ** 2 * len(components.weights))
    found = _over(np.arange(n_groups), evaluate, components.weights, at_once)
    columns = _columns(found, n_rows * np.log(posterior.units.y_scale))
    table = pd.DataFrame(columns, index=pd.Index(labels, name=factor))
    table["n_rows"] = n_rows
    return _summed(table, np.ones(n_groups), "logo", factor, len(components.sigma), training)


def _layout_of_rows(posterior: Posterior, codes: np.ndarray) -> tuple[Layout, np.ndarray]:
    """What the rows' conditionals need: of one factor, their levels alone."""
    if codes.shape[1] != 1:
        return posterior.layout, codes
    levels, at = np.unique(codes, return_inverse=True)
    factor = posterior.stats.factors[0]
    some = FactorStats(*(a[..., levels] for a in factor))
    layout = layout_of(posterior.stats._replace(factors=(some,)), posterior.plan)
    return layout, at.reshape(codes.shape)


def _check_size(posterior: Posterior, n: int) -> None:
    """Refuse what would take hours: rows times the square of the dense effects, or levels."""
    dense = len(posterior.layout.gram)
    wide = all(is_wide(posterior.layout, i) for i in range(len(posterior.plan.chain)))
    if (dense and not wide) or n * max(dense, 1) ** 2 > MAX_CROSSED:
        raise ValueError(
            f"loo with {n} rows and {dense} crossed group effects is too much work. Compare models "
            "by cross-validation, or by log_evidence_."
        )
    require_memory(4 * 8.0 * MIN_COMPONENTS * n, "the densities of rows left out")


def _rows_id(training: Training) -> str:
    """A fingerprint of y and the weights, to refuse a comparison of models of different rows."""
    rows = np.stack([training.y, training.weights])
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()


def _over(
    order: np.ndarray,
    evaluate: Callable[[np.ndarray], LeftOut],
    mass: np.ndarray,
    at_once: int,
) -> tuple[np.ndarray, ...]:
    """``smoothed`` of all, so many at a time; in the original order."""
    out = np.empty((4, len(order)))
    for part in _parts(order, max(1, at_once)):
        out[:, part] = smoothed(evaluate(part), mass)
    return tuple(out)


def _parts(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (order[i : i + size] for i in range(0, len(order), size))


def _columns(found, log_scale) -> dict[str, np.ndarray]:
    elpd, lpd, k_hat, mcse = found
    return {"elpd": elpd - log_scale, "p": lpd - elpd, "pareto_k": k_hat, "mcse": mcse}


def _summed(table, weights, kind, factor, n_components, training) -> Elpd:
    n, elpd = weights.sum(), table["elpd"].to_numpy()
    total = float(weights @ elpd)
    variance = weights @ (elpd - total / n) ** 2 / n
    return Elpd(
        elpd=total,
        se=float(np.sqrt(n * variance)),
        p=float(weights @ table["p"].to_numpy()),
        pointwise=table,
        kind=kind,
        factor=factor,
        n_components=n_components,
        rows_id=_rows_id(training),
    )
