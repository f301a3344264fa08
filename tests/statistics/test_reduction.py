"""Reductions: in whatever blocks and order rows come, they add up to what one pass gives."""

import pickle
from functools import partial, reduce

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import budget

from skhier.statistics.problem import problem_of, reduce_rows
from skhier.statistics.reduction import axes_of, merge, no_rows, own_units, reduce_block
from skhier.statistics.units import internal_units
from skhier.utils.level_union import unite_levels
from skhier.utils.table import read_table
from skhier.utils.training import Training, read_block, read_training

N = 240
DESIGNS = {
    "none": None,
    "one": {"g": ["a"]},
    "intercept": {"g": None},
    "crossed": {"g": ["a"], "h": None},
    "three": {"g": ["a", "c"], "h": ["b"], "i": None},
    "nested": {"g": ["a"], ("g", "h"): ["a", "b"]},
    "every slope": {"h": ["a", "b", "c"]},
}


def table(kind="far", n=N):
    """Features at large offsets, whose squares no float64 holds to what varies; or small numbers.

    Levels come in order, so that early blocks of rows have other levels than late ones.
    """
    import pandas as pd

    rng = np.random.default_rng(5)
    late = np.sort(rng.integers(0, 12, n))
    columns = {
        "g": [f"s{k}" for k in late],
        "h": rng.integers(0, 5, n) + 3 * (late > 6),
        "i": np.datetime64("2020-01-01") + rng.integers(0, 3, n),
    }
    if kind == "integers":
        x, y = rng.integers(-3, 4, (n, 3)).astype(float), rng.integers(-9, 9, n).astype(float)
    else:
        x = np.c_[2000.0 + rng.integers(0, 20, n) + late, rng.normal(size=n), np.full(n, 0.1)]
        y = 2.0**30 + rng.normal(size=n) + late
    weights = rng.integers(1, 4, n).astype(float)
    return pd.DataFrame(columns | dict(zip("abc", x.T, strict=True))), y, weights


def read(rows, groups, kind="far"):
    """Axes and rows of some rows of the table, read on their own."""
    X, y, weights = table(kind)
    X = X.iloc[rows]
    used = {c for at in groups or {} for c in (at if isinstance(at, tuple) else (at,))}
    X = X.drop(columns=[c for c in "ghi" if c not in used])
    design, training = read_training(
        read_table(X),
        y[rows],
        weights[rows],
        groups,
        "all" if groups is None else None,
    )
    return axes_of(design), training


def reduction(rows, groups, kind="far", units=None):
    return reduce_block(*read(rows, groups, kind), units)


def parts_of(how):
    rng = np.random.default_rng(6)
    every = np.arange(N)
    return {
        "halves": [every[: N // 2], every[N // 2 :]],
        "late first": [every[150:], every[:150]],
        "thirds": [every[k::3] for k in range(3)],
        "uneven": np.split(rng.permutation(N), [2, 5, 40, 41 + 60, 200]),
    }[how]


def assert_same_axes(found, expected):
    assert found.features == expected.features
    for one, other in zip(found.factors, expected.factors, strict=True):
        assert (one.name, one.slopes) == (other.name, other.slopes)
        assert one.levels.labels.tolist() == other.levels.labels.tolist()
        assert type(one.levels) is type(other.levels)


def assert_same(found, expected, rtol=1e-12):
    """In the units of ``expected``; to ``rtol`` of what the products of the columns sum up to."""
    assert_same_axes(found.axes, expected.axes)
    moved = found.in_units(expected.units).stats
    scale = float(expected.stats.n)  # internal columns are of size 1
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(expected.stats), strict=True):
        assert a.shape == b.shape
        assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


def assert_bitwise(found, expected):
    assert_same_axes(found.axes, expected.axes)
    parts = (found.units, found.stats), (expected.units, expected.stats)
    for a, b in zip(*map(jax.tree.leaves, parts), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("how", ["halves", "late first", "thirds", "uneven"])
def test_merged_blocks_are_one_pass(name, how):
    parts = [reduction(rows, DESIGNS[name]) for rows in parts_of(how)]
    whole = reduction(np.arange(N), DESIGNS[name])
    assert_same(merge(*parts), whole)
    assert_same(reduce(merge, parts), whole)
    assert_same(reduce(merge, parts[::-1]), whole)
    for few in (0, N):  # levels of a part that are added cell by cell, or all at once
        assert_same(merge(*parts, budget=budget(few_levels=few).data), whole)


@pytest.mark.parametrize("name", DESIGNS)
def test_merging_is_commutative_and_associative(name):
    a, b, c = (reduction(rows, DESIGNS[name]) for rows in parts_of("thirds"))
    assert_bitwise(merge(a, b), merge(b, a))
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)))


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("how", ["late first", "uneven"])
def test_exact_sums_merge_bitwise(name, how):
    groups = DESIGNS[name]
    axes, rows = read(np.arange(N), groups, "integers")
    units = own_units(axes, rows)
    zero = units._replace(x_mean=0 * units.x_mean, y_mean=0.0)
    whole = reduce_block(axes, rows, zero)
    parts = [reduction(rows, groups, "integers", zero) for rows in parts_of(how)]
    assert_bitwise(merge(*parts), whole)
    assert_bitwise(reduce(merge, parts[::-1]), whole)


