"""Settings of runs that are too short to converge."""

__all__ = ["SHORT"]

# the same shapes and settings everywhere: one compiled program
SHORT = {"n_chains": 2, "n_warmup": 100, "n_draws": 50, "random_state": 0}
