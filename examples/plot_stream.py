"""What will a machine that was switched on this morning draw, and what after its first readings?

Simulated readings of 40 machines come in chunks, and ``partial_fit`` adds each to what is known:

    power ~ Normal(a + a_machine + (b + b_machine) load, sigma)
    (a, b)_machine ~ MVNormal(0, Sigma)

Then a machine appears that nobody has seen. Its first prediction is the population's, as uncertain
as machines differ; each of its readings moves it as far as its exact conditional distribution says,
a lot at first. The table has the simulation's truth beside the estimates after the last chunk.
"""

import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

CHUNK = 200
NEW = "new"
MORE = (0, 1, 1, 2, 4, 8, 16)  # readings of the new machine between two looks


def readings():
    """Power in kW, load in sds; the truth."""
    sim = make_hierarchical(
        4000,
        n_features=1,
        groups={"machine": 40},
        intercept=50.0,
        coef=[8.0],
        group_scale={"machine": [6.0, 2.0]},
        group_corr={"machine": 0.5},
        noise_scale=3.0,
        random_state=5,
    )
    return sim.data.rename(columns={"x0": "load"}).assign(power=sim.target), sim.truth


def of_new_machine(n):
    """A machine that draws 12 kW more than the usual one, whatever its load."""
    rng = np.random.default_rng(2)
    load = rng.normal(size=n)
    power = 62 + 8 * load + rng.normal(scale=3, size=n)
    return pd.DataFrame({"load": load, "machine": NEW, "power": power})


def main(path):
    rows, truth = readings()
    model = HierarchicalSlopesRegressor(groups="machine", random_state=0)
    for start in range(0, len(rows), CHUNK):
        model.partial_fit(rows[start : start + CHUNK], "power")

    table = model.summary()[["mean", "sd"]]
    table.insert(0, "truth", truth_of(truth))
    print(table.round(3).to_string(), "\n")

    coming, seen, looks = of_new_machine(sum(MORE)), 0, []
    at_usual_load = pd.DataFrame({"load": [0.0], "machine": [NEW]})[[*rows.columns[:-1]]]
    for n in MORE:
        if n:
            model.partial_fit(coming[seen : seen + n][[*rows.columns]], "power")
            seen += n
        looks.append([seen, *look(model, at_usual_load)])
    looks = pd.DataFrame(looks, columns=["readings", "mean", "5%", "95%"])
    print("The new machine at the usual load, kW (truth: 62)\n")
    print(looks.round(1).to_string(index=False), "\n")
    draw(looks, path)
    print(f"Figure: {path}")


def look(model, X):
    """Mean and 90% interval of the machine's line; that it may be unknown needs no warning here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X contains 1 unseen group", UserWarning)
        return model.predict(X)[0], *model.predict_interval(X, kind="mean")[0]


def truth_of(truth):
    """What the simulation used, by the names of the summary."""
    known = {
        "intercept": truth.intercept,
        "coef[load]": truth.coef["x0"],
        "noise_scale": truth.noise_scale,
        "group_scale[machine, intercept]": truth.group_scale["machine"]["intercept"],
        "group_scale[machine, load]": truth.group_scale["machine"]["x0"],
        "group_corr[machine, intercept, load]": truth.group_corr["machine"].loc["intercept", "x0"],
    }
    return pd.Series(known)


def draw(looks, path):
    """Its line's height after each look."""
    fig, axis = plt.subplots(figsize=(6.5, 3.5), layout="constrained")
    places = range(len(looks))
    reach = np.abs(looks[["5%", "95%"]].to_numpy().T - looks["mean"].to_numpy())
    axis.errorbar(places, looks["mean"], yerr=reach, fmt="o", color="C0")
    axis.axhline(62, color="0.1", lw=0.9, zorder=0)
    axis.set_xticks(places, looks["readings"])
    axis.set_xlabel("Readings of the new machine")
    axis.set_ylabel("kW at the usual load, 90% interval")
    axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/stream.png"))
