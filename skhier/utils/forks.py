"""Whether JAX has started in this process, and may: it hangs if it had before a fork."""

import os
import sys

__all__ = ["forbid_forked_process", "jax_has_started"]

_state = {"forked": False}


def _after_fork() -> None:
    _state["forked"] = _state["forked"] or jax_has_started()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def jax_has_started() -> bool:
    """Whether threads of JAX's run, whoever started them: skhier, or a user's own arrays.

    Read from JAX's private table: its own function takes a lock, which a fork may leave locked.
    """
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(getattr(bridge, "_backends", True))


def forbid_forked_process(method: str) -> None:
    """Refuse to compute in a process forked after JAX had started, where it would hang.

    Parameters
    ----------
    method : str
        What was called, for the message.

    Raises
    ------
    RuntimeError
        This is such a process.
    """
    if _state["forked"]:
        raise RuntimeError(
            f"{method} was called in a process forked after JAX had started in its parent, where "
            "JAX hangs. Start workers with joblib's 'loky' or multiprocessing's 'spawn'; predict "
            "works in forked processes."
        )
