"""What displays compute of a fit, apart from drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skhier.plotting._fit import OUT, budget_of, group_draws, index_of, line_codes, line_means
from skhier.utils.design import Rows
from skhier.utils.slices import slices

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["coef_quantiles", "ellipse", "no_pooling", "population_coef", "tails", "without_others"]

RANK_TOLERANCE = 1e-8  # of a group's least squares, relative to the largest singular value


def population_coef(model: Any, effects: Sequence[str]) -> pd.Series:
    """Posterior means of the population's coefficients, in units of y per unit of x.

    ``effects``: ``"intercept"`` and names of features.
    """
    import pandas as pd

    # a feature without a varying slope may be called "intercept" too
    values = dict(zip(model.coef_names_, model.coef_, strict=True)) | {
        "intercept": model.intercept_
    }
    return pd.Series({name: float(values[name]) for name in effects})


def tails(coverage: float) -> np.ndarray:
    """Probabilities (2,) below the ends of an equal-tailed interval."""
    return np.array([(1 - coverage) / 2, (1 + coverage) / 2])


def coef_quantiles(
    model: Any, factor: str, effects: list[str], coverage: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ends of equal-tailed intervals of the groups' coefficients, from the draws.

    A coefficient is the population's plus this factor's group effect, in units of y per unit of x.

    Returns
    -------
    lower, upper : DataFrame of shape (n_levels, n_effects)
    """
    import pandas as pd

    table = model.group_coef_[factor]
    at = [list(table.columns).index(name) for name in effects]
    draws = model.posterior_
    slopes = [draws["coef"][..., model.coef_names_.index(name)] for name in table.columns[1:]]
    population = np.stack([draws["intercept"], *slopes], axis=-1).reshape(-1, 1, table.shape[1])
    codes, parts = np.arange(len(table)), []
    for part in slices(len(codes), budget_of(model).memory.levels_drawn):
        deviations = group_draws(model, factor, codes[part])
        parts.append(np.quantile((population + deviations)[..., at], tails(coverage), axis=0))
    ends = np.concatenate(parts, axis=1)
    lower, upper = (pd.DataFrame(end, table.index, effects) for end in ends)
    return lower, upper


def no_pooling(model: Any, factor: str, rows: Rows, y: np.ndarray) -> np.ndarray:
    """Each known group's own least squares on the intercept and the varying slopes.

    What other features and other factors contribute, at the posterior mean, is subtracted first.

    Parameters
    ----------
    model : BaseHierarchical
        Fitted.
    factor : str
    rows : Rows
    y : array of shape (n_samples,)

    Returns
    -------
    array of shape (n_levels, n_effects)
        Intercept at X = 0 first; NaN where the group's rows do not determine them.
    """
    names = list(model.group_coef_[factor].columns[1:])
    varying = [model.coef_names_.index(name) for name in names]
    fixed = [j for j in range(len(model.coef_names_)) if j not in varying]
    y = without_others(model, factor, rows, y) - rows.x[:, fixed] @ model.coef_[fixed]
    z = rows.x[:, varying]
    scale = np.where((spread := z.std(axis=0)) > 0, spread, 1.0)
    own = np.full((len(model.group_levels_[factor]), 1 + len(names)), np.nan)
    of_rows = rows.codes[:, index_of(model, factor)]
    order = np.argsort(of_rows, kind="stable")
    codes, starts = np.unique(of_rows[order], return_index=True)
    for code, mine in zip(codes, np.split(order, starts[1:]), strict=True):
        if code < len(own) and len(mine) >= own.shape[1]:
            own[code] = _own_line(z[mine], y[mine], scale)
    return own


def _own_line(z, y, scale) -> np.ndarray:
    """Intercept at 0 and slopes, (1 + n_slopes,); NaN if they are not determined."""
    origin = z[0]  # exactly 0 where x is constant, at any offset
    design = np.column_stack([np.ones(len(z)), (z - origin) / scale])
    coef, _, rank, _ = np.linalg.lstsq(design, y, rcond=RANK_TOLERANCE)
    if rank < design.shape[1]:
        return np.full(design.shape[1], np.nan)
    slopes = coef[1:] / scale
    return np.array([coef[0] - slopes @ origin, *slopes])


def without_others(model: Any, factor: str, rows: Rows, y: np.ndarray) -> np.ndarray:
    """Responses (n_samples,) less the effects, at the posterior mean, of all other factors."""
    others = rows.codes.copy()
    others[:, index_of(model, factor)] = OUT
    population = line_means(model, rows.x, line_codes(model, len(rows.x)))
    return y - (line_means(model, rows.x, others) - population)


def ellipse(centre: np.ndarray, covariance: np.ndarray, level: float) -> np.ndarray:
    """Outline, (n_points, 2), that holds this share of a bivariate normal distribution."""
    values, vectors = np.linalg.eigh(covariance)
    reach = np.sqrt(-2 * np.log1p(-level) * np.maximum(values, 0))  # chi-squared, 2 df
    angle = np.linspace(0, 2 * np.pi, 200)
    return centre + (np.column_stack([np.cos(angle), np.sin(angle)]) * reach) @ vectors.T
