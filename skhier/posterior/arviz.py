"""ArviZ's exchange objects, for ArviZ before and after 1.0; the only file that imports it."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier.posterior.level_noises import LevelNoisesPosterior
from skhier.posterior.tables import joined_label
from skhier.utils.memory import require_memory

__all__ = ["elpd_to_arviz", "to_arviz"]

RESERVED_DIMS = {"chain", "draw", "feature", "row", "coef"}


def to_arviz(fitted: Any, group_effects: bool, log_likelihood: bool) -> Any:
    """See the estimators' ``to_arviz``.

    Parameters
    ----------
    fitted : skhier.posterior.fitted.Fitted
    group_effects, log_likelihood : bool
    """
    import inspect

    import arviz as az

    groups, coords, dims = _exchange(fitted, group_effects, log_likelihood)
    if "posterior" in inspect.signature(az.from_dict).parameters:
        return az.from_dict(**groups, coords=coords, dims=dims)
    return az.from_dict(groups, coords=coords, dims=dims)


def elpd_to_arviz(elpd: Any) -> Any:
    """See ``Elpd.to_arviz``; ArviZ before and after 1.0."""
    import xarray as xr

    dim = elpd.factor or "row"
    # ArviZ knows no weights: a row of weight 2 is there twice
    copies = np.repeat(np.arange(len(elpd.pointwise)), elpd.counts.astype(int))
    parts = {
        name: xr.DataArray(values[copies], dims=[dim], name=name)
        for name, values in (
            ("loo_i", elpd.pointwise["elpd"].to_numpy()),
            ("pareto_k", elpd.pointwise["pareto_k"].to_numpy()),
        )
    }
    numbers = (elpd.elpd, elpd.se, elpd.p, elpd.n_components, len(copies))
    try:
        from arviz_stats.utils import ELPDDataLOO
    except ImportError:
        from arviz.stats.stats_utils import ELPDData

        facts = dict(zip(("elpd_loo", "se", "p_loo", *SIZES), numbers, strict=True))
        facts |= {"warning": elpd.n_bad > 0, **parts, "scale": "log", "good_k": elpd.good_k}
        return ELPDData(data=list(facts.values()), index=list(facts))
    facts = dict(zip(("elpd", "se", "p", *SIZES), numbers, strict=True))
    facts |= {"warning": elpd.n_bad > 0, "scale": "log", "good_k": elpd.good_k}
    return ELPDDataLOO(**facts, elpd_i=parts["loo_i"], pareto_k=parts["pareto_k"])


SIZES = ("n_samples", "n_data_points")


def _exchange(fitted, group_effects, log_likelihood):
    source, training, design = fitted.draws, fitted.training, fitted.design
    log_likelihood = log_likelihood and training is not None
    _require_memory(fitted, group_effects, len(training.y) if log_likelihood else 0)
    posterior = {name: source[name] for name in ("intercept", *fitted.prior.response.parameters)}
    reserved = RESERVED_DIMS | set(posterior)
    coords: dict[str, Any] = {}
    dims: dict[str, list[str]] = {}
    if design.feature_names:
        posterior["coef"] = source["coef"]
        coords["feature"], dims["coef"] = list(design.feature_names), ["feature"]
    for k, (factor, effects) in enumerate(fitted.effects().items()):
        name = factor.replace("/", "_")  # which in a tree of groups is a path
        level = f"{name}_level" if name in reserved else name
        one, other = f"{name}_effect", f"{name}_effect_bis"
        coords[one] = coords[other] = effects
        posterior[f"group_scale_{name}"] = source["group_scale"][factor]
        dims[f"group_scale_{name}"] = [one]
        posterior[f"group_corr_{name}"] = source["group_corr"][factor]
        dims[f"group_corr_{name}"] = [one, other]
        if group_effects:
            labels = design.factors[k].levels.labels
            coords[level] = [joined_label(label) for label in labels]
            posterior[f"group_effects_{name}"] = fitted.posterior.group_chains(k)
            dims[f"group_effects_{name}"] = [level, one]
            of_fit = fitted.posterior
            if isinstance(of_fit, LevelNoisesPosterior) and of_fit.noise_factor == k:
                posterior[f"group_noise_{name}"] = of_fit.noise_chains()
                dims[f"group_noise_{name}"] = [level]
    groups = {"posterior": posterior, "sample_stats": dict(fitted.sample_stats)}
    if training is not None:
        groups["observed_data"] = {"y": training.y}
        coords["row"], dims["y"] = np.arange(len(training.y)), ["row"]
    if log_likelihood:
        groups["log_likelihood"] = {"y": _log_likelihood(fitted.posterior, training)}
    return {k: v for k, v in groups.items() if v}, coords, dims


def _require_memory(fitted, group_effects, n_rows):
    """Refuse an exchange object that would not fit, with what leaves its largest part out."""
    n_draws = np.prod(fitted.posterior.shape)
    factors = fitted.design.factors if group_effects else ()
    effects = sum(len(factor.levels.labels) * (len(factor.slopes) + 1) for factor in factors)
    parts = {
        "group_effects": 8.0 * n_draws * effects,
        "log_likelihood": 8.0 * n_draws * n_rows,
    }
    largest = max(parts, key=parts.__getitem__)
    if not parts[largest]:
        return
    require_memory(
        sum(parts.values()) + 8.0 * fitted.budget.memory.temporary,
        f"draws of {effects} group effects and log likelihoods of {n_rows} rows",
        f"{largest}=False leaves the larger part out.",
    )


def _log_likelihood(posterior, training):
    """Log density of each training row given each joint draw, (n_chains, n_draws, n_samples)."""
    n_chains, n_draws = posterior.shape
    n_rows = len(training.y)
    out = np.empty((n_chains * n_draws, n_rows))
    # rows of a level side by side, so that few slices draw its effects
    order = np.arange(n_rows)
    if posterior.leaf is not None:
        order = np.argsort(training.codes[:, posterior.leaf], kind="stable")
    response, columns = posterior.response, training.columns
    constant = response.log_jacobian(training.y) * training.weights
    constant = constant + response.row_normaliser(training.y, training.weights)
    width = 4 + sum((len(slopes) + 2) ** 2 for slopes in posterior.slopes)
    for rows in np.array_split(order, -(-out.size * width // posterior.budget.memory.temporary)):
        density = posterior.row_log_densities(columns[rows], training.codes[rows], training.y[rows])
        out[:, rows] = training.weights[rows] * density + constant[rows]
    return out.reshape(n_chains, n_draws, n_rows)
