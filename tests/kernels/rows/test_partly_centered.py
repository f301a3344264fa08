"""Coordinates between centered and non-centered ones, where rows say what a normal density says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.inference.row_information import zeta_of
from skhier.kernels.records import LevelInformation
from skhier.kernels.rows.partly_centered import standard_effects, triangular

Q, N_LEVELS = 2, 4


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def information(rng):
    """Of levels of very many rows and of none."""
    half = rng.normal(size=(Q, Q, N_LEVELS)) * np.array([0.0, 0.3, 3.0, 1e3])
    pull = rng.normal(size=(Q, N_LEVELS)) * np.array([0.0, 1.0, 10.0, 1e6])
    return LevelInformation(np.einsum("ijg,kjg->ikg", half, half), pull)


def test_zeta_is_standard_normal_under_any_covariance():
    """The density of z and of what rows say, with the volume, is that of zeta and a constant."""
    rng = np.random.default_rng(0)
    levels = information(rng)
    for scale in (1e-3, 1.0, 30.0):
        root = scale * np.tril(rng.normal(size=(Q, Q)))
        densities = []
        for zeta in rng.normal(size=(5, Q, N_LEVELS)):
            z, log_volume = standard_effects(root, levels, zeta)
            b = root @ z
            said = (levels.pull * b).sum() - 0.5 * np.einsum("ig,ijg,jg->", b, levels.precision, b)
            density = said - 0.5 * (z**2).sum() + log_volume
            densities.append(float(density + 0.5 * (zeta**2).sum()))
        assert_allclose(densities, densities[0], rtol=1e-9)


def test_volume_is_that_of_the_map():
    rng = np.random.default_rng(1)
    levels, root = information(rng), np.tril(rng.normal(size=(Q, Q)))

    def flat(zeta):
        return standard_effects(root, levels, zeta.reshape(Q, N_LEVELS))[0].ravel()

    jacobian = jax.jacobian(flat)(jnp.zeros(Q * N_LEVELS))
    log_volume = standard_effects(root, levels, jnp.zeros((Q, N_LEVELS)))[1]
    assert_allclose(np.linalg.slogdet(jacobian)[1], log_volume, rtol=1e-10)


def test_levels_without_rows_are_non_centered_and_those_of_many_centered():
    rng = np.random.default_rng(2)
    levels, zeta = information(rng), rng.normal(size=(Q, N_LEVELS))
    effects = [
        root @ standard_effects(root, levels, zeta)[0] for root in (np.eye(Q), 2 * np.eye(Q))
    ]
    assert_allclose(effects[0][:, 0], zeta[:, 0])
    assert_allclose(effects[1][:, 0], 2 * zeta[:, 0])
    assert_allclose(effects[1][:, -1], effects[0][:, -1], rtol=1e-4)


def test_zeta_of_standard_effects_is_zeta():
    rng = np.random.default_rng(3)
    levels, zeta = information(rng), rng.normal(size=(Q, N_LEVELS))
    root = np.tril(rng.normal(size=(Q, Q)))
    z = np.asarray(jax.jit(partial(standard_effects, root, levels))(zeta)[0])
    # a level's z of many rows holds zeta in its last digits
    assert_allclose(zeta_of(root, levels, z), zeta, atol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_root_in_an_order_is_one_of_the_same_covariance(order):
    root = np.tril(np.random.default_rng(4).normal(size=(3, 3))) * np.array([[1.0], [1e-6], [1e3]])
    other = np.asarray(triangular(root, np.eye(3)[list(order)]))
    covariance = root @ root.T
    sd = np.sqrt(np.diagonal(covariance))
    assert_allclose(other @ other.T / np.outer(sd, sd), covariance / np.outer(sd, sd), rtol=1e-12)
    rows = other[list(order)]
    assert_allclose(rows, np.tril(rows))
    assert (np.diagonal(rows) > 0).all()


def test_root_of_an_effect_that_does_not_vary_has_a_gradient():
    def determined(scale):
        root = jnp.array([[scale, 0.0], [0.3, 0.8]])
        return triangular(root, np.eye(2)[::-1])[1, 0]

    assert_allclose(jax.jit(jax.grad(determined))(0.0), 0.0, atol=1e-12)
