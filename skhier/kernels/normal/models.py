"""The model as NumPyro programs: joint, and with all that is normal integrated out.

    y_i | b ~ Normal(x_i' beta + sum over factors of z_i' b_g(i), sigma^2)
    b_g ~ Normal(0, Sigma),  Sigma = diag(tau) Omega diag(tau),  Omega ~ LKJ(eta)

Every factor has its own Sigma; beta is one, the mean of all.

The sites live in internal coordinates (:mod:`skhier.kernels.records`), where the geometry is benign
whatever the units; the priors are those of the user's units, carried over by an affine map.
The likelihood needs the rows only through their cross-products (Bates et al. 2015, sec. 3), so
its cost does not depend on the number of rows and neither does the compiled program.

:func:`joint_model` samples every parameter. :func:`marginal_model` samples the variance parameters
and those coefficients whose prior is not normal; group effects and the other coefficients are
integrated out (:mod:`skhier.kernels.normal.collapse`). Both state the same posterior.
"""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpyro.distributions import constraints

from skhier.kernels.normal.collapse import ROUNDING, log_marginal
from skhier.kernels.records import CoefPrior, Hyper, ModelSpec, PriorDists, VarianceParameters
from skhier.statistics.elimination import Elimination
from skhier.statistics.records import GroupStats, Units

__all__ = [
    "draw",
    "draw_corr_chol",
    "effects_chols",
    "joint_model",
    "log_likelihood",
    "marginal_model",
    "marginal_parameters",
    "parameters",
    "squared_error",
]

FUSED_SIZE = 512


def _taken_apart(value):
    """The numbers in a prior, in the order of their names, and the recipe that puts it together.

    NumPyro's own order is that of a set and varies between processes, which would then not
    find each other's compiled programs in a cache.
    """
    if isinstance(value, dist.Distribution):
        names = sorted(type(value).gather_pytree_data_fields())
        fixed = {n: value.__dict__.get(n) for n in sorted(type(value).gather_pytree_aux_fields())}
        parts = [_taken_apart(value.__dict__.get(name)) for name in names]
        recipe = (type(value), tuple(names), tuple(fixed.items()), tuple(r for _, r in parts))
        return tuple(v for v, _ in parts), recipe
    if isinstance(value, tuple):
        parts = [_taken_apart(part) for part in value]
        return tuple(v for v, _ in parts), tuple(r for _, r in parts)
    return value, None


def _put_together(value, recipe):
    if recipe is None:
        return value
    if not recipe or not isinstance(recipe[0], type):
        return tuple(map(_put_together, value, recipe))
    family, names, fixed, recipes = recipe
    data = dict(zip(names, map(_put_together, value, recipes), strict=True))
    aux = dict(fixed)
    return family.tree_unflatten(
        tuple(aux[name] for name in family.gather_pytree_aux_fields()),
        tuple(data[name] for name in family.gather_pytree_data_fields()),
    )


jax.tree_util.register_pytree_node(
    PriorDists,
    lambda prior: _taken_apart(tuple(prior)),
    lambda recipe, values: PriorDists(*_put_together(values, recipe)),
)


def joint_model(spec: ModelSpec, stats: GroupStats, units: Units, prior: PriorDists):
    """Every parameter and the likelihood of the rows.

    Parameters
    ----------
    spec : ModelSpec
        Static: bind it with ``functools.partial``.
    stats : GroupStats
        Internal coordinates.
    units : Units
    prior : PriorDists
        In the user's units.
    """
    hyper, effects = parameters(spec, stats, units, prior)
    beta = jnp.append(hyper.coef, hyper.intercept)
    numpyro.factor("log_likelihood", log_likelihood(stats, beta, effects, hyper.noise_scale))


def parameters(spec: ModelSpec, stats: GroupStats, units: Units, prior: PriorDists):
    """The prior: a program that samples every parameter.

    Returns
    -------
    hyper : Hyper
    effects : tuple of array of shape (q, n_levels)
        Per factor: group effects (deviations), the intercept's at the mean of x.

    Notes
    -----
    Centered: the sites are, of the first factor, the groups' coefficients
    ``beta + b_g ~ Normal(beta, L L')``, and of the others ``b_g ~ Normal(0, L L')``.
    Non-centered: ``b_g = L z_g``, ``z_g ~ Normal(0, I)``. The data know the average coefficients
    ``beta + sum over factors of mean_g b_g`` well and how they split hardly at all; so the
    non-centered sites are those averages and, in place of ``z``, its reflection that has the
    average as one coordinate.
    """
    v = _sample_variances(spec, units, prior)
    chols = effects_chols(units, v)
    sample = _sample_noncentered if spec.noncentered else _sample_centered
    coef, intercept, effects = sample(spec, stats, units, prior, chols)
    return Hyper(coef, intercept, *v), effects


