"""Records of web archives: WARC 0.18 to 1.1 and ARC 1, plain or gzip, whole or torn, at one record's memory.

Ours and not a library's, because none tells where an archive is torn and goes on behind the tear: warcio
stops; fastwarc 2.0 (2.8 times as fast at records, which are the small part of the work on pages) ends in
silence at a cut, and reads no ARC.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lcl_data import files
from lcl_data.record_bytes import BLOCK, GZIP, MAX_LINE, Member, Plain, Reader, Torn, reader_at
from schemas.errors import ShardError

Headers = dict[str, str]
_MAX_BLOCK = 1 << 20  # also of zeros between records or behind them: more is a hole, or no download yet
_OVERLAP = 64  # bytes in which a record's beginning can be told
_MAX_HEADERS = 1000
_MAX_DIGITS = 19
_BLANK = b"\r\n \0"
_PLAIN_START = re.compile(rb"(?<=\n)(?=WARC/\d\.\d+\r?\n)")
_WARC_LINE = re.compile(rb"WARC/\d\.\d+\s*\Z")
# URL, address, 14 digits of date, type, ..., length (ARC 1: 5 fields, ARC 2: 10)
_ARC_LINE = re.compile(
    rb"([a-z][a-z0-9+.-]*:\S*) (\S+) (\d{4,14}) (\S*)(?: \S+){0,5} (\d{1,18})\s*\Z", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        offset: in the file, from which it can be read alone; None in the middle of a gzip member.
        headers: of the record by name in lower case; those of ARC under WARC's names.
        nbytes: of its block, as declared.
        block: its first bytes, as many as were wanted.
    """

    offset: int | None
    headers: Headers
    nbytes: int
    block: bytes


@dataclass(frozen=True, slots=True)
class Tear:
    """A place where no record could be read; the next one found behind it follows."""

    offset: int
    detail: str


Wanted = Callable[[Headers], int]


def records(path: Path, wanted: Wanted) -> Iterator[Record | Tear]:
    """Every record of an archive, and every tear.

    Args:
        path: of the file.
        wanted: how many bytes of a record's block are kept, by its headers.

    Raises:
        ShardError: it is no web archive.
    """
    with files.opened(path, buffering=1 << 18) as file:
        is_packed = file.read(3) == GZIP
        first = record_start(file, 0)
        if not first:
            raise ShardError(f"{path}: no WARC or ARC file; download it again or leave it out")
        yield from _packed(file, wanted) if is_packed else _plain(file, wanted)


def record_at(file: BinaryIO, offset: int, max_nbytes: int) -> Record | None:
    """The record that can be read alone at an offset; None if there is none, or no whole one.

    Args:
        file: an archive.
        offset: as in a `Record`.
        max_nbytes: of its block that are kept.
    """
    try:
        reader = reader_at(file, offset)
        if (headers := _head(reader)) is None:
            return None
        nbytes = _length(headers)
        block = reader.take(min(nbytes, max_nbytes))
    except Torn:
        return None
    return Record(offset, headers, nbytes, block) if len(block) == min(nbytes, max_nbytes) else None


def record_start(file: BinaryIO, offset: int) -> bool:
    """Whether a record begins at an offset."""
    try:
        line = reader_at(file, offset).line()
    except Torn:
        return False
    return bool(_WARC_LINE.match(line) or _ARC_LINE.match(line))


def _plain(file: BinaryIO, wanted: Wanted) -> Iterator[Record | Tear]:
    reader = Plain(file, 0)
    while True:
        begin = file.tell()
        offset = _start(file)
        if offset - begin >= _MAX_BLOCK:
            yield Tear(begin, f"{offset - begin} bytes of nothing")
        try:
            record = _record(reader, offset, wanted)
        except Torn as torn:
            yield Tear(offset, str(torn))
            if not _behind(file, offset + 1, _is_plain_start):
                return
            continue
        if record is None:
            return
        yield record


