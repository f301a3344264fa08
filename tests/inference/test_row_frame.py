"""The frame of every parameter of rows: its density is the joint model's, its curvature near 1."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from runs import budget

from skhier import HierarchicalSlopesRegressor
from skhier.inference import runtime
from skhier.inference.prior import PriorSetting
from skhier.inference.quadrature_target import Joint
from skhier.inference.row_engines import engine_rows
from skhier.inference.row_frame import find_frame
from skhier.inference.row_frame_target import value_and_slope
from skhier.inference.row_target import ROWS
from skhier.inference.statement import model_spec, numbers_of_model, stated_problem
from skhier.kernels.rows.models import JointRows
from skhier.responses import Bernoulli, Poisson
from skhier.responses.by_level import StudentTByLevel
from skhier.statistics.problem import reduce_rows
from skhier.utils.budget import USUAL
from skhier.utils.table import read_table
from skhier.utils.training import read_training

GROUPS = ["a", "b"]


@pytest.fixture(autouse=True)
def in_float64():
    with runtime.precisely_on(None):
        yield


def table(seed=0, n=160):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {"x": rng.normal(size=n), "a": np.arange(n) % 12, "b": rng.integers(5, size=n)}
    )
    line = 0.5 + 0.4 * X["x"] + rng.normal(size=12)[X["a"]] + 0.5 * rng.normal(size=5)[X["b"]]
    return X, line.to_numpy(), rng


def stated(response, X, y, noise_by=None, noncentered=True, slopes=("x",), fixed=None):
    """What the engine is given: spec, rows and model."""
    design, training = read_training(read_table(X), y, None, GROUPS, list(slopes))
    problem = stated_problem(reduce_rows(design, training), response, "default", training)
    one = HierarchicalSlopesRegressor(GROUPS)
    choice = PriorSetting.of(one, problem.scales, design, response, 0).resolve()
    spec = model_spec(problem, choice, response, True, noncentered, noise_by=noise_by)
    x, codes, y, weights, offset = engine_rows(problem.units, training)
    present = tuple((f.zz[-1, -1] > 0).astype(float) for f in problem.stats.factors)
    rows = JointRows(x, y, weights, offset, codes.astype(np.int32), present)
    model = numbers_of_model(problem.units, choice, 2.0, fixed or {})
    return SimpleNamespace(spec=spec, rows=rows, model=model)


def counts(**how):
    X, line, rng = table()
    return stated(Poisson(), X, rng.poisson(np.exp(line)).astype(float), **how)


def heavy_tails(**how):
    X, line, rng = table()
    y = line + np.exp(0.5 * rng.normal(size=5))[X["b"]] * rng.standard_t(4, size=len(X))
    return stated(StudentTByLevel(4.0), X, y, noise_by=1, fixed={"df": 4.0}, **how)


# two effects a level; levels with noises of their own
LONGER = [pytest.param(case, "x", 32, marks=pytest.mark.slow) for case in (counts, heavy_tails)]
# so many coefficients and effects move together: those of one factor, of all, of none
TOGETHER = [
    (counts, (), 8),
    *(pytest.param(counts, (), most, marks=pytest.mark.slow) for most in (32, 0)),
]


def centered_position(target, data, position):
    """What the centered joint model's sites are there."""
    theta, *_ = target.natural(data, position)
    everyone, effects, deviations = target.record(data, position)
    varying = jnp.array([*target.spec.factors[0].slopes, target.spec.n_features])
    first, *others = effects
    moved = (first + everyone.coef[varying][:, None]).ravel()
    noises = [] if target.spec.noise_by is None else [deviations]
    return jnp.concatenate([theta, moved, *(b.ravel() for b in others), *noises])


@pytest.mark.parametrize(("case", "slopes", "most"), [*TOGETHER, *LONGER])
def test_density_is_that_of_the_centered_joint_model(case, slopes, most):
    """With the volume of the map by its Jacobian, at random points; that of root is a constant."""
    problem = case(noncentered=False, slopes=slopes)
    spending = budget(most_together=most)
    framing = find_frame(problem.spec, problem.rows, problem.model, spending)
    of_root = np.linalg.slogdet(framing.data[2].root)[1]
    joint, data = Joint(ROWS, problem.spec), (problem.rows, *problem.model)

    def of_both(position):
        of_frame = partial(centered_position, framing.target, framing.data)
        log_volume = jnp.linalg.slogdet(jax.jacobian(of_frame)(position))[1]
        density = joint.log_density(data, of_frame(position)) + log_volume
        return framing.target.log_density(framing.data, position) + of_root, density

    points = 0.5 * np.random.default_rng(0).normal(size=(4, framing.size))
    ours, theirs = np.array([jax.jit(of_both)(point) for point in points]).T
    assert_allclose(ours, theirs, rtol=1e-10)


