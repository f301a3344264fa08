"""The names and shapes that users' scripts are written against."""

import inspect

import numpy as np
import pandas as pd
import pytest

import skhier
from skhier import DecovPrior, HierarchicalSlopesRegressor, Prior

POSITIONAL, KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
REQUIRED = inspect.Parameter.empty

CONSTRUCTOR = {
    "groups": None,
    "slopes": "all",
    "correlated": True,
    "eta": 2.0,
    "prior": None,
    "noncentered": True,
    "response": "normal",
    "exposure": None,
    "group_means": None,
    "noise_by": None,
    "known_noise": None,
    "inference": "auto",
    "n_chains": 4,
    "n_warmup": 1000,
    "n_draws": 1000,
    "target_accept": 0.8,
    "max_tree_depth": 10,
    "handle_unknown": "population",
    "device": None,
    "random_state": None,
    "verbose": 0,
}

METHODS = {
    "loo": {},
    "logo": {"factor": None},
    "fit": {"X": REQUIRED, "y": REQUIRED, "sample_weight": None},
    "predict": {"X": REQUIRED, "return_std": False, "level": "group"},
    "predict_interval": {"X": REQUIRED, "coverage": 0.9, "kind": "response"},
    "predict_quantiles": {"X": REQUIRED, "q": REQUIRED},
    "sample_y": {"X": REQUIRED, "n_samples": 1, "random_state": None},
    "sample_prior": {"X": REQUIRED, "n_samples": 1, "random_state": None, "y": None},
    "score": {"X": REQUIRED, "y": REQUIRED, "sample_weight": None},
    "log_predictive_density": {"X": REQUIRED, "y": REQUIRED},
    "summary": {"group_effects": False},
    "to_arviz": {"group_effects": True},
    "sample_group_effects": {
        "factor": REQUIRED,
        "levels": None,
        "n_draws": None,
        "random_state": None,
    },
    "prior_sensitivity": {},
    "prior_summary": {},
    "r_squared": {"return_draws": False},
    "variance_components": {},
    "summarise": {"X": REQUIRED, "y": REQUIRED, "sample_weight": None},
    "fit_statistics": {"statistics": REQUIRED},
    "partial_fit": {"X": REQUIRED, "y": REQUIRED, "sample_weight": None},
}

# attribute -> type; the shapes are below
FITTED = {
    "log_evidence_": float,
    "coef_": np.ndarray,
    "coef_names_": list,
    "intercept_": float,
    "noise_scale_": float,
    "group_coef_": dict,
    "group_coef_std_": dict,
    "group_effects_": dict,
    "group_scale_": dict,
    "group_corr_": dict,
    "group_levels_": dict,
    "posterior_": dict,
    "diagnostics_": dict,
    "n_features_in_": int,
    "feature_names_in_": np.ndarray,
}

NOT_YET = {"save", "load"}