def _sample_noncentered(spec, stats, units, prior, chols):
    moved, effects = jnp.zeros(spec.n_features + 1), []
    for k, (factor, found, chol) in enumerate(zip(spec.factors, stats.factors, chols, strict=True)):
        z = numpyro.sample(_site("group_z", k), dist.Normal().expand(found.zy.shape).to_event(2))
        present = (found.zz[-1, -1] > 0).astype(float)
        b = _times(chol, _reflect(z, present))
        moved = moved.at[_varying(spec, factor)].add((b * present).sum(1) / present.sum())
        effects.append(b)
    return *_sample_beta(spec, units, prior, moved), tuple(effects)


def _sample_centered(spec, stats, units, prior, chols):
    coef, intercept = _sample_beta(spec, units, prior, jnp.zeros(spec.n_features + 1))
    effects = []
    for k, (factor, found, chol) in enumerate(zip(spec.factors, stats.factors, chols, strict=True)):
        mean = jnp.zeros(factor.n_effects)
        if k == 0:
            mean = jnp.append(coef, intercept)[_varying(spec, factor)]
        normals = _SameNormals(mean, chol, found.zy.shape[1])
        effects.append(numpyro.sample(_site("group_coef", k), normals) - mean[:, None])
    return coef, intercept, tuple(effects)


def _site(name, k):
    return f"{name}_{k}"


def _varying(spec, factor):
    """Columns of x that vary with the factor."""
    return np.array([*factor.slopes, spec.n_features], int)


def marginal_model(spec: ModelSpec, stats: Elimination, units: Units, prior: PriorDists):
    """The likelihood of the rows with the group effects and normal coefficients integrated out.

    Parameters
    ----------
    spec, units, prior
        As in :func:`joint_model`.
    stats : Elimination
    """
    v, coefs = marginal_parameters(spec, stats, units, prior)
    chols = effects_chols(units, v)
    numpyro.factor("log_marginal", log_marginal(stats, spec.plan, chols, v.noise_scale, coefs))


def marginal_parameters(spec: ModelSpec, stats: Elimination, units: Units, prior: PriorDists):
    """The prior of :func:`marginal_model`: a program that samples what it does not integrate out.

    Returns
    -------
    VarianceParameters
    CoefPrior
        Of the coefficients with a normal or flat prior; the others' values.
    """
    return _sample_variances(spec, units, prior), _sample_other_coefs(spec, units, prior)


def _sample_variances(spec, units, prior) -> VarianceParameters:
    sigma = numpyro.sample("noise_scale", _affine(prior.noise_scale, 1 / units.y_scale))
    scales, corrs = [], []
    for k, factor in enumerate(spec.factors):
        scales.append(_sample_group_scale(k, factor, prior, units, sigma))
        corrs.append(_sample_corr_chol(k, factor, spec.correlated, prior))
    return VarianceParameters(sigma, tuple(scales), tuple(corrs))


def effects_chols(units: Units, v: VarianceParameters):
    """Per factor: square root of the effects' covariance, the intercept at the mean of x."""
    return tuple(
        at_mean @ (scale[:, None] * corr)
        for at_mean, scale, corr in zip(
            units.effects_at_mean, v.group_scale, v.corr_chol, strict=True
        )
    )


def _reflect(z, present):
    """Householder reflection that takes the first group to the average of those present."""
    v = -present / jnp.sqrt(present.sum())
    v = v.at[0].add(1.0)
    size = (v**2).sum()
    factor = jnp.where(size > 0, 2 / jnp.where(size > 0, size, 1.0), 0.0)
    return z - factor * (z @ v)[:, None] * v


def _affine(prior, scale, loc=None):
    """The distribution of ``loc + scale * v``, ``v ~ prior``, of the shape of ``scale``.

    The common families stay what they are: then a scale that is a power of two leaves no trace in
    the density, not even of rounding, and data in other units give the same draws.
    """
    kind, at = type(prior), 0.0 if loc is None else loc
    if kind is dist.Normal:
        return dist.Normal(at + scale * prior.loc, scale * prior.scale)
    if kind is dist.StudentT:
        return dist.StudentT(prior.df, at + scale * prior.loc, scale * prior.scale)
    if kind is dist.HalfNormal and loc is None:
        return dist.HalfNormal(scale * prior.scale)
    if kind is dist.Exponential and loc is None:
        return dist.Exponential(prior.rate / scale)
    return _Affine(prior.expand(jnp.shape(scale)), scale, at)


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
        low = self._moved(getattr(base, "lower_bound", None))
        high = self._moved(getattr(base, "upper_bound", None))
        if low is not None and high is not None:
            return constraints.interval(low, high)
        if low is not None:
            return constraints.greater_than(low)
        return constraints.real if high is None else constraints.less_than(high)

    def _moved(self, bound):
        return None if bound is None else self.loc + self.scale * bound

    def sample(self, key, sample_shape=()):
        return self.loc + self.scale * self.base.sample(key, sample_shape)

    def log_prob(self, value):
        return self.base.log_prob((value - self.loc) / self.scale) - jnp.log(self.scale)


