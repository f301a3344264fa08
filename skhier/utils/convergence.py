"""Whether draws can be believed, and what to change if not.

The numbers of `diagnostics`, the facts of the sampler, the limits below, and one sentence of
advice for each limit crossed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skhier.utils.diagnostics import (
    e_bfmi,
    ess_bulk,
    ess_tail,
    is_constant,
    rank_rhat,
    split_rhat,
)
from skhier.utils.words import listed

__all__ = ["ConvergenceReport", "convergence_report"]

FloatArray = NDArray[np.float64]

RHAT_LIMIT = 1.01  # Vehtari et al. (2021), Bayesian Analysis 16(2), sec. 1
ESS_LIMIT = 100  # a chain: the same, end of sec. 3.2, 50 for each half
E_BFMI_LIMIT = 0.3  # Betancourt (2016), arXiv:1604.00695


@dataclass(frozen=True)
class ConvergenceReport:
    """The worst numbers of a run and the advice that follows.

    Attributes
    ----------
    max_rhat, min_ess_bulk, min_ess_tail : float
        Worst value over the scalars that vary; NaN if there is none, and `max_rhat` with one chain.
    max_rhat_name, min_ess_bulk_name, min_ess_tail_name : str or None
        The scalar it belongs to; None for NaN.
    min_e_bfmi : float
        Worst value over the chains; NaN if no energy varies.
    n_transitions, n_divergences, n_saturated : int
        Transitions in all chains, those that diverged, those that used the whole tree.
    warnings : list of str
        What is wrong and what to do, for each limit crossed. Empty: nothing was found.
    """

    max_rhat: float
    max_rhat_name: str | None
    min_ess_bulk: float
    min_ess_bulk_name: str | None
    min_ess_tail: float
    min_ess_tail_name: str | None
    min_e_bfmi: float
    n_transitions: int
    n_divergences: int
    n_saturated: int
    warnings: list[str]


def convergence_report(
    draws: Mapping[str, ArrayLike],
    *,
    diverging: ArrayLike = False,
    energy: ArrayLike | None = None,
    n_steps: ArrayLike = 0,
    max_tree_depth: int = 10,
    noncentered: bool = True,
    max_ess: float | None = None,
) -> ConvergenceReport:
    """Judge draws; those of NUTS with the facts of its transitions.

    Parameters
    ----------
    draws : mapping of str to array of shape (n_chains, n_draws)
        Full name of each scalar, ``"group_scale[Subject, Days]"``, to its draws after warm-up.
        Scalars that are constant are left out, unless all are.
    diverging : bool array of shape (n_chains, n_draws)
        Whether the transition diverged.
    energy : array of shape (n_chains, n_draws)
        Hamiltonian of the transition.
    n_steps : int array of shape (n_chains, n_draws)
        Leapfrog steps of the transition: a full tree of depth d takes 2^d - 1.
    max_tree_depth : int
        Greatest depth allowed. A tree that would have ended there anyway counts as saturated.
    noncentered : bool
        Whether the model is non-centered, or has no centered form: then the advice is another.
    max_ess : float or None
        Of draws that are independent, resampled from weighted points: the effective size of those.
        It takes the place of autocorrelations, and R-hat, which is noise here, warns of nothing.

    Returns
    -------
    ConvergenceReport
        Nothing is printed or warned here.

    Raises
    ------
    ValueError
        If `draws` is empty or its arrays differ in shape. The others' shapes are not checked.

    Examples
    --------
    >>> import numpy as np
    >>> from skhier.utils.convergence import convergence_report
    >>> rng = np.random.default_rng(0)
    >>> report = convergence_report(
    ...     {"noise_scale": rng.normal(size=(4, 500))},
    ...     diverging=np.arange(2000).reshape(4, 500) < 3,
    ...     energy=rng.normal(size=(4, 500)),
    ...     n_steps=np.full((4, 500), 7),
    ...     max_tree_depth=10,
    ...     noncentered=True,
    ... )
    >>> report.warnings
    ['3 of 2000 transitions diverged; intervals may be too narrow. Raise target_accept.']
    """
    names = list(draws)
    x = np.moveaxis(np.stack([np.asarray(draws[name], dtype=float) for name in names]), 0, -1)
    if max_ess is None:
        r_hat, ess = rank_rhat(x), (ess_bulk(x), ess_tail(x))
    else:
        of_weights = np.full(x.shape[2], min(max_ess, x.shape[0] * x.shape[1]))
        r_hat, ess = split_rhat(x), (of_weights, of_weights)
    max_rhat, max_rhat_name = _worst(r_hat, names, np.nanargmax)
    min_ess_bulk, min_ess_bulk_name = _worst(ess[0], names, np.nanargmin)
    min_ess_tail, min_ess_tail_name = _worst(ess[1], names, np.nanargmin)
    energies = np.zeros(x.shape[:2]) if energy is None else np.asarray(energy, dtype=float)
    report = ConvergenceReport(
        max_rhat=max_rhat,
        max_rhat_name=max_rhat_name,
        min_ess_bulk=min_ess_bulk,
        min_ess_bulk_name=min_ess_bulk_name,
        min_ess_tail=min_ess_tail,
        min_ess_tail_name=min_ess_tail_name,
        min_e_bfmi=float(np.fmin.reduce(e_bfmi(energies))),
        n_transitions=x.shape[0] * x.shape[1],
        n_divergences=int(np.count_nonzero(diverging)),
        n_saturated=int(np.count_nonzero(np.asarray(n_steps) >= 2**max_tree_depth - 1)),
        warnings=[],
    )
    advice = [
        *_advice_on_values(x, energies, names),
        *_advice_on_length(report, x.shape[0], x.shape[1], max_ess is not None),
        *_advice_on_sampler(report, max_tree_depth, noncentered),
    ]
    return replace(report, warnings=advice)


def _worst(
    values: FloatArray, names: Sequence[str], nanarg: Callable[[FloatArray], np.intp]
) -> tuple[float, str | None]:
    if np.isnan(values).all():
        return float("nan"), None
    index = int(nanarg(values))
    return float(values[index]), names[index]


def _advice_on_values(x: FloatArray, energy: FloatArray, names: Sequence[str]) -> Iterator[str]:
    """What no statistic would show, because such scalars are left out of them."""
    finite = np.append(np.isfinite(x).all(axis=(0, 1)), np.isfinite(energy).all())
    bad = [repr(name) for name, fine in zip([*names, "energy"], finite, strict=True) if not fine]
    if bad:
        yield f"NaN or infinite draws in {listed(bad)}. Tighten the priors."
    if is_constant(x).all():
        yield f"No chain moved: the draws of all {len(names)} scalars are constant. Raise n_warmup."


def _advice_on_length(
    report: ConvergenceReport, n_chains: int, n_draws: int, independent: bool
) -> Iterator[str]:
    """Too few chains, draws or effective draws. Numbers are rounded away from the limit."""
    if n_chains == 1:
        yield "n_chains=1: R-hat needs two chains or more to see that they agree. Raise n_chains."
    if report.max_rhat > RHAT_LIMIT and not independent:
        yield (
            f"R-hat is {np.ceil(report.max_rhat * 1000) / 1000:.4g} for "
            f"{report.max_rhat_name!r} (> {RHAT_LIMIT}): the chains disagree. "
            "Raise n_warmup and n_draws."
        )
    if n_draws < ESS_LIMIT:
        yield (
            f"n_draws={n_draws} (< {ESS_LIMIT} per chain): too few draws to trust intervals or "
            "R-hat. Raise n_draws."
        )
        return  # the effective sample sizes would only say it again
    for kind, ess, name in (
        ("bulk", report.min_ess_bulk, report.min_ess_bulk_name),
        ("tail", report.min_ess_tail, report.min_ess_tail_name),
    ):
        if ess < ESS_LIMIT * n_chains:
            yield (
                f"The {kind} effective sample size is {np.floor(ess):.0f} for {name!r} "
                f"(< {ESS_LIMIT} per chain, {ESS_LIMIT * n_chains} in all). Raise n_draws."
            )


def _advice_on_sampler(
    report: ConvergenceReport, max_tree_depth: int, noncentered: bool
) -> Iterator[str]:
    """Signs of a posterior that is hard to walk through. Numbers as in `_advice_on_length`."""
    if report.n_divergences:
        yield (
            f"{report.n_divergences} of {report.n_transitions} transitions diverged; intervals "
            "may be too narrow. Raise target_accept"
            + ("." if noncentered else " or use noncentered=True.")
        )
    if report.min_e_bfmi < E_BFMI_LIMIT:
        yield (
            f"E-BFMI {np.floor(report.min_e_bfmi * 100) / 100:.2f} (< {E_BFMI_LIMIT}): the tails "
            "are poorly explored. "
            + ("Raise n_warmup or tighten the priors." if noncentered else "Use noncentered=True.")
        )
    if report.n_saturated:
        yield (
            f"{report.n_saturated} of {report.n_transitions} transitions reached "
            f"max_tree_depth={max_tree_depth}; the chains move slowly. Raise max_tree_depth."
        )