def defaults(function):
    """Parameter names in order, with their defaults; self left out."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def test_constructor_is_the_contract():
    assert list(defaults(HierarchicalSlopesRegressor.__init__).items()) == list(CONSTRUCTOR.items())


def test_constructor_takes_groups_by_position_and_the_rest_by_keyword():
    parameters = list(inspect.signature(HierarchicalSlopesRegressor).parameters.values())
    assert [p.kind for p in parameters] == [POSITIONAL] + [KEYWORD] * (len(CONSTRUCTOR) - 1)


@pytest.mark.parametrize("name", METHODS)
def test_method_is_the_contract(name):
    found = list(defaults(getattr(HierarchicalSlopesRegressor, name)).items())
    promised = list(METHODS[name].items())
    assert found[: len(promised)] == promised
    assert all(default is not REQUIRED for _, default in found[len(promised) :])


def test_priors_are_the_contract():
    parts = {"intercept": None, "coef": None, "group_scale": None, "noise_scale": None}
    parts |= {"noise_spread": None}
    decov = {"intercept": None, "coef": None, "noise_scale": None}
    decov |= {"concentration": 1.0, "shape": 1.0, "scale": 1.0, "noise_spread": None}
    assert list(defaults(Prior.__init__).items()) == list(parts.items())
    assert list(defaults(DecovPrior.__init__).items()) == list(decov.items())


def test_public_methods_are_the_contracts_and_scikit_learns():
    from sklearn.base import BaseEstimator, RegressorMixin

    inherited = {*dir(BaseEstimator), *dir(RegressorMixin)}
    requests = {f"set_{name}_request" for name in ("fit", "partial_fit", "predict", "score")}
    own = {name for name in dir(HierarchicalSlopesRegressor) if not name.startswith("_")}
    assert own - inherited - requests == METHODS.keys() - {"score"} | {"statistics_"}


def test_fitted_attributes_are_the_contracts(sleepstudy_fit):
    public = {name for name in vars(sleepstudy_fit) if not name.startswith("_")}
    assert public - CONSTRUCTOR.keys() == FITTED.keys()
    for name, kind in FITTED.items():
        assert type(getattr(sleepstudy_fit, name)) is kind


def test_what_does_not_exist_yet_has_no_name(sleepstudy_fit):
    assert NOT_YET & {*dir(sleepstudy_fit), *dir(skhier)} == set()


def test_package_offers_what_it_lists():
    assert set(skhier.__all__) == set(dir(skhier))
    for name in skhier.__all__:
        assert getattr(skhier, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Regressor'"):
        _ = skhier.Regressor


def test_population_attributes_have_their_shapes(sleepstudy_fit):
    m = sleepstudy_fit
    assert m.coef_.shape == (1,)
    assert m.coef_.dtype == np.float64
    assert m.coef_names_ == ["Days"]
    assert m.n_features_in_ == 2
    assert list(m.feature_names_in_) == ["Days", "Subject"]


def test_group_tables_are_level_by_effect(sleepstudy_fit):
    m = sleepstudy_fit
    for tables in (m.group_coef_, m.group_coef_std_, m.group_effects_):
        assert list(tables) == ["Subject"]
        table = tables["Subject"]
        assert isinstance(table, pd.DataFrame)
        assert table.shape == (18, 2)
        assert list(table.columns) == ["intercept", "Days"]
        assert table.index.name == "Subject"
        assert list(table.index) == list(m.group_levels_["Subject"])
    assert isinstance(m.group_levels_["Subject"], np.ndarray)


def test_group_coef_is_population_plus_effects(sleepstudy_fit):
    m = sleepstudy_fit
    population = [m.intercept_, m.coef_[0]]
    expected = m.group_effects_["Subject"] + population
    np.testing.assert_allclose(m.group_coef_["Subject"], expected, rtol=1e-12)


def test_group_scale_and_corr_are_named_by_effect(sleepstudy_fit):
    scale, corr = (sleepstudy_fit.group_scale_["Subject"], sleepstudy_fit.group_corr_["Subject"])
    assert isinstance(scale, pd.Series)
    assert list(scale.index) == ["intercept", "Days"]
    assert isinstance(corr, pd.DataFrame)
    assert list(corr.index) == list(corr.columns) == ["intercept", "Days"]
    np.testing.assert_allclose(np.diag(corr), 1, rtol=1e-12)


def test_posterior_draws_have_chains_and_draws_first(sleepstudy_fit):
    draws = sleepstudy_fit.posterior_
    assert draws.keys() == {"intercept", "coef", "noise_scale", "group_scale", "group_corr"}
    assert draws["intercept"].shape == draws["noise_scale"].shape == (4, 1000)
    assert draws["coef"].shape == (4, 1000, 1)
    assert draws["group_scale"]["Subject"].shape == (4, 1000, 2)
    assert draws["group_corr"]["Subject"].shape == (4, 1000, 2, 2)


def test_attributes_are_means_of_the_draws(people, short_run):
    X, y = people
    with pytest.warns(match="n_draws"):
        m = short_run(inference="nuts").fit(X, y)
    draws = m.posterior_
    assert m.intercept_ == draws["intercept"].mean()
    assert m.noise_scale_ == draws["noise_scale"].mean()
    np.testing.assert_array_equal(m.coef_, draws["coef"].mean((0, 1)))
    (factor,) = m.group_scale_
    tau = draws["group_scale"][factor].mean((0, 1))
    np.testing.assert_array_equal(m.group_scale_[factor], tau)
    omega = draws["group_corr"][factor].mean((0, 1))
    np.testing.assert_array_equal(m.group_corr_[factor], omega)


def test_attributes_agree_with_the_draws_up_to_their_error(sleepstudy_fit):
    """The marginal engine's means are averages of closed forms."""
    m, draws = sleepstudy_fit, sleepstudy_fit.posterior_
    for mean, of in (
        (m.intercept_, draws["intercept"]),
        (m.coef_[0], draws["coef"][..., 0]),
        (m.noise_scale_, draws["noise_scale"]),
        (m.group_scale_["Subject"]["Days"], draws["group_scale"]["Subject"][..., 1]),
        (m.group_corr_["Subject"].iloc[0, 1], draws["group_corr"]["Subject"][..., 0, 1]),
    ):
        # resampled from weighted points worth 3000 draws or more
        assert m.diagnostics_["ess_importance"] > 3000
        assert abs(mean - of.mean()) < 5 * of.std() / np.sqrt(3000)


