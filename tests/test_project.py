"""What the files around the package say of one another."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

import skhier

ROOT = Path(__file__).parents[1]
DATA = ROOT / "skhier" / "datasets" / "data"


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_workflow_runs_make_targets_and_nothing_else():
    workflow = text(".github/workflows/ci.yml")
    assert re.findall(r"run: (.+)", workflow) == ["make ${{ matrix.target }}"]
    used = set(re.findall(r"target: ([\w-]+)", workflow))
    assert used <= set(re.findall(r"^([\w-]+):", text("Makefile"), re.M))


def test_citation_has_the_version_of_the_package():
    assert f"version: {skhier.__version__}\n" in text("CITATION.cff")


@pytest.mark.parametrize("table", sorted(DATA.glob("*.csv")), ids=lambda path: path.name)
def test_table_is_the_one_whose_rights_are_stated(table):
    section = (DATA / "README.md").read_text(encoding="utf-8").split(f"## {table.name}")[1]
    stated = re.search(r"sha256: `(\w+)`", section).group(1)
    assert hashlib.sha256(table.read_bytes()).hexdigest() == stated


def test_every_declared_python_is_in_the_workflow():
    declared = tomllib.loads(text("pyproject.toml"))["project"]["classifiers"]
    pythons = [c.rsplit(" ")[-1] for c in declared if "Python :: 3." in c]
    for python in pythons:
        assert f'python: "{python}", target: test }}' in text(".github/workflows/ci.yml")


def test_every_public_name_is_in_the_api_reference():
    page = text("docs/api.rst")
    listed = set(re.findall(r"^   ([\w.]+)$", page, re.M))
    modules = {"calibration", "datasets", "frames", "metrics", "plotting", "priors", "responses"}
    names = set(skhier.__all__) - modules - {"__version__"}
    for module in modules - {"plotting", "priors"}:  # their public names are skhier's own
        names |= {f"{module}.{name}" for name in getattr(skhier, module).__all__}
    assert listed == names
