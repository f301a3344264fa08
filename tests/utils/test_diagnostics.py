"""The diagnostics against ArviZ, closed forms and draws broken on purpose."""

from __future__ import annotations

import functools
import importlib.metadata
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import lfilter

from skhier.utils.diagnostics import (
    by_block,
    e_bfmi,
    ess_bulk,
    ess_mean,
    ess_sd,
    ess_tail,
    hdi,
    is_constant,
    mcse_mean,
    mcse_sd,
    rank_rhat,
)

STATISTICS = [rank_rhat, ess_bulk, ess_tail, ess_mean, ess_sd, mcse_mean, mcse_sd]


@functools.cache
def arviz_functions():
    """ArviZ's functions of (n_chains, n_draws), under our names, for ArviZ 0.x and 1.x."""
    try:
        version = importlib.metadata.version("arviz")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("ArviZ is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0.23 announces 1.0 on import, once a day
        if int(version.split(".")[0]) == 0:
            import arviz as az

            axes, last = {}, {"hdi_prob": 0.9}
        else:
            from arviz_stats.base import array_stats as az

            axes, last = {"chain_axis": 0, "draw_axis": 1}, {"prob": 0.9}
    return {
        "rank_rhat": functools.partial(az.rhat, method="rank", **axes),
        "ess_bulk": functools.partial(az.ess, method="bulk", **axes),
        "ess_tail": functools.partial(az.ess, method="tail", prob=(0.05, 0.95), **axes),
        "ess_mean": functools.partial(az.ess, method="mean", **axes),
        "ess_sd": functools.partial(az.ess, method="sd", **axes),
        "mcse_mean": functools.partial(az.mcse, method="mean", **axes),
        "mcse_sd": functools.partial(az.mcse, method="sd", **axes),
        "hdi": lambda draws: az.hdi(np.ravel(draws), **last),
        "e_bfmi": functools.partial(az.bfmi, **axes),
    }


def autoregressive(rho, shape, seed=0):
    """Stationary AR(1) along axis 1, with mean 0 and variance 1."""
    noise = np.random.default_rng(seed).normal(size=shape)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise, axis=1)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


CHAINS = {
    "iid": normal(4, 1000),
    "autoregressive": autoregressive(0.9, (4, 1000)),
    "antithetic": autoregressive(-0.9, (4, 1000)),
    "cauchy": np.random.default_rng(0).standard_cauchy((4, 1000)),
    "shifted": normal(4, 1000) + np.arange(4)[:, None],
    "scaled": normal(4, 1000) * np.arange(1, 5)[:, None],
    "one stuck": np.vstack([normal(3, 1000), np.full((1, 1000), 0.3)]),
    "trend": normal(4, 1000) + np.linspace(0, 5, 1000),
    "skew": np.exp(autoregressive(0.5, (4, 1000))),
    "offset": 1e6 + normal(4, 1000),
    "ties": np.round(autoregressive(0.5, (4, 1000))),
    "two values": np.sign(autoregressive(0.5, (4, 1000))),
    "mostly one value": (normal(4, 1000) > 1.9).astype(float),
    "odd": autoregressive(0.5, (4, 501)),
    "odd halves": autoregressive(0.5, (3, 250)),
    "short": autoregressive(0.5, (4, 11)),
    "shortest": normal(2, 4),
    "five": normal(3, 5),
    "one chain": autoregressive(0.5, (1, 500)),
}


@pytest.mark.parametrize("chains", CHAINS)
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
def test_statistic_matches_arviz(statistic, chains):
    draws = CHAINS[chains]
    if statistic is rank_rhat and len(draws) == 1:
        pytest.skip("NaN in both; ArviZ also logs it")
    expected = arviz_functions()[statistic.__name__](draws)
    # The offset of a million costs ArviZ six digits of the variance between chains.
    assert_allclose(statistic(draws), expected, rtol=1e-6 if chains == "offset" else 1e-9)


@pytest.mark.parametrize("n_draws", range(4, 14))
def test_ess_of_short_chains_matches_arviz(n_draws):
    # So short that the autocorrelation may still be positive where it ends.
    draws = normal(3, n_draws, 100, seed=n_draws)
    expected = [arviz_functions()["ess_mean"](draws[..., j]) for j in range(100)]
    assert_allclose(ess_mean(draws), expected, rtol=1e-9)


