"""Every parameter of a model of rows in a frame where its posterior is nearly a standard normal.

Dense entries are the population's and those of levels of small factors; the rest are of levels
that hardly depend on each other given them. With x of the frame's own coordinates

    dense = centre + root x_1,   rest = centre of the rest + coupling x_1 + x_2

The population's entries of ``dense`` are theta as :func:`skhier.kernels.rows.models.population`
has it, those of levels zeta of :mod:`skhier.kernels.rows.partly_centered`; of factors of few levels
they are zeta of :mod:`skhier.kernels.rows.jointly_centered`, and the coefficients' with them. A new
target, or other shapes, compile a new program; data, priors and frames do not.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skhier.kernels import flat
from skhier.kernels.prior_programs import fused_product
from skhier.kernels.records import JointInformation, LevelInformation, ModelSpec, Population
from skhier.kernels.rows.jointly_centered import coefs_and_effects, given_entries
from skhier.kernels.rows.models import log_likelihood, population
from skhier.kernels.rows.partly_centered import standard_effects, triangular
from skhier.responses.by_level import SPREAD

__all__ = ["Framed", "RowFrame", "roots_of", "value_and_slope"]


class RowFrame(NamedTuple):
    """Of d dense entries and m others.

    Attributes
    ----------
    levels : tuple of LevelInformation
        Of each factor's effects, and last of the deviations of levels' noises if they have their
        own.
    centre : array of shape (d,)
    root : array of shape (d, d)
    rest : array of shape (m,)
    coupling : array of shape (m, d)
    orders : tuple of array of shape (q, q)
        Permutation of the effects of each of the levels: :func:`roots_of`.
    joint : JointInformation or None
        None where no factor has few levels.
    coef_places : int array of shape (c,)
        Of the coefficients in theta.
    """

    levels: tuple[LevelInformation, ...]
    centre: Any
    root: Any
    rest: Any
    coupling: Any
    orders: tuple[Any, ...]
    joint: JointInformation | None
    coef_places: Any


def roots_of(spec: ModelSpec, everyone: Population, orders: Sequence[Any]) -> list[Any]:
    """Root (q, q) of the covariance of what each of :class:`RowFrame`'s levels vary in.

    Each one's rows, in its order, are lower triangular. In the order of their sizes a correlation
    with a small effect moves that one alone, and not what rows say of the large one.
    """
    noise = [] if spec.noise_by is None else [everyone.own[SPREAD].reshape(1, 1)]
    roots = [*everyone.group_root, *noise]
    return [triangular(root, order) for root, order in zip(roots, orders, strict=True)]


class Framed(NamedTuple):
    """``data`` is ``(rows, model, frame)``.

    ``is_dense``, ``is_few``: of each of the frame's levels; those of few levels are dense.
    """

    spec: ModelSpec
    is_dense: tuple[bool, ...]
    is_few: tuple[bool, ...]

    def size(self, data: tuple) -> int:
        """Number of unconstrained parameters."""
        *_, frame = data
        return len(frame.centre) + len(frame.rest)

    def start(self, key: Any, size: int, tries: Any) -> Any:
        """A random point of the standard normal, ever closer to its centre."""
        return 0.9**tries * jax.random.normal(key, (size,))

    def log_density(self, data: tuple, position: Any) -> Any:
        """Log density of the unconstrained parameters."""
        rows, model, _ = data
        theta, everyone, standard, effects, log_volume = self._at(data, position)
        prior = flat.log_density(partial(population, self.spec), model, theta) + log_volume
        for z in standard:
            prior = prior - 0.5 * (z**2).sum() - 0.5 * z.size * jnp.log(2 * jnp.pi)
        return prior + log_likelihood(self.spec, rows, everyone, *effects)

    def record(self, data: tuple, position: Any) -> tuple[Population, Any, Any]:
        """What is kept of a draw: population, effects, deviations of noises or ()."""
        _, everyone, _, effects, _ = self._at(data, position)
        return everyone, *effects

    def natural(self, data: tuple, position: Any) -> tuple[Any, Population, list[Any]]:
        """``theta``, the population, and of each of the frame's levels ``z`` (q, n_levels)."""
        return self._at(data, position)[:3]

    def _at(self, data, position):
        _, model, frame = data
        d = len(frame.centre)
        dense = frame.centre + frame.root @ position[:d]
        rest = frame.rest + frame.coupling @ position[:d] + position[d:]
        theta, zetas = _parts(dense, rest, [of.pull.shape for of in frame.levels], self.is_dense)
        program = partial(population, self.spec)
        everyone = flat.values(program, model, theta)
        roots = roots_of(self.spec, everyone, frame.orders)
        standard, log_volume, levels = list(zetas), 0.0, frame.levels
        if any(self.is_few):
            few = [k for k, here in enumerate(self.is_few) if here]
            here = [(roots[k], zetas[k]) for k in few]
            coef, of_few, moved, log_volume = coefs_and_effects(
                frame.joint, here, theta[frame.coef_places]
            )
            theta = theta.at[frame.coef_places].set(coef)
            everyone = flat.values(program, model, theta)
            for k, z in zip(few, of_few, strict=True):
                standard[k] = z
            levels = given_entries(levels, frame.joint, moved)
        for k, (root, information) in enumerate(zip(roots, levels, strict=True)):
            if not self.is_few[k]:
                standard[k], volume = standard_effects(root, information, zetas[k])
                log_volume = log_volume + volume
        deviations = () if self.spec.noise_by is None else standard[-1][0]
        pairs = list(zip(roots, standard, strict=True))[: len(everyone.group_root)]
        effects = tuple(fused_product(root, z) for root, z in pairs)
        return theta, everyone, standard, (effects, deviations), log_volume


def _parts(dense: Any, rest: Any, shapes: Sequence[tuple[int, ...]], is_dense: Sequence[bool]):
    """Theta, and zeta of each of the levels; theta comes first, levels in their order."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    left = {True: dense, False: rest}
    of_levels = sum(size for size, here in zip(sizes, is_dense, strict=True) if here)
    theta, left[True] = jnp.split(dense, [len(dense) - of_levels])
    zetas = []
    for shape, size, here in zip(shapes, sizes, is_dense, strict=True):
        part, left[here] = jnp.split(left[here], [size])
        zetas.append(part.reshape(shape))
    return theta, zetas


@partial(jax.jit, static_argnames=("target",))
def value_and_slope(position: Any, data: tuple, target: Framed) -> tuple[Any, Any, Any]:
    """Log density, its gradient, and :meth:`Framed.natural`, at a position."""

    def at(position):
        return target.log_density(data, position), target.natural(data, position)

    (value, natural), slope = jax.value_and_grad(at, has_aux=True)(position)
    return value, slope, natural
