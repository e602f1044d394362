"""Pairs of a picture and its caption, to documents of two items.

What the members of `lcl_data.sources` for pairs have in common: the columns of tables, found by name or, in a
file without a header, by content; large files that become several shards; facts written beside a picture.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import Field

from lcl_data import delimited, slots
from lcl_data.carriers import Carrier
from lcl_data.delimited import Header
from lcl_data.links import absolute
from lcl_data.rows import Fields, Found, Part, parquet_count, parquet_rows
from lcl_data.sources import Row, Source, dump, find, name_of, numbered, row
from lcl_data.stage import Unit
from schemas.documents import Document, Image, document_id
from schemas.errors import ShardError, SourceError
from schemas.members import key

_SHARD = re.compile(r"(?:part|train|shard)[-_](?P<number>\d{1,9})[^/]*\Z")
_PART = re.compile(r"#\d+\Z")  # behind the ending of a file that becomes several shards
_URL = ("url", "image_url", "img_url")
_CAPTION = ("caption", "text")
_WIDTH, _HEIGHT = ("original_width", "width"), ("original_height", "height")
_ORIGINAL = {"width": "original_width", "height": "original_height"}
_STORED = {"width": "width", "height": "height"}
_KNOWN = frozenset((*_URL, *_CAPTION, *_WIDTH, *_HEIGHT))
_NUMBER = re.compile(r"\s*-?\d{1,18}(?:\.\d{1,18})?(?:[eE][-+]?\d{1,2})?\s*\Z", re.ASCII)
_NO_LICENSE = frozenset(("", "?"))  # LAION-400M writes "?" where it knows none


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of a table hold what, under upstream's names."""

    url: str
    caption: str
    sizes: dict[str, str]
    license: str | None
    similarity: str | None


