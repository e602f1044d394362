"""WebDataset tars: pairs (a picture and its caption, by key), and interleaved samples with parallel lists.

Headers and texts are read; pictures stay where they lie, and `lcl download` takes them from there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field

from lcl_data import files, slots
from lcl_data.carriers import Carrier, carried_url
from lcl_data.links import absolute
from lcl_data.pairs import brought, is_web
from lcl_data.rows import Fields, json_fields
from lcl_data.sources import Row, Source, dump, find, name_of, numbered, rest, row
from lcl_data.stage import Unit
from lcl_data.tars import Member, key_to_last_dot, samples
from schemas.documents import Document, Image, document_id
from schemas.errors import ShardError, SourceError

_SHARD = re.compile(r"(?P<number>\d{1,9})[^/0-9]*\Z")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_PICTURES = frozenset(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"))
_WRITTEN = frozenset(("txt", "text", "caption", "cls", "json"))  # members that are read, and kept in meta
_LISTS = frozenset(("images", "texts"))
_BLANK = frozenset(("", "<image>"))
# What `lcl shard` computes from items and pictures, and will compute again.
_OURS = frozenset(("schema", "special_tokens", "tokens", "anchors", "anchor_texts", "image_keys"))


@dataclass(frozen=True, slots=True)
class _Sample:
    """A sample, its small members read.

    Attributes:
        path: of the tar.
        file: name of the tar, as ids and rejects have it.
        key: of the sample.
        members: by what they are in the sample, in order.
        texts: contents of those that are read.
        fields: of its JSON; empty where it has none.
        flaw: why it cannot be used as a whole.
    """

    path: Path
    file: str
    key: str
    members: dict[str, Member]
    texts: dict[str, str]
    fields: Fields
    flaw: SourceError | None

    @property
    def is_interleaved(self) -> bool:
        """Whether its JSON has OBELICS' parallel lists."""
        fields = self.fields
        return isinstance(fields, dict) and all(isinstance(fields.get(name), list) for name in _LISTS)

    @property
    def pictures(self) -> list[Member]:
        """Its pictures, by their endings."""
        return [m for part, m in self.members.items() if part.rpartition(".")[2] in _PICTURES]

    def carrier(self, member: Member) -> Carrier:
        """Where a picture lies."""
        return Carrier(str(self.path.resolve()), member.offset, member.nbytes)

    def url(self, member: Member) -> str:
        """The URL of a picture for which upstream has none; with its place, as a tar may repeat a name."""
        return carried_url(self.file, f"{member.name}@{member.offset}")


