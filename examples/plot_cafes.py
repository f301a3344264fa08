"""Does the cafe where one waits longest in the morning save most in the afternoon?

The model of Statistical Rethinking (McElreath 2020, 2nd ed., ch. 14): every cafe has a morning wait
(intercept) and an afternoon difference (slope), and the two are correlated.

    wait ~ Normal(a_cafe + b_cafe afternoon, sigma)      a ~ Normal(5, 2)   b ~ Normal(-1, 0.5)
    (a_cafe, b_cafe) ~ MVNormal((a, b), S R S)           sds, sigma ~ Exponential(1)   R ~ LKJ(2)

It is fitted in both parameterisations. The posterior is the same, the sampler's work is not: where
the cafes' slopes hardly differ the centered form is a narrow funnel, in which some transitions
diverge even with small steps. The warning says so; the non-centered form is the default.

The figure is the chapter's: each cafe on its own (open) is pulled towards the population (filled),
the more so the more unusual it is, and along the axis of the correlation.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from matplotlib.patches import Ellipse

from skhier import HierarchicalSlopesRegressor, Prior
from skhier.datasets import load_cafes


def models():
    """The two parameterisations of the model."""
    prior = Prior(
        intercept=dist.Normal(5.0, 2.0),
        coef=dist.Normal(-1.0, 0.5),
        group_scale=dist.Exponential(1.0),
        noise_scale=dist.Exponential(1.0),
    )
    shared = {
        "groups": "cafe",
        "prior": prior,
        "eta": 2.0,
        "inference": "nuts",
        "n_draws": 2000,
        "random_state": 0,
    }
    return {
        "non-centered": HierarchicalSlopesRegressor(**shared),
        "centered": HierarchicalSlopesRegressor(**shared, noncentered=False, target_accept=0.95),
    }


def main(path):
    X, y = load_cafes(return_X_y=True, as_frame=True)
    fitted = {name: model.fit(X, y) for name, model in models().items()}
    columns = ["mean", "sd", "mcse", "ess_bulk"]
    tables = {name: model.summary()[columns] for name, model in fitted.items()}
    print(pd.concat(tables, axis=1).round(3).to_string(), "\n")

    model = fitted["non-centered"]
    coef, sd = model.group_coef_["cafe"], model.group_coef_std_["cafe"]
    print(pd.concat({"mean": coef, "sd": sd}, axis=1).round(2).to_string(), "\n")

    draw(model, coef, X.assign(wait=y), path)
    print(f"Figure: {path}")


def draw(model, coef, data, path):
    """Estimates of each cafe alone and partially pooled, on the model's scale and in minutes."""
    waits = data.pivot_table(index="cafe", columns="afternoon", values="wait")
    alone = np.column_stack([waits[0], waits[1] - waits[0]])
    centre = np.array([model.intercept_, model.coef_[0]])
    scale = np.diag(model.group_scale_["cafe"])
    cov = scale @ model.group_corr_["cafe"].to_numpy() @ scale
    to_waits = np.array([[1.0, 0.0], [1.0, 1.0]])  # (a, b) to (morning, afternoon)

    fig, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
    for axis, change in zip(axes, (np.eye(2), to_waits), strict=True):
        for level in (0.5, 0.8, 0.95):
            axis.add_patch(ellipse(change @ centre, change @ cov @ change.T, level))
        ends = np.stack([alone, coef.to_numpy()]) @ change.T
        axis.plot(*np.moveaxis(ends, -1, 0), color="0.55", lw=0.8, zorder=2)
        style = {"linestyle": "none", "marker": "o", "ms": 5.5}
        (raw,) = axis.plot(*ends[0].T, mfc="white", mec="0.35", zorder=3, **style)
        (pooled,) = axis.plot(*ends[1].T, color="C0", zorder=4, **style)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(xlabel="Intercept: morning wait (min)", ylabel="Slope: afternoon - morning (min)")
    axes[1].set(xlabel="Morning wait (min)", ylabel="Afternoon wait (min)")
    axes[1].axline((3.0, 3.0), slope=1.0, color="0.7", lw=0.8, ls=":", zorder=1)
    style = {"rotation": 45, "rotation_mode": "anchor", "transform_rotates_text": True}
    axes[1].text(1.6, 1.7, "same wait all day", color="0.45", size=9, **style)
    fig.legend(
        [raw, pooled, axes[0].patches[0]],
        ["cafe on its own", "partially pooled", "population: 50, 80, 95% of cafes"],
        loc="outside upper center",
        ncols=3,
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def ellipse(centre, cov, level):
    """Where a bivariate normal has this share of its probability."""
    (small, large), axes = np.linalg.eigh(cov)
    reach = 2 * np.sqrt(-2 * np.log(1 - level))  # both ends of sqrt(chi^2_2)
    angle = np.degrees(np.arctan2(*axes[::-1, 1]))
    size = reach * np.sqrt([large, small])
    return Ellipse(centre, *size, angle=angle, fc="C0", ec="C0", alpha=0.12, zorder=0)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/cafes.png"))
