"""Training and evaluation as stages of the road: skipped when settings and inputs have not changed.

The trainer itself knows neither recipes nor manifests; here its results get a manifest as every stage has.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lcl_data import files
from lcl_data.stage import Stage, input_of
from pipelines.console import Console
from schemas.errors import RecipeError
from schemas.manifest import MANIFEST, Ledger, Manifest, Shard
from schemas.overrides import laid_over, nested, settle

SUMMARY = "summary.json"
Json = dict[str, Any]


def train(
    shards: Path, out: Path, section: Json, settings: Sequence[str], resume: str, console: Console
) -> Json:
    """Pre-train on shards, unless this very run is finished.

    Args:
        shards: folder of training shards.
        out: folder of the run.
        section: settings of the trainer, as a recipe has them.
        settings: `a.b=c` laid over them.
        resume: auto, never, or a checkpoint.
        console: what tells of it.

    Returns:
        The run's summary.
    """
    _need_torch()
    from lcl_train.loop import train as run
    from lcl_train.settings import Train

    step = settle(Train, laid_over(section, nested(settings)), "train")
    stage = Stage("train", out, step.model_dump(mode="json"), (input_of("shards", shards),))
    if stage.finished():
        console.say(f"train: {out} is finished under these settings")
        return _shown(_summary(out), console)
    (out / MANIFEST).unlink(missing_ok=True)
    summary = run(shards, out, step, resume, console.rich)
    if summary["is_finished"]:
        _finish(stage, summary, sorted((out / "checkpoints").rglob("*.safetensors")))
    return _shown(summary, console)


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise RecipeError(f"training needs the extra 'train' ({error}); pip install 'lcl[train]'") from error


def _finish(stage: Stage, summary: Json, outputs: Sequence[Path]) -> None:
    """Write the summary and the manifest that proves the stage done."""
    files.write(stage.out / SUMMARY, json.dumps(summary, indent=1, sort_keys=True).encode() + b"\n")
    shards = [
        Shard(
            name=path.relative_to(stage.out).as_posix(),
            rows=0,
            nbytes=path.stat().st_size,
            sha256=files.sha256(path),
        )
        for path in outputs
    ]
    manifest = Manifest(
        stage=stage.name,
        digest=stage.digest,
        settings=stage.settings,
        inputs=list(stage.inputs),
        shards=shards,
        ledger=Ledger(),
    )
    files.write(stage.out / MANIFEST, manifest.to_bytes())


def _summary(out: Path) -> Json:
    summary: Json = json.loads((out / SUMMARY).read_bytes())
    return summary


def _shown(summary: Json, console: Console) -> Json:
    flat = [(name, value) for name, value in summary.items() if not isinstance(value, dict)]
    for name, part in summary.items():
        if isinstance(part, dict):
            flat += [(f"{name}/{key}", value) for key, value in part.items()]
    console.table("train", ("", ""), flat)
    return summary
