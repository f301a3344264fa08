"""The line at rows of any levels, known or not, against dense normals."""

import dense
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reduced import (
    CHAINS,
    CROSSINGS,
    EVERY,
    conditioned,
    normal_prior,
    places,
    population,
    problem,
    stacked,
    thetas,
    with_empty_levels,
)
from runs import budget

from skhier.kernels.normal.effects import all_effects, leaf_effects
from skhier.kernels.normal.eliminate import layout_of
from skhier.kernels.normal.line_distribution import line_distribution
from skhier.kernels.records import Components
from skhier.utils.budget import USUAL

WIDE, SPARSE = USUAL.kernels.max_wide, 0
WAYS = [(name, WIDE) for name in (*CHAINS, *CROSSINGS)] + [(name, SPARSE) for name in CROSSINGS]
N_ROWS = 60


def laid_out(stats, plan, max_wide=WIDE):
    """With crossings as full matrices, or sparse."""
    return layout_of(stats, plan, budget(max_wide=max_wide).kernels)


def rows_of(design, rng):
    """Rows of levels drawn at random, a third of them new, and factors that do not count."""
    x = np.column_stack([rng.normal(size=(N_ROWS, design.x.shape[1])), np.ones(N_ROWS)])
    sizes = dense.n_levels(design)
    codes = np.column_stack([rng.integers(size, size=N_ROWS) for size in sizes])
    codes[rng.random(codes.shape) < 0.3] = -1
    codes = np.where(codes == -1, sizes, codes)
    zs = [x[:, [*slopes, -1]] for slopes in design.slopes]
    for k, z in enumerate(zs):
        absent = rng.random(N_ROWS) < 0.2
        z[absent], codes[absent, k] = 0, sizes[k]
    return x, zs, codes


def rows_of_design(design, n_rows=8):
    """Rows of fit, whose levels are nested as the factors are."""
    x = np.column_stack([design.x, np.ones(len(design.x))])[:n_rows]
    codes = np.column_stack(design.codes)[:n_rows]
    return x, [x[:, [*slopes, -1]] for slopes in design.slopes], codes


def dense_moments(design, theta, moments, x, zs, codes):
    """Of the line: ``a'(beta, b)`` of the known levels and ``z'Sigma z`` of each new one."""
    (mean, cov), (of_beta, of_effects) = moments, places(design)
    a, new = np.zeros((len(x), len(mean))), np.zeros(len(x))
    a[:, of_beta] = x
    for k, (z, at, chol) in enumerate(zip(zs, of_effects, theta.chols, strict=True)):
        for i, level in enumerate(codes[:, k]):
            if level < len(at):
                a[i, at[level]] = z[i]
            else:
                new[i] += ((z[i] @ chol) ** 2).sum()
    return a @ mean, np.einsum("ni,ij,nj->n", a, cov, a) + new


def effects_of(layout, components, max_wide):
    """In one batch, or a component at a time."""
    if len(layout.plan.chain) == 1 and not layout.plan.dense:
        n_levels = layout.stats.factors[0].zy.shape[-1]
        yield slice(None), leaf_effects(layout, components, np.arange(n_levels))
    elif max_wide == SPARSE:
        for s in range(len(components.weights)):
            yield slice(s, s + 1), all_effects(layout, components.take(slice(s, s + 1)))
    else:
        yield slice(None), all_effects(layout, components)


def found_moments(layout, components, max_wide, rows):
    parts = [
        line_distribution(layout, components.take(here), effects, *rows)
        for here, effects in effects_of(layout, components, max_wide)
    ]
    return tuple(np.concatenate(part, axis=1) for part in zip(*parts, strict=True))


def given_coefficients(design, moments, beta):
    """Dense moments of beta, now known, and the effects given it."""
    (mean, cov), (of_beta, of_effects) = moments, places(design)
    b = np.concatenate([b.ravel() for b in of_effects])
    mean, rest = mean.copy(), np.zeros_like(cov)
    mean[b], rest[np.ix_(b, b)] = conditioned(mean, cov, of_beta, beta, b)
    mean[of_beta] = beta
    return mean, rest


@pytest.mark.parametrize("uncertain", [True, False])
@pytest.mark.parametrize(("name", "max_wide"), WAYS)
def test_lines_of_any_levels_match_dense_normal(name, max_wide, uncertain):
    design, stats, _, plan = problem(name)
    layout = laid_out(with_empty_levels(stats), plan, max_wide)
    points, prior = thetas(design), normal_prior(design)
    moments = [dense.posterior(design, theta, prior) for theta in points]
    p = design.x.shape[1] + 1
    beta = np.stack([mean[:p] for mean, _ in moments])
    cov = np.stack([cov[:p, :p] for _, cov in moments])
    if not uncertain:
        beta, cov = beta + 0.5, None
        pairs = zip(moments, beta, strict=True)
        moments = [given_coefficients(design, of_point, known) for of_point, known in pairs]
    components = Components(np.full(3, 1 / 3), population(beta, *stacked(points)), cov)
    for rows in (rows_of(design, np.random.default_rng(5)), rows_of_design(design)):
        mean, variance = found_moments(layout, components, max_wide, rows)
        for s, theta in enumerate(points):
            expected = dense_moments(design, theta, moments[s], *rows)
            assert_allclose(mean[:, s], expected[0], rtol=0, atol=1e-9)
            assert_allclose(variance[:, s], expected[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("max_wide", [WIDE, SPARSE])
@pytest.mark.parametrize("name", ["one", "many_effects", "deep_in_crossed"])
def test_a_row_has_the_same_bits_alone(name, max_wide):
    assert name in EVERY
    design, stats, _, plan = problem(name)
    layout = laid_out(with_empty_levels(stats), plan, max_wide)
    n_points = 1 if max_wide == SPARSE else 37
    points, rng = thetas(design, n_points), np.random.default_rng(6)
    p = design.x.shape[1] + 1
    root = rng.normal(size=(n_points, p, p))
    cov = root @ np.swapaxes(root, 1, 2)
    beta = rng.normal(size=(n_points, p))
    equal = np.full(n_points, 1 / n_points)
    components = Components(equal, population(beta, *stacked(points)), cov)
    x, zs, codes = rows_of(design, rng)
    together = found_moments(layout, components, max_wide, (x, zs, codes))
    for i in range(0, N_ROWS, 7):
        row = x[i : i + 1], [z[i : i + 1] for z in zs], codes[i : i + 1]
        for one, of_all in zip(
            found_moments(layout, components, max_wide, row), together, strict=True
        ):
            assert_array_equal(one[0], of_all[i])
