"""How long do patients stay, when three hospitals may not show each other a row?

Simulated stays in 24 wards of three hospitals, longer by so many days for each sd of age:

    days ~ Normal(a + a_ward + (b + b_ward) age, sigma)
    (a, b)_ward ~ MVNormal(0, Sigma)

Each hospital summarises its own rows and sends a table of sums, in which ``min_rows=20`` refuses
wards so small that their sums would tell of single patients. Any of them can add the three tables
up and has the fit of all rows: the last column is that of the pooled rows, which nobody has. What
a hospital would say of its own rows alone is in the figure. Needs pyarrow.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from skhier import GroupStatistics, HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

HOSPITALS = ("North", "South", "West")


def admissions():
    """Stays in days, age in sds, and the truth; eight wards in each hospital."""
    sim = make_hierarchical(
        1800,
        n_features=1,
        groups={"ward": 24},
        intercept=6.0,
        coef=[0.8],
        group_scale={"ward": [1.0, 0.3]},
        group_corr={"ward": 0.3},
        noise_scale=2.0,
        random_state=3,
    )
    rows = sim.data.rename(columns={"x0": "age"}).assign(days=sim.target)
    wards = sorted(rows["ward"].unique())
    hospital = rows["ward"].map({ward: HOSPITALS[k // 8] for k, ward in enumerate(wards)})
    return rows, hospital, sim.truth


def send(rows, file):
    """What a hospital does with its rows; the file is all that leaves it."""
    model = HierarchicalSlopesRegressor(groups="ward")
    pq.write_table(model.summarise(rows, "days").to_arrow(min_rows=20), file)


def main(path):
    rows, hospital, truth = admissions()
    model = HierarchicalSlopesRegressor(groups="ward", random_state=0)
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{site}.parquet" for site in HOSPITALS]
        for site, file in zip(HOSPITALS, files, strict=True):
            send(rows[hospital == site], file)
        received = [GroupStatistics.from_arrow(pq.read_table(file)) for file in files]
    for site, statistics in zip(HOSPITALS, received, strict=True):
        print(f"{site}: {statistics}")
    model.fit_statistics(sum(received))

    pooled = HierarchicalSlopesRegressor(groups="ward", random_state=0).fit(rows, "days")
    table = model.summary()[["mean", "sd"]]
    table.insert(0, "truth", truth_of(truth))
    table["pooled rows"] = pooled.summary()["mean"]
    print("\n" + table.round(3).to_string(), "\n")
    off = np.abs(model.group_coef_["ward"] / pooled.group_coef_["ward"] - 1).max(axis=None)
    print(f"Largest relative difference of a ward's line from that of the pooled rows: {off:.0e}\n")

    alone = [
        HierarchicalSlopesRegressor(groups="ward", random_state=0).fit_statistics(own)
        for own in received
    ]
    draw(model, alone, truth, path)
    print(f"Figure: {path}")


def truth_of(truth):
    """What the simulation used, by the names of the summary."""
    known = {
        "intercept": truth.intercept,
        "coef[age]": truth.coef["x0"],
        "noise_scale": truth.noise_scale,
        "group_scale[ward, intercept]": truth.group_scale["ward"]["intercept"],
        "group_scale[ward, age]": truth.group_scale["ward"]["x0"],
        "group_corr[ward, intercept, age]": truth.group_corr["ward"].loc["intercept", "x0"],
    }
    return pd.Series(known)


def draw(model, alone, truth, path):
    """What all say together of the effect of age, and what each says alone."""
    fits = {**dict(zip(HOSPITALS, alone, strict=True)), "All three": model}
    fig, axis = plt.subplots(figsize=(6.5, 3), layout="constrained")
    for place, fit in enumerate(fits.values()):
        draws = fit.posterior_["coef"][..., 0].ravel()
        low, high = np.quantile(draws, [0.05, 0.95])
        colour = "C0" if fit is model else "0.5"
        axis.plot([low, high], [place, place], color=colour, lw=2)
        axis.plot(fit.coef_[0], place, "o", color=colour)
    axis.axvline(truth.coef["x0"], color="0.1", lw=0.9, zorder=0)
    axis.set_yticks(range(len(fits)), list(fits))
    axis.invert_yaxis()
    axis.set_xlabel("Days more for each sd of age: 90% interval; line: truth")
    axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/hospitals.png"))
