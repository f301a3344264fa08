"""How fast does each person slow down without sleep?

Reaction times of 18 subjects over ten days with three hours in bed a night (Belenky et al. 2003).
Each subject gets a reaction time to start from (varying intercept) and a daily slowing (varying
slope), both pulled towards the population as far as the subject's own ten rows leave room for it.
Everything is at its default but the random state.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import load_sleepstudy


def main(path):
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    model = HierarchicalSlopesRegressor(groups="Subject", random_state=0)
    model.fit(X, y)

    print("Population (ms; ms per day)\n")
    print(model.summary().round(3).to_string(), "\n")
    print("Subjects\n")
    coef, sd = model.group_coef_["Subject"], model.group_coef_std_["Subject"]
    print(pd.concat({"mean": coef, "sd": sd}, axis=1).round(1).to_string(), "\n")
    draw(model, X, y, path)
    print(f"Figure: {path}")


def draw(model, X, y, path):
    """A panel a subject, from the one that slows down least to the one that slows down most."""
    subjects = model.group_coef_["Subject"]["Days"].sort_values().index
    fig, axes = plt.subplots(
        3, 6, figsize=(11, 6.6), sharex=True, sharey=True, layout="constrained"
    )
    days = np.linspace(0, 9, 28)
    for axis, subject in zip(axes.flat, subjects, strict=True):
        mine = X["Subject"] == subject
        axis.plot(X["Days"][mine], y[mine], "o", color="0.2", ms=3.2, zorder=3, label="observed")
        line = pd.DataFrame({"Days": days, "Subject": subject})
        axis.plot(days, model.predict(line), color="C0", label="subject's line, partially pooled")
        low, high = model.predict_interval(line, kind="mean", coverage=0.9).T
        axis.fill_between(days, low, high, color="C0", alpha=0.2, lw=0, label="its 90% interval")
        population = model.predict(line, level="population")
        axis.plot(days, population, color="0.5", lw=1.2, ls="--", label="pooled (population) line")
        axis.set_title(f"Subject {subject}", loc="left", size=9.5, pad=3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set(xticks=[0, 3, 6, 9], yticks=[200, 300, 400])
    fig.supxlabel("Days of sleep deprivation", size=11)
    fig.supylabel("Reaction time (ms)", size=11)
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/sleepstudy.png"))
