"""Data from the prior, a fit to each, and the rank of the truth in its posterior."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils import check_random_state

from skhier.calibration._report import Calibration
from skhier.calibration._rows import (
    OF_GROUPS,
    Parameters,
    SimulatedRows,
    log_marginal_likelihood,
)
from skhier.estimators._model import HierarchicalModel
from skhier.estimators._scoring import take_rows
from skhier.inference.engines import load_jax
from skhier.inference.prior import PriorSetting, draw_parameters
from skhier.plotting._fit import effects_by_factor, group_draws, noise_draws, target_of
from skhier.posterior import tables as _tables
from skhier.posterior.prior_draws import prior_without_fit
from skhier.priors import DataScales
from skhier.utils.forks import forbid_forked_process
from skhier.utils.validation import check_number

__all__ = ["simulation_based_calibration"]


def simulation_based_calibration(
    model: HierarchicalModel,
    X: Any,
    n_simulations: int = 1000,
    *,
    n_draws: int = 99,
    draw_prior: Callable[[np.random.Generator], Parameters] | None = None,
    random_state: Any = None,
) -> Calibration:
    """Simulate data from a model's prior, fit the model, and rank the truth in the posterior.

    Ranked are every population parameter, the effects of the first and the last level, and, as
    functions of parameters and data, the log likelihood given the group effects and, of a normal or
    lognormal response, with these integrated out.

    Parameters
    ----------
    model : HierarchicalSlopesRegressor or HierarchicalSlopesClassifier
        Of any response; not changed. Its priors must be distributions (in the user's units), not
        scales that depend on y: the prior has to be known before the data are.
    X : table of shape (n_samples, n_columns)
        The design of every simulation, the grouping columns included.
    n_simulations : int, default=1000
    n_draws : int, default=99
        Posterior draws that a true value is ranked among, evenly spaced in those of the fit. Of
        Markov chains, these should be (nearly) independent: see ``fits["ess_bulk"]``.
    draw_prior : callable or None
        Takes a NumPy Generator, returns a draw from the prior in the user's units, a dict:
        ``intercept``, ``coef`` (n_features,), the response's own parameters (``noise_scale``,
        ``dispersion``) and, with groups, ``group_scale``
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
    _check_arguments(model, n_simulations, n_draws)
    model = clone(model)
    setting, rows = prior_without_fit(model, X, None)
    simulated = SimulatedRows.of(setting, rows)
    root = np.random.SeedSequence(check_random_state(random_state).randint(2**31 - 1))
    of_prior, *seeds = root.spawn(n_simulations + 1)
    if draw_prior is None:
        truths = _prior_draws(setting, n_simulations, np.random.default_rng(of_prior))
    ranks, fits = [], []
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        drawn = truths[i] if draw_prior is None else draw_prior(rng)
        truth = simulated.with_effects(drawn, rng)
        y = setting.response.draw(simulated.line(truth), simulated.own(truth), rng)
        fitted = _fitted_to(model, X, y, int(rng.integers(2**31 - 1)), i)
        ranks.append({k: _rank(v, rng) for k, v in _quantities(simulated, fitted, truth, n_draws)})
        fits.append(_facts(fitted))
    import pandas as pd

    index = pd.RangeIndex(n_simulations, name="simulation")
    return Calibration(pd.DataFrame(ranks, index), int(n_draws), pd.DataFrame(fits, index))


def _check_arguments(model, n_simulations, n_draws):
    check_number("n_simulations", n_simulations, low=1, integer=True)
    check_number("n_draws", n_draws, low=1, integer=True)
    if not isinstance(model, HierarchicalModel):
        raise TypeError(
            "`model` must be a HierarchicalSlopesRegressor or HierarchicalSlopesClassifier. Got "
            f"{model!r} instead."
        )
    kept = model.n_chains * model.n_draws
    if n_draws > kept:
        raise ValueError(
            f"`n_draws={n_draws}` is more than the {kept} posterior draws that each fit keeps."
        )


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
            "coef=..., group_scale=..., noise_scale=...)`, the last if the response has a noise "
            "scale."
        ) from error
    drawn = draw_parameters(setting, n, rng)
    corr = [root @ np.swapaxes(root, 1, 2) for root in drawn.corr_root]
    names = [name for name, _ in setting.factors]
    return [
        {
            "intercept": drawn.intercept[i],
            "coef": drawn.coef[i],
            **{name: values[i] for name, values in drawn.own.items()},
            "group_scale": {f: v[i] for f, v in zip(names, drawn.group_scale, strict=True)},
            "group_corr": {f: v[i] for f, v in zip(names, corr, strict=True)},
        }
        for i in range(n)
    ]


