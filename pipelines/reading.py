"""One thing of a folder: a document or a sequence in reading order, or what an image store knows of a URL."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from lcl_data import files
from lcl_data.draft import REJECTS_FOLDER
from lcl_data.shards import Sequence, SpecialTokens, open_file, read_row, shard_paths
from lcl_data.stage import DOCUMENTS_FROM
from pipelines.console import Console
from pipelines.tables import store_tables
from schemas.documents import Document, Image, from_row, to_row
from schemas.errors import LclError, RecipeError
from schemas.manifest import MANIFEST, read_manifest

Json = dict[str, Any]


def show_one(path: Path, id: str, console: Console) -> Json:
    """Show the first document, sequence or picture of a folder whose name begins with `id`.

    Args:
        path: folder of documents, of training shards, or an image store.
        id: beginning of an id; of a store, of a key or a URL.
        console: where to show it.

    Returns:
        All that is known of it.

    Raises:
        RecipeError: the folder holds no such things, or none that begins so.
    """
    kinds: dict[str, Callable[[Path, str, Console], Json | None]] = {
        **dict.fromkeys(DOCUMENTS_FROM, _show_document),
        "shard": _show_sequence,
        "download": _show_picture,
    }
    stage = stage_name(path)
    if stage not in kinds:
        raise RecipeError(f"{path}: holds no documents; --id reads documents, shards and image stores")
    found = kinds[stage](path, id, console)
    if found is None:
        raise RecipeError(f"{path}: nothing in it begins with '{id}'; see `lcl inspect {path}`")
    return found


def stage_name(path: Path) -> str:
    """What filled a folder; nothing where it is no stage's."""
    if (path / MANIFEST).exists() or (path / REJECTS_FOLDER).is_dir():
        return read_manifest(path).stage
    return "download" if store_tables(path) else ""


def _show_document(path: Path, id: str, console: Console) -> Json | None:
    document = next(_documents(path, id), None)
    if document is None:
        return None
    console.say(f"{document.id}  {document.source}  {document.url or ''}")
    for number, item in enumerate(document.items):
        console.say(f"[{number}] {_image_line(item) if isinstance(item, Image) else item}")
    row = to_row(document)
    return {**row, "items": [{k: v for k, v in item.items() if v is not None} for item in row["items"]]}


def _documents(path: Path, id: str) -> Iterator[Document]:
    for file in sorted(path.glob("*.parquet"), key=lambda file: file.name):
        for batch in pq.ParquetFile(files.reading(file), pre_buffer=False).iter_batches(
            columns=["id"], batch_size=65536
        ):
            if any(value.startswith(id) for value in batch.column("id").to_pylist()):
                with files.at_hand(file) as copy:
                    rows = pl.scan_parquet(copy).filter(pl.col("id").str.starts_with(id)).collect()
                yield from map(from_row, rows.to_dicts())


def _image_line(image: Image) -> str:
    facts = {"alt": image.alt, "anchor": image.anchor, "similarity": image.similarity, "key": image.key}
    sides = f"{image.width}x{image.height} " if image.width else ""
    told = " ".join(f"{name}={value!r}" for name, value in facts.items() if value is not None)
    return f"<image {sides}{image.url} {told}>"


def _show_picture(path: Path, id: str, console: Console) -> Json | None:
    named = pl.col("key").cast(pl.String).str.starts_with(id) | pl.col("url").str.starts_with(id)
    found = (_picture(table, named) for table in store_tables(path))
    rows = next((rows for rows in found if rows), None)
    if not rows:
        return None
    known = {name: value for name, value in rows[0].items() if value is not None}
    console.table(
        str(known["url"]), ("column", "value"), [(name, str(value)) for name, value in known.items()]
    )
    return known


def _picture(table: Path, named: pl.Expr) -> list[Json]:
    with files.at_hand(table) as copy:
        return pl.scan_parquet(copy).filter(named).head(1).collect().to_dicts()


def _show_sequence(path: Path, id: str, console: Console) -> Json | None:
    found = next(_sequences(path, id), None)
    if found is None:
        return None
    row, special = found
    console.say(
        f"{row.id}  {row.source}  {row.url or ''}  {len(row.tokens)} tokens, {len(row.images)} images"
    )
    for line in _reading_order(path, row, special.image):
        console.say(line)
    return {
        "id": row.id,
        "source": row.source,
        "url": row.url,
        "tokens": row.tokens.tolist(),
        "image_keys": row.image_keys,
        "image_nbytes": [len(image) for image in row.images],
        "anchors": row.anchors,
    }


def _sequences(path: Path, id: str) -> Iterator[tuple[Sequence, SpecialTokens]]:
    for shard in shard_paths(path):
        with files.at_hand(shard) as copy:
            file = open_file(copy)
        if special := file.special_tokens:  # else there is no row
            rows = (read_row(file, number, shard, special) for number in range(file.rows))
            yield from ((row, special) for row in rows if row.id.startswith(id))


def _reading_order(path: Path, row: Sequence, image: int) -> Iterator[str]:
    """The text between the pictures, and a line per picture."""
    decode = decoder_of(path)
    run: list[int] = []
    number = 0
    for token in [*row.tokens.tolist(), image]:
        if token != image:
            run.append(token)
            continue
        if run:
            yield decode(run)
            run = []
        if number < len(row.images):
            size, key = len(row.images[number]), row.image_keys[number]
            yield f"<image {number}: {size:,} bytes, {key[:12]}, belongs to {row.anchors[number]}>"
            number += 1


def decoder_of(path: Path) -> Callable[[list[int]], str]:
    """Ids to text, special ones included, by the tokenizer beside the shards.

    Raises:
        LclError: there is none, or it is torn.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str((path / "tokenizer.json").read_text("utf-8"))
    except Exception as error:  # tokenizers raises bare exceptions
        raise LclError(f"{path / 'tokenizer.json'}: {error}; run `lcl shard` again") from error
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
