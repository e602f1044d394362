"""What is in any of our folders: counts, columns and ledger as tables, or one document in reading order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from lcl_data.shards import Sequence, Shards
from lcl_data.verify import Report
from pipelines.console import Console, ledger_rows
from schemas.documents import Document, Image, from_row
from schemas.errors import LclError, RecipeError
from schemas.images import SUCCESS
from schemas.manifest import MANIFEST, Count, Manifest, read_manifest
from schemas.sequences import SEQUENCES

METRICS = "metrics.jsonl"


def inspect(path: Path, id: str, console: Console) -> None:
    """Show a stage folder, an image store, shards, a run, or a folder of such.

    Args:
        path: the folder.
        id: show only the document whose id begins so.
        console: where to show it.

    Raises:
        RecipeError: the folder is none of ours, or has no such document.
    """
    if id:
        console.result(_show_document(path, id, console))
    elif (path / METRICS).exists():
        console.result(_show_run(path, console))
    elif (path / MANIFEST).exists():
        console.result(_show_stage(path, console))
    elif any(path.glob("*.parquet")):
        console.result(_show_store(path, console))
    elif stages := sorted(found.parent for found in path.glob(f"*/{MANIFEST}")):
        console.result(_show_work(stages, console))
    else:
        raise RecipeError(f"{path}: no stage folder, image store, shards or run; name a folder lcl wrote")


def show_report(report: Report, console: Console) -> None:
    """Show what `lcl verify` found."""
    rows = [(each.folder, each.stage, each.shards, each.rows, each.nbytes) for each in report.stages]
    console.table(f"verify {report.path}", ("folder", "stage", "files", "rows", "bytes"), rows)
    for problem in report.problems:
        console.say(f"PROBLEM {problem.place}: {problem.what}; {problem.remedy}")
    totals = report.totals
    found = len(report.problems) or "no"
    console.say(f"{totals.stages} stages, {totals.links} links between them: {found} problems")
    console.result(report.model_dump(exclude_none=True))


def _show_work(stages: list[Path], console: Console) -> dict[str, Any]:
    rows = []
    for folder in stages:
        manifest = read_manifest(folder)
        size = sum(shard.nbytes for shard in manifest.shards)
        kept = (manifest.ledger.documents.kept, manifest.ledger.images.kept)
        rows.append((folder.name, manifest.stage, *kept, len(manifest.shards), size))
    header = ("folder", "stage", "documents", "images", "files", "bytes")
    console.table(str(stages[0].parent), header, rows)
    return {"stages": [dict(zip(header, row, strict=True)) for row in rows]}


def _show_stage(path: Path, console: Console) -> dict[str, Any]:
    manifest = read_manifest(path)
    counts = {kind: count for kind, count in manifest.ledger if isinstance(count, Count) and count.read}
    if counts:
        console.table(f"{manifest.stage}: ledger", ("", "read", "kept", "rejected"), ledger_rows(counts))
    details = _details(path, manifest, console)
    for note in manifest.notes:
        console.say(f"note: {note}")
    for name, error in manifest.failed.items():
        console.say(f"FAILED {name}: {error}")
    return {"stage": manifest.stage, "ledger": manifest.ledger.model_dump(exclude_none=True), **details}


def _details(path: Path, manifest: Manifest, console: Console) -> dict[str, Any]:
    if manifest.stage == "shard":
        return _show_shards(path, console)
    if manifest.stage == "download":
        return _show_store(path, console)
    if any(shard.name.endswith(".parquet") for shard in manifest.shards):
        return _show_documents(path, console)
    return {}


def _show_documents(path: Path, console: Console) -> dict[str, Any]:
    """Counts of a documents folder; polars reads only the columns it needs, a batch at a time."""
    frame = pl.scan_parquet(path / "*.parquet")
    items = frame.select("id", "items").explode("items").unnest("items")
    image = items.filter(pl.col("image").is_not_null()).unnest("image")
    facts = [name for name in image.collect_schema().names() if name not in ("id", "text")]
    known = image.select(pl.len().alias("images"), *(pl.col(name).count() for name in facts)).collect()
    texts = items.filter(pl.col("text").is_not_null())
    words = texts.select(pl.len(), pl.col("text").str.count_matches(r"\S+").sum()).collect().row(0)
    documents = frame.select(pl.len()).collect().item()
    total = {"documents": documents, "texts": words[0], "words": words[1], "images": known["images"][0]}
    console.table("contents", ("", "number"), list(total.items()))
    console.table("image facts", ("column", "known"), [(name, int(known[name][0])) for name in facts])
    return total


def _show_store(path: Path, console: Console) -> dict[str, Any]:
    frame = pl.scan_parquet(path / "*.parquet")
    names = frame.collect_schema().names()
    reason = "reason" if "reason" in names else "error_message"
    rows = frame.group_by("status", reason).len().sort("len", descending=True).collect().rows()
    console.table("image store", ("status", "reason", "urls"), [(s, r or "", n) for s, r, n in rows])
    good = frame.filter(pl.col("status") == SUCCESS)
    sides = good.select(pl.len(), pl.col("width").median(), pl.col("height").median()).collect().row(0)
    console.say(f"{sides[0]:,} pictures, median {sides[1] or 0:.0f} x {sides[2] or 0:.0f} pixels")
    return {
        "urls": sum(n for *_, n in rows),
        "pictures": sides[0],
        "outcomes": {f"{r or s}": n for s, r, n in rows},
    }


def _show_shards(path: Path, console: Console) -> dict[str, Any]:
    shards = Shards(path)
    total = {
        "sequences": len(shards),
        "tokens": int(shards.lengths.sum()),
        "images": int(shards.image_counts.sum()),
        "longest": int(shards.lengths.max(initial=0)),
        "vocabulary": shards.special_tokens.vocab_size,
    }
    console.table("contents", ("", "number"), list(total.items()))
    console.table("columns", ("column", "type"), [(field.name, field.type) for field in SEQUENCES])
    return total


def _show_run(path: Path, console: Console) -> dict[str, Any]:
    metrics = pl.read_ndjson(path / METRICS)
    last = metrics.tail(1).to_dicts()[0] if len(metrics) else {}
    console.table(f"{path.name}: step {last.get('step', 0)}", ("metric", "last"), list(last.items()))
    checkpoints = sorted(found.name for found in path.iterdir() if found.is_dir())
    console.say(f"checkpoints: {', '.join(checkpoints) or 'none yet'}")
    return {"metrics": last, "checkpoints": checkpoints}


def _show_document(path: Path, id: str, console: Console) -> dict[str, Any]:
    if read_manifest(path).stage == "shard":
        return _show_sequence(path, id, console)
    document = next(_documents(path, id), None)
    if document is None:
        raise RecipeError(f"{path}: no document whose id begins with '{id}'; see `lcl inspect {path}`")
    console.say(f"{document.id}  {document.source}  {document.url or ''}")
    for number, item in enumerate(document.items):
        console.say(f"[{number}] {_image_line(item) if isinstance(item, Image) else item.text}")
    return {"id": document.id, "url": document.url, "items": len(document.items)}


def _documents(path: Path, id: str) -> Iterator[Document]:
    for file in sorted(path.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(columns=["id"], batch_size=65536):
            if any(value.startswith(id) for value in batch.column("id").to_pylist()):
                rows = pl.scan_parquet(file).filter(pl.col("id").str.starts_with(id)).collect()
                yield from map(from_row, rows.to_dicts())


def _image_line(image: Image) -> str:
    facts = {"alt": image.alt, "anchor": image.anchor, "similarity": image.similarity, "key": image.key}
    sides = f"{image.width}x{image.height} " if image.width else ""
    told = " ".join(f"{name}={value!r}" for name, value in facts.items() if value is not None)
    return f"<image {sides}{image.url} {told}>"


def _show_sequence(path: Path, id: str, console: Console) -> dict[str, Any]:
    shards = Shards(path)
    row = next((row for row in shards if row.id.startswith(id)), None)
    if row is None:
        raise RecipeError(f"{path}: no sequence whose id begins with '{id}'; see `lcl inspect {path}`")
    console.say(
        f"{row.id}  {row.source}  {row.url or ''}  {len(row.tokens)} tokens, {len(row.images)} images"
    )
    for line in _reading_order(path, row, shards.special_tokens.image):
        console.say(line)
    return {"id": row.id, "url": row.url, "tokens": len(row.tokens), "images": len(row.images)}


def _reading_order(path: Path, row: Sequence, image: int) -> Iterator[str]:
    """The text between the pictures, decoded by the tokenizer beside the shards, and a line per picture."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare exceptions
        raise LclError(f"{path / 'tokenizer.json'}: {error}; run `lcl shard` again") from error
    run: list[int] = []
    number = 0
    for token in [*row.tokens.tolist(), image]:
        if token != image:
            run.append(token)
            continue
        if run:
            yield tokenizer.decode(run, skip_special_tokens=False)
            run = []
        if number < len(row.images):
            size, key = len(row.images[number]), row.image_keys[number]
            yield f"<image {number}: {size:,} bytes, {key[:12]}, belongs to {row.anchors[number]}>"
            number += 1
