"""Who races: one entry for each file of ``libraries/``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BAYESIAN", "POINT", "RIVALS", "Rival"]


@dataclass(frozen=True)
class Rival:
    """``packages`` are the distributions whose versions are reported; ``model`` is empty where it
    is the common one, else it says how the rival's differs, and the table repeats it.
    """

    title: str
    packages: tuple[str, ...]
    model: str = ""
    posterior: bool = True


NO_CORR = "without correlations between a group's effects"
REML = "point estimates (REML), no priors"

RIVALS = {
    "skhier": Rival("skhier", ("skhier", "jax")),
    "skhier_nuts": Rival('skhier, inference="nuts"', ("skhier", "numpyro", "jax")),
    "skhier_independent": Rival("skhier, correlated=False", ("skhier", "jax"), NO_CORR),
    "numpyro_nuts": Rival("NumPyro, written by hand", ("numpyro", "jax")),
    "bambi_pymc": Rival("Bambi (PyMC)", ("bambi", "pymc", "pytensor"), NO_CORR),
    "bambi_nutpie": Rival("Bambi (nutpie)", ("bambi", "nutpie", "pymc", "pytensor"), NO_CORR),
    "bayesforge": Rival("BayesForge", ("BayesForge", "numpyro", "jax")),
    "rstanarm": Rival(
        "rstanarm",
        (),
        "decov prior: tau proportional to sigma; intercept's prior at the mean of x",
    ),
    "lme4": Rival("lme4", (), REML, posterior=False),
    "statsmodels_mixedlm": Rival("statsmodels MixedLM", ("statsmodels",), REML, posterior=False),
    "gpboost": Rival(
        "GPBoost",
        ("gpboost",),
        "point estimates (maximum likelihood), no priors, " + NO_CORR,
        posterior=False,
    ),
}

BAYESIAN = tuple(name for name, rival in RIVALS.items() if rival.posterior)
POINT = tuple(name for name, rival in RIVALS.items() if not rival.posterior)
