"""Signs of trouble that fit must report, and memory that is not there."""

import tracemalloc
import warnings

import numpy as np
import psutil
import pytest
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor


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


def test_predictions_need_no_memory_for_all_draws(sleepstudy_fit, sleepstudy):
    X = sleepstudy[0].sample(20_000, replace=True, random_state=0)
    tracemalloc.start()
    sleepstudy_fit.log_predictive_density(X, np.full(20_000, 300.0))
    sleepstudy_fit.predict(X, return_std=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6  # 4000 draws of 20,000 lines are 640 MB
