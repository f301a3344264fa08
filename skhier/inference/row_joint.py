"""Every effect of a model of rows by NUTS, in the frame of its mode where there is one.

Chains in the frame are short and judged by what users see of them: the population in their units,
and some effects of each factor. Where they do not agree chains of smaller steps follow in the same
frame, and where these do not either the joint model is sampled as asked for, in the coordinates
asked for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from skhier.inference.chains import (
    run_nuts,
    run_shortly,
    sample_stats,
    stand_ins,
)
from skhier.inference.options import EngineOptions
from skhier.inference.results import EngineResult, report_on, scalars
from skhier.inference.row_frame import find_frame
from skhier.kernels.records import Components, EffectMoments, ModelSpec
from skhier.kernels.user_units import in_user_units
from skhier.responses.by_level import SPREAD
from skhier.responses.normal import SCALE
from skhier.statistics.problem import Problem
from skhier.utils.convergence import ESS_LIMIT
from skhier.utils.diagnostics import e_bfmi

__all__ = ["run_joint_rows"]

JUDGED = 4  # effects of each factor that chains have to agree on


def run_joint_rows(
    rows: tuple[Any, ...],
    problem: Problem,
    model: tuple,
    spec: ModelSpec,
    options: EngineOptions,
    device: Any,
    seed: int,
) -> EngineResult:
    """Population and effects; evenly spaced draws of the effects are kept.

    Parameters
    ----------
    rows : tuple
        X with the constant last, codes, y, weights and offset, internal units.
    problem : Problem
    model : tuple
        Units, priors and known parameters.
    spec : ModelSpec
    options : EngineOptions
    device : Device or None
    seed : int

    Raises
    ------
    RuntimeError
        No valid starting point.
    """
    from skhier.kernels.rows.models import JointRows

    x, codes, y, weights, offset = rows
    present = tuple((f.zz[-1, -1] > 0).astype(float) for f in problem.stats.factors)
    joint = JointRows(x, y, weights, offset, codes.astype(np.int32), present)
    return _result(joint, problem, model, spec, options, device, seed)


def _result(joint, problem, model, spec, options, device, seed) -> EngineResult:
    from skhier.inference import runtime
    from skhier.inference.quadrature_target import Joint
    from skhier.inference.row_target import ROWS

    def as_asked(draws=None):
        frames = [(options.n_chains, (joint, *model))]
        return run_nuts(Joint(ROWS, spec), frames, options, device, seed)

    def search(check):
        with runtime.precisely_on(device):
            return find_frame(spec, joint, model, options.budget, check)

    result_of = partial(_from_draws, spec=spec, options=options)
    if options.n_chains == 1 or options.n_draws < ESS_LIMIT:  # diagnostics warn of them anyway
        return result_of(as_asked())
    (framing,) = runtime.run_side_by_side([search])
    if framing is None:
        return result_of(as_asked())
    frames = [(options.n_chains, framing.data)]

    def run(options, states=None):
        how = options, device, seed
        return run_nuts(framing.target, frames, *how, states=states, adapts_scales=False)

    def fit_warns(draws):
        result = result_of(draws)
        parameters = in_user_units(result.draws, problem.units, problem.slopes, spec.response)
        report = report_on(result, scalars(parameters), options.max_tree_depth)
        return bool(report.warnings)

    short, close = _short(options, framing.size), _close(options)
    seen = partial(_seen, problem, spec)
    result = result_of(run_shortly(run, options, short, seen, as_asked, fit_warns, close))
    evaluations = framing.n_evaluations + result.facts["evaluations"]
    return result._replace(facts={**result.facts, "evaluations": evaluations})


def _short(options, size):
    """Chains of a frame of so many entries.

    Of d of them steps of a given acceptance are as long as ``d^(-1/4)``: Beskos et al. (2013),
    Bernoulli 19; so many are half a turn round a standard normal.
    """
    chains = options.budget.chains
    depth = int(np.ceil(np.log2(1 + chains.half_turn * size**0.25)))
    return options._replace(
        n_warmup=min(options.n_warmup, chains.framed_warmup),
        max_tree_depth=min(options.max_tree_depth, max(depth, chains.short_depth)),
        target_accept=min(options.target_accept, chains.short_accept),
        n_draws=int(np.ceil(chains.short_share * options.n_draws)),
    )


def _close(options):
    """Chains of a frame that is not good everywhere: where it is not, steps have to be small."""
    chains = options.budget.chains
    return options._replace(
        n_warmup=min(options.n_warmup, chains.close_warmup),
        target_accept=max(options.target_accept, chains.close_accept),
    )


def _seen(problem, spec, draws) -> np.ndarray:
    """The population in the user's units and some effects, (n_chains, n_draws, d)."""
    population, effects, noises = draws.values
    values = in_user_units(population, problem.units, problem.slopes, spec.response)
    parts = [value[..., None] for value in scalars(values).values()]
    for b in (*effects, *([noises] if spec.noise_by is not None else [])):
        which = np.unique(np.linspace(0, b.shape[-1] - 1, JUDGED).astype(int))
        parts.append(b[..., which].reshape(*draws.lp.shape, -1))
    every = np.concatenate(parts, axis=-1)
    return every[..., (every != every[:1, :1]).any((0, 1))]  # known parameters do not vary


def _from_draws(draws, spec, options) -> EngineResult:
    shape = draws.lp.shape
    which, place = _kept(draws, options.budget.memory.effect_entries)
    chosen = stand_ins(shape[1], options.n_draws)
    flat, effects, noises = (_flat(part, which) for part in draws.values)
    effects = EffectMoments(
        effects,
        tuple(np.zeros((len(which), b.shape[1], *b.shape[1:])) for b in effects),
        None,
        place[:, chosen],
        0,
        log_noise=None if spec.noise_by is None else _log_noises(flat, noises),
    )
    facts = {
        "sampler": "nuts",
        "evaluations": int(draws.n_steps.sum()),
        "e_bfmi": float(e_bfmi(draws.energy).min()),
    }
    components = Components(np.full(len(which), 1 / len(which)), flat)
    population = draws.values[0].take((slice(None), chosen))
    stats = sample_stats(draws, options.n_draws)
    return EngineResult(population, "nuts", stats, components, {}, facts, effects=effects)


def _kept(draws, entries) -> tuple[np.ndarray, np.ndarray]:
    """Places of the draws whose effects are kept, and which of them stands for each draw."""
    _, effects, noises = draws.values
    n_draws, shape = draws.lp.size, draws.lp.shape
    size = sum(a[0, 0].size for a in (*effects, *([noises] if len(noises) else [])))
    n_kept = int(np.clip(entries // max(size, 1), 64, n_draws))
    which = (np.arange(n_kept) * n_draws) // n_kept
    place = (np.arange(n_draws) * n_kept) // n_draws
    order = np.random.default_rng(0).permutation(n_kept)  # any first few are a random choice
    return which[order], np.argsort(order)[place].reshape(shape)


def _flat(tree, which):
    """Draws of all chains, one after the other, those at places ``which``."""
    import jax

    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[which], tree)


def _log_noises(population, deviations) -> np.ndarray:
    """Logs of the levels' noise scales, (S, n_levels), internal units."""
    own = population.own
    return np.log(own[SCALE])[:, None] + own[SPREAD][:, None] * deviations