class Webdataset(Source):
    """Samples of WebDataset as documents; one without a caption, or without a picture, is rejected.

    A sample whose JSON has the parallel lists `texts` and `images` is an interleaved document in their order
    (our own shards, Energon's, OBELICS-like packs): an image entry names a member of the sample, or is a URL.
    Every other sample is a pair: its pictures in the order of the tar, then the caption, to which they
    belong. The caption is the first of `caption_parts` that is there, else `caption` or `text` of the JSON.
    Everything else that is written beside goes to meta. Links and sparse files have no bytes of their own in
    the tar: their sample is rejected.
    """

    key: Literal["first_dot", "last_dot"] = Field(
        "first_dot",
        description="where a member's key ends: WebDataset's rule, or for keys that hold dots the last one",
    )
    caption_parts: tuple[str, ...] = Field(
        ("txt", "text", "caption"), description="endings of members that hold a caption; such as cls, too"
    )
    max_text_nbytes: int = Field(16 << 20, gt=0, description="a longer text or JSON is rejected unread")

    @property
    def _captions(self) -> tuple[str, ...]:
        """The endings as members have them: in lower case, without a dot before them."""
        return tuple(part.lower().removeprefix(".") for part in self.caption_parts)

    def units(self, src: Path) -> list[Unit]:
        """One unit per tar."""
        return numbered(((name_of(path, src), path) for path in find(src, (".tar", *_PACKED))), _SHARD)

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every sample of a tar."""
        path: Path = unit.payload
        if path.name.endswith(_PACKED):
            raise ShardError(
                f"{path}: packed as a whole, so that no picture has a place in it; unpack it to a plain .tar"
            )
        with files.opened(path) as file:
            for index, (key, members) in enumerate(self._samples(path)):
                sample = self._sample(path, unit.name, key, members, file)
                yield self._row(sample, document_id("webdataset", unit.name, index))

    def _samples(self, path: Path) -> Iterator[tuple[str, list[Member]]]:
        if self.key == "last_dot":
            return samples(path, key_to_last_dot, odd=True)
        return samples(path, odd=True)

    def _sample(self, path: Path, file: str, key: str, members: list[Member], tar: BinaryIO) -> _Sample:
        parts = {member.name[len(key) + 1 :].lower(): member for member in members}
        flaw = None
        if odd := [member for member in members if member.odd]:
            flaw = SourceError("link", f"{odd[0].name} is a {odd[0].odd}; make the tar without such")
        elif len(parts) < len(members):
            flaw = SourceError("repeated_member", f"{len(members)} members, {len(parts)} names")
        texts: dict[str, str] = {}
        fields: Fields = {}
        for part, member in parts.items():
            is_written = part in self._captions or part.rpartition(".")[2] in _WRITTEN
            if member.odd or not is_written:
                continue
            tar.seek(member.offset)
            content = tar.read(member.nbytes) if member.nbytes <= self.max_text_nbytes else None
            if part == "json":
                fields = json_fields(content, self.max_text_nbytes)
                continue
            try:
                texts[part] = (content or b"").decode()
            except UnicodeDecodeError as error:
                flaw = flaw or SourceError("not_utf8", f"{member.name}: {error}")
            if content is None:
                flaw = flaw or SourceError("line_too_long", f"{member.name} has {member.nbytes} bytes")
        return _Sample(path, file, key, parts, texts, fields, flaw)

    def _row(self, sample: _Sample, id: str) -> Row:
        images = slots.entries(sample.fields) if sample.is_interleaved else len(sample.pictures)
        nbytes = 1000 + 3 * sum(map(len, sample.texts.values())) + _nbytes(sample)
        return row(f"{sample.file}!{sample.key}", nbytes, images, partial(self._document, sample, id))

    def _document(self, sample: _Sample, id: str) -> tuple[Document, tuple[SourceError, ...]]:
        if sample.flaw or isinstance(sample.fields, SourceError):
            raise sample.flaw or sample.fields  # type: ignore[misc]  # it is one of the two
        if sample.is_interleaved:
            return self._interleaved(sample, sample.fields, id)
        return self._pair(sample, sample.fields, id), ()

    def _interleaved(
        self, sample: _Sample, fields: dict[str, Any], id: str
    ) -> tuple[Document, tuple[SourceError, ...]]:
        found = slots.slots(fields, _BLANK)
        is_ours = str(fields.get("schema", "")).startswith("sequences/")
        anchors = _anchors(fields, slots.entries(fields)) if is_ours else {}
        items, lost = slots.items(
            found, lambda _, number, name: _named(sample, name)._replace(anchor=anchors.get(number))
        )
        page = fields.get("url") if isinstance(fields.get("url"), str) else None
        meta = rest(fields, _LISTS | {"url"} | (_OURS if is_ours else frozenset()))
        return Document(id, "webdataset", items, page, self.license, dump(_meta(sample, "") | meta)), lost

    def _pair(self, sample: _Sample, fields: dict[str, Any], id: str) -> Document:
        pictures = sample.pictures
        caption, used = self._caption(sample, fields)
        if not pictures:
            raise SourceError("no_picture", f"members: {', '.join(sample.members)}")
        facts = rest(fields, frozenset((used,)))
        if len(pictures) == 1:
            images = [brought(facts, sample.carrier(pictures[0]), sample.url(pictures[0]))]
            facts = {}
        else:
            images = [brought({}, sample.carrier(picture), sample.url(picture)) for picture in pictures]
        meta = dump(facts | _meta(sample, used))
        return Document(id, "webdataset", (*images, caption), license=self.license, meta=meta)

    def _caption(self, sample: _Sample, fields: dict[str, Any]) -> tuple[str, str]:
        """The caption, and the member or field that holds it."""
        for part in self._captions:
            if (text := sample.texts.get(part, "")).strip():
                return text, part
        for name in ("caption", "text"):
            if isinstance(value := fields.get(name), str) and value.strip():
                return value, name
        dotted = [part for part in sample.members if "." in part and part.rpartition(".")[2] in _WRITTEN]
        if len(dotted) > 1 and self.key == "first_dot":
            raise SourceError(
                "dotted_keys",
                f"{', '.join(dotted[:3])} share one key; set source.key=last_dot if keys hold dots",
            )
        raise SourceError("no_caption", f"members: {', '.join(sample.members)}"[:200])


def _named(sample: _Sample, name: str) -> Image:
    """The picture that an image entry of a JSON means: a member by part or name, or a URL."""
    base = {member.name.rpartition("/")[2]: member for member in sample.members.values()}
    member = sample.members.get(name.lower()) or base.get(name.rpartition("/")[2])
    if member is not None:
        return Image(url=sample.url(member), carrier=str(sample.carrier(member)))
    if is_web(name) and (address := absolute(name, None)):
        return Image(url=address)
    raise SourceError("missing_member", f"no member {name[:200]}")


def _anchors(fields: dict[str, Any], pictures: int) -> dict[int, int]:
    """To which text each picture of a sample of ours belongs.

    Raises:
        SourceError: `bad_type`.
    """
    anchors = fields.get("anchor_texts", [None] * pictures)
    if not isinstance(anchors, list) or len(anchors) != pictures:
        raise SourceError("bad_type", f"anchor_texts is no list of {pictures}")
    if not all(anchor is None or type(anchor) is int for anchor in anchors):
        raise SourceError("bad_type", "anchor_texts holds something that is no index")
    return {number: anchor for number, anchor in enumerate(anchors) if anchor is not None}


def _meta(sample: _Sample, used: str) -> dict[str, Any]:
    """The key, texts that are no caption, and the names of members that are neither text nor picture."""
    texts = {part: text for part, text in sample.texts.items() if part != used}
    known = {*sample.texts, "json", *(m.name[len(sample.key) + 1 :].lower() for m in sample.pictures)}
    others = [member.name for part, member in sample.members.items() if part not in known]
    return {"key": sample.key} | texts | ({"members": others} if others else {})


def _nbytes(sample: _Sample) -> int:
    member = sample.members.get("json")
    return member.nbytes if member else 0
