"""The whole road of a recipe; a stage whose settings and inputs have not changed is skipped.

Each stage decides by its own digest whether it is done, so there is no state here: running the same command
again is always right.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lcl_data.deduplicate import deduplicate
from lcl_data.download import download
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.ingest import ingest
from lcl_data.shard import Shard, shard
from pipelines.console import Console, ledger_rows
from pipelines.recipes import Plan, plan, read
from pipelines.vocabulary import train_tokenizer
from schemas.errors import RecipeError
from schemas.manifest import Count, Manifest


def walk(recipe: str | Path, settings: Sequence[str], engine: Engine, console: Console) -> int:
    """Run every stage of a recipe.

    Args:
        recipe: path of a recipe, or the name of one of ours.
        settings: `a.b=c` laid over it.
        engine: where shard functions run.
        console: what tells of it.

    Returns:
        The exit code: 0, or 1 where some shards failed (named; the rest is complete).
    """
    road = plan(read(recipe, settings))
    results: dict[str, object] = {}
    failed: dict[str, str] = {}
    for manifest in data_stages(road, engine):
        console.stop()
        _tell(manifest, console)
        results[manifest.stage] = manifest.ledger.model_dump(exclude_none=True)
        failed |= {f"{manifest.stage} {name}": error for name, error in manifest.failed.items()}
    if road.train is not None:
        results |= _train(road, console)
    console.result({"work": str(road.work), "stages": results, "failed": failed})
    for name, error in failed.items():
        console.say(f"FAILED {name}: {error}")
    return 1 if failed else 0


def data_stages(road: Plan, engine: Engine) -> Iterator[Manifest]:
    """The stages from the source to the shards, each run (or found done) when it is asked for."""
    work, docs, images = road.work, road.work / "documents", None
    yield ingest(road.src, docs, road.ingest, engine)
    if road.download is not None:
        images = work / "images"
        yield download(docs, images, road.download, engine)
    if road.filters is not None:
        yield filter_documents(docs, work / "filtered", road.filters, engine, images=images)
        docs = work / "filtered"
    if road.rules is not None:
        yield deduplicate(docs, work / "deduplicated", road.rules, engine)
        docs = work / "deduplicated"
    if road.shard is not None:
        if images is None or road.filters is None:
            raise RecipeError("shard: needs the sections download and filters, which attach the pictures")
        yield shard(docs, images, work / "shards", _with_tokenizer(road, docs), engine)


def _with_tokenizer(road: Plan, docs: Path) -> Shard:
    """The settings of the shards, with the tokenizer that the recipe wants learnt."""
    assert road.shard is not None
    if road.tokenizer is None:
        return road.shard
    path = train_tokenizer(docs, road.work / "tokenizer", road.tokenizer)
    return road.shard.model_copy(update={"tokenizer": str(path)})


def _train(road: Plan, console: Console) -> dict[str, object]:
    from pipelines.training import evaluate, train

    results: dict[str, object] = {}
    run = road.work / "run"
    results["train"] = train(road.work / "shards", run, road.train or {}, (), "auto", console)
    if road.eval is not None:
        results["eval"] = evaluate(run, Path(road.eval.data), road.work / "eval", road.eval.use, console)
    return results


def _tell(manifest: Manifest, console: Console) -> None:
    counts = {kind: count for kind, count in manifest.ledger if isinstance(count, Count) and count.read}
    console.table(manifest.stage, ("", "read", "kept", "rejected"), ledger_rows(counts))
    for note in manifest.notes:
        console.say(f"note: {note}")
