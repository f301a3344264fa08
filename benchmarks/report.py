"""From a worker's events to a record, from records to tables and a plot."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from problems import PROBLEMS
from rivals import NO_CORR, RIVALS

__all__ = ["one_line", "read", "sum_up", "write"]

STANDARD = "skhier"
SAME_MODEL = {"": STANDARD, NO_CORR: "skhier_independent"}  # whose means a model's must equal
Record = dict[str, Any]


def sum_up(folder: Path, status: int, in_time: bool, limit: float) -> Record:
    """Sum up what a worker left in its folder.

    ``outcome`` is ``"ok"`` or says what happened; the times reached before that are kept.
    """
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    fits = [e for e in events if e["event"] == "fitted"]
    imports = [e for e in events if e["event"] == "imported"]
    trouble = [e for e in events if e["event"] == "failed"]
    cold, warm = fits[:1], fits[1:] or fits  # a fit so slow that no second ended was no colder
    record: Record = {
        "outcome": "ok",
        "import_seconds": imports[0]["seconds"] if imports else None,
        "cold_seconds": imports[0]["seconds"] + cold[0]["seconds"] if cold else None,
        "warm_seconds": statistics.median(e["seconds"] for e in warm) if warm else None,
        "n_warm": len(fits[1:]),
        "peak_bytes": max((e["peak_bytes"] or 0 for e in fits), default=0),
        "divergences": fits[-1]["divergences"] if fits else None,
        "remark": fits[-1]["remark"] if fits else "",
        "versions": {k: v for e in events for k, v in e.get("versions", {}).items()},
    }
    if trouble:
        record["outcome"] = trouble[0]["reason"]
    elif not in_time:
        stage = "the first fit" if imports else "the import"
        if not fits:
            record["outcome"] = f"limit of {limit:g} s reached in {stage}"
        elif len(fits) == 1:
            record["outcome"] = f"limit of {limit:g} s reached in the second fit; warm is the first"
    elif status != 0:
        record["outcome"] = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    return record | posterior_facts(folder, fits)


def posterior_facts(folder: Path, fits: list[Record]) -> Record:
    """Effective sample sizes and R-hat over all fits; estimates of the last."""
    facts: Record = {"ess_min": None, "ess_per_second": None, "r_hat_max": None, "estimates": {}}
    rates = []
    for n, event in enumerate(fits):
        with np.load(folder / f"fit_{n}.npz") as saved:
            values = dict(zip(saved["names"].tolist(), saved["values"], strict=True))
        if next(iter(values.values())).ndim == 0:
            facts["estimates"] = {name: [float(value)] for name, value in values.items()}
            continue
        facts["estimates"] = summary(values, event["ess_limit"])
        ess, r_hat = diagnose(values)
        worst = min(ess, key=lambda name: ess[name])
        limit = event["ess_limit"]
        least = ess[worst] if limit is None else min(ess[worst], limit)
        facts |= {"ess_min": least, "ess_parameter": worst, "r_hat_max": max(r_hat.values())}
        if n or len(fits) == 1:
            rates.append(least / event["seconds"])
    if rates:
        facts["ess_per_second"] = statistics.median(rates)
    return facts


def diagnose(values: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, float]]:
    """Bulk effective sample size and rank-normalised R-hat of each parameter, by ArviZ."""
    import arviz as az

    table = as_dataset(values)
    ess, r_hat = az.ess(table, method="bulk"), az.rhat(table, method="rank")
    return tuple({k: float(v) for k, v in found.data_vars.items()} for found in (ess, r_hat))


def summary(values: dict[str, np.ndarray], ess_limit: float | None) -> dict[str, list[float]]:
    """Posterior mean, sd and Monte Carlo standard error of the mean."""
    import arviz as az

    errors = az.mcse(as_dataset(values), method="mean")
    table = {}
    for name, draws in values.items():
        sd, error = float(draws.std(ddof=1)), float(errors[name])
        floor = sd / math.sqrt(ess_limit) if ess_limit else 0.0
        table[name] = [float(draws.mean()), sd, max(error, floor)]
    return table


def as_dataset(values):
    import xarray as xr

    return xr.Dataset({name: (("chain", "draw"), value) for name, value in values.items()})


def read(results: Path) -> list[Record]:
    """Read the records; of several for one (problem, rival) the last, in the problems' order."""
    if not results.exists():
        return []
    records = [json.loads(line) for line in results.read_text().splitlines()]
    last = {(r["problem"], r["rival"]): r for r in records}
    places = {name: n for n, name in enumerate([*PROBLEMS, *RIVALS])}
    return sorted(last.values(), key=lambda r: (places[r["problem"]], places[r["rival"]]))


