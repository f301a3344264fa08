"""An R process that keeps its data and fits again when asked.

The first fit starts it, which is why a cold time holds R's start, its packages and the hand-over of
the data (raw doubles, which R reads in no time); a warm time holds the fit alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from contract import Fit, Task, Unavailable

__all__ = ["RScript"]


class RScript:
    """`script` is a file beside this one that sources ``_session.R`` and calls ``serve``."""

    def __init__(self, script: str):
        self.script = Path(__file__).with_name(script)
        self.process: subprocess.Popen[str] | None = None
        self.folder = tempfile.TemporaryDirectory(prefix="benchmark-")

    def fit(self, task: Task, seed: int) -> Fit:
        if self.process is None:
            self._start(task)
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seed}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("unavailable: "):
                raise Unavailable(line.removeprefix("unavailable: ").strip())
            if line.startswith("error: "):
                raise RuntimeError(line.removeprefix("error: ").strip())
            if line.startswith("done"):
                return self._read()
        raise RuntimeError(f"R ended with status {self.process.wait()}")

    def _start(self, task: Task) -> None:
        program = shutil.which("Rscript")
        if program is None:
            raise Unavailable("Rscript is not installed")
        folder = Path(self.folder.name)
        codes = [task.codes[factor.name] for factor in task.factors]
        for name, values in {"x": task.x.T, "y": task.y, "codes": codes}.items():
            np.ascontiguousarray(values, dtype="<f8").tofile(folder / f"{name}.bin")
        facts = {
            "formula": task.formula,
            "response": task.response,
            "features": task.features,
            "factors": [{"name": f.name, "slopes": f.slopes} for f in task.factors],
            "n_rows": len(task.y),
            "priors": asdict(task.priors),
            "sampling": asdict(task.sampling),
        }
        (folder / "task.json").write_text(json.dumps(facts))
        self.process = subprocess.Popen(
            [program, "--vanilla", str(self.script), str(self.script.parent), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _read(self) -> Fit:
        found = json.loads((Path(self.folder.name) / "fit.json").read_text())
        values = {name: np.asarray(value, dtype=float) for name, value in found["values"].items()}
        return Fit(
            values,
            divergences=found.get("divergences"),
            remark=found.get("remark", ""),
            versions=found["versions"],
        )
