"""Simulation-based calibration: is the posterior that fit returns the posterior of the model?

Parameters drawn from the prior, data simulated from them and a posterior fitted to the data: the
rank of the true value among independent posterior draws is uniform if, and for enough quantities
only if, prior, likelihood and sampler agree. Functions of the data are ranked along with the
parameters: a posterior that ignores the data has uniform ranks in every parameter, but not in the
log likelihood.

Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv:1804.06788. Modrak et al. (2023),
Bayesian Analysis, doi:10.1214/23-BA1404.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from skhier.estimators._regressor import HierarchicalSlopesRegressor
from skhier.inference.engines import load_jax
from skhier.inference.prior import PriorSetting, draw_parameters
from skhier.posterior import tables as _tables
from skhier.posterior.prior_draws import prior_without_fit
from skhier.priors import DataScales
from skhier.utils.design import Rows
from skhier.utils.figures import axes_of
from skhier.utils.forks import forbid_forked_process
from skhier.utils.uniformity import counts_below, pointwise_tails, rank_band, rank_p_value
from skhier.utils.validation import check_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Calibration", "simulation_based_calibration"]

Parameters = Mapping[str, Any]
PARAMETERS = ("intercept", "coef", "noise_scale")
OF_GROUPS = ("group_scale", "group_corr")
N_COLUMNS = 5


@dataclass(frozen=True, repr=False)
class Calibration:
    """Ranks of true values among posterior draws, one row a simulation.

    Attributes
    ----------
    ranks : DataFrame of int, simulations x quantities
        How many of ``n_draws`` draws are below the true value; uniform on ``0, ..., n_draws`` if
        the model is calibrated.
    n_draws : int
        Draws that each true value is ranked among.
    fits : DataFrame
        One row a simulation: ``random_state`` of the fit, ``sampler``, ``pareto_k``, worst
        ``ess_bulk`` and ``r_hat``, ``divergences``, ``n_warnings``, ``seconds``.
    """

    ranks: pd.DataFrame
    n_draws: int
    fits: pd.DataFrame

    @property
    def p_value(self) -> float:
        """Of all quantities together: the smallest one's, times their number (Bonferroni)."""
        smallest = min(self._p_value(name) for name in self.ranks)
        return min(1.0, smallest * self.ranks.shape[1])

    def to_frame(self) -> pd.DataFrame:
        """How far each quantity's ranks are from uniform.

        Returns
        -------
        DataFrame
            One row a quantity. ``mean_rank``: relative, 0.5 if calibrated. ``deviation``: the
            empirical distribution function less the uniform one, where it is least probable, and
            ``at`` which relative rank that is. ``p_value``: the probability of so improbable a
            deviation anywhere, had the ranks been uniform. ``in_50``, ``in_90``: how often the
            central intervals of the draws held the true value.
        """
        import pandas as pd

        n, size = len(self.ranks), self.n_draws + 1
        rows = []
        for name in self.ranks:
            counts = counts_below(self.ranks[name].to_numpy(), size)
            k = int(pointwise_tails(counts, n).argmin())
            relative = (self.ranks[name] + 0.5) / size
            rows.append(
                {
                    "mean_rank": relative.mean(),
                    "deviation": counts[k] / n - (k + 1) / size,
                    "at": (k + 1) / size,
                    "p_value": self._p_value(name),
                    "in_50": (abs(relative - 0.5) < 0.25).mean(),
                    "in_90": (abs(relative - 0.5) < 0.45).mean(),
                }
            )
        return pd.DataFrame(rows, index=pd.Index(list(self.ranks), name="quantity"))

    def plot(self, coverage: float = 0.95) -> Any:
        """Distribution functions of the ranks less the uniform one, with their simultaneous bands.

        A hill: the true values are too often low, the posterior too high. A valley: the reverse.
        A hill before a valley: the posterior is too narrow; a valley before a hill: too wide.

        Parameters
        ----------
        coverage : float in (0, 1)
            Probability that a calibrated quantity's whole curve stays in its band.

        Returns
        -------
        matplotlib.figure.Figure
            Curves that leave their band are red.
        """
        check_number("coverage", coverage, low=0, high=1, open_ends=True)
        n, size = len(self.ranks), self.n_draws + 1
        low, high = rank_band(n, size, coverage)
        share = np.arange(1, size) / size
        used = self.ranks.shape[1]
        size_of_figure = (2.4 * N_COLUMNS, 1.8 * -(-used // N_COLUMNS) + 0.8)
        shared = {"sharex": True, "sharey": True}
        fig, axes = axes_of(None, used, N_COLUMNS, figsize=size_of_figure, **shared)
        for axis, name in zip(axes, self.ranks, strict=True):
            counts = counts_below(self.ranks[name].to_numpy(), size)
            inside = np.all((counts >= low) & (counts <= high))
            axis.fill_between(share, low / n - share, high / n - share, color="0.88", lw=0)
            axis.axhline(0, color="0.6", lw=0.8)
            axis.plot(share, counts / n - share, color="C0" if inside else "C3", lw=1.3)
            axis.set_title(f"{name}\np = {self._p_value(name):.2g}", loc="left", size=9, pad=3)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set(xlim=(0, 1), xticks=[0, 0.5, 1])
        fig.supxlabel(f"Relative rank of the true value among {self.n_draws} draws", size=10)
        fig.supylabel("ECDF less uniform", size=10)
        fig.suptitle(f"{n} simulations, simultaneous {100 * coverage:g}% bands", size=11)
        return fig

    def __repr__(self) -> str:
        """The table, what it amounts to, and how the fits went."""
        p, fits = self.p_value, self.fits
        samplers = ", ".join(f"{k} {v}" for k, v in fits["sampler"].value_counts().items())
        poor = int((fits["ess_bulk"] < self.n_draws).sum())
        return (
            f"Simulation-based calibration: {len(self.ranks)} simulations, ranks among "
            f"{self.n_draws} draws\n"
            f"{self.to_frame().to_string(float_format=lambda v: f'{v:.3g}')}\n"
            f"p-value of all {self.ranks.shape[1]} quantities together {p:.2g}"
            f"{': NOT calibrated' if p < 0.001 else ''}\n"
            f"fits: {samplers}; {int((fits['n_warnings'] > 0).sum())} warned, in {poor} an "
            f"effective sample size is below {self.n_draws}"
        )

    def _p_value(self, name):
        return rank_p_value(self.ranks[name].to_numpy(), self.n_draws + 1)


def simulation_based_calibration(
    model: HierarchicalSlopesRegressor,
    X: Any,
    n_simulations: int = 1000,
    *,
    n_draws: int = 99,
    draw_prior: Callable[[np.random.Generator], Parameters] | None = None,
    random_state: Any = None,
) -> Calibration:
    """Simulate data from a model's prior, fit the model, and rank the truth in the posterior.

    Ranked are every population parameter, the effects of the first and the last level, and, as
    functions of parameters and data, the log likelihood given the group effects and with these
    integrated out.

    Parameters
    ----------
    model : HierarchicalSlopesRegressor
        Not changed. Its priors must be distributions (in the user's units), not scales that depend
        on y: the prior has to be known before the data are.
    X : table of shape (n_samples, n_columns)
        The design of every simulation, the grouping columns included.
    n_simulations : int, default=1000
    n_draws : int, default=99
        Posterior draws that a true value is ranked among, evenly spaced in those of the fit. Of
        Markov chains, these should be (nearly) independent: see ``fits["ess_bulk"]``.
    draw_prior : callable or None
        Takes a NumPy Generator, returns a draw from the prior in the user's units, a dict:
        ``intercept``, ``coef`` (n_features,), ``noise_scale`` and, with groups, ``group_scale``
        (q,) and ``group_corr`` (q, q), the intercept first; with several factors, these two are
        dicts from factor to array. None: from the model's own prior. A program of one's own also
        notices a prior that is not what it says.
    random_state : int, RandomState or None, default=None
        Of parameters, data, fits and ties; the model's own is not used.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError, TypeError
        Bad X or parameters, a prior that depends on y or that cannot be drawn from.
    RuntimeError
        From ``fit``, with a note which simulation it was.

    Notes
    -----
    Convergence warnings of the fits are not shown but counted in ``fits``.

    References
    ----------
    Talts et al. (2018), arXiv:1804.06788, alg. 2. Modrak et al. (2023), Bayesian Analysis.
    Sailynoja, Buerkner and Vehtari (2022), Stat. Comput. 32:32.

    Examples
    --------
    >>> import numpy as np
    >>> import numpyro.distributions as dist
    >>> from skhier import HierarchicalSlopesRegressor, Prior
    >>> from skhier.calibration import simulation_based_calibration
    >>> prior = Prior(dist.Normal(0, 1), dist.Normal(0, 1), noise_scale=dist.Exponential(1))
    >>> model = HierarchicalSlopesRegressor(prior=prior)
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> report = simulation_based_calibration(model, X, n_simulations=20, random_state=0)
    >>> list(report.ranks)
    ['intercept', 'coef[x0]', 'noise_scale', 'log_likelihood']
    """
    forbid_forked_process("simulation_based_calibration")
    load_jax()
    check_number("n_simulations", n_simulations, low=1, integer=True)
    check_number("n_draws", n_draws, low=1, integer=True)
    if not isinstance(model, HierarchicalSlopesRegressor):
        raise TypeError(f"`model` must be a HierarchicalSlopesRegressor. Got {model!r} instead.")
    model = clone(model)
    if n_draws > model.n_chains * model.n_draws:
        raise ValueError(
            f"`n_draws={n_draws}` is more than the {model.n_chains * model.n_draws} posterior "
            "draws that each fit keeps."
        )
    setting, rows = prior_without_fit(model, X, None)
    plan = _Plan.of(setting, rows)
    root = np.random.SeedSequence(check_random_state(random_state).randint(2**31 - 1))
    of_prior, *seeds = root.spawn(n_simulations + 1)
    if draw_prior is None:
        truths = _prior_draws(setting, n_simulations, np.random.default_rng(of_prior))
    ranks, fits = [], []
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        drawn = truths[i] if draw_prior is None else draw_prior(rng)
        truth = plan.with_effects(drawn, rng)
        y = plan.line(truth) + truth["noise_scale"] * rng.standard_normal(len(plan.x))
        fitted = _fit(model, X, y, int(rng.integers(2**31 - 1)), i)
        ranks.append({k: _rank(v, rng) for k, v in _quantities(plan, fitted, truth, n_draws)})
        fits.append(_facts(fitted))
    import pandas as pd

    index = pd.RangeIndex(n_simulations, name="simulation")
    return Calibration(pd.DataFrame(ranks, index), int(n_draws), pd.DataFrame(fits, index))


class _Factor(NamedTuple):
    """A grouping factor at the rows: levels, and the design (n, q) of its effects."""

    name: str
    codes: np.ndarray
    z: np.ndarray

    @property
    def n_levels(self) -> int:
        return int(self.codes.max()) + 1


class _Plan(NamedTuple):
    """The rows of every simulation, in the user's units; effects have the intercept first."""

    x: np.ndarray
    factors: tuple[_Factor, ...]
    correlated: bool

    @classmethod
    def of(cls, setting: PriorSetting, rows: Rows) -> _Plan:
        """The rows with the designs of the group effects."""
        x = rows.x
        factors = [
            _Factor(name, codes, np.column_stack([np.ones(len(x)), *x.T[list(slopes)]]))
            for (name, slopes), codes in zip(setting.factors, rows.codes.T, strict=True)
        ]
        return cls(x, tuple(factors), setting.correlated)

    def with_effects(self, parameters: Parameters, rng: np.random.Generator) -> dict[str, Any]:
        """The parameters as arrays, those of groups per factor, and ``group_effects`` (n, q)."""
        truth: dict[str, Any] = {
            name: np.asarray(parameters[name], float) for name in PARAMETERS if name in parameters
        }
        for name in OF_GROUPS:
            truth[name] = self._by_factor(parameters.get(name, {}))
        truth["group_effects"] = {}
        for factor in self.factors:
            name = factor.name
            root = truth["group_scale"][name][:, None] * _square_root(truth["group_corr"][name])
            noise = rng.standard_normal((factor.n_levels, len(root)))
            truth["group_effects"][name] = noise @ root.T
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
        return line


def _prior_draws(setting: PriorSetting, n: int, rng) -> list[Parameters]:
    """Draws of the population parameters, a dict each."""
    x_scales = setting.scales[:3]
    setting._replace(scales=DataScales(*x_scales, 0.0, 1.0, 0.0, 1.0)).resolve()
    try:
        setting.resolve()
    except ValueError as error:  # with a known y there was none
        raise ValueError(
            "The prior must be known before data can be simulated from it, but some of it is "
            "scaled by y. Give every parameter a distribution: `prior=Prior(intercept=..., "
            "coef=..., group_scale=..., noise_scale=...)`."
        ) from error
    drawn = draw_parameters(setting, n, rng)
    corr = [root @ np.swapaxes(root, 1, 2) for root in drawn.corr_root]
    names = [name for name, _ in setting.factors]
    return [
        {
            **{name: getattr(drawn, name)[i] for name in PARAMETERS},
            "group_scale": {f: v[i] for f, v in zip(names, drawn.group_scale, strict=True)},
            "group_corr": {f: v[i] for f, v in zip(names, corr, strict=True)},
        }
        for i in range(n)
    ]


def _fit(model, X, y, seed, i) -> HierarchicalSlopesRegressor:
    fresh = clone(model).set_params(random_state=seed, verbose=0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # ConvergenceWarning is one; counted
            return fresh.fit(X, y)
    except Exception as error:
        error.add_note(f"in simulation {i}, with random_state={seed}")
        raise


def _quantities(plan: _Plan, fitted, truth, n_draws) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each quantity, the true one first, (1 + n_draws,)."""
    total = fitted.n_chains * fitted.n_draws
    which = (2 * np.arange(n_draws) + 1) * total // (2 * n_draws)
    posterior, effects = fitted.posterior_, fitted._effects()

    def both_of(true, draws):
        return np.concatenate([true[None], draws.reshape(total, *true.shape)[which]])

    both: dict[str, Any] = {name: both_of(truth[name], posterior[name]) for name in PARAMETERS}
    for name in OF_GROUPS:
        both[name] = {f: both_of(truth[name][f], posterior[name][f]) for f in effects}
    both["group_effects"] = {}
    for k, factor in enumerate(plan.factors):
        draws = fitted._posterior.group_draws(k, np.arange(factor.n_levels), which=which)
        true = truth["group_effects"][factor.name]
        both["group_effects"][factor.name] = np.concatenate([true[None], draws])
    for name, values in _tables.named_draws(both, fitted.coef_names_, effects).items():
        if plan.correlated or not name.startswith("group_corr["):
            yield name, values
    for factor in plan.factors:
        labels = fitted.group_levels_[factor.name]
        for g in sorted({0, factor.n_levels - 1}):
            for j, effect in enumerate(effects[factor.name]):
                name = _tables.full_name("group_effects", factor.name, labels[g], effect)
                yield name, both["group_effects"][factor.name][:, g, j]
    y = fitted._training.y
    yield "log_likelihood", _log_likelihood(y - plan.line(both), both["noise_scale"])
    if effects:
        yield "log_marginal_likelihood", _log_marginal_likelihood(plan, both, y)


def _log_likelihood(residuals, sigma):
    n = residuals.shape[-1]
    return -0.5 * (residuals**2).sum(-1) / sigma**2 - n * np.log(sigma * np.sqrt(2 * np.pi))


def _log_marginal_likelihood(plan: _Plan, parameters, y):
    """Of the rows given population parameters: ``V = sum over factors of Z Sigma Z' + sigma^2 I``.

    Of one factor ``V`` is made of blocks, one a group; else it is factorised as it is.
    """
    sigma = parameters["noise_scale"]
    residuals = y - parameters["intercept"][:, None] - parameters["coef"] @ plan.x.T
    scales, corrs = parameters["group_scale"], parameters["group_corr"]
    roots = [scales[f.name][..., None] * _square_root(corrs[f.name]) for f in plan.factors]
    evaluate = _by_groups if len(plan.factors) == 1 else _by_rows
    log_det, quadratic = evaluate(plan, roots, sigma, residuals)
    return -0.5 * (len(y) * np.log(2 * np.pi) + log_det + quadratic)


def _by_groups(plan, roots, sigma, residuals):
    """By ``M_g = sigma^2 I + L' Z'Z L``: ``|V_g| = sigma^(2 (n_g - q)) |M_g|`` and
    ``r' V_g^-1 r = (r'r - r'Z L M_g^-1 L'Z'r) / sigma^2`` (Woodbury).
    """
    (factor,), (root,) = plan.factors, roots
    n, q = factor.z.shape
    member = np.eye(factor.n_levels)[factor.codes]  # (n, G)
    zz = np.einsum("ng,na,nb->gab", member, factor.z, factor.z, optimize=True)
    zr = np.einsum("ng,na,sn->sga", member, factor.z, residuals, optimize=True)
    half = zr @ root
    m = np.einsum("sai,gab,sbj->sgij", root, zz, root, optimize=True)
    m = m + sigma[:, None, None, None] ** 2 * np.eye(q)
    explained = (half * np.linalg.solve(m, half[..., None])[..., 0]).sum((1, 2))
    log_det = (n - factor.n_levels * q) * np.log(sigma**2) + np.linalg.slogdet(m)[1].sum(1)
    return log_det, ((residuals**2).sum(1) - explained) / sigma**2


def _by_rows(plan, roots, sigma, residuals):
    log_det, quadratic = np.empty(len(sigma)), np.empty(len(sigma))
    for s in range(len(sigma)):
        v = sigma[s] ** 2 * np.eye(residuals.shape[1])
        for (_, codes, z), root in zip(plan.factors, roots, strict=True):
            half = z @ root[s]
            v += (codes[:, None] == codes) * (half @ half.T)
        log_det[s] = np.linalg.slogdet(v)[1]
        quadratic[s] = residuals[s] @ np.linalg.solve(v, residuals[s])
    return log_det, quadratic


def _square_root(corr):
    """``L`` with ``L L' = corr``, also of matrices that rounding made singular."""
    try:
        return np.linalg.cholesky(corr)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(corr)
        return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]


def _rank(values: np.ndarray, rng: np.random.Generator) -> int:
    """How many of the values are below the first; ties are broken at random."""
    true, draws = values[0], values[1:]
    return int((draws < true).sum() + rng.integers((draws == true).sum() + 1))


def _facts(fitted) -> dict[str, Any]:
    found = fitted.diagnostics_
    return {
        "random_state": fitted.random_state,
        "sampler": found.get("sampler", found["engine"]),
        "pareto_k": found.get("pareto_k", np.nan),
        "ess_bulk": found["ess_bulk"],
        "r_hat": found["r_hat"],
        "divergences": found["divergences"],
        "n_warnings": len(found["warnings"]),
        "seconds": found["seconds"],
    }
