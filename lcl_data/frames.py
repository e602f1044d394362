"""A batch of documents as two flat frames, one row per document and one per item, so that curation is a
query over columns; and back, byte for byte.

The nested form is what crosses between stages; polars is quick on flat columns only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lcl_data import files
from lcl_data.at_once import each
from lcl_data.draft import Draft, has_size
from lcl_data.stage import Unit, document_units, open_documents
from schemas.documents import DOCUMENTS, IMAGE_STRUCT, ROW_GROUP_ROWS
from schemas.errors import ShardError
from schemas.manifest import Input, read_manifest

DOCUMENT_REJECTED = "document_rejected"
# The columns of the texts, and before their own name those of the images, as Parquet names them.
TEXTS, IMAGES = "items.list.element.text", "items.list.element.image."
IMAGE_COLUMNS = tuple(field.name for field in IMAGE_STRUCT)
_DOCUMENT_COLUMNS = tuple(field.name for field in DOCUMENTS if field.name != "items")
_ITEMS = DOCUMENTS.field("items").type


@dataclass(frozen=True, slots=True)
class Frames:
    """Documents and their items, in the order in which they were read.

    Attributes:
        documents: document (UInt64: shard number << 32 | row in the shard as it was read), id, source, url,
            license, meta.
        items: document, item (Int32: index in the document as it was read), is_image, text, and the columns
            of `schemas.documents.Image` (null for a text).
    """

    documents: pl.DataFrame
    items: pl.DataFrame

    @property
    def images(self) -> pl.DataFrame:
        """The rows of items that are images."""
        return self.items.filter("is_image")

    @property
    def texts(self) -> pl.DataFrame:
        """The rows of items that are texts."""
        return self.items.filter(~pl.col("is_image"))

    def count(self, kind: Literal["images", "texts"]) -> int:
        """How many items are images, or texts; without a copy of them."""
        images = int(self.items["is_image"].sum())
        return images if kind == "images" else self.items.height - images

    def summary(self) -> pl.DataFrame:
        """The documents with `text` (their texts joined by newlines), `texts` and `images` (counts)."""
        counted = self.items.group_by("document").agg(
            pl.col("text").str.join("\n"),
            (~pl.col("is_image")).sum().alias("texts"),
            pl.col("is_image").sum().alias("images"),
        )
        filled = [pl.col("text").fill_null(""), pl.col("texts", "images").fill_null(0)]
        return self.documents.join(counted, on="document", how="left", maintain_order="left").with_columns(
            filled
        )

    def drop_items(self, dropped: pl.DataFrame) -> "Frames":
        """Without the images or texts named by document and item."""
        return replace(
            self, items=self.items.join(dropped, on=["document", "item"], how="anti", maintain_order="left")
        )

    def drop_documents(self, dropped: pl.DataFrame) -> "Frames":
        """Without the documents named by document, and without their items."""
        left = (
            frame.join(dropped, on="document", how="anti", maintain_order="left")
            for frame in (self.documents, self.items)
        )
        return Frames(*left)

    def only_documents(self, wanted: pl.DataFrame) -> "Frames":
        """The documents named by document, and their items."""
        left = (
            frame.join(wanted, on="document", how="semi", maintain_order="left")
            for frame in (self.documents, self.items)
        )
        return Frames(*left)

    def without_images(self, rejected: pl.DataFrame, draft: Draft) -> "Frames":
        """Drop image items and write them down.

        Args:
            rejected: document, item, id, url, reason, and perhaps detail; one row per image to drop.
            draft: whose ledger counts them.
        """
        if rejected.is_empty():
            return self
        _write_down("images", rejected, draft)
        return self.drop_items(rejected)

    def without_documents(self, rejected: pl.DataFrame, draft: Draft) -> "Frames":
        """Drop documents, their images (and texts, where the ledger counts those) with them; write all down.

        Args:
            rejected: document, id, url, reason, and perhaps detail; one row per document to drop.
            draft: whose ledger counts them.
        """
        if rejected.is_empty():
            return self
        _write_down("documents", rejected, draft)
        places = self.items.select("document", "is_image")
        for kind, is_kind in [
            ("images", pl.col("is_image")),
            *([("texts", ~pl.col("is_image"))] if draft.ledger.texts else []),
        ]:
            lost = places.filter(is_kind).join(
                rejected.select("document", "id"), on="document", maintain_order="left"
            )
            for identity, count in lost.group_by("id", maintain_order=True).len().iter_rows():
                draft.reject(kind, DOCUMENT_REJECTED, count, id=identity)
        return self.drop_documents(rejected)

    def without_texts(self, rejected: pl.DataFrame, draft: Draft) -> "Frames":
        """Drop text items, write them down and point the anchors at the texts that are left.

        An image whose own text is dropped stays where it stands: its anchor becomes null.

        Args:
            rejected: document, item, id, url, reason; one row per text to drop.
            draft: whose ledger counts them.
        """
        if rejected.is_empty():
            return self
        _write_down("texts", rejected, draft)
        ordinal = pl.int_range(pl.len(), dtype=pl.Int32).over("document")
        before = self.texts.select("document", "item", anchor=ordinal)
        after = before.join(rejected, on=["document", "item"], how="anti", maintain_order="left")
        moved = after.select("document", "anchor", new=ordinal)
        left = self.drop_items(rejected).items.join(
            moved, on=["document", "anchor"], how="left", maintain_order="left"
        )
        return replace(self, items=left.with_columns(anchor="new").drop("new"))

    def with_texts(self, changed: pl.DataFrame) -> "Frames":
        """With other words in some text items.

        Args:
            changed: document, item, text; one row per text to change.
        """
        if changed.is_empty():
            return self
        renamed = changed.rename({"text": "changed"})
        items = self.items.join(renamed, on=["document", "item"], how="left", maintain_order="left")
        return replace(self, items=items.with_columns(text=pl.coalesce("changed", "text")).drop("changed"))

    def to_table(self) -> pa.Table:
        """The documents as rows of schema `DOCUMENTS`."""
        # Both frames stand in the order of document numbers: where a document's items end is a search.
        ends = self.items["document"].search_sorted(self.documents["document"], side="right").to_numpy()
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        columns = dict(zip(_DOCUMENT_COLUMNS, _arrow(self.documents, _DOCUMENT_COLUMNS), strict=True))
        items = pa.ListArray.from_arrays(pa.array(offsets), _structs(self.items), type=_ITEMS)
        return pa.Table.from_arrays(
            [
                items if name == "items" else columns[name].cast(DOCUMENTS.field(name).type)
                for name in DOCUMENTS.names
            ],
            schema=DOCUMENTS,
        )


def sound_units(folder: Path) -> tuple[list[Unit], list[Input]]:
    """The document shards of a stage folder, and an input that names the torn ones, if there are any.

    An exchange needs every shard it asks; a torn one (absent, or not as long as its manifest says) is left
    out of the question and fails alone when its turn comes. It is part of the stage's digest: once it is
    mended, everything is asked anew. The payload of a unit is its path, None where it is torn.
    """
    nbytes = {shard.name: shard.nbytes for shard in read_manifest(folder).shards}
    found = document_units(folder)
    whole = each(folder, lambda unit: has_size(unit.payload, nbytes[unit.name]), found)
    units = [
        unit if is_whole else replace(unit, payload=None) for unit, is_whole in zip(found, whole, strict=True)
    ]
    torn = [unit.name for unit in units if unit.payload is None]
    return units, [Input(name="torn", digest=files.digest(torn))] if torn else []


def read_frames(unit: Unit, columns: Sequence[str] = ()) -> Iterator[Frames]:
    """The documents of a shard, about a thousand at a time.

    Args:
        unit: the shard.
        columns: which ones are read (`TEXTS`, names of columns), in frames that have no others; all where
            none is named.

    Raises:
        ShardError: the shard is torn, foreign or of a newer version.
    """
    if unit.payload is None:
        raise ShardError(f"{unit.name}: not as its manifest says; run the stage that wrote it again")
    row = 0
    try:
        file = open_documents(unit.payload)
        # A worker has one core: threads would cost half as much again.
        for batch in file.iter_batches(ROW_GROUP_ROWS, columns=list(columns) or None, use_threads=False):
            yield flatten(batch, (unit.number << 32) + row)
            row += batch.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise ShardError(
            f"{unit.payload}: torn ({error}); delete it and run the stage that wrote it again"
        ) from error


def together(parts: Sequence[Frames]) -> Frames:
    """Batches as one."""
    return Frames(pl.concat([part.documents for part in parts]), pl.concat([part.items for part in parts]))


def no_documents() -> Frames:
    """Frames without a row: what a query over them gives says which columns it needs and makes."""
    columns = [pa.array([], field.type) for field in DOCUMENTS]
    return flatten(pa.RecordBatch.from_arrays(columns, schema=DOCUMENTS), 0)


def flatten(batch: pa.RecordBatch, first: int) -> Frames:
    """Documents of schema `DOCUMENTS` as frames; `first` is the number of the first one."""
    lists = batch.column("items")
    starts, parents = lists.offsets.to_numpy(), pc.list_parent_indices(lists).to_numpy()
    values = pc.list_flatten(lists)
    text, image = pc.struct_field(values, "text"), _images_of(values)
    items = {
        "document": pa.array(parents.astype(np.uint64) + np.uint64(first)),
        "item": pa.array((np.arange(len(parents)) - (starts - starts[0])[parents]).astype(np.int32)),
        "is_image": text.is_null() if image is None else image.is_valid(),
        "text": text,
        **({} if image is None else _image_columns(image)),
    }
    numbers = pa.array(np.arange(batch.num_rows, dtype=np.uint64) + np.uint64(first))
    read = [name for name in _DOCUMENT_COLUMNS if name in batch.schema.names]
    documents = {"document": numbers, **{name: batch.column(name) for name in read}}
    return Frames(_frame(documents), _frame(items))


def _images_of(items: pa.StructArray) -> pa.StructArray | None:
    """The images of items, null for a text; None where texts alone were read."""
    return pc.struct_field(items, "image") if items.type.get_field_index("image") >= 0 else None


def _image_columns(image: pa.StructArray) -> dict[str, pa.Array]:
    known = [field.name for field in image.type]  # a shard of an earlier LCL lacks what was added since
    return {
        field.name: pc.struct_field(image, field.name)
        if field.name in known
        else pa.nulls(len(image), field.type)
        for field in IMAGE_STRUCT
    }


def _frame(columns: dict[str, pa.Array]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.table(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _arrow(frame: pl.DataFrame, names: tuple[str, ...]) -> list[pa.Array]:
    table = frame.select(names).to_arrow(compat_level=pl.CompatLevel.oldest())
    return [column.combine_chunks() for column in table.columns]


def _structs(items: pl.DataFrame) -> pa.Array:
    """The items as structs with exactly one child set."""
    is_text = pa.array(~items["is_image"].to_numpy())
    (text,) = _arrow(items, ("text",))
    # The child of a null struct may be anything, but must not be null where the contract says so.
    facts = _arrow(items.with_columns(pl.col("url").fill_null("")), IMAGE_COLUMNS)
    typed = [fact.cast(field.type) for fact, field in zip(facts, IMAGE_STRUCT, strict=True)]
    image = pa.StructArray.from_arrays(typed, fields=list(IMAGE_STRUCT), mask=is_text)
    return pa.StructArray.from_arrays([text.cast(pa.string()), image], fields=list(_ITEMS.value_type))


def _write_down(kind: str, rejected: pl.DataFrame, draft: Draft) -> None:
    columns = [name for name in ("reason", "id", "item", "url", "detail") if name in rejected.columns]
    for row in rejected.select(columns).iter_rows(named=True):
        where: dict[str, Any] = row
        draft.reject(kind, where.pop("reason"), **where)
