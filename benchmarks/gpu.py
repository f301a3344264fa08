"""Is a GPU right, and is it faster? The same fits on a CPU and, where there is one, on a GPU.

    python benchmarks/gpu.py                                # all sizes; on a CPU alone half an hour
    python benchmarks/gpu.py --groups 1000 10000 --q 2      # some of them
    python benchmarks/gpu.py --groups 100000 --q 8 --devices gpu    # where a CPU takes too long
    python benchmarks/gpu.py --out gpu.md                   # the table into a file as well

Each case is fitted once cold and up to three times warm on each device, fewer where that takes
more than 20 s; seconds are the smallest warm ones. "largest difference" is between the posterior
means of the two devices, in posterior sds, over the population's parameters and every group's
coefficients. Both devices compute in float64 from the same seed, and a Monte Carlo error of a mean
is some 0.03: more than 0.1 is a fault. On a CPU alone the column is empty and the rest is the
baseline.

Engines: `marginal` is a normal response, effects integrated out in closed form; `quadrature` a
Bernoulli one, whose intercepts are integrated out numerically.
"""

import argparse
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from skhier import HierarchicalSlopesClassifier, HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical

LARGEST_DIFFERENCE = 0.1  # posterior sds
N_WARM = 3
ENOUGH_SECONDS = 20  # of warm fits
ROWS_PER_GROUP = 10


class Case(NamedTuple):
    engine: str
    q: int
    n_groups: int


def main() -> None:
    args = read_arguments()
    cases = [Case("marginal", q, n) for q in args.q for n in args.groups]
    cases += [Case("quadrature", 1, n) for n in args.groups if n <= args.quadrature_up_to]
    devices = [each for each in args.devices if each == "cpu" or gpu_name()]
    rows = []
    for case in cases:
        rows.append(measure(case, devices))
        print(rows[-1], flush=True)
        if args.out:  # whatever ends the run, the cases before it are there
            args.out.write_text(head() + to_markdown(pd.DataFrame(rows)), encoding="utf-8")
    print(head() + to_markdown(pd.DataFrame(rows)))
    wrong = [row for row in rows if row.get("largest difference", 0.0) > LARGEST_DIFFERENCE]
    if wrong:
        raise SystemExit(f"CPU and GPU disagree: {wrong}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--q", type=int, nargs="*", default=[2, 8], help="effects of a group")
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--groups", type=int, nargs="+", default=sizes, help="numbers of groups")
    parser.add_argument("--quadrature-up-to", type=int, default=100_000, metavar="GROUPS")
    both = ["cpu", "gpu"]
    parser.add_argument("--devices", nargs="+", choices=both, default=both)
    parser.add_argument("--out", type=Path, help="a file for the table")
    return parser.parse_args()


def measure(case: Case, devices: list[str]) -> dict:
    """Fit on every device; seconds, their ratio and how far apart the posteriors are."""
    X, y = simulate(case)
    row: dict = {**case._asdict(), "rows": len(X)}
    fits = {}
    for device in devices:
        try:
            fits[device], cold, warm = timed(case, device, X, y)
        except (MemoryError, RuntimeError) as error:
            row[f"{device}"] = f"{type(error).__name__}: {str(error)[:60]}"
            continue
        row |= {f"{device} cold s": round(cold, 2), f"{device} warm s": round(warm, 3)}
    if len(fits) == 2:
        row["cpu / gpu"] = round(row["cpu warm s"] / row["gpu warm s"], 2)
        row["largest difference"] = round(largest_difference(fits["cpu"], fits["gpu"]), 4)
    return row


def simulate(case: Case) -> tuple[pd.DataFrame, pd.Series]:
    """Ten rows a group, or twice as many as it has effects."""
    X, y = make_hierarchical(
        case.n_groups * max(ROWS_PER_GROUP, 2 * case.q),
        case.q - 1 if case.engine == "marginal" else 1,
        groups=case.n_groups,
        slopes="all" if case.engine == "marginal" else None,
        group_scale=0.7,
        return_X_y=True,
        random_state=0,
    )
    return X, y if case.engine == "marginal" else y > 0


def timed(case: Case, device: str, X: pd.DataFrame, y: pd.Series):
    """The last fit, the seconds of the first and the least of the others."""
    seconds: list[float] = []
    while len(seconds) <= 1 or (len(seconds) <= N_WARM and sum(seconds[1:]) < ENOUGH_SECONDS):
        began = time.perf_counter()
        model = estimator(case, device).fit(X, y)
        seconds.append(time.perf_counter() - began)
    return model, seconds[0], min(seconds[1:])


def estimator(case: Case, device: str):
    if case.engine == "marginal":
        return HierarchicalSlopesRegressor("group", device=device, random_state=0)
    return HierarchicalSlopesClassifier("group", slopes=None, device=device, random_state=0)


def largest_difference(one, other) -> float:
    """Of posterior means, in posterior sds of the first."""
    left, right = one.summary(), other.summary()
    apart = [np.abs(left["mean"] - right["mean"]) / left["sd"]]
    sd = one.group_coef_std_["group"]
    apart.append(np.abs(one.group_coef_["group"] - other.group_coef_["group"]) / sd)
    return float(max(np.nanmax(np.asarray(each)) for each in apart))


def gpu_name() -> str | None:
    import jax

    try:
        return str(jax.devices("gpu")[0].device_kind)
    except RuntimeError:
        return None


def head() -> str:
    import jax

    import skhier

    gpu = gpu_name() or "no GPU: untested on one"
    versions = f"skhier {skhier.__version__}, JAX {jax.__version__}, {platform.processor()}"
    return f"{time.strftime('%Y-%m-%d')}, {versions}, {gpu}; float64\n\n"


def to_markdown(table: pd.DataFrame) -> str:
    cells = table.astype(object).where(table.notna(), "")
    lines = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
