"""What a search asks of each candidate, whether its rows are there or their statistics alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sklearn.base import clone

from skhier.inference.checks import flat_priors
from skhier.priors import PriorChoice
from skhier.utils.budget import Budget

__all__ = [
    "Scored",
    "budget_of_candidates",
    "evidences",
    "forbid_evidence_of_nuts",
    "forbid_new_groups",
    "light",
    "naming_fold",
    "structure",
]

Model = TypeVar("Model", bound=Any)


class Scored(NamedTuple):
    """``values`` (n_candidates, n_splits), further columns of ``cv_results_``, and warnings."""

    values: np.ndarray
    columns: dict[str, np.ndarray]
    messages: tuple[str, ...] = ()


def evidences(
    models: Sequence[Any], of_model: Callable[[Any], tuple[PriorChoice, float]]
) -> Scored:
    """Log evidences of candidates, and a warning where these cannot be compared.

    ``of_model`` takes a candidate to its prior and log evidence.
    """
    fits = [of_model(model) for model in models]
    values = np.array([[evidence] for _, evidence in fits])
    flat = [flat_priors(choice) for choice, _ in fits]
    n_flat = np.array([len(coefs) + intercept for coefs, intercept in flat])
    if np.ptp(n_flat) == 0:
        return Scored(values, {})
    message = (
        f"cv='evidence' compares candidates with {n_flat.min()} to {n_flat.max()} coefficients "
        "whose prior is flat. The density of a flat prior is arbitrary, and with it is the choice. "
        "Give `prior__coef` a number or a distribution, or take cv='loo', 'logo' or folds."
    )
    return Scored(values, {}, (message,))


def budget_of_candidates(budget: Budget) -> Budget:
    """Moments that only score a candidate take less."""
    memory = replace(budget.memory, group_entries=budget.memory.group_entries_in_race)
    rule = replace(budget.rule, all_of_rows=budget.rule.all_of_rows_in_race)
    return replace(budget, memory=memory, rule=rule)


def light(model: Model, budget: Budget, means_do: bool) -> Model:
    """The same model with as many draws as a score needs; few where means are all it looks at."""
    few = means_do and model._response.conjugate  # whose means are in closed form
    n_draws = budget.scores.draws_for_means if few else budget.scores.draws
    lighter = clone(model).set_params(n_chains=1, n_draws=n_draws)
    lighter._budget = budget
    return lighter


def forbid_evidence_of_nuts(model: Any) -> None:
    """Raise ValueError of a candidate whose sampler tells no evidence."""
    if model.inference == "nuts":
        raise ValueError("inference='nuts' has no evidence: cv='evidence' needs 'auto'.")


def forbid_new_groups(model: Any, has_new: bool) -> None:
    """Raise ValueError of a fold with rows of groups that the others lack, if the model does."""
    if has_new and model.handle_unknown == "error":
        raise ValueError(
            "it has rows of groups that the others lack, and handle_unknown='error'. "
            "Set handle_unknown='population'."
        )


def structure(model: Any) -> str:
    """Equal of models that have the same columns and the same structure."""
    return repr((model.slopes, model.group_means, model._response.kind))


@contextmanager
def naming_fold(label: Any, candidate: Any) -> Iterator[None]:
    """Errors say in which fold and of which candidate they are."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        raise kind(f"Fold {label!r} of cv, candidate {candidate}: {error}") from error
