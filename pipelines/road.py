"""The whole road of a recipe; a stage whose settings and inputs have not changed is skipped.

Each stage decides by its own digest whether it is done, so there is no state here: running the same command
again is always right.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lcl_data.deduplicate import deduplicate
from lcl_data.download import download
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.ingest import ingest
from lcl_data.shard import Shard, shard
from pipelines import training
from pipelines.console import Console
from pipelines.recipes import Plan, plan, read
from pipelines.vocabulary import train_tokenizer
from schemas.manifest import Manifest

Walked = tuple[Manifest, float]  # a stage, and the seconds it took
_SHORTEST_S = 0.1  # what took less was found done


def walk(
    recipe: str | Path,
    settings: Sequence[str],
    engine: Engine,
    console: Console,
    excused: Sequence[str] = (),
) -> int:
    """Run every stage of a recipe.

    Args:
        recipe: path of a recipe, or the name of one of ours.
        settings: `a.b=c` laid over it.
        engine: where shard functions run.
        console: what tells of it.
        excused: stages in which a failure was to be expected.

    Returns:
        The exit code: 0, or 1 where some shards failed (named; the rest is complete) or the training was
        stopped before its end.
    """
    road = plan(read(recipe, settings))
    if road.train is not None:
        training.check(road.train, road.eval)
    walked, results = [], {}
    began = time.monotonic()
    for manifest in data_stages(road, engine):
        console.ledger(manifest)
        walked.append((manifest, time.monotonic() - began))
        began = time.monotonic()
    if road.train is not None:
        results = _train(road, console)
    return _sum_up(road, walked, results, console, excused)


def data_stages(road: Plan, engine: Engine) -> Iterator[Manifest]:
    """The stages from the source to the shards, each run (or found done) when it is asked for."""
    work, docs, images = road.work, road.work / "documents", None
    yield ingest(road.src, docs, road.ingest, engine)
    if road.download is not None:
        images = work / "images"
        yield download(docs, images, road.download, engine)
    if road.filters is not None:
        filtered = work / "filtered"
        yield filter_documents(docs, filtered, road.filters, engine, images=images, scores=road.scores)
        docs = work / "filtered"
    if road.rules is not None:
        yield deduplicate(docs, work / "deduplicated", road.rules, engine, images)
        docs = work / "deduplicated"
    if road.shard is not None:
        assert images is not None  # a plan with shard has download
        yield shard(docs, images, work / "shards", _with_tokenizer(road, docs), engine)


def _with_tokenizer(road: Plan, docs: Path) -> Shard:
    """The settings of the shards, with the tokenizer that the recipe wants learnt."""
    assert road.shard is not None
    if road.tokenizer is None:
        return road.shard
    path = train_tokenizer(docs, road.work / "tokenizer", road.tokenizer)
    return road.shard.model_copy(update={"tokenizer": str(path)})


def _train(road: Plan, console: Console) -> dict[str, Any]:
    results: dict[str, Any] = {}
    run = road.work / "run"
    results["train"] = training.train([road.work / "shards"], run, road.train or {}, (), "auto", console)
    if road.eval is not None and results["train"]["is_finished"]:
        results["eval"] = training.evaluate(run, Path(road.eval.data), road.work / "eval", road.eval.use)
    return results


def _sum_up(
    road: Plan, walked: list[Walked], results: dict[str, Any], console: Console, excused: Sequence[str]
) -> int:
    """The road at a glance, what failed, and the exit code."""
    rows = [_row(manifest, seconds) for manifest, seconds in walked]
    header = ("stage", "documents read", "kept", "images read", "kept", "seconds", "documents/s")
    console.table(f"{road.name}: the road to {road.work}", header, rows)
    if "train" in results:
        rates = results["train"]["rates"]
        shown = [(name, rates[name]) for name in ("images_per_s", "tokens_per_s", "fill")]
        console.table(f"train: {results['train']['step']:,} steps", ("", ""), shown)
    if "eval" in results:
        training.show(results["eval"], console)
    failed = {f"{m.stage} {name}": error for m, _ in walked for name, error in m.failed.items()}
    console.failures(failed)
    ledgers = {manifest.stage: manifest.ledger.model_dump(exclude_none=True) for manifest, _ in walked}
    console.result({"work": str(road.work), "stages": {**ledgers, **results}, "failed": failed})
    is_whole = "train" not in results or results["train"]["is_finished"]
    surprises = [m for m, _ in walked if m.failed and m.stage not in excused]
    return 0 if is_whole and not surprises else 1


def _row(manifest: Manifest, seconds: float) -> tuple[object, ...]:
    documents, images = manifest.ledger.documents, manifest.ledger.images
    rate = round(documents.read / seconds) if seconds >= _SHORTEST_S else "done before"
    return (manifest.stage, documents.read, documents.kept, images.read, images.kept, round(seconds, 1), rate)
