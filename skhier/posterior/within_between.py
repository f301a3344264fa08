"""Whether features have one effect within levels of a factor and another between them.

A model without level means estimates one effect, a compromise of the two, and misses what new
levels differ by. At the fitted variances, with ``V`` the covariance of y, the contrast of between
and within is the generalised least squares coefficient of the column ``mean(x | g)`` added to the
model's own, ``X``:

    gamma = c' P y / (c' P c),   var(gamma) = 1 / (c' P c),
    P = V^-1 - V^-1 X (X' V^-1 X)^- X' V^-1.

Where levels have a noise of their own a level's precision is the posterior mean of its
``1 / sigma_g^2``: the score of a coefficient, the noises integrated out, is
``sum_g x_g' E[V_g^-1 | y] r_g``.

Each column is added alone: what is asked is whether to add it, and jointly there would be none to
ask of with more features than levels. Hausman (1978), Econometrica 46; Mundlak (1978), ibid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.kernels.normal.eliminate import eliminate, layout_of
from skhier.kernels.normal.level_precision import precision_products, products, with_means
from skhier.kernels.records import Components
from skhier.posterior.noise_posterior import NoisePosterior
from skhier.posterior.posterior import Posterior
from skhier.posterior.row_posterior import RowPosterior
from skhier.statistics.group_means import reduction_with_means, separable
from skhier.statistics.problem import Problem
from skhier.statistics.products import total_products
from skhier.statistics.reduction import Reduction
from skhier.utils.budget import MemoryBudget
from skhier.utils.design import Design
from skhier.utils.words import listed

__all__ = ["Contrast", "by_factor", "contrast_warnings", "contrasts"]

MAX_Z = 5.0  # standard errors beyond which one effect will not do
MAX_MOVE = 0.1  # predictive sds by which predictions of new levels may be off
SPANNED = 1e-9  # of a column's information: what others leave of it is rounding


class Contrast(NamedTuple):
    """The effect of a feature between levels of a factor less that within them.

    ``z``: in standard errors. ``move``: by how much predictions of new levels would change, root
    mean square over the rows, in predictive sds. ``modelled``: whether the model has the column.
    """

    feature: int
    factor: int
    z: float
    move: float
    modelled: bool


class Variances(NamedTuple):
    """Posterior means, internal units: of the noise, and per factor a root of the effects'."""

    noise: float
    roots: tuple[np.ndarray, ...]


def contrasts(
    design: Design, problem: Problem, posterior: Posterior | RowPosterior, components: Components
) -> list[Contrast]:
    """Of each feature that varies within and between levels, for each factor.

    None of a constant y, of no factors, or where y's covariance has no closed form.

    Parameters
    ----------
    design : Design
    problem : Problem
        Of the rows of fit.
    posterior : Posterior or RowPosterior
    components : Components
        The posterior of the population.
    """
    has_closed_form = posterior.response.conjugate or isinstance(posterior, NoisePosterior)
    if problem.y_is_constant or not design.factors or not has_closed_form:
        return []
    reduction, variances = problem.reduction, _variances(posterior, components)
    predictive = _predictive_variance(reduction, variances)
    p, n_columns = len(design.feature_names), len(design.column_names)
    modelled = {(mean.feature, mean.factor): n_columns + j for j, mean in enumerate(design.means)}
    every = [(j, k) for k in range(len(design.factors)) for j in range(n_columns)]
    added = [at for at in every if at not in modelled and separable(reduction, *at)]
    by_column: dict[tuple[int, int], Contrast] = {}
    for part in _rounds(problem, added, posterior.budget.memory):
        if isinstance(posterior, NoisePosterior):
            inverse, total = _products_of_levels(posterior, part, variances)
        else:
            inverse, total = _products(problem, part, variances)
        columns = modelled | {at: p + i for i, at in enumerate(part)}
        for at, column in columns.items():
            base = [*(j for j in range(p) if j != column), p + len(part)]
            determined, z, square = _contrast(inverse, total, column, base)
            if not determined:
                move = float(np.sqrt(square / predictive))
                by_column[at] = Contrast(*at, z, move, at in modelled)
    return [by_column[at] for at in every if at in by_column]


def by_factor(every: Sequence[Contrast], design: Design) -> dict[str, dict[str, float]]:
    """Per factor and feature the contrast in standard errors."""
    table: dict[str, dict[str, float]] = {factor.name: {} for factor in design.factors}
    for contrast in every:
        factor, feature = design.factors[contrast.factor], design.feature_names[contrast.feature]
        table[factor.name][feature] = contrast.z
    return table


