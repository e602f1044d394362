"""OBELICS (Laurencon et al. 2023, arXiv 2306.16527): Parquet rows of parallel lists of texts and images.

Rows are decoded in small batches of a row group, so that memory is that of a batch.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from lcl_data import slots
from lcl_data.rows import Fields, Found, parquet_rows
from lcl_data.sources import Row, Source, dump, find, name_of, numbered, ranges, rest, row
from lcl_data.stage import Unit
from schemas.documents import Document, document_id
from schemas.errors import SourceError

_SHARD = re.compile(r"(?P<number>\d{1,9})(?:-of-(?P<total>\d{1,9}))?[^/]*\.parquet\Z")
_COLUMNS = frozenset(("images", "texts", "metadata", "general_metadata"))
_NEEDED = frozenset(("images", "texts"))
_FACTS = {"alt": "alt_text", "width": "original_width", "height": "original_height", "format": "format"}


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
        for index, found in enumerate(parquet_rows(unit.payload, _NEEDED, self.batch_rows)):
            yield self._row(found, unit.name, document_id("obelics", unit.name, index))

    def _row(self, found: Found, file: str, id: str) -> Row:
        fields = found.fields
        make = partial(self._document, fields, id)
        return row(f"{file}{found.place}", found.nbytes, slots.entries(fields), make)

    def _document(self, fields: Fields, id: str) -> tuple[Document, tuple[SourceError, ...]]:
        if isinstance(fields, SourceError):
            raise fields
        found = slots.slots(fields)
        facts = _facts(fields, found)
        general = slots.json_of(fields, "general_metadata", dict) or {}
        page = _page(general, facts)
        items, lost = slots.items(found, lambda at, _, url: slots.linked(url, page, facts[at] or {}, _FACTS))
        others = rest(fields, _COLUMNS) | ({"general_metadata": general} if general else {})
        return Document(id, "obelics", items, page, self.license, dump(others)), lost


def _facts(fields: dict[str, Any], found: list[slots.Slot]) -> list[dict[str, Any] | None]:
    """The metadata list; as many nulls where there is none."""
    facts: list[dict[str, Any] | None] | None = slots.json_of(fields, "metadata", list)
    if facts is None:
        return [None] * len(found)
    if not all(fact is None or isinstance(fact, dict) for fact in facts):
        raise SourceError("bad_type", "metadata holds something that is no object")
    if len(facts) != len(found):
        raise SourceError("mismatched_lengths", f"{len(found)} images and texts, {len(facts)} metadata")
    for at, (fact, (image, _)) in enumerate(zip(facts, found, strict=True)):
        if fact and image is None:
            raise SourceError("metadata_beside_text", f"position {at}")
    return facts


def _page(general: dict[str, Any], facts: list[dict[str, Any] | None]) -> str | None:
    found = [general.get("url"), *(fact.get("document_url") for fact in facts if fact)]
    return next((url for url in found if isinstance(url, str) and url), None)
