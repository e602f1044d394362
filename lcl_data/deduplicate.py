"""The stage `dedupe`: each rule is an exchange over what the rules before it left; then all decisions are
applied at once, shard by shard.

`decisions/` beside the shards says for every copy what was kept in its stead.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from lcl_data import exchange, files
from lcl_data.dedupe import Rule
from lcl_data.draft import DocumentWriter, Draft
from lcl_data.engine import Engine
from lcl_data.exchange import answers_of, buckets_for
from lcl_data.frames import Frames, no_documents, read_frames, sound_units
from lcl_data.stage import DOCUMENTS_FROM, Stage, Unit, input_of, settings_of
from schemas.decisions import DECISIONS
from schemas.manifest import Manifest, read_manifest
from schemas.members import key

DECISIONS_FOLDER = "decisions"
Decisions = tuple[tuple[Rule, list[Path]], ...]  # of each rule: its answers, by bucket


def deduplicate(docs: Path, out: Path, rules: Sequence[Rule], engine: Engine) -> Manifest:
    """Fill `out` with the documents in `docs` without the copies that the rules find.

    Args:
        docs: folder of a stage that wrote documents.
        out: folder of this stage.
        rules: in the order in which they cut; a rule does not see what earlier ones dropped.
        engine: where it runs.

    Returns:
        The manifest; its ledger counts each rejection under the rule's name.

    Raises:
        ShardError: there is no manifest in `docs`, or a shard of the right size is torn.
    """
    units, torn = sound_units(docs)
    settings = {"rules": [{key(rule): settings_of(rule)} for rule in rules]}
    stage = Stage("dedupe", out, settings, (input_of("documents", docs, DOCUMENTS_FROM), *torn))
    if manifest := stage.finished():
        exchange.remove(out)
        return manifest
    stage.prepare()
    decisions: Decisions = ()
    for number, rule in enumerate(rules):
        folder = exchange.scratch(out, f"{number:02d}_{key(rule)}", stage.digest)
        asked = [unit for unit in units if unit.payload]
        keys = partial(_keys, rule, decisions)
        buckets = buckets_for(_rows(docs, rule))
        answers = exchange.exchange(folder, asked, keys, partial(_decide, rule), buckets, engine)
        decisions = (*decisions, (rule, answers))
    _publish(out / DECISIONS_FOLDER, decisions)
    manifest = stage.run(partial(_apply, decisions), units, engine)
    exchange.remove(out)
    return manifest


def _rows(docs: Path, rule: Rule) -> int:
    count = getattr(read_manifest(docs).ledger, rule.drops).kept
    return int(count)


def _keys(rule: Rule, earlier: Decisions, unit: Unit) -> pl.DataFrame:
    """What the rule compares in a shard, without what earlier rules dropped."""
    decided = _of_shard(earlier, unit.number)
    parts = [rule.keys(no_documents())]
    for frames in read_frames(unit):
        for other, dropped in decided:
            frames = (
                frames.drop_documents(dropped) if other.drops == "documents" else frames.drop_items(dropped)
            )
        parts.append(rule.keys(frames))
    return pl.concat(parts)


def _decide(rule: Rule, rows: pl.DataFrame) -> pl.DataFrame:
    decided = rule.reduce(rows)
    if "similarity" not in decided.columns:
        decided = decided.with_columns(similarity=pl.lit(None, pl.Float32))
    return decided.select(DECISIONS.names)


def _of_shard(decisions: Decisions, shard: int) -> list[tuple[Rule, pl.DataFrame]]:
    return [(rule, answers_of(answers, shard)) for rule, answers in decisions if answers]


def _apply(decisions: Decisions, unit: Unit, draft: Draft) -> None:
    decided = _of_shard(decisions, unit.number)
    with DocumentWriter(draft) as writer:
        for frames in read_frames(unit):
            draft.count("documents").read += frames.documents.height
            draft.count("images").read += frames.images.height
            for rule, dropped in decided:
                frames = _drop(frames, rule, dropped, draft)
            writer.write(frames.to_table(), frames.images.height)


def _drop(frames: Frames, rule: Rule, dropped: pl.DataFrame, draft: Draft) -> Frames:
    said = dropped.select(
        "document",
        "item",
        "id",
        pl.lit(key(rule)).alias("reason"),
        (pl.lit("kept ") + pl.col("kept_id")).alias("detail"),
    )
    if rule.drops == "documents":
        pages = frames.documents.select("document", "url")
        return frames.without_documents(
            said.drop("item").join(pages, on="document", maintain_order="left"), draft
        )
    pictures = frames.images.select("document", "item", "url")
    return frames.without_images(said.join(pictures, on=["document", "item"], maintain_order="left"), draft)


def _publish(folder: Path, decisions: Decisions) -> None:
    """Write the decisions of each rule as one table, and remove those of an earlier run."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for number, (rule, answers) in enumerate(decisions):
        path = folder / f"{number:02d}_{key(rule).replace(':', '.')}.parquet"
        with pq.ParquetWriter(files.temporary(path), DECISIONS, compression="zstd") as writer:
            for answer in answers:
                writer.write_table(pq.read_table(answer).cast(DECISIONS))
        files.publish(path)
