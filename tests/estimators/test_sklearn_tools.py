"""The estimator among scikit-learn's tools: pipelines, searches, splits, frames, displays."""

import time
import warnings

import joblib
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from skhier import DecovPrior, HierarchicalSlopesRegressor, Prior

# the runs are too short to converge
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FOLDS = KFold(3, shuffle=True, random_state=0)


def scaled_pipeline(model, **options):
    """Standardises x, passes subject on."""
    options = {"remainder": "passthrough", "verbose_feature_names_out": False} | options
    scale = ColumnTransformer([("scale", StandardScaler(), ["x"])], **options)
    return Pipeline([("prep", scale), ("model", model)])


def scores_by_hand(model, X, y, cv, groups=None):
    """R2 of each fold, without scikit-learn's machinery."""
    return [
        r2_score(y[test], clone(model).fit(X.iloc[train], y[train]).predict(X.iloc[test]))
        for train, test in cv.split(X, y, groups)
    ]


def test_pipeline_equals_fit_on_scaled_columns(people, short_run):
    X, y = people
    pipe = scaled_pipeline(short_run()).set_output(transform="pandas").fit(X, y)
    scaled = X.assign(x=StandardScaler().fit_transform(X[["x"]])[:, 0])
    alone = short_run().fit(scaled, y)
    assert_array_equal(pipe.predict(X), alone.predict(scaled))
    assert list(pipe[-1].feature_names_in_) == ["x", "subject"]


def test_pipeline_under_global_pandas_output_finds_the_column(people, short_run):
    X, y = people
    with sklearn.config_context(transform_output="pandas"):
        predicted = scaled_pipeline(short_run()).fit(X, y).predict(X)
    pipe = scaled_pipeline(short_run()).set_output(transform="pandas").fit(X, y)
    assert_array_equal(predicted, pipe.predict(X))


def test_pipeline_with_polars_output_equals_pandas(people, short_run):
    X, y = people
    predicted = [
        scaled_pipeline(short_run()).set_output(transform=kind).fit(X, y).predict(X)
        for kind in ("pandas", "polars")
    ]
    assert_array_equal(*predicted)


def test_renamed_column_is_an_error_with_a_hint(people, short_run):
    pipe = scaled_pipeline(short_run(), verbose_feature_names_out=True)
    with pytest.raises(ValueError, match="Did you mean 'remainder__subject'"):
        pipe.set_output(transform="pandas").fit(*people)


def test_array_without_names_is_an_error_with_the_fix(people, short_run):
    with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\).*groups=-1"):
        scaled_pipeline(short_run()).fit(*people)


def test_position_finds_the_column_of_an_array(people, short_run):
    X, y = people
    by_position = scaled_pipeline(short_run(groups=-1)).fit(X, y)
    by_name = scaled_pipeline(short_run()).set_output(transform="pandas").fit(X, y)
    assert_array_equal(by_position.predict(X), by_name.predict(X))
    assert by_position[-1].group_coef_["x1"].columns.tolist() == ["intercept", "x0"]


def test_grid_search_reaches_eta_and_the_scales_of_no_prior(people, short_run):
    X, y = people
    grid = {"eta": [1, 4], "prior__group_scale": [0.1, 1]}
    search = GridSearchCV(short_run(), grid, cv=FOLDS).fit(X, y)
    for i, params in enumerate(search.cv_results_["params"]):
        prior = Prior(group_scale=params["prior__group_scale"])
        by_hand = scores_by_hand(short_run(eta=params["eta"], prior=prior), X, y, FOLDS)
        found = [search.cv_results_[f"split{k}_test_score"][i] for k in range(3)]
        assert_array_equal(found, by_hand)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert isinstance(search.best_estimator_.prior, Prior)


def test_grid_search_tries_presets_inside_a_pipeline(people, short_run):
    X, y = people
    pipe = scaled_pipeline(short_run()).set_output(transform="pandas")
    grid = [{"model__prior": ["default", "rstanarm"]}, {"model__prior__coef": [0.5]}]
    search = GridSearchCV(pipe, grid, cv=FOLDS, refit=False).fit(X, y)
    by_hand = [
        scores_by_hand(clone(pipe).set_params(model__prior=prior), X, y, FOLDS)
        for prior in (Prior(), DecovPrior(), Prior(coef=0.5))
    ]
    assert_array_equal(search.cv_results_["mean_test_score"], np.mean(by_hand, axis=1))


