"""What NumPyro and JAX make of the models' programs, for tests."""

from contextlib import contextmanager
from functools import partial

import jax
import numpy as np
from numpyro import handlers
from numpyro.infer.util import log_density

from skhier.kernels.normal.collapse import marginal_and_conditional
from skhier.kernels.normal.models import marginal_model, marginal_parameters
from skhier.responses.normal import SCALE

__all__ = ["compilations", "marginal_at"]


def marginal_at(spec, data, sites):
    """Density of the marginal program, sigma, roots of Sigma, the coefficients' distribution."""

    def at(data, sites):
        stats, *_ = data
        program = handlers.substitute(partial(marginal_parameters, spec), data=sites)
        population, coefs = program(*data)
        sigma, roots = population.own[SCALE], population.group_root
        _, mean, root = marginal_and_conditional(stats, spec.plan, roots, sigma, coefs)
        density = log_density(partial(marginal_model, spec), data, {}, sites)[0]
        return density, sigma, roots, mean, root

    return jax.tree.map(np.asarray, jax.jit(at)(data, sites))


@contextmanager
def compilations():
    """A list of the programs compiled meanwhile."""
    compiled = []

    def listen(event, duration, **facts):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        if hasattr(jax.monitoring, "unregister_event_duration_listener"):  # not in JAX 0.8
            jax.monitoring.unregister_event_duration_listener(listen)
