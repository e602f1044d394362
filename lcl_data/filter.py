"""The stage `filter`: attach what the image store knows, then let filters cut, in the order of the recipe."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import polars as pl

from lcl_data import exchange
from lcl_data.draft import DocumentWriter, Draft
from lcl_data.engine import Engine
from lcl_data.evidence import Evidence, Sources
from lcl_data.filters import Cleaner, Filter
from lcl_data.folders import keep_apart
from lcl_data.foreign import accept
from lcl_data.frames import Frames, read_frames, sound_units
from lcl_data.scores import open_scores
from lcl_data.stage import DOCUMENTS_FROM, IMAGES_FROM, Stage, Unit, code_of, input_of, settings_of
from lcl_data.views import check, judged, pixels_of, view_of
from schemas.manifest import Manifest
from schemas.members import key


def filter_documents(
    docs: Path,
    out: Path,
    filters: Sequence[Filter],
    engine: Engine,
    images: Path | None = None,
    scores: Sequence[Path] = (),
) -> Manifest:
    """Fill `out` with what the filters keep of the documents in `docs`.

    Args:
        docs: folder of a stage that wrote documents.
        out: folder of this stage.
        filters: in the order in which they cut.
        engine: where it runs.
        images: image store whose facts are attached first; images it lacks are rejected. A
            folder that img2dataset made is indexed before.
        scores: tables of model scores, or folders of them, for filters that cut on scores.

    Returns:
        The manifest; its ledger counts each rejection as `<filter>:<reason>`.

    Raises:
        RecipeError: a filter asks for a column that documents do not have, or for a score that no table has;
            tables contradict each other.
        ShardError: there is no manifest in `docs`, or a table of the store is torn.
    """
    sources = sources_of(filters, images, scores)
    notes = accept(images, engine) if images else []
    stage, units = stage_of(docs, out, filters, images, sources)
    if manifest := stage.finished():
        exchange.remove(out)
        return manifest
    stage.prepare()
    evidence = sources.gather(partial(exchange.scratch, out, digest=stage.digest), docs, units, engine)
    manifest = stage.run(partial(_filter_shard, tuple(filters), evidence), units, engine, notes)
    exchange.remove(out)
    return manifest


def stage_of(
    docs: Path, out: Path, filters: Sequence[Filter], images: Path | None, sources: Sources
) -> tuple[Stage, list[Unit]]:
    """The stage as `filter_documents` is about to fill it by the evidence of `sources_of`; its units."""
    keep_apart(out, docs)
    units, torn = sound_units(docs)
    stores = [input_of("images", images, IMAGES_FROM)] if images else []
    documents = input_of("documents", docs, DOCUMENTS_FROM)
    inputs = (documents, *stores, *sources.scores.inputs, *code_of(filters), *torn)
    settings = {"filters": [{key(each): settings_of(each)} for each in filters]}
    return Stage("filter", out, settings, inputs), units


def sources_of(filters: Sequence[Filter], images: Path | None, scores: Sequence[Path]) -> Sources:
    """Where the evidence for filters comes from, once the filters are known to fit it.

    Raises:
        RecipeError: a filter does not fit documents, or cuts on pixels and there is no image store; a score
            is in no table.
    """
    check(filters)
    pixels = pixels_of(filters, images)
    return Sources(images, open_scores(scores, [name for each in filters for name in each.scores()]), pixels)


def _filter_shard(filters: tuple[Filter, ...], evidence: Evidence, unit: Unit, draft: Draft) -> None:
    with DocumentWriter(draft) as writer:
        for frames in batches(unit, filters, evidence, draft):
            left = cut(frames, filters, [draft] * len(filters))
            if draft.ledger.texts:
                draft.count("texts").kept += left.count("texts")
            writer.write(left.to_table(), left.count("images"))


def batches(unit: Unit, filters: Sequence[Filter], evidence: Evidence, draft: Draft) -> Iterator[Frames]:
    """The documents of a shard with the evidence in their columns; `draft` counts what was read."""
    counts_texts = any(each.applies_to == "text" for each in filters)
    known = evidence.of_shard(unit.number)
    for frames in read_frames(unit):
        draft.count("documents").read += frames.documents.height
        draft.count("images").read += frames.count("images")
        if counts_texts:
            draft.count("texts").read += frames.count("texts")
        yield known.brought_to(frames, draft)


def cut(frames: Frames, filters: Sequence[Filter], drafts: Sequence[Draft]) -> Frames:
    """What the filters leave, each seeing what those before it left; `drafts` count what each rejects."""
    steps = zip(filters, drafts, strict=True)
    for kind, neighbours in groupby(steps, key=lambda step: step[0].applies_to):
        # Neighbours of one kind share their view: dropping its rows changes no fact of the others.
        view = view_of(frames, kind)
        for each, draft in neighbours:
            found = judged(view, each)
            frames = _drop(frames, each, found.filter(pl.col("reason").is_not_null()), draft)
            view = found.filter(pl.col("reason").is_null()).drop("reason")
            if isinstance(each, Cleaner):
                frames = _rewrite(frames, each, view, draft)
                view = view_of(frames, kind)
    return frames


def _rewrite(frames: Frames, each: Cleaner, view: pl.DataFrame, draft: Draft) -> Frames:
    changed = view.filter(pl.col(each.fact) != pl.col("text")).select("document", "item", text=each.fact)
    draft.count("texts").change(key(each), changed.height)
    return frames.with_texts(changed)


def _drop(frames: Frames, each: Filter, found: pl.DataFrame, draft: Draft) -> Frames:
    if each.applies_to == "document":
        return frames.without_documents(found.select("document", "id", "url", "reason"), draft)
    named = found.join(frames.documents.select("document", "id"), on="document", maintain_order="left")
    rejected = named.select("document", "item", "id", "url", "reason")
    drop = frames.without_images if each.applies_to == "image" else frames.without_texts
    return drop(rejected, draft)
