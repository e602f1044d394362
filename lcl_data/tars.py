"""Members of a stranger's tar with the places of their bytes, grouped into samples as WebDataset groups them.

Only headers are read; whoever wants bytes reads them at their place. A tar that ends before its end mark, or
holds something that is no header, is torn, whatever Python's `tarfile` is content with.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from schemas.errors import ShardError

_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar.

    Attributes:
        name: as the tar has it.
        offset: of its first byte in the tar.
        nbytes: of the file.
    """

    name: str
    offset: int
    nbytes: int

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


def samples(path: Path) -> Iterator[tuple[str, list[Member]]]:
    """(key, members) of every sample: members that follow one another and have one key.

    Raises:
        ShardError: the tar is torn, or is none.
    """
    for key, group in groupby(members(path), key=lambda member: member.key):
        yield key, list(group)


def members(path: Path) -> Iterator[Member]:
    """The files of a tar, in its own order; folders and links are passed over.

    Raises:
        ShardError: the tar is torn, or is none.
    """
    with path.open("rb") as file:
        try:
            yield from _members(file)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise ShardError(
                f"{path}: torn or no tar ({error}); download it again and repeat the command"
            ) from error


def _members(file: BinaryIO) -> Iterator[Member]:
    end = os.fstat(file.fileno()).st_size
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would remember every one of them
            if info.isreg() and not info.issparse():
                if info.offset_data + info.size > end:
                    raise tarfile.ReadError(f"ends within {info.name}")
                yield Member(info.name, info.offset_data, info.size)
        file.seek(tar.offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError(f"no end mark at byte {tar.offset}")
