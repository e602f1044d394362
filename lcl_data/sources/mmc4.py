"""MMC4 (Zhu et al. 2023, arXiv 2304.06939): sentences, and images assigned to them by CLIP similarity.

Reads every published layout: `docs_shard_{i}_v2.jsonl.zip` with its variants, plain or gzipped lines, and
zips of such files, as the mirrors have them.
"""

import re
from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from lcl_data.archives import READABLE, Packed, members
from lcl_data.links import absolute
from lcl_data.rows import Fields, Found, json_rows
from lcl_data.sources import (
    Row,
    Source,
    dump,
    find,
    name_of,
    need,
    numbered,
    ranges,
    repeated,
    rest,
    row,
)
from lcl_data.stage import Unit
from schemas.documents import Document, Image, Item, document_id
from schemas.errors import ShardError, SourceError

_SHARD = re.compile(r"docs_(?:no_face_)?shard_(?P<number>\d{1,9})_v\d+\.jsonl(?:\.zip|\.gz)?\Z")
# Shards that upstream never had, in any subset (allenai/mmc4, README "Missing data" and issues 1 and 16).
NEVER_EXISTED = frozenset(
    (3218, 3267, 5064, 5146, 7119, 8991, 9750, 11899, 15127, 15252, 16996, 17369, 17499, 17818)
)
_IMAGE_COLUMNS = frozenset(("raw_url", "matched_text_index", "matched_sim"))
_COLUMNS = frozenset(("text_list", "image_info", "url"))


class Mmc4(Source):
    """Documents of MMC4 in canonical order: an image stands directly before its sentence.

    Images come sorted by (matched_text_index, place in image_info), because upstream's image_info is in no
    order. An image that points outside the text or at no fetchable URL is rejected alone; a document of
    which no text and no image remains is rejected. Special-token strings in the text stay text.
    """

    max_line_nbytes: int = Field(
        64 << 20, gt=0, description="a longer line is rejected unread; bounds the memory of a worker"
    )

    def units(self, src: Path) -> list[Unit]:
        """One unit per shard; a zip of shards gives one per member."""
        named = (pair for path in find(src, READABLE) for pair in _shards(path, name_of(path, src)))
        return numbered(named, _SHARD)

    def notes(self, units: list[Unit]) -> list[str]:
        """Which shard numbers are missing, and which are there twice."""
        numbers = {int(found["number"]) for unit in units if (found := _SHARD.search(unit.name))}
        gaps = set(range(min(numbers, default=0), max(numbers, default=-1) + 1)) - numbers
        twice = repeated(units, _SHARD)
        return [
            *([f"missing shard numbers: {ranges(gaps - NEVER_EXISTED)}"] if gaps - NEVER_EXISTED else []),
            *([f"never existed upstream: {ranges(gaps & NEVER_EXISTED)}"] if gaps & NEVER_EXISTED else []),
            *([f"same shard number, all read: {', '.join(twice)}"] if twice else []),
        ]

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every line of a shard."""
        for index, found in enumerate(json_rows(unit.payload, self.max_line_nbytes)):
            yield self._row(found, unit.name, document_id("mmc4", unit.name, index))

    def _row(self, found: Found, file: str, id: str) -> Row:
        fields = found.fields
        infos = None if isinstance(fields, SourceError) else fields.get("image_info")
        images = len(infos) if isinstance(infos, list) else 0
        return row(f"{file}{found.place}", found.nbytes, images, partial(self._document, fields, id))

    def _document(self, fields: Fields, id: str) -> tuple[Document, tuple[SourceError, ...]]:
        if isinstance(fields, SourceError):
            raise fields
        texts, infos = need(fields, "text_list", list), need(fields, "image_info", list)
        page = need(fields, "url", str)
        if not {*map(type, texts)} <= {str}:
            raise SourceError("bad_type", "text_list holds something that is no string")
        matrix = fields.get("similarity_matrix")
        rows = matrix if isinstance(matrix, list) and len(matrix) == len(infos) else None
        images: list[Image] = []
        lost = []
        for index, info in enumerate(infos):
            try:
                images.append(_image(info, page, len(texts), rows[index] if rows else None))
            except SourceError as error:
                lost.append(SourceError(error.reason, f"image_info[{index}]: {error.detail}"))
        items = _woven(texts, images)
        if not items:
            raise SourceError("empty", "no text and no image")
        used = _COLUMNS | {"similarity_matrix"} if rows is not None else _COLUMNS
        return Document(id, "mmc4", tuple(items), page, self.license, dump(rest(fields, used))), tuple(lost)


def _shards(path: Path, name: str) -> Iterator[tuple[str, Packed]]:
    """(name, payload) of each shard in a file; only a zip that is not itself a shard is opened for it."""
    if path.suffix == ".zip" and not _SHARD.search(name):
        try:
            inside = members(path)
        except ShardError:
            inside = []  # fails again, alone, when it is read
        if len(inside) > 1 and len(set(inside)) == len(inside):  # else its members have no names of their own
            yield from ((f"{name}/{member}", Packed(path, member)) for member in inside)
            return
    yield name, Packed(path)


def _woven(texts: list[str], images: list[Image]) -> list[Item]:
    """Every image directly before its sentence; those of one sentence in the order they came in."""
    items: list[Item] = []
    start = 0
    for image in sorted(images, key=attrgetter("anchor")):
        items += texts[start : image.anchor]
        items.append(image)
        start = cast(int, image.anchor)  # MMC4 assigns every image
    return items + texts[start:]


def _image(info: Any, page: str, texts: int, similarities: Any) -> Image:
    """An entry of image_info; `similarities` is its row of the similarity matrix."""
    if not isinstance(info, dict):
        raise SourceError("not_an_object", type(info).__name__)
    raw = need(info, "raw_url", str)
    anchor = need(info, "matched_text_index", int)
    if not 0 <= anchor < texts:
        raise SourceError("anchor_out_of_range", f"matched_text_index {anchor} of {texts} texts")
    similarity = info.get("matched_sim")
    if similarity is not None:
        similarity = float(need(info, "matched_sim", (int, float)))
    url = absolute(raw, page)
    if url is None:
        raise SourceError("bad_url", raw[:200])
    meta = rest(info, _IMAGE_COLUMNS)
    if similarities is not None:
        meta["similarities"] = similarities
    if url != raw:
        meta["raw_url"] = raw
    return Image(url=url, anchor=anchor, similarity=similarity, meta=dump(meta))
