"""Scores of rows or groups left out, where importance weights fail: from fits without them.

``leave_one_out`` weighs the posterior given all rows as if one were not there, which fails for a
row that moves the posterior far (a high Pareto k). A fit to the others, under the same prior, gives
that row's density: of a normal response as an average of closed forms over its components
(:mod:`skhier.estimators._left_out`), of others, whose density varies far more over the components
than the evidence errs, as the quotient of two evidences,

    log p(y_i | y_-i) = log p(y) - log p(y_-i).

Vehtari, Gelman and Gabry (2017), Stat. Comput. 27, sec. 2.1, for the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from skhier.estimators._left_out import density_left_out, what_is_left_out
from skhier.inference.results import EngineResult
from skhier.posterior.elpd import Elpd, summed
from skhier.responses.base import Response
from skhier.responses.normal import NORMAL
from skhier.statistics.problem import Problem
from skhier.statistics.products import level_pairs
from skhier.statistics.reduction import own_units, reduce_block
from skhier.utils.budget import USUAL, ScoreBudget
from skhier.utils.training import Training
from skhier.utils.words import listed

__all__ = ["Checked", "checked", "doubts", "problem_without"]


class Checked(NamedTuple):
    """A candidate's score, as far as refits have made it reliable.

    Attributes
    ----------
    elpd : Elpd
        Densities from refits in their places; ``pareto_k`` as it was.
    refitted, unreliable : int array
        Positions in ``elpd.pointwise`` that were refitted, and that neither the weights nor a refit
        could estimate; those of the highest Pareto k first.
    """

    elpd: Elpd
    refitted: np.ndarray
    unreliable: np.ndarray


def checked(
    elpd: Elpd,
    training: Training,
    problem: Problem,
    result: EngineResult,
    sample: Callable[[Problem, Training], EngineResult],
    response: Response = NORMAL,
    budget: ScoreBudget = USUAL.scores,
) -> Checked:
    """Refit for the rows or groups whose Pareto k is too high, the worst ones first.

    At most ``budget.max_refits`` of them, and none where the fit itself was a Markov chain, which
    would take as long again for each.

    Parameters
    ----------
    elpd : Elpd
    training : Training
    problem : Problem
        Of all rows.
    result : EngineResult
        Of the fit to all rows.
    sample : callable
        Fits the same model to another problem and its rows.
    response : Response
    budget : ScoreBudget
    """
    table = elpd.pointwise
    density, gain, k_hat, error = (
        table[name].to_numpy(copy=True) for name in ("elpd", "p", "pareto_k", "mcse")
    )
    bad = np.flatnonzero(~(k_hat <= elpd.good_k) | ~np.isfinite(density))
    worst = bad[np.argsort(-np.nan_to_num(k_hat[bad], nan=np.inf), kind="stable")]
    refitted: list[int] = []
    if result.facts.get("sampler") == "importance":
        seen = density + gain
        for at in worst[: budget.max_refits]:
            of_all = training, problem, result
            score = _score_of_refit(elpd.kind, at, *of_all, sample, response, budget.at_once)
            if score is not None and np.isfinite(score[0]):
                density[at], error[at] = score
                gain[at] = seen[at] - density[at]
                refitted.append(at)
    if refitted:
        table = table.assign(elpd=density, p=gain, mcse=error)
        elpd = summed(table, elpd.kind, elpd.factor, elpd.n_components, elpd.rows_id)
    return Checked(elpd, np.array(refitted, dtype=int), worst[~np.isin(worst, refitted)])


def _score_of_refit(
    kind, at, training, problem, of_all, sample, response, entries
) -> tuple[float, float] | None:
    """Log density of the row or group and its Monte Carlo error; None: a fit cannot tell."""
    out = what_is_left_out(kind, training, response, at)
    rows = out.rest(training)
    rest = problem_without(problem, training, rows.weights, response)
    if rest is None:
        return None
    try:
        result = sample(rest, rows.take(rows.weights > 0))
    except (RuntimeError, ValueError):  # without these rows the posterior is improper
        return None
    if not response.conjugate:
        error = np.hypot(_evidence_error(of_all), _evidence_error(result))
        return of_all.log_evidence - result.log_evidence, float(error)
    components = result.components
    if components is None:
        return None
    mass = components.weights
    with np.errstate(divide="ignore"):
        share = np.log(mass) + density_left_out(response, rest, components, training, out, entries)
    average = float(logsumexp(share))
    # delta method for a mean over weighted points
    error = np.sqrt(np.sum((np.exp(share - average) - mass) ** 2))
    return average, float(error)


def _evidence_error(result: EngineResult) -> float:
    """Of a mean of as many independent weights as the points are worth: no less than it is."""
    return 1 / np.sqrt(result.facts.get("ess_importance", USUAL.engine.min_ess_per_chain))


def problem_without(
    problem: Problem, training: Training, weights: np.ndarray, response: Response = NORMAL
) -> Problem | None:
    """The same model of the rows with the weights left.

    Leaving out is defined for a fixed prior: its scales and the mean of x where its intercept sits
    stay those of all rows. Statistics are summed anew, for differences would cancel where what is
    left out dominates; for the same reason a y that may be centred has units of its own.

    Parameters
    ----------
    problem : Problem
        Of all rows.
    training : Training
    weights : array of shape (n_samples,)
        Some of them 0.
    response : Response

    Returns
    -------
    Problem or None
        None: fewer than two rows, or a constant y, whose posterior is no distribution.
    """
    kept = weights > 0
    rest = training._replace(weights=weights).take(kept)
    if len(rest.y) < 2 or rest.weights.sum() < 2:
        return None
    axes, units = problem.reduction.axes, problem.units
    if response.standardises:
        if rest.y.min() == rest.y.max():
            return None
        of_rest = own_units(axes, rest)
        units = units._replace(y_mean=of_rest.y_mean, y_scale=of_rest.y_scale)
    pairs = [pair.take(kept) for pair in level_pairs(training.codes)]
    reduction = reduce_block(axes, rest, units, pairs)
    return problem._replace(reduction=reduction)


def doubts(
    cv: str,
    candidates: Sequence[Any],
    scores: Sequence[Checked],
    labels: Any,
    best: int,
    max_refits: int = USUAL.scores.max_refits,
) -> list[str]:
    """A warning that names what could not be estimated, and whether the choice rests on it.

    Parameters
    ----------
    cv : {"loo", "logo"}
    candidates : sequence of dict
    scores : sequence of Checked
    labels : array
        What to call each row or group.
    best : int
        The candidate chosen.
    max_refits : int
        Of a candidate.
    """
    what = "rows" if cv == "loo" else "groups"
    named = [
        f"{params} at {what} {listed(labels[score.unreliable])}"
        for params, score in zip(candidates, scores, strict=True)
        if len(score.unreliable)
    ]
    if not named:
        return []
    rivals = [
        str(candidates[k])
        for k, score in enumerate(scores)
        if k != best and _is_contested(scores[best], score)
    ]
    choice = "The choice does not rest on them."
    if rivals:
        choice = (
            f"Whether {candidates[best]} is better than {listed(rivals)} rests on these {what}."
        )
    splitter = "KFold(10, shuffle=True)" if cv == "loo" else "GroupKFold(10)"
    return [
        f"cv={cv!r} cannot tell how well some {what} are predicted by the others: their Pareto k "
        f"is above {scores[best].elpd.good_k:.2f}, and they were not refitted (at most "
        f"{max_refits} {what} a candidate are, the worst first, if importance sampling can fit "
        f"it): {listed(named, '; ')}. {choice} Use folds instead: cv={splitter} "
        "with scoring='log_predictive_density'."
    ]


def _is_contested(winner: Checked, other: Checked) -> bool:
    """Whether the winner's lead is no larger than what unreliable densities contribute to it."""
    doubtful = np.union1d(winner.unreliable, other.unreliable)
    if not len(doubtful):
        return False
    ours, theirs = winner.elpd.pointwise, other.elpd.pointwise
    counts = winner.elpd.counts
    lead = counts * (ours["elpd"].to_numpy() - theirs["elpd"].to_numpy())
    error = counts * np.maximum(ours["mcse"].to_numpy(), theirs["mcse"].to_numpy())
    at_stake = np.maximum(np.abs(lead), error)[doubtful].sum()
    return not lead.sum() - lead[doubtful].sum() > at_stake
