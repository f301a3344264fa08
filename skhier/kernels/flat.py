"""A NumPyro program as the density of one flat vector of unconstrained parameters.

Samplers and optimisers see a vector; the names, shapes and supports of the sites stay here.
"""

import threading
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import potential_energy

__all__ = ["log_density", "size", "values"]

_TRACING = threading.RLock()  # NumPyro's stack of handlers is one list for all threads


def size(program: Callable[..., Any], data: tuple) -> int:
    """Number of unconstrained parameters of ``program(*data)``."""
    return sum(int(np.prod(shape)) for shape in _shapes(program, data).values())


def log_density(program: Callable[..., Any], data: tuple, position: Any) -> Any:
    """Log density of the program at a flat vector, the change of variables included."""
    sites = _unflatten(position, _shapes(program, data))
    with _TRACING:
        return -potential_energy(program, data, {}, sites)


def values(program: Callable[..., Any], data: tuple, position: Any) -> Any:
    """What the program returns with its sites set from a flat vector."""
    sites = _unflatten(position, _shapes(program, data))

    def value(site):
        if site["type"] == "sample" and site["name"] in sites:
            return biject_to(site["fn"].support)(sites[site["name"]])
        return None

    with _TRACING:
        return handlers.substitute(program, substitute_fn=value)(*data)


def _shapes(program, data) -> dict[str, tuple[int, ...]]:
    """Shape of each site's unconstrained value."""
    shapes = {}

    def at_zero(site):
        if site["type"] == "sample" and not site["is_observed"]:
            transform = biject_to(site["fn"].support)
            shapes[site["name"]] = transform.inverse_shape(site["fn"].shape())
            return transform(jnp.zeros(shapes[site["name"]]))
        return None

    with _TRACING:
        handlers.substitute(program, substitute_fn=at_zero)(*data)
    return shapes


def _unflatten(position, shapes):
    """Named parts of a flat vector."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    parts = jnp.split(position, np.cumsum(sizes)[:-1])
    return {k: part.reshape(shape) for (k, shape), part in zip(shapes.items(), parts, strict=True)}