@pytest.mark.parametrize("chains", CHAINS)
def test_hdi_matches_arviz(chains):
    assert_array_equal(hdi(CHAINS[chains], prob=0.9), arviz_functions()["hdi"](CHAINS[chains]))


@pytest.mark.parametrize("chains", [name for name in CHAINS if name != "one stuck"])
def test_e_bfmi_matches_arviz(chains):
    expected = arviz_functions()["e_bfmi"](CHAINS[chains])
    assert_allclose(e_bfmi(CHAINS[chains]), expected, rtol=1e-9)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_ess_mean_matches_closed_form_of_autoregression(rho):
    # The mean of AR(1) has variance sigma^2 / n (1 + rho) / (1 - rho).
    ess = ess_mean(autoregressive(rho, (4, 2000, 30), seed=1))
    expected = 8000 * (1 - rho) / (1 + rho)
    assert abs(ess.mean() - expected) < 5 * ess.std(ddof=1) / np.sqrt(30)
    assert_allclose(ess.mean(), expected, rtol=0.1)


@pytest.mark.parametrize(("error", "estimate"), [(mcse_mean, np.mean), (mcse_sd, np.std)])
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_standard_error_is_that_of_repeated_runs(error, estimate, rho):
    runs = 3 + 2 * autoregressive(rho, (4, 1000, 400), seed=2)
    truth = {np.mean: 3, np.std: 2}[estimate]
    z = (estimate(runs, axis=(0, 1)) - truth) / error(runs)
    # z is standard normal, so its mean has error 1/sqrt(400), its sd 1/sqrt(800).
    assert abs(z.mean()) < 5 / np.sqrt(400)
    assert abs(z.std() - 1) < 5 / np.sqrt(800)


def test_hdi_is_narrowest_of_all_windows():
    draws = np.random.default_rng(3).exponential(size=(2, 100))
    ordered = np.sort(draws, axis=None)
    windows = [(ordered[i], ordered[i + 160]) for i in range(40)]
    assert_array_equal(hdi(draws, prob=0.8), min(windows, key=lambda ends: ends[1] - ends[0]))


def test_hdi_of_everything_is_the_range():
    draws = normal(2, 10)
    assert_array_equal(hdi(draws, prob=1), [draws.min(), draws.max()])


def test_e_bfmi_matches_closed_form_of_autoregression():
    # E(step^2) = 2 (1 - rho) sigma^2
    fractions = e_bfmi(autoregressive(0.8, (200, 2000), seed=4))
    assert fractions.shape == (200,)
    assert abs(fractions.mean() - 0.4) < 5 * fractions.std() / np.sqrt(200)


def test_rhat_sees_location_spread_and_trend():
    assert rank_rhat(CHAINS["iid"]) < 1.01
    for chains in ("shifted", "scaled", "trend"):
        assert rank_rhat(CHAINS[chains]) > 1.1


def test_rhat_and_ess_of_chains_that_stand_still():
    draws = np.tile([[0.1], [0.2], [0.3], [0.7]], 1000)
    assert rank_rhat(draws) > 1e3
    assert ess_bulk(draws) < 10
    assert rank_rhat(np.tile([[-1.0], [1.0]], 1000)) > 1e3  # these fold into one value


def test_draws_that_fold_into_one_value_have_rhat():
    # All halves have mean 0: only (n - 1) / n is left.
    assert_allclose(rank_rhat(np.tile([-1.0, 1.0], (4, 500))), np.sqrt(499 / 500))


def test_ess_cannot_exceed_its_cap():
    draws = np.tile([1.0, -1.0], (4, 500)) + 1e-3 * normal(4, 1000)
    assert_allclose(ess_mean(draws), 4000 * np.log10(4000))  # V sec. 3.2


