"""Tuning constants: what may change without changing what is computed.

Only how long it takes, how exact it is or how much memory it needs depends on them. One
:class:`Budget` travels from the estimator to whatever spends; a module that a compiled program or
a fact of arithmetic binds to a number keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "USUAL",
    "Budget",
    "ChainBudget",
    "EngineBudget",
    "ImportanceBudget",
    "KernelBudget",
    "MemoryBudget",
    "RuleBudget",
    "ScoreBudget",
    "SearchBudget",
]


@dataclass(frozen=True)
class EngineBudget:
    """Which engine runs, and with how many points.

    Attributes
    ----------
    max_importance_size : float
        Entries of theta beyond which chains sample at once, whatever the weights would be.
    min_points, max_points : int
        Of importance sampling, powers of two: as many as draws are asked for, within these.
    few_points : int
        Points that do where each is much work, since theta then varies little; a power of two.
    patience : float
        Multiplications that all points together may take before they are fewer.
    climb_share : float
        Of the points, as many evaluations as may go into bringing starts nearer to modes.
    min_ess_per_chain : int
        Effective points below which weights are not trusted: the limit by which chains are judged.
    max_dense : int
        Crossed effects beyond which their matrix is too large to factorise often.
    nuts_seconds : float
        Seconds of a leapfrog step per cross-product; for a warning.
    nuts_steps : tuple of int
        Leapfrog steps of a transition where it is short and where it is long; for a warning.
    quadrature_error : float
        Nats by which a finer rule may move weights before it is taken.
    """

    max_importance_size: float = float("inf")
    min_points: int = 2**9
    max_points: int = 2**17
    few_points: int = 2**10
    patience: float = 1e10
    climb_share: float = 1 / 6
    min_ess_per_chain: int = 100
    max_dense: int = 3000
    nuts_seconds: float = 1e-8
    nuts_steps: tuple[int, int] = (63, 511)
    quadrature_error: float = 0.05


@dataclass(frozen=True)
class SearchBudget:
    """How thoroughly theta's posterior is searched for modes.

    Attributes
    ----------
    max_starts : int
        Structured starts; the plainest come first.
    near : float
        Starts closer than this in every coordinate of theta, mostly logarithms, are one.
    less_dense : float
        Nats below the top of a prior from which its other modes are no starts.
    far_origin : float
        Means of x, in sds up to a factor 2, from which effects uncorrelated at the mean are
        another start than those uncorrelated at X = 0.
    start_tries : int
        Random points tried before a density without a finite value is given up; of chains too.
    max_size_by_values : int
        Entries of theta up to which differences of values are faster than compiling a gradient.
    newton_size : int
        Entries of theta beyond which a Hessian is formed at modes only, not at each step to them.
    max_gradients : int
        Of such a descent, so that each ends.
    tolerance : float
        Of the gradient at a mode, in nats: far below a posterior sd.
    max_iterations : int
        Newton steps of a descent, so that each ends.
    max_sd : float
        Of a normal approximation: theta are logarithms and the like, and wider is a flat direction.
    less_mass : float
        Nats, a thousandth: modes that are lighter than the heaviest by more are left out.
    max_descents : int
        In all, however many starts there are.
    max_in_vain : int
        Descents in a row that end at known modes, after which no further one is made.
    climbs : int
        Steps up of each start before it is judged, each of ``2 d + 4`` evaluations.
    longest_climb : float
        Of one coordinate in a step.
    stops : int
        Places on the way between two points, where a valley is looked for.
    valley : float
        Nats below both ends that make a valley: more than rounding.
    """

    max_starts: int = 32
    near: float = 0.7
    less_dense: float = 15.0
    far_origin: float = 2.0
    start_tries: int = 100
    max_size_by_values: int = 16
    newton_size: int = 30
    max_gradients: int = 1000
    tolerance: float = 1e-2
    max_iterations: int = 200
    max_sd: float = 5.0
    less_mass: float = 7.0
    max_descents: int = 8
    max_in_vain: int = 3
    climbs: int = 2
    longest_climb: float = 3.0
    stops: int = 8
    valley: float = 0.01


@dataclass(frozen=True)
class ImportanceBudget:
    """The proposal of importance sampling, and when it is good enough.

    Attributes
    ----------
    n_blocks : int
        Independent randomisations, whose spread is the Monte Carlo error: 16 tell an error to a
        fifth, more spoil the evenness of each. A power of two, at most the number of points.
    df : float
        Of the multivariate t: tails heavy enough for any log-concave posterior.
    df_per_entry : float
        Of theta, if that is more: a t of many entries has most of its points too far out.
    inflation : float
        Of the sds of the first proposal: too wide costs less than too narrow.
    max_rounds : int
        Of refitting the proposal to its weighted points.
    good_k_hat : float
        Pareto k up to which weights have a variance; no further round is made.
    good_efficiency : float
        Effective share of the points that is worth no further round.
    min_gain : float
        Factor of the effective points below which a round was the last.
    least_share : float
        Of the points, shared out evenly among a mixture's components, whatever their masses.
    plain_size : int
        Entries of theta up to which rounds have all points, and chains are as long as asked for.
    near_zero : float
        Sd of a scale's logarithm from which the scale lies within some 4 sds of 0 and has a sign.
    many_signs : int
        Such scales from which a theta that is not longer than that has signs.
    probe : int
        Of a longer theta the first round has this fraction of the points.
    hopeless_k_hat, hopeless_share : float
        Pareto k and effective share of the points beyond which a single round is enough to stop.
    poor_k_hat : float
        Pareto k from which a round that gained nothing is the last.
    round_gain : float
        Factor of the effective share below which a round gained nothing, and more points follow.
    more_points, margin : float
        All rounds together have at most so many times the points that are wanted; a round of more
        points has so many times those that seem to be enough.
    frame_ess : float
        Effective points per entry from which their covariance is a frame for chains.
    """

    n_blocks: int = 16
    df: float = 5.0
    df_per_entry: float = 0.5
    inflation: float = 1.1
    max_rounds: int = 6
    good_k_hat: float = 0.5
    good_efficiency: float = 0.35
    min_gain: float = 1.1
    least_share: float = 0.2
    plain_size: int = 30
    near_zero: float = 0.25
    many_signs: int = 5
    probe: int = 2
    hopeless_k_hat: float = 1.2
    hopeless_share: float = 0.01
    poor_k_hat: float = 1.0
    round_gain: float = 1.2
    more_points: float = 8.0
    margin: float = 1.3
    frame_ess: float = 2.0


@dataclass(frozen=True)
class ChainBudget:
    """How often a chain comes back to the host, which can then stop it.

    Attributes
    ----------
    slice_rows : int
        Transitions at most; the compiled program holds so many draws.
    slice_seconds : float
        Wanted between two looks: short for whoever presses Ctrl-C, long beside a call's overhead.
    short_warmup : int
        Transitions at most where a normal approximation is the frame: only steps are to be fitted.
    short_depth, short_accept : int, float
        Of such chains: 7 steps go half round a standard normal if they are as long as this allows.
    short_share : float
        Of the draws asked for, as many as such chains make at first: each stands for several.
    good_r_hat : float
        Up to which short chains agree, so that none as long as were asked for follow.
    long_seconds : float
        Of chains, beyond which a warning says so.
    """

    slice_rows: int = 100
    slice_seconds: float = 0.2
    short_warmup: int = 200
    short_depth: int = 3
    short_accept: float = 0.7
    short_share: float = 0.5
    good_r_hat: float = 1.01
    long_seconds: float = 30.0


@dataclass(frozen=True)
class KernelBudget:
    """How the elimination of the effects is laid out; what is compiled is compiled for these.

    Attributes
    ----------
    unrolled_effects, unrolled_columns : int
        Of a level, up to which its elimination is written out entry by entry and one loop over
        the levels does all of it; beyond, levels are products of matrices.
    chunk, chunk_factorised : int
        Levels at a time, which keeps them in cache; of those written out and of the others.
    entries_on_cpu, entries_on_gpu : int
        Of the arrays over points and levels that are evaluated together.
    scatter : float
        What adding a number where it belongs costs, in multiplications of matrices.
    lapack_rows : int
        Rows of a matrix above which LAPACK is faster, and the program it spares takes seconds to
        compile.
    max_wide : int
        Entries of a crossing as a full matrix, above which it stays sparse.
    """

    unrolled_effects: int = 4
    unrolled_columns: int = 32
    chunk: int = 1024
    chunk_factorised: int = 64
    entries_on_cpu: int = 2**18
    entries_on_gpu: int = 2**26
    scatter: float = 200.0
    lapack_rows: int = 64
    max_wide: int = 2**16


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
    effect_entries : int
        Of groups x components x moments of effects that no statistics say, which are kept.
    line_entries : int
        Of the largest array of rows x components of lines: it stays in cache.
    level_entries : int
        Of levels x components x moments that are made at a time.
    kept, kept_apart : int
        Of the same that are kept between calls: side by side for all components, and a batch of
        components at a time. Of rows x components in a block too.
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
    effect_entries: int = 2**23
    line_entries: int = 2**19
    level_entries: int = 2**21
    kept: int = 2**23
    kept_apart: int = 2**26
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
    quantile_error : float
        Of the chosen components, in sds, that is small enough.
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
    """

    rows: int = 66
    new: float = 0.25
    absent: float = 0.15
    sizes: tuple[tuple[int, int, int], ...] = ((40, 24, 512), (96, 32, 1024), (200, 56, 2048))
    quantile_error: float = 0.005
    max_squared: int = 2**11
    work: float = 2**27
    few_to_ask: int = 512
    unasked_work: float = 1e9
    unasked: tuple[int, int] = (32, 128)


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
    max_crossed: float = 1e9
    max_refits: int = 30
    draws: int = 1024
    draws_for_means: int = 64

    def n_components(self, n: int) -> int:
        """Components that n rows or groups are averaged over, or n places of all rows together."""
        fewest, most = self.components
        return min(max(self.pairs // n, fewest), most)


@dataclass(frozen=True)
class Budget:
    """All tuning constants, by what they are spent on."""

    engine: EngineBudget = EngineBudget()
    search: SearchBudget = SearchBudget()
    importance: ImportanceBudget = ImportanceBudget()
    chains: ChainBudget = ChainBudget()
    kernels: KernelBudget = KernelBudget()
    memory: MemoryBudget = MemoryBudget()
    rule: RuleBudget = RuleBudget()
    scores: ScoreBudget = ScoreBudget()


USUAL = Budget()
