"""Does coaching for a test help, and in which school most? A meta-analysis of eight schools.

Each of eight schools estimated the effect of its coaching on the score of the SAT, from an
experiment of its own, with a standard error that is known well (Rubin 1981, J. Educ. Stat. 6(4)).
The rows are these estimates; every school is a level of its own:

    effect_j ~ Normal(theta_j, error_j),   theta_j ~ Normal(mu, tau)

Nothing of the noise is left to learn: ``known_noise`` names the column of the standard errors.
Priors are those of posteriordb, mu ~ Normal(0, 5) and tau ~ HalfCauchy(5).

The figure shows what each school reported and what it comes to beside the others: the less a
school's estimate is worth, the nearer it is drawn to the mean of all.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import pandas as pd

from skhier import HierarchicalSlopesRegressor, Prior

EFFECT = pd.Series([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], name="effect")
SCHOOLS = pd.DataFrame(
    {"school": list("ABCDEFGH"), "error": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]}
)


def main(path):
    prior = Prior(intercept=dist.Normal(0.0, 5.0), group_scale=dist.HalfCauchy(5.0))
    settings = {"known_noise": "error", "prior": prior, "random_state": 0}
    model = HierarchicalSlopesRegressor("school", **settings).fit(SCHOOLS, EFFECT)
    same = HierarchicalSlopesRegressor(**settings).fit(SCHOOLS[["error"]], EFFECT)

    print(model.summary()[["mean", "sd", "hdi_5%", "hdi_95%"]].round(3).to_string(), "\n")
    ends = model.predict_interval(SCHOOLS, kind="mean")
    table = SCHOOLS.assign(effect=EFFECT, mean=model.predict(SCHOOLS), low=ends[:, 0])
    table = table.assign(high=ends[:, 1]).set_index("school")
    print("Each school's effect, with 90% intervals\n")
    print(table.round(2).to_string(), "\n")
    new = pd.DataFrame({"school": ["A"], "error": [10.0]})
    low, high = model.predict_interval(new, level="population", kind="mean")[0]
    print(f"The mean of all schools is between {low:.1f} and {high:.1f} with probability 0.9.")
    gain = same.log_evidence_ - model.log_evidence_
    print(f"One effect for all has {np.exp(gain):.1f} times the evidence of an effect for each.\n")
    draw(table, model.posterior_["group_scale"]["school"].ravel(), path)
    print(f"Figure: {path}")


def draw(table, tau, path):
    """Estimates beside the schools' effects, and the posterior of their sd."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    at, half = np.arange(len(table)), 1.645 * table["error"]
    left.errorbar(
        table["effect"], at + 0.15, xerr=half, fmt="o", color="0.6", label="school's own estimate"
    )
    off = [table["mean"] - table["low"], table["high"] - table["mean"]]
    left.errorbar(
        table["mean"], at - 0.15, xerr=off, fmt="o", color="C0", label="beside all schools"
    )
    left.axvline(0, color="0.8", lw=0.8, zorder=0)
    left.set(yticks=at, yticklabels=table.index, xlabel="effect (points), 90% intervals")
    left.invert_yaxis()
    fig.legend(frameon=False, loc="outside lower left", ncols=2)
    right.hist(tau, bins=np.linspace(0, 20, 41), density=True, color="C0", alpha=0.6)
    right.set(xlabel="sd of the effects between schools (points)", yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/eight_schools.png"))
