"""What rows say of coefficients and effects of few levels, against matrices of all entries."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import block_diag

from skhier.inference.joint_information import LocalCoef, joint_information
from skhier.inference.row_information import information_of_rows, slopes_of_rows
from skhier.kernels.records import Population
from skhier.kernels.rows.models import JointRows
from skhier.responses import Poisson


class _Spec(SimpleNamespace):
    """What is asked of a ModelSpec: intercepts vary, and x by the first factor."""

    def varying_columns(self, k):
        return np.array([0, 1] if k == 0 else [1])


def columns(rows, spec, k):
    """Dense design of a factor, (n_rows, q n_levels)."""
    here = rows.codes[:, [k]] == np.arange(len(rows.present[k]))
    return np.hstack([rows.x[:, [i]] * here for i in spec.varying_columns(k)])


def problem(codes, sizes, x, rng, coef=(0.3, 0.5)):
    """Rows, and where they are looked at."""
    spec = _Spec(factors=[None] * len(sizes), response=Poisson(), noise_by=None)
    rows = JointRows(
        np.column_stack([x, np.ones(len(x))]),
        rng.poisson(2.0, len(x)).astype(float),
        np.ones(len(x)),
        np.zeros(len(x)),
        codes,
        tuple(np.ones(n) for n in sizes),
    )
    shapes = [(len(spec.varying_columns(k)), n) for k, n in enumerate(sizes)]
    roots = [0.5 * np.tril(rng.normal(size=(q, q))) + 0.3 * np.eye(q) for q, _ in shapes]
    effects = [0.2 * rng.normal(size=shape) for shape in shapes]
    everyone = Population(np.array(coef), tuple(roots), {})
    return spec, rows, everyone, effects


def said(spec, rows, everyone, effects, is_few, slopes=None):
    slopes = slopes_of_rows(spec, rows, everyone, effects) if slopes is None else slopes
    levels = information_of_rows(spec, rows, slopes, effects)
    # a slope of 1, and the intercept's parameter counts double
    prior = LocalCoef(np.array([0.3, 0.25]), np.diag([1.0, 2.0]), np.ones(2), np.diag([0.5, 2.0]))
    of_levels = list(zip(everyone.group_root, levels, effects, strict=True))
    return joint_information(spec, rows, slopes, prior, of_levels, is_few), prior, slopes


def dense(spec, rows, everyone, slopes, prior, is_few):
    """Precision of the entries, by the matrix of all, the others integrated out; their design."""
    few = [k for k, here in enumerate(is_few) if here]
    others = [k for k, here in enumerate(is_few) if not here]
    entries = np.hstack([*(columns(rows, spec, k) for k in few), rows.x @ prior.jacobian])
    rest = np.hstack([columns(rows, spec, k) for k in others])
    covariances = [
        np.kron(everyone.group_root[k] @ everyone.group_root[k].T, np.eye(len(rows.present[k])))
        for k in others
    ]
    weight = slopes.curvature[:, None]
    own = rest.T @ (weight * rest) + np.linalg.inv(block_diag(*covariances))
    between = rest.T @ (weight * entries)
    precision = entries.T @ (weight * entries) - between.T @ np.linalg.solve(own, between)
    precision[-2:, -2:] += prior.precision
    return precision, entries


def test_precision_and_pull_are_those_of_the_dense_matrix():
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(20, size=200), rng.integers(3, size=200)])
    spec, rows, everyone, effects = problem(codes, [20, 3], rng.normal(size=200), rng)
    is_few = [False, True]
    joint, prior, slopes = said(spec, rows, everyone, effects, is_few)
    precision, entries = dense(spec, rows, everyone, slopes, prior, is_few)
    assert_allclose(joint.precision, precision, atol=1e-8)
    place = np.concatenate([effects[1].ravel(), prior.values])
    assert_allclose(joint.place, place)
    slope = entries.T @ slopes.score + np.concatenate([np.zeros(3), prior.slope])
    assert_allclose(joint.pull, slope + precision @ place, atol=1e-7)
    first = columns(rows, spec, 0)
    between = first.T @ (slopes.curvature[:, None] * entries)
    assert_allclose(np.swapaxes(joint.coupling[0], 1, 2).reshape(between.shape), between)
    assert joint.coupling[1] is None


@pytest.mark.parametrize("is_few", [[False, False, True], [False, True, True]])
def test_balanced_crossed_factors_widen_independently(is_few):
    """Of a constant curvature, where every level of a factor meets every level of the others."""
    rng = np.random.default_rng(1)
    grid = np.meshgrid(np.arange(6), np.arange(5), np.arange(3), [0, 1], indexing="ij")
    *codes, side = (axis.ravel() for axis in grid)
    spec, rows, everyone, effects = problem(np.column_stack(codes), [6, 5, 3], 2.0 * side - 1, rng)
    slopes = slopes_of_rows(spec, rows, everyone, effects)
    slopes = slopes._replace(curvature=np.full(len(side), 2.0))
    joint, prior, _ = said(spec, rows, everyone, effects, is_few, slopes)
    precision, _ = dense(spec, rows, everyone, slopes, prior, is_few)
    assert_allclose(joint.precision, precision, atol=1e-5 * precision.max())


def test_precision_is_positive_where_rows_leave_entries_open():
    rng = np.random.default_rng(2)
    codes = np.column_stack([np.arange(40) % 10, np.zeros(40, int)])
    spec, rows, everyone, effects = problem(codes, [10, 4], rng.normal(size=40), rng)
    slopes = slopes_of_rows(spec, rows, everyone, effects)
    slopes = slopes._replace(curvature=1e9 * slopes.curvature)
    joint, *_ = said(spec, rows, everyone, effects, [False, True], slopes)
    values = np.linalg.eigvalsh(joint.precision)
    assert (values > -1e-15 * values.max()).all()