def one_line(record: Record) -> str:
    cells = dict(zip(COLUMNS, row(record, {}), strict=True))
    times = ", ".join(f"{name} {cells[name]}" for name in ("cold s", "warm s", "ESS/s"))
    return f"{record['problem']} {record['rival']}: {times}; {cells['remarks'] or 'ok'}"


def write(folder: Path, records: list[Record]) -> None:
    """Write ``table.md``, ``results.csv`` and ``ratios.png``."""
    raced: dict[str, dict[str, Record]] = {}
    for record in records:
        raced.setdefault(record["problem"], {})[record["rival"]] = record
    (folder / "table.md").write_text(markdown(raced))
    write_csv(folder / "results.csv", raced)
    draw_ratios(folder / "ratios.png", raced)


COLUMNS = (
    "rival",
    "import s",
    "cold s",
    "warm s",
    "warm / skhier",
    "min ESS",
    "ESS/s",
    "skhier's ESS/s / its own",
    "max R-hat",
    "divergences",
    "max z",
    "peak MB",
    "remarks",
)


def row(record: Record, peers: dict[str, Record]) -> list[str]:
    standard = peers.get(STANDARD, {})
    remarks = [model(record), record["remark"]]
    if record["outcome"] != "ok":
        remarks.insert(0, f"**{record['outcome']}**")
    peak = record["peak_bytes"]
    return [
        RIVALS[record["rival"]].title,
        number(record["import_seconds"]),
        number(record["cold_seconds"]),
        number(record["warm_seconds"]),
        number(time_ratio(record, standard)),
        number(record["ess_min"], "{:.0f}"),
        number(record["ess_per_second"]),
        number(rate_ratio(record, standard)),
        number(record["r_hat_max"], "{:.3f}"),
        number(record["divergences"], "{:d}"),
        number(disagreement(record, peers), "{:.1f}"),
        number(peak / 1e6, "{:.0f}") if record["cold_seconds"] else "",
        "; ".join(text for text in remarks if text),
    ]


def model(record: Record) -> str:
    """How the rival's model differs; one effect has nothing to correlate with."""
    text = RIVALS[record["rival"]].model
    return "" if text == NO_CORR and PROBLEMS[record["problem"]].q == 1 else text


def time_ratio(record: Record, standard: Record) -> float | None:
    return ratio(record.get("warm_seconds"), standard.get("warm_seconds"))


def rate_ratio(record: Record, standard: Record) -> float | None:
    return ratio(standard.get("ess_per_second"), record.get("ess_per_second"))


def disagreement(record: Record, peers: dict[str, Record]) -> float | None:
    """Largest difference of a posterior mean from skhier's, in Monte Carlo standard errors.

    None where the model is another one, or where there are no draws.
    """
    name = SAME_MODEL.get(RIVALS[record["rival"]].model)
    if (
        name in (None, record["rival"])
        or name not in peers
        or not RIVALS[record["rival"]].posterior
    ):
        return None
    mine, theirs = record["estimates"], peers[name]["estimates"]
    z = [
        abs(mine[k][0] - theirs[k][0]) / math.hypot(mine[k][2], theirs[k][2])
        for k in mine.keys() & theirs.keys()
    ]
    return max(z, default=None)


def ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def number(value: Any, form: str = "{:.3g}") -> str:
    """Print a number; never 1e+03 where 1030 will do."""
    if value is None:
        return ""
    large = form == "{:.3g}" and abs(value) >= 1000
    return f"{value:.0f}" if large else form.format(value)


def markdown(raced: dict[str, dict[str, Record]]) -> str:
    lines = ["# Results", "", *settings([r for peers in raced.values() for r in peers.values()])]
    for name, peers in raced.items():
        lines += ["", f"## {name}: {PROBLEMS[name].shape}", "", "| " + " | ".join(COLUMNS) + " |"]
        lines += ["|---|" + "---:|" * (len(COLUMNS) - 2) + "---|"]
        rows = [row(record, peers) for record in peers.values()]
        lines += ["| " + " | ".join(cells).replace("\n", " ") + " |" for cells in rows]
        lines += ["", *estimates_table(list(peers.values()))]
    return "\n".join(lines).rstrip() + "\n"


