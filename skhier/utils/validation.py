"""Checks at the boundary that scikit-learn's validators do not make."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from skhier.utils.frames import _forbid_masked

__all__ = [
    "check_choice",
    "check_flag",
    "check_number",
    "check_target",
    "check_weights",
    "weighted_median",
]

TOO_LARGE = 1e150  # squares of anything larger overflow


def check_number(
    name: str, value: Any, *, low: float, high: float = np.inf, integer=False, open_ends=False
) -> None:
    """Raise ValueError unless ``value`` is a number in the range, in scikit-learn's words."""
    kind = numbers.Integral if integer else numbers.Real
    inside = (
        isinstance(value, kind)
        and not isinstance(value, bool | np.bool_)
        and (low < value < high if open_ends else low <= value <= high)
    )
    if not inside:
        what = "an int" if integer else "a float"
        ends = "()" if open_ends else "[]" if np.isfinite(high) else "[)"
        raise ValueError(
            f"The {name!r} parameter must be {what} in the range {ends[0]}{low:g}, {high:g}{ends[1]}. "
            f"Got {value!r} instead."
        )


def check_flag(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"The {name!r} parameter must be True or False. Got {value!r} instead.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ValueError unless ``value`` is one of the strings."""
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(map(repr, choices))
        raise ValueError(f"The {name!r} parameter must be one of {known}. Got {value!r} instead.")


def check_target(y: Any, X: Any = None) -> np.ndarray:
    """The response as finite float64, (n_samples,).

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages, and: masked, categorical, datetime, not numbers, too large, or of
        another length than X.
    """
    _forbid_masked(y, "y")
    dtype = getattr(y, "dtype", None)
    if getattr(dtype, "kind", "") in "mM" and not hasattr(dtype, "categories"):
        raise TypeError(f"y has dtype {dtype}: a datetime is not a number. Convert it first.")
    if hasattr(dtype, "categories"):
        raise ValueError("y is categorical; a regression needs numbers. Convert it first.")
    y = column_or_1d(y, warn=True)
    y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    if X is not None:
        check_consistent_length(X, y)
    largest = np.abs(y).max()
    if largest > TOO_LARGE:
        raise ValueError(f"y is too large for float64 arithmetic: {largest:.3g}. Rescale it.")
    return y


def check_weights(sample_weight: Any, X: Any) -> np.ndarray:
    """Frequency weights, (n_samples,).

    Raises
    ------
    ValueError
        scikit-learn's messages: negative, NaN, infinite, all zero, of the wrong shape.
    """
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The median of rows repeated by their weights; halfway between the two middle ones."""
    low = np.quantile(values, 0.5, method="inverted_cdf", weights=weights)
    high = -np.quantile(-values, 0.5, method="inverted_cdf", weights=weights)
    return float(low + high) / 2
