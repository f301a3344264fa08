"""Posteriors by another route than the package's, for models that no published figures exist for.

    V_g = Z_g Sigma Z_g' + sigma^2 I,   y_g ~ Normal(X_g beta, V_g),   beta ~ Normal(m0, P0^-1)

with every ``V_g`` written out as a matrix of rows by rows. Coefficients and group effects are drawn
from their conditional normals; sigma, tau and Omega by importance sampling from a multivariate t
that is adapted to them. NumPy and SciPy only, no Markov chains. Correlations are parameterised by
the partial ones of a C-vine: Lewandowski, Kurowicka and Joe (2009), J. Multivar. Anal. 100, sec. 2.

Run ``python tests/reference/make_exact.py``; it rewrites ``data/sleepstudy_decov.json``,
``data/pipeline.json`` and ``data/cafes.json`` and prints how the same code does on a model whose
posterior is known.
"""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, stats

from skhier.datasets import load_cafes, load_sleepstudy

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parents[2] / "examples"
BATCH = 2000


class Problem(NamedTuple):
    """Rows of every group, the prior of beta, and the prior of the rest.

    ``hyper`` maps points (S, d) on the real line to ``sigma`` (S,), ``tau`` (S, q), ``chol``
    (S, q, q), the Cholesky factor of Omega, and their log density, Jacobians included.
    """

    x: list[np.ndarray]
    z: list[np.ndarray]
    y: list[np.ndarray]
    prior_mean: np.ndarray
    prior_sd: np.ndarray
    hyper: Callable[[np.ndarray], tuple]
    start: np.ndarray


def posterior(problem: Problem, n_draws: int, seed: int = 0) -> tuple[dict[str, Any], np.ndarray]:
    """Draws of ``beta`` (S, p), ``b`` (S, G, q), ``sigma``, ``tau``, ``corr``; weights (S,)."""
    rng = np.random.default_rng(seed)
    loc, cov = _mode(problem)
    for size in (4000, 4000, 20_000, n_draws):
        proposal = stats.multivariate_t(loc, cov, df=7, seed=rng)
        u = np.atleast_2d(proposal.rvs(size))
        log_weight, draws = _evaluate(problem, u, rng)
        log_weight -= proposal.logpdf(u)
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        loc, cov = weight @ u, 1.2 * np.cov(u.T, aweights=weight) * 5 / 7
    return draws, weight


def summarise(draws: np.ndarray, weight: np.ndarray) -> list[float]:
    """Mean, sd and their Monte Carlo standard errors (delta method)."""
    mean = weight @ draws
    squares = (draws - mean) ** 2
    sd = np.sqrt(weight @ squares)
    error = np.sqrt(weight**2 @ squares)
    error_sd = np.sqrt(weight**2 @ (squares - sd**2) ** 2) / (2 * sd)
    return [float(f"{v:.8g}") for v in (mean, sd, error, error_sd)]


def _mode(problem):
    """Mode and the inverse of minus the Hessian there, by central differences."""
    rng, step = np.random.default_rng(0), 1e-3

    def minus_log_density(u):
        return -_evaluate(problem, np.atleast_2d(u), rng)[0]

    mode = optimize.minimize(lambda u: minus_log_density(u)[0], problem.start).x
    moves = step * np.eye(len(mode))
    ends = [(s * a + t * b) for a in moves for b in moves for s in (1, -1) for t in (1, -1)]
    values = minus_log_density(mode + np.array(ends)).reshape(len(mode), len(mode), 2, 2)
    signs = np.array([[1, -1], [-1, 1]])
    return mode, np.linalg.inv((values * signs).sum((2, 3)) / (4 * step**2))


def _evaluate(problem, u, rng):
    """Log density of the hyperparameters given y, and draws of everything given them."""
    parts = [_batch(problem, u[i : i + BATCH], rng) for i in range(0, len(u), BATCH)]
    draws = {k: np.concatenate([d[k] for _, d in parts]) for k in parts[0][1]}
    return np.concatenate([log_density for log_density, _ in parts]), draws


