"""Posterior draws as tables and as ArviZ's exchange object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from skhier.inference.estimates import Estimate
from skhier.priors import describe
from skhier.utils import diagnostics
from skhier.utils.design import Design
from skhier.utils.memory import require_memory

__all__ = [
    "full_name",
    "intervals",
    "joined_label",
    "named_draws",
    "named_estimates",
    "prior_rows",
    "prior_table",
    "summary",
    "to_arviz",
    "variance_components",
]

HDI_PROB = 0.9
TEMPORARY = 2**24  # entries of the arrays that are there for a slice of the rows or levels
RESERVED_DIMS = {"chain", "draw", "feature", "row", "intercept", "coef", "noise_scale"}


def full_name(parameter: str, *parts: Any) -> str:
    """``parameter[part, part]``; parts that hold punctuation are quoted, so that no two collide."""
    quoted = (repr(part) if set(str(part)) & set(",[]'\"\n") else str(part) for part in parts)
    return f"{parameter}[{', '.join(quoted)}]"


def named_draws(
    posterior: Mapping[str, Any], coef_names: Sequence[str], effects: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
    """Every scalar parameter under its full name, (n_chains, n_draws) each.

    Parameters
    ----------
    posterior : mapping
        ``posterior_``.
    coef_names : sequence of str
    effects : mapping of factor to its effects' names
    """
    named = {"intercept": posterior["intercept"]}
    for j, name in enumerate(coef_names):
        named[full_name("coef", name)] = posterior["coef"][..., j]
    named["noise_scale"] = posterior["noise_scale"]
    for factor, names in effects.items():
        for j, effect in enumerate(names):
            draws = posterior["group_scale"][factor][..., j]
            named[full_name("group_scale", factor, effect)] = draws
        for i, j in combinations(range(len(names)), 2):
            draws = posterior["group_corr"][factor][..., i, j]
            named[full_name("group_corr", factor, names[i], names[j])] = draws
    return named


def named_estimates(
    estimates: Mapping[str, Estimate],
    coef_names: Sequence[str],
    effects: Mapping[str, Sequence[str]],
) -> dict[str, tuple[float, float, float]]:
    """Mean, sd and standard error under the names of :func:`named_draws`."""
    if not estimates:
        return {}
    fields = {name: np.stack(e, axis=-1) for name, e in estimates.items()}
    scalars: dict[str, Any] = {name: np.moveaxis(a, -1, 0)[:, None] for name, a in fields.items()}
    for name in ("group_scale", "group_corr"):
        scalars[name] = {f: scalars[f"{name}_{k}"] for k, f in enumerate(effects)}
    named = named_draws(scalars, coef_names, effects)
    return {name: tuple(values[:, 0]) for name, values in named.items()}


def summary(
    named: Mapping[str, np.ndarray],
    better: Mapping[str, tuple[float, float, float]],
    max_ess: float,
    notes: Sequence[str] = (),
) -> Any:
    """Mean, sd, interval, Monte Carlo error and convergence of each scalar that varies.

    Parameters
    ----------
    named : mapping of str to array of shape (n_chains, n_draws)
    better : mapping of str to (mean, sd, mcse)
        Where known more exactly than from the draws.
    max_ess : float
        Effective number of the points that the draws were resampled from.
    notes : sequence of str
        Sentences in ``attrs["notes"]``, printed beneath the table.
    """
    import pandas as pd

    from skhier.utils.notes import NotedFrame

    names = list(named)
    size = max(1, TEMPORARY // (32 * named["intercept"].size))
    parts = [
        _summary_part({name: named[name] for name in names[i : i + size]}, max_ess)
        for i in range(0, len(names), size)
    ]
    table = NotedFrame(pd.concat([part for part, _ in parts]))
    if better:
        table.loc[list(better), ["mean", "sd", "mcse"]] = list(better.values())
    table = table[~np.concatenate([constant for _, constant in parts])]
    table.attrs["notes"] = list(notes)
    return table


def _summary_part(named, max_ess):
    """Rows of the summary, and which of them do not vary."""
    import pandas as pd

    draws = np.stack(list(named.values()), axis=-1)
    interval = diagnostics.hdi(draws, HDI_PROB)
    table = pd.DataFrame(
        {
            "mean": draws.mean((0, 1)),
            "sd": draws.std((0, 1), ddof=1),
            f"hdi_{50 - 50 * HDI_PROB:g}%": interval[..., 0],
            f"hdi_{50 + 50 * HDI_PROB:g}%": interval[..., 1],
            "mcse": diagnostics.mcse_mean(draws),
            "ess_bulk": np.minimum(diagnostics.ess_bulk(draws), max_ess),
            "ess_tail": np.minimum(diagnostics.ess_tail(draws), max_ess),
            "r_hat": diagnostics.rank_rhat(draws),
        },
        index=pd.Index(list(named), name="parameter"),
    )
    return table, diagnostics.is_constant(draws)


def variance_components(
    posterior: Mapping[str, Any],
    effects: Mapping[str, Sequence[str]],
    shares: Sequence[np.ndarray],
) -> Any:
    """lme4's VarCorr as a posterior: a row for each sd, correlation and share of the variance.

    Parameters
    ----------
    posterior : mapping
        ``posterior_``.
    effects : mapping of factor to its effects' names
    shares : sequence of array of shape (n_chains, n_draws)
        Of each factor and, last, of the noise; empty if there is no variance to share.
    """
    import pandas as pd

    rows = []
    for factor, names in effects.items():
        scale, corr = posterior["group_scale"][factor], posterior["group_corr"][factor]
        for j, effect in enumerate(names):
            rows.append((factor, effect, "", "sd", scale[..., j]))
        for i, j in combinations(range(len(names)), 2):
            rows.append((factor, names[i], names[j], "corr", corr[..., i, j]))
    rows.append(("residual", "", "", "sd", posterior["noise_scale"]))
    if len(shares):
        whose = zip([*effects, "residual"], shares, strict=True)
        rows += [(factor, "", "", "icc", share) for factor, share in whose]
    keys = pd.DataFrame([r[:4] for r in rows], columns=["factor", "effect", "with", "parameter"])
    return keys.join(intervals({i: r[4] for i, r in enumerate(rows)}))


def intervals(named: Mapping[Any, np.ndarray]) -> Any:
    """Mean, sd and interval of scalars, each (n_chains, n_draws); a row each."""
    import pandas as pd

    draws = np.stack(list(named.values()), axis=-1)
    interval = diagnostics.hdi(draws, HDI_PROB)
    columns = {
        "mean": draws.mean((0, 1)),
        "sd": draws.std((0, 1), ddof=1),
        f"hdi_{50 - 50 * HDI_PROB:g}%": interval[..., 0],
        f"hdi_{50 + 50 * HDI_PROB:g}%": interval[..., 1],
    }
    return pd.DataFrame(columns, index=list(named))


def prior_rows(choice: Any, design: Design, eta: float | None) -> list[tuple[str, str, str]]:
    """The resolved priors in words: parameter, prior and what it is on.

    Parameters
    ----------
    choice : skhier.priors.PriorChoice
    design : Design
    eta : float or None
        None: no correlations.
    """
    where = "the mean of X" if choice.intercept_at_mean else "X = 0"
    rows = [("intercept", describe(choice.intercept), f"the intercept at {where}")]
    coef = _described(choice.coef)
    rows += [(f"coef[{n}]", coef[j], "slope") for j, n in enumerate(design.feature_names)]
    rows.append(("noise_scale", describe(choice.noise_scale), "residual sd"))
    for k, factor in enumerate(design.factors):
        rows += _group_prior_rows(choice.groups[k], factor.name, design.effects(k), eta)
    return rows


def prior_table(rows: Sequence[tuple[str, str, str]]) -> Any:
    """The rows of :func:`prior_rows`."""
    import pandas as pd

    return pd.DataFrame(rows, columns=["parameter", "prior", "on"]).set_index("parameter")


def _described(blocks) -> dict[int, str]:
    """Words for each column covered by ``(positions, distribution)`` blocks."""
    return {j: describe(prior, i) for at, prior in blocks for i, j in enumerate(at)}


def _group_prior_rows(prior, factor, effects, eta):
    rows = []
    where = ""
    if len(effects) > 1:  # an intercept on its own is the same everywhere
        where = f", intercept at {'the mean of X' if prior.at_mean else 'X = 0'}"
    if prior.decov is None:
        described = _described(prior.scales)
        for i, effect in enumerate(effects):
            words = described[(i - 1) % len(effects)]  # the kernels' order: intercept last
            on = f"sd of the group effects{'' if i else where}"
            rows.append((full_name("group_scale", factor, effect), words, on))
    else:
        concentration, shape, scale = prior.decov
        words = f"decov(concentration={concentration:g}, shape={shape:g}, scale={scale:g})"
        on = f"sds of the group effects over noise_scale{where}"
        rows.append((full_name("group_scale", factor), words, on))
    if eta is not None and len(effects) > 1:
        words = f"LKJ(concentration={eta:g})"
        on = f"correlation of the group effects{where}"
        rows.append((full_name("group_corr", factor), words, on))
    return rows


def to_arviz(model: Any, group_effects: bool, log_likelihood: bool) -> Any:
    """See ``BaseHierarchical.to_arviz``; one function for ArviZ before and after 1.0."""
    import inspect

    import arviz as az

    groups, coords, dims = _exchange(model, group_effects, log_likelihood)
    if "posterior" in inspect.signature(az.from_dict).parameters:
        return az.from_dict(**groups, coords=coords, dims=dims)
    return az.from_dict(groups, coords=coords, dims=dims)


def elpd_to_arviz(found: Any) -> Any:
    """See ``Elpd.to_arviz``; ArviZ before and after 1.0."""
    import xarray as xr

    dim = found.factor or "row"
    copies = np.repeat(np.arange(len(found.pointwise)), _copies(found))
    parts = {
        name: xr.DataArray(values[copies], dims=[dim], name=name)
        for name, values in (
            ("loo_i", found.pointwise["elpd"].to_numpy()),
            ("pareto_k", found.pointwise["pareto_k"].to_numpy()),
        )
    }
    numbers = (found.elpd, found.se, found.p, found.n_components, len(copies))
    try:
        from arviz_stats.utils import ELPDDataLOO
    except ImportError:
        from arviz.stats.stats_utils import ELPDData

        facts = dict(zip(("elpd_loo", "se", "p_loo", *SIZES), numbers, strict=True))
        facts |= {"warning": found.n_bad > 0, **parts, "scale": "log", "good_k": found.good_k}
        return ELPDData(data=list(facts.values()), index=list(facts))
    facts = dict(zip(("elpd", "se", "p", *SIZES), numbers, strict=True))
    facts |= {"warning": found.n_bad > 0, "scale": "log", "good_k": found.good_k}
    return ELPDDataLOO(**facts, elpd_i=parts["loo_i"], pareto_k=parts["pareto_k"])


SIZES = ("n_samples", "n_data_points")


def _copies(found):
    """ArviZ knows no weights: a row of weight 2 is there twice."""
    return found.pointwise["weight"].astype(int) if "weight" in found.pointwise else 1


def _exchange(model, group_effects, log_likelihood):
    source = model.posterior_
    training = model.__dict__.get("_training")
    log_likelihood = log_likelihood and training is not None
    _require_memory(model, group_effects, len(training.y) if log_likelihood else 0)
    posterior = {name: source[name] for name in ("intercept", "noise_scale")}
    coords: dict[str, Any] = {}
    dims: dict[str, list[str]] = {}
    if len(model.coef_names_):
        posterior["coef"] = source["coef"]
        coords["feature"], dims["coef"] = list(model.coef_names_), ["feature"]
    for k, (factor, effects) in enumerate(model._effects().items()):
        name = factor.replace("/", "_")  # which in a tree of groups is a path
        level = f"{name}_level" if name in RESERVED_DIMS else name
        one, other = f"{name}_effect", f"{name}_effect_bis"
        coords[one] = coords[other] = effects
        posterior[f"group_scale_{name}"] = source["group_scale"][factor]
        dims[f"group_scale_{name}"] = [one]
        posterior[f"group_corr_{name}"] = source["group_corr"][factor]
        dims[f"group_corr_{name}"] = [one, other]
        if group_effects:
            labels = model.group_levels_[factor]
            coords[level] = [joined_label(label) for label in labels]
            draws = model._posterior.group_draws(k, np.arange(len(labels)))
            shape = (*model._posterior.shape, *draws.shape[1:])
            posterior[f"group_effects_{name}"] = draws.reshape(shape)
            dims[f"group_effects_{name}"] = [level, one]
    groups = {"posterior": posterior, "sample_stats": dict(model._sample_stats)}
    if training is not None:
        groups["observed_data"] = {"y": training.y}
        coords["row"], dims["y"] = np.arange(len(training.y)), ["row"]
    if log_likelihood:
        groups["log_likelihood"] = {"y": _log_likelihood(model._posterior, training)}
    return {k: v for k, v in groups.items() if v}, coords, dims


def joined_label(label: Any) -> Any:
    """One label of a nesting's several; parts that hold a colon are quoted: none collide."""
    if not isinstance(label, tuple):
        return label
    return ":".join(repr(part) if set(str(part)) & set(":'\"") else str(part) for part in label)


