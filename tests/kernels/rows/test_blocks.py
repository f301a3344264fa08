"""Blocks of levels, starts of their modes, and third moments, against one block and dense grids."""

from functools import partial

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from response_cases import CASES
from row_cases import N_LEVELS, Rows, grid, make_rows
from runs import budget, slow

from skhier.kernels.rows.modes import CLOSE, NEVER, ROUGH, ModeSearch
from skhier.kernels.rows.quadrature import level_moments
from skhier.kernels.rows.rules import product_rule, rule_in_parts
from skhier.statistics.rows import arrange_rows

N_ROWS = [0, 40, 1, 3, 700, 0, 9, 17, 5, 120, 2, 0]


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@partial(jax.jit, static_argnames="kind")
def moments_of(kind, rule, rows, z, everyone, search=None):
    return level_moments(kind.response(), rule, rows, z, everyone, search)


def lower(entries):
    """Lower triangular matrices (G, 2, 2) of entries (3, G)."""
    out = np.zeros((entries.shape[1], 2, 2))
    out[:, [0, 1, 1], [0, 0, 1]] = entries.T
    return out


def modes_of(normals, everyone):
    """Modes (2, G) of the normals times the prior of the effects."""
    at, score = np.asarray(normals[:4]).reshape(2, 2, -1).swapaxes(1, 2)
    root = lower(np.asarray(normals[4:]))
    cov = everyone.group_root[0] @ everyone.group_root[0].T
    of_rows = root @ root.swapaxes(1, 2)
    pull = score[..., None] + of_rows @ at[..., None]
    return np.linalg.solve(np.linalg.inv(cov) + of_rows, pull)[..., 0].T


def normals_at(effects):
    """Normals so narrow that searches begin at effects (2, G)."""
    roots = np.tile([[1e4], [0], [1e4]], effects.shape[1])
    return np.concatenate([effects, np.zeros_like(effects), roots])


def uneven(name):
    """Levels of very different sizes, some without rows, in random order."""
    response = CASES[name].response
    own = {key: np.float64(value) for key, value in CASES[name].own.items()}
    _, everyone = make_rows(response, own, 2)
    rng = np.random.default_rng(2)
    codes = rng.permutation(np.repeat(np.arange(len(N_ROWS)), N_ROWS))
    x = np.column_stack([rng.normal(size=(len(codes), 2)), np.ones(len(codes))])
    effects = rng.normal(size=(len(N_ROWS), 2)) @ everyone.group_root[0].T
    line = x @ everyone.coef + (x[:, [0, 2]] * effects[codes]).sum(1)
    y = response.draw(line, own, rng).astype(float)
    zeros = np.zeros(len(codes))
    return response, Rows(x, y, codes, zeros + 1, zeros, (0, 2)), everyone


@pytest.mark.parametrize("name", ["logit", *slow("negative_binomial")])
@pytest.mark.parametrize("dense", [0, 96])
def test_levels_do_not_depend_on_their_blocks(name, dense):
    response, rows, everyone = uneven(name)
    rule = product_rule(5, 2)
    one, z, _ = rows.blocks(len(N_ROWS))
    assert len(one.levels) == 1
    whole = moments_of(response.kind, rule, one, z, everyone)
    short = budget(chunks_of_block=4, few_blocks=0, dense_levels=dense).rows
    several, z, _ = rows.blocks(len(N_ROWS), short)
    assert (several.indicated is None) == (dense == 0)
    assert len(several.levels) > 1
    parts = moments_of(response.kind, rule, several, z, everyone)
    # of the normals the modes, which depend little on the look that made them
    parts, whole = (a._replace(normals=modes_of(a.normals, everyone)) for a in (parts, whole))
    for ours, theirs in zip(parts, whole, strict=True):
        known = slice(0, len(N_ROWS))
        # steps to the modes end when all levels of a block are there
        assert_allclose(ours[..., known], theirs[..., known], rtol=1e-6, atol=1e-6)


