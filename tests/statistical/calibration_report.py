"""The calibration report: python tests/statistical/calibration_report.py (`make calibration`).

Writes the tables of ``docs/calibration.md`` between its marks, and the pictures. The designs, the
prior's own simulator and the planted bugs are also those of ``test_calibration.py``.

The simulator is written from the model's definition, in the user's units, and shares nothing with
the package's priors.
"""

import argparse
import platform
import time
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import numpyro.distributions as dist
import pandas as pd

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.calibration import simulation_based_calibration
from skhier.kernels import flat
from skhier.kernels.normal import collapse as marginal
from skhier.statistics import reduction as _reduction

DOCS = Path(__file__).parents[2] / "docs"
PRIOR = Prior(
    intercept=dist.Normal(50.0, 10.0),
    coef={"x": dist.Normal(0.0, 3.0), "w": dist.Normal(1.0, 2.0)},
    group_scale={"intercept": dist.HalfNormal(8.0), "x": dist.Exponential(0.5)},
    noise_scale=dist.Exponential(0.4),
)
ETA = 2.0
DESIGNS = {"dense": (12, 8), "sparse": (40, 2), "small": (6, 4), "ungrouped": (1, 5)}
# groups, rows of each
NUTS = {"inference": "nuts", "n_chains": 2}
RUNS = {  # title: design, share of the simulations, the estimator's parameters
    "dense": ("dense", 1.0, {}),
    "sparse": ("sparse", 1.0, {}),
    "NUTS on the joint model, dense": ("dense", 0.06, NUTS),
}
PICTURES = {"dense": "calibration_dense", "sparse": "calibration_sparse"}
N_BUG_FITS = 200
BUG_PICTURE = "all rows ignored: posterior = prior"
BUG_FITS = {
    "coefficients' log determinant dropped": 1000,
    "Jacobian of log tau forgotten": 50,  # seconds each: that density is improper
}
START, END = "<!-- figures -->", "<!-- end of figures -->"


def design(name):
    """X: ``x``, whose slope varies, ``w``, whose does not, and the groups; far from centred."""
    n_groups, n_each = DESIGNS[name]
    rng = np.random.default_rng(20261120)
    n = n_groups * n_each
    X = pd.DataFrame({"x": 3 + 2 * rng.normal(size=n), "w": rng.exponential(size=n) - 2})
    if name != "ungrouped":
        X["g"] = np.repeat([f"g{i:02d}" for i in range(n_groups)], n_each)
    return X


def model(**params):
    """The estimator whose prior :func:`draw_prior` draws from."""
    defaults = {"groups": "g", "slopes": ["x"], "prior": PRIOR, "eta": ETA}
    return HierarchicalSlopesRegressor(**{**defaults, **params})


def draw_prior(rng):
    """PRIOR and LKJ(ETA) once more; in two dimensions (rho + 1) / 2 ~ Beta(eta, eta)."""
    rho = 2 * rng.beta(ETA, ETA) - 1
    return {
        "intercept": rng.normal(50, 10),
        "coef": [rng.normal(0, 3), rng.normal(1, 2)],
        "noise_scale": rng.exponential(1 / 0.4),
        "group_scale": [abs(rng.normal(0, 8)), rng.exponential(1 / 0.5)],
        "group_corr": [[1, rho], [rho, 1]],
    }


def calibrate(name, n_simulations, seed=0, **params):
    """The report of one design."""
    if name == "ungrouped":
        params = {"groups": None, "slopes": "all", **params}
    return simulation_based_calibration(
        model(**params),
        design(name),
        n_simulations,
        draw_prior=draw_prior,
        random_state=seed,
    )


def _without_group_determinants(collapse):
    def planted(stats, plan, chols, sigma, budget):
        found = collapse(stats, plan, chols, sigma, budget)
        return found._replace(log_det=stats.n * jnp.log(sigma**2))

    return planted


def _without_coef_determinant(log_det_and_schur):
    def planted(system, k, lapack_rows):
        log_det, *rest = log_det_and_schur(system, k, lapack_rows)
        return 0 * log_det, *rest

    return planted


def _without_jacobian(at):
    """The exponential's is its argument: the parameter's place in the flat vector."""

    def plant(log_density):
        return lambda program, data, position: log_density(program, data, position) - position[at]

    return plant


def _with_weights(change):
    def plant(group_stats):
        def planted(x, y, weights, *rest):
            return group_stats(x, y, change(weights), *rest)

        return planted

    return plant


def _every_other(weights):
    return weights * (np.arange(len(weights)) % 2)