def _batch(problem, u, rng):
    sigma, tau, chol, log_prior = problem.hyper(u)
    root = tau[:, :, None] * chol
    cov = root @ np.swapaxes(root, 1, 2)
    p = len(problem.prior_mean)
    gram, log_det, n = np.zeros((len(u), p + 1, p + 1)), np.zeros(len(u)), 0
    inverses = []
    for x, z, y in zip(problem.x, problem.z, problem.y, strict=True):
        v = z @ cov @ z.T + sigma[:, None, None] ** 2 * np.eye(len(y))
        inverses.append(np.linalg.inv(v))
        columns = np.column_stack([x, y])
        gram += columns.T @ inverses[-1] @ columns
        log_det += np.linalg.slogdet(v)[1]
        n += len(y)
    p0 = np.diag(problem.prior_sd**-2)
    m0 = problem.prior_mean
    precision, k = gram[:, :p, :p] + p0, gram[:, :p, p] + p0 @ m0
    beta_cov = np.linalg.inv(precision)
    beta_mean = np.einsum("sij,sj->si", beta_cov, k)
    quadratic = gram[:, p, p] + m0 @ p0 @ m0 - np.einsum("si,si->s", k, beta_mean)
    log_det += np.linalg.slogdet(precision)[1] - np.linalg.slogdet(p0)[1]
    log_density = log_prior - 0.5 * (n * np.log(2 * np.pi) + log_det + quadratic)
    beta = beta_mean + _normal(beta_cov, rng)
    b = []
    for x, z, y, inverse in zip(problem.x, problem.z, problem.y, inverses, strict=True):
        gain = cov @ z.T @ inverse
        mean = np.einsum("sqn,sn->sq", gain, y - beta @ x.T)
        b.append(mean + _normal(cov - gain @ z @ cov, rng))
    corr = chol @ np.swapaxes(chol, 1, 2)
    draws = {"beta": beta, "b": np.stack(b, 1), "sigma": sigma, "tau": tau, "corr": corr}
    return log_density, draws


def _normal(cov, rng):
    root = np.linalg.cholesky(cov)
    return np.einsum("sij,sj->si", root, rng.standard_normal(cov.shape[:2]))


def lkj(partials: np.ndarray, q: int, eta: float) -> tuple[np.ndarray, np.ndarray]:
    """Cholesky factor of Omega and log density at the arctanh of its partial correlations."""
    partial = np.tanh(partials)
    chol = np.zeros((len(partial), q, q))
    chol[:, 0, 0] = 1
    log_density, at = np.zeros(len(partial)), 0
    for i in range(1, q):
        left = np.ones(len(partial))
        for k in range(i):
            r = partial[:, at]
            chol[:, i, k] = r * np.sqrt(left)
            left *= 1 - r**2
            shape = eta + (q - 2 - k) / 2
            log_density += stats.beta.logpdf((1 + r) / 2, shape, shape) + np.log((1 - r**2) / 2)
            at += 1
        chol[:, i, i] = np.sqrt(left)
    return chol, log_density


def _log_half_student_t(value, df, scale):
    return np.log(2) + stats.t.logpdf(value, df, scale=scale)


def sleepstudy(hyper: Callable[[np.ndarray], tuple], start: list[float]) -> Problem:
    """The data with the priors of the population coefficients that all models share."""
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    design = np.column_stack([np.ones(len(X)), X["Days"]])
    rows = [np.flatnonzero(X["Subject"] == label) for label in sorted(X["Subject"].unique())]
    x, targets = [design[i] for i in rows], [y.to_numpy()[i] for i in rows]
    mean, sd = np.array([y.mean(), 0.0]), np.array([50.0, 10.0])
    return Problem(x, x, targets, mean, sd, hyper, np.array(start))


