"""How often does it happen, where some were watched for longer than others?

Counts of events in 50 groups, a few rows each; every row was observed for a time of its own (the
table is simulated). A count has the mean rate times exposure, and the logarithm of the exposure
enters the line as it is, with no coefficient:

    count ~ Poisson(exposure e^line),   line = a + a_group + b x

``exposure`` names the column. It is no feature: as one it would get a coefficient and multiply the
rate by e^(b exposure). Predictions are counts for the exposure that the row to predict has; with an
exposure of 1 they are rates.

The figure shows each group's rate: its own count over its exposure, and what the model makes of it.
Groups that were watched for little are drawn to the others.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor, compare

TABLE = Path(__file__).parents[1] / "tests" / "reference" / "data" / "clustered.json"


def load():
    """X (group, x, exposure), the counts, and lme4's fit."""
    tables = json.loads(TABLE.read_text(encoding="utf-8"))["clustered_counts"]
    rows, fit = pd.DataFrame(tables["data"]), tables["glmer"]
    lme4 = {
        "intercept": fit["fixef"]["(Intercept)"],
        "coef[x]": fit["fixef"]["x"],
        "group_scale[group, intercept]": fit["sd"],
    }
    return rows[["group", "x", "exposure"]], rows["y"], lme4


def main(path):
    X, y, lme4 = load()
    settings = {"groups": "group", "slopes": None, "response": "poisson", "random_state": 0}
    model = HierarchicalSlopesRegressor(exposure="exposure", **settings).fit(X, y)
    feature = HierarchicalSlopesRegressor(**settings).fit(X, y)

    table = model.summary()[["mean", "sd", "hdi_5%", "hdi_95%"]]
    table.insert(0, "lme4", pd.Series(lme4))
    print(table.round(3).to_string(), "\n")
    print("Which predicts left-out rows better?\n")
    columns = ["elpd", "elpd_diff", "se_diff"]
    scores = compare({"as exposure": model, "as a feature": feature})
    print(scores[[name for name in columns if name in scores]].round(1).to_string(), "\n")
    each = X.drop_duplicates("group").assign(x=0.0, exposure=1.0).set_index("group", drop=False)
    rates = pd.DataFrame({"rate": model.predict(each)}, index=each.index)
    rates[["low", "high"]] = model.predict_interval(each, kind="mean")
    total = X.assign(count=y).groupby("group")[["count", "exposure"]].sum()
    rates = rates.join(total)
    draw(rates, path)
    print(f"Figure: {path}")


def draw(rates, path):
    """Each group's count over its exposure, and its rate by the model."""
    fig, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    own = rates["count"] / rates["exposure"]
    off = np.abs(rates[["low", "high"]].to_numpy() - rates[["rate"]].to_numpy()).T
    axis.errorbar(own, rates["rate"], yerr=off, fmt="none", color="0.75", lw=0.8, zorder=0)
    dots = axis.scatter(own, rates["rate"], c=rates["exposure"], s=18, cmap="viridis_r")
    end = 1.05 * own.max()
    axis.plot([0, end], [0, end], color="0.5", lw=0.8, ls="--")
    axis.set(
        xlabel="count over exposure",
        ylabel="rate at x = 0, 90% intervals",
        xlim=(-0.1, end),
        ylim=0,
    )
    fig.colorbar(dots, label="exposure of the group")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/counts_with_exposure.png"))
