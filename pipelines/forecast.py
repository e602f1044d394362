"""What `lcl run --dry-run` answers: which stages of a recipe would work, and why, with nothing done.

A stage behind one that would work reads what does not exist yet, so all that can be said of it is that it
comes after.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lcl_data import deduplicate, download, filter, ingest, shard
from lcl_data.dedupe import Rule
from lcl_data.filters import Filter
from lcl_data.stage import Stage
from pipelines import training, vocabulary
from pipelines.console import Console
from pipelines.recipes import Plan
from schemas.recipe import EvalSection

Step = tuple[str, Path, Callable[[], Stage]]  # name, folder, and the stage once its inputs are there


def forecast(road: Plan, console: Console) -> int:
    """Tell of every stage whether it would work and why; returns the exit code, 0.

    Raises:
        RecipeError: a folder holds something that is not of its stage.
    """
    if road.train is not None:
        training.check(road.train, road.eval)
    rows = list(_forecast(road))
    console.table(f"{road.name}: what would run in {road.work}", ("stage", "folder", "would run"), rows)
    console.result({"work": str(road.work), "pending": {name: why for name, _, why in rows if why != _DONE}})
    return 0


_DONE = "no: done"


def _forecast(road: Plan) -> Iterator[tuple[str, str, str]]:
    first = ""  # the first stage that would work
    for name, folder, stage_of in _steps(road):
        why = f"after {first}" if first else stage_of().pending()
        first = first or (name if why else "")
        yield name, folder.name, why or _DONE


def _steps(road: Plan) -> Iterator[Step]:
    work, docs, images = road.work, road.work / "documents", None
    yield "ingest", docs, lambda: ingest.stage_of(road.src, work / "documents", road.ingest)[0]
    if road.download is not None:
        images = work / "images"
        yield "download", images, partial(_download, docs, images, road.download)
    if road.filters is not None:
        filtered = work / "filtered"
        yield "filter", filtered, partial(_filter, docs, filtered, road.filters, images, road.scores)
        docs = filtered
    if road.rules is not None:
        unique = work / "deduplicated"
        rules = [rule.reading(images) for rule in road.rules]
        yield "dedupe", unique, partial(_dedupe, docs, unique, rules, images)
        docs = unique
    yield from _shards(road, docs)
    if road.train is not None:
        yield "train", work / "run", partial(training.stage_of, [work / "shards"], work / "run", road.train)
    if road.train is not None and road.eval is not None:
        yield "eval", work / "eval", partial(_eval, road, road.eval)


def _filter(
    docs: Path, out: Path, filters: Sequence[Filter], images: Path | None, scores: Sequence[Path]
) -> Stage:
    return filter.stage_of(docs, out, filters, images, filter.sources_of(filters, images, scores))[0]


def _download(docs: Path, out: Path, settings: download.Download) -> Stage:
    return download.stage_of(docs, out, settings)[0]


def _dedupe(docs: Path, out: Path, rules: Sequence[Rule], images: Path | None) -> Stage:
    return deduplicate.stage_of(docs, out, rules, images)[0]


def _shards(road: Plan, docs: Path) -> Iterator[Step]:
    work = road.work
    if road.shard is None:
        return
    settings = road.shard
    if road.tokenizer is not None:
        learnt = work / "tokenizer"
        yield "tokenizer", learnt, partial(vocabulary.stage_of, docs, learnt, road.tokenizer)
        settings = settings.model_copy(update={"tokenizer": str(learnt / vocabulary.TOKENIZER)})
    yield "shard", work / "shards", partial(shard.stage_of, docs, work / "images", work / "shards", settings)


def _eval(road: Plan, section: EvalSection) -> Stage:
    return training.eval_stage_of(road.work / "run", Path(section.data), road.work / "eval", section.use)[0]
