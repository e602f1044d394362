"""A document is a list of text and image items: the one type that flows from `ingest` to `shard`.

A text item is its string: a sentence (MMC4), or paragraphs joined by a blank line (OBELICS). At rest a
document is a row of Parquet; an item is a struct of which exactly one child is set, so that the parallel-list
invariant of OBELICS cannot be broken.
"""

import hashlib
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa

from schemas.errors import SourceError
from schemas.versions import stamp


class Image(NamedTuple):
    """A reference to a picture, and every fact known about it (None where not measured).

    Attributes:
        url: absolute URL of the picture.
        key: its key in the image store, once one is attached: 5 digits of shard, then digits of the row.
        alt: alternative text of the page.
        anchor: index, among the document's text items, of the text the picture belongs to (MMC4's
            matched_text_index); None where the order of the items says it.
        similarity: score of the pair (picture, anchored text) given by the source, on CLIP's scale 0..1.
        width: pixels of the original picture.
        height: pixels of the original picture.
        nbytes: bytes of the original file; of the stored one where that is not known, as in a folder that
            img2dataset made.
        format: jpeg, png, webp, gif, ... of the original file.
        is_animated: the original holds several frames; the first one is kept.
        sha256: hex digest of the stored bytes.
        phash: 64-bit perceptual hash of the pixels.
        opaque_phash: the same of the pixels with transparency ignored; None where that is no other picture.
        meta: JSON object of the upstream fields of this picture that have no column.
        carrier: where its bytes lie if the source brought them along (`lcl_data.carriers`); None where the
            network has them.
    """

    url: str
    key: str | None = None
    alt: str | None = None
    anchor: int | None = None
    similarity: float | None = None
    width: int | None = None
    height: int | None = None
    nbytes: int | None = None
    format: str | None = None
    is_animated: bool | None = None
    sha256: str | None = None
    phash: int | None = None
    opaque_phash: int | None = None
    meta: str | None = None
    carrier: str | None = None


Item = str | Image

IMAGE_STRUCT = pa.struct(
    [
        pa.field("url", pa.string(), nullable=False),
        ("key", pa.string()),
        ("alt", pa.string()),
        ("anchor", pa.int32()),
        ("similarity", pa.float32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("nbytes", pa.int64()),
        ("format", pa.string()),
        ("is_animated", pa.bool_()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("opaque_phash", pa.uint64()),
        ("meta", pa.string()),
        ("carrier", pa.string()),
    ]
)
DOCUMENTS = stamp(
    pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            ("url", pa.string()),
            ("license", pa.string()),
            pa.field(
                "items", pa.list_(pa.struct([("text", pa.string()), ("image", IMAGE_STRUCT)])), nullable=False
            ),
            ("meta", pa.string()),
        ]
    ),
    "documents",
    1,
)
# Small row groups: nested lists of structs in large ones are where Parquet readers break (reference: Arrow
# issues).
ROW_GROUP_ROWS = 1000
_STRINGS = tuple(f.name for f in DOCUMENTS if pa.types.is_string(f.type))


@dataclass(frozen=True, slots=True)
class Document:
    """One interleaved document.

    Attributes:
        id: 32 hex digits, unique even where upstream repeats a page (see `document_id`).
        source: name of the corpus, such as mmc4 or obelics.
        items: text and images in reading order.
        url: address of the page.
        license: as the source states it.
        meta: JSON object of every upstream field that has no column.
    """

    id: str
    source: str
    items: tuple[Item, ...]
    url: str | None = None
    license: str | None = None
    meta: str | None = None

    def __post_init__(self) -> None:
        images = self.images
        texts = len(self.items) - len(images)
        for image in images:
            if image.anchor is not None and not 0 <= image.anchor < texts:
                raise SourceError(
                    "anchor_out_of_range", f"image {image.url} points at text {image.anchor} of {texts}"
                )

    @property
    def images(self) -> tuple[Image, ...]:
        """The image items, in reading order."""
        return tuple([item for item in self.items if type(item) is Image])

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of the text items, in reading order."""
        return tuple([item for item in self.items if isinstance(item, str)])


def document_id(source: str, file: str, row: int) -> str:
    """128-bit hash (32 hex digits) of where a document came from: source, upstream file name, row
    (0-based).
    """
    return hashlib.blake2b(f"{source}\0{file}\0{row}".encode(), digest_size=16).hexdigest()


def to_row(document: Document) -> dict[str, Any]:
    """The document as a row of `DOCUMENTS`."""
    return {
        "id": document.id,
        "source": document.source,
        "url": document.url,
        "license": document.license,
        "items": [_item_row(item) for item in document.items],
        "meta": document.meta,
    }


def from_row(row: dict[str, Any]) -> Document:
    """The document in a row of `DOCUMENTS`; the inverse of `to_row`."""
    items = tuple(_item(item) for item in row["items"])
    return Document(row["id"], row["source"], items, row["url"], row["license"], row["meta"])


def to_table(documents: list[Document]) -> pa.Table:
    """Documents as a table of schema `DOCUMENTS`, column by column (1.5 times as fast as row by row)."""
    items = list(chain.from_iterable(document.items for document in documents))
    at = [place for place, item in enumerate(items) if type(item) is Image]
    images = [cast(Image, items[place]) for place in at]
    strings: list[Item | None] = [*items]
    for place in at:
        strings[place] = None
    where = np.full(len(items), -1, np.int32)
    where[at] = np.arange(len(at))
    where = pa.array(where, mask=where < 0)
    values = list(zip(*images, strict=True)) or [()] * len(IMAGE_STRUCT)  # of each field, in its order
    facts = [_column(each, f.type, where) for each, f in zip(values, IMAGE_STRUCT, strict=True)]
    facts[0] = facts[0].fill_null("")  # the URL beside a text: no value, but not null either
    texts = pa.array(strings, pa.string())
    structs = pa.StructArray.from_arrays(facts, fields=list(IMAGE_STRUCT), mask=where.is_null())
    ends = pa.array(accumulate((len(document.items) for document in documents), initial=0), pa.int32())
    column = DOCUMENTS.field("items").type
    pairs = pa.StructArray.from_arrays([texts, structs], fields=list(column.value_type))
    columns = {name: pa.array([getattr(d, name) for d in documents], pa.string()) for name in _STRINGS}
    columns["items"] = pa.ListArray.from_arrays(ends, pairs, type=column)
    return pa.Table.from_arrays([columns[name] for name in DOCUMENTS.names], schema=DOCUMENTS)


def _column(values: tuple[Any, ...], kind: pa.DataType, where: pa.Array) -> pa.Array:
    """A fact of every item, null beside texts; what nobody has measured is not looked up."""
    if values.count(None) == len(values):
        return pa.nulls(len(where), kind)
    return pa.array(values, kind).take(where)


def _item_row(item: Item) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item, "image": None}
    return {"text": None, "image": item._asdict()}


def _item(row: dict[str, Any]) -> Item:
    return row["text"] if row["image"] is None else Image(**row["image"])
