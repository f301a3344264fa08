"""The joint model as a NumPyro program: coefficients, group effects and hyperparameters.

    y_i | b ~ Normal(x_i' beta + z_i' b_g(i), sigma^2)
    b_g ~ Normal(0, Sigma),  Sigma = diag(tau) Omega diag(tau),  Omega ~ LKJ(eta)

The sites live in internal coordinates (:mod:`skhier.kernels.types`), where the geometry is benign
whatever the units; the priors are those of the user's units, carried over by an affine map.
The likelihood needs the rows only through their cross-products (Bates et al. 2015, sec. 3), so
its cost does not depend on the number of rows and neither does the compiled program.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from skhier.kernels.types import GroupStats, Hyper, ModelSpec, PriorDists, Units

__all__ = ["hyper_model", "joint_model", "log_likelihood", "squared_error"]

ROUNDING = 1e-15


def joint_model(spec: ModelSpec, stats: GroupStats, units: Units, prior: PriorDists):
    """Hyperparameters, group effects and the likelihood of the rows.

    Parameters
    ----------
    spec : ModelSpec
        Static: bind it with ``functools.partial``.
    stats : GroupStats
        Internal coordinates.
    units : Units
    prior : PriorDists
        In the user's units.

    Notes
    -----
    Non-centered: ``b_g = L z_g`` with the site ``group_z ~ Normal(0, I)``. Centered: the site is
    the group's coefficients ``beta + b_g ~ Normal(beta, L L')`` themselves.
    """
    hyper = hyper_model(spec, units, prior)
    beta = jnp.append(hyper.coef, hyper.intercept)
    b = None
    if spec.slopes is not None:
        chol = units.effects_at_mean @ (hyper.group_scale[:, None] * hyper.corr_chol)
        b = _sample_group_effects(spec, stats, chol, beta)
    numpyro.factor("log_likelihood", log_likelihood(stats, beta, b, hyper.noise_scale))


def hyper_model(spec: ModelSpec, units: Units, prior: PriorDists) -> Hyper:
    """Everything but the group effects; on its own, the prior of those parameters."""
    sigma = numpyro.sample("noise_scale", _Affine(prior.noise_scale, 1 / units.y_scale))
    scale = units.x_scale / units.y_scale
    coef = _sample_blocks("coef", prior.coef, spec.coef_blocks, scale)
    intercept = _sample_intercept(spec, units, prior, coef)
    if spec.slopes is None:
        return Hyper(coef, intercept, sigma, jnp.zeros(0), jnp.zeros((0, 0)))
    tau = _sample_group_scale(spec, prior, units, sigma)
    return Hyper(coef, intercept, sigma, tau, _sample_corr_chol(spec, prior))


class _Affine(dist.Distribution):
    """The distribution of ``loc + scale * v`` where ``v ~ base`` and scale > 0.

    NumPyro's ``TransformedDistribution`` needs bijections all the way down, which folded and
    truncated distributions are not; sampling by gradients needs a support and a density only.
    """

    def __init__(self, base, scale, loc=0.0):
        self.base, self.loc, self.scale = base, loc, scale
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self):
        base = self.base.support
        base = getattr(base, "base_constraint", base)  # of a zero-dimensional event
        low = getattr(base, "lower_bound", None)
        high = getattr(base, "upper_bound", None)
        move = lambda bound: self.loc + self.scale * bound  # noqa: E731
        if low is not None and high is not None:
            return constraints.interval(move(low), move(high))
        if low is not None:
            return constraints.greater_than(move(low))
        return constraints.real if high is None else constraints.less_than(move(high))

    def sample(self, key, sample_shape=()):
        return self.loc + self.scale * self.base.sample(key, sample_shape)

    def log_prob(self, value):
        return self.base.log_prob((value - self.loc) / self.scale) - jnp.log(self.scale)


def _sample_blocks(name, dists, blocks, scale):
    """One vector out of blocks of entries that share a family of priors."""
    parts = [jnp.zeros(0)]
    for i, (prior, block) in enumerate(zip(dists, blocks, strict=True)):
        scaled = _Affine(prior.expand((len(block),)), scale[np.array(block)])
        parts.append(numpyro.sample(f"{name}_{i}", scaled.to_event(1)))
    order = np.argsort([j for block in blocks for j in block]).astype(int)
    return jnp.concatenate(parts)[order]


def _sample_intercept(spec, units, prior, coef):
    # the intercept at x = 0 is the one at the mean less mean'beta
    shift = 0.0 if spec.intercept_at_mean else (units.x_mean / units.x_scale) @ coef
    loc = shift - units.y_mean / units.y_scale
    return numpyro.sample("intercept", _Affine(prior.intercept, 1 / units.y_scale, loc))


def _sample_group_scale(spec, prior, units, sigma):
    """Standard deviations of the effects at x = 0, internal units, (q,)."""
    q = spec.n_effects
    scale = jnp.append(units.x_scale[np.array(spec.slopes, int)], 1.0) / units.y_scale
    if prior.decov is None:
        return _sample_blocks("group_scale", prior.group_scale, spec.scale_blocks, scale)
    # rstanarm, common_functions.stan: the simplex shares out the variance, hence the root
    concentration, shape, decov_scale = prior.decov
    size = numpyro.sample("decov_size", dist.Gamma(shape, 1.0))
    share = jnp.ones(1)
    if q > 1:
        share = numpyro.sample("decov_share", dist.Dirichlet(jnp.full(q, concentration)))
    return sigma * units.y_scale * decov_scale * size * jnp.sqrt(q * share) * scale


def _sample_corr_chol(spec, prior):
    if not spec.has_correlations:
        return jnp.eye(spec.n_effects)
    return numpyro.sample("group_corr_chol", dist.LKJCholesky(spec.n_effects, prior.eta))


def _sample_group_effects(spec, stats, chol, beta):
    """Deviations ``b`` (q, n_groups) from the population coefficients."""
    q, n_groups = stats.zy.shape
    if spec.noncentered:
        z = numpyro.sample("group_z", dist.Normal().expand((q, n_groups)).to_event(2))
        return (chol[:, :, None] * z[None]).sum(1)
    beta_z = beta[np.array((*spec.slopes, spec.n_features))]
    total = dist.MultivariateNormal(beta_z, scale_tril=chol).expand((n_groups,)).to_event(1)
    return numpyro.sample("group_coef", total).T - beta_z[:, None]


def log_likelihood(stats: GroupStats, beta, b, sigma):
    """Log density of the rows given every parameter, in internal coordinates.

    Parameters
    ----------
    stats : GroupStats
    beta : array of shape (p,)
        Population coefficients, intercept last.
    b : array of shape (q, n_groups) or None
        Group effects (deviations).
    sigma : scalar
    """
    sse = squared_error(stats, beta, b)
    return -0.5 * (stats.n * jnp.log(2 * jnp.pi * sigma**2) + sse / sigma**2)


def squared_error(stats: GroupStats, beta, b):
    """Weighted sum of squared residuals, from the cross-products.

    Never below their rounding error: a perfect fit would leave the density without a bound.
    """
    sse = stats.yy - 2 * stats.xy @ beta + beta @ stats.xx @ beta
    if b is not None:
        rest = stats.zy - (stats.zx * beta[None, :, None]).sum(1)
        fitted = (stats.zz * b[None]).sum(1)
        sse = sse + ((fitted - 2 * rest) * b).sum()
    return jnp.maximum(sse, ROUNDING * stats.n)