@pytest.mark.parametrize("statistic", [*STATISTICS, hdi], ids=lambda f: f.__name__)
def test_statistic_of_array_is_that_of_each_scalar(statistic):
    draws = autoregressive(0.5, (4, 101, 2, 3))
    expected = [[statistic(draws[:, :, i, j]) for j in range(3)] for i in range(2)]
    assert_allclose(statistic(draws), expected, rtol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
def test_statistic_of_blocks_is_that_of_each_scalar(statistic):
    draws = autoregressive(0.5, (4, 101, 2, 3))
    expected = [[statistic(draws[:, :, i, j]) for j in range(3)] for i in range(2)]
    sizes = []

    def of_block(x):
        sizes.append(len(x))
        return statistic(np.moveaxis(x, 0, -1))

    assert_allclose(by_block(of_block, draws, at_once=2 * 4 * 101), expected, rtol=1e-12)
    assert sizes == [2, 2, 2]


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
def test_statistic_without_scalars_is_empty(statistic):
    assert statistic(np.empty((4, 100, 0))).shape == (0,)
    assert statistic(np.empty((4, 100, 2, 0))).shape == (2, 0)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
def test_statistic_accepts_lists_integers_and_single_precision(statistic):
    draws = np.round(10 * normal(2, 20)).astype(int)
    expected = statistic(draws.astype(float))
    assert_array_equal(statistic(draws), expected)
    assert_array_equal(statistic(draws.tolist()), expected)
    assert_array_equal(statistic(draws.astype(np.float32)), expected)


@pytest.mark.parametrize("factor", [1e-150, 1e150, -1.0])
@pytest.mark.parametrize("statistic", [rank_rhat, ess_mean, ess_sd], ids=lambda f: f.__name__)
def test_statistic_has_no_units(statistic, factor):
    draws = autoregressive(0.5, (4, 200))
    assert_allclose(statistic(factor * draws), statistic(draws), rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-150, 1e150])
@pytest.mark.parametrize("error", [mcse_mean, mcse_sd])
def test_standard_error_has_units_of_draws(error, factor):
    draws = autoregressive(0.5, (4, 200))
    assert_allclose(error(factor * draws), factor * error(draws), rtol=1e-9)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
def test_bad_scalars_are_nan_and_leave_others_alone(statistic):
    draws = normal(4, 100, 6)
    good = statistic(draws[..., 0])
    draws[..., 1] = 3.7
    draws[..., 2] = 1 + 2.2e-16 * np.sign(draws[..., 2])
    draws[1, 7, 3] = np.nan
    draws[2, 0, 4] = np.inf
    draws[..., 5] = 0
    assert_allclose(statistic(draws), [good, *[np.nan] * 5], rtol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
def test_fewer_than_four_draws_are_nan(statistic):
    assert np.isnan(statistic(normal(4, 3)))
    assert np.isfinite(statistic(normal(4, 4)))


def test_rhat_of_one_chain_is_nan():
    assert np.isnan(rank_rhat(normal(1, 1000)))


def test_e_bfmi_of_bad_chain_is_nan():
    energy = normal(3, 100)
    energy[0] = 5
    energy[1, 0] = np.nan
    assert_array_equal(np.isnan(e_bfmi(energy)), [True, True, False])


def test_hdi_of_bad_scalars():
    draws = normal(4, 100, 4)
    good = hdi(draws[..., 0])
    draws[..., 1] = 3.7
    draws[1, 7, 2] = np.nan
    draws[2, 0, 3] = -np.inf
    assert_array_equal(hdi(draws), [good, [3.7, 3.7], [np.nan] * 2, [np.nan] * 2])


def test_is_constant_forgives_rounding_only():
    draws = normal(4, 100, 7)
    draws[..., 1] = 0
    draws[..., 2] = 1 + 2.2e-16 * np.sign(draws[..., 2])
    draws[..., 3] = 1e-300 * draws[..., 3]
    draws[..., 4] = np.nan
    draws[..., 5] = np.inf
    draws[0, 0, 6] = np.inf
    assert_array_equal(is_constant(draws), [False, True, True, False, False, False, False])
    assert is_constant([[1, 1]])


@pytest.mark.parametrize("statistic", [*STATISTICS, hdi, e_bfmi, is_constant])
def test_draws_without_chains_raise(statistic):
    with pytest.raises(ValueError, match=r"shape \(n_chains, n_draws, ...\), got \(100,\)"):
        statistic(normal(100))


@pytest.mark.parametrize("prob", [0, -0.1, 1.1, np.nan])
def test_hdi_prob_outside_range_raises(prob):
    with pytest.raises(ValueError, match=r"`prob` must be in \(0, 1\], got"):
        hdi(normal(4, 100), prob=prob)


def test_draws_are_not_changed():
    draws = normal(4, 100)
    before = draws.copy()
    for statistic in (*STATISTICS, hdi, e_bfmi, is_constant):
        statistic(draws)
    assert_array_equal(draws, before)