class Pairs(Source):
    """Pairs as documents: the picture, then its caption, which is the text that the picture belongs to.

    So the loader tosses a coin for every pair and epoch which of the two comes first, as LCL's loader of
    pairs does (half of a batch is then contrastive). Width, height, similarity and licence become columns;
    every other one goes to the picture's meta. A row without a URL or a caption, or with a URL that nobody
    can fetch, is rejected. Ids count rows of Parquet, bytes of text: they do not depend on how a file is
    divided.
    """

    url_column: str | None = Field(None, description="name; null: url, image_url or img_url, in any case")
    caption_column: str | None = Field(None, description="name; null: caption or text, in any case")
    similarity_column: str | None = Field("similarity", description="score of the pair that filters see")
    columns: tuple[str, ...] | None = Field(
        None, description="names of all columns of a TSV or CSV without a header; null: told from the content"
    )
    rows_per_shard: int = Field(500_000, gt=0, description="a Parquet file of more becomes several shards")
    nbytes_per_shard: int = Field(128 << 20, gt=0, description="a plain TSV of more becomes several shards")
    batch_rows: int = Field(1000, gt=0, description="rows of Parquet decoded at a time; bounds the memory")
    max_line_nbytes: int = Field(1 << 20, gt=0, description="a longer line of text is rejected unread")

    def units(self, src: Path) -> list[Unit]:
        """One unit per file, or per part of a large one."""
        paths = find(src, (".parquet", *delimited.ENDINGS))
        named = [(name_of(path, src), self._parts(path)) for path in paths]
        if all(len(parts) == 1 for _, parts in named):
            return numbered(((name, part) for name, (part,) in named), _SHARD)
        every = [(f"{name}#{k}", part) for name, parts in named for k, part in enumerate(parts)]
        return [Unit(number, name, part) for number, (name, part) in enumerate(every)]

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every row of a part."""
        source, file = key(self), _PART.sub("", unit.name)
        layout = None
        for found in self._found(unit.payload):
            if layout is None and isinstance(found.fields, dict):
                layout = self._layout(found.fields, unit.payload.path)
            id = document_id(source, file, int(found.place[1:]))
            images = _entries(found.fields, layout)
            make = partial(self._document, found.fields, layout, id, source)
            yield row(f"{file}{found.place}", found.nbytes, images, make)

    def _parts(self, path: Path) -> list[Part]:
        if path.suffix == ".parquet":
            total, size = parquet_count(path), self.rows_per_shard
        elif delimited.is_divisible(path):
            total, size = path.stat().st_size, self.nbytes_per_shard
        else:
            return [Part(path)]
        starts = range(0, max(1, total), size)
        return [Part(path, start, min(start + size, total)) for start in starts] if total else [Part(path)]

    def _found(self, part: Part) -> Iterator[Found]:
        if delimited.is_delimited(part.path):
            return delimited.delimited_rows(part, self._header(part.path), self.max_line_nbytes)
        return parquet_rows(part, frozenset(), self.batch_rows)

    def _header(self, path: Path) -> Header:
        if self.columns:
            return Header(self.columns, is_written=False)
        mine = {name.lower() for name in (self.url_column, self.caption_column) if name}
        return delimited.header_of(path, _KNOWN | mine, self.max_line_nbytes)

    def _layout(self, fields: Mapping[str, Any], path: Path) -> Layout:
        """What the columns of a file mean.

        Raises:
            ShardError: it has no such columns, or several that may be meant.
        """
        sizes = {"width": _either(fields, _WIDTH), "height": _either(fields, _HEIGHT)}
        similarity = self.similarity_column
        score = _either(fields, (similarity.lower(),)) if similarity else None
        if score is None and similarity and "similarity_column" in self.model_fields_set:
            _the(
                fields, similarity, (), "similarity_column", path
            )  # a default may miss, what is asked for not
        return Layout(
            _the(fields, self.url_column, _URL, "url_column", path),
            _the(fields, self.caption_column, _CAPTION, "caption_column", path),
            {ours: theirs for ours, theirs in sizes.items() if theirs},
            _either(fields, ("license",)),
            score,
        )

    def _document(
        self, fields: Fields, layout: Layout | None, id: str, source: str
    ) -> tuple[Document, tuple[SourceError, ...]]:
        if isinstance(fields, SourceError) or layout is None:
            raise fields if isinstance(fields, SourceError) else SourceError("empty")
        caption = _string(fields, layout.caption, "no_caption")
        url = _string(fields, layout.url, "no_url")
        address = absolute(url, None)
        if address is None or not is_web(address):
            raise SourceError("bad_url", url[:200])
        known, meta = _sized(fields, layout.sizes)
        del meta[layout.caption]
        if address == url:
            del meta[layout.url]
        license = meta.get(layout.license) if layout.license else None
        if isinstance(license, str) and license not in _NO_LICENSE:
            del meta[layout.license]  # type: ignore[arg-type]  # it has a name
        else:
            license = self.license
        if layout.similarity and is_number(value := _number(fields[layout.similarity])):
            del meta[layout.similarity]
            known["similarity"] = float(value)
        image = Image(url=address, anchor=0, meta=dump(meta), **known)
        return Document(id, source, (image, caption), license=license), ()


def brought(fields: Mapping[str, Any], carrier: Carrier, otherwise: str) -> Image:
    """The picture of a pair that a source brings along, by the facts written beside it.

    Args:
        fields: upstream's, without the caption; what has no column goes to meta. Their `url` is taken for the
            picture's where img2dataset wrote them (with its `status`); others may mean a page of several
            pictures, and pictures of one URL are one picture.
        carrier: where its bytes lie.
        otherwise: its URL, where `url` is none.
    """
    sizes = _ORIGINAL if _ORIGINAL["width"] in fields else _STORED
    known, meta = slots.columns(fields, sizes)
    raw = meta.get("url") if "status" in meta else None
    address = absolute(raw, None) if isinstance(raw, str) else None
    if address is None or not is_web(address):
        address = otherwise
    elif address == raw:
        del meta["url"]
    if is_number(similarity := meta.get("similarity")):
        del meta["similarity"]
        known["similarity"] = float(similarity)
    return Image(url=address, anchor=0, meta=dump(meta), carrier=str(carrier), **known)


def is_web(url: str) -> bool:
    """Whether a URL is one that can be fetched."""
    return url.lower().startswith(("http://", "https://"))


def is_number(value: Any) -> TypeGuard[float]:
    """Whether an upstream value is a number that says something."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sized(fields: Mapping[str, Any], sizes: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sizes among the fields of a row, and the other fields as they are.

    A table of text holds digits, and one in which a size may be missing (pandas) holds 640.0.
    """
    known, meta = {}, dict(fields)
    for name, column in sizes.items():
        value = _whole(fields[column])
        if slots.fits(name, value):
            known[name] = value
            del meta[column]
    return known, meta


def _whole(value: Any) -> Any:
    """The integer that a value is, whatever it is written as; the value itself if it is none."""
    number = _number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _number(value: Any) -> Any:
    """The number that a text says; the value itself if it says none."""
    return float(value) if isinstance(value, str) and _NUMBER.match(value) else value


def _entries(fields: Fields, layout: Layout | None) -> int:
    """Image entries of a row: one, if it has a URL."""
    return int(isinstance(fields, dict) and layout is not None and bool(fields[layout.url]))


def _string(fields: Mapping[str, Any], column: str, missing: str) -> str:
    value = fields[column]
    if value is None:
        raise SourceError(missing, f"{column} is null")
    if not isinstance(value, str):
        raise SourceError("bad_type", f"{column} is {type(value).__name__}")
    if not value.strip():
        raise SourceError(missing, f"{column} is blank")
    return value


def _either(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The column of one of the names, the first of them that there is."""
    lower = {name.lower(): name for name in fields}
    return next((lower[name] for name in names if name in lower), None)


def _the(
    fields: Mapping[str, Any], wanted: str | None, names: tuple[str, ...], setting: str, path: Path
) -> str:
    if wanted in fields:
        return str(wanted)
    found = [] if wanted else [name for name in fields if name.lower() in names]
    if len(found) == 1:
        return found[0]
    why = f"columns {', '.join(found)} may both be meant" if found else f"no column {wanted or names[0]}"
    raise ShardError(
        f"{path}: {why}; its columns are {', '.join(fields)}; name one: --set source.{setting}=NAME"
    )
