"""What is said of y that cannot be such a response."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhier.utils.words import listed

__all__ = ["check_rows", "check_side"]


def check_rows(y: np.ndarray, bad: np.ndarray, name: str, expected: str) -> None:
    """Raise ValueError where any row is bad.

    Parameters
    ----------
    y : array of shape (n_samples,)
    bad : bool array of shape (n_samples,)
    name : str
        Of the response.
    expected : str
        What every y must be, to follow "must be".
    """
    if not bad.any():
        return
    rows = np.flatnonzero(bad)
    seen = listed(f"row {i}: {float(y[i]):.10g}" for i in rows)
    raise ValueError(
        f"y of a {name} response must be {expected}; {len(rows)} of {len(y)} rows are not "
        f"({seen}). Correct them, or choose another response."
    )


def check_side(response: Any, exposure: Any, known_noise: Any, group_means: Any) -> None:
    """Raise ValueError where a response has no exposure, or no noise that could be known.

    Parameters
    ----------
    response : Response
    exposure, known_noise, group_means
        The estimator's parameters.
    """
    if exposure is not None and not response.takes_exposure:
        divided = "; y divided by the exposure is as good a lognormal y"
        raise ValueError(
            f"`exposure={exposure!r}` is added to the line as its logarithm, and "
            f"response={response.name!r} has no line that is the log of y's mean"
            f"{divided if response.name == 'lognormal' else ''}. Use response='poisson', "
            "'negative_binomial' or 'gamma', or exposure=None."
        )
    if known_noise is None:
        return
    if response.name != "normal":
        raise ValueError(
            f"`known_noise={known_noise!r}` names the standard errors of a normal y, which "
            f"response={response.name!r} has not. Use response='normal', or known_noise=None."
        )
    if group_means is not None:
        raise ValueError(
            "`known_noise` has no `group_means`: add the columns of level means to X, or pass "
            "group_means=None."
        )
