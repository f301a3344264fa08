"""lme4, in R: REML, and of other responses than the normal Laplace's approximation."""

from libraries._r import RScript

script = RScript("lme4.R")


def fit(task, seed):
    return script.fit(task, seed)