def half_normal_hyper(u: np.ndarray) -> tuple:
    """sigma ~ HalfStudentT(4, 50), tau ~ HalfNormal(50), HalfNormal(10), Omega ~ LKJ(1)."""
    sigma, tau = np.exp(u[:, 0]), np.exp(u[:, 1:3])
    chol, log_density = lkj(u[:, 3:], 2, 1.0)
    log_density += u[:, :3].sum(1) + _log_half_student_t(sigma, 4, 50)
    return sigma, tau, chol, log_density + stats.halfnorm.logpdf(tau, scale=[50, 10]).sum(1)


def decov_hyper(u: np.ndarray) -> tuple:
    """sigma ~ HalfStudentT(4, 50), tau = sigma t sqrt(2 pi), t ~ Gamma(1, 1), pi_1 ~ Uniform."""
    sigma, size, share = np.exp(u[:, 0]), np.exp(u[:, 1]), 1 / (1 + np.exp(-u[:, 2]))
    chol, log_density = lkj(u[:, 3:], 2, 1.0)
    log_density += u[:, :2].sum(1) + np.log(share * (1 - share))
    log_density += _log_half_student_t(sigma, 4, 50) + stats.gamma.logpdf(size, 1)
    shares = np.column_stack([share, 1 - share])
    return sigma, (sigma * size)[:, None] * np.sqrt(2 * shares), chol, log_density


def sleepstudy_table(draws: dict[str, np.ndarray], weight: np.ndarray) -> dict[str, list[float]]:
    """Figures of every parameter under the package's names."""
    levels = sorted(load_sleepstudy(return_X_y=True, as_frame=True)[0]["Subject"].unique())
    beta = draws["beta"]
    return _table(beta[:, 0], beta[:, 1:], draws, weight, ["Days"], "Subject", ["Days"], levels)


def cafes() -> tuple[Problem, Callable[..., dict[str, list[float]]]]:
    """The table that is shipped, under the priors of examples/plot_cafes.py."""
    X, y = load_cafes(return_X_y=True, as_frame=True)
    design = np.column_stack([np.ones(len(X)), X["afternoon"]])
    levels = sorted(X["cafe"].unique())
    rows = [np.flatnonzero(X["cafe"] == level) for level in levels]

    def hyper(u):
        sigma, tau = np.exp(u[:, 0]), np.exp(u[:, 1:3])
        chol, log_density = lkj(u[:, 3:], 2, 2.0)
        log_density += u[:, :3].sum(1) + stats.expon.logpdf(sigma)
        return sigma, tau, chol, log_density + stats.expon.logpdf(tau).sum(1)

    def table(draws, weight):
        beta, slopes = draws["beta"], ["afternoon"]
        return _table(beta[:, 0], beta[:, 1:], draws, weight, slopes, "cafe", slopes, levels)

    x, targets = [design[i] for i in rows], [y.to_numpy()[i] for i in rows]
    prior_mean, prior_sd = np.array([5.0, -1.0]), np.array([2.0, 0.5])
    return Problem(x, x, targets, prior_mean, prior_sd, hyper, np.array([-0.7, 0, -1, -0.5])), table


def pipeline() -> tuple[Problem, Callable[..., dict[str, list[float]]]]:
    """The example's data, its design written out by hand, and the default priors."""
    example = runpy.run_path(str(EXAMPLES / "plot_pipeline.py"), run_name="example")
    X, y, _ = example["simulate"]()
    y = y.to_numpy()
    hours, level = X["hours"], X["level"]
    columns = {
        "hours": hours,
        "level": level,
        "hours level": hours * level,
        "method_games": 1.0 * (X["method"] == "games"),
        "method_videos": 1.0 * (X["method"] == "videos"),
    }
    features = np.column_stack(list(columns.values()))
    mean, sd = features.mean(0), features.std(0, ddof=1)
    x = np.column_stack([np.ones(len(y)), features - mean])  # the intercept's prior is at the mean
    z = np.column_stack([np.ones(len(y)), hours, level])
    scales = y.std(ddof=1) / np.array([1.0, sd[0], sd[1]])
    levels = sorted(X["school"].unique())
    rows = [np.flatnonzero(X["school"] == label) for label in levels]

    def hyper(u):
        sigma, tau = np.exp(u[:, 0]), np.exp(u[:, 1:4])
        chol, log_density = lkj(u[:, 4:], 3, 2.0)
        log_density += u[:, :4].sum(1) + stats.expon.logpdf(sigma, scale=scales[0])
        return sigma, tau, chol, log_density + stats.expon.logpdf(tau, scale=scales).sum(1)

    def table(draws, weight):
        coef = draws["beta"][:, 1:]
        intercept = draws["beta"][:, 0] - coef @ mean
        effects = ["hours", "level"]
        return _table(intercept, coef, draws, weight, list(columns), "school", effects, levels)

    prior_mean = np.append(y.mean(), np.zeros(features.shape[1]))
    prior_sd = 2.5 * y.std(ddof=1) / np.append(1.0, sd)
    start = np.append(np.log(y.std() / 2) + np.zeros(4), np.zeros(3))
    parts = [[a[i] for i in rows] for a in (x, z, y)]
    return Problem(*parts, prior_mean, prior_sd, hyper, start), table


