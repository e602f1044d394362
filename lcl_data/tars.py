"""Members of a stranger's tar with the places of their bytes, grouped into samples as WebDataset groups them.

Only headers are read; whoever wants bytes reads them at their place. A tar that ends before its end mark, or
long before its file does, or holds something that is no header, is torn, whatever Python's `tarfile` is
content with.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from lcl_data import files
from schemas.errors import ShardError

_BLOCK = tarfile.BLOCKSIZE
_MAX_PADDING = 1 << 20  # zeros behind the end mark: tar pads to 10 KiB, writers for tapes to more
_MAX_HEADER = 1 << 20  # bytes of a long name or of PAX fields


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar.

    Attributes:
        name: as the tar has it.
        offset: of its first byte in the tar.
        nbytes: of the file.
        odd: what it is if its bytes do not simply lie there: link, sparse file, device; else empty.
    """

    name: str
    offset: int
    nbytes: int
    odd: str = ""

    @property
    def key(self) -> str:
        """Of its sample: the name up to the first dot of the base name."""
        path = PurePosixPath(self.name)
        stem = path.name.partition(".")[0]
        return str(path.with_name(stem)) if stem else self.name

    @property
    def part(self) -> str:
        """What it is in its sample: what follows that dot, in lower case."""
        return PurePosixPath(self.name).name.partition(".")[2].lower()


def key_to_last_dot(member: Member) -> str:
    """The key of those who put dots into their keys."""
    return member.name.rpartition(".")[0] or member.name


def samples(
    path: Path, key: Callable[[Member], str] = attrgetter("key"), odd: bool = False
) -> Iterator[tuple[str, list[Member]]]:
    """(key, members) of every sample: members that follow one another and have one key.

    Raises:
        ShardError: the tar is torn, or is none.
    """
    mine, held = "", list[Member]()
    for member in members(path, odd):
        if held and key(member) != mine:
            yield mine, held
            held = []
        mine = key(member)
        held.append(member)
    if held:
        yield mine, held


def members(path: Path, odd: bool = False) -> Iterator[Member]:
    """The files of a tar, in its own order; links and the like are passed over unless `odd`, folders always.
    Bytes of names that are not UTF-8 are written in hex.

    Raises:
        ShardError: the tar is torn, or is none.
    """
    with files.opened(path) as file:
        try:
            yield from (member for member in _members(file) if odd or not member.odd)
        except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
            raise ShardError(
                f"{path}: torn or no tar ({error}); download it again and repeat the command"
            ) from error


def _members(file: BinaryIO) -> Iterator[Member]:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    headers = cast(BinaryIO, _Headers(file))
    with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="backslashreplace") as tar:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would remember every one of them
            if info.issparse() or not (info.isreg() or info.isdir()):
                yield Member(info.name, 0, 0, _kind(info))
            elif info.isreg():
                if info.offset_data + info.size > end:
                    raise tarfile.ReadError(f"ends within {info.name}")
                yield Member(info.name, info.offset_data, info.size)
        file.seek(tar.offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError(f"no end mark at byte {tar.offset}")
        if (rest := end - tar.offset) > _MAX_PADDING or file.read(rest).strip(b"\0"):
            raise tarfile.ReadError(
                f"{rest} bytes behind the end mark at byte {tar.offset}: a hole, or another tar put behind it"
            )


class _Headers:
    """A file as `tarfile` may read it, which believes a header that a gigabyte of name follows."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._read(size)


def _kind(info: tarfile.TarInfo) -> str:
    if info.issparse():
        return "sparse file"
    return f"link to {info.linkname}" if info.islnk() or info.issym() else "device"
