"""Corrections of levels' moments, against moments that differ by a known map."""

import numpy as np
from numpy.testing import assert_allclose

from skhier.inference.level_moments import corrected, shift_of
from skhier.kernels.rows.quadrature import LevelMoments

Q, N_LEVELS = 2, 3


def moments(rng, n):
    root = rng.normal(size=(n, Q, Q, N_LEVELS)) + 2 * np.eye(Q)[..., None]
    of_levels = rng.normal(size=(n, N_LEVELS))
    mean, skew = rng.normal(size=(n, Q, N_LEVELS)), rng.uniform(0, 0.5, (n, Q, N_LEVELS))
    return LevelMoments(of_levels, mean, root, skew, of_levels, mean)


def covariances(at):
    return np.einsum("sabg,scbg->sgac", at.root, at.root)


def mapped(at, lower, by):
    """Means moved, covariances and their triangular roots multiplied, skewness and densities."""
    return at._replace(
        mean=at.mean + by,
        root=np.einsum("ab,sbcg->sacg", lower, at.root),
        skew=at.skew + np.array([0.1, 0.0])[:, None],
        log_density=at.log_density + 0.3,
    )


def test_what_is_the_same_at_all_points_is_changed_everywhere():
    rng = np.random.default_rng(0)
    lower, by = np.array([[1.2, 0.0], [0.3, 0.8]]), np.array([[0.5], [-0.2]])
    some, every = moments(rng, 4), moments(rng, 7)
    out = corrected(every, some, mapped(some, lower, by))
    wanted = mapped(every, lower, by)
    assert_allclose(covariances(out), covariances(wanted), rtol=1e-6)  # of the nugget
    for name in ("mean", "skew", "log_density"):
        assert_allclose(getattr(out, name), getattr(wanted, name), rtol=1e-10)
    # along the columns of the root effects are as skewed as they were
    assert_allclose(out.root, wanted.root, rtol=1e-6)


def test_shift_is_in_sds():
    coarse = moments(np.random.default_rng(1), 4)
    sd = np.sqrt((coarse.root**2).sum(2))
    moved = coarse._replace(mean=coarse.mean + 0.2 * sd)
    assert_allclose(shift_of(coarse, moved), 0.2)
    assert_allclose(shift_of(coarse, coarse._replace(root=2 * coarse.root)), 0.5)


def test_effects_that_do_not_vary_have_no_shift():
    at = moments(np.random.default_rng(2), 4)
    still = at._replace(root=0 * at.root)
    assert_allclose(shift_of(still, still), 0.0)
    assert np.isfinite(corrected(still, still, still).root).all()
