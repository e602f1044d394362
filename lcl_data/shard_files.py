"""One shard file of either container: rows by number, sizes and ids without touching the pictures."""

import json
import mmap
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ShardError
from schemas.sequences import SEQUENCES, TOKENS_KEY
from schemas.versions import SCHEMA_KEY, check

Container = Literal["arrow", "webdataset"]
Ints = npt.NDArray[np.int64]
SUFFIX: dict[Container, str] = {"arrow": ".arrow", "webdataset": ".tar"}


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids that no text ever gives, and the size of the vocabulary with them.

    Attributes:
        sot: start of a sequence.
        eot: end of a sequence.
        image: the place of one picture.
        boi: begins a picture's slots; put in by the loader.
        eoi: ends a picture's slots; put in by the loader.
        pad: fills a row; means nothing else.
        vocab_size: rows of the token embedding.
    """

    sot: int
    eot: int
    image: int
    boi: int
    eoi: int
    pad: int
    vocab_size: int

    def to_json(self) -> str:
        """As it stands in a shard's metadata."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Sequence:
    """One row of a training shard: a document, or one part of an over-long one.

    Attributes:
        id: the document's id; part k >= 1 is `<id>-<k>`.
        tokens: int32 [length]: sot, text, ONE `image` id per picture, eot.
        images: encoded bytes, in the order of their tokens; views of the memory-mapped file.
        image_keys: sha256 hex of those bytes: equal keys are copies of one picture.
        anchors: per picture, [start, end) in `tokens` of the text it belongs to; None: its place says it.
        source: name of the corpus.
        url: address of the page.
    """

    id: str
    tokens: npt.NDArray[np.int32]
    images: list[bytes | memoryview]
    image_keys: list[str]
    anchors: list[tuple[int, int] | None]
    source: str
    url: str | None = None


class File(Protocol):
    """One shard file: rows by number, and lengths without touching the pictures."""

    rows: int
    special_tokens: SpecialTokens | None  # None: the file is empty and cannot say

    def read(self, row: int) -> Sequence:
        """Row `row` of the file."""

    def lengths(self) -> Ints:
        """Tokens of each row."""

    def image_counts(self) -> Ints:
        """Pictures of each row."""

    def ids(self) -> pa.Array:
        """The id of each row, as strings."""

    def release(self) -> None:
        """Give the pages of the map back to the system, from whose cache they come again."""


def special_tokens_of(metadata: dict[bytes, bytes], where: Path) -> SpecialTokens:
    """The special ids in a file's schema metadata.

    Raises:
        ShardError: there are none.
    """
    try:
        return SpecialTokens(**json.loads(metadata[TOKENS_KEY]))
    except (KeyError, ValueError, TypeError) as error:
        raise ShardError(f"{where}: no readable '{TOKENS_KEY.decode()}' in its metadata: {error}") from error


def open_file(path: Path) -> File:
    """One shard file of either container; a ShardError if it is torn, foreign or newer."""
    return _ArrowFile(path) if path.suffix == SUFFIX["arrow"] else _TarFile(path)


class _ArrowFile:
    """An Arrow IPC file; its descriptor is closed again, the map lives as long as a view of it."""

    def __init__(self, path: Path) -> None:
        try:
            self._map = _mapped(path)
            with pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map))) as reader:
                metadata = reader.schema.metadata or {}
                self._batches = [reader.get_batch(k) for k in range(reader.num_record_batches)]
        except (ValueError, OSError) as error:
            raise ShardError(f"{path}: not a whole Arrow file ({error}); run `lcl shard` again") from error
        check(metadata, SEQUENCES, path)
        self.special_tokens: SpecialTokens | None = special_tokens_of(metadata, path)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self.rows = int(self._starts[-1])

    def read(self, row: int) -> Sequence:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        batch = self._batches[number]
        row -= int(self._starts[number])
        anchors = batch["anchors"][row].as_py()
        return Sequence(
            id=batch["id"][row].as_py(),
            tokens=batch["tokens"][row].values.to_numpy(zero_copy_only=True),
            # Arrow's own bytes are signed: decoders refuse them, and they equal no bytes above 127
            images=[
                memoryview(image.as_buffer()).cast("B").toreadonly() for image in batch["images"][row].values
            ],
            image_keys=batch["image_keys"][row].as_py(),
            anchors=[None if span is None else (span["start"], span["end"]) for span in anchors],
            source=batch["source"][row].as_py(),
            url=batch["url"][row].as_py(),
        )

    def lengths(self) -> Ints:
        return self._sizes("tokens")

    def image_counts(self) -> Ints:
        return self._sizes("images")

    def ids(self) -> pa.Array:
        return pa.concat_arrays([pa.array([], pa.string()), *(batch["id"] for batch in self._batches)])

    def release(self) -> None:
        _give_back(self._map)

    def _sizes(self, column: str) -> Ints:
        sizes = [pc.list_value_length(batch[column]).to_numpy() for batch in self._batches]
        return np.concatenate([np.zeros(0, np.int64), *sizes]).astype(np.int64)


class _TarFile:
    """A WebDataset tar, indexed by one walk over its headers; then every member is a slice of the map."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._samples: list[dict[str, slice]] = []
        self._keys: list[str] = []
        for name, where in _members(path):
            key, _, part = name.partition(".")
            if not self._keys or key != self._keys[-1]:
                self._samples.append({})
                self._keys.append(key)
            self._samples[-1][part] = where
        self.rows = len(self._samples)
        self._pages = _mapped(path)
        self._map = memoryview(self._pages)
        self.special_tokens = self._checked_tokens() if self.rows else None

    def read(self, row: int) -> Sequence:
        record = self._record(row)
        names = [name for name in record["images"] if name is not None]
        return Sequence(
            id=record["id"],
            tokens=np.array(record["tokens"], np.int32),
            images=[self._map[self._samples[row][name]] for name in names],
            image_keys=record["image_keys"],
            anchors=[None if span is None else (span[0], span[1]) for span in record["anchors"]],
            source=record["source"],
            url=record["url"],
        )

    def lengths(self) -> Ints:
        return np.array([len(self._record(row)["tokens"]) for row in range(self.rows)], np.int64)

    def image_counts(self) -> Ints:
        # Every member but the JSON is a picture: the headers alone say how many.
        return np.array([len(sample) - 1 for sample in self._samples], np.int64)

    def ids(self) -> pa.Array:
        return pa.array(self._keys, pa.string())

    def release(self) -> None:
        _give_back(self._pages)

    def _record(self, row: int) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(bytes(self._map[self._samples[row]["json"]]))
        except (KeyError, ValueError) as error:
            raise ShardError(f"{self._path}: sample {row} has no readable json; is it of LCL?") from error
        return record

    def _checked_tokens(self) -> SpecialTokens:
        first = self._record(0)
        metadata = {SCHEMA_KEY: str(first.get("schema", "")).encode()}
        check(metadata, SEQUENCES, self._path)
        return special_tokens_of({TOKENS_KEY: json.dumps(first["special_tokens"]).encode()}, self._path)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _give_back(pages: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):  # Linux; elsewhere pages go when memory is short
        pages.madvise(mmap.MADV_DONTNEED)


def _members(path: Path) -> Iterator[tuple[str, slice]]:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                yield member.name, slice(member.offset_data, member.offset_data + member.size)
            # tarfile takes a torn end for the end
            if path.stat().st_size < tar.offset + 2 * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{path}: not a whole tar ({error}); run `lcl shard` again") from error
