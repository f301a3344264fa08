"""rstanarm's stan_lmer, in R."""

from libraries._r import RScript

script = RScript("rstanarm.R")


def fit(task, seed):
    return script.fit(task, seed)
