"""Each rule of the report on a run that breaks that rule alone, and on one that breaks none."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
from scipy.signal import lfilter

from skhier.utils.convergence import (
    RHAT_LIMIT,
    _advice_on_length,
    _advice_on_sampler,
    convergence_report,
)
from skhier.utils.diagnostics import e_bfmi, ess_bulk, ess_tail, rank_rhat


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def autoregressive(rho, n_chains, n_draws, seed=0):
    noise = normal(n_chains, n_draws, seed=seed)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise, axis=1)


def judge(draws=None, n_chains=4, n_draws=1000, **facts):
    """The report on a run without fault, but for what is passed."""
    if draws is None:
        draws = {name: normal(n_chains, n_draws, seed=seed) for seed, name in enumerate("abc")}
    n_chains, n_draws = np.shape(next(iter(draws.values())))
    sound = {
        "diverging": np.zeros((n_chains, n_draws), dtype=bool),
        "energy": normal(n_chains, n_draws, seed=9),
        "n_steps": np.full((n_chains, n_draws), 7),
        "max_tree_depth": 10,
        "noncentered": True,
    }
    return convergence_report(draws, **(sound | facts))


def sticky_bulk():
    """Slow waves, whole periods in each half, under independent tails."""
    rng = np.random.default_rng(0)
    waves = np.sin(2 * np.pi * np.arange(1000) / 125) + 0.01 * rng.normal(size=(4, 1000))
    tails = rng.choice([-10, 10], size=(4, 1000)) + rng.normal(size=(4, 1000))
    return np.where(rng.random((4, 1000)) < 0.15, tails, waves)


def sticky_tail():
    """Independent draws with rare long visits to the upper tail."""
    rng = np.random.default_rng(0)
    visits = np.repeat(rng.random((4, 80)) < 0.05, 12, axis=1)
    draws = rng.normal(size=visits.shape)
    return np.where(visits, 5 + draws, draws)


def test_sound_run_has_no_warnings():
    report = judge()
    assert report.warnings == []
    assert report.n_transitions == 4000
    assert report.n_divergences == report.n_saturated == 0


def test_report_holds_worst_values_and_their_names():
    draws = {
        "fine": normal(4, 1000),
        "group_scale[Subject, Days]": normal(4, 1000) + np.arange(4)[:, None],
        "bulk": sticky_bulk(),
        "slow": autoregressive(0.999, 4, 1000),
    }
    energy = normal(4, 1000)
    report = judge(draws, energy=energy)
    x = np.stack(list(draws.values()), axis=-1)
    for statistic, worst, value, name in (
        (rank_rhat, np.argmax, report.max_rhat, report.max_rhat_name),
        (ess_bulk, np.argmin, report.min_ess_bulk, report.min_ess_bulk_name),
        (ess_tail, np.argmin, report.min_ess_tail, report.min_ess_tail_name),
    ):
        index = worst(statistic(x))
        assert (value, name) == (statistic(x)[index], list(draws)[index])
    assert report.min_e_bfmi == e_bfmi(energy).min()


def test_report_is_frozen_plain_python():
    report = judge()
    with pytest.raises(FrozenInstanceError):
        report.max_rhat = 1.0
    assert json.loads(json.dumps(asdict(report))) == asdict(report)


def test_rhat_above_limit_warns():
    # Chains of different spread: folded R-hat alone sees them.
    draws = normal(4, 1000) * np.array([[0.8], [0.93], [1.07], [1.2]])
    report = judge({"fine": normal(4, 1000, seed=1), "group_scale[Subject, Days]": draws})
    assert 1.01 < report.max_rhat < 1.1
    (warning,) = report.warnings
    assert warning == (
        f"R-hat is {np.ceil(report.max_rhat * 1000) / 1000:.3f} for 'group_scale[Subject, Days]' "
        "(> 1.01): the chains disagree. Raise n_warmup and n_draws."
    )


def test_chains_far_apart_warn():
    draws = normal(4, 1000) + np.array([[-10], [-3], [3], [10]])
    report = judge({"a": draws})
    assert report.max_rhat > 1.01
    assert any("the chains disagree" in warning for warning in report.warnings)


@pytest.mark.parametrize(("kind", "draws"), [("bulk", sticky_bulk()), ("tail", sticky_tail())])
def test_low_effective_sample_size_warns(kind, draws):
    report = judge({"fine": normal(*draws.shape), "sigma": draws})
    ess = getattr(report, f"min_ess_{kind}")
    assert ess < 400
    (warning,) = report.warnings
    assert warning == (
        f"The {kind} effective sample size is {int(ess)} for 'sigma' "
        "(< 100 per chain, 400 in all). Raise n_draws."
    )


def test_effective_sample_size_is_asked_per_chain():
    draws = autoregressive(0.5, 2, 1000)
    assert 200 < ess_bulk(draws[:, :500]) < 400
    assert judge({"a": draws[:, :500]}).warnings == []
    quarters = draws.reshape(8, 250)
    assert 400 < ess_bulk(quarters) < 800
    assert "(< 100 per chain, 800 in all)" in " ".join(judge({"a": quarters}).warnings)


@pytest.mark.parametrize("rho", [0.0, -0.5])
def test_too_few_draws_always_warn(rho):
    draws = autoregressive(rho, 4, 50, seed=3)
    report = judge({"a": draws})
    assert report.warnings == [
        "n_draws=50 (< 100 per chain): too few draws to trust intervals or R-hat. Raise n_draws."
    ]
    if rho < 0:
        assert min(report.min_ess_bulk, ess_bulk(draws)) > 400
    assert judge({"a": autoregressive(-0.5, 4, 100, seed=3)}).warnings == []


@pytest.mark.parametrize("n_draws", [1, 2, 3])
def test_hardly_any_draws_warn(n_draws):
    report = judge({"a": normal(4, n_draws), "b": normal(4, n_draws, seed=1)})
    assert np.isnan(report.max_rhat)
    assert report.max_rhat_name is None
    assert len(report.warnings) == 1
    assert f"n_draws={n_draws}" in report.warnings[0]


def test_one_chain_warns():
    report = judge(n_chains=1)
    assert np.isnan(report.max_rhat)
    assert report.max_rhat_name is None
    assert report.warnings == [
        "n_chains=1: R-hat needs two chains or more to see that they agree. Raise n_chains."
    ]


@pytest.mark.parametrize(
    ("noncentered", "advice"),
    [(True, "Raise target_accept."), (False, "Raise target_accept or use noncentered=True.")],
)
def test_divergences_warn(noncentered, advice):
    diverging = np.zeros((4, 250), dtype=bool)
    diverging[0, :2] = diverging[3, 9] = True
    report = judge(n_draws=250, diverging=diverging, noncentered=noncentered)
    assert report.n_divergences == 3
    assert report.warnings == [
        f"3 of 1000 transitions diverged; intervals may be too narrow. {advice}"
    ]


@pytest.mark.parametrize(
    ("noncentered", "advice"),
    [(True, "Raise n_warmup or tighten the priors."), (False, "Use noncentered=True.")],
)
def test_low_e_bfmi_warns(noncentered, advice):
    energy = normal(4, 1000)
    energy[2] = autoregressive(0.99, 1, 1000)
    report = judge(energy=energy, noncentered=noncentered)
    assert report.min_e_bfmi == e_bfmi(energy)[2] < 0.1
    assert report.warnings == [
        f"E-BFMI 0.0{int(100 * report.min_e_bfmi)} (< 0.3): the tails are poorly explored. {advice}"
    ]


def test_saturated_trees_warn():
    n_steps = np.full((2, 150), 3)
    n_steps.flat[:231] = 7
    report = judge({"a": normal(2, 150)}, n_steps=n_steps, max_tree_depth=3)
    assert report.n_saturated == 231
    (warning,) = report.warnings
    assert warning == (
        "231 of 300 transitions reached max_tree_depth=3; the chains move slowly. "
        "Raise max_tree_depth."
    )
    assert judge(max_tree_depth=4).warnings == []


def test_constant_scalar_is_left_out():
    diagonal = 1 + 2.2e-16 * np.sign(normal(4, 1000))
    report = judge({"corr[0, 0]": np.ones((4, 1000)), "corr[1, 1]": diagonal, "a": normal(4, 1000)})
    assert report.warnings == []
    assert report.max_rhat_name == report.min_ess_bulk_name == report.min_ess_tail_name == "a"


def test_run_in_which_nothing_moves_warns():
    report = judge({"a": np.ones((4, 500)), "b": np.zeros((4, 500))})
    assert report.warnings == [
        "No chain moved: the draws of all 2 scalars are constant. Raise n_warmup."
    ]
    assert report.min_ess_bulk_name is None


def test_chains_that_stand_still_apart_warn():
    report = judge({"a": np.tile([[0.1], [0.2], [0.3], [0.7]], 500)})
    assert report.max_rhat > 1e3
    assert "the chains disagree" in report.warnings[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_draws_that_are_not_finite_warn(value):
    draws = {name: normal(4, 1000, seed=seed) for seed, name in enumerate("abc")}
    draws["b"][2, 5] = value
    report = judge(draws)
    assert report.warnings == ["NaN or infinite draws in 'b'. Tighten the priors."]
    assert np.isfinite(report.max_rhat)


def test_at_most_five_names_are_shown():
    draws = {f"b[{level}]": np.full((4, 500), np.nan) for level in range(8)}
    (warning,) = judge(draws | {"a": normal(4, 500)}).warnings
    assert warning == (
        "NaN or infinite draws in 'b[0]', 'b[1]', 'b[2]', 'b[3]', 'b[4]' and 3 more. "
        "Tighten the priors."
    )


def test_energy_that_is_not_finite_warns():
    energy = normal(4, 1000)
    energy[0, 0] = np.inf
    report = judge(energy=energy)
    assert report.warnings == ["NaN or infinite draws in 'energy'. Tighten the priors."]
    assert report.min_e_bfmi == e_bfmi(energy)[1:].min()


def test_several_faults_all_warn():
    report = judge(
        {"a": autoregressive(0.99, 1, 500), "b": np.full((1, 500), np.nan)},
        diverging=np.ones((1, 500), dtype=bool),
        energy=autoregressive(0.99, 1, 500),
        max_tree_depth=3,
    )
    starts = [warning.split(maxsplit=1)[0] for warning in report.warnings]
    assert starts == ["NaN", "n_chains=1:", "The", "The", "500", "E-BFMI", "500"]


def test_shown_numbers_are_beyond_the_limit():
    report = replace(
        judge(), max_rhat=1.0100001, min_ess_bulk=399.99, min_ess_tail=399.6, min_e_bfmi=0.29999
    )
    rhat, bulk, tail = _advice_on_length(report, 4, 1000, independent=False)
    (energy,) = _advice_on_sampler(report, 10, True)
    assert rhat.startswith("R-hat is 1.011 ")
    assert "is 399 for" in bulk
    assert "is 399 for" in tail
    assert energy.startswith("E-BFMI 0.29 ")


def test_values_at_the_limit_do_not_warn():
    report = replace(judge(), max_rhat=1.01, min_ess_bulk=400, min_ess_tail=400, min_e_bfmi=0.3)
    assert [
        *_advice_on_length(report, 4, 100, independent=False),
        *_advice_on_sampler(report, 10, True),
    ] == []


def test_report_is_the_same_for_lists_and_leaves_draws_alone():
    draws = {name: normal(4, 100, seed=seed) for seed, name in enumerate("ab")}
    copies = {name: values.copy() for name, values in draws.items()}
    assert judge({name: values.tolist() for name, values in draws.items()}) == judge(draws)
    for name, values in draws.items():
        np.testing.assert_array_equal(values, copies[name])


def test_draws_of_different_shape_raise():
    with pytest.raises(ValueError, match="same shape"):
        judge({"a": normal(4, 100), "b": normal(4, 101)})


def test_independent_draws_are_judged_by_their_weights():
    rng = np.random.default_rng(0)
    apart = {"a": rng.normal(size=(4, 500)) + np.arange(4)[:, None] / 4}  # no chain: only noise
    report = convergence_report(apart, max_ess=700.0)
    assert report.min_ess_bulk == report.min_ess_tail == 700
    assert report.max_rhat > RHAT_LIMIT
    assert report.warnings == []
    bulk, tail = convergence_report(apart, max_ess=90.0).warnings
    assert bulk.startswith("The bulk effective sample size is 90 ")
    assert tail.startswith("The tail effective sample size is 90 ")
