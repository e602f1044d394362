"""OBELICS (Laurencon et al. 2023, arXiv 2306.16527): Parquet rows of parallel lists of texts and images.

Rows are decoded in small batches of a row group, so that memory is that of a batch.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from lcl_data.links import absolute
from lcl_data.sources import Row, Source, dump, find, name_of, numbered, parse, ranges, rest, row
from lcl_data.stage import Unit
from schemas.documents import Document, Image, Item, Text, document_id
from schemas.errors import ShardError, SourceError

_SHARD = re.compile(r"(?P<number>\d{1,9})(?:-of-(?P<total>\d{1,9}))?[^/]*\.parquet\Z")
_COLUMNS = frozenset(("images", "texts", "metadata", "general_metadata"))
_INT32 = 1 << 31


class Obelics(Source):
    """Documents of OBELICS in their own order.

    Exactly one of images[i] and texts[i] is set. An image slot counts as unset where it is null or "" (the
    pre-release code wrote ""), a text slot beside an image likewise; elsewhere "" is an empty text.
    `metadata` may be absent; where present it is as long as the lists and null beside texts. An image whose
    URL has no host is rejected alone; a row that breaks a rule is rejected whole.
    """

    batch_rows: int = Field(100, gt=0, description="rows decoded at a time; bounds the memory of a worker")

    def units(self, src: Path) -> list[Unit]:
        """One unit per Parquet file."""
        return numbered(((name_of(path, src), path) for path in find(src, (".parquet",))), _SHARD)

    def notes(self, units: list[Unit]) -> list[str]:
        """Which files of a numbered set are missing."""
        found = [match for unit in units if (match := _SHARD.search(unit.name)) and match["total"]]
        total = max((int(match["total"]) for match in found), default=0)
        missing = set(range(total)) - {int(match["number"]) for match in found}
        return [f"missing files of {total}: {ranges(missing)}"] if missing else []

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every row of a file."""
        for index, (fields, nbytes) in enumerate(_rows(unit.payload, self.batch_rows)):
            yield self._row(fields, f"{unit.name}:{index}", nbytes, document_id("obelics", unit.name, index))

    def _row(self, fields: dict[str, Any] | SourceError, place: str, nbytes: int, id: str) -> Row:
        if isinstance(fields, SourceError):
            return Row(place, nbytes, 0, fields)
        urls = fields["images"]
        images = sum(bool(url) for url in urls) if isinstance(urls, list) else 0
        return row(place, nbytes, images, lambda: self._document(fields, id))

    def _document(self, fields: dict[str, Any], id: str) -> tuple[Document, tuple[SourceError, ...]]:
        urls, texts = _strings(fields, "images"), _strings(fields, "texts")
        facts = _facts(fields, len(urls))
        general = _json(fields, "general_metadata", dict) or {}
        if not len(urls) == len(texts) == len(facts):
            raise SourceError(
                "mismatched_lengths", f"{len(urls)} images, {len(texts)} texts, {len(facts)} metadata"
            )
        page = _page(general, facts)
        items: list[Item] = []
        lost = []
        for index, (url, text, fact) in enumerate(zip(urls, texts, facts, strict=True)):
            found = _item(url, text, fact, page, index)
            lost.append(found) if isinstance(found, SourceError) else items.append(found)
        if not items:
            raise SourceError("empty", "no text and no image")
        others = rest(fields, _COLUMNS) | ({"general_metadata": general} if general else {})
        return Document(id, "obelics", tuple(items), page, self.license, dump(others)), tuple(lost)


def _rows(path: Path, batch_rows: int) -> Iterator[tuple[dict[str, Any] | SourceError, int]]:
    """(row, bytes) of a Parquet file; a row that Arrow cannot hand over is its error."""
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow, path)
            for batch in file.iter_batches(batch_rows):
                nbytes = batch.nbytes // max(1, batch.num_rows)
                yield from ((fields, nbytes) for fields in _decoded(batch))
    except (pa.ArrowException, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault, not the file's
        raise ShardError(
            f"{path}: torn or not Parquet ({error}); download it again and repeat the command"
        ) from error


def _check_columns(schema: pa.Schema, path: Path) -> None:
    missing = {"images", "texts"} - set(schema.names)
    if missing:
        raise ShardError(f"{path}: no column {', '.join(sorted(missing))}; is it a file of OBELICS?")


def _decoded(batch: pa.RecordBatch) -> list[dict[str, Any] | SourceError]:
    try:
        rows: list[dict[str, Any] | SourceError] = batch.to_pylist()
        return rows
    except ValueError as error:  # a string that is not UTF-8, a date that Python does not know
        if batch.num_rows == 1:
            return [SourceError("broken_value", str(error))]
    return [row for index in range(batch.num_rows) for row in _decoded(batch.slice(index, 1))]


def _strings(fields: dict[str, Any], column: str) -> list[str | None]:
    values = fields[column]
    if not isinstance(values, list):
        raise SourceError("bad_type", f"{column} is {type(values).__name__}")
    if not all(value is None or isinstance(value, str) for value in values):
        raise SourceError("bad_type", f"{column} holds something that is no string")
    return values


def _json(fields: dict[str, Any], column: str, kind: type) -> Any:
    text = fields.get(column)
    if text is None:
        return None
    if not isinstance(text, str):
        raise SourceError("bad_type", f"{column} is {type(text).__name__}")
    value = parse(text, column)
    if value is not None and not isinstance(value, kind):
        raise SourceError("bad_type", f"{column} is JSON of {type(value).__name__}")
    return value


def _facts(fields: dict[str, Any], length: int) -> list[dict[str, Any] | None]:
    """The metadata list; as many nulls where there is none."""
    facts = _json(fields, "metadata", list)
    if facts is None:
        return [None] * length
    if not all(fact is None or isinstance(fact, dict) for fact in facts):
        raise SourceError("bad_type", "metadata holds something that is no object")
    found: list[dict[str, Any] | None] = facts
    return found


def _page(general: dict[str, Any], facts: list[dict[str, Any] | None]) -> str | None:
    found = [general.get("url"), *(fact.get("document_url") for fact in facts if fact)]
    return next((url for url in found if isinstance(url, str) and url), None)


def _item(
    url: str | None, text: str | None, fact: dict[str, Any] | None, page: str | None, index: int
) -> Item | SourceError:
    """The item at one position; an error as a value if the image alone is lost."""
    if url and text:
        raise SourceError("both_text_and_image", f"position {index}")
    if url:
        address = absolute(url, page)
        return _image(address, url, fact or {}) if address else SourceError("bad_url", url[:200])
    if text is None:
        raise SourceError("neither_text_nor_image", f"position {index}")
    if fact:
        raise SourceError("metadata_beside_text", f"position {index}")
    return Text(text)


def _image(address: str, raw: str, fact: dict[str, Any]) -> Image:
    columns = {
        "alt": ("alt_text", fact.get("alt_text"), str),
        "width": ("original_width", fact.get("original_width"), int),
        "height": ("original_height", fact.get("original_height"), int),
        "format": ("format", fact.get("format"), str),
    }
    fits = {name: (key, value) for name, (key, value, kind) in columns.items() if _fits(value, kind)}
    used = frozenset(key for key, _ in fits.values())
    meta = rest(fact, used) | ({"raw_url": raw} if address != raw else {})
    return Image(url=address, meta=dump(meta), **{name: value for name, (_, value) in fits.items()})


def _fits(value: Any, kind: type) -> bool:
    """Whether a column holds the value; what does not fit stays in meta."""
    if kind is int:
        return type(value) is int and 0 <= value < _INT32
    return isinstance(value, kind)
