"""A NumPyro program as the density of one flat vector of unconstrained parameters.

Samplers and optimisers see a vector; the names, shapes and supports of the sites stay here.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import potential_energy

__all__ = ["log_density", "own_values", "profiles", "size", "values", "zeros"]

_TRACING = threading.RLock()  # NumPyro's stack of handlers is one list for all threads


def size(program: Callable[..., Any], data: tuple) -> int:
    """Number of unconstrained parameters of ``program(*data)``."""
    return sum(int(np.prod(shape)) for shape in _shapes(program, data).values())


def zeros(program: Callable[..., Any], data: tuple) -> dict[str, Any]:
    """0 for every unconstrained parameter, site by site in the order of the flat vector."""
    sites = _shapes(program, data).items()
    return OrderedDict((name, jnp.zeros(shape)) for name, shape in sites)  # a dict would be sorted


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


def profiles(program: Callable[..., Any], data: tuple, grids: Any) -> dict[str, Any]:
    """Log density of each unconstrained parameter alone, (n_grid, k) per site of k parameters.

    In the order of the flat vector, the other sites at 0; ``grids`` (n_grid, size) are each one's
    values. All 0 for sites whose parameters have no density of their own: correlation matrices,
    simplices.
    """
    densities, first = OrderedDict(), 0  # JAX sorts the keys of others
    for name, (family, shape) in _sites(program, data).items():
        last = first + int(np.prod(shape))
        at, first = grids[:, first:last], last
        family = family.base_dist if type(family) is dist.Independent else family
        transform = biject_to(family.support)
        own = jnp.zeros(at.shape)
        if not (family.event_dim or transform.domain.event_dim):
            value = transform(at)
            own += family.log_prob(value) + transform.log_abs_det_jacobian(at, value)
        densities[name] = own
    return densities


def own_values(program: Callable[..., Any], data: tuple, grids: Any) -> Any:
    """Value of each parameter at its unconstrained one, (n, size); NaN for those of vectors."""
    parts, first = [jnp.zeros((len(grids), 0))], 0
    for family, shape in _sites(program, data).values():
        last = first + int(np.prod(shape))
        at, first = grids[:, first:last], last
        family = family.base_dist if type(family) is dist.Independent else family
        transform = biject_to(family.support)
        alone = not (family.event_dim or transform.domain.event_dim)
        parts.append(transform(at) if alone else jnp.full(at.shape, jnp.nan))
    return jnp.concatenate(parts, axis=1)


def _shapes(program, data) -> dict[str, tuple[int, ...]]:
    """Shape of each site's unconstrained value."""
    return {name: shape for name, (_, shape) in _sites(program, data).items()}


def _sites(program, data) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Distribution of each site, where the others are 0, and shape of its unconstrained value."""
    sites = {}

    def at_zero(site):
        if site["type"] == "sample" and not site["is_observed"]:
            transform = biject_to(site["fn"].support)
            shape = transform.inverse_shape(site["fn"].shape())
            sites[site["name"]] = site["fn"], shape
            return transform(jnp.zeros(shape))
        return None

    with _TRACING:
        handlers.substitute(program, substitute_fn=at_zero)(*data)
    return sites


def _unflatten(position, shapes):
    """Named parts of a flat vector."""
    if not shapes:
        return {}
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    parts = jnp.split(position, np.cumsum(sizes)[:-1])
    return {k: part.reshape(shape) for (k, shape), part in zip(shapes.items(), parts, strict=True)}
