"""The same data in another form give the same posterior.

Where the form cannot matter to a sum of products, every draw must agree: a Markov chain turns one
changed bit into other draws. Where rounding differs, means must agree within Monte Carlo error.
"""

import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import SHORT
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor
from skhier.inference.runtime import precisely_on
from skhier.kernels.normal.models import log_likelihood
from skhier.statistics.mean_sd import mean_sd_of_rows
from skhier.statistics.products import group_stats
from skhier.statistics.units import internal_units
from skhier.utils.diagnostics import mcse_mean

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LONG = {"n_draws": 4000, "random_state": 0}  # an effective sample size that shows 0.1 sd
CODES = np.repeat(np.arange(10), 8)
RNG = np.random.default_rng(0)


def fit(X, y, groups="subject", weights=None, **params):
    model = HierarchicalSlopesRegressor(groups, **{**SHORT, **params})
    return model.fit(X, y, sample_weight=weights)


def draws_of(model):
    return model._fitted.named_draws(group_effects=True)


def assert_same(one, other, X_one, X_other):
    """Every draw and prediction, to 1e-9; names and labels may differ."""
    a, b = draws_of(one).values(), draws_of(other).values()
    for draws, others in zip(a, b, strict=True):
        assert_allclose(draws, others, rtol=1e-9)
    for p, q in zip(
        one.predict(X_one, return_std=True), other.predict(X_other, return_std=True), strict=True
    ):
        assert p.dtype == q.dtype == np.float64
        assert_allclose(p, q, rtol=1e-9)


@pytest.fixture(scope="module")
def fitted(people):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(*people)


def arrow_strings(X):
    return X.assign(subject=X["subject"].astype(pd.ArrowDtype(pa.string())))