def test_every_row_has_a_seat_in_its_level():
    _, rows, _ = uneven("logit")
    of_rows = rows.x, rows.codes, rows.y, rows.weights, rows.offset
    short = budget(chunks_of_block=4, few_blocks=0).rows
    blocks, seats = arrange_rows(*of_rows, len(N_ROWS), short)
    size, n_chunks = blocks.y.shape
    assert_allclose(blocks.y.T.ravel()[seats], rows.y)
    assert np.array_equal(blocks.level[seats // size], rows.codes)
    assert blocks.weight.sum() == len(rows.y)
    length = n_chunks // len(blocks.levels)
    assert np.array_equal(
        blocks.levels.ravel()[blocks.place[: len(N_ROWS)]], np.arange(len(N_ROWS))
    )
    inside = blocks.place[rows.codes] // blocks.levels.shape[1]
    assert np.array_equal(seats // size // length, inside)
    assert len(blocks.levels) > len(arrange_rows(*of_rows, len(N_ROWS), short, False)[0].levels)


@pytest.mark.parametrize("name", ["logit", "poisson", "student_t"])
def test_start_of_the_modes_does_not_matter(name):
    response = CASES[name].response
    own = {key: np.float64(value) for key, value in CASES[name].own.items()}
    rows, everyone = make_rows(response, own, 2)
    blocks, z, _ = rows.blocks()
    rule = product_rule(7, 2)
    at = partial(moments_of, response.kind, rule, blocks, z, everyone)
    from_zero = at()
    rng = np.random.default_rng(0)
    for tolerance, near in ((CLOSE, 1e-6), (ROUGH, 1e-2)):
        modes = modes_of(from_zero.normals, everyone)
        away = modes + 0.5 * rng.normal(size=modes.shape)
        ours = at(ModeSearch(normals_at(away), tolerance))
        off = np.abs(ours.log_density - from_zero.log_density)[:N_LEVELS]
        assert off.max() < near


@pytest.mark.parametrize("name", ["logit", "poisson"])
def test_modes_are_found_from_afar(name):
    response = CASES[name].response
    rows, everyone = make_rows(response, {}, 2)
    rows = rows._replace(y=np.where(rows.codes < 3, 0.0, rows.y))
    blocks, z, _ = rows.blocks()
    at = partial(moments_of, response.kind, product_rule(7, 2), blocks, z, everyone)
    near = at()
    of_near = modes_of(near.normals, everyone)[:, :N_LEVELS]
    away = np.array([4.0, -4.0])[:, None] @ np.ones((1, near.normals.shape[1]))  # steps overshoot
    far = at(ModeSearch(normals_at(away), CLOSE))
    assert_allclose(modes_of(far.normals, everyone)[:, :N_LEVELS], of_near, atol=1e-6)


@pytest.mark.parametrize("far", ["prior", "stale"])
def test_modes_among_heavy_tails_are_found_from_afar(far):
    """Noise a thousandth of the effects: every two rows of a level have a mode of their own."""
    response = CASES["student_t"].response
    own = {"noise_scale": np.float64(1e-3), "df": np.float64(3.0)}
    rows, everyone = make_rows(response, own, 2)
    blocks, z, _ = rows.blocks()
    at = partial(moments_of, response.kind, product_rule(7, 2), blocks, z)
    wider = [everyone._replace(own=own | {"noise_scale": s}) for s in np.geomspace(1, 1e-3, 30)]
    near = at(wider[0])
    for population in wider[1:]:  # which follows the modes of ever less noise
        near = at(population, ModeSearch(near.normals, 1e-3))
    away = np.array([4.0, -4.0])[:, None] @ np.ones((1, near.normals.shape[1]))
    start = normals_at(away) if far == "stale" else 0 * near.normals
    found = at(everyone, ModeSearch(start, CLOSE))
    assert (found.log_density > near.log_density - 1e-4)[:N_LEVELS].all()
    roughly = at(everyone, ModeSearch(start, 2 * CLOSE))  # which does not begin afar
    assert (roughly.log_density < near.log_density - 10)[:N_LEVELS].any()


@pytest.mark.parametrize("name", ["logit", "poisson", "student_t"])
def test_nodes_lie_where_normals_say_without_a_look(name):
    response = CASES[name].response
    own = {key: np.float64(value) for key, value in CASES[name].own.items()}
    rows, everyone = make_rows(response, own, 2)
    blocks, z, _ = rows.blocks()
    known = slice(0, N_LEVELS)
    at = partial(moments_of, response.kind, product_rule(3, 2), blocks, z)
    looked = at(everyone)
    without = at(everyone, ModeSearch(looked.normals, NEVER))
    assert_allclose(without.normals, looked.normals)
    assert_allclose(without.log_density[known], looked.log_density[known], atol=1e-6)
    assert_allclose(without.mean[:, known], looked.mean[:, known], atol=1e-6)
    # of a population near by the normals place the nodes nearly as well, whatever its scales
    (root,) = everyone.group_root
    other = everyone._replace(coef=everyone.coef + 0.02, group_root=(0.8 * root,))
    exact, without = at(other), at(other, ModeSearch(looked.normals, NEVER))
    from_zero = at(other, ModeSearch(0 * looked.normals, NEVER))
    off, worse = (np.abs(a.log_density - exact.log_density)[known] for a in (without, from_zero))
    finer = moments_of(response.kind, product_rule(9, 2), blocks, z, other).log_density
    assert 0 < off.sum() < np.abs(exact.log_density - finer)[known].sum()
    assert worse.sum() > 10 * off.sum()


@pytest.mark.parametrize("name", [pytest.param("logit", marks=pytest.mark.slow), "poisson"])
def test_moments_of_a_rule_in_parts_are_those_of_the_whole(name):
    response = CASES[name].response
    rows, everyone = make_rows(response, {}, 2)
    blocks, z, _ = rows.blocks()
    of_rule = partial(moments_of, response.kind, rows=blocks, z=z, everyone=everyone)
    whole, parts = of_rule(product_rule(7, 2)), of_rule(rule_in_parts(7, 2, 5))
    for ours, theirs in zip(parts, whole, strict=True):
        known = slice(0, N_LEVELS)  # whose skewness has a direction
        assert_allclose(ours[..., known], theirs[..., known], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["logit", "poisson"])
def test_third_moments_match_a_dense_grid(name):
    response = CASES[name].response
    rows, everyone = make_rows(response, {}, 2)
    rows = rows._replace(y=np.where(rows.codes < 3, 0.0, rows.y))  # levels of zeros are skewed
    blocks, z, _ = rows.blocks()
    moments = moments_of(response.kind, product_rule(9, 2), blocks, z, everyone)
    u, log_mass = grid(2)
    effects = everyone.group_root[0] @ u
    for level in range(N_LEVELS):
        here = rows.codes == level
        line = rows.offset[here] + rows.x[here] @ everyone.coef
        eta = line[:, None] + rows.x[here][:, list(rows.columns)] @ effects
        total = log_mass + response.log_density(rows.y[here, None], eta, {}).sum(0)
        share = np.exp(total - total.max())
        share /= share.sum()
        for direction in ([1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.6, -0.8]):
            along = np.array(direction) @ effects
            off = along - share @ along
            variance = share @ off**2
            ours = np.array(direction) @ moments.root[..., level]
            assert_allclose((ours**2).sum(), variance, rtol=2e-2)
            skew = (share @ off**3) / variance**1.5
            of_axes = (moments.skew[:, level] @ ours**3) / (ours**2).sum() ** 1.5
            assert abs(of_axes - skew) < 0.15  # moments of two axes are left out
    assert np.abs(moments.skew[:, :3]).max() > 0.3  # so that there is something to match
