"""Checks at the boundary that scikit-learn's validators do not make."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from skhier.utils.cells import TOO_LARGE, as_float64, numbers_or_error

__all__ = [
    "check_choice",
    "check_flag",
    "check_number",
    "check_scales",
    "check_target",
    "check_total_weight",
    "check_weights",
    "coarse_numbers",
    "forbid_fractional_rows",
]

MOST_ROWS = 1e10  # sums over more lose digits
COARSE = 1 / 30  # of an sd: multiples of it are off by 1% of the sd, and the sd by far less


def check_number(
    name: str, value: Any, *, low: float, high: float = np.inf, integer=False, open_ends=False
) -> None:
    """Raise ValueError unless ``value`` is a number in the range, in scikit-learn's words."""
    kind = numbers.Integral if integer else numbers.Real
    inside = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    if inside:
        inside = low < float(value) < high if open_ends else low <= float(value) <= high
    if not inside:
        what = "an int" if integer else "a float"
        ends = "()" if open_ends else "[]" if np.isfinite(high) else "[)"
        raise ValueError(
            f"The {name!r} parameter must be {what} in the range {ends[0]}{low:g}, {high:g}"
            f"{ends[1]}. Got {value!r} instead."
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
        scikit-learn's messages, and: masked, categorical, strings, datetime, too large, or of
        another length than X.
    """
    y = column_or_1d(numbers_or_error(y, "y"), warn=True)
    y = as_float64(y, "y")
    if X is not None:
        check_consistent_length(X, y)
    largest = np.abs(y).max()
    if largest > TOO_LARGE:
        raise ValueError(f"y is too large for float64 arithmetic: {largest:.3g}. Rescale it.")
    return y


def check_scales(names: Sequence[str], x_sd: np.ndarray, y_sd: float) -> None:
    """Raise ValueError where squares of what varies, or of slopes, would leave float64's range.

    Parameters
    ----------
    names : sequence of str
        Of the features.
    x_sd : array of shape (n_features,)
        0 for constant columns.
    y_sd : float
        0 for a constant y.
    """
    columns = [f"column {name!r} of X" for name in names]
    for what, sd in zip(["y", *columns], [y_sd, *x_sd], strict=True):
        if 0 < sd < 1 / TOO_LARGE:
            raise ValueError(
                f"The standard deviation of {what}, {sd:.3g}, is too small for float64 arithmetic. "
                "Rescale it."
            )
        if sd > 0 and y_sd > 0 and abs(np.log10(y_sd) - np.log10(sd)) > np.log10(TOO_LARGE):
            raise ValueError(
                f"The standard deviations of {what}, {sd:.3g}, and of y, {y_sd:.3g}, are too "
                "different for float64 arithmetic. Rescale them."
            )


def coarse_numbers(what: str, eps: float, mean: float, sd: float) -> str | None:
    """What to say where the type of the numbers rounds away what varies.

    Parameters
    ----------
    what : str
        What to call the numbers.
    eps : float
        As of :func:`skhier.utils.cells.relative_spacing`.
    mean, sd : float
        Of the numbers.
    """
    if not eps or not mean:
        return None
    spacing = eps * 2.0 ** np.floor(np.log2(abs(mean)))
    if not spacing > COARSE * sd:
        return None
    return (
        f"{what} came as {_TYPES.get(eps, 'numbers of low precision')}, which near {mean:.3g} are "
        f"{spacing:.3g} apart, too coarse for a standard deviation of {sd:.3g}: read it as float64 "
        "from the start, as the lost digits do not come back."
    )


_TYPES = {
    float(np.finfo(dtype).eps): f"{dtype.__name__} numbers" for dtype in (np.float16, np.float32)
}


def check_weights(sample_weight: Any, X: Any, least: float = 2) -> np.ndarray:
    """Frequency weights, (n_samples,).

    Parameters
    ----------
    sample_weight
        As the user gave them.
    X : table
        Of as many rows.
    least : float
        What they sum up to at least; 0 for a part of the rows, whose weights may all be 0.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's messages: negative, NaN, infinite, all zero, of the wrong shape; and: masked,
        categorical, strings, datetime, or a total that cannot be a number of rows.
    """
    if sample_weight is not None and not isinstance(sample_weight, numbers.Number):
        name = "sample_weight"
        sample_weight = as_float64(numbers_or_error(sample_weight, name), name)
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if least and not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    with np.errstate(over="ignore"):
        total = weights.sum()
    check_total_weight(total, int(np.count_nonzero(weights)), least)
    return weights


def forbid_fractional_rows(weights: np.ndarray) -> None:
    """Raise ValueError of weights of which a row cannot be left out."""
    if np.any(weights != np.rint(weights)):
        raise ValueError(
            "loo leaves one row out at a time, which says nothing of a row that counts "
            "fractionally: sample_weight must be whole numbers of rows."
        )


def check_total_weight(total: float, n_rows: int, least: float = 2) -> None:
    """Raise ValueError where weights sum to what cannot be a number of rows.

    Parameters
    ----------
    total : float
    n_rows : int
        With a weight.
    least : float
        As of :func:`check_weights`.
    """
    if not least <= total <= MOST_ROWS and n_rows > 1:
        raise ValueError(
            f"sample_weight sums to {total:.3g}: a weight of 2 is the row twice, so the sum is a "
            f"number of rows, from {least:g} to {MOST_ROWS:g}. Multiply the weights by a constant."
        )
