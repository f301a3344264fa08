"""A GPU against the CPU: the same posterior, kept as NumPy arrays."""

import pickle

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

# Both devices weigh points of the same seed in float64. Rounding moves the mode about which they
# lie by less than another seed moves them: within one Monte Carlo error of a mean. Many slopes,
# crossed factors (more than one such error apart on an H200) and chains are taken for two samples.
N_ERRORS = 5  # Monte Carlo standard errors


@pytest.fixture(scope="module")
def panel():
    return make_hierarchical(
        600, 1, groups=30, group_scale=0.7, intercept=1.0, noise_scale=0.5, random_state=0
    )


def both(estimator, X, y, **fit_params):
    """Fits of one estimator on each device."""
    return [
        clone(estimator).set_params(device=device).fit(X, y, **fit_params)
        for device in ("cpu", "gpu")
    ]


def assert_same_posterior(cpu, gpu, n_errors=1):
    left, right = cpu.summary(), gpu.summary()
    n_sds = n_errors / np.sqrt(left["ess_bulk"].min())
    assert list(left.index) == list(right.index)
    assert (np.abs(left["mean"] - right["mean"]) <= n_sds * left["sd"]).all()
    for factor, mean in cpu.group_coef_.items():
        sd = cpu.group_coef_std_[factor]
        assert (np.abs(mean - gpu.group_coef_[factor]) <= n_sds * sd).to_numpy().all()


def test_normal_response(panel):
    cpu, gpu = both(HierarchicalSlopesRegressor("group", random_state=0), panel.data, panel.target)
    assert cpu.diagnostics_["engine"] == gpu.diagnostics_["engine"]
    assert_same_posterior(cpu, gpu)
    assert_allclose(gpu.log_evidence_, cpu.log_evidence_, rtol=0, atol=0.01)


def test_many_slopes():
    table = make_hierarchical(
        800, 6, groups=40, slopes="all", group_scale=0.7, noise_scale=0.5, random_state=0
    )
    estimator = HierarchicalSlopesRegressor("group", random_state=0)
    cpu, gpu = both(estimator, table.data, table.target)
    assert_same_posterior(cpu, gpu, n_errors=N_ERRORS)


def test_crossed_factors(crossed):
    estimator = HierarchicalSlopesRegressor(crossed.groups, random_state=0)
    assert_same_posterior(*both(estimator, crossed.data, crossed.target), n_errors=N_ERRORS)


def test_noise_by(panel):
    estimator = HierarchicalSlopesRegressor("group", noise_by="group", random_state=0)
    cpu, gpu = both(estimator, panel.data, panel.target)
    assert_same_posterior(cpu, gpu)
    assert_allclose(gpu.group_noise_["group"], cpu.group_noise_["group"], rtol=0.01)


def test_classes(panel):
    estimator = HierarchicalSlopesClassifier("group", random_state=0)
    assert_same_posterior(*both(estimator, panel.data, panel.target > panel.target.median()))


def test_counts(panel):
    y = np.random.default_rng(0).poisson(np.exp(0.3 * panel.target.to_numpy()))
    estimator = HierarchicalSlopesRegressor("group", response="poisson", random_state=0)
    assert_same_posterior(*both(estimator, panel.data, y))


def test_chains(panel):
    estimator = HierarchicalSlopesRegressor("group", inference="nuts", random_state=0)
    cpu, gpu = (each.summary() for each in both(estimator, panel.data, panel.target))
    error = np.hypot(*(each["sd"] / np.sqrt(each["ess_bulk"]) for each in (cpu, gpu)))
    assert (np.abs(cpu["mean"] - gpu["mean"]) <= N_ERRORS * error).all()
    assert (gpu["r_hat"] < 1.02).all()


def test_fit_leaves_no_array_on_the_gpu(panel):
    """Only NumPy stays with the estimator, and JAX's default device is the user's."""
    before = jax.config.jax_default_device
    estimator = HierarchicalSlopesRegressor("group", device="gpu", random_state=0)
    model = estimator.fit(panel.data, panel.target)
    assert jax.config.jax_default_device is before
    assert b"jaxlib" not in pickle.dumps(model)
    copy = pickle.loads(pickle.dumps(model))
    assert_allclose(copy.predict(panel.data), model.predict(panel.data))
