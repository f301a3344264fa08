"""Prior distributions in a program: in internal coordinates, sampled by blocks, drawn from.

Importing this module makes JAX see a prior's numbers in an order that does not change between
processes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from skhier.kernels.records import PriorDists

__all__ = [
    "affine",
    "draw",
    "is_flat",
    "rounded_size",
    "sample_blocks",
    "site",
    "unexpanded",
    "with_entries",
]

OF_ENTRIES = (  # whose parameters have a number for each entry, or one for all
    dist.Cauchy,
    dist.Exponential,
    dist.Gamma,
    dist.HalfCauchy,
    dist.HalfNormal,
    dist.InverseGamma,
    dist.Laplace,
    dist.LogNormal,
    dist.Normal,
    dist.StudentT,
    dist.Weibull,
)


def site(name: str, k: int) -> str:
    """Name of the k-th factor's site."""
    return f"{name}_{k}"


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


def affine(prior, scale, loc=None):
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
    return Affine(prior.expand(jnp.shape(scale)), scale, at)


class Affine(dist.Distribution):
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


def sample_blocks(name, dists, blocks, scale, loc=None):
    """One vector ``loc + scale * v`` out of blocks of entries that share a family of priors."""
    parts = [jnp.zeros(0)]
    for i, (prior, block) in enumerate(zip(dists, blocks, strict=True)):
        at = np.array(block)
        moved = affine(prior, scale[at], None if loc is None else loc[at])
        parts.append(numpyro.sample(f"{name}_{i}", moved.to_event(1)))
    order = np.argsort([j for block in blocks for j in block]).astype(int)
    return jnp.concatenate(parts)[order]


def unexpanded(family):
    """The family itself, where NumPyro wraps it in a shape."""
    return family.base_dist if type(family) is dist.ExpandedDistribution else family


def is_flat(family):
    """Whether it is the improper uniform distribution on all numbers."""
    if type(family) is not dist.ImproperUniform:
        return False
    support = getattr(family.support, "base_constraint", family.support)
    return type(support) is type(constraints.real)


def with_entries(family, source):
    """The distribution of a vector whose entries have the priors of those at ``source`` (n,).

    Itself if it is one for all entries; None where its parameters are of no known kind.
    """
    if not family.batch_shape:
        return family
    if type(family) is dist.FoldedDistribution:
        base = with_entries(family.base_dist, source)
        return None if base is None else dist.FoldedDistribution(base)
    if type(family) not in OF_ENTRIES:
        return None
    parameters = {}
    for name in type(family).arg_constraints:
        values = np.asarray(getattr(family, name))
        parameters[name] = values[source] if values.shape == family.batch_shape else values
    return type(family)(**parameters)


def draw(family, shape, n, seed):
    """``n`` draws of entries of a given shape from a proper distribution, a NumPy array."""
    drawn = family.expand(shape).sample(jax.random.PRNGKey(seed), (rounded_size(n),))
    return np.asarray(drawn, dtype=float)[:n]


def rounded_size(n: int) -> int:
    """Few shapes, so few programs to compile; and the first draws are those of a larger n."""
    return max(1024, 2 ** int(np.ceil(np.log2(n))))
