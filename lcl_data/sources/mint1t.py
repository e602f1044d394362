"""MINT-1T (Awadalla et al. 2024, arXiv 2406.11271): HTML as Parquet with URLs, PDF and ArXiv as tars.

A file's ending says which it is. In a tar a document is `<key>.json` and `<key>.tiff`, whose frames are its
pictures: they are carried, not fetched.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from lcl_data import files, slots
from lcl_data.carriers import Carrier, carried_url
from lcl_data.rows import Fields, Found, json_fields, parquet_rows
from lcl_data.sources import Row, Source, dump, find, name_of, numbered, parse, rest, row
from lcl_data.stage import Unit
from lcl_data.tars import Member, samples
from lcl_data.tiff import Frame, Tiff, frames
from schemas.documents import Document, Image, document_id
from schemas.errors import ImageError, SourceError

# `shard_018_part_003` has two numbers, so that neither alone is the file's.
_SHARD = re.compile(r"(?:\A|/)(?:shard_|.*-)(?P<number>\d{1,9})\.(?:parquet|tar)\Z")
_NEEDED = frozenset(("images", "texts"))
_NESTED = ("metadata", "images_metadata")  # strings in some revisions, nested in others
_PER_IMAGE = {"images_metadata": "", "image_hashes": "image_hash"}
_FACTS = {"width": "width", "height": "height"}
_REFERENCE = re.compile(r"page_(\d{1,9})_image_(\d{1,9})")
_TIFFS = ("tiff", "tif")


class Mint1t(Source):
    """Documents of MINT-1T in their own order; exactly one of images[i] and texts[i] is set.

    HTML: `images_metadata` and `image_hashes` belong to the pictures if their length says so, else they stay
    in the document's meta. PDF and ArXiv: frame k of the TIFF is the k-th picture of `images` (issue 9 of
    upstream's repository), told only if there are as many frames as pictures; else, as in the tenth of the
    PDFs that upstream took back, no picture's frame is known and they are rejected, the text kept. Facts of
    `image_metadata` are found by page and xref; their sha256 is of bytes before upstream made TIFFs of them.
    """

    batch_rows: int = Field(100, gt=0, description="rows of Parquet decoded at a time; bounds the memory")
    max_json_nbytes: int = Field(64 << 20, gt=0, description="a longer JSON of a document is rejected unread")

    def units(self, src: Path) -> list[Unit]:
        """One unit per file."""
        return numbered(((name_of(path, src), path) for path in find(src, (".parquet", ".tar"))), _SHARD)

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every row of a Parquet file, every sample of a tar."""
        path: Path = unit.payload
        if path.suffix == ".parquet":
            pages = parquet_rows(path, _NEEDED, self.batch_rows)
            rows = ((found, partial(self._page, found.fields)) for found in pages)
        else:
            papers = _papers(path, unit.name, self.max_json_nbytes)
            rows = ((found, partial(self._paper, found.fields, stack)) for found, stack in papers)
        for index, (found, make) in enumerate(rows):
            id = document_id("mint1t", unit.name, index)
            place = f"{unit.name}{found.place}"
            yield row(place, found.nbytes, slots.entries(found.fields), partial(make, id))

    def _page(self, fields: Fields, id: str) -> tuple[Document, tuple[SourceError, ...]]:
        """A document of HTML."""
        if isinstance(fields, SourceError):
            raise fields
        found = slots.slots(fields)
        page = _url(fields)
        facts, meta = slots.deal(found, _meta(fields, page), _PER_IMAGE)
        items, lost = slots.items(found, lambda _, k, url: slots.linked(url, page, facts[k], _FACTS))
        return Document(id, "mint1t", items, page, self.license, dump(meta)), lost

    def _paper(self, fields: Fields, stack: "_Stack", id: str) -> tuple[Document, tuple[SourceError, ...]]:
        """A document of PDF or ArXiv."""
        if isinstance(fields, SourceError):
            raise fields
        found = slots.slots(fields)
        page = _url(fields)
        meta = _meta(fields, page) | ({"other_members": stack.others} if stack.others else {})
        facts, meta = _by_reference([image for image, _ in found if image is not None], meta)
        pictures = stack.frames(len(facts))
        items, lost = slots.items(
            found,
            lambda _, number, name: stack.picture(number, pictures, {"reference": name} | facts[number]),
        )
        return Document(id, "mint1t", items, page, self.license, dump(meta)), lost


