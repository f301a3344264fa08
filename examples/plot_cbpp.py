"""How much does the risk fall over the year, and how much do herds differ?

Contagious bovine pleuropneumonia in 15 herds of zebu cattle in Ethiopia: in each of four periods,
how many animals of a herd fell ill of how many. The numbers are facts of Lesnoff et al. (2004,
Prev. Vet. Med.), which lme4 distributes as ``cbpp``. Cases of trials are a binomial response: y is
the share, ``sample_weight`` the herd's size.

    cases ~ Binomial(size, p),   logit(p) = a + a_herd + period

The priors are those of an exact posterior by 80-node quadrature, printed beside ours. Of a herd
that was never seen the probability is the average over herds: larger than a typical herd's, and
with an interval that includes what herds differ by.

The figure shows, for each period, the shares of the herds and the probabilities of a typical herd
and of a new one.
"""

import json
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import pandas as pd

from skhier import HierarchicalSlopesRegressor, Prior

DATA = Path(__file__).parents[1] / "tests" / "reference" / "data" / "cbpp.json"
PERIODS = ("1", "2", "3", "4")
PRIOR = Prior(
    intercept=dist.Normal(0.0, 2.5), coef=dist.Normal(0.0, 2.5), group_scale=dist.Exponential(1.0)
)


def load():
    """Periods and herds, the shares that fell ill, and the herds' sizes."""
    figures = json.loads(DATA.read_text(encoding="utf-8"))
    table = pd.DataFrame(figures["data"])
    exact = pd.DataFrame(figures["exact"]["parameters"], index=["mean", "sd", *"ab"]).T
    return of_periods(table["period"], table["herd"]), table, exact[["mean", "sd"]]


def of_periods(period, herd):
    """X: a column for each period after the first, and the herd."""
    X = pd.DataFrame({f"period{k}": (np.asarray(period) == k).astype(float) for k in PERIODS[1:]})
    return X.assign(herd=np.asarray(herd))


def main(path):
    X, table, exact = load()
    model = HierarchicalSlopesRegressor(
        groups="herd", slopes=None, response="binomial", prior=PRIOR, random_state=0
    )
    model.fit(X, table["incidence"] / table["size"], sample_weight=table["size"])

    summary = model.summary()[["mean", "sd", "hdi_5%", "hdi_95%"]]
    print(pd.concat({"exact": exact, "skhier": summary}, axis=1).round(2).to_string(), "\n")

    new, typical = of_periods(PERIODS, ["nobody's"] * 4), {"level": "population"}
    risks = pd.DataFrame({"typical herd": model.predict(new, **typical)}, PERIODS)
    ends = model.predict_interval(new, kind="mean", **typical)
    risks["typical low"], risks["typical high"] = ends.T
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*unseen group", UserWarning)
        risks["new herd"] = model.predict(new)
        risks["new low"], risks["new high"] = model.predict_interval(new, kind="mean").T
    print("Probability of falling ill, with 90% intervals, by period\n")
    print(risks.round(3).to_string(), "\n")
    draw(table, risks, path)
    print(f"Figure: {path}")


def draw(table, risks, path):
    """Shares of the herds behind the probabilities."""
    fig, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    at = np.arange(4)
    jitter = np.random.default_rng(0).uniform(-0.07, 0.07, len(table))
    period = table["period"].astype(int) - 1
    share = table["incidence"] / table["size"]
    style = {"s": 3 * table["size"], "color": "0.6", "alpha": 0.7, "lw": 0}
    axis.scatter(period + jitter, share, **style, label="a herd, by its size")
    for k, (name, label) in enumerate({"typical": "typical herd", "new": "new herd"}.items()):
        middle = risks[f"{name} herd"]
        ends = middle - risks[f"{name} low"], risks[f"{name} high"] - middle
        place = at + 0.15 + 0.15 * k
        axis.errorbar(place, middle, ends, fmt="o", color=f"C{k}", label=label)
    axis.set(xticks=at, xticklabels=PERIODS, xlabel="Period", ylabel="Share that fell ill")
    axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/cbpp.png"))