def _start(file: BinaryIO) -> int:
    """Go to the next line that is not blank."""
    at = file.tell()
    while (line := file.readline(MAX_LINE)) and not line.strip(_BLANK):
        at = file.tell()
    return file.seek(at)


def _packed(file: BinaryIO, wanted: Wanted) -> Iterator[Record | Tear]:
    offset = 0
    while True:
        file.seek(offset)
        magic = file.read(3)
        rest = b"" if magic.strip(b"\0") else file.read(_MAX_BLOCK)
        if len(rest) < _MAX_BLOCK and not (magic + rest).strip(b"\0"):
            return  # the end, or what some writers fill the last block of a tape with
        member = Member(file, offset)
        try:
            if magic != GZIP:
                raise Torn("no gzip member")
            place: int | None = offset
            while record := _record(member, place, wanted):
                yield record
                place = None
            offset = member.end
        except Torn as torn:
            yield Tear(offset, str(torn))
            if not _behind(file, offset + 1, _is_packed_start):
                return
            offset = file.tell()


def _behind(file: BinaryIO, offset: int, find: Callable[[bytes], Iterator[int]]) -> bool:
    """Go to the next place from `offset` on at which a record begins."""
    size = BLOCK
    while True:
        file.seek(offset)
        block = file.read(size)
        for at in find(block):
            if record_start(file, offset + at):
                file.seek(offset + at)
                return True
        if len(block) < size:
            return False
        offset += len(block) - _OVERLAP
        size = min(2 * size, _MAX_BLOCK)


def _is_packed_start(block: bytes) -> Iterator[int]:
    at = block.find(GZIP)
    while at >= 0:
        yield at
        at = block.find(GZIP, at + 1)


def _is_plain_start(block: bytes) -> Iterator[int]:
    return (match.start() for match in _PLAIN_START.finditer(block))


def _record(reader: Reader, offset: int | None, wanted: Wanted) -> Record | None:
    """The next record; None at the end."""
    if (headers := _head(reader)) is None:
        return None
    nbytes = _length(headers)
    block = reader.take(min(nbytes, wanted(headers)))
    if missing := nbytes - len(block) - reader.skip(nbytes - len(block)):
        raise Torn(f"ends {missing} bytes before its record of {headers.get('warc-target-uri', '')[:200]}")
    return Record(offset, headers, nbytes, block)


def _head(reader: Reader) -> Headers | None:
    """The headers of the next record; None at the end."""
    line = reader.line()
    while line and not line.strip(_BLANK):
        line = reader.line()
    if not line:
        return None
    if _WARC_LINE.match(line):
        return _headers(reader)
    if match := _ARC_LINE.match(line):
        return _arc(match)
    raise Torn(f"no record begins with {line[:40]!r}")


def _length(headers: Headers) -> int:
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < _MAX_DIGITS:
        return int(length)
    raise Torn(f"no record's length is {length[:40]!r}")


def _headers(reader: Reader) -> Headers:
    found: Headers = {}
    name = ""
    for _ in range(_MAX_HEADERS):
        line = reader.line()
        if not line.endswith(b"\n"):
            raise Torn("ends within a record's headers")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            return found
        if text[0] in " \t" and name:
            found[name] += " " + text.strip()
            continue
        name, _, value = text.partition(":")
        name = name.strip().lower()
        found[name] = value.strip()
    raise Torn("has no end of headers")


def _arc(match: re.Match[bytes]) -> Headers:
    url, _, date, kind, length = (group.decode("utf-8", "replace") for group in match.groups())
    is_http = url.lower().startswith(("http:", "https:"))
    day = date.ljust(14, "0")
    return {
        "warc-type": "response" if is_http else "warcinfo" if url.startswith("filedesc:") else "resource",
        "warc-target-uri": url,
        "warc-date": f"{day[:4]}-{day[4:6]}-{day[6:8]}T{day[8:10]}:{day[10:12]}:{day[12:14]}Z",
        "content-type": "application/http; msgtype=response" if is_http else kind,
        "content-length": length,
    }
