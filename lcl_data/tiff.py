"""The frames of a TIFF without decoding any: how large each is, and one of them as a file of its own.

A document's pictures may be the frames of one TIFF (MINT-1T). Whoever wants one picture then reads that
picture's bytes only, and the pixels are decoded where all pictures of strangers are: in a worker, with caps.
The bytes are a stranger's here too: every offset and count is held against the length before it is used.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from schemas.errors import ImageError

_WIDTH, _HEIGHT = 256, 257
_DATA = {273: 279, 324: 325}  # where strips or tiles lie: how long they are
# Places of things that are no pixels of this frame: further IFDs (SubIFDs, EXIF, GPS) and the JPEG of the old
# style, which TIFF 6.0 itself gave up.
_POINTERS = frozenset((330, 513, 514, 34665, 34853, 40965))
_NBYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_TAGS = 4096  # a baseline TIFF has a dozen, a rich one a hundred


@dataclass(frozen=True, slots=True)
class Tiff:
    """A TIFF that lies somewhere in a file.

    Attributes:
        file: open for reading.
        offset: of the TIFF's first byte in it.
        nbytes: of the TIFF.
    """

    file: BinaryIO
    offset: int
    nbytes: int

    def read(self, start: int, nbytes: int) -> bytes:
        """Bytes at an offset that the TIFF names.

        Raises:
            ImageError: `truncated`, they do not all lie in it.
        """
        if start < 0 or nbytes < 0 or start + nbytes > self.nbytes:
            raise ImageError("truncated", f"names {nbytes} bytes at {start} of {self.nbytes}")
        self.file.seek(self.offset + start)
        found = self.file.read(nbytes)
        if len(found) < nbytes:
            raise ImageError("truncated", f"ends at byte {start + len(found)} of {self.nbytes}")
        return found


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a TIFF.

    Attributes:
        layout: of the TIFF's numbers.
        tags: its directory.
        width: pixels; 0 where it does not say.
        height: pixels; 0 where it does not say.
    """

    layout: "_Layout"
    tags: tuple["_Tag", ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Layout:
    order: str  # of bytes, as struct has it
    is_big: bool  # BigTIFF: 64-bit offsets

    @property
    def word(self) -> str:
        return f"{self.order}{'Q' if self.is_big else 'I'}"

    @property
    def count(self) -> str:
        return f"{self.order}{'Q' if self.is_big else 'H'}"

    @property
    def inline(self) -> int:
        return 8 if self.is_big else 4

    @property
    def header(self) -> bytes:
        """Of a TIFF whose first directory follows at once."""
        mark = b"II" if self.order == "<" else b"MM"
        if self.is_big:
            return mark + struct.pack(f"{self.order}HHHQ", 43, 8, 0, 16)
        return mark + struct.pack(f"{self.order}HI", 42, 8)


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    kind: int
    count: int
    value: bytes  # the field as it stands: the values, or where they lie

    @property
    def nbytes(self) -> int:
        """Of its values."""
        return _NBYTES.get(self.kind, 0) * self.count


def frames(tiff: Tiff) -> Iterator[Frame]:
    """The frames in order, as they are found; a chain of directories that bites its tail ends there.

    Raises:
        ImageError: `not_an_image`, `truncated` or `broken_image`.
    """
    layout, place = _header(tiff)
    seen = set()
    while place and place not in seen:
        seen.add(place)
        frame, place = _frame(tiff, layout, place)
        yield frame


def single(tiff: Tiff, frame: Frame, max_nbytes: int) -> bytes:
    """A TIFF that holds one frame of another, its compressed pixels untouched.

    Args:
        tiff: with the frame.
        frame: of `frames(tiff)`.
        max_nbytes: of the answer.

    Raises:
        ImageError: `truncated`, `broken_image` or `too_large`.
    """
    layout = frame.layout
    tags = {tag.number: tag for tag in frame.tags if tag.kind in _NBYTES and tag.number not in _POINTERS}
    where = next((number for number in _DATA if number in tags), 0)
    if not where or _DATA[where] not in tags:
        raise ImageError("broken_image", "a frame that does not say where its pixels lie")
    room = max_nbytes - sum(tag.nbytes for tag in tags.values())
    if room < 0:
        raise ImageError("too_large", f"a directory of more than {max_nbytes} bytes")
    starts, sizes = _numbers(tiff, layout, tags[where]), _numbers(tiff, layout, tags[_DATA[where]])
    if len(starts) != len(sizes):
        raise ImageError("broken_image", f"{len(starts)} strips, {len(sizes)} lengths")
    if sum(sizes) > room:
        raise ImageError("too_large", f"a frame of more than {max_nbytes} bytes")
    values = {number: _value(tiff, layout, tag) for number, tag in tags.items()}
    pixels = [tiff.read(start, size) for start, size in zip(starts, sizes, strict=True)]
    return _assembled(layout, list(tags.values()), values, where, pixels)


def _header(tiff: Tiff) -> tuple[_Layout, int]:
    mark = tiff.read(0, 4) if tiff.nbytes >= 8 else b""
    order = {b"II": "<", b"MM": ">"}.get(mark[:2])
    version = struct.unpack(f"{order}H", mark[2:])[0] if order else 0
    if order is None or version not in (42, 43):
        raise ImageError("not_an_image", f"no TIFF: starts with {mark!r}")
    layout = _Layout(order, version == 43)
    return layout, struct.unpack(layout.word, tiff.read(8 if layout.is_big else 4, layout.inline))[0]


def _frame(tiff: Tiff, layout: _Layout, place: int) -> tuple[Frame, int]:
    """The frame whose directory is at `place`, and where the next one's is."""
    wide = struct.calcsize(layout.count)
    (count,) = struct.unpack(layout.count, tiff.read(place, wide))
    if count > _MOST_TAGS:
        raise ImageError("broken_image", f"a directory of {count} tags")
    entry = struct.Struct(f"{layout.order}HH{'Q' if layout.is_big else 'I'}{layout.inline}s")
    directory = tiff.read(place + wide, count * entry.size)
    tags = tuple(_Tag(*fields) for fields in entry.iter_unpack(directory))
    (following,) = struct.unpack(layout.word, tiff.read(place + wide + len(directory), layout.inline))
    sides = {tag.number: _side(layout, tag) for tag in tags if tag.number in (_WIDTH, _HEIGHT)}
    return Frame(layout, tags, sides.get(_WIDTH, 0), sides.get(_HEIGHT, 0)), following


def _side(layout: _Layout, tag: _Tag) -> int:
    """Of a frame, in pixels; 0 where the field holds no single number."""
    number = _NUMBERS.get(tag.kind, "")
    if tag.count != 1 or not number or tag.nbytes > layout.inline:
        return 0
    side: int = struct.unpack_from(f"{layout.order}{number}", tag.value)[0]
    return side


def _value(tiff: Tiff, layout: _Layout, tag: _Tag) -> bytes:
    """The values of a tag, wherever they lie."""
    nbytes = tag.nbytes
    if nbytes <= layout.inline:
        return tag.value[:nbytes]
    return tiff.read(struct.unpack(layout.word, tag.value)[0], nbytes)


def _numbers(tiff: Tiff, layout: _Layout, tag: _Tag) -> Sequence[int]:
    if tag.kind not in _NUMBERS:
        raise ImageError("broken_image", f"tag {tag.number} is of type {tag.kind}")
    return struct.unpack(f"{layout.order}{tag.count}{_NUMBERS[tag.kind]}", _value(tiff, layout, tag))


def _assembled(
    layout: _Layout, tags: Sequence[_Tag], values: dict[int, bytes], where: int, pixels: Sequence[bytes]
) -> bytes:
    """Header, directory, the values that do not fit into it, the pixels."""
    word = struct.calcsize(layout.word)
    begin = len(layout.header) + struct.calcsize(layout.count) + len(tags) * (4 + 2 * word) + word
    loose = [values[tag.number] for tag in tags if tag.number != where]
    loose = [value for value in loose if len(value) > layout.inline]
    places = len(pixels) * word  # of the new list of offsets
    first = begin + sum(map(len, loose)) + (places if places > layout.inline else 0)
    starts = [first]
    for piece in pixels:
        starts.append(starts[-1] + len(piece))
    values = values | {where: struct.pack(f"{layout.order}{len(pixels)}{layout.word[1]}", *starts[:-1])}
    directory: list[bytes] = []
    rest: list[bytes] = []
    for tag in tags:
        value = values[tag.number]
        kind, count = (
            ((16 if layout.is_big else 4), len(pixels)) if tag.number == where else (tag.kind, tag.count)
        )
        field = value.ljust(layout.inline, b"\0")
        if len(value) > layout.inline:
            field = struct.pack(layout.word, begin + sum(map(len, rest)))
            rest.append(value)
        directory.append(struct.pack(f"{layout.order}HH{layout.word[1]}", tag.number, kind, count) + field)
    head = layout.header + struct.pack(layout.count, len(tags))
    return b"".join((head, *directory, struct.pack(layout.word, 0), *rest, *pixels))
