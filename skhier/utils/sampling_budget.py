"""Tuning constants of sampling: engines, the search for modes, importance weights and chains."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChainBudget", "EngineBudget", "ImportanceBudget", "QuadratureBudget", "SearchBudget"]


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
        Effective points or draws below which neither weights nor chains are trusted: the limit by
        which diagnostics judge chains.
    min_ess_share : float
        Of the points or draws, which is enough where they are too few for that.
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
    min_ess_share: float = 0.1
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
    near_mode : float
        Posterior sds from a mode, from where a step is the last one and nothing is evaluated where
        it ends; 0: there is always another look.
    max_sd : float
        Of a normal approximation: theta are logarithms and the like, and wider is a flat direction.
    less_mass : float
        Nats, a thousandth: modes that are lighter than the heaviest by more are left out.
    max_descents : int
        In all, however many starts there are.
    steps_to_look : int
        Of a descent, between looks whether it is on the hill of a known mode.
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
    near_mode: float = 0.0
    max_sd: float = 5.0
    less_mass: float = 7.0
    max_descents: int = 8
    steps_to_look: int = 4
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
    df_of_partials : float
        The same where rows tell effects so badly that a posterior has heavier tails.
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
    tail_shift, tail_sd, tail_share : float
        Of components for scales near 0: by how much the logarithm's mean is less, its sd, and the
        share beside the component's own.
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
        All rounds together have at most so many times the points that are wanted, and the best
        proposal as many more if these are enough; a round of more points has so many times those
        that seem to be enough.
    plenty : float
        Times the effective points that are needed, of signed scales: worth no further round.
    frame_ess : float
        Effective points per entry from which their covariance is a frame for chains.
    centrings, centring_pairs : int
        Times that a proposal in Bartlett's coordinates is moved to the mean, at most; pairs of
        gradients that tell by how much.
    carried_points : int
        Of such coordinates that are carried over to theta at a time: their matrices stay small.
    near_mean, far_mean : float
        Sds: so short a move was the last; so long a one asks for the curvature elsewhere.
    """

    n_blocks: int = 16
    df: float = 5.0
    df_per_entry: float = 0.5
    df_of_partials: float = 0.25
    inflation: float = 1.1
    max_rounds: int = 6
    good_k_hat: float = 0.5
    good_efficiency: float = 0.35
    min_gain: float = 1.1
    least_share: float = 0.2
    tail_shift: float = 2.0
    tail_sd: float = 1.2
    tail_share: float = 0.2
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
    plenty: float = 2.5
    frame_ess: float = 2.0
    centrings: int = 3
    centring_pairs: int = 64
    carried_points: int = 2**10
    near_mean: float = 0.5
    far_mean: float = 5.0


@dataclass(frozen=True)
class QuadratureBudget:
    """What is integrated out by nodes: effects of rows, noises of levels.

    Attributes
    ----------
    points_compared : int
        Points of theta at which a rule is compared with the next finer one.
    most_nodes, most_noise_nodes : int
        A dimension; of effects, and of noises, where one more costs little.
    lattice_nodes, lattice_nodes_of_three : tuple of int
        A dimension, where a level's effects have several modes: to begin with, where these need
        more, and of the rule that tells; of up to two effects, and of three.
    far_points : int
        Points of theta at which that rule is asked whether effects may have several modes.
    moment_points, moment_shift : int, float
        Points of theta at which kept moments of levels are compared with the next finer rule's, and
        by how much a mean, in sds, or a share of an sd may differ.
    most_points : int
        Of theta, where weights ask for more.
    repeated_rows : int
        Equal rows that count as one where a level's effects are judged for their shape.
    few_entries_of_theta : int
        Up to which a Hessian is of differences of values: a gradient of rows compiles for long.
    row_points, row_points_on_gpu : int
        Rows of a block times points that are evaluated together: in a processor's cache, or enough
        for a GPU to be busy.
    fewest_points, points_at_once, noise_points_at_once, points_on_gpu : int
        Of theta, whatever the rows or levels.
    levels_at_once : int
        Levels times points whose moments leave a processor together, some 10 numbers each, of two
        batches side by side, with the copies of such arrays that a program makes.
    level_points, level_points_on_gpu : int
        The same of levels with a noise of their own.
    many_batches : int
        Of theta, of which calls take longer than a program for all points is compiled.
    followed : float
        Sds of theta along an axis, beyond which searches for effects begin as there.
    many_levels : int
        From which rows leave theta nearly normal: its modes are looked for less thoroughly.
    near_mode_of_many : float
        Then ``near_mode``; see :class:`SearchBudget`.
    nodes_in_parts : int
        Of a rule whose finer one takes parts of one shape: of more nodes parts have many cells.
    round_points : int
        Levels times points of a round of importance sampling.
    moment_nodes : int
        At least, of what is kept of levels' noises.
    """

    points_compared: int = 32
    most_nodes: int = 15
    most_noise_nodes: int = 25
    lattice_nodes: tuple[int, int, int] = (9, 25, 33)
    lattice_nodes_of_three: tuple[int, int, int] = (7, 13, 19)
    far_points: int = 4
    moment_points: int = 16
    moment_shift: float = 0.025
    most_points: int = 2**14
    repeated_rows: int = 8
    few_entries_of_theta: int = 10
    row_points: int = 2**14
    row_points_on_gpu: int = 2**22
    fewest_points: int = 4
    points_at_once: int = 16
    noise_points_at_once: int = 32
    points_on_gpu: int = 128
    levels_at_once: int = 2**20
    level_points: int = 2**15
    level_points_on_gpu: int = 2**20
    many_batches: int = 100
    followed: float = 4.0
    many_levels: int = 200
    near_mode_of_many: float = 0.3
    nodes_in_parts: int = 5
    round_points: int = 2**20
    moment_nodes: int = 9

    def nodes_of_lattice(self, n_effects: int) -> tuple[int, int, int]:
        """Of levels with so many effects."""
        return self.lattice_nodes if n_effects < 3 else self.lattice_nodes_of_three


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
    framed_warmup : int
        Of chains of every parameter of rows, where scales are not fitted to anew.
    close_warmup, close_accept : int, float
        Of chains in the same frame where those do not agree: smaller steps, as many as they want.
    most_close : int
        Times the draws asked for, so many of these where fewer have too low effective numbers.
    reserve : float
        Times as many further draws as an effective number, which is an estimate, says are missing.
    half_turn : float
        Steps of these chains half round a standard normal, of one dimension.
    most_dense : int
        Entries of theta and of levels' effects whose joint curvature is a frame's.
    most_coupled : int
        These times all levels' effects.
    most_together : int
        Coefficients, and effects of factors of few levels that move with them.
    most_frames : int
        Of rows, on the way to the mode.
    longest_move : float
        Sds of an entry, in one frame.
    near_frame : float
        Sds: a frame so near to the mode stays.
    """

    slice_rows: int = 100
    slice_seconds: float = 0.2
    short_warmup: int = 200
    short_depth: int = 3
    short_accept: float = 0.7
    short_share: float = 0.5
    good_r_hat: float = 1.01
    long_seconds: float = 30.0
    framed_warmup: int = 100
    close_warmup: int = 200
    close_accept: float = 0.9
    most_close: int = 3
    reserve: float = 1.5
    half_turn: float = 1.4
    most_dense: int = 500
    most_coupled: int = 4 * 10**6
    most_together: int = 32
    most_frames: int = 8
    longest_move: float = 10.0
    near_frame: float = 0.1