class _SameNormals(dist.Distribution):
    """One multivariate normal for each of n groups, the groups on the last axis, (q, n).

    One inverse of the small factor serves all groups; NumPyro's repeats the factor for each.
    """

    support = constraints.independent(constraints.real, 2)

    def __init__(self, loc, scale_tril, n):
        self.loc, self.scale_tril = loc, scale_tril
        super().__init__((), (len(loc), n), validate_args=False)

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, sample_shape + self.event_shape)
        return self.loc[:, None] + self.scale_tril @ noise

    def log_prob(self, value):
        q, n = self.event_shape
        inverse = solve_triangular(self.scale_tril, jnp.eye(q), lower=True)
        white = _times(inverse, value - self.loc[:, None])
        log_det = jnp.log(jnp.diagonal(self.scale_tril)).sum()
        return -0.5 * (white**2).sum() - n * (log_det + 0.5 * q * jnp.log(2 * jnp.pi))


def _sample_blocks(name, dists, blocks, scale, loc=None):
    """One vector ``loc + scale * v`` out of blocks of entries that share a family of priors."""
    parts = [jnp.zeros(0)]
    for i, (prior, block) in enumerate(zip(dists, blocks, strict=True)):
        at = np.array(block)
        moved = _affine(prior, scale[at], None if loc is None else loc[at])
        parts.append(numpyro.sample(f"{name}_{i}", moved.to_event(1)))
    order = np.argsort([j for block in blocks for j in block]).astype(int)
    return jnp.concatenate(parts)[order]


def _sample_beta(spec, units, prior, moved):
    """Population slopes and intercept; the sites are these plus ``moved`` (p,)."""
    of_coef, of_intercept = moved[:-1], moved[-1]
    scale = units.x_scale / units.y_scale
    coef = _sample_blocks("coef", prior.coef, spec.coef_blocks, scale, of_coef) - of_coef
    # the intercept at x = 0 is the one at the mean less mean'beta
    loc = 0.0 if spec.intercept_at_mean else (units.x_mean / units.x_scale) @ coef
    loc = loc - units.y_mean / units.y_scale + of_intercept
    site = numpyro.sample("intercept", _affine(prior.intercept, 1 / units.y_scale, loc))
    return coef, site - of_intercept


def _sample_other_coefs(spec, units, prior) -> CoefPrior:
    """Sample the coefficients whose prior is not normal; the normal priors of the others.

    The intercept's prior is on ``intercept - shift'coef``: at x = 0 a change of ``coef`` moves it.
    """
    last = spec.n_features
    scale = jnp.append(units.x_scale, 1.0) / units.y_scale
    loc = jnp.zeros(last + 1).at[last].set(-units.y_mean / units.y_scale)
    offset, mean, root, log_scale = jnp.zeros(last + 1), loc, 0 * loc, jnp.zeros(())
    kept: list[int] = []
    blocks = [*zip(spec.coef_blocks, prior.coef, strict=True), ((last,), prior.intercept)]
    for i, (block, family) in enumerate(blocks):
        at, family = np.array(block, int), _unexpanded(family)
        if type(family) is dist.Normal:
            sd = jnp.broadcast_to(scale[at] * family.scale, at.shape)
            mean = mean.at[at].add(scale[at] * family.loc)
            root = root.at[at].set(1 / sd)
            log_scale = log_scale + jnp.log(sd).sum()
        elif _is_flat(family):
            log_scale = log_scale + jnp.log(scale[at] / jnp.sqrt(2 * jnp.pi)).sum()
        else:
            moved = _affine(family, scale[at], loc[at]).to_event(1)
            offset = offset.at[at].set(numpyro.sample(f"coef_{i}", moved))
            continue
        kept += block
    shift = jnp.zeros(last + 1)
    if not spec.intercept_at_mean:
        shift = shift.at[:last].set(units.x_mean / units.x_scale)
    order = np.array(sorted(kept), int)
    return _coef_prior(order, offset, mean, root, shift)._replace(log_scale=log_scale)


def _unexpanded(family):
    return family.base_dist if type(family) is dist.ExpandedDistribution else family


def _is_flat(family):
    if type(family) is not dist.ImproperUniform:
        return False
    support = getattr(family.support, "base_constraint", family.support)
    return type(support) is type(constraints.real)


