"""Calibration of responses other than the normal: python tests/statistical/response_calibration.py.

Writes the tables of ``docs/calibration.md`` between its second marks. The designs, the priors' own
simulator, which shares nothing with the package's priors, and the planted bugs are also those of
``test_response_calibration.py``.
"""

import argparse
import runpy
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor, Prior
from skhier.calibration import simulation_based_calibration
from skhier.responses import Bernoulli, NegativeBinomial, StudentT

DOCS = Path(__file__).parents[2] / "docs" / "calibration.md"
N_GROUPS, N_EACH = 12, 8
ETA, SCALE_OF_INTERCEPTS = 2.0, 0.7
RESPONSES = ("bernoulli", "poisson", "negative_binomial", "student_t")
BUG_FITS = 100
START, END = "<!-- responses -->", "<!-- end of responses -->"


def design():
    """X: ``x``, whose slope varies, and the groups."""
    rng = np.random.default_rng(20261126)
    n = N_GROUPS * N_EACH
    groups = np.repeat([f"g{i:02d}" for i in range(N_GROUPS)], N_EACH)
    return pd.DataFrame({"x": 0.5 + rng.normal(size=n), "g": groups})


def prior(scale=SCALE_OF_INTERCEPTS, noise_scale=None):
    """``scale``: of the half-normal of the intercepts' sd."""
    return Prior(
        intercept=dist.Normal(0.5, 0.7),
        coef=dist.Normal(0.0, 0.5),
        group_scale={"intercept": dist.HalfNormal(scale), "x": dist.Exponential(2.5)},
        noise_scale=noise_scale,
    )


def model(name, **params):
    """The estimator whose prior :func:`draw_prior` draws from."""
    own = {"noise_scale": dist.Exponential(1.0)} if name == "student_t" else {}
    few = {"groups": "g", "prior": prior(**own), "eta": ETA, "n_chains": 1, "n_draws": 1000}
    if name == "bernoulli":
        return HierarchicalSlopesClassifier(**few | params)
    return HierarchicalSlopesRegressor(**{"response": name, **few, **params})


def draw_prior(rng):
    """The prior once more; in two dimensions (rho + 1) / 2 ~ Beta(eta, eta).

    All responses' own parameters: each takes those that it has.
    """
    rho = 2 * rng.beta(ETA, ETA) - 1
    df = 0.0
    while df <= 1:  # Gamma(2, 0.1) above 1
        df = rng.gamma(2, 1 / 0.1)
    return {
        "intercept": rng.normal(0.5, 0.7),
        "coef": [rng.normal(0, 0.5)],
        "group_scale": [abs(rng.normal(0, SCALE_OF_INTERCEPTS)), rng.exponential(1 / 2.5)],
        "group_corr": [[1, rho], [rho, 1]],
        "dispersion": 1 / rng.exponential(1),
        "noise_scale": rng.exponential(1),
        "df": df,
    }


def calibrate(name, n_simulations, seed=0, **params):
    """The report of one response."""
    return simulation_based_calibration(
        model(name, **params), design(), n_simulations, draw_prior=draw_prior, random_state=seed
    )


def _shifted(log_density):
    def planted(self, y, line, own, xp=np):
        return log_density(self, y, line + 0.4, own, xp)

    return planted


def _without_log_scale(log_density):
    def planted(self, y, line, own, xp=np):
        return log_density(self, y, line, own, xp) + xp.log(own["noise_scale"])

    return planted


BUGS = {  # what it is: response, parameters of the model, or class and what its density becomes
    "density at the line plus 0.4": ("bernoulli", {}, (Bernoulli, _shifted)),
    "prior of the intercepts' scale a third as wide": (
        "poisson",
        {"prior": prior(SCALE_OF_INTERCEPTS / 3)},
        None,
    ),
    "prior of phi in place of 1/phi": (
        "negative_binomial",
        {"response": NegativeBinomial(dispersion=dist.Exponential(1.0))},
        None,
    ),
    "log of the noise scale forgotten": ("student_t", {}, (StudentT, _without_log_scale)),
}


@contextmanager
def _planted(change):
    """A response with another density; compiled programs, kept by kind, are forgotten.

    It has no exponential form, which would say the right density.
    """
    if change is None:
        yield
        return
    response, plant = change
    jax.clear_caches()
    try:
        density = mock.patch.object(response, "log_density", plant(response.log_density))
        form = mock.patch.object(response, "exponential_form", return_value=None)
        with density, form:
            yield
    finally:
        jax.clear_caches()


def calibrate_bug(bug, n_simulations, seed=0):
    """The report that should reject."""
    name, params, change = BUGS[bug]
    with _planted(change):
        return calibrate(name, n_simulations, seed, **params)


def main(n_simulations):
    """Run everything; the text around the marks is written by hand."""
    report_of = runpy.run_path(str(Path(__file__).with_name("calibration_report.py")))
    lines = [report_of["heading"](n_simulations), ""]
    for name in RESPONSES:
        began = time.perf_counter()
        report = calibrate(name, n_simulations)
        print(f"{name}\n{report}\n", flush=True)
        lines += [*report_of["section"](name, report, time.perf_counter() - began), ""]
    lines += ["### Planted bugs of responses", ""]
    lines += [
        "| bug | response | fits | p of all | worst quantity | its p |",
        "|---|---|---|---|---|---|",
    ]
    for bug, (name, *_) in BUGS.items():
        report = calibrate_bug(bug, BUG_FITS)
        print(f"{bug}\n{report}\n", flush=True)
        p, shown = report.to_frame()["p_value"], report_of["shown"]
        lines.append(
            f"| {bug} | {name} | {len(report.fits)} | {shown(report.p_value)} | {p.idxmin()} | "
            f"{shown(p.min())} |"
        )
    text = DOCS.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    DOCS.write_text("\n".join([before + START, "", *lines, "", END]) + after, encoding="utf-8")
    print(f"Report: {DOCS}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write docs/calibration.md's responses.")
    parser.add_argument("--fits", type=int, default=1000, help="of each response (1000)")
    main(parser.parse_args().fits)
