"""Training and evaluation as stages of the road: skipped when settings and inputs have not changed.

The trainer itself knows neither recipes nor manifests; here its results get a manifest as every stage has.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcl_data import files
from lcl_data.stage import Stage, input_of
from pipelines.console import Console
from schemas.errors import RecipeError
from schemas.manifest import MANIFEST, Input
from schemas.members import key
from schemas.overrides import nested, settle
from schemas.recipe import EvalSection

if TYPE_CHECKING:
    from lcl_train.evals import Eval
    from lcl_train.preview import Preview
    from lcl_train.settings import Train

SUMMARY = "summary.json"
_TRACKERS = ("trackers.json", "tensorboard", "wandb")
_LEAVES = ("checkpoints", "metrics.jsonl", "settings.json", SUMMARY, "nan-step-*", *_TRACKERS)
_PROOF = "checkpoints/step-*/state.json"
_PARTS = ("trained", "random", "gain")
Json = dict[str, Any]


def train(
    shards: Sequence[Path],
    out: Path,
    section: Json,
    settings: Sequence[str],
    resume: str,
    console: Console,
) -> Json:
    """Pre-train on shards, unless this very run is finished.

    Args:
        shards: folders of training shards.
        out: folder of the run.
        section: settings of the trainer, as a recipe has them.
        settings: `a.b=c` laid over them.
        resume: auto, never, or a checkpoint.
        console: what tells of it.

    Returns:
        The run's summary.
    """
    files.must_be_copied(*shards, out)
    _need_torch()
    from lcl_train import parallel
    from lcl_train.devices import find_device
    from lcl_train.loop import train as run

    console.is_mute = not parallel.is_main()
    step = _settled(section, settings)
    stage = stage_of(shards, out, section, settings)
    if stage.finished() and resume == "auto":
        console.say(f"train: {out} is finished under these settings")
        return _shown(_summary(out), console)
    with parallel.joined(parallel.own_device(find_device(step.device))):
        parallel.barrier()  # every rank has asked whether the run is finished
        summary = run(shards, out, step, resume, console.rich, lambda: _unseal(out))
    if summary["is_finished"] and parallel.is_main():
        files.write(out / SUMMARY, json.dumps(summary, indent=1, sort_keys=True).encode() + b"\n")
        stage.seal(sorted((out / "checkpoints").rglob("*.safetensors")))
    return _shown(summary, console)


def plan(shards: Sequence[Path], section: Json, settings: Sequence[str], console: Console) -> Json:
    """Tell what a run would take, and write nothing; a few steps are measured on this device.

    Args:
        shards: folders of training shards.
        section: settings of the trainer, as a recipe has them.
        settings: `a.b=c` laid over them.
        console: what tells of it.

    Raises:
        RecipeError: torchrun launched this.
    """
    files.must_be_copied(*shards)
    _need_torch()
    from lcl_data.shards import Shards
    from lcl_train.parallel import is_launched
    from lcl_train.plan import plan as planned
    from pipelines.planning import show

    if is_launched():
        raise RecipeError(
            "--plan measures one process: give the command without torchrun, and its share of rows"
        )
    found = planned(Shards(shards), _settled(section, settings))
    show(found, console)
    return found


def preview(shards: Path, section: Json, settings: Sequence[str], rows: int) -> "Preview":
    """The first rows that a run would learn from, as many as it has in a step and `rows` at most."""
    files.must_be_copied(shards)
    _need_torch()
    from lcl_data.shards import Shards
    from lcl_train.preview import preview as seen

    return seen(Shards(shards), _settled(section, settings), rows)


def stage_of(shards: Sequence[Path], out: Path, section: Json, settings: Sequence[str] = ()) -> Stage:
    """The stage as `train` is about to fill it."""
    step = _settled(section, settings).model_dump(mode="json")
    names = ("shards", *(f"shards {number}" for number in range(2, len(shards) + 1)))
    inputs = [input_of(name, folder, ("shard",)) for name, folder in zip(names, shards, strict=True)]
    return Stage("train", out, step, tuple(inputs), leaves=_LEAVES, proof=_PROOF)


def _settled(section: Json, settings: Sequence[str]) -> "Train":
    from lcl_train.settings import Train

    return Train.settled(section, nested(settings))


def check(section: Json, evals: EvalSection | None) -> None:
    """Tell before any work what would stop the training or the evals after it.

    Raises:
        RecipeError: torch, the device or the labelled pictures are missing, or a setting is wrong.
    """
    _need_torch()
    from lcl_train.evals import Eval
    from lcl_train.features import SPLITS, Folder
    from lcl_train.loop import check as check_run
    from lcl_train.settings import Train
    from pipelines.recipes import members

    check_run(settle(Train, section, "train"))
    if evals is not None:
        members("lcl_train.evals", evals.use, Eval)
        folder = Folder(Path(evals.data))
        for split in SPLITS:
            folder.pictures(split)


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        remedy = "pip install 'lcl[train]', or walk without it: --set train=null"
        raise RecipeError(f"training needs the extra 'train' ({error}); {remedy}") from error


def _unseal(out: Path) -> None:
    """Take back what says that a run is finished, because it goes on."""
    for name in (MANIFEST, SUMMARY):
        (out / name).unlink(missing_ok=True)


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


def evaluate(checkpoint: Path, data: Path, out: Path, use: Sequence[Any]) -> Json:
    """Probe an encoder, unless this very checkpoint was probed on this data with these evals.

    Args:
        checkpoint: of a run, or the run's folder.
        data: folder of classes.
        out: folder of the results.
        use: evals, as recipe entries or as YAML text.

    Returns:
        What eval.json holds.
    """
    _need_torch()
    from lcl_train import evaluate as evaluation

    stage, evals = eval_stage_of(checkpoint, data, out, use)
    if stage.finished():
        report: Json = json.loads((out / evaluation.REPORT).read_bytes())
    else:
        report = evaluation.evaluate(checkpoint, data, out, evals)
        stage.seal([out / evaluation.REPORT, out / evaluation.TABLE])
    return report


def eval_stage_of(checkpoint: Path, data: Path, out: Path, use: Sequence[Any]) -> "tuple[Stage, list[Eval]]":
    """The stage as `evaluate` is about to fill it, and its evals."""
    from lcl_train import checkpoint as checkpoints
    from lcl_train import evaluate as evaluation
    from lcl_train.evals import Eval
    from pipelines.recipes import members

    evals = members("lcl_train.evals", use, Eval)
    weights = checkpoints.best_weights(checkpoints.locate(checkpoint))
    inputs = (Input(name="model", digest=files.sha256(weights)), Input(name="data", digest=_listing(data)))
    settings = {"evals": [{key(each): each.model_dump(mode="json")} for each in evals]}
    leaves = ("features", evaluation.REPORT, evaluation.TABLE)
    return Stage("eval", out, settings, inputs, leaves=leaves), evals


def show(report: Json, console: Console) -> None:
    """Show what an evaluation found."""
    rows = [(name, *(_interval(found[part]) for part in _PARTS)) for name, found in report["evals"].items()]
    console.table(f"eval on {report['data']['name']}: 95 % intervals", ("", *_PARTS), rows)
    if ignored := sum(report["data"]["ignored"].values()):
        console.say(f"{ignored:,} files of other kinds than pictures were left out")


def _listing(data: Path) -> str:
    """Digest of the names and sizes of all pictures."""
    found = sorted(path for path in data.rglob("*") if path.is_file())
    return files.digest([[path.relative_to(data).as_posix(), path.stat().st_size] for path in found])


def _interval(values: dict[str, float]) -> str:
    return f"{values['mean']:.1%} [{values['low']:.1%}, {values['high']:.1%}]"