def _table(intercept, coef, draws, weight, names, factor, slopes, levels):
    effects = ["intercept", *slopes]
    scalars = {"intercept": intercept}
    scalars |= {f"coef[{name}]": coef[:, j] for j, name in enumerate(names)}
    scalars["noise_scale"] = draws["sigma"]
    for j, effect in enumerate(effects):
        scalars[f"group_scale[{factor}, {effect}]"] = draws["tau"][:, j]
    for i, j in zip(*np.triu_indices(len(effects), 1), strict=True):
        name = f"group_corr[{factor}, {effects[i]}, {effects[j]}]"
        scalars[name] = draws["corr"][:, i, j]
    for g, level in enumerate(levels):
        for j, effect in enumerate(effects):
            scalars[f"group_effects[{factor}, {level}, {effect}]"] = draws["b"][:, g, j]
    return {name: summarise(values, weight) for name, values in scalars.items()}


def _write(name, model, table, weight):
    size = f"{len(weight)} draws, effective sample size {1 / (weight**2).sum():.0f}"
    head = {
        "source": f"make_exact.py: importance sampling with dense covariances, {size}.",
        "model": model,
        "columns": ["mean", "sd", "mcse_mean", "mcse_sd"],
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in table.items())
    lines.append(f' "parameters": {{\n{rows}\n }}')
    (DATA / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{name}: {size}")


def _check_on_known_posterior():
    draws, weight = posterior(sleepstudy(half_normal_hyper, [3.3, 3.3, 1.8, 0.1]), 200_000)
    table = sleepstudy_table(draws, weight)
    known = json.loads((DATA / "sleepstudy_correlated.json").read_text(encoding="utf-8"))
    ours = np.array([table[name] for name in known["parameters"]])
    theirs = np.array(list(known["parameters"].values()))
    z = (ours - theirs)[:, :2] / np.hypot(ours[:, 2:], theirs[:, 2:])
    print(
        f"known posterior: {len(z)} parameters, root mean square z {np.sqrt((z**2).mean(0))}, "
        f"largest {np.abs(z).max(0)} (means, sds)"
    )


if __name__ == "__main__":
    _check_on_known_posterior()
    draws, weight = posterior(sleepstudy(decov_hyper, [3.3, -0.3, 2.0, 0.1]), 200_000)
    text = "intercept ~ N(mean(y), 50) at Days = 0, slope ~ N(0, 10), {}, correlation ~ LKJ({})"
    decov = "sigma ~ HalfStudentT(4, 50), decov(concentration=1, shape=1, scale=1)"
    _write("sleepstudy_decov", text.format(decov, 1), sleepstudy_table(draws, weight), weight)
    problem, table = pipeline()
    draws, weight = posterior(problem, 50_000)
    _write("pipeline", "examples/plot_pipeline.py, default priors", table(draws, weight), weight)
    problem, table = cafes()
    draws, weight = posterior(problem, 200_000)
    _write("cafes", "examples/plot_cafes.py", table(draws, weight), weight)
