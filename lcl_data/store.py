"""The image store in img2dataset's layout: NNNNN.tar, NNNNN.parquet (a row per URL tried), NNNNN_stats.json.

Any picture is read by its byte range. A folder that img2dataset made alone gets the columns it lacks in
`NNNNN_index.parquet` and then serves the same; its own files are not touched.
"""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lcl_data import files
from lcl_data.at_once import ranges
from schemas.errors import ShardError
from schemas.images import FAILED_TO_DOWNLOAD, FAILED_TO_RESIZE, IMAGES, SUCCESS
from schemas.versions import SCHEMA_KEY, check

_SHARD_DIGITS = 5  # of a key; the rest numbers the picture in its shard
_TABLE = re.compile(r"^\d{5,}\.parquet$")
_BLOCK = tarfile.BLOCKSIZE
_MADE_BY = b"lcl.made_by"
# What img2dataset writes beside a picture; equal names, so that its users' code reads ours.
_MEMBER_FIELDS = (
    "url",
    "key",
    "status",
    "error_message",
    "width",
    "height",
    "original_width",
    "original_height",
    "sha256",
)

Row = dict[str, Any]  # of IMAGES


@dataclass(frozen=True, slots=True)
class Member:
    """Where a picture lies in its tar."""

    key: str
    offset: int
    nbytes: int


class TarWriter:
    """Appends members to a tar whose bytes depend on nothing but names and contents."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0

    def add(self, name: str, content: bytes) -> int:
        """Append a member; returns the offset of its bytes."""
        header = tar_header(name, len(content))
        padding = bytes(-len(content) % _BLOCK)
        offset = self._position + len(header)
        self._file.write(header)
        self._file.write(content)
        self._file.write(padding)
        self._position = offset + len(content) + len(padding)
        return offset

    def close(self) -> None:
        """Write the end of the archive."""
        self._file.write(bytes(2 * _BLOCK))


_BLANK = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)  # the header of an empty file without a name
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)
_BLANK_SUM = sum(_BLANK) - sum(_BLANK[_CHECKSUM]) - sum(_BLANK[_SIZE]) + len(_BLANK[_CHECKSUM]) * ord(" ")
_MAX_SIZE = 8 << 30  # eleven octal digits


def tar_header(name: str, size: int) -> bytes:
    """The header of a member as `tarfile` makes it, at a tenth of the cost: a shard has one per picture."""
    encoded, digits = name.encode(), b"%011o\0" % size
    if len(encoded) > _NAME.stop or not name.isascii() or size >= _MAX_SIZE:
        info = tarfile.TarInfo(name)
        info.size = size
        return info.tobuf(tarfile.USTAR_FORMAT)
    header = bytearray(_BLANK)
    header[_NAME] = encoded.ljust(_NAME.stop, b"\0")
    header[_SIZE] = digits
    header[_CHECKSUM] = b"%06o\0 " % (_BLANK_SUM + sum(encoded) + sum(digits))
    return bytes(header)


def read_pictures(folder: Path, keys: Iterable[str]) -> dict[str, bytes]:
    """Encoded bytes by key, of those keys the store holds; read by byte range, in the order of the disk.

    Raises:
        ShardError: a table is not readable or indexed, or a tar is missing or shorter than its table says.
    """
    found: dict[str, bytes] = {}
    for number, table in _of_keys(folder, keys, ["key", "offset", "nbytes"]):
        found.update(contents(folder / f"{number}.tar", table.to_pylist()))
    return found


def read_opaque(folder: Path, keys: Iterable[str]) -> dict[str, bytes]:
    """JPEG bytes by key: those pictures with transparency ignored of which the store knows it.

    Raises:
        ShardError: a table is not readable or indexed.
    """
    found: dict[str, bytes] = {}
    for _, table in _of_keys(folder, keys, ["key", "opaque"]):
        if "opaque" in table.column_names:  # an earlier LCL did not look
            found.update((row["key"], row["opaque"]) for row in table.to_pylist() if row["opaque"])
    return found


def _of_keys(folder: Path, keys: Iterable[str], columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Shard by shard, its number and the rows of those keys that are stored; of the columns those it has."""
    wanted: dict[str, list[str]] = {}
    for key in sorted(keys):
        wanted.setdefault(key[:_SHARD_DIGITS], []).append(key)
    for number, group in wanted.items():
        path = _facts(folder / f"{number}.parquet")
        had = set(pq.read_schema(files.reading(path)).names)
        is_wanted = pc.field("key").isin(group) & (pc.field("status") == SUCCESS)
        chosen = [name for name in columns if name in had]
        yield number, pq.read_table(files.reading(path), columns=chosen, filters=is_wanted)


