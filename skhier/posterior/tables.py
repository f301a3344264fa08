"""Posterior draws as tables and as ArviZ's exchange object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from skhier.inference.estimates import Estimate
from skhier.priors import describe
from skhier.responses.base import Response
from skhier.responses.member import SCALE
from skhier.utils import diagnostics
from skhier.utils.budget import USUAL, MemoryBudget
from skhier.utils.design import Design
from skhier.utils.slices import slices

__all__ = [
    "full_name",
    "intervals",
    "joined_label",
    "named_draws",
    "named_effects",
    "named_estimates",
    "named_noises",
    "prior_rows",
    "prior_table",
    "summary",
    "variance_components",
]

HDI_PROB = 0.9


def full_name(parameter: str, *parts: Any) -> str:
    """``parameter[part, part]``; parts that hold punctuation are quoted, so that no two collide."""
    quoted = (repr(part) if set(str(part)) & set(",[]'\"\n") else str(part) for part in parts)
    return f"{parameter}[{', '.join(quoted)}]"


def named_draws(
    posterior: Mapping[str, Any],
    coef_names: Sequence[str],
    own: Iterable[str],
    effects: Mapping[str, Sequence[str]],
) -> dict[str, np.ndarray]:
    """Every scalar parameter under its full name, (n_chains, n_draws) each.

    Parameters
    ----------
    posterior : mapping
        ``posterior_``.
    coef_names : sequence of str
    own : iterable of str
        The response's own parameters.
    effects : mapping of factor to its effects' names
    """
    named = {"intercept": posterior["intercept"]}
    for j, name in enumerate(coef_names):
        named[full_name("coef", name)] = posterior["coef"][..., j]
    named |= {name: posterior[name] for name in own}
    for factor, names in effects.items():
        for j, effect in enumerate(names):
            draws = posterior["group_scale"][factor][..., j]
            named[full_name("group_scale", factor, effect)] = draws
        for i, j in combinations(range(len(names)), 2):
            draws = posterior["group_corr"][factor][..., i, j]
            named[full_name("group_corr", factor, names[i], names[j])] = draws
    return named


def named_effects(
    factor: str, labels: Sequence[Any], effects: Sequence[str], draws: np.ndarray
) -> dict[str, np.ndarray]:
    """Draws (n_chains, n_draws, n_levels, q) of a factor's effects, each under its full name."""
    return {
        full_name("group_effects", factor, joined_label(label), effect): draws[..., g, j]
        for g, label in enumerate(labels)
        for j, effect in enumerate(effects)
    }


def named_noises(factor: str, labels: Sequence[Any], draws: np.ndarray) -> dict[str, np.ndarray]:
    """Draws (n_chains, n_draws, n_levels) of the sds of levels' noises, under their full names."""
    return {
        full_name("group_noise", factor, joined_label(label)): draws[..., g]
        for g, label in enumerate(labels)
    }


def named_estimates(
    estimates: Mapping[str, Estimate],
    coef_names: Sequence[str],
    own: Iterable[str],
    effects: Mapping[str, Sequence[str]],
) -> dict[str, tuple[float, float, float]]:
    """Mean, sd and standard error under the names of :func:`named_draws`."""
    if not estimates:
        return {}
    fields = {name: np.stack(e, axis=-1) for name, e in estimates.items()}
    scalars: dict[str, Any] = {name: np.moveaxis(a, -1, 0)[:, None] for name, a in fields.items()}
    for name in ("group_scale", "group_corr"):
        scalars[name] = {f: scalars[f"{name}_{k}"] for k, f in enumerate(effects)}
    named = named_draws(scalars, coef_names, own, effects)
    return {name: tuple(values[:, 0]) for name, values in named.items()}


