"""Simulation-based calibration of the package, and of the check itself by planted bugs.

The designs, the simulator of the prior (which shares nothing with the package) and the bugs are in
``calibration_report.py``, which writes ``docs/calibration.md``.
"""

import runpy
from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

from skhier import DecovPrior, HierarchicalSlopesRegressor, Prior
from skhier.calibration import Calibration, simulation_based_calibration

REPORT = runpy.run_path(str(Path(__file__).with_name("calibration_report.py")))
calibrate, calibrate_bug, BUGS = REPORT["calibrate"], REPORT["calibrate_bug"], REPORT["BUGS"]

LEVEL = 1e-3  # of all quantities of a report together; the seeds are fixed
N_QUICK, N_SLOW = 100, 1000
POPULATION = {
    "intercept",
    "coef[x]",
    "coef[w]",
    "noise_scale",
    "group_scale[g, intercept]",
    "group_scale[g, x]",
    "group_corr[g, intercept, x]",
}
OF_DATA = {"log_likelihood", "log_marginal_likelihood"}


def effects_of(*levels):
    return {f"group_effects[g, {level}, {name}]" for level in levels for name in ("intercept", "x")}


def parameters_only(report):
    """The report without functions of the data."""
    ranks = report.ranks.drop(columns=list(OF_DATA & set(report.ranks)))
    return Calibration(ranks, report.n_draws, report.fits)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["dense", "sparse"])
def test_posterior_is_calibrated(design):
    report = calibrate(design, N_QUICK, seed=1)
    last = {"dense": "g11", "sparse": "g39"}[design]
    assert set(report.ranks) == POPULATION | effects_of("g00", last) | OF_DATA
    assert report.p_value > LEVEL, report
    assert (report.fits["ess_bulk"] > report.n_draws).all()


@pytest.mark.slow
@pytest.mark.parametrize("design", ["dense", "sparse"])
def test_posterior_is_calibrated_in_a_thousand_fits(design):
    report = calibrate(design, N_SLOW, seed=2)
    assert report.p_value > LEVEL, report


def calibrate_many_slopes(n_simulations, seed, group_scale=None, n_rows=8):
    """Eight effects of 30 levels of ``n_rows``; by default the prior of their scales has much of
    its mass near 0.
    """
    rng = np.random.default_rng(8)
    X = pd.DataFrame(rng.normal(size=(30 * n_rows, 7)), columns=list("abcdefh"))
    X["g"] = np.repeat(np.arange(30), n_rows)
    prior = Prior(
        intercept=dist.Normal(0.0, 2.0),
        coef=dist.Normal(0.0, 1.0),
        group_scale=group_scale or dist.HalfNormal(0.3),
        noise_scale=dist.LogNormal(0.0, 0.3),
    )
    model = HierarchicalSlopesRegressor("g", prior=prior)
    return simulation_based_calibration(model, X, n_simulations, random_state=seed)


@pytest.mark.slow
def test_many_slopes_are_calibrated():
    report = calibrate_many_slopes(N_QUICK, seed=4)
    assert report.p_value > LEVEL, report


@pytest.mark.slow
def test_many_slopes_that_vary_are_calibrated():
    scale = dist.LogNormal(0.0, 0.4)
    report = calibrate_many_slopes(N_QUICK, seed=5, group_scale=scale, n_rows=35)
    assert report.p_value > LEVEL, report


@pytest.mark.slow
def test_many_slopes_that_few_rows_tell_are_calibrated():
    """As many rows of a level as it has effects: a third of the fits is by chains."""
    report = calibrate_many_slopes(60, seed=6, group_scale=dist.LogNormal(0.0, 0.4))
    assert report.p_value > LEVEL, report


@pytest.mark.slow
@pytest.mark.parametrize("noncentered", [True, False])
def test_joint_model_is_calibrated(noncentered):
    # priors away from 0 for the scales: the centered model has no funnel to get lost in
    prior = Prior(
        intercept=dist.Normal(50.0, 10.0),
        coef=dist.Normal(0.0, 3.0),
        group_scale=dist.LogNormal(np.array([1.0, 0.0]), 0.3),
        noise_scale=dist.LogNormal(0.0, 0.3),
    )
    model = REPORT["model"](
        prior=prior, inference="nuts", noncentered=noncentered, n_chains=2, n_warmup=300
    )
    report = simulation_based_calibration(
        model, REPORT["design"]("dense"), 150, n_draws=49, random_state=3
    )
    assert report.p_value > LEVEL, report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "n_simulations"),
    [
        ("Jacobian of log sigma forgotten", 120),
        ("groups' log determinants dropped", 30),
        ("all rows ignored: posterior = prior", 30),
    ],
)
def test_report_rejects_a_planted_bug(bug, n_simulations):
    assert calibrate_bug(bug, n_simulations, seed=4).p_value < LEVEL


@pytest.mark.slow
def test_ignored_rows_show_in_functions_of_the_data_only():
    report = calibrate_bug("every other row ignored", 60, seed=5)
    assert parameters_only(report).p_value > LEVEL, report
    assert report.to_frame().loc["log_likelihood", "p_value"] < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "n_simulations"),
    [
        ("coefficients' log determinant dropped", 1000),
        ("Jacobian of log tau forgotten", 50),
        ("every other row ignored", 200),
    ],
)
def test_report_rejects_a_subtle_planted_bug(bug, n_simulations):
    assert calibrate_bug(bug, n_simulations, seed=6).p_value < LEVEL


def test_planted_bug_leaves_nothing_behind():
    before = calibrate("ungrouped", 3, seed=7)
    calibrate_bug("Jacobian of log sigma forgotten", 2)
    pd.testing.assert_frame_equal(calibrate("ungrouped", 3, seed=7).ranks, before.ranks)


