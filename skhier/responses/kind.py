"""What of a response is structure, known before any number: a key to compiled programs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["Kind"]

_CLASSES = {
    "bernoulli": "bernoulli.Bernoulli",
    "binomial": "binomial.Binomial",
    "gamma": "gamma.Gamma",
    "known_noise": "known_noise.KnownNoise",
    "lognormal": "lognormal.LogNormal",
    "negative_binomial": "negative_binomial.NegativeBinomial",
    "normal": "normal.Normal",
    "normal_by_level": "by_level.NormalByLevel",
    "poisson": "poisson.Poisson",
    "student_t": "student_t.StudentT",
    "student_t_by_level": "by_level.StudentTByLevel",
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
        home, of_class = _CLASSES[self.name].split(".")
        family = getattr(import_module(f"skhier.responses.{home}"), of_class)
        return family(link=self.link) if self.name in ("bernoulli", "binomial") else family()
