"""Every example runs as it stands, prints figures that agree with the references, and draws."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))

# the columns of the printed table that hold posterior means, sds beside them
PRINTED = {
    "plot_eight_schools": {0: "eight_schools"},
    "plot_cafes": {0: "cafes", 4: "cafes"},
    "plot_sleepstudy_priors": {
        0: "sleepstudy_independent",
        2: "sleepstudy_correlated",
        4: "sleepstudy_decov",
    },
    "plot_pipeline": {1: "pipeline"},
    "plot_cbpp": {2: "cbpp"},
}
# number of parameters printed beside the truth or lme4's fit, where there is no exact posterior
BESIDE = {
    "plot_cafes_in_states": 9,
    "plot_schools": 5,
    "plot_parquet": 6,
    "plot_hospitals": 6,
    "plot_stream": 6,
    "plot_counts_with_exposure": 3,
}
# the model that `compare` has to put first
BETTER = {"plot_outliers": "student_t"}


# the others are slow tests, and run for the gallery
QUICK = {"plot_sleepstudy"}
CASES = [
    path if path.stem in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in EXAMPLES
]


@pytest.fixture(scope="module", params=CASES, ids=lambda path: path.stem)
def run(request, tmp_path_factory):
    """Name, output and figure of an example, run from another directory."""
    path, folder = request.param, tmp_path_factory.mktemp(request.param.stem)
    default = folder / "demo_output" / f"{path.stem.removeprefix('plot_')}.png"
    asked = folder / "asked" / "figure.png"
    by_default = path.stem == "plot_sleepstudy"
    done = subprocess.run(
        [sys.executable, str(path), *([] if by_default else [str(asked)])],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return path.stem, done, default if by_default else asked


def test_example_writes_the_figure_it_names(run):
    _, done, figure = run
    named = Path(done.stdout.splitlines()[-1].removeprefix("Figure: "))
    assert (figure.parents[1] / named).samefile(figure)
    content = figure.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000


def test_example_warns_of_nothing_but_divergences(run):
    name, done, _ = run
    # the centered cafes are there to show what the sampler makes of a funnel
    expected = "ConvergenceWarning" if name == "plot_cafes" else "transitions diverged"
    warned = [line for line in done.stderr.splitlines() if "Warning:" in line]
    assert all(expected in line for line in warned), warned


def test_example_prints_what_the_reference_says(run, sleepstudy_fit):
    name, done, _ = run
    if name == "plot_sleepstudy":
        assert sleepstudy_fit.summary().round(3).to_string() in done.stdout
        return
    if name in BETTER:
        ranked = re.findall(r"^model +\n(\w+)", done.stdout, re.MULTILINE)
        assert ranked == [BETTER[name]]
        return
    printed = _rows(done.stdout)
    if name in BESIDE:
        assert len(printed) == BESIDE[name]
        truth, mean, sd = np.array([row[:3] for row in printed.values()]).T
        np.testing.assert_array_less(np.abs(mean - truth), 4 * sd + 0.005)
        return
    for column, file in PRINTED[name].items():
        path = ROOT / "tests" / "reference" / "data" / f"{file}.json"
        figures = json.loads(path.read_text(encoding="utf-8"))
        parameters = figures.get("exact", figures)["parameters"]
        known = {k: v[:2] for k, v in parameters.items() if not k.startswith("group_effects")}
        ours = np.array([printed[k][column : column + 2] for k in known])
        mean, sd = np.array(list(known.values())).T
        # printed to two decimals, from chains of an effective size of some hundreds
        np.testing.assert_array_less(np.abs(ours[:, 0] - mean), 0.2 * sd + 0.005)
        np.testing.assert_array_less(np.abs(ours[:, 1] / sd - 1), 0.15 + 0.005 / sd)


def _rows(text):
    """Numbers of each line that begins with a parameter's name; "-" is NaN."""
    line = r"^((?:intercept|noise_scale|(?:coef|group_\w+)\[.*?\])) +([-\d. ]+)$"
    found = re.findall(line, text, re.MULTILINE)
    return {name: [float("nan" if v == "-" else v) for v in row.split()] for name, row in found}
