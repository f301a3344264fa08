"""Signs of trouble that fit must report, and memory that is not there."""

import tracemalloc
import warnings

import numpy as np
import psutil
import pytest
from pandas.testing import assert_frame_equal
from runs import budget
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor
from skhier.posterior import arviz, tables


def warnings_of_fit(model, X, y):
    """Messages of the fit's warnings, all of them about convergence and with this file's name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert {w.category for w in caught} <= {ConvergenceWarning}
    assert {w.filename for w in caught} <= {__file__}
    messages = [str(w.message) for w in caught]
    assert messages == model.diagnostics_["warnings"]
    return messages


def test_single_chain_warns(people, short_run):
    model = short_run(n_chains=1, n_draws=400)
    found = warnings_of_fit(model, *people)
    assert any("n_chains=1" in message for message in found)
    assert np.isnan(model.diagnostics_["r_hat"])


def test_fifty_draws_always_warn(people, short_run):
    found = warnings_of_fit(short_run(n_chains=4, n_draws=50), *people)
    assert any("n_draws=50" in message for message in found)


def test_hardly_any_warmup_warns(people, short_run):
    model = short_run(inference="nuts", n_chains=4, n_warmup=5, n_draws=200)
    found = warnings_of_fit(model, *people)
    assert any("R-hat" in message and "n_warmup" in message for message in found)
    assert model.diagnostics_["r_hat"] > 1.01


def test_shallow_trees_warn_with_their_count(people, short_run):
    model = short_run(inference="nuts", max_tree_depth=1)
    found = warnings_of_fit(model, *people)
    count = model.diagnostics_["max_tree_depth_reached"]
    assert count > 50
    assert any(f"{count} of 100 transitions reached max_tree_depth=1" in m for m in found)


def test_intercepts_alone_have_no_correlation_to_warn_of(sleepstudy):
    model = HierarchicalSlopesRegressor("Subject", slopes=None, random_state=0)
    assert warnings_of_fit(model, *sleepstudy) == []
    assert model.group_corr_["Subject"].to_numpy().tolist() == [[1.0]]
    assert not any("corr" in name for name in model.summary().index)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda model: model.sample_group_effects("Subject"),
        lambda model: model.to_arviz(),
        lambda model: model.to_arviz(group_effects=False),
        lambda model: model.summary(group_effects=True),
    ],
    ids=["draws", "arviz", "log likelihood", "summary"],
)
def test_draws_that_do_not_fit_are_refused(monkeypatch, sleepstudy_fit, wanted):
    wanted(sleepstudy_fit)
    little = psutil.virtual_memory()._replace(available=10_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(MemoryError, match=r"\d\.\d GB.*available"):
        wanted(sleepstudy_fit)


def test_exchange_without_log_likelihood_needs_no_memory_for_it(monkeypatch, sleepstudy_fit):
    bare = {"group_effects": False, "log_likelihood": False}
    refused = {"group_effects": True, "log_likelihood": True}
    little = psutil.virtual_memory()._replace(available=10_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    sleepstudy_fit.to_arviz(**bare)
    for largest in ("log_likelihood", "group_effects"):
        with pytest.raises(MemoryError, match=f"{largest}=False leaves the larger part out"):
            sleepstudy_fit.to_arviz(**refused)
        refused.pop(largest)
        refused[largest] = False


@pytest.mark.parametrize("fit", ["sleepstudy_fit", "crossed_fit", "nested_fit"])
@pytest.mark.parametrize("parts", [(True, True), (False, True), (True, False)])
def test_memory_of_the_exchange_is_asked_for_in_full(monkeypatch, request, fit, parts):
    model = request.getfixturevalue(fit)
    asked = []
    monkeypatch.setattr(arviz, "require_memory", lambda size, *_: asked.append(size))
    model.to_arviz(*parts)
    kept = np.prod(model._fitted.posterior.shape) * 8 * len(model._fitted.training.y)
    tracemalloc.start()
    model.to_arviz(*parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < asked[-1]
    if parts[1]:  # the log likelihood once, and what a slice of the rows needs
        monkeypatch.setattr(model._fitted.posterior, "budget", budget(temporary=2**18))
        tracemalloc.start()
        model.to_arviz(False, True)
        _, sliced = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sliced < 1.5 * kept + 8 * 2**18


def test_summary_needs_memory_for_few_parameters_at_a_time():
    drawn = np.random.default_rng(0).normal(size=(200, 4, 1000))
    drawn[7] = 1.0
    named = {"intercept": drawn[0]} | {f"b[{i}]": draws for i, draws in enumerate(drawn)}
    better = {"b[3]": (0.5, 2.0, 0.1)}
    whole = tables.summary(named, better, np.inf)
    little = budget(temporary=2**19).memory
    tracemalloc.start()
    parts = tables.summary(named, better, np.inf, budget=little)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_frame_equal(parts, whole, rtol=1e-12)
    assert "b[7]" not in parts.index
    assert parts.loc["b[3]", ["mean", "sd", "mcse"]].tolist() == [0.5, 2.0, 0.1]
    assert peak < 8 * 2**19 < drawn.nbytes


def test_predictions_need_no_memory_for_all_draws(sleepstudy_fit, sleepstudy):
    X = sleepstudy[0].sample(20_000, replace=True, random_state=0)
    tracemalloc.start()
    sleepstudy_fit.log_predictive_density(X, np.full(20_000, 300.0))
    sleepstudy_fit.predict(X, return_std=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6  # 4000 draws of 20,000 lines are 640 MB
