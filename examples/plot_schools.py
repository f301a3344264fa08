"""How much of the marks is the pupil, the school, the area?

A-level scores in chemistry, 1997: 31,022 pupils in 2,410 schools of 131 local education authorities
(Yang et al. 2002; Chem97 in R's mlmRev). Schools have from one pupil to more than a hundred. Each
factor has a varying intercept:

    score ~ Normal(a + a_area + a_school + b gcse, sigma)

It is fitted twice, without and with the score that a pupil had before (GCSE, centred). Schools
differ in whom they take in, so that part of what looks like a school's share is its pupils'.

The figure shows the shares of the variance that no coefficient explains: intraclass correlations.
The residual is the pupil.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor, VarianceSharesDisplay

TABLE = Path(__file__).parents[1] / "tests" / "reference" / "data" / "chem97.npz"
LME4 = {  # REML, score ~ gcse + (1 | area) + (1 | school)
    "intercept": 5.635,
    "coef[gcse]": 2.473,
    "noise_scale": 2.270,
    "group_scale[area, intercept]": 0.122,
    "group_scale[area:school, intercept]": 1.080,
}


def load():
    """Pupils and their scores."""
    table = np.load(TABLE)
    X = pd.DataFrame({"gcse": table["gcsecnt"], "area": table["lea"], "school": table["school"]})
    return X, pd.Series(table["score"].astype(float), name="score")


def main(path):
    X, y = load()
    settings = {"groups": ["area", ("area", "school")], "slopes": None, "random_state": 0}
    raw = HierarchicalSlopesRegressor(**settings).fit(X.drop(columns="gcse"), y)
    model = HierarchicalSlopesRegressor(**settings).fit(X, y)

    table = model.summary()[["mean", "sd", "hdi_5%", "hdi_95%"]]
    table.insert(0, "lme4", pd.Series(LME4))
    print(table.round(3).to_string(), "\n")
    displays = draw({"without GCSE": raw, "given GCSE": model}, path)
    shares = {name: display.shares for name, display in displays.items()}
    print("Shares of the variance, with 90% intervals\n")
    print(pd.concat(shares, axis=1).round(3).to_string(), "\n")
    print("R^2: of the coefficients, and with the groups\n")
    print(model.r_squared().round(3).to_string(), "\n")
    print(f"Figure: {path}")


def draw(models, path):
    """A panel for each model."""
    fig, axes = plt.subplots(len(models), sharex=True, figsize=(7, 4.6), layout="constrained")
    displays = {}
    for axis, (name, model) in zip(axes, models.items(), strict=True):
        displays[name] = VarianceSharesDisplay.from_estimator(model, ax=axis)
        axis.set_title(name, loc="left", size="medium")
        axis.label_outer()
    axes[-1].get_legend().remove()
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    return displays


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/schools.png"))
