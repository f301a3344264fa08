"""The No-U-Turn sampler as one compiled program (Hoffman & Gelman 2014).

NumPyro's functional ``hmc`` runs inside a module-level ``jax.jit``: data, prior values and seeds
are traced, so another fit of the same shapes compiles nothing. The program advances a bundle of
chains by a traced number of transitions and hands back their draws; a loop on the host calls it in
slices of a fraction of a second, so that a caller can watch and stop it. How the transitions are
sliced, and the chains bundled, changes them by rounding at most.

A GPU wants all chains in one bundle (``vmap``). On a CPU one chain a thread is faster by far: under
``vmap`` each chain pays for the longest tree and every branch copies the whole tree.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

from skhier.inference.target import Joint, Marginal
from skhier.utils.budget import USUAL

__all__ = ["NutsSettings", "SamplerDraws", "sample_nuts"]

_COMPILING = threading.Lock()  # threads that need the same program wait for it


class NutsSettings(NamedTuple):
    """Static settings of the sampler: a new value compiles a new program.

    ``adapts_scales``: whether warm-up fits a scale to each coordinate, and not steps alone.
    """

    n_warmup: int
    target_accept: float
    max_tree_depth: int
    start_tries: int = USUAL.search.start_tries
    slice_rows: int = USUAL.chains.slice_rows
    adapts_scales: bool = True


class SamplerDraws(NamedTuple):
    """Draws after warm-up, NumPy arrays of shape (n_chains, n_draws, ...).

    ``values`` is what the target records; the rest describes the transitions: ``lp`` (log density
    of the unconstrained parameters), ``energy``, ``n_steps``, ``accept``, ``diverging`` and
    ``step_size`` (n_chains,). ``state`` is where the chains can go on, as the sampler has it.
    """

    values: Any
    lp: Any
    energy: Any
    n_steps: Any
    accept: Any
    diverging: Any
    step_size: Any
    state: Any = None


def sample_nuts(
    target: Joint | Marginal,
    settings: NutsSettings,
    data: tuple,
    keys: Any,
    n_draws: int,
    progress: Callable[[int], None] = lambda rows: None,
    slice_seconds: float = USUAL.chains.slice_seconds,
    state: Any = None,
) -> SamplerDraws:
    """Warm up and sample; or go on, after draws that ended in ``state``.

    Parameters
    ----------
    target, settings
        Static.
    data : tuple
        The target's.
    keys : array of shape (n_chains, 2)
        One random key a chain; the bundle.
    n_draws : int
        Per chain.
    progress : callable
        Called after each slice with its number of transitions; may raise to stop.
    slice_seconds : float
        Wanted of each slice.
    state
        Of earlier draws of the same bundle, whose warm-up is over; None: new chains.

    Raises
    ------
    RuntimeError
        No starting point with a finite density and gradient was found for some chain.
    """
    is_new, is_valid = state is None, True
    with _COMPILING:
        if is_new:
            state, is_valid = _start(keys, data, target, settings)
        jax.block_until_ready(_advance(state, 0, data, target, settings))
    if not np.all(is_valid):
        raise RuntimeError(
            f"no valid starting point: the log density or its gradient is not finite at "
            f"{settings.start_tries} random points. Check that the priors' supports allow the data."
        )
    done = 0 if is_new else settings.n_warmup
    total, rows, kept = settings.n_warmup + n_draws, 1, []
    while done < total:
        began = time.perf_counter()
        state, drawn = _advance(state, rows, data, target, settings)
        after_warmup = slice(max(0, settings.n_warmup - done), rows)
        kept.append(_rows_of(drawn, after_warmup))
        done += rows
        progress(rows)
        wanted = int(rows * slice_seconds / (time.perf_counter() - began))
        rows = min(max(1, min(wanted, 4 * rows)), settings.slice_rows, total - done)
    draws = jax.tree.map(lambda *a: np.moveaxis(np.concatenate(a), 0, 1), *kept)
    return draws._replace(step_size=np.asarray(state.adapt_state.step_size), state=state)


def _rows_of(drawn, which):
    return jax.tree.map(lambda a: np.asarray(a)[which], drawn)


@partial(jax.jit, static_argnames=("target", "settings"))
def _start(keys, data, target, settings):
    """Sampler states at random points with a finite density, one per key."""
    size = target.size(data)
    potential = jax.value_and_grad(_potential(target, data))

    def propose(carry):
        key, tries, *_ = carry
        key, key_z = jax.random.split(key)
        z = target.start(key_z, size, tries)
        pe, grad = potential(z)
        return key, tries + 1, jnp.isfinite(pe) & jnp.all(jnp.isfinite(grad)), (z, pe, grad)

    def start_chain(key):
        nowhere = (jnp.zeros(size), jnp.zeros(()), jnp.zeros(size))
        key, _, is_valid, at = jax.lax.while_loop(
            lambda c: ~c[2] & (c[1] < settings.start_tries), propose, (key, 0, False, nowhere)
        )
        init, _ = _kernels(target, data, settings)
        return init(at, key), is_valid

    return _over_chains(start_chain)(keys)


def _over_chains(f):
    """``f`` over the leading axis; a bundle of one chain runs without ``vmap``."""

    def run(tree):
        if len(jax.tree.leaves(tree)[0]) > 1:
            return jax.vmap(f)(tree)
        one = jax.tree.map(lambda a: a[0], tree)
        return jax.tree.map(lambda a: jnp.asarray(a)[None], f(one))

    return run


def _potential(target, data):
    return lambda position: -target.log_density(data, position)


def _kernels(target, data, settings):
    """NumPyro's NUTS on the flat vector: ``init(at, key)`` and ``step(state)`` return states."""
    init_kernel, sample_kernel = hmc(potential_fn_gen=lambda *args: _potential(target, args))

    def held(state):
        """Coordinates that move nothing get no momentum: their draws, and turns, do not count."""
        if not isinstance(target, Marginal):
            return state
        adapted = state.adapt_state
        root = adapted.mass_matrix_sqrt * target.moving(data)
        return state._replace(adapt_state=adapted._replace(mass_matrix_sqrt=root))

    def init(at, key):
        state = init_kernel(
            ParamInfo(*at),
            num_warmup=settings.n_warmup,
            target_accept_prob=settings.target_accept,
            max_tree_depth=settings.max_tree_depth,
            adapt_mass_matrix=settings.adapts_scales,
            model_args=data,
            rng_key=key,
        )
        return held(state)

    def step(state):
        # the kernel's closure learns its settings from init; the state made here is not used
        init((state.z, state.potential_energy, state.z_grad), state.rng_key)
        return held(sample_kernel(state, data, {}))

    return init, step


@partial(jax.jit, static_argnames=("target", "settings"))
def _advance(state, n_transitions, data, target, settings):
    """Advance every chain; the first ``n_transitions`` rows of the draws are filled."""
    _, step_chain = _kernels(target, data, settings)

    def record(state):
        values = _over_chains(partial(target.record, data))(state.z)
        facts = (state.energy, state.num_steps, state.accept_prob, state.diverging)
        return SamplerDraws(values, -state.potential_energy, *facts, None)

    def step(i, carry):
        state, drawn = carry
        state = _over_chains(step_chain)(state)
        return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), drawn, record(state))

    row = jax.eval_shape(record, state)
    empty = jax.tree.map(lambda v: jnp.zeros((settings.slice_rows, *v.shape), v.dtype), row)
    return jax.lax.fori_loop(0, n_transitions, step, (state, empty))
