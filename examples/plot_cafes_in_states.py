"""Is it the state or the cafe that makes one wait, and who suffers most from a crowd?

Simulated waits of customers in 240 cafes of 24 states. A cafe's numbers are used again in every
state, so that the cafes are nested: ``("state", "cafe")``. Both factors have a varying intercept
(the wait at a usual hour) and a varying slope (minutes more for each standard unit of crowd), and
on both the two are correlated:

    wait ~ Normal(a + a_state + a_cafe + (b + b_state + b_cafe) crowd, sigma)
    (a, b)_state ~ MVNormal(0, Sigma_state)        (a, b)_cafe ~ MVNormal(0, Sigma_cafe)

The data are simulated, so the tables and the figure show the truth beside the estimates: of every
state its intercept and slope, of every cafe how far it is from its state.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

LABELS = {"intercept": "wait at a usual hour (min)", "crowd": "minutes per unit of crowd"}
PANELS = {"state": "State", "state:cafe": "Cafe, from its state"}


def simulate():
    """Customers, their waits in minutes, the grouping factors and the truth; crowd in sds."""
    sim = make_hierarchical(
        2400,
        n_features=1,
        groups={"state": 24, ("state", "cafe"): 10},
        intercept=5.0,
        coef=[1.0],
        group_scale={"state": [1.0, 0.4], "state:cafe": [1.2, 0.5]},
        group_corr={"state": 0.5, "state:cafe": 0.6},
        noise_scale=1.0,
        random_state=0,
    )
    data = sim.data.rename(columns={"x0": "crowd"})
    return data, sim.target.rename("wait"), sim.groups, sim.truth


def main(path):
    X, y, groups, truth = simulate()
    model = HierarchicalSlopesRegressor(groups, random_state=0).fit(X, y)

    table = model.summary()[["mean", "sd", "hdi_5%", "hdi_95%"]]
    table.insert(0, "truth", truth_of(truth))
    print(table.round(2).to_string(), "\n")
    print(model.variance_components().round(2).to_string(index=False), "\n")

    estimates = {factor: compare(model, truth, factor) for factor in model.group_effects_}
    print("States\n")
    print(estimates["state"].round(2).to_string(), "\n")
    draw(estimates, path)
    print(f"Figure: {path}")


def truth_of(truth):
    """What the simulation used, by the names of the summary."""
    known = {
        "intercept": truth.intercept,
        "coef[crowd]": truth.coef["x0"],
        "noise_scale": truth.noise_scale,
    }
    for factor, scale in truth.group_scale.items():
        known[f"group_scale[{factor}, intercept]"] = scale["intercept"]
        known[f"group_scale[{factor}, crowd]"] = scale["x0"]
        corr = truth.group_corr[factor]
        known[f"group_corr[{factor}, intercept, crowd]"] = corr.loc["intercept", "x0"]
    return pd.Series(known)


def compare(model, truth, factor):
    """Each state's line and each cafe's difference from it: truth, posterior mean, 90% interval."""
    draws = model.sample_group_effects(factor)
    effects, labels = model.group_effects_[factor].columns, model.group_effects_[factor].index
    known = truth.group_effects[factor]
    if factor == "state":
        posterior = {"intercept": model.posterior_["intercept"], "crowd": model.posterior_["coef"]}
        draws = draws + np.stack([posterior[name].ravel() for name in effects], axis=-1)[:, None]
        known = truth.group_coef[factor]
    else:
        labels = labels.map(":".join)  # from tuples (state, cafe)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    known = known.rename(columns={"x0": "crowd"}).loc[labels, effects].to_numpy()
    parts = {"truth": known, "mean": draws.mean(0), "5%": low, "95%": high}
    tables = {name: pd.DataFrame(part, labels, effects) for name, part in parts.items()}
    return pd.concat(tables, axis=1).swaplevel(axis=1)[list(LABELS)]


def draw(estimates, path):
    """A row for each factor, a panel for each effect: estimates against the truth."""
    fig, axes = plt.subplots(2, 2, figsize=(9, 8), layout="constrained")
    for row, (factor, table) in zip(axes, estimates.items(), strict=True):
        for axis, (effect, label) in zip(row, LABELS.items(), strict=True):
            panel(axis, table[effect])
            axis.set_title(f"{PANELS[factor]}: {label}", loc="left", size=10)
    fig.supxlabel("Truth", size=11)
    fig.supylabel("Estimate", size=11)
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def panel(axis, table):
    reach = np.abs(table[["5%", "95%"]].to_numpy().T - table["mean"].to_numpy())
    few = len(table) < 100
    style = {"fmt": "o", "color": "C0", "mew": 0, "alpha": 1.0 if few else 0.7}
    style |= {"ms": 4, "elinewidth": 0.8} if few else {"ms": 2.5, "elinewidth": 0.3}
    axis.errorbar(
        table["truth"], table["mean"], yerr=reach, label="posterior mean, 90% interval", **style
    )
    centre = table["truth"].mean()
    axis.axline((centre, centre), slope=1, color="0.1", lw=0.9, zorder=0, label="estimate = truth")
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/cafes_in_states.png"))