def summary(
    named: Mapping[str, np.ndarray],
    better: Mapping[str, tuple[float, float, float]],
    max_ess: float,
    notes: Sequence[str] = (),
    budget: MemoryBudget = USUAL.memory,
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
    budget : MemoryBudget
    """
    import pandas as pd

    from skhier.utils.notes import NotedFrame

    names = list(named)
    size = budget.temporary // (32 * named["intercept"].size)
    parts = [
        _summary_part({name: named[name] for name in names[part]}, max_ess)
        for part in slices(len(names), size)
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
    table = pd.DataFrame(
        {
            **_moments(draws),
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
    residual_sd: np.ndarray,
    effects: Mapping[str, Sequence[str]],
    shares: Sequence[np.ndarray],
) -> Any:
    """lme4's VarCorr as a posterior: a row for each sd, correlation and share of the variance.

    Parameters
    ----------
    posterior : mapping
        ``posterior_``.
    residual_sd : array of shape (n_chains, n_draws)
        Of y around its line.
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
    rows.append(("residual", "", "", "sd", residual_sd))
    if len(shares):
        whose = zip([*effects, "residual"], shares, strict=True)
        rows += [(factor, "", "", "icc", share) for factor, share in whose]
    keys = pd.DataFrame([r[:4] for r in rows], columns=["factor", "effect", "with", "parameter"])
    return keys.join(intervals({i: r[4] for i, r in enumerate(rows)}))


def intervals(named: Mapping[Any, np.ndarray]) -> Any:
    """Mean, sd and interval of scalars, each (n_chains, n_draws); a row each."""
    import pandas as pd

    draws = np.stack(list(named.values()), axis=-1)
    return pd.DataFrame(_moments(draws), index=list(named))


def _moments(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the mean, sd and interval of scalars, (n_chains, n_draws, n_scalars)."""
    interval = diagnostics.hdi(draws, HDI_PROB)
    return {
        "mean": draws.mean((0, 1)),
        "sd": draws.std((0, 1), ddof=1),
        f"hdi_{50 - 50 * HDI_PROB:g}%": interval[..., 0],
        f"hdi_{50 + 50 * HDI_PROB:g}%": interval[..., 1],
    }


def prior_rows(
    choice: Any, response: Response, design: Design, eta: float | None
) -> list[tuple[str, str, str]]:
    """The resolved priors in words: parameter, prior and what it is on.

    Parameters
    ----------
    choice : skhier.priors.PriorChoice
    response : Response
    design : Design
    eta : float or None
        None: no correlations.
    """
    where = "the mean of X" if choice.intercept_at_mean else "X = 0"
    rows = [("intercept", describe(choice.intercept), f"the intercept at {where}")]
    coef = _described(choice.coef)
    rows += [(f"coef[{n}]", coef[j], "slope") for j, n in enumerate(design.feature_names)]
    rows += [(name, describe(choice.own[name]), on) for name, on in response.parameters.items()]
    unit = ""  # of rstanarm's sds of effects: see Response.spread
    if SCALE in (*response.parameters, *response.fixed):
        unit = f" over {SCALE if SCALE in response.parameters else 'the typical known error'}"
    for k, factor in enumerate(design.factors):
        rows += _group_prior_rows(choice.groups[k], factor.name, design.effects(k), eta, unit)
    return rows


def prior_table(rows: Sequence[tuple[str, str, str]]) -> Any:
    """The rows of :func:`prior_rows`."""
    import pandas as pd

    return pd.DataFrame(rows, columns=["parameter", "prior", "on"]).set_index("parameter")


def _described(blocks) -> dict[int, str]:
    """Words for each column covered by ``(positions, distribution)`` blocks."""
    return {j: describe(prior, i) for at, prior in blocks for i, j in enumerate(at)}


def _group_prior_rows(prior, factor, effects, eta, unit):
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
        on = f"sds of the group effects{unit}{where}"
        rows.append((full_name("group_scale", factor), words, on))
    if eta is not None and len(effects) > 1:
        words = f"LKJ(concentration={eta:g})"
        on = f"correlation of the group effects{where}"
        rows.append((full_name("group_corr", factor), words, on))
    return rows


def joined_label(label: Any) -> Any:
    """One label of a nesting's several; parts that hold a colon are quoted: none collide."""
    if not isinstance(label, tuple):
        return label
    return ":".join(repr(part) if set(str(part)) & set(":'\"") else str(part) for part in label)
