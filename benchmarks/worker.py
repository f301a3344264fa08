"""One rival on one problem, in a process of its own: a cold fit, then warm ones.

    python worker.py JOB_FOLDER

The folder holds ``job.json`` and ``data.npz``, which the runner wrote. Every event goes to
``events.jsonl`` as it happens, draws to ``fit_<n>.npz``, so that what was reached before a limit is
not lost. With ``data.npz`` missing, the rival is only imported.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

MAX_WARM_FITS, WARM_SECONDS = 5, 10.0  # repeat short fits, never long ones


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    if hasattr(os, "sched_setaffinity"):  # not on macOS, where the thread limits must do
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: job["sampling"]["n_cores"]])
    events = Events(folder / "events.jsonl")
    try:
        race(job, folder, events)
    except Exception as error:
        absent = isinstance(error, ImportError) or type(error).__name__ == "Unavailable"
        kind = "" if type(error).__name__ == "Unavailable" else f"{type(error).__name__}: "
        events.write("failed", reason=f"{'cannot run' if absent else 'raised'}: {kind}{error}")
        raise


def race(job: dict, folder: Path, events: "Events") -> None:
    began = time.perf_counter()
    library = importlib.import_module(f"libraries.{job['rival']}")
    import_seconds = time.perf_counter() - began
    events.write("imported", seconds=import_seconds, versions=versions(job["packages"]))
    if not (folder / "data.npz").exists():
        return
    task = read_task(job, folder)
    warm_seconds = 0.0
    for n in range(1 + MAX_WARM_FITS):
        if n > 1 and warm_seconds > WARM_SECONDS:
            break
        began = time.perf_counter()
        fit = library.fit(task, job["seed"] + n)
        seconds = time.perf_counter() - began
        warm_seconds += seconds if n else 0.0
        save(fit, folder / f"fit_{n}.npz")
        events.write(
            "fitted",
            seconds=seconds,
            divergences=fit.divergences,
            ess_limit=fit.ess_limit,
            remark=fit.remark,
            versions=fit.versions,
            peak_bytes=peak_bytes(),
        )


def read_task(job, folder):
    import numpy as np
    from contract import Factor, Priors, Sampling, Task

    factors = [Factor(**f | {"slopes": tuple(f["slopes"])}) for f in job["factors"]]
    with np.load(folder / "data.npz") as data:
        return Task(
            name=job["problem"],
            x=data["x"],
            y=data["y"],
            codes={f.name: data[f"codes_{f.name}"] for f in factors},
            features=tuple(map(str, data["features"])),
            factors=tuple(factors),
            priors=Priors(**job["priors"]),
            sampling=Sampling(**job["sampling"]),
            response=job["response"],
        )


def save(fit, path: Path) -> None:
    """Stack the parameters: a name may hold characters that no file name does."""
    import numpy as np

    np.savez(path, names=list(fit.values), values=np.stack(list(fit.values.values())))


def versions(packages):
    from importlib.metadata import version

    return {name: version(name) for name in packages}


def peak_bytes():
    """Read the peak of this process; getrusage's would count the parent's memory at the fork."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(kilobytes.split()[1])


class Events:
    """A file of JSON lines, complete after every one."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, event: str, **facts) -> None:
        with self.path.open("a") as out:
            out.write(json.dumps({"event": event} | facts) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