def test_grid_search_leaves_the_models_prior_alone(people, short_run):
    prior = Prior(coef=2.0)
    model = short_run(prior=prior)
    GridSearchCV(model, {"prior__coef": [0.5, 1.0]}, cv=FOLDS, refit=False).fit(*people)
    assert model.prior is prior
    assert prior.coef == 2.0


def test_threads_equal_the_sequential_search(people, short_run):
    grid = {"eta": [1, 2, 4]}
    one = GridSearchCV(short_run(), grid, cv=FOLDS).fit(*people)
    with joblib.parallel_config("threading"):
        two = GridSearchCV(short_run(), grid, cv=FOLDS, n_jobs=2).fit(*people)
    assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])


def test_processes_equal_the_sequential_cross_validation(people, short_run):
    one, two = (
        cross_validate(
            short_run(),
            *people,
            cv=FOLDS,
            n_jobs=n_jobs,
            return_estimator=True,
            error_score="raise",
        )
        for n_jobs in (1, 2)
    )
    assert_array_equal(one["test_score"], two["test_score"])
    for here, there in zip(one["estimator"], two["estimator"], strict=True):
        assert here.diagnostics_["warnings"] == there.diagnostics_["warnings"]
        assert len(here.diagnostics_["warnings"]) >= 1


def test_kfold_scores_known_groups_without_a_word(people, short_run):
    X, y = people
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = cross_val_score(short_run(), X, y, cv=FOLDS)
    assert not any("unseen" in str(w.message) for w in caught)
    assert_array_equal(scores, scores_by_hand(short_run(), X, y, FOLDS))
    assert scores.min() > 0.9


def test_group_kfold_scores_unseen_groups_and_warns(people, short_run):
    X, y = people
    cv = GroupKFold(10)
    with pytest.warns(UserWarning, match=r"1 unseen group\(s\) of 'subject'"):
        scores = cross_val_score(short_run(), X, y, cv=cv, groups=X["subject"])
    with pytest.warns(UserWarning, match="unseen"):
        by_hand = scores_by_hand(short_run(), X, y, cv, X["subject"])
    assert_array_equal(scores, by_hand)
    assert scores.mean() < 0.9


def test_cross_val_predict_fills_every_row(people, short_run):
    X, y = people
    predicted = cross_val_predict(short_run(), X, y, cv=FOLDS)
    assert r2_score(y, predicted) > 0.9


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_cross_validation_of_other_frames_equals_pandas(people, short_run, library):
    X, y = people
    module = pytest.importorskip(library)
    if library == "pyarrow" and Version(sklearn.__version__) < Version("1.7"):
        pytest.skip("scikit-learn before 1.7 takes no rows out of a pyarrow.Table")
    other = module.from_pandas(X) if library == "polars" else module.Table.from_pandas(X)
    scores = cross_val_score(short_run(), other, y, cv=FOLDS, error_score="raise")
    assert_array_equal(scores, cross_val_score(short_run(), X, y, cv=FOLDS))


def test_permutation_importance_shuffles_the_grouping_column_too(people, short_run):
    X, y = people
    model = short_run().fit(X, y)
    found = permutation_importance(model, X, y, n_repeats=2, random_state=0)
    assert found.importances_mean.min() > 0.1


def test_transformed_target_is_fitted_on_the_transform(people, short_run):
    X, y = people
    outer = TransformedTargetRegressor(short_run(), func=np.log, inverse_func=np.exp)
    predicted = outer.fit(X, np.exp(y)).predict(X)
    alone = short_run().fit(X, np.log(np.exp(y)))
    assert_array_equal(predicted, np.exp(alone.predict(X)))


def test_clone_copies_a_prior_of_distributions(people, short_run):
    X, y = people
    prior = Prior(coef={"x": dist.Normal(0.0, 3.0)}, noise_scale=dist.HalfNormal(2.0))
    model = short_run(prior=prior)
    twin = clone(model)
    assert twin.prior is not prior
    assert float(twin.prior.coef["x"].scale) == 3.0
    assert float(twin.get_params()["prior__noise_scale"].scale) == 2.0
    assert_array_equal(model.fit(X, y).predict(X), twin.fit(X, y).predict(X))


def test_clone_of_a_fit_is_unfitted_and_fits_the_same(people, short_run):
    X, y = people
    model = short_run(eta=3, prior="default").fit(X, y)
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert not hasattr(twin, "coef_")
    assert_array_equal(twin.fit(X, y).predict(X), model.predict(X))


