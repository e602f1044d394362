"""A training shard as a WebDataset tar."""

import json
import mmap
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lcl_data.shard_files import Ints, Sequence, SpecialTokens, give_back, mapped, special_tokens_of
from schemas.errors import ShardError
from schemas.sequences import SEQUENCES, TOKENS_KEY
from schemas.versions import SCHEMA_KEY, check

# Of a USTAR header: name, digits of the size, kind, magic, first byte of what stands before the name.
_HEADER = struct.Struct("100s24x11s21xc100x5s83xc")
_PLAIN = tarfile.REGTYPE, b"ustar", b"\0"
_TOKENS = b'"tokens":['  # as `lcl shard` writes it; no text can hold it, whose quotes are escaped


class TarFile:
    """A tar indexed by one walk over its headers; then every member is a slice of its memory map.

    Attributes:
        rows: of the file.
        special_tokens: ids of its special tokens; None: it is empty and cannot say.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._samples: list[dict[str, slice]] = []
        self._keys: list[str] = []
        self._pages = mapped(path)
        for name, where in _members(path, self._pages):
            key, _, part = name.partition(".")
            if not self._keys or key != self._keys[-1]:
                self._samples.append({})
                self._keys.append(key)
            self._samples[-1][part] = where
        self.rows = len(self._samples)
        self._map = memoryview(self._pages)
        self.special_tokens = self._checked_tokens() if self.rows else None

    def read(self, row: int) -> Sequence:
        """Row `row` of the file; pictures are views."""
        record = self._record(row)
        names = [name for name in record["images"] if name is not None]
        return Sequence(
            id=record["id"],
            tokens=np.asarray(record["tokens"], np.int32),
            images=[self._map[self._samples[row][name]] for name in names],
            image_keys=record["image_keys"],
            anchors=[None if span is None else (span[0], span[1]) for span in record["anchors"]],
            source=record["source"],
            url=record["url"],
        )

    def lengths(self) -> Ints:
        """Tokens of each row; no picture is read."""
        return np.array([self._length(row) for row in range(self.rows)], np.int64)

    def image_counts(self) -> Ints:
        """Pictures of each row; none is read."""
        # Every member but the JSON is a picture: the headers alone say how many.
        return np.array([len(sample) - 1 for sample in self._samples], np.int64)

    def ids(self) -> pa.Array:
        """The id of each row, as strings."""
        return pa.array(self._keys, pa.string())

    def release(self) -> None:
        """Give the pages of the map back to the system, from whose cache they come again."""
        give_back(self._pages)

    def _length(self, row: int) -> int:
        """By the commas of the tokens, which takes a twentieth of the time of reading them."""
        content = self._json(row)
        start, end = _tokens_in(content)
        return content.count(b",", start, end) + 1 if start < end else len(self._record(row)["tokens"])

    def _record(self, row: int) -> dict[str, Any]:
        """The JSON of a row; its tokens apart and as an array, which takes a third of the time."""
        content = self._json(row)
        start, end = _tokens_in(content)
        try:
            record: dict[str, Any] = json.loads(content[:start] + content[end:])
            if start < end:
                record["tokens"] = np.fromstring(content[start:end], np.int32, sep=",")
        except ValueError as error:
            raise self._unreadable(row) from error
        return record

    def _json(self, row: int) -> bytes:
        if "json" not in self._samples[row]:
            raise self._unreadable(row)
        return bytes(self._map[self._samples[row]["json"]])

    def _unreadable(self, row: int) -> ShardError:
        return ShardError(f"{self._path}: sample {row} has no readable json; is it of LCL?")

    def _checked_tokens(self) -> SpecialTokens:
        first = self._record(0)
        metadata = {SCHEMA_KEY: str(first.get("schema", "")).encode()}
        check(metadata, SEQUENCES, self._path)
        return special_tokens_of({TOKENS_KEY: json.dumps(first["special_tokens"]).encode()}, self._path)


def _tokens_in(content: bytes) -> tuple[int, int]:
    """Where the tokens stand between their brackets; nowhere (0, 0) where they are written in another way."""
    start = content.find(_TOKENS) + len(_TOKENS)
    end = content.find(b"]", start)
    return (start, end) if len(_TOKENS) <= start < end else (0, 0)


def _members(path: Path, pages: mmap.mmap) -> Iterator[tuple[str, slice]]:
    """Names and places of the members: those with plain headers at a tenth of tarfile's cost."""
    at = 0
    while at + tarfile.BLOCKSIZE <= len(pages):
        name, size, kind, magic, prefix = _HEADER.unpack_from(pages, at)
        if (kind, magic, prefix) != _PLAIN or size.strip(b"01234567"):
            break
        at += tarfile.BLOCKSIZE
        end = at + int(size, 8)
        yield name.rstrip(b"\0").decode("utf-8", "surrogateescape"), slice(at, end)
        at = end + -end % tarfile.BLOCKSIZE
    yield from _members_by_tarfile(path, at)


def _members_by_tarfile(path: Path, at: int) -> Iterator[tuple[str, slice]]:
    """The members from there on, which may be none; that the end is whole."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    yield member.name, slice(member.offset_data, member.offset_data + member.size)
                # tarfile takes a torn end for the end
                if path.stat().st_size < tar.offset + 2 * tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{path}: not a whole tar ({error}); run `lcl shard` again") from error
