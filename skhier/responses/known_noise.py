"""Normal noise whose standard deviation is known of each row: ``y_i ~ Normal(line_i, se_i^2)``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from skhier.responses.kind import Kind
from skhier.responses.member import SCALE
from skhier.responses.normal import Normal

__all__ = ["KnownNoise"]


class KnownNoise(Normal):
    """See :class:`~skhier.responses.base.Response`; no parameter of its own is to be learned.

    Parameters
    ----------
    scale : float
        A typical standard error: the noise of rows weighted by ``scale^2 / se_i^2``.
    """

    parameters: ClassVar[dict[str, str]] = {}

    def __init__(self, scale=1.0):
        self.scale = scale

    @property
    def fixed(self):
        """The noise scale of the weighted rows."""
        return {SCALE: self.scale}

    @property
    def kind(self):
        """The noise scale is a number."""
        return Kind("known_noise", self.link, (SCALE,))

    def scaled(self, own, y_scale):
        """What is known is no parameter; a row's own noise comes with it."""
        return {}

    def at_rows(self, line: Any, own: Any, side: Any):
        """The noise is the rows' own."""
        return line, {**own, SCALE: side}

    def latent_variance(self, own, mean):
        """That of a typical row: the harmonic mean of the rows' variances."""
        return np.square(self.scale)

    def spread(self, own):
        """The typical standard error."""
        return self.scale
