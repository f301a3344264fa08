"""skhier's sampler of the joint model, every parameter in the chain."""

from libraries import skhier


def fit(task, seed):
    return skhier.fit(task, seed, inference="nuts")