def curvature(framing):
    """Gradient, and eigenvalues of minus the Hessian, at the frame's origin."""
    density = partial(framing.target.log_density, framing.data)
    origin = np.zeros(framing.size)
    slope, hessian = jax.jit(lambda at: (jax.grad(density)(at), jax.hessian(density)(at)))(origin)
    return slope, np.linalg.eigvalsh(-hessian)


@pytest.mark.parametrize(("case", "slopes", "most"), [*TOGETHER, *LONGER])
def test_origin_is_next_to_a_mode_and_of_curvature_one(case, slopes, most):
    problem = case(slopes=slopes)
    spending = budget(most_together=most)
    framing = find_frame(problem.spec, problem.rows, problem.model, spending)
    slope, values = curvature(framing)
    assert np.abs(slope).max() < 0.2  # sds
    # of heavy tails negative curvatures count as 0, and the levels' own are less than 1
    assert_allclose(values, 1.0, atol=0.5 if case is heavy_tails else 1e-3)


@pytest.mark.slow
def test_levels_of_several_large_factors_count_as_independent_of_each_other():
    problem = counts()
    framing = find_frame(problem.spec, problem.rows, problem.model, budget(most_dense=0))
    assert framing.target.is_dense == (False, False)
    assert framing.target.is_few == (False, False)
    slope, values = curvature(framing)
    assert np.abs(slope).max() < 0.2
    # what both factors' averages share is left to the prior: wide, and no other direction is
    assert values.min() > 0
    assert (values > 0.3).sum() >= len(values) - 2 * problem.spec.factors[0].n_effects
    assert values.max() < 10


def test_factors_of_few_levels_are_those_that_fit_with_the_coefficients():
    problem = counts(slopes=())
    for most, is_few in ((18, (False, True)), (19, (True, True)), (6, (False, False))):
        spending = budget(most_together=most, most_frames=1)
        framing = find_frame(problem.spec, problem.rows, problem.model, spending)
        assert framing.target.is_few == is_few
        assert framing.target.is_dense == (is_few[0], True)


def test_separated_levels_have_a_frame():
    X, _, rng = table()
    y = np.where(X["a"] < 3, 1.0, np.where(X["a"] < 5, 0.0, rng.integers(2, size=len(X))))
    problem = stated(Bernoulli(), X, y, slopes=())
    framing = find_frame(problem.spec, problem.rows, problem.model, USUAL)
    value, slope, _ = value_and_slope(np.zeros(framing.size), framing.data, framing.target)
    assert np.isfinite(value)
    assert np.abs(slope).max() < 0.2


@pytest.mark.slow
def test_counts_of_a_million_have_a_frame():
    X, line, rng = table()
    problem = stated(Poisson(), X, rng.poisson(np.exp(13 + line)).astype(float), slopes=())
    framing = find_frame(problem.spec, problem.rows, problem.model, USUAL)
    slope, values = curvature(framing)
    assert np.abs(slope).max() < 0.2
    assert_allclose(values, 1.0, atol=0.05)


def test_another_search_of_the_same_shapes_compiles_nothing():
    first = counts(slopes=())
    X, line, rng = table(seed=1)
    other = stated(Poisson(), X, rng.poisson(np.exp(line)).astype(float), slopes=())
    find_frame(first.spec, first.rows, first.model, USUAL)
    before = value_and_slope._cache_size()
    find_frame(other.spec, other.rows, other.model, USUAL)
    assert value_and_slope._cache_size() == before


def test_density_that_is_nowhere_finite_has_no_frame():
    problem = counts(slopes=())
    nowhere = problem.rows._replace(offset=np.full_like(problem.rows.y, np.nan))
    assert find_frame(problem.spec, nowhere, problem.model, USUAL) is None
