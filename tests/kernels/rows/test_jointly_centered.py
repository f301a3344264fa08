"""Coordinates of coefficients and effects of few levels, where rows say what a normal one says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import block_diag

from skhier.inference.joint_information import joint_zeta_of
from skhier.kernels.cholesky import inverse_cholesky_of_one
from skhier.kernels.records import JointInformation, LevelInformation
from skhier.kernels.rows.jointly_centered import coefs_and_effects, given_entries

SHAPES, C = [(2, 3), (1, 4)], 2
F = sum(q * n for q, n in SHAPES) + C


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def information(rng, n_rows=30):
    """Of rows that know sums of a coefficient and its effects, and a prior of the coefficients."""
    a, b = rng.integers(3, size=n_rows), rng.integers(4, size=n_rows)
    x = np.column_stack([10 * rng.normal(size=n_rows), np.ones(n_rows)])
    of_a = [x[:, [i]] * (a[:, None] == np.arange(3)) for i in (0, 1)]
    design = np.hstack([*of_a, b[:, None] == np.arange(4), x])
    precision = 100.0 * design.T @ design
    precision[-C:, -C:] += 0.2 * np.eye(C)
    place = rng.normal(size=F)
    return JointInformation(precision, precision @ rng.normal(size=F), place, ())


def roots(rng, scale=1.0):
    return [scale * (np.tril(rng.normal(size=(q, q))) + np.eye(q)) for q, _ in SHAPES]


def parts(zeta):
    *effects, coef = np.split(zeta, np.cumsum([q * n for q, n in SHAPES]))
    return [part.reshape(shape) for part, shape in zip(effects, SHAPES, strict=True)], coef


@jax.jit
def mapped(joint, of_roots, zeta):
    of_levels, of_coef = parts(zeta)
    return coefs_and_effects(joint, list(zip(of_roots, of_levels, strict=True)), of_coef)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_zetas_are_standard_normal_under_any_covariance(scale):
    """The density of all and of what rows say, with the volume, is that of zeta and a constant."""
    rng = np.random.default_rng(0)
    joint, of_roots, densities = information(rng), roots(rng, scale), []
    for zeta in rng.normal(size=(5, F)):
        coef, standard, moved, log_volume = mapped(joint, of_roots, zeta)
        pairs = zip(of_roots, standard, strict=True)
        entries = np.concatenate([*((root @ z).ravel() for root, z in pairs), coef])
        assert_allclose(moved, entries - joint.place)
        said = joint.pull @ entries - 0.5 * entries @ joint.precision @ entries
        of_prior = -0.5 * sum((z**2).sum() for z in standard)
        densities.append(float(said + of_prior + log_volume + 0.5 * zeta @ zeta))
    assert_allclose(densities, densities[0], rtol=1e-9)


def test_volume_is_that_of_the_map():
    rng = np.random.default_rng(1)
    joint, of_roots = information(rng), roots(rng)

    def flat(zeta):
        coef, standard, *_ = mapped(joint, of_roots, zeta)
        return jnp.concatenate([*(z.ravel() for z in standard), coef])

    jacobian = jax.jacobian(flat)(jnp.zeros(F))
    log_volume = mapped(joint, of_roots, np.zeros(F))[-1]
    assert_allclose(np.linalg.slogdet(jacobian)[1], log_volume, rtol=1e-10)


def test_coordinates_follow_what_the_effects_vary_in():
    """Marginal covariances of the coefficients by the dense joint precision, at any root."""
    rng = np.random.default_rng(2)
    joint = information(rng)
    for scale in (0.1, 1.0, 10.0):
        of_roots = roots(rng, scale)
        blocks = [
            np.kron(np.linalg.inv(root @ root.T), np.eye(n))
            for root, (_, n) in zip(of_roots, SHAPES, strict=True)
        ]
        precision = joint.precision + block_diag(*blocks, np.zeros((C, C)))
        half = np.stack(
            [mapped(joint, of_roots, z)[0] - mapped(joint, of_roots, 0 * z)[0] for z in np.eye(F)],
            axis=1,
        )
        assert_allclose(half @ half.T, np.linalg.inv(precision)[-C:, -C:], rtol=1e-7)
        assert_allclose(half[:, :-C], 0.0, atol=1e-12)  # zetas of the effects do not move them


def test_zeta_of_what_zeta_gives_is_zeta():
    rng = np.random.default_rng(3)
    joint, of_roots, zeta = information(rng), roots(rng), rng.normal(size=F)
    coef, standard, *_ = mapped(joint, of_roots, zeta)
    pairs = [(root, np.asarray(z)) for root, z in zip(of_roots, standard, strict=True)]
    assert_allclose(joint_zeta_of(joint, pairs, np.asarray(coef)), zeta, atol=1e-6)


def test_levels_of_other_factors_are_pulled_by_what_entries_leave():
    rng = np.random.default_rng(4)
    pull, coupling, moved = rng.normal(size=(2, 5)), rng.normal(size=(2, F, 5)), rng.normal(size=F)
    few, other = (LevelInformation(np.zeros((2, 2, 5)), pull) for _ in range(2))
    joint = JointInformation(np.eye(F), np.zeros(F), np.zeros(F), (None, coupling))
    same, pulled = given_entries([few, other], joint, moved)
    assert_allclose(same.pull, pull)
    assert_allclose(pulled.pull, pull - np.einsum("ifg,f->ig", coupling, moved))


@pytest.mark.parametrize("q", [3, 20])
def test_inverse_of_one_matrix_and_its_gradient_are_those_of_lapack(q):
    rng = np.random.default_rng(5)
    a, weights = rng.normal(size=(q, 2 * q)), rng.normal(size=(q, q))

    def by_lapack(m):
        return jnp.linalg.inv(jnp.linalg.cholesky(m))

    def total(inverse, a):
        return (weights * inverse(a @ a.T)).sum()

    one, other = (
        jax.jit(jax.value_and_grad(partial(total, inverse)))(a)
        for inverse in (inverse_cholesky_of_one, by_lapack)
    )
    assert_allclose(one[0], other[0], rtol=1e-10)
    assert_allclose(one[1], other[1], rtol=1e-8, atol=1e-10)
