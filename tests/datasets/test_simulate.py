"""Simulated data: the truth that comes with it is recomputed here from the rows."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal, assert_series_equal

from skhier.datasets import make_hierarchical
from skhier.datasets._simulate import _draw_correlations

NESTED = {"state": 5, ("state", "cafe"): 4}
DEEP = {"a": 3, ("a", "b"): 2, ("a", "b", "c"): 4, "other": 7}


def mean_row_by_row(data, truth, columns_of):
    """x'coef + intercept + sum of z'b, one row at a time, looking levels up by label."""
    means = []
    for _, row in data.iterrows():
        mean = truth.intercept + sum(truth.coef[name] * row[name] for name in truth.coef.index)
        for name, effects in truth.group_effects.items():
            b = effects.loc[":".join(row[column] for column in columns_of[name])]
            mean += b["intercept"] + sum(b[x] * row[x] for x in effects.columns[1:])
        means.append(mean)
    return means


def test_simulated_defaults_are_one_factor_of_twenty():
    sim = make_hierarchical(random_state=0)
    assert sim.data.shape == (1000, 3)
    assert sim.feature_names == list(sim.data.columns) == ["x0", "x1", "group"]
    assert (sim.target.name, sim.target_names, sim.target.shape) == ("y", ["y"], (1000,))
    assert sim.groups == "group"
    assert sim.truth.group_effects["group"].shape == (20, 3)
    assert set(sim.data["group"].value_counts()) == {50}


def test_simulated_return_x_y_is_data_and_target():
    sim = make_hierarchical(50, random_state=1)
    X, y = make_hierarchical(50, return_X_y=True, random_state=1)
    assert_frame_equal(X, sim.data)
    assert_series_equal(y, sim.target)


@pytest.mark.parametrize("balanced", [True, False])
def test_simulated_mean_is_rebuilt_from_truth(balanced):
    sim = make_hierarchical(
        120,
        3,
        groups={**DEEP, "plain": 4},
        slopes={
            "a": ["x2", "x0"],
            ("a", "b"): "all",
            ("a", "b", "c"): None,
            "other": ["x1"],
            "plain": [],
        },
        intercept=7.0,
        noise_scale=0.0,
        balanced=balanced,
        random_state=2,
    )
    columns_of = {
        "a": "a",
        "a:b": ("a", "b"),
        "a:b:c": ("a", "b", "c"),
        "other": ["other"],
        "plain": ["plain"],
    }
    assert set(columns_of) == set(sim.truth.group_effects)
    assert list(sim.truth.group_effects["a"].columns) == ["intercept", "x2", "x0"]
    assert_allclose(sim.truth.mean, mean_row_by_row(sim.data, sim.truth, columns_of), rtol=1e-12)
    assert_array_equal(sim.target, sim.truth.mean)


def test_simulated_noise_has_its_scale():
    sim = make_hierarchical(20_000, noise_scale=3.0, random_state=3)
    noise = sim.target - sim.truth.mean
    # The variance of a mean square of n normals is 2 sigma^4 / n.
    assert abs(np.mean(noise**2) - 9.0) < 5 * 9.0 * np.sqrt(2 / len(noise))
    assert abs(noise.mean()) < 5 * 3.0 / np.sqrt(len(noise))


def test_simulated_noise_scale_changes_only_the_noise():
    quiet, loud = (make_hierarchical(30, noise_scale=s, random_state=4) for s in (1.0, 2.0))
    assert_frame_equal(quiet.data, loud.data)
    assert_series_equal(quiet.truth.mean, loud.truth.mean)
    assert_allclose(
        loud.target - loud.truth.mean, 2 * (quiet.target - quiet.truth.mean), rtol=0, atol=1e-13
    )


def test_simulated_group_coef_is_population_plus_deviation():
    truth = make_hierarchical(40, 2, intercept=3.0, coef=[1.0, -2.0], random_state=5).truth
    assert truth.intercept == 3.0
    assert dict(truth.coef) == {"x0": 1.0, "x1": -2.0}
    difference = truth.group_coef["group"] - truth.group_effects["group"]
    assert list(difference.columns) == ["intercept", "x0", "x1"]
    assert_allclose(difference, np.tile([3.0, 1.0, -2.0], (20, 1)), atol=1e-13)


@pytest.mark.parametrize("corr", [-0.7, [[1.0, -0.7], [-0.7, 1.0]], {"group": -0.7}])
@pytest.mark.parametrize("scale", [[1.0, 0.5], {"group": np.array([1.0, 0.5])}])
def test_simulated_effects_have_covariance_sigma(corr, scale):
    n_levels = 20_000
    sim = make_hierarchical(
        10, 1, groups=n_levels, group_scale=scale, group_corr=corr, random_state=6
    )
    b = sim.truth.group_effects["group"].to_numpy()
    sigma = np.array([[1.0, -0.35], [-0.35, 0.25]])
    # The mean is known to be 0: var(S_jk) = (Sigma_jj Sigma_kk + Sigma_jk^2) / G.
    error = np.sqrt((np.outer(np.diag(sigma), np.diag(sigma)) + sigma**2) / n_levels)
    assert np.all(np.abs(b.T @ b / n_levels - sigma) < 5 * error)
    assert np.all(np.abs(b.mean(axis=0)) < 5 * np.sqrt(np.diag(sigma) / n_levels))
    tau, omega = sim.truth.group_scale["group"], sim.truth.group_corr["group"]
    assert_allclose(np.outer(tau, tau) * omega, sigma)


def test_simulated_effects_are_independent_by_default():
    truth = make_hierarchical(10, 2, random_state=0).truth
    assert_array_equal(truth.group_corr["group"], np.eye(3))


def test_simulated_perfect_correlation_makes_proportional_effects():
    sim = make_hierarchical(10, 1, group_scale=[1.0, 2.0], group_corr=1.0, random_state=7)
    b = sim.truth.group_effects["group"]
    assert_allclose(b["x0"], 2 * b["intercept"], rtol=1e-9)


def test_simulated_zero_scale_switches_a_factor_off():
    sim = make_hierarchical(
        60, 1, groups=NESTED, group_scale={"state": 0.0, "state:cafe": 1.0}, random_state=8
    )
    assert not sim.truth.group_effects["state"].to_numpy().any()
    assert sim.truth.group_effects["state:cafe"].to_numpy().all()


@pytest.mark.parametrize(("dim", "eta"), [(2, 1.0), (4, 1.0), (4, 3.5), (5, 0.5)])
def test_lkj_draw_has_its_beta_marginals(dim, eta):
    # (r + 1)/2 ~ Beta(a, a), a = eta - 1 + dim/2 (Lewandowski et al. 2009), for every
    # pair: E r^2 = 1 / (2a + 1), E r^4 = 3 / ((2a + 1)(2a + 3)).
    rng, n_draws = np.random.RandomState(9), 4000
    draws = np.array([_draw_correlations(dim, eta, rng) for _ in range(n_draws)])
    a = eta - 1 + dim / 2
    second, fourth = 1 / (2 * a + 1), 3 / ((2 * a + 1) * (2 * a + 3))
    r = draws[:, *np.triu_indices(dim, k=1)]
    assert np.all(np.abs(r.mean(axis=0)) < 5 * np.sqrt(second / n_draws))
    spread = 5 * np.sqrt((fourth - second**2) / n_draws)
    assert np.all(np.abs((r**2).mean(axis=0) - second) < spread)


def test_lkj_draw_has_its_mean_determinant():
    # The density is proportional to det^(eta-1), so E det = c(eta) / c(eta + 1), and c is the
    # product over k = 1..dim-1 of B(k/2, eta + (dim - 1 - k)/2): a ratio of products of b/(a + b).
    dim, eta, n_draws = 4, 1.5, 4000
    rng = np.random.RandomState(10)
    dets = np.array([np.linalg.det(_draw_correlations(dim, eta, rng)) for _ in range(n_draws)])
    b = np.array([eta + (dim - 1 - k) / 2 for k in range(1, dim)])
    expected = np.prod([b_k / (k / 2 + b_k) for k, b_k in enumerate(b, start=1)])
    assert abs(dets.mean() - expected) < 5 * dets.std() / np.sqrt(n_draws)


@pytest.mark.parametrize("n_features", [0, 1, 5])
def test_simulated_lkj_gives_a_correlation_matrix(n_features):
    sim = make_hierarchical(10, n_features, group_corr="lkj", eta=1.0, random_state=11)
    corr = sim.truth.group_corr["group"]
    assert list(corr.index) == list(corr.columns) == ["intercept", *sim.truth.coef.index]
    assert_array_equal(corr, corr.T)
    assert_array_equal(np.diag(corr), 1.0)
    assert np.linalg.eigvalsh(corr)[0] > 0


def test_simulated_larger_eta_draws_smaller_correlations():
    loose, tight = (
        make_hierarchical(10, 4, group_corr="lkj", eta=eta, random_state=12).truth
        for eta in (1, 1e6)
    )
    off = ~np.eye(5, dtype=bool)
    assert np.abs(tight.group_corr["group"].to_numpy()[off]).max() < 0.01
    assert np.abs(loose.group_corr["group"].to_numpy()[off]).max() > 0.1


def test_simulated_nested_labels_are_reused_in_every_parent():
    sim = make_hierarchical(200, 1, groups=NESTED, random_state=13)
    assert sim.groups == ["state", ("state", "cafe")]
    assert list(sim.data.columns) == ["x0", "state", "cafe"]
    cafes_of = sim.data.groupby("state")["cafe"].unique().map(sorted)
    assert len(cafes_of) == 5
    assert all(cafes == ["cafe_0", "cafe_1", "cafe_2", "cafe_3"] for cafes in cafes_of)
    levels = list(sim.truth.group_effects["state:cafe"].index)
    assert levels[:5] == [
        "state_0:cafe_0", "state_0:cafe_1", "state_0:cafe_2", "state_0:cafe_3", "state_1:cafe_0",
    ]  # fmt: skip
    assert len(levels) == 20


def test_simulated_nested_levels_differ_between_parents():
    effects = make_hierarchical(200, 1, groups=NESTED, random_state=13).truth.group_effects
    of_cafe_0 = effects["state:cafe"].filter(like="cafe_0", axis=0)
    assert len(of_cafe_0) == of_cafe_0["intercept"].nunique() == 5


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("order", [list(DEEP), list(DEEP)[::-1]])
def test_simulated_deep_nesting_is_independent_of_order(order, balanced):
    sim = make_hierarchical(
        300, 1, groups={key: DEEP[key] for key in order}, balanced=balanced, random_state=14
    )
    assert sim.groups == order
    assert list(sim.data.columns)[1:] == [key if isinstance(key, str) else key[-1] for key in order]
    assert sim.data.groupby(["a", "b", "c"]).ngroups == 3 * 2 * 4
    assert sim.truth.group_effects["a:b:c"].shape[0] == 24


@pytest.mark.parametrize("n_samples", [24, 25, 100, 997])
def test_balanced_sizes_differ_by_at_most_one(n_samples):
    data = make_hierarchical(n_samples, 0, groups=DEEP, random_state=15).data
    for columns, n_levels in [(["a"], 3), (["a", "b"], 6), (["a", "b", "c"], 24), (["other"], 7)]:
        sizes = data.groupby(columns).size()
        assert len(sizes) == n_levels
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n_samples", [24, 30, 500])
def test_unbalanced_sizes_are_unequal_and_leave_no_level_out(n_samples, seed):
    data = make_hierarchical(n_samples, 0, groups=DEEP, balanced=False, random_state=seed).data
    assert data.groupby(["a", "b", "c"]).ngroups == 24
    sizes = data["other"].value_counts()
    assert len(sizes) == 7
    assert sizes.max() - sizes.min() > 1


def test_unbalanced_shares_are_flat_dirichlet():
    # Two levels, flat: the share of the first is uniform, mean 1/2 and variance 1/12.
    draw = [
        make_hierarchical(400, 0, groups=2, balanced=False, random_state=seed).data["group"]
        for seed in range(400)
    ]
    shares = np.array([(labels == "group_0").mean() for labels in draw])
    assert abs(shares.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(shares))
    # Uniform u: var((u - 1/2)^2) = 1/180; the 400 rows add at most 1/400 to the variance.
    excess = np.mean((shares - 0.5) ** 2) - 1 / 12
    assert abs(excess) < 5 * np.sqrt(1 / 180 / len(shares)) + 1 / 400


@pytest.mark.parametrize("balanced", [True, False])
def test_simulated_levels_without_rows_keep_their_truth(balanced):
    sim = make_hierarchical(3, 1, groups=10, balanced=balanced, random_state=16)
    assert sim.data["group"].nunique() == 3
    assert len(sim.truth.group_effects["group"]) == 10


def test_simulated_labels_sort_by_number():
    sim = make_hierarchical(500, 0, groups=101, random_state=17)
    assert sorted(sim.data["group"].unique()) == list(sim.truth.group_effects["group"].index)
    assert sim.data["group"].min() == "group_000"


def test_simulated_crossed_factors_are_paired_at_random():
    data = make_hierarchical(2000, 0, groups={"row": 4, "item": 5}, random_state=18).data
    table = pd.crosstab(data["row"], data["item"]).to_numpy()
    # Hypergeometric cells with margins 500 and 400 of 2000.
    error = np.sqrt(100 * (1 - 500 / 2000) * (1 - 400 / 2000))
    assert np.all(np.abs(table - 100) < 5 * error)
    assert len(np.unique(table)) > 1


def test_simulated_slopes_given_per_factor_come_back_in_groups():
    slopes = {"state": None, "state:cafe": ["x1"]}
    sim = make_hierarchical(50, 2, groups=NESTED, slopes=slopes, random_state=19)
    assert sim.groups == {"state": None, ("state", "cafe"): ["x1"]}
    assert list(sim.truth.group_coef["state"].columns) == ["intercept"]
    assert list(sim.truth.group_coef["state:cafe"].columns) == ["intercept", "x1"]


def test_simulated_without_features_has_only_intercepts():
    sim = make_hierarchical(10, 0, groups=3, random_state=20)
    assert list(sim.data.columns) == ["group"]
    assert list(sim.truth.group_effects["group"].columns) == ["intercept"]
    assert sim.truth.coef.empty


def test_simulated_single_row_and_level_is_allowed():
    sim = make_hierarchical(1, 1, groups=1, balanced=False, random_state=21)
    assert sim.data.shape == (1, 2)
    assert list(sim.data["group"]) == ["group_0"]


def test_same_seed_gives_the_same_data():
    def simulate(seed):
        return make_hierarchical(
            100, 2, groups=NESTED, group_corr="lkj", balanced=False, random_state=seed
        )

    one, same, other = simulate(3), simulate(np.random.RandomState(3)), simulate(4)
    assert_frame_equal(one.data, same.data)
    assert_series_equal(one.target, same.target)
    for name in ("state", "state:cafe"):
        assert_frame_equal(one.truth.group_coef[name], same.truth.group_coef[name])
        assert_frame_equal(one.truth.group_corr[name], same.truth.group_corr[name])
    assert not np.allclose(one.target, other.target)


def test_integer_seed_leaves_the_global_generator_alone():
    before = np.random.get_state()
    make_hierarchical(50, group_corr="lkj", balanced=False, random_state=0)
    after = np.random.get_state()
    assert before[0] == after[0]
    assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_no_seed_differs_from_call_to_call():
    assert not np.allclose(make_hierarchical(20).target, make_hierarchical(20).target)


def test_simulated_arguments_are_copied():
    coef, scale, corr = np.array([1.0]), np.array([1.0, 2.0]), np.eye(2)
    truth = make_hierarchical(
        20, 1, coef=coef, group_scale=scale, group_corr=corr, random_state=0
    ).truth
    coef[:], scale[:], corr[:] = 9, 9, 9
    assert truth.coef["x0"] == 1.0
    assert list(truth.group_scale["group"]) == [1.0, 2.0]
    assert_array_equal(truth.group_corr["group"], np.eye(2))


def test_simulated_arguments_after_features_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        make_hierarchical(10, 1, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, r"parameter must be an int in the range \[1, inf\). Got 0 instead"),
        (
            {"n_samples": 10.0},
            r"parameter must be an int in the range \[1, inf\). Got 10\.0 instead",
        ),
        ({"n_features": -1}, r"parameter must be an int in the range \[0, inf\). Got -1 instead"),
        ({"n_features": True}, r"must be an int in the range .*Got True"),
        ({"groups": 0}, r"parameter must be an int in the range \[1, inf\). Got 0 instead"),
        (
            {"groups": "cafe"},
            r"parameter must be an int in the range \[1, inf\). Got 'cafe' instead",
        ),
        ({"groups": {}}, r"`groups` is an empty dict"),
        (
            {"groups": {"cafe": 0}},
            r"parameter must be an int in the range \[1, inf\). Got 0 instead",
        ),
        ({"groups": {("cafe",): 3}}, r"tuples of two or more of them; got \('cafe',\)"),
        ({"groups": {"a:b": 3}}, r"without ':'.*got 'a:b'"),
        ({"groups": {7: 3}}, r"keyed by column names.*got 7\."),
        ({"groups": {("state", "cafe"): 3}}, r"nests \('state', 'cafe'\) in 'state'; add 'state'"),
        (
            {"groups": {"a": 2, ("a", "b", "c"): 3}},
            r"nests \('a', 'b', 'c'\) in \('a', 'b'\); add \('a', 'b'\)",
        ),
        ({"groups": {"a": 2, "b": 2, ("a", "b"): 3}}, r"every column once.*\['a', 'b', 'b'\]"),
        ({"groups": {"x0": 2}}, r"differently from the features.*\['x0'\]"),
        ({"slopes": ["x7"]}, r"`slopes` names \['x7'\], which are not features.*'x0', 'x1'"),
        ({"slopes": ["x0", "x0"]}, r"`slopes` must name a feature only once; got \['x0', 'x0'\]"),
        ({"slopes": {"cafe": None}}, r"`slopes` must have one entry per factor; got \['cafe'\]"),
        ({"intercept": [1.0, 2.0]}, r"`intercept` must be one number; got shape \(2,\)"),
        ({"intercept": None}, r"`intercept` must be finite; got None"),
        ({"coef": [1.0]}, r"`coef` must have shape \(2,\); got shape \(1,\)"),
        ({"coef": ["a", "b"]}, r"`coef` must hold numbers; got \['a', 'b'\]"),
        ({"coef": [1.0, np.nan]}, r"`coef` must be finite"),
        ({"group_scale": -1.0}, r"`group_scale` must not be negative; got -1\.0"),
        ({"group_scale": [1.0, 2.0]}, r"shape \(3,\) \(the effects of 'group': \['intercept'"),
        ({"group_scale": {}}, r"`group_scale` must have one entry per factor; got \[\]"),
        ({"group_corr": 1.5}, r"`group_corr` must give a correlation matrix.*3 effects; got 1\.5"),
        ({"group_corr": -0.6}, r"no negative eigenvalue.*got -0\.6"),
        ({"group_corr": 2 * np.eye(3)}, r"ones on the diagonal"),
        ({"group_corr": [[1, 0, 0], [0.5, 1, 0], [0, 0, 1]]}, r"symmetric"),
        ({"group_corr": np.eye(2)}, r"`group_corr` must have shape \(3, 3\)"),
        ({"group_corr": "wishart"}, r"`group_corr` must hold numbers; got 'wishart'"),
        ({"eta": 0.0}, r"`eta` must be positive; got 0\.0"),
        ({"noise_scale": -0.1}, r"`noise_scale` must be at least 0\.0; got -0\.1"),
    ],
)
def test_simulated_bad_argument_is_a_clear_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_hierarchical(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slopes": "x0"}, r"`slopes` must be 'all', None or a list of features; got 'x0'\."),
        ({"slopes": 3}, r"`slopes` must be 'all', None or a list of features; got 3\."),
        ({"balanced": "no"}, r"`balanced` must be True or False; got 'no'\."),
    ],
)
def test_simulated_bad_type_is_a_clear_error(arguments, message):
    with pytest.raises(TypeError, match=message):
        make_hierarchical(**arguments)


def test_simulated_bad_argument_draws_nothing_from_the_generator():
    rng = np.random.RandomState(0)
    with pytest.raises(ValueError, match="group_corr"):
        make_hierarchical(10, 1, group_corr=2.0, random_state=rng)
    assert rng.random_sample() == np.random.RandomState(0).random_sample()