@pytest.mark.parametrize("name", DESIGNS)
def test_no_rows_are_neutral(name):
    some = reduction(np.arange(40), DESIGNS[name])
    none = no_rows(some.axes)
    assert none.stats.n == 0
    assert none.axes.n_levels == [0] * len(none.axes.factors)
    for found in (merge(none, some), merge(some, none), merge(none, none, some)):
        assert_bitwise(found, some)
    assert_bitwise(merge(none, pickle.loads(pickle.dumps(none))), none)
    assert_bitwise(reduce_block(none.axes, read([0, 1], DESIGNS[name])[1].take([])), none)


def test_levels_and_pairs_of_disjoint_blocks_are_united():
    groups = DESIGNS["crossed"]
    early, late = reduction(np.arange(60), groups), reduction(np.arange(180, N), groups)
    assert not set(early.axes.factors[0].levels.labels) & set(late.axes.factors[0].levels.labels)
    both = merge(late, early)
    assert_same(both, reduction(np.r_[:60, 180:N], groups))
    (pair,) = both.stats.pairs
    assert len(pair.first) == sum(len(part.stats.pairs[0].first) for part in (early, late))
    assert_array_equal(np.lexsort((pair.second, pair.first)), np.arange(len(pair.first)))


@pytest.mark.parametrize("slopes", ["all", ["b"], None])
@pytest.mark.parametrize("groups", ["g", ["g", "h"]])
def test_blocks_of_many_levels_are_one_pass(groups, slopes):
    """Each block has some hundreds of the levels, the last one all of them."""
    import pandas as pd

    rng = np.random.default_rng(7)
    n, n_levels = 3000, 700
    X = pd.DataFrame(
        {
            "g": np.append(rng.integers(0, n_levels, n - n_levels), np.arange(n_levels)),
            "h": rng.integers(0, 300, n),
            "a": 2000 + rng.normal(size=n),
            "b": rng.normal(size=n),
        }
    ).drop(columns=[] if groups != "g" else "h")
    y = 1e6 + rng.normal(size=n)

    def of(rows):
        design, training = read_block(read_table(X.iloc[rows]), y[rows], None, groups, slopes)
        return reduce_block(axes_of(design), training)

    parts = [of(rows) for rows in np.split(np.arange(n), [500, 900, 1500, n - n_levels])]
    assert 200 < min(part.axes.n_levels[0] for part in parts) < n_levels
    assert parts[-1].axes.n_levels[0] == n_levels
    assert_same(merge(*parts), of(np.arange(n)))
    assert_same(reduce(merge, parts[::-1]), of(np.arange(n)))


def test_means_and_sds_survive_merging_at_large_offsets():
    X, y, weights = table()
    merged = merge(*(reduction(rows, DESIGNS["one"]) for rows in parts_of("uneven")))
    of_x, of_y = merged.mean_sd()
    repeated = np.repeat(np.c_[X[list("abc")], y], weights.astype(int), axis=0)
    mean = repeated[0] + (repeated - repeated[0]).mean(0)
    assert_allclose(np.append(of_x.mean, of_y.mean), mean, rtol=1e-15, atol=1e-13)
    assert_allclose(np.append(of_x.sd, of_y.sd)[[0, 1, 3]], repeated.std(0, ddof=1)[[0, 1, 3]])
    assert of_x.sd[2] == 0  # a constant column stays one
    assert merged.stats.xx[2, 2] == 0


