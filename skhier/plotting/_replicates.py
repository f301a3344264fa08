"""What predictive checks take of users: replicated data sets, probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier.plotting._text import target_name_of
from skhier.utils.cells import as_float64
from skhier.utils.validation import check_number, check_target

__all__ = ["draw_replicates", "read_probabilities", "read_replicates"]


def draw_replicates(model: Any, X: Any, n_replicates: Any, random_state: Any) -> np.ndarray:
    """Data sets that the model draws for the rows of X, (n_samples, n_replicates).

    Raises
    ------
    ValueError
        ``n_replicates`` is no number from 1 on.
    """
    check_number("n_replicates", n_replicates, low=1, integer=True)
    return model.sample_y(X, n_replicates, random_state=random_state)


def read_replicates(y: Any, y_replicated: Any) -> tuple[str, np.ndarray, np.ndarray]:
    """The name of y, y (n_samples,) and data sets drawn for its rows, (n_samples, n_replicates).

    Raises
    ------
    ValueError, TypeError
        Numbers that are not finite, another shape, or lengths that differ.
    """
    target_name = target_name_of(y)
    replicated = as_float64(y_replicated, "y_replicated")
    if replicated.ndim != 2:
        raise ValueError(
            f"`y_replicated` must be of shape (n_samples, n_replicates). Got {replicated.shape}."
        )
    return target_name, check_target(y, replicated), replicated


def read_probabilities(values: Any, name: str) -> np.ndarray:
    """Numbers from 0 to 1, (n_samples,); ``name`` is the argument's.

    Raises
    ------
    ValueError, TypeError
        Another shape, or numbers that are no probabilities.
    """
    numbers = as_float64(values, name)
    if numbers.ndim != 1 or numbers.min() < 0 or numbers.max() > 1:
        raise ValueError(
            f"`{name}` must be one-dimensional with numbers from 0 to 1. "
            f"Got shape {numbers.shape}, from {numbers.min():g} to {numbers.max():g}."
        )
    return numbers
