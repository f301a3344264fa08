"""Theta where some of its scales have a sign: :mod:`skhier.inference.signs`, in a program."""

from typing import Any

import jax.numpy as jnp

from skhier.responses.numerics import TINY

__all__ = ["without_signs"]


def without_signs(point: Any, signed: Any, flips: Any) -> tuple[Any, Any]:
    """``theta``, and what the log density gains by the change of coordinates.

    Parameters
    ----------
    point : array of shape (d,)
    signed : bool array of shape (d,)
    flips : array of shape (d, d)
        See :class:`~skhier.inference.signs.Signs`.
    """
    scale = jnp.where(signed, jnp.maximum(jnp.abs(point), TINY), 1.0)
    parity = 1 - 2 * ((flips @ jnp.where(point < 0, 1.0, 0.0)) % 2)
    theta = jnp.where(signed, jnp.log(scale), point * parity)
    return theta, -jnp.where(signed, jnp.log(2 * scale), 0.0).sum()
