"""Lines out of whatever upstream packed them in: plain, gzip, zip, and zips inside zips.

Everything streams; an inner zip is copied to a temporary file first, because a zip is read from its end.
What is torn, encrypted or a bomb raises a `ShardError`; a full disk does not.
"""

import errno
import gzip
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from isal import igzip, igzip_lib, isal_zlib

from lcl_data import files
from schemas.errors import ShardError

READABLE = (".jsonl", ".jsonl.gz", ".zip")
_BLOCK = 1 << 18  # stays in a core's own cache: blocks of 1 MiB take a fifth longer
_IN_MEMORY = 32 << 20  # an inner zip up to this size stays in memory (an MMC4 shard has about 9 MB)
_MAX_DEPTH = 3
# DEFLATE reaches 1032:1; JSON lines compress 3:1 to 20:1.
_MAX_RATIO = 200
_SMALL = 64 << 20
_TORN = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    cast(type[Exception], igzip_lib.IsalError),  # its stub takes the class for an instance
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression method that zipfile does not know
    RuntimeError,  # encrypted
    ValueError,  # offsets or names that make no sense
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A file of JSON lines, or a member of a zip.

    Attributes:
        path: of the file on disk.
        member: of the zip at `path`; None for all of the file.
    """

    path: Path
    member: str | None = None


def members(path: Path) -> list[str]:
    """Names of the readable members of a zip, in its own order.

    Raises:
        ShardError: torn.
    """
    with torn_is_shard_error(str(path)), files.opened(path) as file, zipfile.ZipFile(file) as archive:
        return [info.filename for info in _readable(archive)]


def lines(packed: Packed, max_nbytes: int) -> Iterator[tuple[str, int, bytes | None]]:
    """Every line that is not blank, without its end.

    Args:
        packed: where to read.
        max_nbytes: a longer line is not kept in memory.

    Yields:
        (member, line number from 1, line), where member is "" in a plain file and the line is None if it is
        too long. Line numbers count blank lines too, so that an editor finds the place.

    Raises:
        ShardError: the file is torn, encrypted, or grows suspiciously when unpacked.
    """
    with torn_is_shard_error(str(packed.path)):
        for member, stream in _opened(packed):
            for number, line in enumerate(_split(stream, max_nbytes), 1):
                if line is None or line.strip():
                    yield member, number, line


@contextmanager
def torn_is_shard_error(place: str) -> Iterator[None]:
    """Turns what a torn file raises into a `ShardError` that names `place`."""
    try:
        yield
    except (*_TORN, OSError) as error:
        # Seeking before the start of a cut file is EINVAL; any other OSError is the machine's fault.
        if isinstance(error, OSError) and not isinstance(error, _TORN) and error.errno != errno.EINVAL:
            raise
        raise ShardError(
            f"{place}: torn or unreadable ({error}); download it again and repeat the command"
        ) from error


def gunzipped(file: IO[bytes]) -> IO[bytes]:
    """What a gzip file holds, as a stream.

    Raises:
        EOFError: it is empty, which Python takes for a whole one, and a download that failed leaves.
    """
    if not file.read(1):
        raise EOFError("an empty file is no gzip")
    file.seek(0)
    return cast(IO[bytes], igzip.IGzipFile(fileobj=file))  # type: ignore[no-untyped-call]  # it has no types


def _opened(packed: Packed) -> Iterator[tuple[str, IO[bytes]]]:
    with files.opened(packed.path) as file:
        if packed.member is None:
            yield from _leaves(file, packed.path.name, "", 0)
            return
        with zipfile.ZipFile(file) as archive:
            yield from _inner(archive, archive.getinfo(packed.member), "", 0)


def _leaves(file: IO[bytes], name: str, inside: str, depth: int) -> Iterator[tuple[str, IO[bytes]]]:
    if name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            for info in _readable(archive):
                yield from _inner(archive, info, inside, depth + 1)
    elif name.endswith(".gz"):
        yield inside, gunzipped(file)
    else:
        yield inside, file


def _inner(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, inside: str, depth: int
) -> Iterator[tuple[str, IO[bytes]]]:
    if depth > _MAX_DEPTH:
        raise zipfile.BadZipFile(f"zips nested deeper than {_MAX_DEPTH}")
    if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
        raise zipfile.BadZipFile(f"{info.filename} grows {info.compress_size} bytes to {info.file_size}")
    name = f"{inside}/{info.filename}" if inside else info.filename
    with _member(archive, info) as stream:
        if not info.filename.endswith(".zip"):
            yield from _leaves(stream, info.filename, name, depth)
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
            shutil.copyfileobj(stream, copy, _BLOCK)
            yield from _leaves(copy, info.filename, name, depth)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """A member as a stream, inflated by ISA-L, which takes half of zlib's time."""
    stream: Any = archive.open(info)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        stream._decompressor = isal_zlib.decompressobj(-zlib.MAX_WBITS)  # zipfile lets nobody choose
    return cast(IO[bytes], stream)


def _readable(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    held = [info for info in archive.infolist() if not info.is_dir() and "__MACOSX/" not in info.filename]
    named = [info for info in held if info.filename.endswith(READABLE)]
    if not named and len(held) != 1:
        raise zipfile.BadZipFile(f"none of its {len(held)} members is {' or '.join(READABLE)}")
    return named or held


def _split(stream: IO[bytes], max_nbytes: int) -> Iterator[bytes | None]:
    """Lines by blocks, several times faster than `readline` of a zip member."""
    held: list[bytes] = []  # the beginning of the line that the block cut
    held_nbytes = 0
    while block := stream.read(_BLOCK):
        first, *rest = block.split(b"\n")
        held_nbytes += len(first)
        held = [*held, first] if held_nbytes <= max_nbytes else []
        if not rest:
            continue
        yield b"".join(held) if held_nbytes <= max_nbytes else None
        *whole, last = rest
        for line in whole:
            yield line if len(line) <= max_nbytes else None
        held, held_nbytes = [last], len(last)
    if held_nbytes:
        yield b"".join(held) if held_nbytes <= max_nbytes else None
