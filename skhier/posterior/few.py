"""The few weighted components behind predictions where levels are known component by component.

See :mod:`skhier.posterior.rule`. Lines at rows of all kinds choose those behind distributions;
means and sds of a response without bounds choose for themselves, for a mean may be that of lines
far out, of which no distribution function tells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skhier.kernels.records import Components
from skhier.posterior.mixture import without_lightest
from skhier.posterior.rule import places_by_lines, places_by_moments
from skhier.responses.base import Response
from skhier.utils.budget import RuleBudget

__all__ = ["Behind", "few_by_lines", "few_by_moments", "weighted", "without_light_ones"]

SMOOTHED = 1.0  # of points' sd: as wide a normal stands for each, steps being no features


class Behind(NamedTuple):
    """Components, and what is known of the levels given each: effects, or noises."""

    rule: Components
    effects: Any

    def take(self, places: np.ndarray, weights: np.ndarray) -> Behind:
        """Those at places, with other weights."""
        rule = self.rule.take(places)._replace(weights=weights)
        return Behind(rule, self.effects.of(places))

    def first(self, n: int) -> Behind:
        """The first n, which stand for all too."""
        return Behind(self.rule.first(n), self.effects.of(slice(n)))


def weighted(every: Behind, response: Response) -> Behind:
    """Those that count in moments: under a log link lines far out have means beyond all others."""
    return without_light_ones(every) if response.link == "log" else every


def without_light_ones(every: Behind) -> Behind:
    """Those that have nearly all of the weight."""
    weights = without_lightest(every.rule.weights)
    places = np.flatnonzero(weights)
    return every.take(places, weights[places])


def few_by_lines(
    every: Behind, mean: np.ndarray, sd: np.ndarray, own: dict, budget: RuleBudget
) -> Behind:
    """Those of a few that give lines, and own parameters, the distributions that all give.

    Parameters
    ----------
    every : Behind
    mean, sd : array of shape (n_rows, S)
        Of lines at rows of all kinds.
    own : dict of str to array of shape (S, 1)
        Positive.
    budget : RuleBudget
    """
    weights = every.rule.weights
    # three rows each: of every three one tells the error
    of_own = [np.repeat(np.log(values).T, 3, axis=0) for values in own.values()]
    mean = np.concatenate([mean, *of_own])
    sd = np.concatenate([sd, np.zeros((len(mean) - len(sd), len(weights)))])
    apart = np.sqrt((mean - (mean @ weights)[:, None]) ** 2 @ weights)
    sd = np.where(sd.any(1, keepdims=True), sd, SMOOTHED * apart[:, None])
    places, shares, _ = places_by_lines(every.rule, mean, sd, budget=budget)
    return every.take(places, shares)


def few_by_moments(
    every: Behind, mean: np.ndarray, variance: np.ndarray, budget: RuleBudget
) -> Behind:
    """The same of means and variances (n_rows, S) of new responses."""
    places, shares, _ = places_by_moments(every.rule, mean, variance, budget)
    return every.take(places, shares)
