"""Bartlett's coordinates, and partial correlations in the same frame: the same posterior where many
effects vary, nearly normal.
"""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import thetas
from numpy.testing import assert_allclose
from scipy.stats import chi, invwishart, norm

from skhier.inference import engines, runtime
from skhier.inference import importance as weights
from skhier.inference.bartlett import bartlett_at
from skhier.inference.importance import importance
from skhier.inference.mode import Laplace
from skhier.inference.reach import reach
from skhier.inference.signs import Signs
from skhier.inference.target import _in_theta
from skhier.kernels.bartlett import PartialsOfFactor, root_at


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


@pytest.fixture(params=["Bartlett", "partials"])
def of_three_effects(request):
    return partial(three_effects, in_partials=request.param == "partials")


def three_effects(n_others=1, seed=0, in_partials=False):
    """Coordinates of 3 effects among other entries, around a mode."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(6 + n_others)
    places = np.zeros((3, 3), int)
    places[np.tril_indices(3)] = order[:6]
    mode = 0.4 * rng.standard_normal(len(order))
    coordinates = bartlett_at(mode, [places])
    return coordinates.in_partials() if in_partials else coordinates, mode, places, rng


def lower_of(points, places):
    """A of each point, entry by entry."""
    a = np.zeros((len(points), 3, 3))
    for i in range(3):
        a[:, i, i] = np.exp(points[:, places[i, i]])
        for j in range(i):
            a[:, i, j] = points[:, places[i, j]]
    return a


def origin_of(mode, places):
    return np.where(np.isin(np.arange(len(mode)), places[np.tril_indices(3)]), 0.0, mode)


def numerical_jacobian(function, point, step=1e-5):
    offsets = step * np.eye(len(point))
    return np.stack([(function(point + o) - function(point - o)) / (2 * step) for o in offsets], 1)


def test_points_are_carried_over_alike_however_many_at_a_time():
    coordinates, mode, _, rng = three_effects()
    points = 0.3 * rng.standard_normal((5, len(mode)))
    by_twos = coordinates._replace(at_once=2)
    assert_allclose(by_twos.to_theta(points), coordinates.to_theta(points), rtol=1e-14)
    assert_allclose(by_twos.log_volume(points), coordinates.log_volume(points), rtol=1e-14)


def test_theta_has_the_covariance_of_the_root_times_the_inverse():
    coordinates, mode, places, rng = three_effects()
    assert_allclose(coordinates.to_theta(origin_of(mode, places)), mode, atol=1e-12)
    points = 0.3 * rng.standard_normal((5, len(mode)))
    a, theta = lower_of(points, places), coordinates.to_theta(points)
    for i in range(5):
        root = root_at(mode, places) @ np.linalg.inv(a[i])
        assert_allclose(root_at(theta[i], places), root, atol=1e-12)
    others = np.setdiff1d(np.arange(len(mode)), places[np.tril_indices(3)])
    assert_allclose(theta[:, others], points[:, others])


def test_theta_has_the_covariance_of_the_root_times_the_other_root():
    coordinates, mode, places, rng = three_effects(in_partials=True)
    assert_allclose(coordinates.to_theta(origin_of(mode, places)), mode, atol=1e-12)
    for point in 0.3 * rng.standard_normal((5, len(mode))):
        scales = np.exp(point[np.diagonal(places)])
        one, two, three = np.tanh(point[places[np.tril_indices(3, -1)]])
        between = one * two + three * np.sqrt((1 - one**2) * (1 - two**2))  # given the first effect
        corr = np.array([[1, one, two], [one, 1, between], [two, between, 1]])
        start = root_at(mode, places)
        covariance = start @ (corr * np.outer(scales, scales)) @ start.T
        root = root_at(coordinates.to_theta(point), places)
        assert_allclose(root @ root.T, covariance, atol=1e-12)


def test_volume_is_the_determinant_of_the_change(of_three_effects):
    coordinates, mode, _, rng = of_three_effects()
    for point in 0.3 * rng.standard_normal((4, len(mode))):
        jacobian = numerical_jacobian(coordinates.to_theta, point)
        volume = coordinates.log_volume(point[None])[0]
        assert_allclose(volume, np.linalg.slogdet(jacobian)[1], atol=1e-8)


def test_entries_of_an_inverse_wishart_are_independent():
    """Bartlett (1933): normal below the diagonal, chi on it, one degree more with each row."""
    coordinates, mode, places, rng = three_effects()
    lower, df = np.tril_indices(3), 20.0
    start = root_at(mode, places)

    def covariance(point):
        root = root_at(coordinates.to_theta(point), places)
        return root @ root.T

    differences = []
    for point in rng.standard_normal((5, len(mode))) + origin_of(mode, places):
        point[np.diagonal(places)] += 0.5 * np.log(df)  # where chi numbers are
        jacobian = numerical_jacobian(lambda at: covariance(at)[lower], point)
        log_density = invwishart(df, start @ start.T).logpdf(covariance(point))
        log_density += np.linalg.slogdet(jacobian[:, places[lower]])[1]
        a = lower_of(point[None], places)[0]
        of_chi = sum(chi(df - 2 + i).logpdf(a[i, i]) + np.log(a[i, i]) for i in range(3))
        differences.append(log_density - of_chi - norm.logpdf(a[np.tril_indices(3, -1)]).sum())
    assert_allclose(differences, 0, atol=1e-6)


@pytest.fixture
def with_signs(of_three_effects):
    """The same, and a signed scale of another factor with what changes sign with it."""
    coordinates, mode, places, rng = of_three_effects(n_others=3)
    others = np.setdiff1d(np.arange(len(mode)), places[np.tril_indices(3)])
    signed, flips = np.zeros(len(mode), bool), np.zeros((len(mode), len(mode)))
    signed[others[0]] = True
    flips[others[:2], others[0]] = 1
    points = 0.4 * rng.standard_normal((4, len(mode)))
    return coordinates._replace(signs=Signs(signed, flips)), points


def test_gradients_are_differences_of_the_density(with_signs):
    coordinates, points = with_signs
    rates = np.linspace(0.5, 1.5, points.shape[1])

    def of_theta(theta):
        return np.sin(theta * rates).sum(1) + theta[:, 0] * theta[:, -1]

    def gradients(theta):
        slopes = rates * np.cos(theta * rates)
        slopes[:, 0] += theta[:, -1]
        slopes[:, -1] += theta[:, 0]
        return of_theta(theta), slopes

    values, slopes = coordinates.gradients(gradients)(points)
    density = coordinates.density(of_theta)
    assert_allclose(values, density(points), rtol=1e-12)
    step = 1e-5 * np.eye(points.shape[1])
    for point, slope in zip(points, slopes, strict=True):
        differences = (density(point + step) - density(point - step)) / 2e-5
        assert_allclose(slope, differences, rtol=1e-6, atol=1e-7)


def test_chains_see_theta_and_volume_of_the_points(with_signs):
    coordinates, points = with_signs
    theta, volume = coordinates.to_theta(points), coordinates.log_volume(points)
    for i, point in enumerate(points):
        at, log_volume = _in_theta(jnp.asarray(point), coordinates)
        assert_allclose(at, theta[i], rtol=1e-10, atol=1e-12)
        assert_allclose(log_volume, volume[i], rtol=1e-10)


def test_normal_approximations_carry_over_with_their_curvature(of_three_effects):
    # a density that is normal in theta: what comes out is its curvature where it is highest
    coordinates, mode, places, rng = of_three_effects()
    d = len(mode)
    root = 0.05 * np.linalg.qr(rng.normal(size=(d, d)))[0]
    precision = np.linalg.inv(root @ root.T)

    def log_density(point):
        off = coordinates.to_theta(point) - mode
        return coordinates.log_volume(point[None])[0] - 0.5 * off @ precision @ off

    normal = coordinates.from_theta(Laplace(mode, root))
    origin = origin_of(mode, places)
    step = 1e-3
    slope = numerical_jacobian(lambda x: np.atleast_1d(log_density(x)), origin, step)[0]
    hessian = numerical_jacobian(
        lambda x: numerical_jacobian(lambda z: np.atleast_1d(log_density(z)), x, step)[0],
        origin,
        step,
    )
    assert_allclose(np.linalg.inv(normal.root @ normal.root.T), -hessian, rtol=1e-3, atol=0.3)
    assert_allclose(normal.mean - origin, -np.linalg.solve(hessian, slope), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_features": 1},
        # of the second factor the slope may not vary
        pytest.param({"n_features": 1, "n_factors": 2}, marks=pytest.mark.slow),
        pytest.param({"n_features": 3}, marks=pytest.mark.slow),
    ],
    ids=["two effects", "two factors", "four effects"],
)
def test_both_coordinates_have_the_same_posterior(settings, monkeypatch):
    """What rounds in theta itself find is the oracle."""
    X, y = thetas.table(**settings, n=400, n_groups=30, slope_sd=0.8)
    theta = thetas.theta_of(monkeypatch, X, y)
    rng = np.random.default_rng(0)
    modes = engines._search(theta, 2**12, rng)
    plain = importance(theta.log_densities, modes, 2**14, rng)
    theta.budget = replace(theta.budget, importance=replace(theta.budget.importance, plain_size=0))
    reached = reach(theta, modes, 2**13, 400.0, rng)
    own = reached.weighted
    assert len(reached.coordinates.factors) == 1
    assert (reached.coordinates.signs is not None) == ("n_factors" in settings)
    assert own.k_hat < 0.5
    assert own.ess > 1000
    assert abs(own.log_evidence - plain.log_evidence) < 0.05
    for power in (1, 2):
        thetas.assert_means_agree(own, plain, lambda points, k=power: points**k)


@pytest.mark.slow
@pytest.mark.parametrize("n_features", [1, 3], ids=["two effects", "four effects"])
def test_partial_correlations_are_tried_where_weights_fail(n_features, monkeypatch):
    """Levels of four rows; rounds in theta itself are the oracle."""
    X, y = thetas.table(n_features, n=200, n_groups=50, slope_sd=0.8)
    theta = thetas.theta_of(monkeypatch, X, y)
    rng = np.random.default_rng(0)
    modes = engines._search(theta, 2**12, rng)
    plain = importance(theta.log_densities, modes, 2**14, rng)
    own = replace(theta.budget.importance, plain_size=0, more_points=16)
    theta.budget = replace(theta.budget, importance=own)
    trusted = weights.trustworthy
    in_bartletts = iter([False])
    monkeypatch.setattr(
        weights, "trustworthy", lambda *args: next(in_bartletts, True) and trusted(*args)
    )
    reached = reach(theta, modes, 2**13, 400.0, rng)
    assert [type(factor) for factor in reached.coordinates.factors] == [PartialsOfFactor]
    assert reached.weighted.ess > 400
    assert abs(reached.weighted.log_evidence - plain.log_evidence) < 0.05
    for power in (1, 2):
        thetas.assert_means_agree(reached.weighted, plain, lambda points, k=power: points**k)


def test_what_was_evaluated_in_parts_is_not_evaluated_again(monkeypatch):
    theta = thetas.theta_of(monkeypatch, *thetas.table(1))
    points = 0.1 * np.random.default_rng(0).standard_normal((150, theta.size))
    expected = [given for _, given in theta.conditionals(points)]
    theta.log_densities(points[:100])
    theta.log_densities(points[100:])
    monkeypatch.setattr(theta, "_evaluate", None)
    parts = list(theta.conditionals(points))
    assert [(rows.start, rows.stop) for rows, _ in parts] == [(0, 64), (64, 100), (100, 150)]
    coef = np.concatenate([given.population.coef for _, given in parts])
    assert_allclose(coef, np.concatenate([given.population.coef for given in expected]))
