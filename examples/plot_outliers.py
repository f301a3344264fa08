"""Do a few odd days bend the lines? Student's t beside the normal.

Reaction times of 18 people over ten days of little sleep (Belenky et al. 2003; lme4's
``sleepstudy``). Most people slow down steadily; some have a day or two far off their line. Under
normal noise such a day pulls its line, and widens everybody's noise; Student's t gives it a place
in its tails, and learns from the data how heavy these are:

    reaction ~ StudentT(df, line, sigma),   df ~ Gamma(2, 0.1) above 1

Which one predicts better, leaving a row out, ``compare`` says. The figure shows both lines of the
people whose lines differ most.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from skhier import FittedLinesDisplay, HierarchicalSlopesRegressor, compare
from skhier.datasets import load_sleepstudy

N_PANELS = 4


def main(path):
    X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    settings = {"groups": "Subject", "random_state": 0}
    models = {
        response: HierarchicalSlopesRegressor(response=response, **settings).fit(X, y)
        for response in ("normal", "student_t")
    }
    summaries = {name: model.summary()[["mean", "sd"]] for name, model in models.items()}
    print(pd.concat(summaries, axis=1).round(2).to_string(na_rep="-"), "\n")
    print("Leave one row out\n")
    print(compare(**models).round(2).to_string(), "\n")

    slopes = pd.DataFrame(
        {name: model.group_coef_["Subject"]["Days"] for name, model in models.items()}
    )
    moved = (slopes["student_t"] - slopes["normal"]).abs().nlargest(N_PANELS).index
    print("Slopes that the odd days had bent, ms a day\n")
    print(slopes.loc[moved].round(1).to_string(), "\n")
    draw(models, X, y, list(moved), path)
    print(f"Figure: {path}")


def draw(models, X, y, people, path):
    """A panel a person, both models' lines."""
    fig, axes = plt.subplots(1, len(people), sharey=True, figsize=(10, 3.4), layout="constrained")
    for (name, model), color in zip(models.items(), ("C0", "C1"), strict=True):
        FittedLinesDisplay.from_estimator(
            model, X, y, levels=people, ax=axes, color=color, label=name
        )
    for axis, person in zip(axes, people, strict=True):
        axis.set_title(f"Subject {person}", loc="left", size="medium")
        if axis.get_legend() is not None:
            axis.get_legend().remove()
        axis.label_outer()
    handles = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))
    shown = {name: handles[name] for name in ("observed", *models)}
    fig.legend(shown.values(), shown, loc="outside upper center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output/outliers.png"))
