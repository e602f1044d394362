"""Tables of text: TSV as the sets of pairs publish it (a tab always parts, nothing is quoted), and CSV.

A row is placed by the offset of its first byte in the unpacked file: `tail -c +OFFSET` shows it. A plain TSV
can be read from anywhere, so that a large one becomes several shards.
"""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from lcl_data import files
from lcl_data.archives import gunzipped, torn_is_shard_error
from lcl_data.rows import Found, Part, once_each
from schemas.errors import ShardError, SourceError

ENDINGS = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
_SAMPLE = 1000  # records from which the meaning of nameless columns is told
_MOST, _FEW = 0.95, 0.05
_URL = re.compile(r"\s*https?://\S+\s*\Z", re.IGNORECASE)
Cells = list[str] | SourceError


@dataclass(frozen=True, slots=True)
class Header:
    """What the columns of a file are called, and whether the file says so in its first record."""

    names: tuple[str, ...]
    is_written: bool


def is_delimited(path: Path) -> bool:
    """Whether a file is such a table, by its name."""
    return path.name.endswith(ENDINGS)


def is_divisible(path: Path) -> bool:
    """Whether a file can be read from the middle: not if it is packed, or a quoted field may span lines."""
    return path.name.endswith(".tsv")


def delimited_rows(part: Part, header: Header, max_line_nbytes: int) -> Iterator[Found]:
    """Every record of a part of a file: those that begin in it.

    Raises:
        ShardError: the file is torn, or two columns have one name.
    """
    once_each(header.names, part.path, "name all in order: --set 'source.columns=[url, caption, ...]'")
    for offset, nbytes, cells in _records(part, max_line_nbytes):
        if offset == 0 and header.is_written:
            continue
        if isinstance(cells, list) and len(cells) != len(header.names):
            cells = SourceError("wrong_columns", f"{len(cells)} columns, not {len(header.names)}")
        fields = cells if isinstance(cells, SourceError) else dict(zip(header.names, cells, strict=True))
        yield Found(f"@{offset}", nbytes, fields)


def header_of(path: Path, known: frozenset[str], max_line_nbytes: int) -> Header:
    """The names of a file's columns: its first record if that holds two or more known names; else, if there
    are two columns of which one holds URLs and the other does not, `url` and `caption`.

    Args:
        path: of the file.
        known: names of columns, in lower case.
        max_line_nbytes: a longer line is passed over.

    Raises:
        ShardError: neither, or the file is torn.
    """
    found = islice(_records(Part(path), max_line_nbytes), _SAMPLE)
    sample = [cells for _, _, cells in found if isinstance(cells, list)]
    first = sample[0] if sample else []
    if len(known.intersection(cell.strip().lower() for cell in first)) > 1:
        return Header(tuple(cell.strip() for cell in first), is_written=True)
    pairs = [cells for cells in sample if len(cells) == 2]
    shares = [sum(bool(_URL.match(cells[at])) for cells in pairs) / max(1, len(pairs)) for at in (0, 1)]
    if len(pairs) >= _MOST * len(sample) and max(shares) >= _MOST and min(shares) <= _FEW:
        return Header(("url", "caption") if shares[0] > shares[1] else ("caption", "url"), is_written=False)
    if not sample:
        return Header(("url", "caption"), is_written=False)
    raise ShardError(
        f"{path}: no header, and its first {len(sample)} records do not tell which column holds URLs and "
        "which captions; name all columns in order: --set 'source.columns=[caption, url]'"
    )


def _records(part: Part, max_nbytes: int) -> Iterator[tuple[int, int, Cells]]:
    """(offset, bytes, cells) of every record that is not blank."""
    with torn_is_shard_error(str(part.path)), _opened(part.path) as file:
        lines = _lines(file, part, max_nbytes)
        if ".csv" in part.path.suffixes[-2:]:
            yield from _quoted(lines)
        else:
            yield from (_unquoted(*found) for found in lines if found[1] is None or found[1].strip())


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with files.opened(path) as file:
        yield gunzipped(file) if path.suffix == ".gz" else file


def _lines(file: IO[bytes], part: Part, max_nbytes: int) -> Iterator[tuple[int, bytes | None]]:
    """(offset, line) of the lines that begin in a part; the line is None if it is too long."""
    offset = 0
    if part.start:
        offset = file.seek(part.start - 1)
        offset += _skip(file)
    while part.stop is None or offset < part.stop:
        line = file.readline(max_nbytes + 1)
        if not line:
            return
        nbytes = len(line)
        if nbytes > max_nbytes and not line.endswith(b"\n"):
            nbytes += _skip(file)
            yield offset, None
        else:
            yield offset, line.removeprefix(b"\xef\xbb\xbf") if offset == 0 else line
        offset += nbytes


def _skip(file: IO[bytes]) -> int:
    """Read up to the end of the line; returns how many bytes that took."""
    nbytes = 0
    while block := file.readline(1 << 20):
        nbytes += len(block)
        if block.endswith(b"\n"):
            break
    return nbytes


def _unquoted(offset: int, line: bytes | None) -> tuple[int, int, Cells]:
    if line is None:
        return offset, 0, SourceError("line_too_long")
    try:
        return offset, len(line), line.rstrip(b"\r\n").decode().split("\t")
    except UnicodeDecodeError as error:
        return offset, len(line), SourceError("not_utf8", str(error))


def _quoted(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[tuple[int, int, Cells]]:
    held: list[tuple[int, bytes | None]] = []  # the lines of the record in hand

    def feed() -> Iterator[str]:
        for offset, line in lines:
            held.append((offset, line))
            yield "-" if line is None else line.decode(errors="surrogateescape")

    reader = csv.reader(feed(), strict=True)
    while True:
        try:
            cells: Cells = _checked(next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            cells = SourceError("broken_csv", f"{len(held)} lines: {error}")
        if any(line is None for _, line in held):
            cells = SourceError("line_too_long")
        if cells:
            yield held[0][0], sum(len(line or b"") for _, line in held), cells
        held.clear()


def _checked(cells: list[str]) -> Cells:
    try:
        for cell in cells:
            cell.encode()
    except UnicodeEncodeError as error:
        return SourceError("not_utf8", str(error))
    return cells
