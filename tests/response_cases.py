"""The responses with own parameters, values of y and SciPy's distributions, for their tests."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special, stats

from skhier.responses import (
    Bernoulli,
    Binomial,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)

COUNTS, POSITIVE = np.array([0.0, 1.0, 4.0, 30.0]), np.array([0.02, 0.9, 4.0, 30.0])
YES_NO, NUMBERS = np.array([0.0, 1.0, 1.0, 0.0]), np.array([-3.0, 0.0, 2.5, 40.0])
LINE = np.array([-1.0, 0.3, 1.5, 2.0])


def case(response, own, y, law):
    """``law(line)``: SciPy's frozen distribution of y."""
    return SimpleNamespace(response=response, own=own, y=y, law=law)


def log_link(line):
    return np.exp(np.asarray(line, float))


CASES = {
    "logit": case(Bernoulli(), {}, YES_NO, lambda t: stats.bernoulli(special.expit(t))),
    "probit": case(Bernoulli("probit"), {}, YES_NO, lambda t: stats.bernoulli(special.ndtr(t))),
    "binomial": case(Binomial(), {}, YES_NO, lambda t: stats.bernoulli(special.expit(t))),
    "poisson": case(Poisson(), {}, COUNTS, lambda t: stats.poisson(log_link(t))),
    "negative_binomial": case(
        NegativeBinomial(),
        {"dispersion": 1.7},
        COUNTS,
        lambda t: stats.nbinom(1.7, 1.7 / (1.7 + log_link(t))),
    ),
    "gamma": case(
        Gamma(), {"shape": 2.6}, POSITIVE, lambda t: stats.gamma(2.6, scale=log_link(t) / 2.6)
    ),
    "student_t": case(
        StudentT(), {"df": 4.5, "noise_scale": 1.7}, NUMBERS, lambda t: stats.t(4.5, t, 1.7)
    ),
    "lognormal": case(
        LogNormal(),
        {"noise_scale": 0.7},
        POSITIVE,
        lambda t: stats.lognorm(0.7, scale=log_link(t)),
    ),
    "normal": case(Normal(), {"noise_scale": 1.7}, NUMBERS, lambda t: stats.norm(t, 1.7)),
}
of_each = pytest.mark.parametrize("each", CASES.values(), ids=list(CASES))
of_discrete = pytest.mark.parametrize(
    "each", [c for c in CASES.values() if c.response.discrete], ids=lambda c: repr(c.response)
)
of_continuous = pytest.mark.parametrize(
    "each", [c for c in CASES.values() if not c.response.discrete], ids=lambda c: c.response.name
)