BUGS = {  # what it is: module, function, what it becomes, design
    "groups' log determinants dropped": (
        marginal,
        "collapse",
        _without_group_determinants,
        "dense",
    ),
    "coefficients' log determinant dropped": (
        marginal,
        "log_det_and_schur",
        _without_coef_determinant,
        "small",
    ),
    "Jacobian of log sigma forgotten": (flat, "log_density", _without_jacobian(0), "ungrouped"),
    "Jacobian of log tau forgotten": (flat, "log_density", _without_jacobian(1), "dense"),
    "every other row ignored": (_reduction, "group_stats", _with_weights(_every_other), "dense"),
    # 0 rows would be a constant y
    "all rows ignored: posterior = prior": (
        _reduction,
        "group_stats",
        _with_weights(lambda weights: 1e-12 * weights),
        "small",
    ),
}


@contextmanager
def planted(bug):
    """The package with a bug; compiled programs, which are kept by shape, are forgotten."""
    module, name, plant, _ = BUGS[bug]
    jax.clear_caches()
    try:
        with mock.patch.object(module, name, plant(getattr(module, name))):
            yield
    finally:
        jax.clear_caches()


def calibrate_bug(bug, n_simulations, seed=0):
    """The report that should reject."""
    with planted(bug):
        return calibrate(BUGS[bug][3], n_simulations, seed)


def main(n_simulations):
    """Run everything; the text around the marks is written by hand."""
    lines = [heading(n_simulations), ""]
    images = DOCS / "images"
    for title, (name, share, params) in RUNS.items():
        began = time.perf_counter()
        report = calibrate(name, round(share * n_simulations), **params)
        print(f"{title}\n{report}\n", flush=True)
        lines += [*section(title, report, time.perf_counter() - began), ""]
        if title in PICTURES:
            save(report, images / f"{PICTURES[title]}.png")
            lines += [f"![{title}](images/{PICTURES[title]}.png)", ""]
    lines += ["### Planted bugs", "", *bug_table(images), ""]
    path = DOCS / "calibration.md"
    text = path.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    path.write_text("\n".join([before + START, "", *lines, END]) + after, encoding="utf-8")
    print(f"Report: {path}")


def heading(n_simulations):
    """Date and versions."""
    names = ("jax", "numpyro", "numpy", "scipy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{date.today()}, skhier {version('skhier')}, {versions}, Python "
        f"{platform.python_version()}; {n_simulations} fits a design."
    )


def section(title, report, seconds):
    """A table of one run."""
    fits = report.fits
    samplers = ", ".join(f"{n} by {name}" for name, n in fits["sampler"].value_counts().items())
    lines = [
        f"### {title}",
        "",
        f"{len(fits)} fits ({samplers}), {seconds:.0f} s; {int((fits['n_warnings'] > 0).sum())} "
        f"warned of convergence; smallest effective sample size {fits['ess_bulk'].min():.0f}, "
        f"median {fits['ess_bulk'].median():.0f}. **p-value of all quantities together: "
        f"{report.p_value:.2g}.**",
        "",
        "| quantity | mean rank | worst deviation | at | p | in 50% | in 90% |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in report.to_frame().iterrows():
        lines.append(
            f"| {name} | {row.mean_rank:.3f} | {row.deviation:+.3f} | {row['at']:.2f} | "
            f"{row.p_value:.2g} | {row.in_50:.3f} | {row.in_90:.3f} |"
        )
    return lines


def bug_table(images):
    """What the report says of the package with each bug."""
    lines = [
        "| bug | design | fits | p of all | worst quantity | its p | p of the parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for bug, (*_, name) in BUGS.items():
        report = calibrate_bug(bug, BUG_FITS.get(bug, N_BUG_FITS))
        print(f"{bug}\n{report}\n", flush=True)
        p = report.to_frame()["p_value"]
        of_parameters = [p[quantity] for quantity in p.index if not quantity.startswith("log_")]
        together = min(1.0, len(of_parameters) * min(of_parameters))
        lines.append(
            f"| {bug} | {name} | {len(report.fits)} | {shown(report.p_value)} | {p.idxmin()} | "
            f"{shown(p.min())} | {shown(together)} |"
        )
        if bug == BUG_PICTURE:
            save(report, images / "calibration_bug.png")
    return lines


def shown(p):
    """Two digits; nothing below 1e-12 is told apart."""
    return f"{p:.2g}" if p > 1e-12 else "< 1e-12"


def save(report, path):
    """A picture of the report."""
    matplotlib.use("Agg")
    report.plot().savefig(path, dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write docs/calibration.md's figures.")
    parser.add_argument("--fits", type=int, default=1000, help="of each design (1000)")
    main(parser.parse_args().fits)