def settings(records: list[Record]) -> list[str]:
    """Say under what conditions; more than one line where records of several runs are mixed."""
    conditions = {}
    for r in records:
        s, m = r["sampling"], r["machine"]
        draws = f"{s['n_chains']} chains of {s['n_draws']} draws after {s['n_warmup']}"
        place = f"{s['n_cores']} of {m['cores']} cores, {m['memory_gb']} GB, {m['system']}"
        conditions[f"{draws}; {place}."] = None
    versions: dict[str, dict[str, None]] = {}
    for r in records:
        text = ", ".join(f"{package} {v}" for package, v in r["versions"].items())
        if text:
            versions.setdefault(RIVALS[r["rival"]].title, {})[text] = None
    busy = [r["machine"]["busy_percent"] for r in records] or [0.0]
    return [
        *(f"- {text}" for text in conditions),
        f"- Other processes used {min(busy):g} to {max(busy):g}% of the processor before each.",
        *(f"- {title}: {'; '.join(texts)}" for title, texts in versions.items()),
        "",
        "An empty cell: not reached, or not defined. Bold: why a rival has no (or half a) result.",
        "max z: the largest difference of a posterior mean from skhier's in the same model, in",
        "Monte Carlo standard errors.",
    ]


def estimates_table(records: list[Record]) -> list[str]:
    """Posterior means (sd) or estimates, side by side: rivals of one model must agree."""
    found = {RIVALS[r["rival"]].title: r["estimates"] for r in records if r["estimates"]}
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    if not found or len(names) > 12:
        return []
    lines = ["| estimate (sd) | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for title, values in found.items():
        cells = []
        for name in names:
            mean, sd = (*values.get(name, [None]), None)[:2]
            cells.append(number(mean) + (f" ({number(sd)})" if sd is not None else ""))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


FIELDS = (
    "problem",
    "rival",
    "outcome",
    "import_seconds",
    "cold_seconds",
    "warm_seconds",
    "n_warm",
    "ess_min",
    "ess_parameter",
    "ess_per_second",
    "r_hat_max",
    "divergences",
    "peak_bytes",
    "remark",
)


def write_csv(path: Path, raced: dict[str, dict[str, Record]]) -> None:
    sizes = ("n_rows", "n_groups", "q", "tau")
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow([*FIELDS, *sizes, "warm_over_skhier", "skhier_ess_rate_over_own", "max_z"])
        for name, peers in raced.items():
            size = [getattr(PROBLEMS[name], field) for field in sizes]
            standard = peers.get(STANDARD, {})
            for r in peers.values():
                ratios = [time_ratio(r, standard), rate_ratio(r, standard), disagreement(r, peers)]
                writer.writerow([*(r.get(field) for field in FIELDS), *size, *ratios])


def draw_ratios(path: Path, raced: dict[str, dict[str, Record]]) -> None:
    """Draw how many times skhier's time a rival takes, and how many times its ESS/s skhier has.

    A rival without a result is a cross at the right-hand edge; a problem without skhier's has no
    ratios and is left to the table.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    standards = {name: peers.get(STANDARD, {}) for name, peers in raced.items()}
    races = {n: p for n, p in raced.items() if len(p) > 1 and standards[n].get("warm_seconds")}
    names = [name for name in RIVALS if any(name in p for p in races.values()) and name != STANDARD]
    if not races:
        return
    colors = dict(zip(RIVALS, plt.get_cmap("tab20").colors, strict=False))
    shift = dict(zip(names, np.linspace(-0.35, 0.35, len(names)), strict=True))
    height = 2.0 + 0.16 * len(names) * len(races)
    fig, axes = plt.subplots(1, 2, figsize=(11, height), sharey=True, layout="constrained")
    panels = {
        "warm fit: rival's seconds / skhier's": time_ratio,
        "effective draws per second: skhier's / rival's": rate_ratio,
    }
    for axis, (title, measure) in zip(axes, panels.items(), strict=True):
        for place, peers in enumerate(races.values()):
            for name in peers.keys() & names:
                if measure is rate_ratio and not RIVALS[name].posterior:
                    continue
                value = measure(peers[name], peers[STANDARD])
                missing = {"marker": "x", "transform": axis.get_yaxis_transform()}
                style = {"marker": "o"} if value else missing
                axis.plot(value or 0.985, place + shift[name], color=colors[name], ms=6, **style)
        axis.set(xscale="log", title=title)
        axis.axvline(1.0, color="0.3", lw=1)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
        for edge in range(1, len(races)):
            axis.axhline(edge - 0.5, color="0.8", lw=0.8)
    axes[0].set(yticks=range(len(races)), ylim=(len(races) - 0.5, -0.5))
    axes[0].set_yticklabels(races)
    handles = [plt.Line2D([], [], marker="o", ls="", color=colors[name]) for name in names]
    fig.legend(
        handles,
        [RIVALS[name].title for name in names],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        title="right of the line: skhier is faster;   x: no result, see the table",
    )
    fig.savefig(path, dpi=150)
    plt.close(fig)
