"""Posteriors of several modes through the estimator, against quadrature over dense covariances."""

import warnings
from typing import NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from runs import BY_CHAINS, spending
from scipy import stats as sp
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.inference import engines as _engines
from skhier.statistics.problem import reduce_rows
from skhier.utils.table import read_table
from skhier.utils.training import read_training


class Exact(NamedTuple):
    """By quadrature: the evidence, means and sds of the scales (noise first), number of modes."""

    log_evidence: float
    mean: np.ndarray
    sd: np.ndarray
    n_modes: int


def quadrature(y, columns, effects, priors, grids) -> Exact:
    """The trapezoidal rule over logarithms of scales, y normal with a dense covariance.

    Parameters
    ----------
    y : array of shape (n,)
    columns : array of shape (n, p)
        Times the sds of their coefficients' priors, whose means are 0 but the intercept's, mean(y).
    effects : list of array of shape (n, k)
        Columns that share a scale.
    priors : list of callables
        Log densities of the noise's scale and of the effects'.
    grids : list of arrays
        Of the scales.
    """
    mesh = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(grids))
    grams = np.array([np.eye(len(y)), *(z @ z.T for z in effects)])
    log_density = np.empty(len(mesh))
    for at in np.array_split(np.arange(len(mesh)), len(mesh) // 4000 + 1):
        cov = columns @ columns.T + np.einsum("gk,kij->gij", mesh[at] ** 2, grams)
        root = np.linalg.cholesky(cov)
        white = np.linalg.solve(root, (y - y.mean())[None, :, None])[..., 0]
        log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
        log_density[at] = -0.5 * (white**2).sum(1) - log_det - 0.5 * len(y) * np.log(2 * np.pi)
    for prior, scale in zip(priors, mesh.T, strict=True):
        log_density += prior(scale) + np.log(scale)  # per unit of the logarithm
    total = logsumexp(log_density)
    weights = np.exp(log_density - total)
    mean = weights @ mesh
    sd = np.sqrt(weights @ (mesh - mean) ** 2)
    volume = sum(np.log(np.log(grid[1] / grid[0])) for grid in grids)
    shape = [len(grid) for grid in grids]
    return Exact(total + volume, mean, sd, count_tops(log_density.reshape(shape)))


def count_tops(values):
    """Local maxima of a table, those below a thousandth of the highest left out."""
    inside = np.pad(values, 1, constant_values=-np.inf)
    is_top = values > values.max() - 7
    for axis in range(values.ndim):
        for step in (-1, 1):
            is_top &= values >= np.roll(inside, step, axis)[(slice(1, -1),) * values.ndim]
    return int(is_top.sum())


def half_cauchy(scale):
    return dist.HalfCauchy(scale), sp.halfcauchy(scale=scale).logpdf


def rows(seed, n_groups, n, tau, slope_sd=0.0):
    rng = np.random.default_rng(seed)
    code, x = np.arange(n) % n_groups, rng.normal(size=n)
    y = tau * rng.normal(size=n_groups)[code] + slope_sd * rng.normal(size=n_groups)[code] * x
    return x, code, y + rng.normal(size=n)


def labels(code):
    return [f"g{c}" for c in code]


def default_columns(x, y):
    """Intercept at the mean of x and slope, times the sds of their default priors."""
    sd = y.std(ddof=1)
    return 2.5 * sd * np.column_stack([np.ones(len(y)), (x - x.mean()) / x.std(ddof=1)])


def intercepts(seed, n_groups, n, tau, noise, group):
    """Varying intercepts: a problem, and its posterior by quadrature."""
    x, code, y = rows(seed, n_groups, n, tau)
    z = 1.0 * (code[:, None] == np.arange(n_groups))
    (noise, noise_density), (group, group_density) = noise, group
    grids = [np.exp(np.linspace(-9, 2, 111)), np.exp(np.linspace(-14, 5, 191))]
    columns = default_columns(x, y)
    truth = quadrature(y, columns, [z], [noise_density, group_density], grids)
    X = pd.DataFrame({"x": x, "g": labels(code)})
    model = {"slopes": None, "prior": Prior(noise_scale=noise, group_scale=group)}
    return X, y, "g", model, truth


def exponential(mean):
    return dist.Exponential(1 / mean), sp.expon(scale=mean).logpdf


def lognormal(median, sd):
    return dist.LogNormal(np.log(median), sd), sp.lognorm(sd, scale=median).logpdf


def spike_and_slab(small, large):
    """Two modes of a prior: the logarithm is one of two normals."""
    mixture = dist.MixtureSameFamily(
        dist.Categorical(np.array([0.5, 0.5])),
        dist.LogNormal(np.log(np.array([small, large])), np.array([0.3, 0.3])),
    )
    parts = [sp.lognorm(0.3, scale=size).logpdf for size in (small, large)]
    return mixture, lambda v: np.logaddexp(*(part(v) for part in parts)) - np.log(2)


def slopes_apart(seed):
    """Independent intercepts and slopes, 15 rows in 3 groups, scales that tend to 0."""
    x, code, y = rows(seed, 3, 15, 1.5, 1.0)
    group, density = half_cauchy(0.004)
    z = 1.0 * (code[:, None] == np.arange(3))
    grids = [np.exp(np.linspace(-1.5, 2, 22))] + 2 * [np.exp(np.linspace(-11, 4, 51))]
    noise, noise_density = exponential(y.std(ddof=1))
    truth = quadrature(
        y,
        default_columns(x, y),
        [z, z * x[:, None]],
        [noise_density, density, density],
        grids,
    )
    X = pd.DataFrame({"x": x, "g": labels(code)})
    model = {"correlated": False, "prior": Prior(noise_scale=noise, group_scale=group)}
    return X, y, "g", model, truth


def nested_swap(seed):
    """Cafes in states: the variance is the states' or the cafes'."""
    rng = np.random.default_rng(seed)
    state, cafe = np.repeat(np.arange(4), 6), np.repeat(np.arange(8), 3)
    y = rng.normal(size=4)[state] + 0.6 * rng.normal(size=8)[cafe] + 0.3 * rng.normal(size=24)
    group, density = half_cauchy(0.005)
    noise, noise_density = exponential(y.std(ddof=1))
    z = [1.0 * (code[:, None] == np.unique(code)) for code in (state, cafe)]
    grids = [np.exp(np.linspace(-2.2, 0.5, 24))] + 2 * [np.exp(np.linspace(-11, 4, 51))]
    columns = 2.5 * y.std(ddof=1) * np.ones((24, 1))
    truth = quadrature(y, columns, z, [noise_density, density, density], grids)
    X = pd.DataFrame({"state": labels(state), "cafe": labels(cafe)})
    model = {"prior": Prior(noise_scale=noise, group_scale=group)}
    return X, y, ["state", ("state", "cafe")], model, truth


CASES = {
    "groups or nothing": lambda: intercepts(5, 3, 15, 2.5, exponential(2.0), half_cauchy(0.01)),
    "nothing or groups": lambda: intercepts(3, 3, 15, 4.0, exponential(2.0), half_cauchy(1e-3)),
    "more groups": lambda: intercepts(4, 5, 15, 2.0, exponential(2.0), half_cauchy(0.01)),
    "noise or groups": lambda: intercepts(1, 15, 15, 1.0, half_cauchy(0.01), half_cauchy(0.01)),
    "conflict": lambda: intercepts(2, 15, 15, 1.0, lognormal(0.02, 1.0), lognormal(0.03, 1.0)),
    "conflict of 5": lambda: intercepts(6, 5, 15, 2.0, lognormal(0.1, 0.5), lognormal(0.03, 1.0)),
    "spike and slab": lambda: intercepts(
        5, 3, 15, 1.0, exponential(1.0), spike_and_slab(1e-4, 0.7)
    ),
    "intercepts or slopes": lambda: slopes_apart(5),
    "nested": lambda: nested_swap(7),
}


def scales_of(model):
    """Means, sds and Monte Carlo errors of the scales, noise first."""
    table = model.summary()
    names = ["noise_scale", *(name for name in table.index if name.startswith("group_scale"))]
    return table.loc[names, ["mean", "sd", "mcse"]].to_numpy().T


@pytest.mark.filterwarnings("ignore:Every group has one row")
@pytest.mark.parametrize("name", CASES)
def test_every_mode_has_its_mass(name):
    """Evidence to 0.05 nats; means within 5 Monte Carlo errors and a tenth of an sd."""
    X, y, groups, settings, truth = CASES[name]()
    assert truth.n_modes >= 2
    for seed in range(3):
        model = HierarchicalSlopesRegressor(groups, random_state=seed, **settings).fit(X, y)
        assert model.diagnostics_["sampler"] == "importance"
        assert model.diagnostics_["modes"] >= 2
        assert abs(model.log_evidence_ - truth.log_evidence) < 0.05
        mean, _, error = scales_of(model)
        off = np.abs(mean - truth.mean)
        assert np.all(off < np.minimum(5 * error, 0.1 * truth.sd) + 1e-3 * truth.sd)


def far_origin(sleepstudy):
    """A prior at X = 0 that lets intercepts vary: slopes of nearly one size, or of any."""
    X, y = sleepstudy
    X = X.assign(Days=X["Days"] + 2000)
    prior = Prior(
        group_scale={
            "intercept": dist.Exponential(1 / (1000 * y.std())),
            "Days": dist.Exponential(X["Days"].std() / y.std()),
        }
    )
    return X, y, prior


@pytest.mark.filterwarnings("ignore:The prior of the group effects' scales speaks of")
@pytest.mark.parametrize("seed", range(2))
def test_mode_far_from_the_origin_is_met(seed, sleepstudy):
    """Evidence of either mode from a sampler that stayed in it: -921.3 and -920.66."""
    X, y, prior = far_origin(sleepstudy)
    model = HierarchicalSlopesRegressor("Subject", prior=prior, random_state=seed).fit(X, y)
    assert model.diagnostics_["modes"] == 2
    assert abs(model.log_evidence_ - np.logaddexp(-921.3, -920.66)) < 0.1
    large = np.mean(model.posterior_["group_scale"]["Subject"][..., 1] > 1)
    assert abs(large - 0.66) < 0.05


def test_one_mode_costs_little(sleepstudy_fit):
    """1024 and 4096 points and four Hessians are 5204 evaluations; the search for others, few."""
    assert sleepstudy_fit.diagnostics_["modes"] == 1
    assert sleepstudy_fit.diagnostics_["evaluations"] < 1.06 * 5204


def sampled(X, y, model, start=None, seed=0):
    """What the engine finds, from the modes of a similar problem if there are any."""
    design, training = read_training(read_table(X), y, None, model.groups, model.slopes)
    return model._sample(design, reduce_rows(design, training), seed, start)[-1]


def test_start_of_one_mode_does_not_hide_the_other():
    """The similar problem has a prior that rules the other mode out."""
    X, y, groups, settings, truth = CASES["groups or nothing"]()
    model = HierarchicalSlopesRegressor(groups, **settings)
    for similar in (exponential(3.0)[0], lognormal(1e-3, 0.5)[0]):
        prior = settings["prior"]
        other = HierarchicalSlopesRegressor(
            groups, **(settings | {"prior": Prior(None, None, similar, prior.noise_scale)})
        )
        start = sampled(X, y, other).normal
        assert len(start.means) == 1
        found = sampled(X, y, model, start)
        assert found.facts["modes"] >= 2
        assert abs(found.log_evidence - truth.log_evidence) < 0.05


def test_start_carries_every_mode():
    X, y, groups, settings, truth = CASES["groups or nothing"]()
    model = HierarchicalSlopesRegressor(groups, **settings)
    cold = sampled(X, y, model)
    warm = sampled(X, y, model, cold.normal, seed=1)
    assert warm.facts["modes"] == cold.facts["modes"] == len(cold.normal.means)
    assert warm.facts["evaluations"] < 1.1 * 4096
    assert abs(warm.log_evidence - truth.log_evidence) < 0.05


def test_chains_start_in_every_mode_and_say_so():
    """Where importance sampling is no choice."""
    X, y, groups, settings, _ = CASES["noise or groups"]()  # two modes of about half the mass
    model = HierarchicalSlopesRegressor(groups, n_draws=200, random_state=0, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spending(model, BY_CHAINS).fit(X, y)
    messages = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert any("The posterior has 2 modes" in message for message in messages)
    assert set(messages) <= set(model.diagnostics_["warnings"])
    assert model.diagnostics_["modes"] == 2
    first = model.posterior_["noise_scale"][:, 0]
    assert first.min() < 0.3 < first.max()


def test_each_mode_has_its_chains_and_its_frame():
    means, roots = np.arange(6.0).reshape(3, 2), np.arange(12.0).reshape(3, 2, 2)
    mixture = _engines.Mixture(np.array([0.6, 0.05, 0.35]), means, roots)
    frames = _engines.frames_of(mixture, ("stats",), 4)
    assert [n for n, _ in frames] == [3, 1]
    for (_, (_, mean, root)), k in zip(frames, (0, 2), strict=True):
        np.testing.assert_array_equal(mean, means[k])
        np.testing.assert_array_equal(root, roots[k])
