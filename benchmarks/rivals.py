"""Who races: one entry for each file of ``libraries/``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BAYESIAN", "POINT", "RIVALS", "Rival", "rivals_of"]


@dataclass(frozen=True)
class Rival:
    """``packages`` are the distributions whose versions are reported; ``model`` is empty where it
    is the common one, else it says how the rival's differs, and the table repeats it.
    ``responses`` are those that its file states.
    """

    title: str
    packages: tuple[str, ...]
    model: str = ""
    posterior: bool = True
    responses: tuple[str, ...] = ("normal",)


EVERY = ("normal", "bernoulli", "poisson")
NO_CORR = "without correlations between a group's effects"
REML = "point estimates (REML), no priors"
REML_OR_LAPLACE = "point estimates (REML, of other responses by Laplace's approximation), no priors"

RIVALS = {
    "skhier": Rival("skhier", ("skhier", "jax"), responses=EVERY),
    "skhier_nuts": Rival('skhier, inference="nuts"', ("skhier", "numpyro", "jax")),
    "skhier_independent": Rival("skhier, correlated=False", ("skhier", "jax"), NO_CORR),
    "numpyro_nuts": Rival("NumPyro, written by hand", ("numpyro", "jax"), responses=EVERY),
    "bambi_pymc": Rival("Bambi (PyMC)", ("bambi", "pymc", "pytensor"), NO_CORR, responses=EVERY),
    "bambi_nutpie": Rival(
        "Bambi (nutpie)", ("bambi", "nutpie", "pymc", "pytensor"), NO_CORR, responses=EVERY
    ),
    "bayesforge": Rival("BayesForge", ("BayesForge", "numpyro", "jax")),
    "rstanarm": Rival(
        "rstanarm",
        (),
        "decov prior: tau proportional to sigma; intercept's prior at the mean of x",
    ),
    "lme4": Rival("lme4", (), REML_OR_LAPLACE, posterior=False, responses=EVERY),
    "statsmodels_mixedlm": Rival("statsmodels MixedLM", ("statsmodels",), REML, posterior=False),
    "statsmodels_glmm": Rival(
        "statsmodels BinomialBayesMixedGLM",
        ("statsmodels",),
        "variational means; sds log-normal, " + NO_CORR,
        posterior=False,
        responses=("bernoulli",),
    ),
    "gpboost": Rival(
        "GPBoost",
        ("gpboost",),
        "point estimates (maximum likelihood), no priors, " + NO_CORR,
        posterior=False,
        responses=EVERY,
    ),
}


def rivals_of(response: str) -> tuple[str, ...]:
    """Who states it."""
    return tuple(name for name, rival in RIVALS.items() if response in rival.responses)


BAYESIAN = tuple(name for name in rivals_of("normal") if RIVALS[name].posterior)
POINT = tuple(name for name in rivals_of("normal") if not RIVALS[name].posterior)
