"""Settings and priors: refused in fit and only there, and never half a fit."""

import numpy as np
import numpyro.distributions as dist
import pytest
from sklearn.base import clone

from skhier import HierarchicalSlopesRegressor, Prior

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("n_draws", [0, -1, 1.5, "a", None, True], r"an int in the range \[4, inf\)"),
        ("n_warmup", [0, -1, 1.5, "a"], r"an int in the range \[1, inf\)"),
        ("n_chains", [0, 2.0], r"an int in the range \[1, inf\)"),
        ("max_tree_depth", [0, 21], r"an int in the range \[1, 20\]"),
        ("target_accept", [1.0, 0, "a", np.nan], r"a float in the range \(0, 1\)"),
        ("eta", [0, -1, np.inf, "a"], r"a float in the range \(0, inf\)"),
        ("correlated", [1, "yes"], "True or False"),
        ("noncentered", [None, 0], "True or False"),
        ("inference", ["mcmc", None], "one of 'auto'"),
        ("handle_unknown", ["ignore", None], "one of 'population', 'error'"),
        ("device", [0, "cuda:x", -1], "None, 'cpu', 'gpu'"),
        ("verbose", [-1, "loud"], r"an int in the range \[0, inf\)"),
    ],
)
def test_bad_settings_are_refused_in_fit_only(name, values, words, fitted, people):
    # case 98
    for value in values:
        HierarchicalSlopesRegressor(**{name: value})
        model = clone(fitted).set_params(**{name: value})
        with pytest.raises(ValueError, match=f"The '{name}' parameter must be .*{words}"):
            model.fit(*people)
        assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"groups": "Subject"}, ValueError, "`groups='Subject'` is not a column.*'subject'"),
        ({"slopes": ["z"]}, ValueError, "`slopes='z'` is not a column"),
        ({"slopes": "x"}, ValueError, "`slopes` must be 'all', None or a list"),
        ({"prior": "flat"}, ValueError, "`prior` must be one of .*'default'.*Got 'flat'"),
        ({"prior": 3}, TypeError, "`prior` must be None.*Got 3"),
        ({"prior": Prior(coef=-1)}, ValueError, "prior of `coef` must be a positive.*Got -1"),
        (
            {"prior": Prior(noise_scale=dist.Normal(0, 1))},
            ValueError,
            "prior of `noise_scale` must live on positive numbers",
        ),
    ],
)
def test_bad_models_are_refused_in_fit_only(params, error, message, fitted, people):
    model = clone(fitted).set_params(**params)
    with pytest.raises(error, match=message):
        model.fit(*people)
    assert not hasattr(model, "n_features_in_")


IMPOSSIBLE = {
    "noise": Prior(noise_scale=dist.Uniform(1e-200, 1e-199)),
    "intercept": Prior(intercept=dist.Uniform(1e200, 2e200)),
}


@pytest.mark.parametrize("prior", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_prior_that_rules_the_data_out_is_an_error(prior, fitted, people):
    # case 106
    for model in (clone(fitted), clone(fitted).fit(*people)):
        model.set_params(prior=prior)
        before = dict(vars(model))
        with pytest.raises(RuntimeError, match=r"no valid starting point.* 100 random points"):
            model.fit(*people)
        assert vars(model).keys() == before.keys()
        assert all(vars(model)[name] is before[name] for name in before)