def _require_memory(model, group_effects, n_rows):
    """Refuse an exchange object that would not fit, with what leaves its largest part out."""
    n_draws = np.prod(model._posterior.shape)
    levels, names = model.group_levels_, model._effects()
    effects = sum(len(levels[f]) * len(names[f]) for f in names) if group_effects else 0
    parts = {
        "group_effects": 8.0 * n_draws * effects,
        "log_likelihood": 8.0 * n_draws * n_rows,
    }
    largest = max(parts, key=parts.__getitem__)
    if not parts[largest]:
        return
    require_memory(
        sum(parts.values()) + 8.0 * TEMPORARY,
        f"draws of {effects} group effects and log likelihoods of {n_rows} rows",
        f"{largest}=False leaves the larger part out.",
    )


def _log_likelihood(posterior, training):
    """Log density of each training row given each joint draw, (n_chains, n_draws, n_samples)."""
    n_chains, n_draws = posterior.shape
    n_rows = len(training.y)
    out = np.empty((n_chains * n_draws, n_rows))
    chain = posterior.plan.chain
    # rows of a level side by side, so that few slices draw its effects
    order = np.argsort(training.codes[:, chain[0]], kind="stable") if chain else np.arange(n_rows)
    width = 4 + sum((len(slopes) + 2) ** 2 for slopes in posterior.slopes)
    for rows in np.array_split(order, -(-out.size * width // TEMPORARY)):
        density = posterior.row_log_densities(
            training.x[rows], training.codes[rows], training.y[rows]
        )
        out[:, rows] = training.weights[rows] * density
    return out.reshape(n_chains, n_draws, n_rows)
