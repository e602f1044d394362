"""OmniCorpus (Li et al. 2024, arXiv 2406.08418): OBELICS' parallel lists with nested structs beside them.

Parquet as OmniCorpus-CC has it, and JSON lines of the same fields as its trainers read them. The fields of
the sections CW and YT are nowhere documented: a file of theirs is read if it has the two lists.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from lcl_data import slots
from lcl_data.archives import READABLE, Packed
from lcl_data.rows import Fields, Found, json_rows, parquet_rows
from lcl_data.sources import Row, Source, dump, find, name_of, numbered, rest, row
from lcl_data.stage import Unit
from schemas.documents import Document, document_id
from schemas.errors import SourceError

_SHARD = re.compile(r"(?:train-|shard_)(?P<number>\d{1,9})[^/]*\Z")
_NEEDED = frozenset(("images", "texts"))
_BLANK = frozenset(("", "<image>"))  # its trainers also write "<image>" where a picture stands
_FACTS = {"width": "width", "height": "height", "nbytes": "bytes"}
_NESTED = {"general_metadata": dict, "metadata": list}
# Lists with an entry for each picture, and its name in the picture's meta; "": its fields are the meta.
_PER_IMAGE = {"metadata": "", "similarity_matrix": "similarities", "valid_image": "valid_image"}


class Omnicorpus(Source):
    """Documents of OmniCorpus in their own order.

    Exactly one of images[i] and texts[i] is set; "" and "<image>" beside an image count as unset. `metadata`
    (width, height and bytes become columns; aesthetic and unsafe scores, hashes and their counts go to the
    image's meta), rows of `similarity_matrix` and `valid_image` belong to their picture if the list is as
    long as the lists with nothing beside texts, or has one entry per picture; else the list stays whole in
    the document's meta. An image without a host is rejected alone; a row that breaks a rule, whole.
    """

    batch_rows: int = Field(100, gt=0, description="rows of Parquet decoded at a time; bounds the memory")
    max_line_nbytes: int = Field(64 << 20, gt=0, description="a longer JSON line is rejected unread")

    def units(self, src: Path) -> list[Unit]:
        """One unit per file."""
        return numbered(((name_of(path, src), path) for path in find(src, (".parquet", *READABLE))), _SHARD)

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every row of a file, Parquet or JSON lines."""
        path: Path = unit.payload
        if path.suffix == ".parquet":
            rows = parquet_rows(path, _NEEDED, self.batch_rows)
        else:
            rows = json_rows(Packed(path), self.max_line_nbytes)
        for index, found in enumerate(rows):
            yield self._row(found, unit.name, document_id("omnicorpus", unit.name, index))

    def _row(self, found: Found, file: str, id: str) -> Row:
        make = partial(self._document, found.fields, id)
        return row(f"{file}{found.place}", found.nbytes, slots.entries(found.fields), make)

    def _document(self, fields: Fields, id: str) -> tuple[Document, tuple[SourceError, ...]]:
        if isinstance(fields, SourceError):
            raise fields
        found = slots.slots(fields, _BLANK)
        fields = rest(fields, _NEEDED | _NESTED.keys()) | _nested(fields)
        facts, meta = slots.deal(found, fields, _PER_IMAGE)
        page = meta.get("general_metadata", {}).get("url")
        page = page if isinstance(page, str) and page else None
        items, lost = slots.items(found, lambda _, k, url: slots.linked(url, page, facts[k], _FACTS))
        return Document(id, "omnicorpus", items, page, self.license, dump(meta)), lost


def _nested(fields: dict[str, Any]) -> dict[str, Any]:
    """The nested columns that say something."""
    values = {key: slots.json_of(fields, key, kind) for key, kind in _NESTED.items()}
    return {key: value for key, value in values.items() if value}
