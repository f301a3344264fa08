"""How do several slopes, an interaction and a categorical column enter? Through a Pipeline.

Simulated test scores of pupils in 40 schools. Hours of study and the level at entry have slopes
that vary by school; their product (PolynomialFeatures) and the teaching method (OneHotEncoder) have
the same coefficients everywhere. The grouping column passes through the transformers as it is, so
that the pipeline predicts from a plain table, cross-validates and pickles like any other.

The data are simulated, so the table and the figure show the truth beside the estimates.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

COEF = {"hours": 4.0, "level": 6.0}
INTERACTION = 1.5
METHODS = {"games": 3.0, "lecture": 0.0, "videos": -2.0}


def simulate():
    """Pupils, their scores in points, and the truth; hours and level in standard units."""
    sim = make_hierarchical(
        800,
        n_features=2,
        groups={"school": 40},
        intercept=50.0,
        coef=list(COEF.values()),
        group_scale=[5.0, 2.0, 1.0],
        group_corr=0.4,
        noise_scale=5.0,
        random_state=0,
    )
    X = sim.data.rename(columns={"x0": "hours", "x1": "level"})
    X["method"] = np.random.default_rng(0).choice(list(METHODS), len(X))
    score = sim.target + INTERACTION * X["hours"] * X["level"] + X["method"].map(METHODS)
    return X, score.rename("score"), sim.truth


def pipeline():
    """Columns in, scores out."""
    columns = ColumnTransformer(
        [
            (
                "x",
                PolynomialFeatures(interaction_only=True, include_bias=False),
                ["hours", "level"],
            ),
            ("m", OneHotEncoder(drop=["lecture"], sparse_output=False), ["method"]),
        ],
        remainder="passthrough",  # the school
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    slopes = ["hours", "level"]
    model = HierarchicalSlopesRegressor("school", slopes=slopes, n_draws=2000, random_state=0)
    return make_pipeline(columns, model)


def main(path):
    X, y, truth = simulate()
    fitted = pipeline().fit(X, y)
    model = fitted[-1]

    table = model.summary()[["mean", "sd", "hdi_5%", "hdi_95%"]]
    table.insert(0, "truth", truth_of(model, truth))
    print(table.round(2).to_string(), "\n")

    pupils = pd.DataFrame(
        {"hours": 1.0, "level": 0.0, "school": ["school_00", "school_01"], "method": "games"}
    )
    mean, std = fitted.predict(pupils, return_std=True)
    print(pupils.assign(score=mean, std=std).round(2).to_string(index=False), "\n")
    draw(model, truth, path)
    print(f"Figure: {path}")


def truth_of(model, truth):
    """What the simulation used, by the names of the summary."""
    methods = {f"coef[method_{name}]": points for name, points in METHODS.items()}
    coef = {f"coef[{name}]": value for name, value in COEF.items()}
    scale, corr = truth.group_scale["school"].to_numpy(), truth.group_corr["school"].to_numpy()
    known = {"intercept": truth.intercept, "noise_scale": truth.noise_scale, **coef, **methods}
    known["coef[hours level]"] = INTERACTION
    effects = model.group_coef_["school"].columns
    for i, effect in enumerate(effects):
        known[f"group_scale[school, {effect}]"] = scale[i]
        for j in range(i + 1, len(effects)):
            known[f"group_corr[school, {effect}, {effects[j]}]"] = corr[i, j]
    return pd.Series(known)


def draw(model, truth, path):
    """Population coefficients, and every school's two slopes against the truth."""
    fig, axes = plt.subplots(1, 3, figsize=(11, 4), width_ratios=[1.1, 1, 1], layout="constrained")
    style = {"fmt": "o", "ms": 4, "color": "C0", "label": "posterior mean, 90% interval"}
    draws = model.posterior_["coef"].reshape(-1, len(model.coef_))
    at = np.arange(draws.shape[1])
    axes[0].errorbar(draws.mean(0), at, xerr=reach(draws), **style)
    known = truth_of(model, truth)[[f"coef[{name}]" for name in model.coef_names_]]
    axes[0].plot(known, at, "|", color="0.1", ms=16, label="truth")
    axes[0].axvline(0, color="0.8", lw=0.8, zorder=0)
    labels = [name.replace("hours level", "hours x level") for name in model.coef_names_]
    axes[0].set_yticks(at, [label.replace("method_", "method: ") for label in labels])
    axes[0].set(ylim=(len(at) - 0.5, -0.5), xlabel="Population coefficient (points)")
    effects = model.sample_group_effects("school")
    for j, (axis, name) in enumerate(zip(axes[1:], COEF, strict=True)):
        slopes = draws[:, j, None] + effects[..., j + 1]
        known = truth.group_coef["school"].iloc[:, j + 1]
        axis.errorbar(known, slopes.mean(0), yerr=reach(slopes), elinewidth=0.7, **style)
        axis.axline((known.mean(), known.mean()), slope=1, color="0.1", lw=0.9, zorder=0)
        axis.set(
            xlabel=f"True slope of {name} (points)", ylabel="Estimate, one dot a school (points)"
        )
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def reach(draws):
    """How far the 90% interval reaches below and above the mean of each column."""
    return np.abs(np.quantile(draws, [0.05, 0.95], axis=0) - draws.mean(0))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/pipeline.png"))