def test_diagnostics_say_what_ran(sleepstudy_fit):
    found = sleepstudy_fit.diagnostics_
    promised = {"engine", "r_hat", "ess_bulk", "ess_tail", "divergences", "evaluations"}
    assert promised | {"seconds", "warnings", "n_rows", "n_groups"} <= found.keys()
    assert {"sampler", "pareto_k", "ess_importance"} <= found.keys()
    assert (found["engine"], found["sampler"]) == ("marginal", "importance")
    assert found["r_hat"] < 1.01
    assert found["warnings"] == []
    assert (found["n_rows"], found["n_groups"]) == (180, 18)
    assert all(isinstance(v, str | float | int | list | dict) for v in found.values())


def test_attributes_without_groups_are_empty_dicts(people, short_run):
    X, y = people
    with pytest.warns(match="n_draws"):
        model = short_run(groups=None).fit(X[["x"]].to_numpy(), y)
    for name in ("group_coef_", "group_coef_std_", "group_effects_", "group_scale_"):
        assert getattr(model, name) == {}
    assert model.group_corr_ == model.group_levels_ == {}
    assert model.posterior_["group_scale"] == model.posterior_["group_corr"] == {}
    assert model.coef_names_ == ["x0"]
    assert not hasattr(model, "feature_names_in_")


def test_predictions_have_the_promised_shapes(sleepstudy_fit, sleepstudy):
    m, (X, y) = sleepstudy_fit, sleepstudy
    rows = X[:7]
    assert m.predict(rows).shape == (7,)
    mean, std = m.predict(rows, return_std=True)
    assert mean.shape == std.shape == (7,)
    assert m.predict_interval(rows).shape == (7, 2)
    assert m.predict_quantiles(rows, [0.1, 0.5, 0.9]).shape == (7, 3)
    assert m.predict_quantiles(rows, 0.5).shape == (7, 1)
    assert m.sample_y(rows).shape == (7, 1)
    assert m.sample_y(rows, n_samples=3, random_state=0).shape == (7, 3)
    assert m.log_predictive_density(rows, y[:7]).shape == (7,)
    assert isinstance(m.score(X, y), float)
    assert m.sample_group_effects("Subject", n_draws=5).shape == (5, 18, 2)


def test_tables_have_the_promised_columns(sleepstudy_fit):
    m = sleepstudy_fit
    columns = ["mean", "sd", "hdi_5%", "hdi_95%", "mcse", "ess_bulk", "ess_tail", "r_hat"]
    assert list(m.summary().columns) == columns
    assert len(m.summary()) == 6
    assert len(m.summary(group_effects=True)) == 6 + 36
    assert list(m.variance_components()["parameter"]) == ["sd", "sd", "corr", "sd", "icc", "icc"]
    assert list(m.r_squared().index) == ["marginal", "conditional"]
    assert len(m.prior_summary()) == 6


def test_summary_leaves_constants_out(sleepstudy_fit):
    names = list(sleepstudy_fit.summary().index)
    assert [name for name in names if name.startswith("group_corr")] == [
        "group_corr[Subject, intercept, Days]"
    ]
