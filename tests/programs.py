"""What NumPyro makes of the models' programs, for tests of other routes to the same numbers."""

from functools import partial

import jax
import numpy as np
from numpyro import handlers
from numpyro.infer.util import log_density

from skhier.kernels.normal.collapse import marginal_and_conditional
from skhier.kernels.normal.models import effects_chols, marginal_model, marginal_parameters

__all__ = ["marginal_at"]


def marginal_at(spec, data, sites):
    """Density of the marginal program, sigma, roots of Sigma, the coefficients' distribution."""

    def at(data, sites):
        stats, units, _ = data
        program = handlers.substitute(partial(marginal_parameters, spec), data=sites)
        v, coefs = program(*data)
        chols = effects_chols(units, v)
        _, mean, root = marginal_and_conditional(stats, spec.plan, chols, v.noise_scale, coefs)
        density = log_density(partial(marginal_model, spec), data, {}, sites)[0]
        return density, v.noise_scale, chols, mean, root

    return jax.tree.map(np.asarray, jax.jit(at)(data, sites))
