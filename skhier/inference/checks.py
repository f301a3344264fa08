"""What is no posterior: flat priors that the data do not complete, numbers that are not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from skhier.priors import PriorChoice
from skhier.statistics.problem import Problem
from skhier.utils.rank import linear_dependence
from skhier.utils.words import listed

__all__ = ["FlatPriors", "flat_priors", "forbid_improper", "forbid_nonfinite"]


class FlatPriors(NamedTuple):
    """Which priors are flat: ``coefs``, positions in column order, and ``intercept``."""

    coefs: list[int]
    intercept: bool


def flat_priors(choice: PriorChoice) -> FlatPriors:
    """Of the coefficients and the intercept."""
    from skhier.kernels.distributions import is_flat, unexpanded

    coefs = sorted(j for at, prior in choice.coef if is_flat(unexpanded(prior)) for j in at)
    return FlatPriors(coefs, is_flat(unexpanded(choice.intercept)))


def forbid_improper(problem: Problem, choice: PriorChoice, names: Sequence[str]) -> None:
    """Refuse flat priors of slopes that the rows leave undetermined.

    Along a combination of columns that is 0 in every row the likelihood does not change, whatever
    the group effects; if all its slopes are flat, neither does the prior.

    Parameters
    ----------
    problem : Problem
    choice : PriorChoice
    names : sequence of str
        Features, in column order.

    Raises
    ------
    ValueError
        The posterior is improper; with the columns.
    """
    flat, intercept_is_flat = flat_priors(choice)
    if not flat:
        return
    gram, mean = problem.stats.xx[:-1, :-1], problem.units.x_mean / problem.units.x_scale
    # a column's unit is its sd, up to 2; what statistics of a fold leave of a constant is rounding
    is_constant = np.diag(gram) <= 0.1 * max(problem.stats.n - 1, 0)
    varying = [j for j in flat if not is_constant[j]]
    constant = [j for j in flat if is_constant[j]]
    dependence = linear_dependence(gram[np.ix_(varying, varying)], mean[varying])
    redundant = sorted(constant + [varying[j] for j in dependence.redundant])
    if not redundant:
        return
    # a proper prior of the intercept at X = 0 settles one combination that adds up to a constant
    at_zero = not (choice.intercept_at_mean or intercept_is_flat)
    adds_up = dependence.needs_constant if dependence.redundant else mean[constant[0]] != 0
    if at_zero and len(redundant) == 1 and adds_up:
        return
    raise ValueError(
        "the posterior is improper: the priors of slopes are flat, and these columns of X are "
        "constant or linear combinations of the intercept and of other columns with flat priors: "
        f"{listed(repr(names[j]) for j in redundant)}. Drop them, or give their slopes a proper "
        "prior, for example with prior='default'."
    )


def forbid_nonfinite(values: Mapping[str, Any]) -> None:
    """Refuse a posterior with numbers that are NaN or infinite.

    Parameters
    ----------
    values : mapping of str to array, or to nested tuples and dicts of them
        Draws and moments by name.

    Raises
    ------
    RuntimeError
        With the names.
    """
    import jax

    bad = [
        name for name, value in values.items() if not all(map(_is_finite, jax.tree.leaves(value)))
    ]
    if bad:
        raise RuntimeError(
            f"the posterior has NaN or infinite values in {listed(map(repr, bad))}, beyond "
            "float64 arithmetic, and nothing is stored. Use priors with lighter tails, or rescale "
            "X and y."
        )


def _is_finite(values) -> bool:
    return bool(np.isfinite(np.asarray(values, dtype=float)).all())
