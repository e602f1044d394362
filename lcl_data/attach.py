"""What the image store knows about each picture, brought to the image items that point at it: an exchange on
the hash of the URL.

After it `key` says where a picture lies, so that every later stage needs the documents and the store only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lcl_data import files, store
from lcl_data.draft import Draft
from lcl_data.engine import Engine
from lcl_data.exchange import buckets_for, exchange, hashes
from lcl_data.frames import Frames, read_frames
from lcl_data.stage import Unit
from schemas.errors import ShardError
from schemas.images import IMAGES, SUCCESS
from schemas.pixels import PIXEL_FACTS, PIXELS
from schemas.versions import check

MISSING = "missing"  # the reason of a URL that the store never tried
# Column of an image item -> column of the store. Sizes are those of the original: filters judge what was
# published, not what was stored.
_SOURCES = {
    "key": "key",
    "width": "original_width",
    "height": "original_height",
    "nbytes": "original_nbytes",
    "format": "format",
    "is_animated": "is_animated",
    "sha256": "sha256",
    "phash": "phash",
    "opaque_phash": "opaque_phash",
}
# img2dataset does not say how long the original was: there the stored picture's length stands in for it.
_STAND_INS = {"nbytes": "nbytes"}
_FACTS = {
    source: pl.coalesce(source, _STAND_INS.get(name, source)).alias(f"store_{name}")
    for name, source in _SOURCES.items()
}
_TYPES = {
    **{"key": pl.UInt64, "check": pl.UInt64, "document": pl.UInt64, "item": pl.Int32, "failure": pl.String},
    **{"store_key": pl.String, "store_width": pl.Int32, "store_height": pl.Int32, "store_nbytes": pl.Int64},
    **{"store_format": pl.String, "store_is_animated": pl.Boolean},
    **{"store_sha256": pl.String, "store_phash": pl.UInt64, "store_opaque_phash": pl.UInt64},
}


_PIXEL_TYPES = dict(pl.Schema(PIXELS))


@dataclass(frozen=True, slots=True)
class _File:
    """A document shard, or a table of the store and the pixel facts of its rows."""

    path: Path
    is_store: bool
    pixels: Path | None = None


@dataclass(frozen=True, slots=True)
class Pixels:
    """Facts that were measured from the stored pictures.

    Attributes:
        names: columns of `schemas.pixels.PIXELS` that are wanted.
        tables: one for each table of the store, in order, row by row; none if no column is wanted.
    """

    names: tuple[str, ...] = ()
    tables: tuple[Path, ...] = ()


def attach(
    folder: Path,
    documents: Sequence[Unit],
    images: Path,
    references: int,
    engine: Engine,
    pixels: Pixels = Pixels(),
) -> list[Path]:
    """Ask which facts of the store belong to which image item.

    Args:
        folder: scratch of the exchange.
        documents: document shards (payload: their path).
        images: image store, ours or img2dataset's.
        references: about how many image items the documents hold.
        engine: where it runs.
        pixels: facts that come along.

    Returns:
        The answers for `attached`, a row per image item: document, item, failure, facts.

    Raises:
        ShardError: a shard or a table of the store is torn.
    """
    tables = store.facts(images)
    rows = references + sum(pq.read_metadata(files.reading(table)).num_rows for table in tables)
    units = [Unit(unit.number, unit.name, _File(unit.payload, False)) for unit in documents]
    beside = pixels.tables or (None,) * len(tables)
    units += [
        Unit(number, table.name, _File(table, True, measured))
        for number, (table, measured) in enumerate(zip(tables, beside, strict=True))
    ]
    return exchange(folder, units, partial(_keys, pixels.names), _match, buckets_for(rows), engine)


def attached(frames: Frames, facts: pl.DataFrame, draft: Draft) -> Frames:
    """The frames with the facts of the store in their image columns, pixel facts in columns of their own;
    images it lacks are rejected.

    Args:
        frames: documents as read.
        facts: the answers for this shard (`exchange.answers_of`).
        draft: counts the rejections, as `download:<reason of the store>`.
    """
    items = frames.items.join(facts, on=["document", "item"], how="left", maintain_order="left")
    lost = items.filter(pl.col("failure").is_not_null()).join(
        frames.documents.select("document", "id"), on="document", maintain_order="left"
    )
    reason = pl.lit("download:") + pl.col("failure")
    known = items.with_columns(pl.coalesce(f"store_{name}", name).alias(name) for name in _SOURCES)
    measured = [name for name in PIXEL_FACTS if name in facts.columns]
    left = Frames(frames.documents, known.select(*frames.items.columns, *measured))
    return left.without_images(lost.select("document", "item", "id", "url", reason.alias("reason")), draft)


def _keys(pixels: tuple[str, ...], unit: Unit) -> pl.DataFrame:
    return _tried(unit.payload, pixels) if unit.payload.is_store else _referenced(unit, pixels)


def _referenced(unit: Unit, pixels: tuple[str, ...]) -> pl.DataFrame:
    """A row per image item of a document shard."""
    batches = read_frames(Unit(unit.number, unit.name, unit.payload.path))
    parts = [frames.images.select("document", "item", "url") for frames in batches]
    return pl.concat([_rows(part, pixels) for part in parts] or [pl.DataFrame(schema=_types(pixels))])


def _tried(file: _File, pixels: tuple[str, ...]) -> pl.DataFrame:
    """A row per URL of a table of the store."""
    path = file.path
    try:
        schema = pq.read_schema(files.reading(path))
        check(schema.metadata, IMAGES, path)
        had = [name for name in _SOURCES.values() if name in schema.names]  # an earlier LCL wrote fewer
        table = pl.read_parquet(
            files.reading(path), columns=["url", "status", "reason", *had, *_STAND_INS.values()]
        )
    except (OSError, pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
        raise ShardError(f"{path}: torn ({error}); delete it and run `lcl download` again") from error
    failure = pl.when(pl.col("status") != SUCCESS).then(pl.coalesce("reason", "status"))
    known = table.select("url", failure.alias("failure"), *(_FACTS[name] for name in had))
    return _rows(known if file.pixels is None else known.hstack(_measured(file.pixels, pixels)), pixels)


def _measured(path: Path, names: tuple[str, ...]) -> pl.DataFrame:
    try:
        return pl.read_parquet(files.reading(path), columns=list(names))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ShardError(f"{path}: torn ({error}); delete it: it will be measured again") from error


def _types(pixels: tuple[str, ...]) -> dict[str, Any]:
    return _TYPES | {name: _PIXEL_TYPES[name] for name in pixels}


def _rows(frame: pl.DataFrame, pixels: tuple[str, ...]) -> pl.DataFrame:
    """Rows of the exchange: the URL as its hash, null where the frame has no such column."""
    key, check = hashes(frame["url"]).T
    hashed = frame.with_columns(pl.Series("key", key), pl.Series("check", check))
    return hashed.select(
        (pl.col(name) if name in hashed.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in _types(pixels).items()
    )


def _match(rows: pl.DataFrame) -> pl.DataFrame:
    """Each image item with what is known of its URL; where it was tried twice, the first success."""
    url = ["key", "check"]
    tried = rows.filter(pl.col("document").is_null()).drop("document", "item")
    best = tried.sort(pl.col("failure").is_not_null(), "store_key", maintain_order=True).unique(
        url, keep="first", maintain_order=True
    )
    items = rows.filter(pl.col("document").is_not_null()).select(*url, "document", "item")
    known = best.with_columns(known=True)
    found = items.join(known, on=url, how="left")
    failure = pl.when(pl.col("known").is_null()).then(pl.lit(MISSING)).otherwise("failure")
    return found.with_columns(failure=failure).select(name for name in rows.columns if name not in url)