def test_merged_problem_is_that_of_the_rows():
    X, y, weights = table()
    X = X[[*"gabc"]]
    design, rows = read_training(read_table(X), y, weights, {"g": ["a"]}, None)
    whole = reduce_rows(design, rows)
    merged = merge(*(reduction(part, {"g": ["a"]}) for part in parts_of("thirds")))
    found = problem_of(merged, rows.medians())
    assert found.plan == whole.plan
    assert_allclose(found.units.x_scale, whole.units.x_scale)
    for name, value in whole.scales._asdict().items():
        assert_allclose(getattr(found.scales, name), value, rtol=1e-12)
    assert_same(found.reduction, whole.reduction)


def test_medians_that_statistics_do_not_tell_are_refused():
    scales = problem_of(reduction(np.arange(N), DESIGNS["one"])).scales
    assert np.isfinite(scales.y_sd)
    for name in ("y_median", "y_mad"):
        with pytest.raises(ValueError, match=r"scaled by the median of y.*'bambi'"):
            getattr(scales, name)


@pytest.mark.parametrize("y", [[1.0, 3.0], [2.0, 2.0]])
def test_blocks_of_little_weight_merge(y):
    """An sd is not defined of such a block; units near it are."""
    axes, rows = read([0, 1], {"g": None})
    blocks = [
        Training(rows.x[[k]], rows.codes[[k]], np.array([y[k]]), np.array([0.5])) for k in (0, 1)
    ]
    whole = Training(rows.x, rows.codes, np.array(y), np.full(2, 0.5))
    assert_same(merge(*(reduce_block(axes, block) for block in blocks)), reduce_block(axes, whole))


def test_products_of_levels_are_dropped_where_one_pass_has_none():
    few = budget(level_products=25 * 11).data
    parts = [reduction(rows, {"g": None}) for rows in parts_of("halves")]
    assert all(len(part.stats.factors[0].xy_xy) for part in parts)
    merged = merge(*parts, budget=few)
    assert not len(merged.stats.factors[0].xy_xy)
    axes, rows = read(np.arange(N), {"g": None})
    assert_same(merged, reduce_block(axes, rows, budget=few))
    assert not len(merge(parts[0], merged).stats.factors[0].xy_xy)


def test_what_is_not_alike_does_not_merge():
    one = reduction(np.arange(40), {"g": ["a"]})
    axes, (factor,) = one.axes, one.axes.factors

    def other(**changes):
        return one._replace(axes=axes._replace(**changes))

    def factors(**changes):
        return other(factors=(factor._replace(**changes),))

    refused = partial(pytest.raises, ValueError)
    with refused(match="different features cannot be merged: 'c', 'd' in one of them only"):
        merge(one, other(features=("a", "b", "d")))
    with refused(match="different features .*another order"):
        merge(one, other(features=("b", "a", "c")))
    with refused(match="different grouping factors cannot be merged: 'g', 'h' in one"):
        merge(one, factors(name="h"))
    with refused(match=r"different varying slopes of 'g' .*\['a'\] and \['a', 'b'\]. Name them"):
        merge(one, factors(slopes=(0, 1)))
    numbers = reduction(np.arange(40), {"h": ["a"]}).axes.factors[0].levels
    with refused(match=r"labels of 'g' are of different kinds .*string \(such as 's0'\), number"):
        merge(one, factors(levels=numbers))
    nested = reduction(np.arange(40), {("g", "h"): ["a"]}).axes.factors[0].levels
    with refused(match=r"'g' cannot be united: .*\('g', 'h'\), or labels of one column"):
        merge(one, factors(levels=nested))
    turned = reduction(np.arange(40), {("h", "g"): ["a"]}).axes.factors[0].levels
    with refused(match=r"'x' cannot be united: .*\('g', 'h'\) or of \('h', 'g'\)"):
        unite_levels([nested, turned], "x")


def test_units_do_not_follow_a_shift_that_was_far_from_the_rows():
    """The joint units come from where the rows are, not from the shifts."""
    axes, rows = read(np.arange(N), {"g": ["a"]}, "integers")
    units = own_units(axes, rows)
    far = units._replace(x_mean=units.x_mean + 2.0**6, y_mean=-(2.0**8))
    halves = [rows.take(slice(None, 100)), rows.take(slice(100, None))]
    merged = merge(
        *(reduce_block(axes, part, at) for part, at in zip(halves, (units, far), strict=True))
    )
    assert_allclose(merged.units.y_mean, units.y_mean, rtol=1e-10)
    assert_allclose(merged.units.y_scale, units.y_scale)
    assert_same(merged, reduce_block(axes, rows), rtol=1e-9)
    assert internal_units(*merged.mean_sd(), axes.slopes).y_scale == units.y_scale
