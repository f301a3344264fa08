"""Tuning constants: one place, handed on by the estimators, no part of what is kept."""

import pickle
from collections import Counter
from dataclasses import fields

import pytest
from runs import BY_CHAINS, SHORT, budget, spending
from sklearn.base import clone

from skhier import HierarchicalSlopesRegressor, HierarchicalSlopesRegressorCV
from skhier.utils.budget import USUAL

PARTS = [getattr(USUAL, part.name) for part in fields(USUAL)]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_no_two_constants_have_one_name():
    counts = Counter(constant.name for part in PARTS for constant in fields(part))
    assert max(counts.values()) == 1


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_every_constant_has_its_reason(part):
    text = type(part).__doc__
    named = [line.strip() for line in text.splitlines() if " : " in line]
    described = {name for line in named for name in line.split(" : ")[0].split(", ")}
    assert described == {constant.name for constant in fields(part)}


def test_another_budget_is_spent_and_not_kept(people):
    model = spending(HierarchicalSlopesRegressor("subject", **SHORT), BY_CHAINS).fit(*people)
    assert model.diagnostics_["sampler"] == "nuts"
    assert model._fitted.budget == BY_CHAINS
    for other in (clone(model), pickle.loads(pickle.dumps(model))):
        assert other._budget == USUAL
    assert pickle.loads(pickle.dumps(model))._fitted.budget == USUAL
    assert b"budget" not in pickle.dumps(model)


class OfChains(HierarchicalSlopesRegressorCV):
    """A search all of whose fits are Markov chains."""

    _budget = BY_CHAINS


def test_subclass_hands_its_budget_to_every_candidate(people):
    search = OfChains("subject", param_grid={"eta": [2.0]}, cv="evidence", **SHORT)
    assert clone(search).fit(*people).diagnostics_["sampler"] == "nuts"


def test_candidates_have_as_many_draws_as_the_budget_says(people, monkeypatch):
    drawn, sample = [], HierarchicalSlopesRegressor._sample

    def watched(self, *args, **settings):
        drawn.append(self.n_draws)
        return sample(self, *args, **settings)

    monkeypatch.setattr(HierarchicalSlopesRegressor, "_sample", watched)
    search = HierarchicalSlopesRegressorCV("subject", param_grid={"eta": [2.0]}, cv=2, **SHORT)
    spending(search, budget(draws_for_means=32)).fit(*people)
    assert drawn == [32, 32, 50]
