"""What does a customer's basket cost in each shop, when the receipts do not fit into memory?

Simulated receipts of 300 shops in a folder of Parquet files, as a warehouse hands them over. Each
file is summed where it is, by Polars' lazy engine, and a bar shows how many are done; what is kept
of a file are a few sums for each shop, however many rows it has:

    spent ~ Normal(a + a_shop + (b + b_shop) visitors, sigma)
    (a, b)_shop ~ MVNormal(0, Sigma)

Sums add up, so that the fit of all of them is the fit of all rows. The table has the simulation's
truth beside the estimates; predictions are columns of the scan, and still lazy. Needs Polars:
``pip install "skhier[plot,polars]"``.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import polars as pl
from tqdm import tqdm

from skhier import HierarchicalSlopesRegressor, frames
from skhier.datasets import make_hierarchical

N_FILES = 12


def write_receipts(folder):
    """The files, and the truth; visitors in sds."""
    sim = make_hierarchical(
        240_000,
        n_features=1,
        groups={"shop": 300},
        intercept=30.0,
        coef=[2.0],
        group_scale={"shop": [4.0, 1.0]},
        group_corr={"shop": -0.4},
        noise_scale=10.0,
        random_state=1,
    )
    rows = sim.data.rename(columns={"x0": "visitors"}).assign(spent=sim.target)
    for k in range(N_FILES):
        pl.from_pandas(rows[k::N_FILES]).write_parquet(folder / f"receipts-{k:02d}.parquet")
    return sim.truth


def main(path):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = write_receipts(folder)
        model = HierarchicalSlopesRegressor(groups="shop", random_state=0)

        files = sorted(folder.glob("*.parquet"))
        bar = tqdm(files, desc="Files", unit="file")
        statistics = sum(model.summarise(pl.scan_parquet(file), "spent") for file in bar)
        print(statistics, "\n")
        model.fit_statistics(statistics)

        table = model.summary()[["mean", "sd"]]
        table.insert(0, "truth", truth_of(truth))
        print(table.round(3).to_string(), "\n")

        scan = pl.scan_parquet(folder / "*.parquet")
        scored = frames.predict(model, scan, coverage=0.9)
        inside = pl.col("spent").is_between("lower", "upper").mean().alias("inside")
        share = scored.select(inside).collect(engine="streaming").item()
        print(f"Receipts inside their 90% interval: {share:.1%}\n")
    draw(model, truth, path)
    print(f"Figure: {path}")


def truth_of(truth):
    """What the simulation used, by the names of the summary."""
    known = {
        "intercept": truth.intercept,
        "coef[visitors]": truth.coef["x0"],
        "noise_scale": truth.noise_scale,
        "group_scale[shop, intercept]": truth.group_scale["shop"]["intercept"],
        "group_scale[shop, visitors]": truth.group_scale["shop"]["x0"],
        "group_corr[shop, intercept, visitors]": truth.group_corr["shop"].loc["intercept", "x0"],
    }
    return pd.Series(known)


def draw(model, truth, path):
    """Each shop's line against the simulation's."""
    found, spread = model.group_coef_["shop"], model.group_coef_std_["shop"]
    known = truth.group_coef["shop"].rename(columns={"x0": "visitors"}).loc[found.index]
    labels = {"intercept": "spent at the usual crowd", "visitors": "more for each sd of visitors"}
    fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for axis, (effect, label) in zip(axes, labels.items(), strict=True):
        axis.errorbar(
            known[effect], found[effect], yerr=1.64 * spread[effect], fmt="o", ms=3, lw=0.5
        )
        axis.axline((known[effect].mean(),) * 2, slope=1, color="0.1", lw=0.9, zorder=0)
        axis.set_title(f"Shops: {label}", loc="left", size=10)
        axis.spines[["top", "right"]].set_visible(False)
    fig.supxlabel("Truth", size=11)
    fig.supylabel("Estimate, 90% interval", size=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/parquet.png"))
