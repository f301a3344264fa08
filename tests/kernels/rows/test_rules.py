"""Product rules in parts, against whole ones and moments of a normal."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from skhier.kernels.rows.rules import monomials, product_rule, rule_in_parts


def average(rule, function):
    used = slice(0, rule.n_parts)
    return (np.exp(rule.parts.log_weight[used]) * function(rule.parts.x[used])).sum()


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize(("n_nodes", "width"), [(3, 3), (5, 3), (5, 5), (7, 5), (9, 7)])
def test_parts_are_the_whole_rule(n_nodes, width, q):
    def function(x):
        return np.exp(0.3 * x.sum(-1)) + x[..., 0] ** 4 - x[..., -1] ** 3

    whole, parts = product_rule(n_nodes, q), rule_in_parts(n_nodes, q, width)
    assert_allclose(average(parts, function), average(whole, function), rtol=1e-12)
    assert_allclose(average(parts, lambda x: x[..., 0] ** 4), 3, rtol=1e-3)


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("width", [3, 5])
def test_next_finer_rule_is_of_the_same_shape(width, q):
    def kinds(rule):
        return [(np.shape(a), a.dtype) for a in jax.tree.leaves(rule)]

    assert kinds(rule_in_parts(width, q, width)) == kinds(rule_in_parts(width + 2, q, width))


def test_powers_are_products_of_the_nodes():
    rule = rule_in_parts(5, 2, 3)
    place = monomials(2).index((0, 0, 1))
    x = rule.parts.x
    assert_allclose(rule.parts.powers[..., place], x[..., 0] ** 2 * x[..., 1])
    assert_allclose(rule.parts.powers[..., 0], 1.0)


def test_rule_in_parts_has_no_whole():
    with pytest.raises(ValueError, match="unpack"):
        _ = rule_in_parts(5, 2, 3).whole


@pytest.mark.parametrize("q", [1, 2])
def test_lattice_integrates_two_modes_far_apart(q):
    far = np.array([14.0, -9.0])[:q]

    def quotient(x):  # of a mixture of two normals, a third of it far away, to the standard one
        apart = 0.5 * (x**2).sum(-1) - 0.5 * ((x - far) ** 2 / 0.7**2).sum(-1)
        return 2 / 3 + np.exp(apart) / (3 * 0.7**q)

    for rule in (product_rule(25, q, lattice=True), rule_in_parts(25, q, 9, 33, lattice=True)):
        assert_allclose(average(rule, quotient), 1.0, atol=0.02)
        first = average(rule, lambda x: x[..., 0] * quotient(x))
        assert_allclose(first, far[0] / 3, rtol=0.02)
    assert_allclose(average(product_rule(15, q), quotient), 2 / 3, atol=1e-3)


def test_lattices_in_parts_are_of_one_shape():
    def kinds(rule):
        return [(np.shape(a), a.dtype) for a in jax.tree.leaves(rule)]

    first, *finer = (rule_in_parts(n, 2, 9, 33, lattice=True) for n in (9, 25, 33))
    assert all(kinds(rule) == kinds(first) for rule in finer)
    assert [int(rule.n_parts) for rule in (first, *finer)] == [1, 9, 16]
