"""Programs of a size class: what they say of a problem is what its own program says."""

import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import thetas
from numpy.testing import assert_allclose
from programs import compilations
from runs import SHORT, budget, slow, spending

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.inference import engines, runtime
from skhier.inference.importance import Mixture
from skhier.inference.target import Marginal

# few effects as if they were many: short programs
ALONE, OF_CLASS = (budget(unrolled_effects=1, effect_classes=sizes) for sizes in ((), (4,)))


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


STUDENT = dist.StudentT(4.0, np.zeros(2), np.linspace(1.0, 3.0, 2))
HALF_CAUCHY = dist.HalfCauchy(np.linspace(0.5, 2.0, 3))
SOME = {"n_features": 6, "slopes": ["x4"]}
CASES = {
    "default": {},
    "some slopes": SOME,
    "independent": {"correlated": False},
    "bambi": {"prior": "bambi"},
    "nested": {"nested": True},
    "next to no scales": {"prior": Prior(group_scale=dist.HalfNormal(1e-6))},
    "vectors in the user's units": {"prior": Prior(coef=STUDENT, group_scale=HALF_CAUCHY)},
    "an intercept apart": {
        "prior": Prior(intercept=dist.StudentT(3.0, 1.0, 2.0), group_scale={"intercept": 0.5})
    },
}


OTHERS = [name for name in CASES if name != "some slopes"]


def both(monkeypatch, n_features=2, nested=False, **settings):
    """Theta by its own program and by that of its class."""
    X, y = thetas.table(n_features, slope_sd=0.5)
    if nested:
        X["g1"] = X["g0"] // 3
    alone, of_class = (
        thetas.theta_of(monkeypatch, X, y, budget=spent, **settings) for spent in (ALONE, OF_CLASS)
    )
    assert alone.size == alone.placement.program_size
    assert of_class.size == alone.size < of_class.placement.program_size
    return alone, of_class


@pytest.mark.parametrize("name", ["some slopes", *slow(*OTHERS)])
def test_program_of_a_class_says_what_a_problems_own_does(monkeypatch, name):
    alone, of_class = both(monkeypatch, **CASES[name])
    points = 0.7 * np.random.default_rng(0).standard_normal((5, alone.size))
    expected = alone.log_densities(points)
    assert_allclose(of_class.log_densities(points), expected, rtol=1e-10)
    for (_, one), (_, other) in zip(
        of_class.conditionals(points), alone.conditionals(points), strict=True
    ):
        covs = [root @ np.swapaxes(root, 1, 2) for root in (one.coef_root, other.coef_root)]
        assert_allclose(*covs, rtol=1e-8, atol=1e-12)
        parts = one._replace(coef_root=None), other._replace(coef_root=None)
        assert_leaves_close(*parts)


