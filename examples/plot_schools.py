"""How much of the marks is the pupil, the school, the area?

Simulated A-level points (0 to 10 or so) of 31,022 pupils in 2,410 schools of 131 areas: the shape
of Chem97, a table that is often used to show multilevel models. Schools have from one pupil to more
than a hundred. Each factor has a varying intercept:

    score ~ Normal(a + a_area + a_school + b gcse, sigma)

It is fitted twice, without and with the points that a pupil had before (GCSE). Schools differ in
whom they take in, so that part of what looks like a school's share is its pupils'.

The figure shows the shares of the variance that no coefficient explains: intraclass correlations.
The residual is the pupil.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesRegressor, VarianceSharesDisplay

N_PUPILS, N_SCHOOLS, N_AREAS = 31_022, 2_410, 131
TRUTH = {
    "intercept": 5.6,
    "coef[gcse]": 2.5,
    "noise_scale": 2.3,
    "group_scale[area, intercept]": 0.3,
    "group_scale[area:school, intercept]": 1.1,
}


def simulate():
    """Pupils and their points; GCSE points are centred."""
    rng = np.random.default_rng(0)
    area_of = levels(rng, N_SCHOOLS, N_AREAS)
    school = levels(rng, N_PUPILS, N_SCHOOLS)
    intake = rng.normal(scale=0.5, size=N_SCHOOLS)
    gcse = intake[school] + rng.normal(scale=0.71, size=N_PUPILS)
    area_scale, school_scale = list(TRUTH.values())[3:]
    score = (
        TRUTH["intercept"]
        + TRUTH["coef[gcse]"] * gcse
        + rng.normal(scale=area_scale, size=N_AREAS)[area_of[school]]
        + rng.normal(scale=school_scale, size=N_SCHOOLS)[school]
        + rng.normal(scale=TRUTH["noise_scale"], size=N_PUPILS)
    )
    X = pd.DataFrame({"gcse": gcse, "area": area_of[school], "school": school})
    return X, pd.Series(score, name="score")


def levels(rng, n, n_levels):
    """Put n things in levels of very different sizes, none of them empty."""
    share = rng.lognormal(size=n_levels)
    rest = rng.choice(n_levels, size=n - n_levels, p=share / share.sum())
    return rng.permutation(np.concatenate([np.arange(n_levels), rest]))


def main(path):
    X, y = simulate()
    settings = {"groups": ["area", ("area", "school")], "slopes": None, "random_state": 0}
    raw = HierarchicalSlopesRegressor(**settings).fit(X.drop(columns="gcse"), y)
    model = HierarchicalSlopesRegressor(**settings).fit(X, y)

    table = model.summary()[["mean", "sd", "hdi_5%", "hdi_95%"]]
    table.insert(0, "truth", pd.Series(TRUTH))
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
