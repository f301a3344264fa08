"""The Gauss-Hermite rule."""

import numpy as np

__all__ = ["normal_rule"]


def normal_rule(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n,) and weights (n,), of sum 1, whose averages are those of a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / weights.sum()
