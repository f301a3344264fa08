"""Rats' weights (Gelfand et al. 1990): independent effects, flat priors on all three sds."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

from skhier import HierarchicalSlopesRegressor, Prior

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rats(fit, reference):
    stored = reference("rats")
    weights = pd.DataFrame(stored["weights"], index=stored["days"])
    table = weights.rename_axis("day").reset_index().melt("day", var_name="rat")
    X = table[["day", "rat"]].assign(day=table["day"] - 22)
    flat = dist.ImproperUniform(dist.constraints.positive, (), ())
    prior = Prior(
        intercept=dist.Normal(0.0, 100.0),
        coef=dist.Normal(0.0, 100.0),
        group_scale=flat,
        noise_scale=flat,
    )
    model = HierarchicalSlopesRegressor("rat", correlated=False, prior=prior, random_state=0)
    return fit(model.set_params(n_draws=4000, target_accept=0.95), X, table["value"])


def test_rats_match_exact_posterior(rats, reference, assert_agrees):
    assert_agrees(rats, reference("rats")["parameters"])


def test_flat_priors_are_listed(rats):
    table = rats.prior_summary()["prior"]
    for name in ("noise_scale", "group_scale[rat, intercept]", "group_scale[rat, day]"):
        assert table[name] == "flat"
    assert np.isfinite(rats.summary().to_numpy()).all()
