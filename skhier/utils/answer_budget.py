"""Tuning constants of answers after fit: memory, components behind predictions, leaving out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MemoryBudget", "NoiseBudget", "RuleBudget", "ScoreBudget"]


@dataclass(frozen=True)
class MemoryBudget:
    """Entries (8 bytes each) of arrays, and components behind averages of closed forms.

    Attributes
    ----------
    few_entries : int
        Of the statistics, up to which copying them at each call is faster than keeping them on
        the device.
    max_cov_entries : int
        Of the coefficients' covariances, one a point, that are kept.
    rows_at_once : int
        Of draws x rows (or levels) x effects squared in a slice of predictions.
    temporary : int
        Of the arrays that are there for a slice of rows or levels in tables and exchange objects.
    group_entries : int
        Of groups x components x effects squared in group moments; beyond, fewer components do.
    group_entries_in_race : int
        The same for a candidate of a search, whose moments only score it.
    moment_components : tuple of int
        Fewest and most components behind group moments: theta varies little.
    moment_work : float
        Multiplications of the cubed number of crossed effects, one such a component, beyond which
        fewer do.
    fewest_of_crossed : int
        Components that do then.
    pilot_components : int
        Whose spread says how many are enough, where the fewest take more than ``group_entries``.
    moment_error : float
        Largest Monte Carlo error of a level's mean and sd that theta leaves, in posterior sds,
        where they are as few as that.
    effect_entries : int
        Of groups x components x moments of effects that no statistics say, which are kept.
    line_entries : int
        Of the largest array of rows x components of lines: it stays in cache.
    level_entries : int
        Of levels x components x moments that are made at a time.
    kept, kept_apart : int
        Of the same that are kept between calls: side by side for all components, and a batch of
        components at a time. Of rows x components in a block too.
    elimination_entries : int
        Of the largest temporary array of an elimination of the effects, of many components at once.
    many_components : int
        Of which such arrays hold enough; where they hold fewer, a component at a time has the
        columns of all its draws.
    moment_entries : int
        Of the same array where moments of effects are added up.
    slope_entries : int
        Of levels x crossed effects, of one component, that are multiplied together.
    noise_entries, noise_row_entries : int
        Of levels x components x nodes of a level's own noise; and of its rows, several arrays of
        which stay in cache.
    kept_batches : int
        Of points of theta, with what follows from them: as many as may have been drawn of one
        proposal.
    levels_drawn : int
        At a time, of a display that asks for every level's draws.
    draws_at_once : int
        Of chains whose effective sample sizes are taken together, by Fourier transforms.
    contrast_entries : int
        Of the products of levels with the columns whose contrasts are looked at together.
    contrasts_at_once : int
        Such columns whatever that takes, for each round eliminates all effects.
    """

    few_entries: int = 2**12
    max_cov_entries: int = 2**24
    rows_at_once: int = 2**22
    temporary: int = 2**24
    group_entries: int = 2**22
    group_entries_in_race: int = 2**17
    moment_components: tuple[int, int] = (256, 1024)
    moment_work: float = 1e9
    fewest_of_crossed: int = 32
    pilot_components: int = 16
    moment_error: float = 0.01
    effect_entries: int = 2**23
    line_entries: int = 2**19
    level_entries: int = 2**21
    kept: int = 2**23
    kept_apart: int = 2**26
    elimination_entries: int = 2**19
    many_components: int = 16
    moment_entries: int = 2**17
    slope_entries: int = 2**22
    noise_entries: int = 2**20
    noise_row_entries: int = 2**16
    kept_batches: int = 4
    levels_drawn: int = 500
    draws_at_once: int = 2**21
    contrast_entries: int = 2**22
    contrasts_at_once: int = 16


@dataclass(frozen=True)
class RuleBudget:
    """The weighted components that predict as all do.

    Attributes
    ----------
    rows : int
        Whose lines choose them.
    new, absent : float
        Shares of those rows' levels that no row of fit has, and that do not count.
    sizes : tuple of tuple of int
        Features of lines, features of theta, and candidates: the next where the error is too large.
    wanted_error : float
        Of the chosen components, in sds, above which more features are asked.
    quantile_error : float
        The same of those with the smallest error that is small enough; above it all stay.
    max_squared : int
        Products of two scores of theta, beyond which only squares are features.
    work : float
        Multiplications that lines of known levels may take; few components do where it is less.
    few_to_ask : int
        Components, below which lines of new levels choose instead.
    unasked_work : float
        Multiplications of the cubed number of crossed effects that all components then chosen take.
    unasked : tuple of int
        Fewest and most of them.
    all_of_rows : int
        Components of a response without statistics, up to which all predict: so few are no work.
    all_of_rows_in_race : int
        The same of a candidate of a search: it predicts a fold, in less time than choosing takes.
    """

    rows: int = 66
    new: float = 0.25
    absent: float = 0.15
    sizes: tuple[tuple[int, int, int], ...] = ((40, 24, 512), (96, 32, 1024), (200, 56, 2048))
    wanted_error: float = 0.0025
    quantile_error: float = 0.005
    max_squared: int = 2**11
    work: float = 2**27
    few_to_ask: int = 512
    unasked_work: float = 1e9
    unasked: tuple[int, int] = (32, 128)
    all_of_rows: int = 256
    all_of_rows_in_race: int = 2**14


@dataclass(frozen=True)
class NoiseBudget:
    """Answers of levels that have a noise of their own.

    Attributes
    ----------
    nodes, nodes_of_large : int
        Of a noise in predictions and where rows are left out; of one that is nearly known.
    large_level : int
        Rows of a level from which its noise is.
    nodes_of_averages : int
        Of a noise in averages over components.
    fewest_of_levels : int
        Components behind moments of levels.
    """

    nodes: int = 9
    nodes_of_large: int = 5
    large_level: int = 25
    nodes_of_averages: int = 5
    fewest_of_levels: int = 256


@dataclass(frozen=True)
class ScoreBudget:
    """Leaving out, and the candidates of a search.

    Attributes
    ----------
    at_once : int
        Entries of the arrays over components and rows, or groups, of one factor; and over
        components in a refit's densities.
    at_once_of_several : int
        The same with several factors, whose elimination is work that many rows share.
    pairs : int
        Components x rows (or groups), beyond which fewer components do.
    components : tuple of int
        Fewest and most components that rows or groups are averaged over.
    rows_of_components : int
        Components x rows of a response that are looked at together.
    influential : float
        Nats that a row's density falls by without it, from where its level is integrated anew.
    least_nodes : int
        Of such levels, a dimension.
    anew : int
        All such levels' rows together, times those of fit.
    max_crossed : float
        Rows x squared number of crossed effects, beyond which it would take hours.
    max_refits : int
        Of a candidate: each is a fold's work, so none costs more than three tenfold searches.
    draws : int
        Of a candidate's posterior.
    draws_for_means : int
        The same where R^2 scores it, since means are averages of closed forms.
    """

    at_once: int = 2**21
    at_once_of_several: int = 2**25
    pairs: int = 2**28
    components: tuple[int, int] = (1000, 4096)
    rows_of_components: int = 2**21
    influential: float = 0.3
    least_nodes: int = 5
    anew: int = 4
    max_crossed: float = 1e9
    max_refits: int = 30
    draws: int = 1024
    draws_for_means: int = 64

    def n_components(self, n: int) -> int:
        """Components that n rows or groups are averaged over, or n places of all rows together."""
        fewest, most = self.components
        return min(max(self.pairs // n, fewest), most)
