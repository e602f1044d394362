"""A training shard as an Arrow IPC file."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lcl_data.shard_files import Ints, Sequence, give_back, mapped, special_tokens_of
from schemas.errors import ShardError
from schemas.sequences import SEQUENCES
from schemas.versions import check


class ArrowFile:
    """A memory-mapped file; its descriptor is closed again, the map lives as long as a view of it.

    Attributes:
        rows: of the file.
        special_tokens: ids of its special tokens.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._map = mapped(path)
            with pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map))) as reader:
                metadata = reader.schema.metadata or {}
                self._batches = [reader.get_batch(k) for k in range(reader.num_record_batches)]
            check(metadata, SEQUENCES, path)
            for batch in self._batches:
                _check_places(batch)
        except (pa.ArrowException, ValueError, LookupError, OSError) as error:
            raise ShardError(f"{path}: not a whole Arrow file ({error}); run `lcl shard` again") from error
        self.special_tokens = special_tokens_of(metadata, path)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._columns: list[_Columns | None] = [None] * len(self._batches)
        self.rows = int(self._starts[-1])

    def read(self, row: int) -> Sequence:
        """Row `row` of the file; pictures are views."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        columns = self._columns[number] or _Columns(self._batches[number])
        self._columns[number] = columns
        return columns.read(row - int(self._starts[number]))

    def lengths(self) -> Ints:
        """Tokens of each row; no picture is read."""
        return self._sizes("tokens")

    def image_counts(self) -> Ints:
        """Pictures of each row; none is read."""
        return self._sizes("images")

    def ids(self) -> pa.Array:
        """The id of each row, as strings."""
        return pa.concat_arrays([pa.array([], pa.string()), *(batch["id"] for batch in self._batches)])

    def release(self) -> None:
        """Give the pages of the map back to the system, from whose cache they come again."""
        give_back(self._map)

    def _sizes(self, column: str) -> Ints:
        sizes = [pc.list_value_length(batch[column]).to_numpy() for batch in self._batches]
        return np.concatenate([np.zeros(0, np.int64), *sizes]).astype(np.int64)


def _check_places(batch: pa.RecordBatch) -> None:
    """That no value lies outside its file, where reading it would end the process; pictures are not read.

    Raises:
        ValueError: one does, or is missing.
        KeyError: a column is missing.
    """
    batch.validate(full=True)
    for field in SEQUENCES:
        column = batch[field.name]
        if column.type != field.type or (column.null_count and not field.nullable):
            raise ValueError(f"{field.name} is no {field.type} without holes")


class _Columns:
    """The columns of a record batch as flat values and bounds: a row is slices of them, at a quarter of the
    cost of Arrow's scalars.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        tokens, images, spans = batch["tokens"], batch["images"], batch["anchors"].values.flatten()
        self._id, self._source, self._url = batch["id"], batch["source"], batch["url"]
        self._tokens, self._token_bounds = tokens.values.to_numpy(), tokens.offsets.to_numpy()
        self._image_bounds = images.offsets.to_numpy()
        self._images, self._keys = _Bytes(images.values), _Bytes(batch["image_keys"].values)
        self._spans = np.stack([side.fill_null(-1).to_numpy() for side in spans], axis=1)

    def read(self, row: int) -> Sequence:
        first, last = self._image_bounds[row : row + 2].tolist()
        start, end = self._token_bounds[row : row + 2].tolist()
        return Sequence(
            id=self._id[row].as_py(),
            tokens=self._tokens[start:end],
            images=[*self._images.slices(first, last)],
            image_keys=[str(key, "utf-8") for key in self._keys.slices(first, last)],
            anchors=[
                None if span[0] < 0 else (span[0], span[1]) for span in self._spans[first:last].tolist()
            ],
            source=self._source[row].as_py(),
            url=self._url[row].as_py(),
        )


class _Bytes:
    """A column of strings or of binaries."""

    def __init__(self, column: pa.Array) -> None:
        _, bounds, content = column.buffers()
        self._bounds = np.frombuffer(bounds or b"", np.int32)  # a column without values may have no buffers
        # Arrow's own bytes are signed: decoders refuse them, and they equal no bytes above 127
        self._content = memoryview(content or b"").cast("B").toreadonly()

    def slices(self, first: int, last: int) -> Iterator[memoryview]:
        """The values of these places; views."""
        bounds = self._bounds[first : last + 1].tolist()
        return (self._content[start:end] for start, end in pairwise(bounds))
