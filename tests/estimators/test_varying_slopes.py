"""Which slopes vary: `slopes="all"` is every feature that varies within the levels of a factor."""

import warnings

import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import KFold

from skhier import HierarchicalSlopesRegressorCV, Prior
from skhier.calibration import simulation_based_calibration

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PROPER = Prior(
    intercept=dist.Normal(0.0, 1.0),
    coef=dist.Normal(0.0, 1.0),
    group_scale=dist.HalfNormal(1.0),
    noise_scale=dist.HalfNormal(1.0),
)


@pytest.fixture(scope="module")
def stores(people):
    """``people`` with a region of each subject and the dummies of it; x varies within subjects."""
    X, y = people
    code = X["subject"].str[1:].astype(int)
    area = code % 3
    X = X.assign(north=(area == 0) * 1.0, south=(area == 1) * 1.0, area=area.map("a{}".format))
    return X[["north", "x", "south", "subject", "area"]], y


@pytest.fixture(scope="module")
def one_factor(stores):
    X, y = stores
    return X.drop(columns="area"), y


def effects(model, factor="subject"):
    return model.group_coef_[factor].columns.tolist()


@pytest.mark.parametrize("correlated", [True, False])
def test_all_is_the_features_that_vary_within_levels(one_factor, short_run, correlated):
    X, y = one_factor
    every = short_run(correlated=correlated).fit(X, y)
    named = short_run(correlated=correlated, slopes=["x"]).fit(X, y)
    assert effects(every) == ["intercept", "x"]
    assert every.coef_names_ == ["north", "x", "south"]
    assert_array_equal(every.predict(X, return_std=True), named.predict(X, return_std=True))
    assert every.log_evidence_ == named.log_evidence_


def test_slopes_left_out_are_told(one_factor, short_run):
    X, y = one_factor
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", category=UserWarning, message=".*n_draws")
        model = short_run().fit(X, y)
    assert model.diagnostics_["slopes_left_out"] == {"subject": ["north", "south"]}
    note = (
        "slopes=\"all\" gives 'subject' no varying slope of features that are constant within "
        "each of its levels: 'north', 'south'."
    )
    table = model.summary()
    assert table.attrs["notes"] == [note]
    for printed in (str(table), str(table.round(1)), table[["mean", "sd"]].to_string()):
        assert printed.endswith(f"Note: {note}")
    assert "no varying slope" in table._repr_html_()


def test_nothing_left_out_is_no_word(people, short_run):
    X, y = people
    model = short_run().fit(X, y)
    assert model.diagnostics_["slopes_left_out"] == {"subject": []}
    assert "Note" not in str(model.summary())
    assert short_run(None).fit(X[["x"]], y).diagnostics_["slopes_left_out"] == {}


def test_named_slopes_stay_with_a_warning(one_factor, short_run):
    X, y = one_factor
    message = (
        "`slopes` names columns that are constant within every level of 'subject'.*"
        "cannot be told from the varying intercept: 'north'. Leave"
    )
    for model in (
        short_run(slopes=["x", "north"]),
        short_run({"subject": ["north", "x"]}),
    ):
        with pytest.warns(UserWarning, match=message):
            model.fit(X, y)
        assert effects(model) == ["intercept", "north", "x"]
        assert any("constant within" in found for found in model.diagnostics_["warnings"])
        assert model.diagnostics_["slopes_left_out"] == {"subject": []}


def test_each_factor_decides_for_itself(stores, short_run):
    X, y = stores
    model = short_run(["area", "subject"]).fit(X, y)
    assert model.diagnostics_["slopes_left_out"] == {
        "area": ["north", "south"],
        "subject": ["north", "south"],
    }
    # a week that every area shares varies within areas' subjects, and not within weeks
    week = np.arange(80) % 8
    X = X.assign(rain=np.cos(week), week=week).drop(columns=["north", "south"])
    model = short_run(["week", ("area", "subject")]).fit(X, y)
    assert effects(model, "week") == ["intercept", "x"]
    assert effects(model, "area:subject") == ["intercept", "x", "rain"]
    model = short_run({"week": "all", "area": None, ("area", "subject"): ["rain"]}).fit(X, y)
    assert model.diagnostics_["slopes_left_out"]["week"] == ["rain"]
    assert effects(model, "area") == ["intercept"]
    assert effects(model, "area:subject") == ["intercept", "rain"]


def test_rows_without_a_weight_decide_nothing(one_factor, short_run):
    X, y = one_factor
    weights = np.where(np.arange(80) % 8 == 0, 0.0, 1.0)
    other = X.assign(north=X["north"].where(weights > 0, 0.5))
    assert effects(short_run().fit(other, y)) == ["intercept", "north", "x"]
    with_weights = short_run().fit(other, y, weights)
    assert effects(with_weights) == ["intercept", "x"]
    dropped = short_run().fit(X[weights > 0], y[weights > 0])
    assert_array_equal(with_weights.predict(X), dropped.predict(X))