def _coef_prior(kept, offset, mean, root, shift) -> CoefPrior:
    """``(u - mean) * root ~ Normal(0, 1)`` for the kept coefficients, each on its own scale."""
    last = len(offset) - 1
    basis = jnp.eye(last + 1)[:, kept]
    rows = jnp.concatenate([basis[kept], mean[kept, None]], axis=1)
    moved = shift @ offset  # what the sampled coefficients add to the intercept at the mean
    if last in kept:
        rows = rows.at[-1, :-1].add(-shift[kept]).at[-1, -1].add(moved)
    else:
        basis = basis.at[last].add(shift[kept])
        offset = offset.at[last].add(moved)
    return CoefPrior(basis, offset, root[kept, None] * rows, 0.0)


def _sample_group_scale(k, factor, prior, units, sigma):
    """Standard deviations of the effects at x = 0, internal units, (q,)."""
    q = factor.n_effects
    scale = jnp.append(units.x_scale[np.array(factor.slopes, int)], 1.0) / units.y_scale
    if prior.decov is None:
        name = _site("group_scale", k)
        return _sample_blocks(name, prior.group_scale[k], factor.scale_blocks, scale)
    # rstanarm, common_functions.stan: the simplex shares out the variance, hence the root
    concentration, shape, decov_scale = prior.decov
    size = numpyro.sample(_site("decov_size", k), dist.Gamma(shape, 1.0))
    share = jnp.ones(1)
    if q > 1:
        shares = dist.Dirichlet(jnp.full(q, concentration))
        share = numpyro.sample(_site("decov_share", k), shares)
    return sigma * units.y_scale * decov_scale * size * jnp.sqrt(q * share) * scale


def _sample_corr_chol(k, factor, correlated, prior):
    if not correlated or factor.n_effects == 1:
        return jnp.eye(factor.n_effects)
    lkj = dist.LKJCholesky(factor.n_effects, prior.eta)
    return numpyro.sample(_site("group_corr_chol", k), lkj)


def draw(family, shape, n, seed):
    """``n`` draws of entries of a given shape from a proper distribution, a NumPy array."""
    drawn = family.expand(shape).sample(jax.random.PRNGKey(seed), (_rounded(n),))
    return np.asarray(drawn, dtype=float)[:n]


def draw_corr_chol(q, eta, n, seed):
    """``n`` draws of a correlation matrix's Cholesky factor, LKJ(eta), a NumPy array."""
    return np.asarray(_draw_lkj(jax.random.PRNGKey(seed), eta, q, _rounded(n)))[:n]


@partial(jax.jit, static_argnames=("q", "n"))
def _draw_lkj(key, eta, q, n):
    return dist.LKJCholesky(q, eta).sample(key, (n,))


def _rounded(n):
    """Few shapes, so few programs to compile; and the first draws are those of a larger n."""
    return max(1024, 2 ** int(np.ceil(np.log2(n))))


def log_likelihood(stats: GroupStats, beta, effects, sigma):
    """Log density of the rows given every parameter, in internal coordinates.

    Parameters
    ----------
    stats : GroupStats
    beta : array of shape (p,)
        Population coefficients, intercept last.
    effects : sequence of array of shape (q, n_levels)
        Per factor: group effects (deviations).
    sigma : scalar
    """
    sse = squared_error(stats, beta, effects)
    return -0.5 * (stats.n * jnp.log(2 * jnp.pi * sigma**2) + sse / sigma**2)


def squared_error(stats: GroupStats, beta, effects):
    """Weighted sum of squared residuals, from the cross-products.

    Never below their rounding error: a perfect fit would leave the density without a bound.
    """
    sse = stats.yy - 2 * stats.xy @ beta + beta @ stats.xx @ beta
    for found, b in zip(stats.factors, effects, strict=True):
        rest = found.zy - _times_each(found.zx, beta[:, None])
        sse = sse + ((_times_each(found.zz, b) - 2 * rest) * b).sum()
    both = combinations(effects, 2)
    for pair, (b, other) in zip(stats.pairs, both, strict=True):
        fitted = _times_each(pair.zz, other[:, pair.second])
        sse = sse + 2 * (b[:, pair.first] * fitted).sum()
    return jnp.maximum(sse, ROUNDING * stats.n)


def _times(matrix, columns):
    """``matrix @ columns``; small ones as a sum, which fuses with the operations around it."""
    if columns.size <= FUSED_SIZE:
        return (matrix[:, :, None] * columns[None]).sum(1)
    return matrix @ columns


def _times_each(matrices, columns):
    """The same with a matrix of its own per column, (q, p, n), and (p, n) or (p, 1) columns."""
    if matrices.shape[0] * matrices.shape[2] <= FUSED_SIZE:
        return (matrices * columns[None]).sum(1)
    if columns.shape[1] == 1:
        return jnp.einsum("ijn,j->in", matrices, columns[:, 0])
    return jnp.einsum("ijn,jn->in", matrices, columns)
