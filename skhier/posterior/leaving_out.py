"""Leave-one-out and leave-one-group-out scores of a fitted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skhier.kernels.normal.information import LevelRows, level_rows
from skhier.kernels.normal.left_out import (
    InternalRows,
    LeftOut,
    given_all,
    leave_groups_out,
    leave_rows_out,
    levels_alone,
    rows_alone,
    smoothed,
)
from skhier.kernels.normal.left_out_of_several import leave_rows_out_of_several
from skhier.kernels.records import Components
from skhier.posterior.elpd import Elpd, summed
from skhier.statistics.products import total_products
from skhier.utils.memory import require_memory
from skhier.utils.slices import slices
from skhier.utils.validation import forbid_fractional_rows

if TYPE_CHECKING:
    from skhier.posterior.posterior import Posterior
    from skhier.posterior.row_posterior import RowPosterior
    from skhier.statistics.row_noise import RowNoise
    from skhier.utils.budget import ScoreBudget
    from skhier.utils.training import Training

__all__ = [
    "leave_groups_of_response_out",
    "leave_one_group_out",
    "leave_one_out",
    "leave_rows_of_response_out",
]

# of components and rows, at a time: densities; and what smoothing them takes
ARRAYS, SMOOTHING_ARRAYS = 2.2, 12
MAX_LOST = 1e-8  # of the posterior's mass


def leave_one_out(
    posterior: Posterior, components: Components | None, training: Training, fingerprint: str
) -> Elpd:
    """Every row on its own; without components, from draws that include the group effects.

    ``fingerprint``: ``rows_id`` of the rows.
    """
    import pandas as pd

    weights = training.weights
    forbid_fractional_rows(weights)
    n, log_scale = len(training.y), np.log(posterior.units.y_scale)
    budget = posterior.budget.scores
    if components is None:
        n_draws = posterior.n_draws
        mass, evaluate = np.full(n_draws, 1 / n_draws), _conditional(posterior, training)
        order, at_once = np.arange(n), budget.at_once // n_draws
    else:
        components = _few(components, n, budget)
        mass, evaluate = components.weights, _marginal(posterior, components, training)
        # rows of one level side by side: it is looked at once
        order = np.lexsort(training.codes.T) if training.codes.size else np.arange(n)
        several = training.codes.shape[1] > 1
        at_once = (budget.at_once_of_several if several else budget.at_once) // len(mass)
    scores = _over(order, evaluate, mass, at_once, budget.at_once, "loo")
    jacobian = posterior.response.log_jacobian(training.y)
    if components is not None and training.precision is not None:  # see _marginal
        jacobian = jacobian + 0.5 * np.log(training.precision)
    table = pd.DataFrame(_score_columns(scores, log_scale - jacobian))
    table["weight"] = weights
    table.index.name = "row"
    kind = "loo" if components is not None else "conditional loo"
    return summed(table, kind, None, len(mass), fingerprint)


def leave_rows_of_response_out(
    posterior: RowPosterior, training: Training, conditional: bool, fingerprint: str
) -> Elpd:
    """As :func:`leave_one_out` where rows have no sufficient statistics."""
    import pandas as pd

    weights, budget = training.weights, posterior.budget.scores
    one = np.ones(len(weights))
    copies, trials = (one, weights) if posterior.response.weights_are_trials else (weights, one)
    if conditional or (posterior.effects.log_density is None and posterior.slopes):
        mass, kind = np.full(posterior.n_draws, 1 / posterior.n_draws), "conditional loo"
        order = np.lexsort(training.codes.T) if training.codes.size else np.arange(len(weights))
        constant = posterior.response.row_normaliser(training.y, weights)

        def evaluate(which):
            rows = training.columns[which], training.codes[which], training.y[which]
            density = trials[which] * posterior.row_log_densities(*rows) + constant[which]
            return LeftOut(density, density)
    else:
        (mass, order, evaluate), kind = posterior.rows_left_out(training), "loo"
    scores = _over(order, evaluate, mass, budget.at_once // len(mass), budget.at_once, "loo")
    table = pd.DataFrame(_score_columns(scores, 0.0))
    table["weight"] = copies
    table.index.name = "row"
    return summed(table, kind, None, len(mass), fingerprint)


def leave_groups_of_response_out(
    posterior: RowPosterior, factor: str, labels: np.ndarray, n_rows: np.ndarray, fingerprint: str
) -> Elpd:
    """As :func:`leave_one_group_out` where rows have no sufficient statistics.

    ``n_rows`` (n_levels,): sums of the weights.
    """
    import pandas as pd

    density = posterior.effects.log_density
    if density is None:
        raise ValueError(
            "logo needs the group effects integrated out: inference='marginal', which response="
            f"{posterior.response.name!r} has for one factor with few slopes."
        )
    mass, budget = posterior.rule.weights, posterior.budget.scores
    scores = _over(
        np.arange(len(labels)),
        lambda levels: LeftOut(density[:, levels], density[:, levels]),
        mass,
        budget.at_once // len(mass),
        budget.at_once,
        "logo",
    )
    columns = _score_columns(scores, n_rows * np.log(posterior.units.y_scale) - posterior.lacking)
    table = pd.DataFrame(columns, index=pd.Index(labels, name=factor))
    table["n_rows"] = n_rows
    return summed(table, "logo", factor, len(mass), fingerprint)


def _few(components: Components, n: int, budget: ScoreBudget) -> Components:
    """As many as n rows or groups allow; without weight, a point need not even be possible."""
    kept = components.first(budget.n_components(n))
    return kept.take(kept.weights > 0)


def _conditional(posterior, training) -> Callable[[np.ndarray], LeftOut]:
    log_scale, columns = np.log(posterior.units.y_scale), training.columns

    def evaluate(which):
        rows = columns[which], training.codes[which], training.y[which]
        density = posterior.row_log_densities(*rows) + log_scale
        return LeftOut(density, density)

    return evaluate


def _marginal(posterior, components, training) -> Callable[[np.ndarray], LeftOut]:
    """Densities of rows, group effects and coefficients integrated out."""
    entries = posterior.budget.memory.elimination_entries
    x, zs, y = posterior.internal(training.x, training.y)
    if training.precision is not None:  # as if all had the noise of a typical row
        root = np.sqrt(training.precision)
        x, zs, y = x * root[:, None], [z * root[:, None] for z in zs], y * root
    rows = InternalRows(x, tuple(zs), y, training.codes, training.weights)
    if components.prior is not None:
        alone = rows_alone(posterior.stats.xx, x, components.prior)
        _forbid_alone(alone, "loo", "row", np.arange(len(y)))
    if len(zs) > 1:
        _check_size(posterior, len(y))
        evaluate = partial(leave_rows_out_of_several, posterior.layout, components, rows)
        return partial(evaluate, entries=entries)
    levels = _levels(posterior, training)
    _, coefs = given_all(levels, components, entries)
    return partial(leave_rows_out, levels, coefs, components, rows, entries=entries)


def leave_one_group_out(
    posterior: Posterior,
    components: Components,
    training: Training | None,
    noise: RowNoise | None,
    factor: str,
    labels: np.ndarray,
    fingerprint: str,
) -> Elpd:
    """Every level of the only factor on its own, all its rows at once; from statistics.

    ``fingerprint``: ``rows_id`` of the rows, which may be gone.
    """
    import pandas as pd

    n_groups, budget = len(labels), posterior.budget.scores
    components = _few(components, n_groups, budget)
    levels, products = _levels(posterior, training), _products(posterior, training)
    if components.prior is not None:
        p = len(posterior.stats.xx)
        alone = levels_alone(posterior.stats.xx, products[:p, :p, :n_groups], components.prior)
        _forbid_alone(alone, "logo", f"level of {factor!r}", labels)
    entries = posterior.budget.memory.elimination_entries
    total, coefs = given_all(levels, components, entries)
    evaluate = partial(leave_groups_out, levels, total, coefs, components, entries=entries)
    mass = components.weights
    at_once = budget.at_once // (len(posterior.stats.xx) * len(mass))
    scores = _over(np.arange(n_groups), evaluate, mass, at_once, budget.at_once, "logo")
    n_rows, units = levels.n[:n_groups], posterior.units
    total = units.y_scale * posterior.stats.factors[0].zy[-1, :n_groups] + units.y_mean * n_rows
    # the Jacobian is linear in the transformed y, or 0: the sum's is the sum of the rows'
    log_scale = n_rows * np.log(units.y_scale) - posterior.response.log_jacobian(total)
    if noise is not None:
        n_rows, log_scale = noise.n_rows, log_scale - noise.of_levels
    table = pd.DataFrame(_score_columns(scores, log_scale), index=pd.Index(labels, name=factor))
    table["n_rows"] = n_rows
    return summed(table, "logo", factor, len(components.weights), fingerprint)


def _levels(posterior: Posterior, training: Training | None) -> LevelRows:
    """Of the only factor; without one all rows are one level."""
    stats = posterior.stats
    if not stats.factors:
        p = len(stats.xy)
        none = np.zeros((0, 0, 1)), np.zeros((0, p + 1, 1))
        return level_rows(*none, total_products(stats)[..., None], np.array([stats.n]))
    (factor,) = stats.factors
    return level_rows(factor.zz, factor.z_xy, _products(posterior, training), factor.zz[-1, -1])


def _products(posterior: Posterior, training: Training | None) -> np.ndarray:
    """Cross-products of ``[x y]`` per level, (p + 1, p + 1, n_levels)."""
    kept = posterior.stats.factors[0].xy_xy
    if kept.size:
        return kept
    if training is None:
        raise ValueError(
            "logo of so many levels with features whose slopes do not vary needs the rows of fit, "
            "which pickles and copies do not hold: call it where the model was fitted, or fit "
            "again."
        )
    x, _, y = posterior.internal(training.x, training.y)
    rows, codes, n_levels = np.column_stack([x, y]), training.codes[:, 0], kept.shape[-1]
    out = np.empty((rows.shape[1], rows.shape[1], n_levels))
    for i, one in enumerate(rows.T):
        for j, other in enumerate(rows.T[: i + 1]):
            out[i, j] = out[j, i] = np.bincount(codes, training.of_sums * one * other, n_levels)
    return out


def _forbid_alone(alone: np.ndarray, method: str, what: str, labels: np.ndarray) -> None:
    """Refuse a score that is not defined."""
    which = labels[alone]
    if not len(which):
        return
    shown = ", ".join(map(str, which[:5])) + (", ..." if len(which) > 5 else "")
    raise ValueError(
        f"{method} is not defined: without {what} {shown} a coefficient has no proper "
        "distribution, since nothing else determines it and its prior is flat. Give the "
        "coefficients proper priors, such as prior='default'."
    )


def _check_size(posterior: Posterior, n: int) -> None:
    """Refuse what would take hours: rows times the square of the dense effects, or levels."""
    dense, most = len(posterior.layout.gram), posterior.budget.scores.max_crossed
    sparse = dense > 0 and not all(posterior.layout.wide)
    if sparse or n * max(dense, 1) ** 2 > most:
        raise ValueError(
            f"loo with {n} rows and {dense} crossed group effects is too much work. Compare models "
            "by cross-validation, or by log_evidence_."
        )


def _over(
    order: np.ndarray,
    evaluate: Callable[[np.ndarray], LeftOut],
    mass: np.ndarray,
    at_once: int,
    entries: int,
    method: str,
) -> tuple[np.ndarray, ...]:
    """``smoothed`` of all in the original order: evaluated so many at a time, and smoothed so many
    entries at a time.
    """
    pairs = len(mass) * min(len(order), max(1, at_once))
    n_numbers = ARRAYS * pairs + SMOOTHING_ARRAYS * min(pairs, entries)
    require_memory(8.0 * n_numbers, f"{method} of {len(order)} rows or groups")
    out = np.empty((4, len(order)))
    for part in _parts(order, at_once):
        with np.errstate(all="ignore"):  # what overflows is looked for below
            densities = evaluate(part)
        for at in _parts(np.arange(len(part)), entries // len(mass)):
            of_few = LeftOut(densities.without[:, at], densities.within[:, at])
            out[:, part[at]] = smoothed(*_usable(of_few, mass, method))
    if not np.isfinite(out[:2]).all():
        raise ValueError(f"{method} overflows: y is too far from what the model expects of it.")
    return tuple(out)


def _usable(densities: LeftOut, mass: np.ndarray, method: str) -> tuple[LeftOut, np.ndarray]:
    """Points whose densities are finite, and their weights; others matter too little to tell."""
    lost = ~(np.isfinite(densities.without) & np.isfinite(densities.within))
    if not lost.any():
        return densities, mass
    share = (mass @ lost).max()
    if share > MAX_LOST:
        raise ValueError(
            f"{method} cannot be computed: in {share:.1%} of the posterior the noise is so small "
            "beside the group effects that only rounding is left of the rows' densities. Is y an "
            "exact function of X and the groups? Score new rows instead, with "
            "log_predictive_density."
        )
    weights = np.where(lost, 0.0, mass[:, None])
    return LeftOut(*(np.where(lost, 0.0, part) for part in densities)), weights / weights.sum(0)


def _parts(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (order[part] for part in slices(len(order), size))


def _score_columns(scores, log_scale) -> dict[str, np.ndarray]:
    elpd, lpd, k_hat, mcse = scores
    return {"elpd": elpd - log_scale, "p": lpd - elpd, "pareto_k": k_hat, "mcse": mcse}
