"""Settings of runs: too short to converge, or with another budget."""

from dataclasses import fields, replace

import pytest

from skhier.utils.budget import USUAL

__all__ = ["BY_CHAINS", "SHORT", "budget", "slow", "spending"]

# the same shapes and settings everywhere: one compiled program
SHORT = {"n_chains": 2, "n_warmup": 100, "n_draws": 50, "random_state": 0}


def slow(*params):
    """Values of a parametrised test that only the slow tests try."""
    return [pytest.param(param, marks=pytest.mark.slow) for param in params]


def budget(**constants):
    """The usual budget with other constants, whichever part each belongs to."""
    parts = {part.name: getattr(USUAL, part.name) for part in fields(USUAL)}
    for name, value in constants.items():
        (home,) = [part for part, constants in parts.items() if hasattr(constants, name)]
        parts[home] = replace(parts[home], **{name: value})
    return replace(USUAL, **parts)


def spending(model, budget):
    """The unfitted model, with another budget than the usual one."""
    model._budget = budget
    return model


# theta too long for importance sampling, whatever its length
BY_CHAINS = budget(max_importance_size=0)