@dataclass(frozen=True, slots=True)
class _Stack:
    """The pictures of a document in a tar.

    Attributes:
        path: of the tar.
        file: its name, as ids and rejects have it.
        tiff: whose frames they are; None where the sample has none.
        others: names of members that are neither JSON nor TIFF.
    """

    path: Path
    file: str
    tiff: Member | None
    others: list[str]

    def frames(self, count: int) -> list[Frame] | SourceError:
        """The frames of `count` pictures, or why it is not known which are theirs."""
        if not count:
            return []
        if self.tiff is None:
            return SourceError("no_tiff", "the sample has no TIFF")
        try:
            with files.opened(self.path, is_near=True) as file:
                found = list(islice(frames(Tiff(file, self.tiff.offset, self.tiff.nbytes)), count + 1))
        except ImageError as error:
            return SourceError("broken_tiff", str(error))
        if len(found) != count:
            more = "more than " if len(found) > count else ""
            return SourceError(
                "frames_mismatch", f"{more}{min(len(found), count)} frames for {count} pictures"
            )
        return found

    def picture(self, number: int, found: list[Frame] | SourceError, meta: dict[str, Any]) -> Image:
        """Picture `number` of the document, to be read from its frame."""
        if isinstance(found, SourceError) or self.tiff is None:
            raise found if isinstance(found, SourceError) else SourceError("no_tiff")
        carrier = Carrier(str(self.path.resolve()), self.tiff.offset, self.tiff.nbytes, number)
        sides = {"width": found[number].width or None, "height": found[number].height or None}
        known, _ = slots.columns(sides, _FACTS)
        # With its place, because a tar may hold two members of one name.
        url = carried_url(self.file, f"{self.tiff.name}@{self.tiff.offset}#{number}")
        return Image(url=url, format="tiff", meta=dump(meta), carrier=str(carrier), **known)


def _papers(path: Path, name: str, max_json_nbytes: int) -> Iterator[tuple[Found, _Stack]]:
    """Every sample of a tar: its JSON, and where its pictures are."""
    with files.opened(path) as file:
        for key, group in samples(path):
            texts = [member for member in group if member.part == "json"]
            tiffs = [member for member in group if member.part in _TIFFS]
            others = [member.name for member in group if member not in (*texts, *tiffs)]
            stack = _Stack(path, name, tiffs[0] if tiffs else None, others)
            if len(texts) != 1 or len(tiffs) > 1:
                detail = f"{len(texts)} json and {len(tiffs)} tiff"
                yield Found(f"!{key}", 0, SourceError("broken_sample", detail)), stack
                continue
            (text,) = texts
            file.seek(text.offset)
            content = file.read(text.nbytes) if text.nbytes <= max_json_nbytes else None
            yield Found(f"!{text.name}", text.nbytes, json_fields(content, max_json_nbytes)), stack


def _url(fields: dict[str, Any]) -> str | None:
    url = fields.get("url")
    return url if isinstance(url, str) and url else None


def _meta(fields: dict[str, Any], page: str | None) -> dict[str, Any]:
    """The fields without a column; a string of JSON as its value, because revisions have one or the other."""
    meta = rest(fields, _NEEDED | {"url"} if page else _NEEDED)
    for key in _NESTED:
        if isinstance(meta.get(key), str):
            with suppress(SourceError):
                value = parse(meta[key], key)
                meta[key] = value if isinstance(value, dict | list) else meta[key]
    return meta


def _by_reference(references: list[str], meta: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The entry of `image_metadata` of each picture, told by page and xref: on one page the entries may stand
    in another order than the pictures. Unless each entry finds a picture, the list stays in `meta` too.
    """
    entries = meta.get("image_metadata")
    entries = entries if isinstance(entries, list) else []
    places = [_place(entry) for entry in entries]
    often = Counter(places)
    known = {
        place: entry for place, entry in zip(places, entries, strict=True) if place and often[place] == 1
    }
    matches = [_REFERENCE.fullmatch(name) for name in references]
    wanted = [(int(match[1]), int(match[2])) if match else None for match in matches]
    facts = [{"image_metadata": known[place]} if place in known else {} for place in wanted]
    used = known.keys() & set(wanted)
    return facts, rest(meta, frozenset(("image_metadata",))) if len(used) == len(entries) > 0 else meta


def _place(entry: Any) -> tuple[int, int] | None:
    """Page and xref of an entry of `image_metadata`."""
    page, xref = (entry.get("page"), entry.get("xref")) if isinstance(entry, dict) else (None, None)
    return (page, xref) if type(page) is int and type(xref) is int else None