def test_params_round_trip():
    model = HierarchicalSlopesRegressor("g", eta=3.0, prior=Prior(coef=1.5), slopes=["a"])
    twin = HierarchicalSlopesRegressor().set_params(**model.get_params())
    assert twin.get_params() == model.get_params()


@pytest.mark.parametrize(("start", "kind"), [(None, Prior), ("rstanarm", DecovPrior)])
def test_nested_parameter_turns_a_named_prior_into_an_object(start, kind):
    model = HierarchicalSlopesRegressor(prior=start).set_params(prior__coef=0.5)
    assert type(model.prior) is kind
    assert model.get_params()["prior__coef"] == 0.5


def test_nested_parameter_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="Invalid parameter 'width'"):
        HierarchicalSlopesRegressor().set_params(prior__width=1)


def test_column_selector_picks_the_grouping_column(people, short_run):
    X, y = people
    chosen = short_run(groups=make_column_selector(dtype_exclude=np.number)).fit(X, y)
    named = short_run().fit(X, y)
    assert_array_equal(chosen.predict(X), named.predict(X))
    assert list(chosen.group_coef_) == ["subject"]


def test_feature_names_count_the_grouping_column(people, short_run):
    X, y = people
    model = short_run().fit(X[["subject", "x"]], y)
    assert model.n_features_in_ == 2
    assert list(model.feature_names_in_) == ["subject", "x"]
    assert model.coef_names_ == ["x"]
    with pytest.raises(ValueError, match="must be in the same order"):
        model.predict(X)


def test_routing_lets_return_std_through_a_pipeline(people, short_run):
    X, y = people
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = scaled_pipeline(short_run()).set_output(transform="pandas").fit(X, y)
        mean, std = pipe.predict(X, return_std=True)
        population = pipe.predict(X, level="population")
    assert_array_equal(mean, pipe.predict(X))
    assert std.shape == (80,)
    assert std.min() > 0
    assert not np.allclose(population, mean)


def test_routing_gives_groups_to_the_splitter_only(people, short_run):
    X, y = people
    cv = GroupKFold(10)
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.warns(UserWarning, match="unseen"),
    ):
        routed = cross_val_score(short_run(), X, y, cv=cv, params={"groups": X["subject"]})
    with pytest.warns(UserWarning, match="unseen"):
        plain = cross_val_score(short_run(), X, y, cv=cv, groups=X["subject"])
    assert_array_equal(routed, plain)


def test_routing_carries_weights_to_fit_and_score(people, short_run):
    X, y = people
    weights = np.tile([0.0, 1.0, 2.0, 1.0], 20)
    with sklearn.config_context(enable_metadata_routing=True):
        model = short_run().set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        search = GridSearchCV(model, {"eta": [2.0]}, cv=FOLDS).fit(X, y, sample_weight=weights)
    train, test = next(FOLDS.split(X))
    alone = short_run(eta=2.0).fit(X.iloc[train], y[train], weights[train])
    by_hand = alone.score(X.iloc[test], y[test], weights[test])
    assert search.cv_results_["split0_test_score"][0] == by_hand


@pytest.mark.parametrize("look", [estimator_html_repr, dir, repr], ids=lambda f: f.__name__)
def test_display_is_fast_and_changes_nothing(sleepstudy_fit, look):
    look(HierarchicalSlopesRegressor())  # scikit-learn reads its own templates once
    before = dict(sleepstudy_fit.__dict__)
    began = time.process_time()
    look(sleepstudy_fit)
    assert time.process_time() - began < 1
    assert sleepstudy_fit.__dict__.keys() == before.keys()
    assert all(sleepstudy_fit.__dict__[name] is value for name, value in before.items())


def test_display_names_what_was_fitted(sleepstudy_fit):
    html = estimator_html_repr(sleepstudy_fit)
    assert "HierarchicalSlopesRegressor" in html
    assert "group_coef_" in dir(sleepstudy_fit)


def test_predictions_of_a_frame_do_not_depend_on_its_index(people, short_run):
    X, y = people
    model = short_run().fit(X, pd.Series(y, index=X.index[::-1]))
    assert_allclose(
        model.predict(X.set_axis(X.index + 7)), short_run().fit(X, y).predict(X), rtol=0
    )