def assert_leaves_close(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_allclose(a, b, rtol=1e-8, atol=1e-10)


LEFT_ALONE = {
    "flat coefficients": {"prior": "brms"},
    "shares of the variance": {"prior": "rstanarm"},
    "coefficients of different kinds": {"prior": Prior(coef={"x0": dist.Laplace(0.0, 1.0)})},
    "a prior of no known kind": {"prior": Prior(coef=dist.Gumbel(np.zeros(2), 1.0))},
    "different slopes": {"groups": {"g0": ["x0"], "g1": ["x1"]}},
    "crossed": {},
    "more than any class has": {"budget": OF_CLASS},
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_spare_effects_would_change_is_left_alone(monkeypatch, name):
    several = name in ("crossed", "different slopes")
    X, y = thetas.table(4 if "budget" in LEFT_ALONE[name] else 2, 1 + several)
    if name == "different slopes":
        X["g1"] = X["g0"] // 3
    settings = {"budget": OF_CLASS} | LEFT_ALONE[name]
    assert thetas.class_data_of(monkeypatch, X, y, **settings)[2] is None


@pytest.mark.parametrize("name", ["some slopes", *slow("default", "an intercept apart")])
def test_everything_but_the_program_is_the_problems_own(monkeypatch, name):
    alone, of_class = both(monkeypatch, **CASES[name])
    assert of_class.priors.sites == alone.priors.sites
    assert_leaves_close(of_class.priors.modes, alone.priors.modes)
    assert_allclose(of_class.steps, alone.steps)
    assert_leaves_close(of_class.units, alone.units)
    assert_allclose(of_class._structured_starts(), alone._structured_starts(), atol=1e-12)
    near_zero = np.arange(alone.size) % 2 == 0
    assert_leaves_close(of_class.signs(near_zero), alone.signs(near_zero))
    mode = 0.3 * np.random.default_rng(1).standard_normal(alone.size)
    nowhere = np.zeros(alone.size, bool)
    assert_leaves_close(of_class.bartlett(mode, nowhere), alone.bartlett(mode, nowhere))
    (basis, _, rows, _), (own_basis, _, own_rows, _) = of_class.coef_prior, alone.coef_prior
    assert_allclose(
        basis @ np.linalg.solve(rows[:, :-1], rows[:, -1]),
        own_basis @ np.linalg.solve(own_rows[:, :-1], own_rows[:, -1]),
        atol=1e-10,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "some slopes"])
def test_gradient_by_the_program_of_a_class_is_the_problems_own(monkeypatch, name):
    alone, of_class = both(monkeypatch, **CASES[name])
    points = 0.7 * np.random.default_rng(0).standard_normal((2, alone.size))
    for one, other in zip(of_class.gradients(points), alone.gradients(points), strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def coordinates_of(theta, kind, mode):
    if kind == "signs":
        return theta.signs(np.arange(theta.size) % 2 == 0)
    bartlett = theta.bartlett(mode, np.zeros(theta.size, bool))
    return bartlett if kind == "Bartlett" else bartlett.in_partials()


KINDS = {"Bartlett": "next to no scales", "signs": "next to no scales", "partials": "default"}


@pytest.mark.parametrize("kind", ["Bartlett", *slow("signs", "partials")])
def test_chains_of_a_class_see_the_problems_density(monkeypatch, kind):
    """In each kind of coordinates, to the constant that their draws are given back without."""
    alone, of_class = both(monkeypatch, **CASES[KINDS[kind]])
    rng, d = np.random.default_rng(2), alone.size
    mode = 0.3 * rng.standard_normal(d)
    coordinates = coordinates_of(alone, kind, mode)
    root = np.eye(d) + 0.05 * rng.standard_normal((d, d))
    modes = Mixture(np.ones(1), 0.1 * mode[None], 0.1 * root[None])
    ((_, frame),) = engines.frames_of(modes, of_class.data, 1, coordinates)
    placement = of_class.placement
    padded = placement.frame(frame)
    target, position = Marginal(of_class.program_spec), rng.standard_normal((d,))
    density = jax.jit(target.log_density)
    there = np.zeros(placement.program_size)
    there[placement.entries] = position
    point = 0.1 * (mode + root @ position)
    expected = coordinates.density(alone.log_densities)(point[None])[0]
    assert_allclose(density(padded, there) - placement.log_spare, expected, rtol=1e-10)
    assert_allclose(target.record(padded, there)[placement.entries], point)
    held = np.setdiff1d(np.arange(placement.program_size), placement.entries)
    assert not target.moving(padded)[held].any()
    assert target.moving(padded).sum() == d
    elsewhere = there + np.isin(np.arange(placement.program_size), held)
    assert density(padded, elsewhere) == density(padded, there)


def test_another_number_of_effects_of_a_class_compiles_nothing(monkeypatch):
    def evaluated(n_features):
        theta = thetas.theta_of(monkeypatch, *thetas.table(n_features), budget=OF_CLASS)
        points = np.zeros((3, theta.size))
        return theta.log_densities(points), theta.starts(np.random.default_rng(0))

    evaluated(1)
    with compilations() as compiled:
        evaluated(2)
    assert compiled == []


@pytest.mark.slow
@pytest.mark.parametrize("by", [{}, {"max_importance_size": 0}], ids=["weights", "chains"])
def test_fit_of_another_number_of_slopes_compiles_nothing(by):
    spent = budget(effect_classes=(6,), **by)

    def fit(n_features):
        X, y = thetas.table(n_features, n=400, slope_sd=0.5)
        model = spending(HierarchicalSlopesRegressor("g0", **SHORT), spent)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # too short to converge
            model.fit(X, y)
        return model.diagnostics_["sampler"]

    expected = "nuts" if by else "importance"
    assert fit(5) == expected  # of fewer the search for a mode may need no gradient
    with compilations() as compiled:
        assert fit(4) == expected
    assert compiled == []


@pytest.mark.slow
@pytest.mark.parametrize("by", [{}, {"max_importance_size": 0}], ids=["weights", "chains"])
def test_fit_by_a_class_is_the_fit(by):
    """Means agree to five Monte Carlo errors and a tenth of an sd, evidences to 0.1 nats."""
    X, y = thetas.table(4, n=400, n_groups=30, slope_sd=0.5)
    fits = []
    for sizes in ((), (8,)):
        model = HierarchicalSlopesRegressor("g0", random_state=1)
        spending(model, budget(effect_classes=sizes, **by)).fit(X, y)
        assert model.diagnostics_["ess_bulk"] > 400
        assert model.diagnostics_["sampler"] == ("nuts" if by else "importance")
        fits.append(model)
    one, other = (model.summary() for model in fits)
    error = np.hypot(one["mcse"], other["mcse"])
    gap = np.abs(one["mean"] - other["mean"])
    assert (gap < 5 * error).all()
    assert (gap < one["sd"] / 10).all()
    assert abs(fits[0].log_evidence_ - fits[1].log_evidence_) < 0.1
