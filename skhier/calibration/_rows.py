"""The rows of every simulation: the regression at them, and their log likelihood.

Written from the model's definition, in the user's units; shares nothing with the package's kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from skhier.inference.prior import PriorSetting
from skhier.responses.base import Response
from skhier.utils.design import Rows

__all__ = [
    "OF_GROUPS",
    "Parameters",
    "SimulatedRows",
    "log_marginal_likelihood",
    "square_root",
]

Parameters = Mapping[str, Any]
OF_GROUPS = ("group_scale", "group_corr")


class FactorRows(NamedTuple):
    """A grouping factor at the rows: levels, and the design (n, q) of its effects."""

    name: str
    codes: np.ndarray
    z: np.ndarray

    @property
    def n_levels(self) -> int:
        """Every level has rows."""
        return int(self.codes.max()) + 1


class SimulatedRows(NamedTuple):
    """The rows of every simulation, in the user's units; effects have the intercept first."""

    x: np.ndarray
    factors: tuple[FactorRows, ...]
    correlated: bool
    response: Response
    side: np.ndarray | None = None
    noise_by: int | None = None

    @classmethod
    def of(cls, setting: PriorSetting, rows: Rows) -> SimulatedRows:
        """The rows with the designs of the group effects."""
        n_features = len(setting.names)
        x, side = rows.x[:, :n_features], rows.x[:, n_features:]
        factors = [
            FactorRows(name, codes, np.column_stack([np.ones(len(x)), *x.T[list(slopes)]]))
            for (name, slopes), codes in zip(setting.factors, rows.codes.T, strict=True)
        ]
        of_rows = side[:, 0] if side.shape[1] else None
        of_setting = setting.correlated, setting.response
        return cls(x, tuple(factors), *of_setting, of_rows, setting.noise_by)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Those that no factor has of its own."""
        return ("intercept", "coef", *self.response.parameters)

    def with_effects(self, parameters: Parameters, rng: np.random.Generator) -> dict[str, Any]:
        """The parameters as arrays, those of groups per factor, and ``group_effects`` (n, q).

        Where levels have a noise of their own also ``group_noise`` (n,), its sds.
        """
        truth: dict[str, Any] = {
            name: np.asarray(parameters[name], float) for name in self.parameters
        }
        for name in OF_GROUPS:
            truth[name] = self._by_factor(parameters.get(name, {}))
        truth["group_effects"] = {}
        for factor in self.factors:
            name = factor.name
            root = truth["group_scale"][name][:, None] * square_root(truth["group_corr"][name])
            noise = rng.standard_normal((factor.n_levels, len(root)))
            truth["group_effects"][name] = noise @ root.T
        if self.noise_by is not None:
            factor = self.factors[self.noise_by]
            deviations = rng.standard_normal(factor.n_levels)
            spread = np.exp(truth["noise_spread"] * deviations)
            truth["group_noise"] = {factor.name: truth["noise_scale"] * spread}
        return truth

    def _by_factor(self, value) -> dict[str, np.ndarray]:
        """Of one factor the array may stand alone."""
        names = [factor.name for factor in self.factors]
        if len(names) == 1 and not isinstance(value, Mapping):
            value = {names[0]: value}
        return {name: np.asarray(value[name], float) for name in names}

    def line(self, parameters: Parameters) -> np.ndarray:
        """The regression at the rows, (..., n_samples), whatever the leading axes."""
        line = parameters["intercept"][..., None] + parameters["coef"] @ self.x.T
        for name, codes, z in self.factors:
            effects = parameters["group_effects"][name][..., codes, :]
            line = line + (effects * z).sum(-1)
        return line if self.side is None else self.response.at_rows(line, {}, self.side)[0]

    def own(self, parameters: Parameters) -> Mapping[str, np.ndarray]:
        """The response's own parameters, (..., 1) each, or each row's own noise."""
        names = self.response.parameters
        own = {name: np.asarray(parameters[name])[..., None] for name in names}
        if self.noise_by is not None:
            factor = self.factors[self.noise_by]
            own["noise_scale"] = parameters["group_noise"][factor.name][..., factor.codes]
        return own if self.side is None else self.response.at_rows(0.0, own, self.side)[1]

    def in_units_of_noise(self) -> SimulatedRows:
        """The effects' designs over the rows' known noise."""
        assert self.side is not None
        noise = self.side[:, None]
        factors = (factor._replace(z=factor.z / noise) for factor in self.factors)
        return self._replace(factors=tuple(factors))

    def log_likelihood(self, parameters: Parameters, y: np.ndarray) -> np.ndarray:
        """Log density of ``y`` (n_samples,) given all parameters, (...,)."""
        return self.response.log_density(y, self.line(parameters), self.own(parameters)).sum(-1)


def log_marginal_likelihood(
    rows: SimulatedRows, parameters: Parameters, y: np.ndarray
) -> np.ndarray:
    """Of the rows given population parameters: ``V = sum over factors of Z Sigma Z' + s I``.

    ``s`` is the variance of y around its line, a conjugate response's. Of one factor ``V`` is made
    of blocks, one a group; else it is factorised as it is.

    Parameters
    ----------
    rows : SimulatedRows
    parameters : mapping
        Draws in the user's units, (n_draws, ...) each; those of groups by factor.
    y : array of shape (n_samples,)

    Returns
    -------
    array of shape (n_draws,)
    """
    residuals = y - parameters["intercept"][:, None] - parameters["coef"] @ rows.x.T
    if rows.side is None:
        variance = rows.response.latent_variance(rows.own(parameters), 0.0)[:, 0]
    else:  # known noise, in units of which all is the same
        rows, residuals = rows.in_units_of_noise(), residuals / rows.side
        variance = np.ones(len(residuals))
    scales, corrs = parameters["group_scale"], parameters["group_corr"]
    roots = [scales[f.name][..., None] * square_root(corrs[f.name]) for f in rows.factors]
    evaluate = _by_groups if len(rows.factors) == 1 else _by_rows
    log_det, quadratic = evaluate(rows, roots, variance, residuals)
    of_units = 0.0 if rows.side is None else np.log(rows.side).sum()
    return -0.5 * (len(y) * np.log(2 * np.pi) + log_det + quadratic) - of_units


def _by_groups(rows, roots, variance, residuals):
    """By ``M_g = s I + L' Z'Z L``: ``|V_g| = s^(n_g - q) |M_g|`` and
    ``r' V_g^-1 r = (r'r - r'Z L M_g^-1 L'Z'r) / s`` (Woodbury).
    """
    (factor,), (root,) = rows.factors, roots
    n, q = factor.z.shape
    member = np.eye(factor.n_levels)[factor.codes]  # (n, G)
    zz = np.einsum("ng,na,nb->gab", member, factor.z, factor.z, optimize=True)
    zr = np.einsum("ng,na,sn->sga", member, factor.z, residuals, optimize=True)
    half = zr @ root
    m = np.einsum("sai,gab,sbj->sgij", root, zz, root, optimize=True)
    m = m + variance[:, None, None, None] * np.eye(q)
    explained = (half * np.linalg.solve(m, half[..., None])[..., 0]).sum((1, 2))
    log_det = (n - factor.n_levels * q) * np.log(variance) + np.linalg.slogdet(m)[1].sum(1)
    return log_det, ((residuals**2).sum(1) - explained) / variance


def _by_rows(rows, roots, variance, residuals):
    """``log |V|`` and ``r' V^-1 r``, (n_draws,) each."""
    log_det, quadratic = np.empty(len(variance)), np.empty(len(variance))
    for s in range(len(variance)):
        v = variance[s] * np.eye(residuals.shape[1])
        for (_, codes, z), root in zip(rows.factors, roots, strict=True):
            half = z @ root[s]
            v += (codes[:, None] == codes) * (half @ half.T)
        log_det[s] = np.linalg.slogdet(v)[1]
        quadratic[s] = residuals[s] @ np.linalg.solve(v, residuals[s])
    return log_det, quadratic


def square_root(corr: np.ndarray) -> np.ndarray:
    """``L`` with ``L L' = corr``, also of matrices that rounding made singular."""
    try:
        return np.linalg.cholesky(corr)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(corr)
        return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