def contents(tar: Path, rows: list[Row]) -> Iterator[tuple[str, bytes]]:
    """(key, encoded bytes) of rows with `key`, `offset` and `nbytes`, in the order of the disk.

    Raises:
        ShardError: the tar is missing, or shorter than its table says.
    """
    try:
        rows = sorted(rows, key=itemgetter("offset"))
        found = ranges(tar, [(row["offset"], row["nbytes"]) for row in rows])
        for row, content in zip(rows, found, strict=True):
            if len(content) != row["nbytes"]:
                raise ShardError(f"{tar}: ends within {row['key']}; run `lcl download` again")
            yield row["key"], content
    except OSError as error:
        raise ShardError(f"{tar}: cannot be read ({error}); run `lcl download` again") from error


def read_rows(folder: Path, shard: int, columns: list[str] | None = None) -> list[Row]:
    """The rows of a shard's table, one per URL tried."""
    rows: list[Row] = pq.read_table(
        files.reading(_facts(folder / f"{shard:05d}.parquet")), columns=columns
    ).to_pylist()
    return rows


def facts(folder: Path) -> list[Path]:
    """The tables of schema `IMAGES` of a store folder, one per shard, in order.

    Raises:
        ShardError: a table was written by img2dataset and has no index yet.
    """
    return [_facts(path) for path in table_paths(folder)]


def index_path(table: Path) -> Path:
    """Where the columns that img2dataset's table lacks are written."""
    return table.with_name(f"{table.stem}_index.parquet")


def _facts(table: Path) -> Path:
    path = index_path(table) if is_foreign(table) else table
    if not path.exists():
        raise ShardError(
            f"{table}: made by img2dataset and not indexed; give the folder to `lcl filter --images`"
        )
    check(pq.read_schema(files.reading(path)).metadata, IMAGES, path)
    return path


def table_paths(folder: Path) -> list[Path]:
    """NNNNN.parquet of every shard, ours or img2dataset's, in order of shards."""
    return sorted(
        (path for path in files.inside(folder) if _TABLE.match(path.name)), key=lambda path: int(path.stem)
    )


def is_foreign(table: Path) -> bool:
    """Whether a table carries no contract of ours: img2dataset wrote it.

    Raises:
        ShardError: it is no whole Parquet file.
    """
    try:
        return SCHEMA_KEY not in (pq.read_schema(files.reading(table)).metadata or {})
    except (OSError, pa.ArrowInvalid) as error:
        raise ShardError(f"{table}: not a whole Parquet file ({error})") from error


def members(tar: Path) -> Iterator[tuple[Member, bytes]]:
    """The pictures of a tar with their places: everything that is neither .json nor .txt.

    Raises:
        ShardError: the tar is torn.
    """
    try:
        with files.opened(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                key, _, suffix = info.name.rpartition(".")
                stream = None if suffix in ("json", "txt") else archive.extractfile(info)
                if stream is not None:
                    yield Member(key, info.offset_data, info.size), stream.read()
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{tar}: torn ({error}); download this shard again") from error


def write_table(path: Path, rows: Iterable[Row], made_by: str = "") -> None:
    """Write the table of a shard, one row per URL tried; `made_by` is the digest of the settings."""
    schema = IMAGES.with_metadata({**IMAGES.metadata, _MADE_BY: made_by.encode()})
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def made_by(table: Path) -> str:
    """The digest of the settings by which a shard was made; empty where nobody wrote it down."""
    metadata: dict[bytes, bytes] = pq.read_schema(files.reading(table)).metadata or {}
    return metadata.get(_MADE_BY, b"").decode()


def write_stats(path: Path, rows: Iterable[Row]) -> None:
    """Write NNNNN_stats.json: img2dataset's counts without its times, so equal work gives equal bytes."""
    rows = list(rows)
    status = Counter(row["status"] for row in rows)
    reasons = Counter(row["reason"] or SUCCESS for row in rows)
    stats = {
        "count": len(rows),
        "successes": status[SUCCESS],
        "failed_to_download": status[FAILED_TO_DOWNLOAD],
        "failed_to_resize": status[FAILED_TO_RESIZE],
        "status_dict": dict(sorted(reasons.items())),
    }
    path.write_bytes(json.dumps(stats, indent=4).encode())


def member_json(row: Row) -> bytes:
    """NNNNNNNNN.json of a picture, with img2dataset's own fields."""
    return orjson.dumps({name: row[name] for name in _MEMBER_FIELDS}, option=orjson.OPT_INDENT_2)