def _fitted_to(model, X, y, seed, i) -> HierarchicalModel:
    """A copy of the model, fitted to the i-th simulation."""
    fresh = clone(model).set_params(random_state=seed, verbose=0)
    if is_classifier(model) and np.ptp(y) == 0:  # two rows that do not count name both classes
        n = len(y)
        X, y = take_rows(X, np.append(np.arange(n), [0, 0])), np.append(y, [0.0, 1.0])
        counts = np.append(np.ones(n), [0.0, 0.0])
    else:
        counts = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # ConvergenceWarning is one; counted
            return fresh.fit(X, y, sample_weight=counts)
    except Exception as error:
        error.add_note(f"in simulation {i}, with random_state={seed}")
        raise


def _quantities(
    simulated: SimulatedRows, fitted, truth, n_draws
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each quantity, the true one first, (1 + n_draws,)."""
    both, effects = _truth_and_draws(simulated, fitted, truth, n_draws), effects_by_factor(fitted)
    names = fitted.coef_names_, simulated.response.parameters, effects
    for name, values in _tables.named_draws(both, *names).items():
        if simulated.correlated or not name.startswith("group_corr["):
            yield name, values
    for k, factor in enumerate(simulated.factors):
        labels = fitted.group_levels_[factor.name]
        for g in sorted({0, factor.n_levels - 1}):
            for j, effect in enumerate(effects[factor.name]):
                name = _tables.full_name("group_effects", factor.name, labels[g], effect)
                yield name, both["group_effects"][factor.name][:, g, j]
            if k == simulated.noise_by:
                name = _tables.full_name("group_noise", factor.name, labels[g])
                yield name, both["group_noise"][factor.name][:, g]
    y = target_of(fitted)
    response = simulated.response
    yield "log_likelihood", simulated.log_likelihood(both, response.untransformed(y))
    if effects and response.conjugate:
        yield "log_marginal_likelihood", log_marginal_likelihood(simulated, both, y)


def _truth_and_draws(simulated: SimulatedRows, fitted, truth, n_draws) -> dict[str, Any]:
    """Every parameter, the true one before evenly spaced draws, (1 + n_draws, ...) each."""
    total = fitted.n_chains * fitted.n_draws
    which = (2 * np.arange(n_draws) + 1) * total // (2 * n_draws)
    posterior = fitted.posterior_

    def both_of(true, draws):
        return np.concatenate([true[None], draws.reshape(total, *true.shape)[which]])

    both: dict[str, Any] = {
        name: both_of(truth[name], posterior[name]) for name in simulated.parameters
    }
    for name in OF_GROUPS:
        both[name] = {f: both_of(true, posterior[name][f]) for f, true in truth[name].items()}
    both["group_effects"] = {}
    for factor in simulated.factors:
        draws = group_draws(fitted, factor.name, np.arange(factor.n_levels), which)
        true = truth["group_effects"][factor.name]
        both["group_effects"][factor.name] = np.concatenate([true[None], draws])
    if simulated.noise_by is not None:
        factor = simulated.factors[simulated.noise_by]
        draws = noise_draws(fitted, np.arange(factor.n_levels), which)
        true = truth["group_noise"][factor.name]
        both["group_noise"] = {factor.name: np.concatenate([true[None], draws])}
    return both


def _rank(values: np.ndarray, rng: np.random.Generator) -> int:
    """How many of the values are below the first; ties are broken at random."""
    true, draws = values[0], values[1:]
    return int((draws < true).sum() + rng.integers((draws == true).sum() + 1))


def _facts(fitted) -> dict[str, Any]:
    """A row of ``fits``."""
    diagnostics = fitted.diagnostics_
    return {
        "random_state": fitted.random_state,
        "sampler": diagnostics.get("sampler", diagnostics["engine"]),
        "pareto_k": diagnostics.get("pareto_k", np.nan),
        "ess_bulk": diagnostics["ess_bulk"],
        "r_hat": diagnostics["r_hat"],
        "divergences": diagnostics["divergences"],
        "n_warnings": len(diagnostics["warnings"]),
        "seconds": diagnostics["seconds"],
    }
