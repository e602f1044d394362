"""Evals of a checkpoint, always beside the same network at random initialisation, with bootstrap intervals.

An untrained ViT beats chance: it sees colours and edges already. What training gave is the difference.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lcl_train.checkpoint import write_text
from lcl_train.encoder import load_encoder, random_encoder
from lcl_train.evals import Eval, Scores
from lcl_train.features import SPLITS, Folder, Subject
from schemas.members import key

REPORT, TABLE, CACHE = "eval.json", "eval.md", "features"
_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}]"


def evaluate(checkpoint: Path, data: Path, out: Path, evals: Sequence[Eval]) -> dict[str, Any]:
    """Try an encoder; write eval.json and eval.md, and keep the features for the next time.

    Args:
        checkpoint: of a run, or the run's folder (its newest one).
        data: train/<class>/*.jpg and val/<class>/*.jpg.
        out: folder of the results.
        evals: what to try.

    Returns:
        What eval.json holds: step, data, and per eval the intervals `trained`, `random` and `gain`.

    Raises:
        CheckpointError: no checkpoint, or one that cannot be loaded.
        RecipeError: `data` is no folder of classes.
        ImageError: a picture that cannot be read.
    """
    folder = Folder(data)
    encoder, state = load_encoder(checkpoint)
    untrained = random_encoder(state.model, int(state.settings["seed"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained, random = (Subject(e.to(device), folder, out / CACHE) for e in (encoder, untrained))
    results = {_title(eval_): _compare(eval_, eval_(trained), eval_(random)) for eval_ in evals}
    report = {
        "step": state.step,
        "preset": state.settings["preset"],
        "data": {
            "name": data.name,
            "classes": list(folder.classes),
            "items": {split: len(folder.pictures(split)) for split in SPLITS},
            "ignored": {split: folder.ignored(split) for split in SPLITS},
        },
        "evals": results,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / REPORT, json.dumps(report, indent=1) + "\n")
    write_text(out / TABLE, _table(report))
    return report


def bootstrap(values: NDArray[np.float64], seed: int = _SEED) -> Interval:
    """The mean with the 2.5th and 97.5th percentile of the means of 2,000 resamples."""
    rng = np.random.default_rng(seed)
    n = len(values)
    means = [values[rng.integers(n, size=n)].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def _compare(eval_: Eval, trained: Scores, random: Scores) -> dict[str, Any]:
    """Both results, and their difference item by item: its interval is narrower than theirs would suggest."""
    mine, theirs = (scores.values.double().numpy() for scores in (trained, random))
    intervals = {"trained": mine, "random": theirs, "gain": mine - theirs}
    return {
        **{name: _as_dict(bootstrap(values)) for name, values in intervals.items()},
        "settings": eval_.model_dump(mode="json"),
        "notes": {"trained": trained.notes, "random": random.notes},
    }


def _title(eval_: Eval) -> str:
    """Its recipe key, and every setting that is not the default: `knn k=10`."""
    default = type(eval_)().model_dump()
    changed = [f"{name}={value}" for name, value in eval_.model_dump().items() if value != default[name]]
    return " ".join([key(eval_), *changed])


def _as_dict(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _table(report: dict[str, Any]) -> str:
    rows = [
        f"| {name} | "
        + " | ".join(str(Interval(**found[part])) for part in ("trained", "random", "gain"))
        + " |"
        for name, found in report["evals"].items()
    ]
    items, ignored = report["data"]["items"], sum(report["data"]["ignored"].values())
    others = f"; {ignored:,} files of other kinds left out" if ignored else ""
    head = (
        f"{report['data']['name']}: {len(report['data']['classes'])} classes, "
        f"{items['train']:,} pictures to learn from, {items['val']:,} to tell; "
        f"preset {report['preset']}, step {report['step']:,}; 95 % bootstrap intervals{others}"
    )
    return "\n".join([head, "", "| eval | trained | random weights | gain |", "|---|---|---|---|", *rows, ""])
