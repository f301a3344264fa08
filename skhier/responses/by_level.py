"""Noise whose scale differs between levels of a grouping factor.

``log sigma_g ~ Normal(log noise_scale, noise_spread^2)``, and y given its line and ``sigma_g`` as
the response without that has it given ``noise_scale``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from skhier.responses.base import Own, Response
from skhier.responses.kind import Kind
from skhier.responses.normal import SCALE, Normal
from skhier.responses.student_t import StudentT

__all__ = ["SPREAD", "NormalByLevel", "StudentTByLevel", "of_levels", "unequal"]

SPREAD = "noise_spread"


class NormalByLevel(Normal):
    """See :class:`~skhier.responses.base.Response`; its functions are of a row of a given level.

    They read ``own["noise_scale"]`` as the sd of that level's noise, which :func:`of_levels` makes
    of the population's parameters.
    """

    name: ClassVar[str] = "normal"
    conjugate: ClassVar[bool] = False
    parameters: ClassVar[dict[str, str]] = {
        SCALE: "residual sd, median over levels",
        SPREAD: "sd of the log of the levels' residual sds",
    }

    @property
    def kind(self) -> Kind:
        """Its structure, under a name of its own."""
        return Kind("normal_by_level", self.link)

    def latent_variance(self, own, mean):
        """The mean over all levels."""
        return _over_levels(super().latent_variance(own, mean), own)


class StudentTByLevel(StudentT):
    """As :class:`NormalByLevel`, of a Student t scale; all levels have the same ``df``."""

    parameters: ClassVar[dict[str, str]] = {
        SCALE: "residual scale, median over levels",
        SPREAD: "sd of the log of the levels' residual scales",
        **{name: text for name, text in StudentT.parameters.items() if name != SCALE},
    }

    @property
    def kind(self) -> Kind:
        """Its structure, under a name of its own."""
        return Kind("student_t_by_level", self.link, tuple(self.fixed))

    def latent_variance(self, own, mean):
        """The mean over all levels, infinite for df up to 2."""
        return _over_levels(super().latent_variance(own, mean), own)


def _over_levels(variance, own):
    """The mean of ``variance e^(2 noise_spread u)``, u standard normal."""
    return variance * np.exp(2 * np.square(own[SPREAD]))


def of_levels(own: Own, deviations: Any, xp: Any = np) -> dict[str, Any]:
    """The parameters of levels whose log scales deviate by so many ``noise_spread``."""
    return {**own, SCALE: own[SCALE] * xp.exp(own[SPREAD] * deviations)}


def unequal(response: Response, noise_is_known: bool) -> NormalByLevel | StudentTByLevel:
    """The response whose noise differs between levels.

    Raises
    ------
    ValueError
        There is none of this kind.
    """
    if noise_is_known:
        raise ValueError(
            "noise_by and known_noise exclude each other: a noise that is known has no "
            "distribution over levels. Take one of them."
        )
    if response.name == "normal":
        return NormalByLevel()
    if isinstance(response, StudentT):
        return StudentTByLevel(response.df)
    raise ValueError(
        "noise_by is for response='normal' and 'student_t', whose noise has a scale of its own. "
        f"Got response={response.name!r}: leave noise_by=None, or transform y."
    )
