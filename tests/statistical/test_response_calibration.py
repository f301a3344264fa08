"""Calibration by simulation of responses without sufficient statistics, and planted bugs.

The designs, the simulator of the priors and the bugs are in ``response_calibration.py``.
"""

import runpy
from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pytest

from skhier import Prior
from skhier.calibration import simulation_based_calibration

REPORT = runpy.run_path(str(Path(__file__).with_name("response_calibration.py")))
calibrate, calibrate_bug, BUGS = REPORT["calibrate"], REPORT["calibrate_bug"], REPORT["BUGS"]

LEVEL = 1e-3  # of all quantities of a report together; the seeds are fixed
N_QUICK, N_SLOW = 15, 1000
OWN = {"negative_binomial": {"dispersion"}, "student_t": {"noise_scale", "df"}}
BY_EFFECT = ("intercept", "x")


def quantities(name):
    """Everything that is ranked."""
    effects = {
        f"group_effects[g, {level}, {effect}]" for level in ("g00", "g11") for effect in BY_EFFECT
    }
    scales = {f"group_scale[g, {effect}]" for effect in BY_EFFECT}
    of_population = {"intercept", "coef[x]", "group_corr[g, intercept, x]", "log_likelihood"}
    return of_population | scales | effects | OWN.get(name, set())


def test_few_simulations_are_calibrated():
    report = calibrate("poisson", N_QUICK, seed=1)
    assert set(report.ranks) == quantities("poisson")
    assert report.p_value > LEVEL, report
    assert (report.fits["ess_bulk"] > report.n_draws).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORT["RESPONSES"])
def test_response_is_calibrated_in_a_thousand_fits(name):
    report = calibrate(name, N_SLOW, seed=2)
    assert set(report.ranks) == quantities(name)
    assert report.p_value > LEVEL, report


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_report_rejects_every_planted_bug(bug):
    assert calibrate_bug(bug, REPORT["BUG_FITS"], seed=6).p_value < LEVEL


def test_draws_of_one_class_are_fitted_as_what_they_are():
    """All zeros are no event: the posterior of the intercept lies below its prior, not above."""
    X = REPORT["design"]().iloc[:16]

    def no_events(rng):
        few = {"intercept": -30.0, "group_scale": [0.1], "group_corr": [[1.0]]}
        return REPORT["draw_prior"](rng) | few

    prior = Prior(dist.Normal(0.5, 0.7), dist.Normal(0.0, 0.5), dist.HalfNormal(0.7))
    model = REPORT["model"]("bernoulli", slopes=None, prior=prior, n_chains=2)
    report = simulation_based_calibration(model, X, 2, draw_prior=no_events, random_state=0)
    assert (report.ranks["intercept"] == 0).all()  # the truth is far below all draws
    zeros = np.append(np.zeros(16), [0.0, 1.0])
    X = X.iloc[np.append(np.arange(16), [0, 0])]
    fit = model.fit(X, zeros, sample_weight=np.append(np.ones(16), [0.0, 0.0]))
    assert fit.intercept_ < 0.5  # its prior's mean; taken for events they would raise it
    assert fit.predict_proba(X)[:, 1].mean() < 0.5
