"""The response that a name or an object means."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from skhier.responses.base import Response
from skhier.responses.member import Member

__all__ = ["NAMES", "response_from"]

NAMES = {
    "normal": "Normal",
    "student_t": "StudentT",
    "poisson": "Poisson",
    "negative_binomial": "NegativeBinomial",
    "gamma": "Gamma",
    "lognormal": "LogNormal",
    "binomial": "Binomial",
}


def response_from(response: Any) -> Response:
    """A response object as it is; one with default priors for a name.

    Raises
    ------
    ValueError, TypeError
        No such name; neither a name nor a response.
    """
    if isinstance(response, Member):
        return response
    if not isinstance(response, str):
        raise TypeError(
            "`response` must be the name of a response or an object of skhier.responses. Got "
            f"{response!r} instead."
        )
    if response not in NAMES:
        raise ValueError(
            f"`response` must be one of {', '.join(map(repr, NAMES))}, or an object of "
            f"skhier.responses. Got {response!r} instead."
        )
    return getattr(import_module(f"skhier.responses.{response}"), NAMES[response])()