def test_levels_of_one_row_have_intercepts_alone(people, short_run):
    X, y = people
    X = X.assign(subject=np.arange(80))
    for slopes in ("all", None):
        with pytest.warns(UserWarning, match="Every group has one row"):
            model = short_run(slopes=slopes).fit(X, y)
        assert effects(model) == ["intercept"]


def test_constant_column_has_the_priors_slope(people, short_run):
    # case 52: Normal(0, 2.5 sd(y)) for a column whose sd is 0
    X, y = people
    with pytest.warns(UserWarning, match="Constant columns.*'c'"):
        model = short_run(n_draws=1000).fit(X.assign(c=3.0), y)
    assert effects(model) == ["intercept", "x"]
    mean, sd, mcse = model.summary().loc["coef[c]", ["mean", "sd", "mcse"]]
    assert abs(mean) <= 4.2 * mcse + 1e-9
    assert_allclose(sd, 2.5 * y.std(ddof=1), rtol=0.1)
    plain = short_run(n_draws=1000).fit(X, y)
    sd = np.diff(plain.predict_interval(X, 0.6827, kind="mean"))[:, 0] / 2
    assert np.all(np.abs(model.predict(X.assign(c=3.0)) - plain.predict(X)) < 0.1 * sd)


def test_folds_are_of_the_model_of_all_rows(people):
    # two rows a subject, in different folds: x is constant within the levels of a training part
    X, y = people
    rows = np.flatnonzero(np.arange(80) % 8 < 2)
    order = np.r_[rows[::2], rows[1::2]]
    search = HierarchicalSlopesRegressorCV(
        "subject", param_grid={"slopes": ["all", ["x"]]}, cv=KFold(2), n_draws=50, random_state=0
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No group has more rows", UserWarning)
        search.fit(X.iloc[order], y[order])
    assert_array_equal(*search.scores_)
    assert effects(search) == ["intercept", "x"]


@pytest.mark.parametrize("with_y", [False, True])
def test_prior_draws_before_fit_have_the_slopes_of_fit(one_factor, short_run, with_y):
    X, y = one_factor
    known = {"y": y} if with_y else {}
    every = short_run(prior=PROPER).sample_prior(X, 20, 0, **known)
    named = short_run(prior=PROPER, slopes=["x"]).sample_prior(X, 20, 0, **known)
    assert_array_equal(every, named)
    model = short_run(prior=PROPER).fit(X, y)
    assert_array_equal(model.sample_prior(X, 20, 0), named)


def test_calibration_simulates_the_model_that_is_fitted(one_factor, short_run):
    X, _ = one_factor
    report = simulation_based_calibration(
        short_run(prior=PROPER), X, n_simulations=2, n_draws=9, random_state=0
    )
    assert "group_scale[subject, x]" in report.ranks
    assert not any("group" in name and "north" in name for name in report.ranks)


def before_and_after(people, n=2):
    X, y = people
    kept = np.arange(80) % 8 < n
    return X[kept], y[kept]


@pytest.mark.parametrize(
    ("groups", "slopes"), [("subject", "all"), ("subject", ["x"]), ({"subject": ["x"]}, "all")]
)
def test_no_more_rows_than_effects_is_told(people, short_run, groups, slopes):
    message = (
        r"No group has more rows \(2 at most\) than it has effects \(2: 'intercept', 'x'\).*"
        "Write slopes=None"
    )
    model = short_run(groups, slopes=slopes)
    with pytest.warns(UserWarning, match=message):
        model.fit(*before_and_after(people))
    assert any("No group has more" in found for found in model.diagnostics_["warnings"])


def test_factor_with_too_few_rows_is_named(people, short_run):
    X, y = before_and_after(people)
    X = X.assign(half=np.arange(20) % 2)
    with pytest.warns(UserWarning, match="No group of 'subject' has more rows"):
        short_run(["half", "subject"]).fit(X, y)


def test_a_weight_of_two_is_two_rows(people, short_run):
    X, y = before_and_after(people)
    short_run().fit(X, y, np.full(20, 2.0))  # no warning, as of every row twice
    short_run().fit(*before_and_after(people, 3))
    short_run(slopes=None).fit(X, y)


@pytest.mark.parametrize("slopes", [["Dayz"], ["x"], None, [], "x"])
@pytest.mark.parametrize("groups", [{"subject": None}, [{"subject": ["x"]}]])
def test_slopes_beside_a_dict_are_refused(people, short_run, groups, slopes):
    model = short_run(groups, slopes=slopes)
    with pytest.raises(ValueError, match=r"`slopes=.*would not be used.*use one of the two") as bad:
        model.fit(*people)
    assert "groups={'subject': " in str(bad.value)
    assert "groups='subject' with it" in str(bad.value)
    with pytest.raises(ValueError, match="would not be used"):
        model.sample_prior(*people[:1], y=people[1])


@pytest.mark.parametrize("cv", ["loo", KFold(2)])
def test_search_over_slopes_beside_a_dict_is_refused(people, cv):
    search = HierarchicalSlopesRegressorCV(
        {"subject": "all"}, param_grid={"slopes": ["all", None]}, cv=cv, random_state=0
    )
    with pytest.raises(ValueError, match="`slopes=None` would not be used"):
        search.fit(*people)
