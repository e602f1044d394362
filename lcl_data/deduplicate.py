"""The stage `dedupe`: each rule is an exchange over what the rules before it left; then all decisions are
applied at once, shard by shard.

`decisions/` beside the shards says for every copy what was kept in its stead.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from lcl_data import exchange, files
from lcl_data.at_once import each
from lcl_data.dedupe import ExactRule, Kind, NearRule, Rule
from lcl_data.draft import DocumentWriter, Draft
from lcl_data.engine import Engine
from lcl_data.exchange import answers_of, buckets_for
from lcl_data.folders import keep_apart
from lcl_data.frames import IMAGES, TEXTS, Frames, read_frames, sound_units
from lcl_data.neighbours import Question, keys_of, neighbours
from lcl_data.stage import DOCUMENTS_FROM, IMAGES_FROM, Stage, Unit, code_of, input_of, settings_of, values_in
from schemas.decisions import DECIDED, DECISIONS
from schemas.manifest import Count, Manifest, read_manifest
from schemas.members import key

DECISIONS_FOLDER = "decisions"
_ALWAYS = {"documents": "id", "images": "url"}  # columns without nulls
_FROM_STORE = ("sha256", "phash")
Decisions = tuple[tuple[Rule, list[Path]], ...]  # of each rule: its answers, by bucket
# Columns of decisions that an exact rule may leave out.
_NULLABLE = {"kept": pl.UInt64, "kept_item": pl.Int32, "kept_id": pl.String, "similarity": pl.Float32}


def deduplicate(
    docs: Path, out: Path, rules: Sequence[Rule], engine: Engine, images: Path | None = None
) -> Manifest:
    """Fill `out` with the documents in `docs` without the copies that the rules find.

    Args:
        docs: folder of a stage that wrote documents.
        out: folder of this stage.
        rules: in the order in which they cut; a rule does not see what earlier ones dropped.
        engine: where it runs.
        images: image store, for rules that compare pixels.

    Returns:
        The manifest; its ledger counts each rejection under the rule's name.

    Raises:
        RecipeError: a rule needs the image store.
        ShardError: there is no manifest in `docs`, or a shard of the right size is torn.
    """
    rules = [rule.reading(images) for rule in rules]
    stage, units = stage_of(docs, out, rules, images)
    if manifest := stage.finished():
        exchange.remove(out)
        return manifest
    stage.prepare()
    asked = [unit for unit in units if unit.payload]
    notes = list(_notes(docs, asked, rules))
    decisions: Decisions = ()
    for number, rule in enumerate(rules):
        step = partial(_scratch, out, f"{number:02d}_{key(rule)}", stage.digest)
        read = partial(_read, decisions, rule.reads)
        question = Question(asked, read, _count(docs, asked, rule.compares), step)
        decisions = (*decisions, (rule, _ask(rule, question, engine)))
    _publish(out / DECISIONS_FOLDER, decisions)
    manifest = stage.run(partial(_apply, decisions), units, engine, notes)
    exchange.remove(out)
    return manifest


def stage_of(
    docs: Path, out: Path, rules: Sequence[Rule], images: Path | None = None
) -> tuple[Stage, list[Unit]]:
    """The stage as `deduplicate` is about to fill it, and its units."""
    keep_apart(out, docs)
    units, torn = sound_units(docs)
    settings = {"rules": [{key(rule): settings_of(rule)} for rule in rules]}
    stores = [input_of("images", images, IMAGES_FROM)] if images else []
    inputs = (input_of("documents", docs, DOCUMENTS_FROM), *stores, *code_of(rules), *torn)
    return Stage("dedupe", out, settings, inputs), units


def _scratch(out: Path, question: str, digest: str, step: str) -> Path:
    return exchange.scratch(out, f"{question}.{step}" if step else question, digest)


def _count(docs: Path, units: Sequence[Unit], kind: Kind) -> int:
    """How many documents, images or texts a folder holds."""
    counted: Count | None = getattr(read_manifest(docs).ledger, kind)
    # Most stages count no texts: the footers of their shards do.
    return counted.kept if counted else _values(docs, units, TEXTS)


def _values(docs: Path, units: Sequence[Unit], column: str) -> int:
    """How many values the shards have in a column."""
    return sum(each(docs, lambda unit: values_in(unit.payload, column), units))


def _notes(docs: Path, units: Sequence[Unit], rules: Sequence[Rule]) -> Iterator[str]:
    """What a person should know who believes that all was compared with all."""
    for rule in rules:
        if rule.needs:
            kind, column = rule.needs
            before = IMAGES if kind == "images" else ""
            every = _values(docs, units, f"{before}{_ALWAYS[kind]}")
            if missing := every - _values(docs, units, f"{before}{column}"):
                remedy = "; attach the image store first: lcl filter DOCS OUT --images STORE"
                said = f"{missing:,} of {every:,} {kind} have no {column} and were compared with nothing"
                yield f"{key(rule)}: {said}{remedy if column in _FROM_STORE else ''}"
        yield from (f"{key(rule)}: {note}" for note in rule.notes())


def _ask(rule: Rule, question: Question, engine: Engine) -> list[Path]:
    if isinstance(rule, NearRule):
        return neighbours(rule, question, engine)
    assert isinstance(rule, ExactRule)
    keys, reduce = partial(keys_of, rule, question.read), partial(_decide, rule)
    buckets = buckets_for(question.rows * rule.spread)
    return exchange.exchange(question.folder(""), question.units, keys, reduce, buckets, engine)


def _read(earlier: Decisions, columns: Sequence[str], unit: Unit) -> Iterator[Frames]:
    """Columns of the documents of a shard without what earlier rules dropped."""
    decided = _of_shard(earlier, unit.number)
    for frames in read_frames(unit, columns):
        left = frames
        for rule, dropped in decided:
            left = left.drop_documents(dropped) if rule.drops == "documents" else left.drop_items(dropped)
        yield left


def _decide(rule: ExactRule, rows: pl.DataFrame) -> pl.DataFrame:
    decided = rule.reduce(rows)
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in _NULLABLE.items()]
    return decided.with_columns(
        each for each in absent if each.meta.output_name() not in decided.columns
    ).select(DECIDED)


def _of_shard(decisions: Decisions, shard: int) -> list[tuple[Rule, pl.DataFrame]]:
    return [(rule, answers_of(answers, shard)) for rule, answers in decisions if answers]


def _apply(decisions: Decisions, unit: Unit, draft: Draft) -> None:
    decided = _of_shard(decisions, unit.number)
    cuts_texts = any(rule.drops == "texts" for rule, _ in decisions)
    with DocumentWriter(draft) as writer:
        for frames in read_frames(unit):
            _count_read(frames, draft, cuts_texts)
            for rule, dropped in decided:
                frames = _drop(frames, rule, dropped, draft)
            if cuts_texts:
                draft.count("texts").kept += frames.count("texts")
            writer.write(frames.to_table(), frames.count("images"))


def _count_read(frames: Frames, draft: Draft, cuts_texts: bool) -> None:
    draft.count("documents").read += frames.documents.height
    draft.count("images").read += frames.count("images")
    if cuts_texts:
        draft.count("texts").read += frames.count("texts")


def _drop(frames: Frames, rule: Rule, dropped: pl.DataFrame, draft: Draft) -> Frames:
    # What no document stands for (an evaluation set does, or nothing) has a null in `kept`.
    relation = pl.when(pl.col("kept").is_null()).then(pl.lit("as ")).otherwise(pl.lit("kept "))
    said = dropped.select(
        "document", "item", "id", reason=pl.lit(key(rule)), detail=relation + pl.col("kept_id")
    )
    if rule.drops == "documents":
        pages = frames.documents.select("document", "url")
        return frames.without_documents(
            said.drop("item").join(pages, on="document", maintain_order="left"), draft
        )
    items = frames.images if rule.drops == "images" else frames.texts
    rejected = said.join(
        items.select("document", "item", "url"), on=["document", "item"], maintain_order="left"
    )
    return (
        frames.without_images(rejected, draft)
        if rule.drops == "images"
        else frames.without_texts(rejected, draft)
    )


def _publish(folder: Path, decisions: Decisions) -> None:
    """Write the decisions of each rule as one table, and remove those of an earlier run."""
    files.make(folder)
    for path in files.inside(folder):
        path.unlink()
    for number, (rule, answers) in enumerate(decisions):
        path = folder / f"{number:02d}_{key(rule).replace(':', '.')}.parquet"
        with pq.ParquetWriter(files.temporary(path), DECISIONS, compression="zstd") as writer:
            for answer in answers:
                decided = pl.read_parquet(answer).with_columns(reason=pl.lit(key(rule)))
                writer.write_table(decided.to_arrow().cast(DECISIONS))
        files.publish(path)