def contrast_warnings(
    every: Sequence[Contrast], design: Design, names: Sequence[str] | None
) -> list[str]:
    """A warning that names features with two effects of which the model has one.

    Parameters
    ----------
    every : sequence of Contrast
    design : Design
    names : sequence of str or None
        Column names of X; None: columns are named by position.
    """
    large = [
        contrast
        for contrast in every
        if not contrast.modelled and abs(contrast.z) > MAX_Z and contrast.move > MAX_MOVE
    ]
    if not large:
        return []
    told = [
        f"{design.feature_names[c.feature]!r} by the levels of {design.factors[c.factor].name!r} "
        f"(z = {c.z:.1f}, {c.move:.2g} predictive sds)"
        for c in large
    ]
    return [
        "Features whose effect between levels differs from that within them, so that predictions "
        f"of new levels are off: {listed(told)}. Add their level means as predictors: "
        f"group_means={_argument(every, large, design, names)}."
    ]


def _argument(every, large, design, names) -> str:
    """``group_means`` with the large contrasts, and with what the model has."""
    wanted: dict[Any, list[Any]] = {}
    for contrast in every:
        if contrast.modelled or contrast in large:
            position = design.feature_positions[contrast.feature]
            column = position if names is None else str(names[position])
            wanted.setdefault(design.factors[contrast.factor].name, []).append(column)
    return repr(wanted if len(design.factors) > 1 else next(iter(wanted.values())))


def _rounds(
    problem: Problem, added: list[tuple[int, int]], budget: MemoryBudget
) -> Iterator[list[tuple[int, int]]]:
    """Columns to look at together; one empty round if there are none."""
    entries = sum(of_factor.zy.size for of_factor in problem.stats.factors)
    size = max(budget.contrasts_at_once, budget.contrast_entries // entries)
    for begin in range(0, max(len(added), 1), size):
        yield added[begin : begin + size]


def _with_columns(reduction: Reduction, at: list[tuple[int, int]]) -> Reduction:
    if not at:
        return reduction
    names = [*reduction.axes.features, *(f"{j} {k}" for j, k in at)]
    return reduction_with_means(reduction, at, names)


def _variances(posterior: Posterior | RowPosterior, components: Components) -> Variances:
    roots = []
    for root in components.group_root:
        covariance = np.einsum("s,sij,skj->ik", components.weights, root, root, optimize=True)
        values, vectors = np.linalg.eigh(covariance)
        roots.append(vectors * np.sqrt(np.maximum(values, 0.0)))
    noise = posterior.observation_variance().mean() / posterior.units.y_scale**2
    return Variances(float(noise), tuple(roots))


def _predictive_variance(reduction: Reduction, variances: Variances) -> float:
    """Of a row of new levels, given the coefficients, on average over the rows of fit."""
    mean_square, total = reduction.stats.xx / reduction.stats.n, variances.noise
    for slopes, root in zip(reduction.axes.slopes, variances.roots, strict=True):
        at = [*slopes, len(mean_square) - 1]
        total += float(np.trace(root.T @ mean_square[np.ix_(at, at)] @ root))
    return total


def _products(problem, part, variances) -> tuple[np.ndarray, np.ndarray]:
    """``[X y]' V^-1 [X y]`` and the mean of ``[X y]'[X y]``, the columns added; internal units."""
    stats = _with_columns(problem.reduction, part).stats
    layout, total = layout_of(stats, problem.plan), total_products(stats)
    sigma = np.sqrt([variances.noise])
    roots = [root[None] for root in variances.roots]
    eliminated = eliminate(layout, sigma, roots, np.eye(len(stats.xy) + 1))
    explained = eliminated.d[0].T @ eliminated.d[0]
    for step in eliminated.steps:
        for of_effect in step.d[:, :, 0]:
            explained = explained + of_effect @ of_effect.T
    return (total - explained) / variances.noise, total / stats.n


def _products_of_levels(posterior, part, variances) -> tuple[np.ndarray, np.ndarray]:
    """The same where each level has its own noise."""
    levels = with_means(posterior.noises.levels, [j for j, _ in part])
    noise, (root,) = 1 / posterior.moments.precision, variances.roots
    return precision_products(levels, root, noise), products(levels) / levels.n.sum()


def _contrast(
    inverse: np.ndarray, total: np.ndarray, column: int, base: list[int]
) -> tuple[bool, float, float]:
    """Whether other columns determine it; its coefficient in standard errors, and the mean square
    that it adds to a line.
    """
    own, of_column = inverse[np.ix_(base, base)], inverse[base, column]
    size = np.sqrt(np.maximum(np.diag(own), 0.0))
    size[size == 0] = 1.0
    of_own = np.linalg.pinv(own / np.outer(size, size), rcond=SPANNED, hermitian=True)
    shares = of_own @ (of_column / size) / size
    information = inverse[column, column] - of_column @ shares
    if not information > SPANNED * inverse[column, column]:
        return True, 0.0, 0.0
    gamma = (inverse[column, -1] - inverse[base, -1] @ shares) / information
    line = np.zeros(len(total))
    line[column], line[base] = gamma, -gamma * shares
    return False, float(gamma * np.sqrt(information)), float(line @ total @ line)
