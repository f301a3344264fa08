"""Places in the space of theta from which a search may reach modes that others hide.

A mode is a way to share out the variance: to the noise, to one effect or to another; each scale
near that of y, near nothing, or where its prior wants it. Coefficients in theta are where least
squares or where the prior wants them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from skhier.kernels.records import ModelSpec
from skhier.statistics.records import Units
from skhier.utils.budget import USUAL, SearchBudget

__all__ = ["PriorTops", "prior_tops", "structured_starts"]

PROFILE_GRID = np.linspace(-24.0, 12.0, 145)  # of logarithms of scales, and of coefficients
ZOOM, N_ZOOMS = 0.05, 4  # of a grid's span, so often: steps of 4e-7 at the end
LARGE_SCALE, SMALL_SCALE = np.log(0.6), np.log(0.02)  # logarithms, in internal units of y


class PriorTops(NamedTuple):
    """The priors of theta's entries, each alone.

    Attributes
    ----------
    sites : dict of str to range
        Entries of each site of the model.
    modes : list of array
        Of each entry's prior, the highest first; 0 where it is flat or has none.
    widths : array of shape (d,)
        Distance from the mode at which the density falls by half a nat, at most 1; of logarithms
        of scales 1.
    """

    sites: dict[str, range]
    modes: list[np.ndarray]
    widths: np.ndarray


def prior_tops(
    profiles: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    size: int,
    budget: SearchBudget = USUAL.search,
) -> PriorTops:
    """Modes of the priors.

    Parameters
    ----------
    profiles : callable
        Takes values (n_grid, d) of theta's entries to log densities (n_grid, k) per site; what is
        not finite is impossible.
    size : int
        d
    budget : SearchBudget
    """

    def heights(grids):
        densities = {name: np.asarray(values) for name, values in profiles(grids).items()}
        return {name: np.where(np.isfinite(v), v, -np.inf) for name, v in densities.items()}

    coarse = heights(np.tile(PROFILE_GRID[:, None], (1, size)))
    ends = np.cumsum([0, *(values.shape[1] for values in coarse.values())])
    spans = (range(*ends[i : i + 2]) for i in range(len(coarse)))
    sites = dict(zip(coarse, spans, strict=True))
    columns = (column for values in coarse.values() for column in values.T)
    modes = [_tops(column, budget.less_dense) for column in columns]
    widths = np.ones(size)
    coefs = _coefs(sites)
    if coefs:
        _refine(heights, modes, widths, coefs)
    return PriorTops(sites, modes, widths)


def _tops(log_density, less_dense) -> np.ndarray:
    inner = log_density[1:-1]
    is_top = (inner > log_density[:-2]) & (inner >= log_density[2:])
    is_top &= inner > log_density.max() - less_dense
    at = 1 + np.flatnonzero(is_top)
    return PROFILE_GRID[at[np.argsort(-log_density[at])]] if len(at) else np.zeros(1)


def _refine(profiles, modes, widths, entries):
    """Modes of narrow priors lie between the values of a grid."""

    def heights(grids):
        return np.concatenate(list(profiles(grids).values()), axis=1)

    part = np.linspace(-1, 1, len(PROFILE_GRID))[:, None]
    for rank in range(max(len(modes[j]) for j in entries)):
        top = np.array([at[min(rank, len(at) - 1)] for at in modes])
        span = PROFILE_GRID[1] - PROFILE_GRID[0]
        for _ in range(N_ZOOMS):
            grids = top + span * part
            top = np.take_along_axis(grids, heights(grids).argmax(0)[None], 0)[0]
            span *= ZOOM
        for j in entries:
            modes[j][min(rank, len(modes[j]) - 1)] = top[j]
        away = np.geomspace(1e-6, 1.0, len(PROFILE_GRID))[:, None]
        ahead, behind = heights(top + away), heights(top - away)
        low = np.minimum(ahead, behind) < heights(top + 0 * away) - 0.5
        reach = np.where(low.any(0), away[low.argmax(0), 0], 1.0)
        widths[entries] = np.minimum(widths, reach)[entries]


def structured_starts(
    spec: ModelSpec,
    units: Units,
    total: np.ndarray,
    priors: PriorTops,
    budget: SearchBudget = USUAL.search,
) -> np.ndarray:
    """Starts (n_starts, d), the plainest first.

    Parameters
    ----------
    spec : ModelSpec
    units : Units
    total : array of shape (p + 1, p + 1)
        Cross-products of x and y, internal coordinates.
    priors : PriorTops
    budget : SearchBudget
    """
    groups = _scales(priors.sites, spec.response)
    coefs = _coefs(priors.sites)
    plain = np.zeros(len(priors.modes))
    plain[[j for group in groups for j in group]] = LARGE_SCALE
    plain[coefs] = _least_squares(spec, units, total, priors.sites)
    starts = [plain, *_shares(plain, groups, priors.modes)]
    for j in coefs:
        starts += [_with(plain, [j], value) for value in priors.modes[j]]
    if len(coefs) > 1:
        starts.append(_with(plain, coefs, [priors.modes[j][0] for j in coefs]))
    far = budget.far_origin
    both = ([start, _at_mean(start, spec, units, priors.sites, far)] for start in starts)
    distinct = _distinct([start for pair in both for start in pair], coefs, budget.near)
    return distinct[: budget.max_starts]


def _scales(sites, response) -> list[list[int]]:
    """Logarithms of scales: the response's, and each factor's."""
    scales: dict[str, list[int]] = {}
    for name, entries in sites.items():
        of_factor = re.fullmatch(r"group_scale_(\d+)_\d+|decov_size_(\d+)", name)
        if of_factor or name in response.parameters:
            whose = of_factor[1] or of_factor[2] if of_factor else "response"
            scales.setdefault(whose, []).extend(entries)
    return list(scales.values())


def _coefs(sites) -> list[int]:
    return [j for name, entries in sites.items() if name.startswith("coef_") for j in entries]


def _shares(plain, groups, modes) -> Iterator[np.ndarray]:
    """Ways to share out the variance."""
    scales = [j for group in groups for j in group]
    prior = _with(plain, scales, [modes[j][0] for j in scales])
    nothing = _with(plain, scales[1:], SMALL_SCALE)
    yield prior
    yield nothing
    alone = [[j] for j in scales]
    together = [group for group in groups if 1 < len(group) < len(scales) - 1]
    for group in alone + together:
        yield _with(plain, group, SMALL_SCALE)
        yield _with(nothing, group, LARGE_SCALE)
        yield _with(plain, group, [modes[j][0] for j in group])
        yield _with(prior, group, LARGE_SCALE)
    for j in scales:
        yield from (_with(plain, [j], value) for value in modes[j][1:])


def _with(start, at, value):
    changed = start.copy()
    changed[at] = value
    return changed


def _least_squares(spec, units, total, sites) -> np.ndarray:
    """Of the coefficients in theta; the intercept at X = 0 if its prior is there."""
    coef = np.linalg.lstsq(total[:-1, :-1], total[:-1, -1], rcond=None)[0]
    if not spec.intercept_at_mean:
        coef[-1] -= (units.x_mean / units.x_scale) @ coef[:-1]
    blocks = [*spec.coef_blocks, (spec.n_features,)]
    return coef[[j for i, block in enumerate(blocks) if f"coef_{i}" in sites for j in block]]


def _at_mean(start, spec, units, sites, far) -> np.ndarray:
    """The same with effects uncorrelated at the mean of x, where theta has them at X = 0."""
    changed = start.copy()
    for k, factor in enumerate(spec.factors):
        shift = np.asarray(units.effects_at_mean[k])[-1, :-1]
        corr, q = sites.get(f"group_corr_chol_{k}"), factor.n_effects
        if factor.at_mean or corr is None or np.abs(shift).max() < far:
            continue
        places = {
            effect: place
            for i, block in enumerate(getattr(factor.covariance, "scale_blocks", ()))
            for effect, place in zip(block, sites.get(f"group_scale_{k}_{i}", ()), strict=False)
        }
        if len(places) < q:
            continue
        scale = np.exp(start[[places[effect] for effect in range(q)]])
        row = np.append(-shift * scale[:-1], scale[-1])  # of the intercept at X = 0
        left = np.sqrt(np.cumsum(row[::-1] ** 2))[::-1]
        changed[places[q - 1]] = np.log(left[0])
        # the last row of the correlations' Cholesky factor, as partial correlations
        partial = np.clip(row[:-1] / left[:-1], -1 + 1e-15, 1 - 1e-15)
        changed[list(corr)[1 - q :]] = np.arctanh(partial)
    return changed


def _distinct(starts, coefs, distance) -> np.ndarray:
    """Those not near an earlier one; of coefficients no distance is short."""
    near = np.full(len(starts[0]), distance)
    near[coefs] = 0
    kept: list[np.ndarray] = []
    for start in starts:
        if all((np.abs(start - other) > near).any() for other in kept):
            kept.append(start)
    return np.array(kept)
