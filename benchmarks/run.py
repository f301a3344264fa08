"""Race skhier against its rivals: python benchmarks/run.py --out DIR

Each (problem, rival) runs in a fresh process with a time limit. A line of ``results.jsonl`` is
written as each ends; tables and plot are made from that file, also by ``--report`` alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import report
from contract import Sampling
from problem import Problem
from problems import PROBLEMS, make
from rivals import RIVALS

WORKER = Path(__file__).with_name("worker.py")
POLL_SECONDS = 0.1


def main() -> None:
    options = read_options()
    if options.list:
        print_list()
        return
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    if not options.report:
        race(options, results)
    report.write(options.out, report.read(results))


def race(options: argparse.Namespace, results: Path) -> None:
    sampling = Sampling(n_warmup=options.warmup, n_draws=options.draws, n_cores=options.cores)
    done = {(r["problem"], r["rival"]) for r in report.read(results)} if options.skip_done else ()
    imported: set[str] = set()
    for name in options.problems:
        problem = PROBLEMS[name]
        entrants = [r for r in options.rivals if r in problem.rivals and (name, r) not in done]
        if not entrants:
            continue
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            data = Path(folder) / "data.npz"
            np.savez(data, **make(problem))
            for rival in entrants:
                job = Job(problem, rival, sampling, options)
                if rival not in imported:  # byte-code and disk cache are nobody's merit
                    job.run(None)
                    imported.add(rival)
                record = job.run(data)
                with results.open("a") as out:
                    out.write(json.dumps(record) + "\n")
                print(report.one_line(record), flush=True)


class Job:
    """One rival on one problem."""

    def __init__(self, problem: Problem, rival: str, sampling: Sampling, options: Any):
        self.problem, self.rival, self.sampling = problem, rival, sampling
        self.options = options
        self.python = options.python_for.get(rival, sys.executable)

    def run(self, data: Path | None) -> dict[str, Any]:
        """Run the worker, watch its memory and its time, and sum up what it left."""
        busy = psutil.cpu_percent(interval=0.5)  # the work of others: ours has not begun
        with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
            folder = Path(name)
            (folder / "job.json").write_text(json.dumps(self._job()))
            if data is not None:
                os.link(data, folder / "data.npz")
            with (folder / "log").open("w") as log:
                process = subprocess.Popen(
                    [self.python, str(WORKER), str(folder)],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment(folder),
                    start_new_session=True,
                )
                peak, in_time = watch(process, self.options.limit)
            if self.options.verbose or process.returncode not in (0, 1):
                print((folder / "log").read_text()[-2000:], file=sys.stderr)
            found = report.sum_up(folder, process.returncode, in_time, self.options.limit)
            found["peak_bytes"] = max(peak, found["peak_bytes"])
        facts = {"problem": self.problem.name, "rival": self.rival, **found}
        return facts | {"sampling": asdict(self.sampling), "machine": machine(busy)}

    def _job(self) -> dict[str, Any]:
        return {
            "problem": self.problem.name,
            "rival": self.rival,
            "packages": RIVALS[self.rival].packages,
            "factors": [asdict(factor) for factor in self.problem.factors],
            "priors": asdict(self.problem.priors),
            "sampling": asdict(self.sampling),
            "seed": self.options.seed,
            "response": self.problem.response,
        }

    def _environment(self, folder: Path) -> dict[str, str]:
        """Two threads for everyone, no GPU, and no compiled program from an earlier day."""
        cores = str(self.sampling.n_cores)
        names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")
        changes = {f"{name}_NUM_THREADS": cores for name in names}
        changes["JAX_PLATFORMS"] = "cpu"
        if not self.options.keep_caches:
            flags = [os.environ.get("PYTENSOR_FLAGS"), f"base_compiledir={folder / 'pytensor'}"]
            changes["PYTENSOR_FLAGS"] = ",".join(filter(None, flags))
            changes["NUMBA_CACHE_DIR"] = str(folder / "numba")
        kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        return (os.environ if self.options.keep_caches else kept) | changes


def watch(process: subprocess.Popen[bytes], limit: float) -> tuple[int, bool]:
    """Wait for the end or the limit; return the tree's peak memory, and whether it was in time."""
    peak, deadline = 0, time.monotonic() + limit
    root = psutil.Process(process.pid)
    try:
        while process.poll() is None:
            if time.monotonic() > deadline:
                return peak, False
            peak = max(peak, memory(root))
            time.sleep(POLL_SECONDS)
        return peak, True
    finally:  # also after Ctrl-C, and of a chain's process that outlived the worker
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def memory(root: psutil.Process) -> int:
    """Resident bytes of a process; of several, their shares, so that no page counts twice."""
    try:
        tree = [root, *root.children(recursive=True)]
        if len(tree) == 1:
            return root.memory_info().rss
        full = [process.memory_full_info() for process in tree]
        return sum(getattr(info, "pss", info.rss) for info in full)
    except psutil.Error:  # it ended meanwhile
        return 0


def machine(busy: float) -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "busy_percent": busy,
    }


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print problems and rivals")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--limit", type=float, default=900, help="seconds for each (900)")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--warmup", type=int, default=Sampling.n_warmup, help="per chain")
    parser.add_argument("--draws", type=int, default=Sampling.n_draws, help="per chain")
    parser.add_argument("--cores", type=int, default=Sampling.n_cores)
    parser.add_argument("--seed", type=int, default=1, help="of the first fit; then 2, 3, ...")
    parser.add_argument(
        "--python-for",
        nargs="+",
        default=[],
        metavar="RIVAL=PYTHON",
        help="interpreters of rivals that cannot share an environment",
    )
    parser.add_argument("--keep-caches", action="store_true", help="cold fits may use old caches")
    parser.add_argument("--skip-done", action="store_true", help="what results.jsonl has already")
    parser.add_argument("--report", action="store_true", help="only make tables and plot")
    parser.add_argument("--verbose", action="store_true", help="print what the rivals print")
    options = parser.parse_args()
    pairs = [text.partition("=") for text in options.python_for]
    options.python_for = {rival: python for rival, _, python in pairs}
    unknown = options.python_for.keys() - RIVALS.keys()
    if unknown or not all(map(shutil.which, options.python_for.values())):
        parser.error(f"--python-for takes RIVAL=PYTHON; got {options.python_for}")
    return options


def print_list() -> None:
    for problem in PROBLEMS.values():
        print(f"{problem.name:15} {problem.shape}; {' '.join(problem.rivals)}")
    print()
    for name, rival in RIVALS.items():
        print(f"{name:20} {rival.title}{': ' + rival.model if rival.model else ''}")


if __name__ == "__main__":
    main()
