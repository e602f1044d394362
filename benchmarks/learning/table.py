"""The results of compare.py as Markdown, and as JSON in OUT/results.json: means over seeds, 95 % intervals.

    python benchmarks/learning/table.py out

Intervals are Student's over the seeds: with three seeds they are wide, and they say nothing of the corpus.
"""

import json
import statistics
import sys
from math import sqrt
from pathlib import Path

from compare import ARMS, ASIDE

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of seeds
RANDOM = "random weights"
MEASURED = {
    "val/generation": "tokens, nats",
    "val/contrastive": "contrast, nats",
    "val/bound": "log N - contrast",
    "val/matching": "matching, nats",
    "val/regression": "regression",
    "val/pixels": "pixels",
    "val/image_gain_shuffled": "image against a wrong one, nats",
    "val/visual_rank": "effective rank of visual tokens",
}


def main():
    out = Path(sys.argv[1])
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/result.json"))]
    if not runs:
        raise SystemExit(f"{out}: no runs/*/result.json; begin with compare.py run")
    (out / "results.json").write_text(json.dumps(runs, indent=1) + "\n")
    fresh = {run["seed"]: run["random"] for run in runs if "random" in run}
    by_arm = {arm: [run for run in runs if run["arm"] == arm] for arm in (*ARMS, *ASIDE)}
    by_arm = {arm: of_arm for arm, of_arm in by_arm.items() if of_arm}
    print(_probes(by_arm, fresh), _retrieval(by_arm), _learnt(by_arm, out), sep="\n\n")


def _probes(by_arm, fresh):
    """Accuracies, and the gain of the first two over the same seed's random weights."""
    names = [name for name in next(iter(fresh.values())) if name != "effective rank"]
    gains = [name for name in names if name.endswith("patches")]
    rows = [
        [RANDOM, *(_percent([each[name] for each in fresh.values()]) for name in names), *["" for _ in gains]]
    ]
    for arm, runs in by_arm.items():
        found = [_percent([run["probes"][name] for run in runs]) for name in names]
        gained = [
            _percent([run["probes"][name] - fresh[run["seed"]][name] for run in runs]) for name in gains
        ]
        rows.append([arm, *found, *gained])
    return _table(["objective", *names, *(f"gain, {name}" for name in gains)], rows)


def _retrieval(by_arm):
    told = {arm: [run["retrieval"] for run in runs] for arm, runs in by_arm.items() if "retrieval" in runs[0]}
    names = list(next(iter(told.values()))[0])
    rows = [
        [arm, *(_cell(name, [each[name] for each in found]) for name in names)] for arm, found in told.items()
    ]
    rows += [[arm, *["n/a"] * len(names)] for arm in by_arm if arm not in told]
    return _table(["objective", *names], rows)


def _learnt(by_arm, out):
    """What runs say of themselves, of held-out documents, and what a picture cost."""
    rows = []
    for arm, runs in by_arm.items():
        found = [
            _number([run["measured"][name] for run in runs if name in run["measured"]]) for name in MEASURED
        ]
        seconds = _number([run["cpu_seconds"] for run in runs])
        operations = _number([_operations(out / "runs" / f"{arm}-{run['seed']}") / 1e6 for run in runs])
        rows.append([arm, f"{runs[0]['lr']:g}", str(len(runs)), *found, operations, seconds])
    return _table(["objective", "rate", "seeds", *MEASURED.values(), "MFLOP a picture", "CPU-s"], rows)


def _operations(run):
    """Useful operations of a training step, for one picture of it."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return statistics.mean(line["flops_per_s"] / line["images_per_s"] for line in lines)


def _cell(name, values):
    return _number(values) if "rank" in name else _percent(values)


def _percent(values):
    mean, half = interval(values)
    return f"{mean:.1%} ± {half:.1%}".replace("%", " %") if half else f"{mean:.1%}".replace("%", " %")


def _number(values):
    return f"{statistics.mean(values):.3g}" if values else ""


def interval(values):
    """Mean and half of the 95 % interval; 0 where there is one value only."""
    count = len(values)
    half = T_95[count] * statistics.stdev(values) / sqrt(count) if count > 1 else 0.0
    return statistics.mean(values), half


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
