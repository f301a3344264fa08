"""Is what ``make dist`` built fit to be installed elsewhere?

Looks into the wheel and the sdist, installs the wheel into an empty environment, and runs the demo
and ``smoke.py`` there, in a folder outside of the checkout, so that nothing is imported from it.

    python release/check_dist.py dist
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = {"skhier/datasets/data/cafes.csv", "skhier/datasets/data/sleepstudy.csv"}
IN_WHEEL = TABLES | {"skhier/py.typed", "skhier/datasets/data/README.md"}
IN_SDIST = {"pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "SECURITY.md"}


def main(folder: Path) -> None:
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
    with tempfile.TemporaryDirectory(prefix="skhier-dist-") as outside:
        run_elsewhere(wheel, Path(outside))
    print(f"{wheel.name} and {sdist.name} are fit to be installed.")


def check_wheel(wheel: Path) -> None:
    """The package, its licence and its two tables; no tests and no other data."""
    names = set(zipfile.ZipFile(wheel).namelist())
    require(names >= IN_WHEEL, f"{wheel.name} lacks {sorted(IN_WHEEL - names)}")
    tops = {name.split("/")[0] for name in names}
    odd = {top for top in tops if top != "skhier" and not top.endswith(".dist-info")}
    require(not odd, f"{wheel.name} holds {sorted(odd)} beside the package")
    require(any(name.endswith("licenses/LICENSE") for name in names), f"{wheel.name}: no LICENSE")
    other = {name for name in names if "/data/" in name} - IN_WHEEL
    require(not other, f"{wheel.name} holds tables of unknown licence: {sorted(other)}")


def check_sdist(sdist: Path) -> None:
    """What builds the wheel and what a reader wants; no tests, whose tables have other licences."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    require(names >= IN_SDIST | IN_WHEEL, f"{sdist.name} lacks {sorted(IN_SDIST - names)}")
    odd = {name for name in names if name.startswith(("tests/", "benchmarks/"))}
    require(not odd, f"{sdist.name} holds {sorted(odd)[:5]}")


def run_elsewhere(wheel: Path, outside: Path) -> None:
    """Install into an empty environment; run the demo and the smoke test from ``outside``."""
    home = outside / "venv"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    run([python, "-m", "pip", "install", *quiet, f"{wheel.resolve()}[plot]"], outside)
    run([python, "-m", "pip", "check"], outside)
    for script in ("examples/plot_sleepstudy.py", "release/smoke.py"):
        shutil.copy(ROOT / script, outside)
    run([python, "plot_sleepstudy.py", "sleepstudy.png"], outside)
    require((outside / "sleepstudy.png").stat().st_size > 20_000, "the demo drew no picture")
    run([python, "-W", "error", "smoke.py", wheel.name.split("-")[1]], outside)


def run(command: list, folder: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run(command, cwd=folder, env=clean | {"MPLBACKEND": "Agg"}, check=True)


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(otherwise)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
