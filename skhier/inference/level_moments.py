"""Moments of levels' effects by few nodes, corrected by what more of them say at a few points."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["corrected", "shift_of"]

ROOT_NUGGET = 1e-12  # of a covariance's trace, so that it has a root


def shift_of(coarse: Any, finer: Any) -> np.ndarray:
    """How far a finer rule moves levels' means, in sds, and sds, as shares of them, (q, G).

    The larger of the two root mean squares over points; both are LevelMoments (n, ...).
    """
    before, after = (np.sqrt((m.root**2).sum(2)) for m in (coarse, finer))
    known = after <= 0
    scale = np.where(known, 1.0, after)
    of_mean = np.where(known, 0.0, finer.mean - coarse.mean) / scale
    of_sd = np.where(known, 0.0, after - before) / scale
    return np.sqrt(np.maximum((of_mean**2).mean(0), (of_sd**2).mean(0)))


def corrected(moments: Any, coarse: Any, finer: Any) -> Any:
    """LevelMoments with the mean difference of two rules at a few points.

    Parameters
    ----------
    moments : LevelMoments
        By the coarser rule, (S, ...).
    coarse, finer : LevelMoments
        By each rule, (n, ...), at the same points.

    Notes
    -----
    Covariances are multiplied by the mean of ``B = L_finer L_coarse^-1`` on either side, L lower
    triangular roots. Of skewnesses that along the first axis changes, where effects are most
    skewed.
    """
    turned = np.mean(_lower(finer.root) @ np.linalg.inv(_lower(coarse.root)), axis=0)
    skew = moments.skew.copy()
    skew[:, 0] += (finer.skew[:, 0] - coarse.skew[:, 0]).mean(0)
    return moments._replace(
        log_density=moments.log_density + (finer.log_density - coarse.log_density).mean(0),
        mean=moments.mean + (finer.mean - coarse.mean).mean(0),
        root=np.einsum("gab,sbcg->sacg", turned, moments.root),
        skew=skew,
        log_exp=moments.log_exp + (finer.log_exp - coarse.log_exp).mean(0),
    )


def _lower(root):
    """Lower triangular roots (n, G, q, q) of covariances, of any roots (n, q, q, G)."""
    root = np.moveaxis(root, -1, 1)
    cov = root @ np.swapaxes(root, -1, -2)
    trace = np.trace(cov, axis1=-2, axis2=-1)[..., None, None]
    return np.linalg.cholesky(cov + (ROOT_NUGGET * trace + 1e-300) * np.eye(cov.shape[-1]))
