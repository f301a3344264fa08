"""What of a response is structure, known before any number: a key to compiled programs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["Kind"]

_CLASSES = {
    "bernoulli": "Bernoulli",
    "binomial": "Binomial",
    "gamma": "Gamma",
    "known_noise": "KnownNoise",
    "lognormal": "LogNormal",
    "negative_binomial": "NegativeBinomial",
    "normal": "Normal",
    "normal_by_level": "NormalByLevel",
    "poisson": "Poisson",
    "student_t": "StudentT",
}


@dataclass(frozen=True)
class Kind:
    """Hashable and compared by value, so that it can be a static argument.

    Attributes
    ----------
    name : str
        What the user calls the response.
    link : str
    fixed : tuple of str
        Own parameters that have a number in place of a prior; the numbers are data.
    """

    name: str
    link: str
    fixed: tuple[str, ...] = ()

    def response(self) -> Any:
        """A response of this kind for its functions of the line, which take own parameters."""
        home = import_module(f"skhier.responses.{self.name}")
        family = getattr(home, _CLASSES[self.name])
        return family(link=self.link) if self.name in ("bernoulli", "binomial") else family()