@pytest.fixture(scope="module")
def design():
    """12 rows in four groups."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=12), "g": np.repeat(list("abcd"), 3)})


def model(**params):
    prior = Prior(
        intercept=dist.Normal(0.0, 1.0),
        coef=dist.Normal(0.0, 1.0),
        group_scale=dist.HalfNormal(1.0),
        noise_scale=dist.Exponential(1.0),
    )
    return HierarchicalSlopesRegressor(**{"groups": "g", "prior": prior, "n_draws": 250, **params})


@pytest.mark.parametrize(
    ("params", "quantities"),
    [
        ({"correlated": False}, 4 + 1 + 4 + 2),
        ({"slopes": None}, 4 + 0 + 2 + 2),
        pytest.param(
            {"prior": DecovPrior(*[dist.Normal(0.0, 1.0)] * 2, dist.HalfNormal(1.0))},
            6 + 4 + 2,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"inference": "nuts", "noncentered": False, "n_chains": 1, "n_warmup": 100},
            6 + 4 + 2,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_report_of_every_kind_of_model(design, params, quantities):
    report = simulation_based_calibration(model(**params), design, 2, random_state=0)
    assert report.ranks.shape == (2, quantities)
    assert report.ranks.to_numpy().min() >= 0
    assert report.ranks.to_numpy().max() <= 99


@pytest.mark.slow
def test_report_without_groups(design):
    report = simulation_based_calibration(
        model(groups=None), design[["x"]].to_numpy(), 100, random_state=0
    )
    assert list(report.ranks) == ["intercept", "coef[x0]", "noise_scale", "log_likelihood"]
    assert report.p_value > LEVEL, report


def test_same_random_state_gives_the_same_ranks(design):
    one, same, other = (
        simulation_based_calibration(model(random_state=i), design, 2, random_state=seed).ranks
        for i, seed in enumerate((0, 0, 1))
    )
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


def test_log_marginal_likelihood_matches_dense_normal(design):
    from scipy.stats import multivariate_normal

    from skhier.calibration._rows import SimulatedRows, log_marginal_likelihood
    from skhier.posterior.prior_draws import prior_without_fit

    rows = SimulatedRows.of(*prior_without_fit(model(), design, None))
    root = np.array([[1.0, 0.0], [0.6, 0.8]])
    parameters = {
        "intercept": np.array([0.5]),
        "coef": np.array([[-1.0]]),
        "noise_scale": np.array([0.3]),
        "group_scale": {"g": np.array([[1.5, 0.7]])},
        "group_corr": {"g": (root @ root.T)[None]},
    }
    x, same = design["x"].to_numpy(), np.equal.outer(*[design["g"].to_numpy()] * 2)
    z = np.column_stack([np.ones(12), x])
    sigma = np.diag([1.5, 0.7]) @ root @ root.T @ np.diag([1.5, 0.7])
    cov = same * (z @ sigma @ z.T) + 0.09 * np.eye(12)  # V = Z Sigma Z' + sigma^2 I
    y = np.random.default_rng(0).normal(size=12)
    expected = multivariate_normal(0.5 - x, cov).logpdf(y)
    assert np.isclose(log_marginal_likelihood(rows, parameters, y)[0], expected, rtol=1e-12)


def test_square_root_of_singular_correlations():
    from skhier.calibration._rows import square_root

    corr = np.array([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.5], [0.5, 1.0]]])
    root = square_root(corr)
    np.testing.assert_allclose(root @ np.swapaxes(root, 1, 2), corr, atol=1e-15)


def test_report_prints_and_plots(design):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    report = simulation_based_calibration(model(), design, 20, random_state=0)
    assert list(report.to_frame().columns) == [
        "mean_rank", "deviation", "at", "p_value", "in_50", "in_90",
    ]  # fmt: skip
    assert "20 simulations" in repr(report)
    assert "NOT calibrated" not in repr(report)
    fig = report.plot(coverage=0.9)
    assert sum(axis.get_visible() for axis in fig.axes) == report.ranks.shape[1]
    plt.close(fig)


def test_biased_ranks_are_rejected():
    """The true value is too often low."""
    low = np.random.default_rng(0).integers(80, size=200)
    report = Calibration(pd.DataFrame({"a": low}), 99, pd.DataFrame())
    row = report.to_frame().loc["a"]
    assert report.p_value < 1e-6
    assert row["mean_rank"] < 0.45
    assert row["deviation"] > 0.1


@pytest.mark.parametrize("prior", [None, "brms", Prior(coef=dist.Normal(0.0, 1.0))])
def test_prior_that_depends_on_y_is_an_error(design, prior):
    with pytest.raises(ValueError, match="some of it is scaled by y"):
        simulation_based_calibration(model(prior=prior), design, 2)


def test_other_bad_parameters_are_errors(design):
    with pytest.raises(TypeError, match="must be a HierarchicalSlopesRegressor"):
        simulation_based_calibration(None, design)
    with pytest.raises(ValueError, match="is more than the 1000 posterior draws"):
        simulation_based_calibration(model(), design, n_draws=1001)
    prior = Prior(coef={"nothing": 1.0})
    with pytest.raises(ValueError, match="names 'nothing', which is none of"):
        simulation_based_calibration(model(prior=prior), design)


def test_failing_fit_says_which_simulation_it_was(design):
    def draw_prior(rng):
        return {
            "intercept": np.nan,
            "coef": [0.0],
            "noise_scale": 1.0,
            "group_scale": [1.0, 1.0],
            "group_corr": np.eye(2),
        }

    with pytest.raises(ValueError, match="NaN") as caught:
        simulation_based_calibration(model(), design, 2, draw_prior=draw_prior)
    assert "in simulation 0" in caught.value.__notes__[0]
