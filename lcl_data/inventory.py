"""What a shard of any stage holds, counted from the file itself and never from what a manifest says of it."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lcl_data import files
from lcl_data.frames import Frames, read_frames
from lcl_data.shards import open_file, read_row
from lcl_data.stage import Unit
from schemas.errors import ShardError
from schemas.images import IMAGES, SUCCESS
from schemas.versions import check


@dataclass(frozen=True, slots=True)
class Contents:
    """Counts of one file; None where the file cannot say.

    Attributes:
        is_whole: the file was there and could be read.
        rows: of the table.
        documents: it keeps.
        images: image references it keeps.
        faults: rows that break the contract, in words.
    """

    is_whole: bool = False
    rows: int | None = None
    documents: int | None = None
    images: int | None = None
    faults: tuple[str, ...] = ()


def contents_of(path: Path, stage: str) -> Contents:
    """Read a shard that `stage` wrote and count what is in it; a tar is whole if its checksum is right.

    Raises:
        ShardError: torn, or of another contract than that stage writes.
    """
    count = _COUNTERS.get((stage, path.suffix))
    try:
        return count(path) if count else Contents(is_whole=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise ShardError(f"torn ({error})") from error


def _documents(path: Path) -> Contents:
    documents = images = 0
    faults: list[str] = []
    for frames in read_frames(Unit(0, path.name, path)):
        documents += frames.documents.height
        images += frames.count("images")
        faults += _faults(frames)
    return Contents(True, documents, documents, images, tuple(faults))


def _faults(frames: Frames) -> list[str]:
    """Rows that no document of ours can be: neither text nor image, both, or an anchor to no text."""
    texts = (~pl.col("is_image")).sum().over("document")
    items = frames.items.with_columns(texts=texts).join(
        frames.documents.select("document", "id"), on="document", maintain_order="left"
    )
    unlike = items.filter(pl.col("is_image") == pl.col("text").is_not_null())
    adrift = items.filter((pl.col("anchor") < 0) | (pl.col("anchor") >= pl.col("texts")))
    return [
        *(f"document {name}: item {n} is not exactly one of text and image" for name, n in _named(unlike)),
        *(f"document {name}: item {n} is anchored to a text that is not there" for name, n in _named(adrift)),
    ]


def _named(items: pl.DataFrame) -> list[tuple[str, int]]:
    return items.select("id", "item").rows()


def _images(path: Path) -> Contents:
    """The table of an image store: it keeps the references to the pictures that it has."""
    check(pq.read_schema(files.reading(path)).metadata, IMAGES, path)
    table = pq.read_table(files.reading(path), columns=["status", "references"])
    kept = table.filter(pc.field("status") == SUCCESS)["references"]
    return Contents(True, table.num_rows, None, int(pc.sum(kept).as_py() or 0))


def _sequences(path: Path) -> Contents:
    """Training shards of either container: parts of a split document are told by the hyphen in their id."""
    file = open_file(path)
    special = file.special_tokens
    rows = (read_row(file, row, path, special) for row in range(file.rows)) if special else ()
    documents = sum("-" not in sequence.id for sequence in rows)
    return Contents(True, file.rows, documents, int(file.image_counts().sum()))


_COUNTERS = {
    ("ingest", ".parquet"): _documents,
    ("filter", ".parquet"): _documents,
    ("dedupe", ".parquet"): _documents,
    ("download", ".parquet"): _images,
    ("shard", ".arrow"): _sequences,
    ("shard", ".tar"): _sequences,
}