CONTAINERS = {
    "object array": lambda X: X.to_numpy(object),
    "string array": lambda X: X.to_numpy(object).astype("U32"),
    "lists": lambda X: X.to_numpy(object).tolist(),
    "tuples": lambda X: tuple(map(tuple, X.to_numpy(object))),
    "polars": pl.from_pandas,
    "polars categorical": lambda X: pl.from_pandas(X).cast({"subject": pl.Categorical}),
    "pyarrow": pa.Table.from_pandas,
    "pandas on pyarrow": lambda X: X.convert_dtypes(dtype_backend="pyarrow"),
    "pandas nullable": lambda X: X.convert_dtypes(),
    "object columns": lambda X: X.astype(object),
    "Arrow labels": arrow_strings,
    "string labels": lambda X: X.astype({"subject": "string"}),
    "categories": lambda X: X.astype({"subject": "category"}),
    "other index": lambda X: X.set_index(np.arange(80)[::-1]),
    "categories, one unused": lambda X: X.astype(
        {"subject": pd.CategoricalDtype(["unused", *X["subject"].unique()[::-1]])}
    ),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_container_of_x_does_not_matter(container, fitted, people):
    # cases 11, 25, 77, 79
    X, y = people
    X_other = CONTAINERS[container](X)
    named = hasattr(X_other, "columns")
    other = fit(X_other, y, "subject" if named else 1)
    assert_same(fitted, other, X, X_other)
    assert other.group_levels_[other.group_coef_.popitem()[0]].tolist() == [
        f"s{g}" for g in range(10)
    ]


def test_unused_category_is_unseen(people):
    # case 77
    X, y = people
    X = X.astype({"subject": pd.CategoricalDtype(["s99", *X["subject"].unique()])})
    model = fit(X, y)
    assert model.diagnostics_["n_groups"] == 10
    with pytest.warns(UserWarning, match="1 unseen group.*'s99'"):
        mean = model.predict(X.assign(subject="s99"))
    assert_array_equal(mean, model.predict(X, level="population"))


# what is done to an array of x and codes
LAYOUTS = {
    "F order": np.asfortranarray,
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "every other": lambda X: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "jax": jnp.asarray,
    "big endian": lambda X: X.astype(">f8"),
    "longdouble": lambda X: X.astype(np.longdouble),
    "object": lambda X: X.astype(object),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_an_array_does_not_matter(layout, people):
    # cases 11, 20, 25, 27
    X, y = people
    # JAX arrays are float32 here
    X = np.column_stack([X["x"].astype("f4"), CODES]).astype(float)
    X_other = LAYOUTS[layout](X)
    assert_same(fit(X, y, 1), fit(X_other, y, 1), X, X_other)


def test_read_only_memmap_is_read(people, tmp_path):
    # case 26
    X, y = people
    X = np.column_stack([X["x"], CODES])
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    X_map, y_map = (np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "y.npy"))
    before = (tmp_path / "X.npy").read_bytes(), (tmp_path / "y.npy").read_bytes()
    assert_same(fit(X, y, 1), fit(X_map, y_map, 1), X, X_map)
    assert before == ((tmp_path / "X.npy").read_bytes(), (tmp_path / "y.npy").read_bytes())


@pytest.mark.parametrize(
    "x",
    [
        RNG.integers(0, 2, 80).astype(bool),  # 15
        RNG.integers(-100, 100, 80).astype("i1"),  # 16: 100 * 100 would be 16
        RNG.integers(-60000, 60000, 80).astype("i4"),  # 17
        RNG.integers(0, 250, 80).astype("u1"),
        RNG.normal(size=80).astype("f2"),  # 19
        RNG.normal(size=80).astype("f4"),
    ],
    ids=lambda x: str(x.dtype),
)
def test_number_type_does_not_matter(x, people):
    X, y = people
    narrow, wide = X.assign(x=x), X.assign(x=x.astype(float))
    assert_same(fit(wide, y), fit(narrow, y), wide, narrow)


@pytest.mark.parametrize(
    "container",
    [list, pd.Series, pl.Series, pa.array, lambda y: pd.Series(y, dtype="Float64")],
    ids=["list", "pandas", "polars", "pyarrow", "nullable"],
)
def test_container_of_y_does_not_matter(container, fitted, people):
    X, y = people
    assert_same(fitted, fit(X, container(y)), X, X)


@pytest.mark.parametrize(
    "weights",
    [None, 1.0, [1] * 80, pd.Series(np.ones(80)), np.ones(80, "f4")],
    ids=["none", "scalar", "list", "Series", "float32"],
)
def test_weights_of_one_are_no_weights(weights, fitted, people):
    # case 95
    X, y = people
    assert_same(fitted, fit(X, y, weights=weights), X, X)


def test_integer_weights_are_repeated_rows(people):
    # case 92; one level has no weight at all
    X, y = people
    weights = np.random.default_rng(3).integers(0, 5, size=80)
    weights[CODES == 4] = 0
    again = np.repeat(np.arange(80), weights)
    repeated = fit(X.iloc[again], y[again])
    weighted = fit(X, y, weights=weights)
    assert "s4" not in weighted.group_levels_["subject"]
    assert_same(repeated, weighted, X.iloc[again], X.iloc[again])


def test_order_of_rows_does_not_matter(fitted, people):
    # case 87
    X, y = people
    order = np.random.default_rng(4).permutation(80)
    assert_same(fitted, fit(X.iloc[order], y[order]), X, X)


def test_labels_matter_by_their_order_only(fitted, people):
    # case 79: numbers sort like the strings
    X, y = people
    X_other = X.assign(subject=CODES - 3)
    assert_same(fitted, fit(X_other, y), X, X_other)


@pytest.mark.parametrize("power", [20, -40])
def test_y_in_other_units_scales_every_draw(power, fitted, people):
    # case 48: internal units are powers of two, so nothing is rounded
    X, y = people
    other = fit(X, np.ldexp(y, power))
    for name, draws in draws_of(fitted).items():
        scale = 1.0 if name.startswith("group_corr") else 2.0**power
        assert_array_equal(draws_of(other)[name], draws * scale)
    assert_array_equal(other.predict(X), np.ldexp(fitted.predict(X), power))


@pytest.mark.parametrize("power", [20, -40])
def test_x_in_other_units_scales_every_slope(power, fitted, people):
    # case 55
    X, y = people
    X_other = X.assign(x=np.ldexp(X["x"], power))
    other = fit(X_other, y)
    for name, draws in draws_of(fitted).items():
        is_slope = name.endswith("x]") and not name.startswith("group_corr")
        assert_array_equal(draws_of(other)[name], draws * (2.0**-power if is_slope else 1.0))
    assert_array_equal(other.predict(X_other), fitted.predict(X))


LABELS = ["a[b],c=1", "a[b", "c=1", "\n", "", "'x'", '"', "é", "x" * 10_000, "nan"]


def test_labels_of_any_text_come_back(people):
    # case 88
    X, y = people
    X = X.assign(subject=np.array(LABELS, object)[CODES])
    model = fit(X, y)
    assert model.group_levels_["subject"].tolist() == sorted(LABELS)
    assert model.group_coef_["subject"].index.tolist() == sorted(LABELS)
    names = model.summary(group_effects=True).index
    assert len(set(names)) == len(names) == 6 + 10 * 2
    per_label = [model.predict(X[X["subject"] == label].head(1))[0] for label in LABELS]
    assert_allclose(model.predict(X)[::8], per_label, rtol=1e-12)


def test_names_with_punctuation_do_not_collide(people):
    # case 88: "s, a" with effect "b" and "s" with effect "a, b"
    X, y = people
    X = pd.DataFrame({"b": X["x"], "a, b": X["x"] ** 2, "g": np.array(["s", "s, a"])[CODES % 2]})
    model = fit(X, y, "g", n_draws=4)
    assert len(draws_of(model)) == 1 + 2 + 1 + 3 + 3 + 2 * 3


@pytest.fixture(scope="module")
def long_fit(people):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(*people, **LONG)


def assert_alike(one, other, scale=lambda name: 1.0, skip=()):
    """Means within 4.2 Monte Carlo standard errors and a tenth of a posterior sd."""
    named = draws_of(other)
    for name, draws in draws_of(one).items():
        if name.startswith(skip) or np.ptp(draws) == 0:
            continue
        others = named[name] * scale(name)
        error = np.hypot(mcse_mean(draws), mcse_mean(others))
        sd = draws.std()
        assert error < 0.1 * sd / 2, f"too few effective draws of {name}"
        assert abs(draws.mean() - others.mean()) < min(4.2 * error, 0.1 * sd), name


def assert_predictions_alike(one, other, X_one, X_other, offset=0.0):
    mean, sd = one.predict(X_one, return_std=True)
    line_sd = np.sqrt(sd**2 - np.mean(one.posterior_["noise_scale"] ** 2))
    assert np.all(np.abs(other.predict(X_other) - offset - mean) < 0.1 * line_sd)


@pytest.mark.parametrize("offset", [2.0**30, 1e9])
def test_offset_of_y_does_not_matter(offset, long_fit, people):
    # case 47
    X, y = people
    other = fit(X, y + offset, **LONG)
    assert_alike(long_fit, other, skip=("intercept",))
    assert_predictions_alike(long_fit, other, X, X, offset)


@pytest.mark.parametrize("size", [1e-6, 1e12])
def test_units_of_x_do_not_matter(size, long_fit, people):
    # case 55
    X, y = people
    X_other = X.assign(x=X["x"] * size)
    other = fit(X_other, y, **LONG)

    def scale(name):
        return size if name.endswith("x]") and not name.startswith("group_corr") else 1.0

    assert_alike(long_fit, other, scale)
    assert_predictions_alike(long_fit, other, X, X_other)


def test_offset_of_x_does_not_matter(people):
    # case 56; the sd of group intercepts is defined at X = 0, so slopes that vary do feel it
    X, y = people
    one = fit(X, y, slopes=None, **LONG)
    X_other = X.assign(x=X["x"] + 1e8)
    other = fit(X_other, y, slopes=None, **LONG)
    assert_alike(one, other, skip=("intercept",))
    assert_predictions_alike(one, other, X, X_other)


def test_other_labels_give_the_same_groups(long_fit, people):
    # case 88: the reverse order shuffles the random numbers of the groups
    X, y = people
    X_other = X.assign(subject=[f"z{9 - code}" for code in CODES])
    other = fit(X_other, y, **LONG)
    assert_alike(long_fit, other, skip=("group_effects",))
    assert_predictions_alike(long_fit, other, X, X_other)


def test_no_groups_is_linear_regression(people):
    # case 84: with priors this weak, least squares
    X, y = people
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = HierarchicalSlopesRegressor(random_state=0).fit(X[["x"]].to_numpy(), y)
    slope, intercept = np.polyfit(X["x"], y, 1)
    draws = model.posterior_
    assert abs(model.coef_[0] - slope) < 0.1 * draws["coef"].std()
    assert abs(model.intercept_ - intercept) < 0.1 * draws["intercept"].std()
    assert model.group_coef_ == {}


def test_constant_column_keeps_its_prior(long_fit, people):
    # case 52
    X, y = people
    X_other = X.assign(c=3.0)
    with pytest.warns(UserWarning, match="Constant columns .*: 'c'"):
        other = fit(X_other, y, slopes=["x"], **LONG)
    slope = other.posterior_["coef"][..., 1]
    prior_sd = 2.5 * y.std(ddof=1)
    assert abs(slope.mean()) < 4.2 * mcse_mean(slope)
    assert 0.9 < slope.std() / prior_sd < 1.1
    assert_predictions_alike(long_fit, other, X, X_other)


@pytest.mark.slow
def test_duplicate_column_leaves_predictions_alone(long_fit, people):
    # case 53
    X, y = people
    X_other = X.assign(twice=2 * X["x"])
    with pytest.warns(UserWarning, match="rank 1 of 2.*'twice'"):
        other = fit(X_other, y, **{**LONG, "n_draws": 1000})
    assert other.diagnostics_["r_hat"] <= 1.01
    assert other.diagnostics_["divergences"] == 0
    assert_predictions_alike(long_fit, other, X, X_other)


def random_problem(x_offset=0.0, y_offset=0.0):
    """Statistics of rows on a grid of 2^-20, so that offsets are added without rounding."""
    rng = np.random.default_rng(5)
    x, y = (np.round(rng.normal(size=(60, 2)) * 2**20) / 2**20).T
    x, y, codes, ones = x[:, None] + x_offset, y + y_offset, np.arange(60) % 6, np.ones(60)
    units = internal_units(mean_sd_of_rows(x, ones), mean_sd_of_rows(y[:, None], ones), ((0,),))
    return group_stats(x, y, ones, codes[:, None], [6], ((0,),), units, ()), units


@pytest.mark.parametrize(("x_offset", "y_offset"), [(0, 2.0**30), (1e8, 0), (1e8, 2.0**30)])
def test_log_likelihood_is_free_of_offsets(x_offset, y_offset):
    # cases 47, 56: within 1e-6 nats at 20 random parameters
    (plain, units), (moved, moved_units) = random_problem(), random_problem(x_offset, y_offset)
    # the means are rounded to the grid of larger numbers; parameters sit at the means
    dx = ((moved_units.x_mean - x_offset) - units.x_mean) / units.x_scale
    dy = ((moved_units.y_mean - y_offset) - units.y_mean) / units.y_scale
    rng = np.random.default_rng(6)
    with precisely_on(None):
        for _ in range(20):
            beta, b, sigma = rng.normal(size=2), rng.normal(size=(2, 6)), rng.gamma(2)
            value = log_likelihood(plain, beta, [b], sigma)
            moved_beta = beta + np.array([0, beta[0] * dx[0] - dy])
            moved_b = b + np.array([np.zeros(6), b[0] * dx[0]])
            assert_allclose(log_likelihood(moved, moved_beta, [moved_b], sigma), value, atol=1e-6)
