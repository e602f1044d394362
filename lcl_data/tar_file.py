"""A training shard as a WebDataset tar."""

import json
import mmap
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lcl_data.shard_files import Ints, Sequence, SpecialTokens, give_back, mapped, special_tokens_of
from schemas.errors import ShardError
from schemas.sequences import SEQUENCES, TOKENS_KEY
from schemas.versions import SCHEMA_KEY, check

# Of a USTAR header: name, digits of the size, checksum, kind, magic, first byte of what precedes the name.
_HEADER = struct.Struct("100s24x11s13x8sc100x5s83xc")
_CHECKSUM = slice(148, 156)
_PLAIN = tarfile.REGTYPE, b"ustar", b"\0"
Ids = npt.NDArray[np.int32]
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
            tokens=record["tokens"],
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
            record = json.loads(content[:start] + content[end:])
            if not isinstance(record, dict):
                raise ValueError("it is no object")
            record["tokens"] = _ids(content[start:end]) if start < end else _whole(record.get("tokens"))
        except ValueError as error:
            raise self._unreadable(row, str(error)) from error
        return record

    def _json(self, row: int) -> bytes:
        if "json" not in self._samples[row]:
            raise self._unreadable(row, "there is none")
        return bytes(self._map[self._samples[row]["json"]])

    def _unreadable(self, row: int, why: str) -> ShardError:
        return ShardError(
            f"{self._path}: sample {row} ({self._keys[row]}): its json cannot be read ({why}); run "
            "`lcl shard` again, or leave the file out if it is not of LCL"
        )

    def _checked_tokens(self) -> SpecialTokens:
        first = self._record(0)
        metadata = {SCHEMA_KEY: str(first.get("schema", "")).encode()}
        check(metadata, SEQUENCES, self._path)
        return special_tokens_of({TOKENS_KEY: json.dumps(first.get("special_tokens")).encode()}, self._path)


def _tokens_in(content: bytes) -> tuple[int, int]:
    """Where the tokens stand between their brackets; nowhere (0, 0) where they are written in another way."""
    start = content.find(_TOKENS) + len(_TOKENS)
    end = content.find(b"]", start)
    return (start, end) if len(_TOKENS) <= start < end else (0, 0)


def _ids(text: bytes) -> Ids:
    """Token ids as they stand between brackets; numpy reads them where only digits and commas are there.

    Raises:
        ValueError: they are no whole numbers that fit into an id.
    """
    if text.translate(None, b"0123456789,"):
        return _whole(json.loads(b"[" + text + b"]"))
    if b",," in text or text.startswith(b",") or text.endswith(b","):
        raise ValueError("a token is missing between two commas")
    return _whole(np.fromstring(text, np.int64, sep=","))


def _whole(ids: Any) -> Ids:
    """Token ids as int32; a ValueError where they are others."""
    is_list = isinstance(ids, list | np.ndarray)
    found = np.asarray(ids if is_list and len(ids) else np.zeros(0, np.int64))
    if not is_list or found.shape != found.shape[:1] or found.dtype != np.int64:
        raise ValueError("its tokens are no list of whole numbers")
    if found.view(np.uint64).max(initial=0) > np.iinfo(np.int32).max:  # negative ones are large
        raise ValueError("a token is no id")
    return found.astype(np.int32)


def _members(path: Path, pages: mmap.mmap) -> Iterator[tuple[str, slice]]:
    """Names and places of the members: those with plain headers at a tenth of tarfile's cost."""
    found: list[tuple[str, slice]] = []
    sums, at = list[bytes](), 0
    while at + tarfile.BLOCKSIZE <= len(pages):
        name, size, told, kind, magic, prefix = _HEADER.unpack_from(pages, at)
        if (kind, magic, prefix) != _PLAIN or size.strip(b"01234567"):
            break
        at += tarfile.BLOCKSIZE
        end = at + int(size, 8)
        found.append((name.rstrip(b"\0").decode("utf-8", "surrogateescape"), slice(at, end)))
        sums.append(told)
        at = end + -end % tarfile.BLOCKSIZE
    _check_headers(path, pages, found, sums)
    yield from found
    yield from _members_by_tarfile(path, at)


def _check_headers(path: Path, pages: mmap.mmap, members: list[tuple[str, slice]], sums: list[bytes]) -> None:
    """All at once, which takes a tenth of the time of one after the other.

    Raises:
        ShardError: a header is not as it was written.
    """
    blocks = np.frombuffer(pages, np.uint8, len(pages) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE)
    places = np.array([where.start // tarfile.BLOCKSIZE - 1 for _, where in members], np.int64)
    headers = blocks.reshape(-1, tarfile.BLOCKSIZE)[places]
    headers[:, _CHECKSUM] = ord(" ")  # as it stands while the sum is taken
    either = zip(headers.sum(1).tolist(), headers.view(np.int8).sum(1).tolist(), strict=True)
    for (name, _), right, told in zip(members, either, sums, strict=True):
        digits = told.strip(b" \0")
        if not digits.isdigit() or int(digits, 8) not in right:
            raise ShardError(
                f"{path}: not a whole tar (the header of {name!r} has a wrong checksum); "
                "run `lcl shard` again"
            )


def _members_by_tarfile(path: Path, at: int) -> Iterator[tuple[str, slice]]:
    """The members from there on, which may be none; that the end is whole."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    yield member.name, slice(member.offset_data, member.offset_data + member.size)
            # tarfile takes a torn end and a damaged header for the end
            if path.stat().st_size < tar.offset + 2 * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("its end is missing")
            file.seek(tar.offset)
            if file.read().strip(b"\0"):
                raise tarfile.ReadError(f"no header at byte {tar.offset}")
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{path}: not a whole tar ({error}); run `lcl shard` again") from error
