"""Predictions of a few components of theta against those of all, and against long draws."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from runs import budget
from scipy.special import ndtr

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical
from skhier.kernels.normal.conditional import condition, draw_others, sigma_of
from skhier.posterior.designs import OUT
from skhier.posterior.lines import Lines
from skhier.posterior.mixture import mixture_moments, mixture_quantiles
from skhier.posterior.predictive import quantiles

Q = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
CLOSE = 0.02  # sds
N_LONG = 100_000


@pytest.fixture(scope="module")
def two_groups_fit():
    """Of two levels: their scale may be nearly anything."""
    sim = make_hierarchical(40, 1, groups=2, group_scale=1.0, noise_scale=1.0, random_state=0)
    return HierarchicalSlopesRegressor(sim.groups, random_state=0).fit(sim.data, sim.target)


@pytest.fixture(scope="module")
def three_groups_fit():
    """Hardly more rows than levels and effects."""
    sim = make_hierarchical(12, 1, groups=3, group_scale=0.3, noise_scale=1.0, random_state=3)
    return HierarchicalSlopesRegressor(sim.groups, random_state=0).fit(sim.data, sim.target)


@pytest.fixture(scope="module")
def ungrouped_fit():
    sim = make_hierarchical(30, 2, groups=3, random_state=0)
    X = sim.data[["x0", "x1"]]
    return HierarchicalSlopesRegressor(random_state=0).fit(X, sim.target)


def rated(n_rows, n_students, n_lecturers, n_departments, seed=0):
    """Ratings by students of lecturers, few of whom are rated often, mostly in departments of their
    own (InstEval's shape), and the default fit.
    """
    rng = np.random.default_rng(seed)
    home = rng.integers(n_departments, size=n_lecturers)
    lecturer = rng.choice(n_lecturers, n_rows, p=rng.dirichlet(np.full(n_lecturers, 0.8)))
    lecturer[:n_lecturers] = np.arange(n_lecturers)
    elsewhere = rng.random(n_rows) < 0.1
    codes = {
        "student": np.append(np.arange(n_students), rng.integers(n_students, size=n_rows))[:n_rows],
        "lecturer": lecturer,
        "department": np.where(elsewhere, rng.integers(n_departments, size=n_rows), home[lecturer]),
    }
    X = pd.DataFrame({"x": rng.standard_normal(n_rows), **codes})
    y = 3.2 + 0.1 * X.x + 1.2 * rng.standard_normal(n_rows)
    for name, sd in (("student", 0.3), ("lecturer", 0.5), ("department", 0.1)):
        y = y + sd * rng.standard_normal(X[name].max() + 1)[X[name]]
    return HierarchicalSlopesRegressor(dict.fromkeys(codes), random_state=0).fit(X, y), X, y


@pytest.fixture(scope="module")
def three_factors_fit():
    """Of few departments: lines in new ones have heavy tails."""
    return rated(300, 20, 12, 4, seed=5)[0]


FITS = [
    "sleepstudy_fit",
    "two_groups_fit",
    "three_groups_fit",
    "crossed_fit",
    "nested_fit",
    "ungrouped_fit",
]


@pytest.fixture
def case(request):
    """A fit, and rows in the user's units of known, new and absent levels."""
    model = request.getfixturevalue(request.param)
    posterior, rng = model._fitted.posterior, np.random.default_rng(11)
    n, units = 120, posterior.units
    p = len(units.x_mean)
    spread = np.sqrt(np.diagonal(posterior.stats.xx)[:p] / posterior.stats.n)
    x = units.x_mean + units.x_scale * spread * 1.3 * rng.standard_normal((n, p))
    codes = np.zeros((n, len(posterior.n_levels)), int)
    for k, n_levels in enumerate(posterior.n_levels):
        codes[:, k] = rng.integers(n_levels, size=n)
        kind = rng.random(n)
        codes[kind < 0.4, k] = n_levels + 1  # a level that fit never saw
        codes[kind < 0.2, k] = OUT
    return SimpleNamespace(model=model, posterior=posterior, x=x, codes=codes)


def of_all_components(case, kind):
    """Means and sds of all the fit's components at the rows, in units of y, and their weights."""
    posterior, components = case.posterior, case.model._fitted.components
    everything = copy.copy(posterior)
    everything.__dict__ |= {"rule": components, "lines": Lines(posterior.layout, components)}
    mean, sd = np.empty((2, len(components.weights), len(case.x)))
    mixture = everything.line_mixture if kind == "mean" else everything.response_mixture
    for rows, *moments in mixture(case.x, case.codes):
        mean[:, rows], sd[:, rows] = moments
    return mean, sd, components.weights


@pytest.mark.parametrize("kind", ["mean", "response"])
@pytest.mark.parametrize("case", [*FITS, "three_factors_fit"], indirect=True)
def test_few_components_have_the_quantiles_of_all(case, kind):
    mean, sd, weights = of_all_components(case, kind)
    spread = np.sqrt(mixture_moments(mean, sd, weights)[1])[:, None]
    expected = mixture_quantiles(mean, sd, Q, weights)
    found = quantiles(case.posterior, case.x, case.codes, Q, kind)
    assert np.abs((found - expected) / spread).max() < CLOSE
    n = len(case.posterior.rule.weights)
    assert n <= 257
    assert_allclose(case.posterior.rule.weights.sum(), 1, rtol=1e-12)


def test_tails_of_lines_are_those_of_all_components(three_factors_fit):
    """1% and 99% of lines in few departments, whose scale may be large: 65 components may be off by
    more than the rows say that tell their error, so that 124 are asked for before CLOSE is near.
    """
    posterior, rng = three_factors_fit._fitted.posterior, np.random.default_rng(11)
    x = 1.3 * rng.standard_normal((300, 1))
    codes = np.stack([rng.integers(n_levels, size=300) for n_levels in posterior.n_levels], 1)
    codes = np.where(rng.random(codes.shape) < 0.3, 100, codes)
    case = SimpleNamespace(model=three_factors_fit, posterior=posterior, x=x, codes=codes)
    mean, sd, weights = of_all_components(case, "mean")
    spread = np.sqrt(mixture_moments(mean, sd, weights)[1])[:, None]
    expected = mixture_quantiles(mean, sd, Q, weights)
    found = quantiles(posterior, x, codes, Q, "mean")
    assert np.abs((found - expected) / spread).max() < CLOSE / 2


@pytest.mark.parametrize("case", FITS, indirect=True)
def test_few_components_have_the_variance_of_all(case):
    mean, sd, weights = of_all_components(case, "mean")
    expected = np.sqrt(mixture_moments(mean, sd, weights)[1])
    few = np.empty(len(case.x))
    for rows, *moments in case.posterior.line_mixture(case.x, case.codes):
        few[rows] = mixture_moments(*moments, case.posterior.rule.weights)[1]
    assert_allclose(np.sqrt(few), expected, rtol=CLOSE)


def long_draws(case):
    """Means and sds (N_LONG, n) of the line given draws of all but the leaf's effects."""
    posterior, c = case.posterior, case.model._fitted.components
    rng = np.random.default_rng(5)
    which = rng.choice(len(c.weights), N_LONG, p=c.weights)
    roots = np.linalg.cholesky(c.coef_cov + 1e-14 * np.eye(c.coef.shape[1]))
    beta = c.coef[which]
    beta += np.einsum("sij,sj->si", roots[which], rng.standard_normal(beta.shape))
    draws = c.population.take(which)._replace(coef=beta)
    x, zs, _ = posterior.internal(case.x, np.zeros(len(case.x)))
    mean, variance = beta @ x.T, np.zeros((N_LONG, len(x)))
    if not zs:
        return mean, np.sqrt(variance), draws
    leaf, layout = posterior.plan.chain[0], posterior.layout
    shapes = {k: f.zy.shape for k, f in enumerate(layout.stats.factors) if k != leaf}
    noise = {k: rng.standard_normal((q, N_LONG, n)) for k, (q, n) in shapes.items()}
    others = draw_others(layout, draws, noise) if noise else {}
    for k, z in enumerate(zs):
        for i in np.flatnonzero(case.codes[:, k] != OUT):
            level = min(case.codes[i, k], posterior.n_levels[k])
            if k == leaf:
                given = condition(layout, draws, np.array([level]), others)
                mean[:, i] += z[i] @ given.mean[..., 0]
                spread = np.einsum("a,abs->bs", z[i], given.root[..., 0])
                variance[:, i] += (spread**2).sum(0)
            elif level == posterior.n_levels[k]:
                variance[:, i] += ((draws.group_root[k].swapaxes(1, 2) @ z[i]) ** 2).sum(1)
            else:
                mean[:, i] += z[i] @ others[k][..., level]
    return mean, np.sqrt(variance), draws


@pytest.mark.slow
@pytest.mark.parametrize("case", [*FITS, "three_factors_fit"], indirect=True)
def test_quantiles_are_those_of_long_draws(case):
    case.x, case.codes = case.x[:40], case.codes[:40]
    mean, sd, draws = long_draws(case)
    units = case.posterior.units
    for kind, noise in (("mean", 0.0), ("response", sigma_of(draws)[:, None])):
        found = quantiles(case.posterior, case.x, case.codes, Q, kind)
        at = (found - units.y_mean) / units.y_scale
        spread = np.sqrt(mean.var(0) + (sd**2).mean(0) + np.mean(noise**2))
        total = np.hypot(sd, noise) + 1e-9 * spread
        for j, level in enumerate(Q):
            z = (at[:, j] - mean) / total
            below = ndtr(z)
            # of all draws together, a quantile that is off by CLOSE sds
            moved = (
                ndtr(z + CLOSE * spread / total).mean(0),
                ndtr(z - CLOSE * spread / total).mean(0),
            )
            error = 5 * below.std(0) / np.sqrt(N_LONG)
            assert np.all(moved[0] > level - error), (kind, level)
            assert np.all(moved[1] < level + error), (kind, level)


@pytest.mark.slow
def test_quantiles_of_many_crossed_levels_are_those_of_the_rows():
    """Students, lecturers and departments: what endlessly many draws of all components have."""
    sizes = np.array([400, 150, 14])
    model, X, y = rated(10_000, *sizes)
    rng = np.random.default_rng(1)
    codes = X.iloc[rng.integers(len(X), size=200), 1:].to_numpy()
    codes = np.where(rng.random(codes.shape) < 0.3, sizes + 1, codes)
    x = 1.3 * rng.standard_normal((200, 1))
    mean, sd = moments_from_rows(model, X, y, x, codes)
    components, scale = model._fitted.components, model._fitted.posterior.units.y_scale
    sigma = scale * components.population.own["noise_scale"][:, None]
    for kind, own in (("mean", 0.0), ("response", sigma)):
        found = quantiles(model._fitted.posterior, x, codes, Q, kind)
        expected = mixture_quantiles(mean, np.hypot(sd, own), Q, components.weights)
        spread = mixture_moments(mean, np.hypot(sd, own), components.weights)[1] ** 0.5
        assert np.abs((found - expected) / spread[:, None]).max() < CLOSE


def moments_from_rows(model, X, y, x, codes):
    """Mean and sd (S, n) of the line given each component: the intercepts' joint normal, dense."""
    c, u = model._fitted.components, model._fitted.posterior.units
    rows, at = (
        np.column_stack([(a - u.x_mean) / u.x_scale, np.ones(len(a))]) for a in (X[["x"]], x)
    )
    sizes = X.iloc[:, 1:].max().to_numpy() + 1
    z = np.column_stack([np.eye(size)[X.iloc[:, 1 + k]] for k, size in enumerate(sizes)])
    zz, zd = z.T @ z, z.T @ np.column_stack([rows, (y - u.y_mean) / u.y_scale])
    known = codes < sizes
    of_levels = np.zeros((len(x), sizes.sum()))
    places = np.minimum(codes, sizes - 1) + np.cumsum(sizes) - sizes
    of_levels[np.arange(len(x))[:, None], places] = known
    mean, sd = np.empty((2, len(c.weights), len(x)))
    for i, sigma in enumerate(c.population.own["noise_scale"]):
        tau = np.array([root[i, 0, 0] for root in c.group_root])
        precision = zz / sigma**2 + np.diag(np.repeat(tau**-2, sizes))
        solved = np.linalg.solve(precision, np.column_stack([zd / sigma**2, of_levels.T]))
        of_coef = at - of_levels @ solved[:, :2]
        mean[i] = of_coef @ c.coef[i] + of_levels @ solved[:, 2]
        variance = np.einsum("nl,ln->n", of_levels, solved[:, 3:]) + ~known @ tau**2
        variance += np.einsum("np,pr,nr->n", of_coef, c.coef_cov[i], of_coef)
        sd[i] = np.sqrt(variance)
    return u.y_mean + u.y_scale * mean, u.y_scale * sd


@pytest.mark.parametrize("case", ["sleepstudy_fit", "crossed_fit", "nested_fit"], indirect=True)
@pytest.mark.parametrize("kind", ["mean", "response"])
def test_a_row_has_the_same_bits_in_any_company(case, kind):
    together = quantiles(case.posterior, case.x, case.codes, Q, kind)
    order = np.random.default_rng(0).permutation(len(case.x))
    other = quantiles(case.posterior, case.x[order], case.codes[order], Q, kind)
    assert_array_equal(other, together[order])
    for i in range(0, len(case.x), 17):
        alone = quantiles(case.posterior, case.x[[i]], case.codes[[i]], Q, kind)
        assert_array_equal(alone[0], together[i])


def spent(posterior, budget, *made):
    """A copy that spends another budget on lines, and makes these anew."""
    twin = copy.copy(posterior)
    left_out = ("lines", *made)
    twin.__dict__ = {k: v for k, v in vars(posterior).items() if k not in left_out}
    twin.budget = budget
    return twin


@pytest.mark.parametrize("case", ["sleepstudy_fit", "crossed_fit", "nested_fit"], indirect=True)
def test_slices_change_no_bit(case):
    together = quantiles(case.posterior, case.x, case.codes, Q, "mean")
    in_slices = spent(case.posterior, budget(line_entries=2000, level_entries=2000))
    assert_array_equal(quantiles(in_slices, case.x, case.codes, Q, "mean"), together)


@pytest.mark.parametrize("case", ["crossed_fit", "nested_fit"], indirect=True)
@pytest.mark.parametrize("kept", [2**26, 0])
def test_blocks_of_rows_give_the_same(case, kept):
    expected = quantiles(case.posterior, case.x, case.codes, Q, "mean")
    in_blocks = spent(case.posterior, budget(kept=4000, kept_apart=kept, level_entries=4000))
    found = quantiles(in_blocks, case.x, case.codes, Q, "mean")
    assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", FITS, indirect=True)
def test_copies_predict_with_the_same_components(case):
    twin = pickle.loads(pickle.dumps(case.posterior))
    assert_array_equal(twin.rule.weights, case.posterior.rule.weights)
    assert_array_equal(twin.rule.coef, case.posterior.rule.coef)
    found, expected = (quantiles(p, case.x, case.codes, Q, "mean") for p in (twin, case.posterior))
    assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_draws_are_the_road_where_they_are_all_there_is(people, short_run):
    X, y = people
    model = short_run(inference="nuts").fit(X, y)
    posterior = model._fitted.posterior
    n = posterior.n_draws
    assert len(posterior.rule.weights) == n
    x = X[["x"]].to_numpy()[:20]
    codes = np.arange(20)[:, None] % 12  # two of them new
    line = posterior.sample_lines(x, codes, slice(None), None)
    found = quantiles(posterior, x, codes, Q, "mean")
    below = (line[..., None] < found).mean(0)
    # the effects' draws split as the mixture of their conditionals does
    assert np.all(np.abs(below - Q) < 5 * np.sqrt(Q * (1 - Q) / n) + 1 / n)


@pytest.mark.parametrize("case", ["crossed_fit", "nested_fit"], indirect=True)
def test_components_chosen_by_new_levels_have_their_quantiles(case):
    """Where lines of known levels are too much work to ask."""
    expected = of_all_components(case, "mean")
    posterior = spent(case.posterior, budget(work=1), "rule")
    posterior._components = case.model._fitted.components
    found = quantiles(posterior, case.x, case.codes, Q, "mean")
    assert len(posterior.rule.weights) <= posterior.budget.rule.unasked[1]
    of_all = mixture_quantiles(*expected[:2], Q, expected[2])
    spread = np.sqrt(mixture_moments(*expected)[1])[:, None]
    known = (case.codes >= 0) & (case.codes < posterior.n_levels)
    error = np.abs((found - of_all) / spread)[~known.any(1)]
    assert len(error) > 10
    assert error.max() < CLOSE
