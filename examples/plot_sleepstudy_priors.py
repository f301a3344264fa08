"""How much does the prior of the group effects matter: independent, LKJ, or decov?

The sleep study in the four ways of T. Capretto's post "Hierarchical modeling with the LKJ prior in
PyMC" (2022). All have intercept ~ Normal(mean(y), 50) at Days = 0, slope ~ Normal(0, 10) and
sigma ~ HalfStudentT(4, 50); they differ in the covariance of the subjects' effects:

1. independent: tau ~ HalfNormal(50), HalfNormal(10), no correlation;
2. correlated: the same tau, correlation ~ LKJ(1);
3. the same, with the Cholesky factor of the covariance built by hand. That changes the program and
   not the model: here it is the same estimator, so it is not fitted twice;
4. decov, rstanarm's prior: tau = sigma t sqrt(2 pi), t ~ Gamma(1, 1) and pi ~ Dirichlet(1, 1), a
   share of variance, hence the square root (the post leaves it out), correlation ~ LKJ(1).

The figure is the post's forest plot. The data leave the correlation near 0, so independent and
correlated effects agree; decov ties tau to sigma and draws the intercepts a little further in.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import pandas as pd

from skhier import DecovPrior, HierarchicalSlopesRegressor, Prior
from skhier.datasets import load_sleepstudy


def models(y):
    """Estimators by the name of their prior."""
    shared = {
        "intercept": dist.Normal(y.mean(), 50.0),
        "coef": dist.Normal(0.0, 10.0),
        "noise_scale": dist.FoldedDistribution(dist.StudentT(4.0, 0.0, 50.0)),  # HalfStudentT
    }
    tau = {"intercept": dist.HalfNormal(50.0), "Days": dist.HalfNormal(10.0)}
    model = {"groups": "Subject", "eta": 1.0, "target_accept": 0.95, "random_state": 0}
    half_normal = Prior(**shared, group_scale=tau)
    return {
        "independent": HierarchicalSlopesRegressor(**model, prior=half_normal, correlated=False),
        "correlated": HierarchicalSlopesRegressor(**model, prior=half_normal),
        "decov": HierarchicalSlopesRegressor(**model, prior=DecovPrior(**shared)),
    }


def main(path):
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    fitted = {name: model.fit(X, y) for name, model in models(y).items()}
    tables = {name: model.summary()[["mean", "sd"]] for name, model in fitted.items()}
    rows = tables["correlated"].index
    print(pd.concat(tables, axis=1).reindex(rows).round(2).to_string(na_rep="-"), "\n")
    draw(fitted, path)
    print(f"Figure: {path}")


COLORS = {"independent": "C7", "correlated": "C0", "decov": "C1"}


def draw(fitted, path):
    """Posterior means and 90% intervals of the subjects' coefficients and of the population."""
    panels = {name: draws_by_panel(model) for name, model in fitted.items()}
    subjects, population = np.split(list(panels["decov"]), [2])
    rows = [[*subjects, panel] for panel in population]
    fig = plt.figure(figsize=(11, 8.2), layout="constrained")
    fig.get_layout_engine().set(hspace=0.06)
    axes = fig.subplot_mosaic(rows, width_ratios=[1, 1, 0.72])
    for i, (name, color) in enumerate(COLORS.items()):
        for panel, draws in panels[name].items():
            forest(axes[panel], draws, 0.26 * (i - 1), color, name)
    levels = fitted["decov"].group_levels_["Subject"]
    for panel in subjects:
        axes[panel].set(xlabel=panel, ylim=(len(levels) - 0.5, -0.5))
        axes[panel].set_yticks(range(len(levels)), levels)
        axes[panel].set_yticks(np.arange(-0.5, len(levels)), minor=True)
        axes[panel].grid(axis="y", which="minor", color="0.92")
        axes[panel].tick_params(axis="y", which="both", length=0)
    axes[subjects[0]].set_ylabel("Subject")
    axes[subjects[1]].tick_params(labelleft=False)
    for panel in population:
        axes[panel].set(ylim=(0.5, -0.5), yticks=[])
        axes[panel].set_title(panel, loc="left", size=10)
    for axis in axes.values():
        axis.spines[["top", "right", "left"]].set_visible(False)
    handles = axes[subjects[0]].get_legend_handles_labels()
    title = "Posterior mean and 90% interval"
    fig.legend(*handles, title=title, loc="outside upper center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def forest(axis, draws, offset, color, label):
    """A point and an interval for each column of the draws."""
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    mean, at = draws.mean(0), np.arange(draws.shape[1]) + offset
    errors = np.abs([low, high] - mean)
    axis.errorbar(mean, at, xerr=errors, fmt="o", ms=4, color=color, label=label)


def draws_by_panel(model):
    """Draws (n_draws, n_rows) for each panel of the figure, the subjects' two first."""
    posterior, effects = model.posterior_, model.sample_group_effects("Subject")
    intercept, slope = posterior["intercept"], posterior["coef"][..., 0]
    tau, corr = posterior["group_scale"]["Subject"], posterior["group_corr"]["Subject"]
    population = {
        "Mean of the intercepts (ms)": intercept,
        "Mean of the slopes (ms per day)": slope,
        "sd of the intercepts (ms)": tau[..., 0],
        "sd of the slopes (ms per day)": tau[..., 1],
        "sd of the noise (ms)": posterior["noise_scale"],
        "Correlation of intercept and slope": corr[..., 0, 1],
    }
    return {
        "Intercept (ms)": intercept.reshape(-1, 1) + effects[..., 0],
        "Slope (ms per day of sleep deprivation)": slope.reshape(-1, 1) + effects[..., 1],
        **{panel: draws.reshape(-1, 1) for panel, draws in population.items()},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/sleepstudy_priors.png"))
