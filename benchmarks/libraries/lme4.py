"""lme4: REML, in R."""

from libraries._r import RScript

script = RScript("lme4.R")


def fit(task, seed):
    return script.fit(task, seed)
