"""Normal noise whose sd differs between levels of a grouping factor.

``y ~ Normal(line, sigma_g^2)`` with ``log sigma_g ~ Normal(log noise_scale, noise_spread^2)``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from skhier.responses.base import Own, Response
from skhier.responses.kind import Kind
from skhier.responses.normal import SCALE, Normal

__all__ = ["SPREAD", "NormalByLevel", "of_levels", "unequal"]

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

    def own_priors(self, preset: str = "default") -> dict[str, Any]:
        """Both are those of :class:`~skhier.Prior`."""
        return {}

    def latent_variance(self, own, mean):
        """``noise_scale^2 exp(2 noise_spread^2)``, the mean over all levels."""
        return np.square(own[SCALE]) * np.exp(2 * np.square(own[SPREAD]))


def of_levels(own: Own, deviations: Any) -> dict[str, Any]:
    """The parameters of levels whose log sds deviate by so many ``noise_spread``."""
    return {**own, SCALE: own[SCALE] * np.exp(own[SPREAD] * deviations)}


def unequal(response: Response, noise_is_known: bool) -> NormalByLevel:
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
    if response.name != "normal":
        raise ValueError(
            "noise_by is for response='normal', whose lines integrate out in closed form given a "
            f"level's noise. Got response={response.name!r}: leave noise_by=None, or transform y."
        )
    return NormalByLevel()
