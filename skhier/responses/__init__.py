"""What y is, given the line: a response a file, the contract in :mod:`skhier.responses.base`.

Importing this package loads no response; the first name that is used loads its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skhier.responses.bernoulli import Bernoulli
    from skhier.responses.binomial import Binomial
    from skhier.responses.gamma import Gamma
    from skhier.responses.lognormal import LogNormal
    from skhier.responses.negative_binomial import NegativeBinomial
    from skhier.responses.normal import Normal
    from skhier.responses.poisson import Poisson
    from skhier.responses.student_t import StudentT

__all__ = [
    "Bernoulli",
    "Binomial",
    "Gamma",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
]

_HOMES = {
    "Bernoulli": "bernoulli",
    "Binomial": "binomial",
    "Gamma": "gamma",
    "LogNormal": "lognormal",
    "NegativeBinomial": "negative_binomial",
    "Normal": "normal",
    "Poisson": "poisson",
    "StudentT": "student_t",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"skhier.responses.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'skhier.responses' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
