"""Links of a probability: log densities in the line, and averages over a normal line.

Both are symmetric: the probability of no event at t is that of an event at -t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from skhier.responses.exponential import ExponentialForm
from skhier.responses.numerics import LOG_2PI, special
from skhier.utils.hermite import normal_rule

__all__ = ["LINKS", "Logit", "Probit"]

_UP_TO = (0.3, 0.6, 1.0, 2.0)  # sds; from the last on the logistic density is the smoother factor
_RULES = (5, 8, 12, 20)  # nodes up to each of them
_RARE = 1e-2  # an average whose errors, which are absolute, its logarithm would show
_TAIL_FROM = 5.0  # from there on the tail's ratio is a continued fraction
_N_TERMS = 30


@dataclass(frozen=True)
class Logit:
    """``p = 1 / (1 + e^-t)``; ``y`` a share of events, of one trial."""

    name: ClassVar[str] = "logit"
    latent_variance: ClassVar[float] = np.pi**2 / 3  # of the logistic distribution

    def p(self, t: Any, xp: Any = np) -> Any:
        """Probability of an event."""
        return special(xp).expit(t)

    def line(self, p: Any) -> Any:
        """The line of a probability."""
        return special(np).logit(p)

    def log_density(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``y log p + (1 - y) log(1 - p)``, with one logarithm: ``y t - log(1 + e^t)``."""
        return y * t - xp.maximum(t, 0.0) - xp.log1p(xp.exp(-xp.abs(t)))

    def score(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``y - p``, of which neither term loses its digits."""
        return y * self.p(-t, xp) - (1 - y) * self.p(t, xp)

    def curvature(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``p (1 - p)``, whatever y."""
        return self.p(t, xp) * self.p(-t, xp) + xp.zeros_like(y * 1.0)

    def third(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``p (1 - p) (1 - 2 p)``, whatever y."""
        return -self.curvature(y, t, xp) * xp.tanh(0.5 * t)

    def exponential_form(self, y: Any, t: Any, xp: Any = np) -> ExponentialForm:
        """``y t - log(1 + e^t)``, and where t is positive ``(y - 1) t - log(1 + e^-t)``."""
        up = t > 0
        return ExponentialForm(y - up, xp.where(up, -1.0, 1.0), 0.0, None, True)

    def average(self, mean: Any, sd: Any) -> np.ndarray:
        """``E[p]`` over a normal line.

        Up to twenty nodes for the line; for a wide one, twenty for the logistic variable that ``p``
        is the distribution function of: ``E[p] = E[Phi((mean - logistic) / sd)]``. Errors are below
        2e-5, largest where sd is 2.
        """
        return self._over_lines(mean, sd, self._p_of_normal, self._p_of_wide)

    def log_average(self, mean: Any, sd: Any) -> np.ndarray:
        """``log E[p]``; of what is rare by twenty nodes of the line, in logarithms."""
        mean, sd = np.broadcast_arrays(np.asarray(mean, float), np.asarray(sd, float))
        p = self.average(mean, sd)
        rare = p < _RARE
        out = np.log(np.where(rare, 1.0, p))
        m, s = mean[rare], sd[rare]
        at_nodes = [
            self.log_density(1.0, m + s * x) + np.log(w) for x, w in _nodes_of_normal(_RULES[-1])
        ]
        out[rare] = special(np).logsumexp(at_nodes, axis=0)
        return out

    def curvature_average(self, mean: Any, sd: Any) -> np.ndarray:
        """``E[p (1 - p)]``, the derivative of ``average`` in the mean; errors as there."""
        return self._over_lines(mean, sd, self._pq_of_normal, self._pq_of_wide)

    def _over_lines(self, mean, sd, of_normal, of_wide):
        """As many nodes as a line's sd needs."""
        mean, sd = np.broadcast_arrays(np.asarray(mean, float), np.asarray(sd, float))
        out = np.empty(mean.shape)
        rule_of = np.searchsorted(_UP_TO, sd, side="right")
        for rule in np.unique(rule_of):
            here = rule_of == rule
            m, s = mean[here], sd[here]
            out[here] = of_wide(m, s) if rule == len(_RULES) else of_normal(m, s, _RULES[rule])
        return out

    def _p_of_normal(self, m, s, n):
        return sum(w * self.p(m + s * x) for x, w in _nodes_of_normal(n))

    def _pq_of_normal(self, m, s, n):
        ps = ((self.p(m + s * x), w) for x, w in _nodes_of_normal(n))
        return sum(w * (p * (1 - p)) for p, w in ps)

    def _p_of_wide(self, m, s):
        return sum(w * special(np).ndtr((m - x) / s) for x, w in _nodes_of_logistic())

    def _pq_of_wide(self, m, s):
        z = (((m - x) / s, w) for x, w in _nodes_of_logistic())
        return sum(w * np.exp(-0.5 * t**2 - 0.5 * LOG_2PI) for t, w in z) / s


@dataclass(frozen=True)
class Probit:
    """``p = Phi(t)``; ``y`` a share of events, of one trial."""

    name: ClassVar[str] = "probit"
    latent_variance: ClassVar[float] = 1.0  # of the normal distribution

    def p(self, t: Any, xp: Any = np) -> Any:
        """Probability of an event."""
        return special(xp).ndtr(t)

    def line(self, p: Any) -> Any:
        """The line of a probability."""
        return special(np).ndtri(p)

    def log_density(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``y log Phi(t) + (1 - y) log Phi(-t)``."""
        return y * _log_ndtr(t, xp) + (1 - y) * _log_ndtr(-t, xp)

    def score(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``y h(t) - (1 - y) h(-t)``, ``h = phi / Phi``."""
        return y * _hazard(t, xp)[0] - (1 - y) * _hazard(-t, xp)[0]

    def curvature(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``y w(t) + (1 - y) w(-t)``, ``w = h (t + h)``."""
        return y * _hazard(t, xp)[1] + (1 - y) * _hazard(-t, xp)[1]

    def third(self, y: Any, t: Any, xp: Any = np) -> Any:
        """``y w'(t) - (1 - y) w'(-t)``."""
        return y * _hazard(t, xp)[2] - (1 - y) * _hazard(-t, xp)[2]

    def exponential_form(self, y: Any, t: Any, xp: Any = np) -> None:
        """None: a normal tail is no function of one exponential of t."""

    def average(self, mean: Any, sd: Any) -> np.ndarray:
        """``E[p]`` over a normal line."""
        return special(np).ndtr(mean / np.sqrt(1 + np.square(np.asarray(sd, float))))

    def log_average(self, mean: Any, sd: Any) -> np.ndarray:
        """``log E[p]`` over a normal line, in the tails too."""
        return _log_ndtr(mean / np.sqrt(1 + np.square(np.asarray(sd, float))), np)

    def curvature_average(self, mean: Any, sd: Any) -> np.ndarray:
        """``E[p (1 - p)]``, by Owen's T function (1956)."""
        variance = np.square(np.asarray(sd, float))
        moved = mean / np.sqrt(1 + variance)
        return 2 * special(np).owens_t(moved, 1 / np.sqrt(1 + 2 * variance))


LINKS: dict[str, Logit | Probit] = {"logit": Logit(), "probit": Probit()}


def _hazard(t, xp):
    """``h = phi(t) / Phi(t)``, minus its slope ``w = h (t + h)``, and the slope of ``w``.

    In the lower tail the definitions are small differences; the fraction has none.
    """
    x, rest, second, third = _fraction(t, xp)
    w_far = 1 - rest * (second - rest)
    slope_far = w_far * rest * second * (second - third)
    near = xp.maximum(t, -_TAIL_FROM)
    h = xp.exp(-0.5 * near**2 - 0.5 * LOG_2PI - special(xp).log_ndtr(1.0 * near))
    w = h * (near + h)
    slope = h * (1 - w) - w * (near + h)
    far = t < -_TAIL_FROM
    return (
        xp.where(far, x + rest, h),
        xp.where(far, w_far, w),
        xp.where(far, slope_far, slope),
    )


def _fraction(t, xp):
    """``x = -t``, not below 5, and parts of a continued fraction of positive terms.

    ``h(t) = x + 1/(x + 2/(x + 3/(x + ...)))`` (Laplace); the parts begin with 1, 2 and 3.
    """
    x = xp.maximum(-t, _TAIL_FROM)
    part = 0.0 * x
    for k in range(_N_TERMS, 3, -1):
        part = k / (x + part)
    third = 3 / (x + part)
    second = 2 / (x + third)
    return x, 1 / (x + second), second, third


def _log_ndtr(t, xp):
    """``log Phi(t)``; in the lower tail, where JAX's series has eight digits, by the fraction."""
    x, rest, *_ = _fraction(t, xp)
    far = -0.5 * x**2 - 0.5 * LOG_2PI - xp.log(x + rest)
    return xp.where(t < -_TAIL_FROM, far, special(xp).log_ndtr(1.0 * xp.maximum(t, -_TAIL_FROM)))


@cache
def _nodes_of_normal(n):
    """Nodes and weights for N(0, 1)."""
    return tuple(zip(*normal_rule(n), strict=True))


@cache
def _nodes_of_logistic():
    """Nodes and weights for the logistic distribution: eigenvalues of its Jacobi matrix.

    Its monic polynomials have ``b_n = pi^2 n^4 / (4 n^2 - 1)`` (Meixner-Pollaczek). Golub & Welsch
    (1969), Math. Comp. 23.
    """
    n = np.arange(1, _RULES[-1])
    beside = np.pi * n**2 / np.sqrt(4.0 * n**2 - 1)
    nodes, vectors = np.linalg.eigh(np.diag(beside, 1) + np.diag(beside, -1))
    return tuple(zip(nodes, vectors[0] ** 2, strict=True))
