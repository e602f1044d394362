"""What is in any of our folders: counts, columns and ledger as tables, or one document in reading order."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers

from lcl_data import files
from lcl_data.draft import REJECTS_FOLDER, has_size
from lcl_data.shards import open_file, shard_paths
from lcl_data.stage import DOCUMENTS_FROM
from lcl_data.verify import Report
from pipelines import training
from pipelines.console import Console
from pipelines.curves import write_page
from pipelines.packed_rows import MOST_ROWS, write_rows
from pipelines.reading import decoder_of, show_one, stage_name
from pipelines.tables import store_tables
from pipelines.vocabulary import TOKENIZER
from schemas.errors import RecipeError, ShardError
from schemas.images import SUCCESS
from schemas.manifest import MANIFEST, Manifest, read_manifest
from schemas.overrides import one_line
from schemas.sequences import SEQUENCES

METRICS, CHECKPOINTS, EVAL = "metrics.jsonl", "checkpoints", "eval.json"
Json = dict[str, Any]


def inspect(
    path: Path,
    id: str,
    console: Console,
    page: Path | None = None,
    preset: str = "nano",
    settings: Sequence[str] = (),
) -> None:
    """Show a stage folder, an image store, shards, a run, evals, or a folder of such.

    Args:
        path: the folder.
        id: show only the document whose id begins so; of a store, the key or URL.
        console: where to show it.
        page: the HTML file for the curves of a run, or for the first rows of training shards.
        preset: of the rows.
        settings: of training, `a.b=c` laid over the preset's.

    Raises:
        RecipeError: the folder is none of ours, has nothing of that id, or nothing to draw a page of.
        ShardError: a file of it is missing or torn.
    """
    if page is not None and (path / METRICS).exists():
        write_page(path, page)
        console.say(f"{page}: the curves of {path.name}")
    elif page is not None and stage_name(path) == "shard":
        seen = training.preview(path, {"preset": preset}, settings, MOST_ROWS)
        write_rows(seen, path, decoder_of(path), page)
        console.say(f"{page}: the first rows of {path.name}")
    elif page is not None:
        raise RecipeError(
            f"{path}: --html draws the curves of a run, or rows of training shards; this is neither"
        )
    with _told_in_a_line(path):
        console.result(show_one(path, id, console) if id else _show(path, console))


def _show(path: Path, console: Console) -> Json:
    if (path / METRICS).exists():
        return _show_run(path, console)
    if (path / MANIFEST).exists() or (path / REJECTS_FOLDER).is_dir():
        return _show_stage(path, console)
    if store_tables(path):
        return _show_store(path, console)
    if stages := sorted(found.parent for found in path.glob(f"*/{MANIFEST}")):
        return _show_work(stages, console)
    raise RecipeError(f"{path}: no stage folder, image store, shards or run; name a folder lcl wrote")


@contextmanager
def _told_in_a_line(path: Path) -> Iterator[None]:
    """What libraries say of a torn file, with the remedy."""
    try:
        yield
    except (pl.exceptions.PolarsError, pa.ArrowInvalid, OSError) as error:
        raise ShardError(
            f"{path}: a file is missing or torn ({one_line(error)}); `lcl verify {path}` names it"
        ) from error


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


def _show_work(stages: list[Path], console: Console) -> Json:
    rows = []
    for folder in stages:
        manifest = read_manifest(folder)
        size = sum(shard.nbytes for shard in manifest.shards)
        kept = (manifest.ledger.documents.kept, manifest.ledger.images.kept)
        rows.append((folder.name, manifest.stage, *kept, len(manifest.shards), size))
    header = ("folder", "stage", "documents", "images", "files", "bytes")
    console.table(str(stages[0].parent), header, rows)
    return {"stages": [dict(zip(header, row, strict=True)) for row in rows]}


def _show_stage(path: Path, console: Console) -> Json:
    manifest = read_manifest(path)
    for shard in manifest.shards:
        if not has_size(path / shard.name, shard.nbytes):
            raise ShardError(f"{path / shard.name}: missing or torn; run `{manifest.stage}` again")
    console.ledger(manifest)
    details = _details(path, manifest, console)
    console.failures(manifest.failed)
    return {"stage": manifest.stage, "ledger": manifest.ledger.model_dump(exclude_none=True), **details}


def _details(path: Path, manifest: Manifest, console: Console) -> Json:
    shows = {
        **dict.fromkeys(DOCUMENTS_FROM, _show_documents),
        "download": _show_store,
        "shard": _show_shards,
        "tokenizer": _show_tokenizer,
        "eval": _show_eval,
    }
    return shows[manifest.stage](path, console) if manifest.stage in shows else {}


def _show_tokenizer(path: Path, console: Console) -> Json:
    size = tokenizers.Tokenizer.from_str((path / TOKENIZER).read_text("utf-8")).get_vocab_size()
    console.say(f"{path / TOKENIZER}: {size:,} tokens, special ones included")
    return {"vocabulary": size}


def _show_eval(path: Path, console: Console) -> Json:
    report: Json = json.loads((path / EVAL).read_bytes())
    training.show(report, console)
    return report


def _show_documents(path: Path, console: Console) -> Json:
    """Counts of a documents folder; polars reads only the columns it needs, a batch at a time."""
    counted: Counter[str] = Counter()
    known: Counter[str] = Counter()
    for file in sorted(path.glob("*.parquet"), key=lambda file: file.name):
        with files.at_hand(file) as copy:
            _count_documents(pl.scan_parquet(copy), counted, known)
    total = {name: counted[name] for name in ("documents", "texts", "words", "images")}
    console.table("contents", ("", "number"), list(total.items()))
    console.table("image facts", ("column", "known"), list(known.items()))
    return total


def _count_documents(frame: pl.LazyFrame, counted: Counter[str], known: Counter[str]) -> None:
    items = frame.select("id", "items").explode("items").unnest("items")
    image = items.filter(pl.col("image").is_not_null()).unnest("image")
    facts = [name for name in image.collect_schema().names() if name not in ("id", "text")]
    images = image.select(pl.len().alias("images"), *(pl.col(name).count() for name in facts)).collect()
    texts = items.filter(pl.col("text").is_not_null())
    words = texts.select(pl.len(), pl.col("text").str.count_matches(r"\S+").sum()).collect().row(0)
    documents = frame.select(pl.len()).collect().item()
    counted.update(documents=documents, texts=words[0], words=words[1], images=images["images"][0])
    known.update({name: int(images[name][0]) for name in facts})


def _show_store(path: Path, console: Console) -> Json:
    tables = [files.reading(table) for table in store_tables(path)]
    reason = "reason" if "reason" in pq.read_schema(tables[0]).names else "error_message"
    columns = ["status", reason, "width", "height"]
    frame = pl.DataFrame(pa.concat_tables([pq.read_table(table, columns=columns) for table in tables])).lazy()
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


def _show_shards(path: Path, console: Console) -> Json:
    total = dict.fromkeys(("sequences", "tokens", "images", "longest", "vocabulary"), 0)
    for shard in shard_paths(path):
        with files.at_hand(shard) as copy:
            file = open_file(copy)
        lengths = file.lengths()
        total["sequences"] += file.rows
        total["tokens"] += int(lengths.sum())
        total["images"] += int(file.image_counts().sum())
        total["longest"] = max(total["longest"], int(lengths.max(initial=0)))
        if file.special_tokens:
            total["vocabulary"] = file.special_tokens.vocab_size
    console.table("contents", ("", "number"), list(total.items()))
    console.table("columns", ("column", "type"), [(field.name, field.type) for field in SEQUENCES])
    return total


def _show_run(path: Path, console: Console) -> Json:
    last = _last(path / METRICS)
    if last:
        console.table(f"{path.name}: step {last['step']}", ("metric", "last"), list(last.items()))
    else:
        console.say(f"{path.name}: no step logged yet")
    checkpoints = sorted(found.name for found in (path / CHECKPOINTS).glob("step-*"))
    console.say(f"checkpoints: {', '.join(checkpoints) or 'none yet'}")
    return {"metrics": last, "checkpoints": checkpoints}


def _last(metrics: Path) -> Json:
    """The last whole line; a kill may have torn the very last."""
    for line in reversed(metrics.read_text(encoding="utf-8").splitlines()):
        try:
            values: Json = json.loads(line)
        except ValueError:
            continue
        return values
    return {}
