"""The form by one exponential, against the log density and its derivatives."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from response_cases import CASES

LINES = np.array([-40.0, -3.0, -0.2, 0.0, 0.7, 4.0, 40.0])
WITH_FORM = ["logit", "binomial", "poisson", "negative_binomial", "gamma"]


@pytest.mark.parametrize("name", WITH_FORM)
def test_form_has_the_derivatives_of_the_density(name):
    case = CASES[name]
    for y in case.y:
        form = case.response.exponential_form(y, LINES, case.own)
        value, score, curvature = form.derivatives(LINES, np)
        density = case.response.log_density(y, LINES, case.own)
        rest = density - value  # what the line is not in
        assert_allclose(rest, rest[3], atol=1e-9 * np.abs(density).max())
        near = {"rtol": 1e-9, "atol": 1e-14}
        assert_allclose(score, case.response.score(y, LINES, case.own), **near)
        assert_allclose(curvature, case.response.curvature(y, LINES, case.own), **near)


@pytest.mark.parametrize("name", WITH_FORM)
@pytest.mark.parametrize("home", [-2.0, 3.0])
def test_form_made_near_one_line_holds_at_others(name, home):
    case, lines = CASES[name], LINES[1:-1]
    for y in case.y:
        form = case.response.exponential_form(y, home, case.own)
        value = form.derivatives(lines, np)[0]
        density = case.response.log_density(y, lines, case.own)
        assert_allclose(density - value, (density - value)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(CASES) - set(WITH_FORM)))
def test_others_have_none(name):
    case = CASES[name]
    assert case.response.exponential_form(case.y[0], 0.0, case.own) is None
