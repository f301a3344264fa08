"""Normal rows that a fit has not seen: densities of one, or of a group, given its components.

With components (theta_s, beta ~ N(m_s, C_s)) of weights w_s

    log p(y_i | y_-i) = log sum_s w_s N(y_i; x_i'm_s + ..., sigma_s^2 + v_is),

and of all rows of a group that the fit never saw

    log p(y_g | y_-g) = log sum_s w_s N(y_g; X_g m_s, V_gs),
    V_gs = Z_g Sigma_s Z_g' + X_g C_s X_g' + sigma_s^2 I.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skhier.kernels.normal.new_rows import new_level_density, new_row_density
from skhier.kernels.records import Components
from skhier.posterior.designs import internal_rows, varying_columns
from skhier.responses.base import Response
from skhier.statistics.problem import Problem
from skhier.utils.training import Training

__all__ = ["PartLeftOut", "density_left_out", "normal_density", "what_is_left_out"]


class PartLeftOut(NamedTuple):
    """Rows that are left out.

    Attributes
    ----------
    rows : int array of shape (k,)
        Positions.
    counts : array of shape (k,)
        What each row's weight loses.
    is_level : bool
        Whether they are all rows of a level.
    """

    rows: np.ndarray
    counts: np.ndarray
    is_level: bool

    def rest(self, training: Training) -> Training:
        """All rows, with the weights that are left."""
        weights = training.weights.copy()
        weights[self.rows] -= self.counts
        return training._replace(weights=weights)


def what_is_left_out(kind: str, training: Training, response: Response, at: int) -> PartLeftOut:
    """Of the score's ``at``-th entry.

    Parameters
    ----------
    kind : {"loo", "conditional loo", "logo"}
    training : Training
    response : Response
    at : int
        A row, or a level of the only factor.
    """
    if kind == "logo":
        rows = np.flatnonzero(training.codes[:, 0] == at)
        return PartLeftOut(rows, training.weights[rows], True)
    # one of its copies, or what the row is about
    count = training.weights[at] if response.weights_are_trials else 1.0
    return PartLeftOut(np.array([at]), np.array([count]), False)


def density_left_out(
    response: Response,
    rest: Problem,
    components: Components,
    training: Training,
    out: PartLeftOut,
    entries: int,
) -> np.ndarray:
    """Log density of what is left out given each component, (S,), in units of y.

    Parameters
    ----------
    response : Response
        Conjugate.
    rest : Problem
        Of the other rows.
    components : Components
        Of a fit to them.
    training : Training
        All rows.
    out : PartLeftOut
    entries : int
        Of the arrays over components.
    """
    rows, counts = training.take(out.rows), out.counts
    jacobian = float(response.log_jacobian(rows.y) @ counts)
    xy = rows.x, rows.codes, rows.y
    if rows.precision is None:
        of_level = counts if out.is_level else None
        return normal_density(rest, components, *xy, of_level, entries) + jacobian
    if out.is_level:
        assert rest.noise is not None
        density = normal_density(rest, components, *xy, counts * rows.precision, entries)
        return density + rest.noise.of_levels[rows.codes[0, 0]]
    density = normal_density(rest, components, *xy, None, entries, np.sqrt(rows.precision))
    return density + 0.5 * np.log(rows.precision[0])


def normal_density(
    problem: Problem,
    components: Components,
    x: np.ndarray,
    codes: np.ndarray,
    y: np.ndarray,
    counts: np.ndarray | None,
    entries: int,
    root: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Joint log densities of rows given each component, (S,), in units of y.

    Parameters
    ----------
    problem : Problem
        Without the rows.
    components : Components
    x, codes, y
        Of the rows, in the user's units.
    counts : array of shape (n_rows,) or None
        Of all rows of a new level of the only factor; None: of one row of known levels.
    entries : int
        Of the arrays over components.
    root : array of shape (1,) or float
        Of one row: by what its line and y are multiplied to have the noise of the others.
    """
    units, slopes = problem.units, problem.slopes
    x, zs = internal_rows(units, slopes, x)
    y = (y - units.y_mean) / units.y_scale
    if counts is None:
        model = problem.stats, problem.plan, components
        x, y, zs = x * root, y * root, [z * root for z in zs]
        return new_row_density(*model, x, zs, codes, y[0], entries) - np.log(units.y_scale)
    varying, xy = varying_columns(units, slopes[0]), np.column_stack([x, y])
    density = new_level_density(components, varying, xy, counts, entries)
    return density - counts.sum() * np.log(units.y_scale)
