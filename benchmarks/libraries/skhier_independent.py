"""skhier on the model that Bambi can express: no correlations."""

from libraries import skhier


def fit(task, seed):
    return skhier.fit(task, seed, correlated=False)
