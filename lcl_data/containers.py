"""The two containers of the same rows: an Arrow IPC file to memory-map, and a WebDataset tar to stream.

Both are written row by row in bounded memory, and hold nothing but the rows: equal rows give equal bytes.
"""

import json
import struct
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import pyarrow as pa

from lcl_data.sequence import Row
from lcl_data.shards import SUFFIX, Container, SpecialTokens
from lcl_data.store import TarWriter
from schemas.sequences import SEQUENCES, TOKENS_KEY
from schemas.versions import SCHEMA_KEY

# A batch is what is held in memory while writing; reading is by row whatever its size.
_BATCH_ROWS = 256
_BATCH_NBYTES = 16 << 20
INDEX_SUFFIX = ".tar.idx"


class Writer(Protocol):
    """Takes the rows of one shard in order, then is closed."""

    def write(self, row: Row) -> None:
        """Append a row."""

    def close(self) -> None:
        """Complete the file."""


class ArrowWriter:
    """Writes `SEQUENCES` as an uncompressed Arrow IPC file."""

    def __init__(self, path: Path, special: SpecialTokens) -> None:
        metadata = {**SEQUENCES.metadata, TOKENS_KEY: special.to_json().encode()}
        self._schema = SEQUENCES.with_metadata(metadata)
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema)
        self._rows: list[Row] = []
        self._nbytes = 0

    def write(self, row: Row) -> None:
        """Append a row; batches go out as they fill."""
        self._rows.append(row)
        self._nbytes += row.sequence.tokens.nbytes + sum(map(len, row.sequence.images))
        if len(self._rows) >= _BATCH_ROWS or self._nbytes >= _BATCH_NBYTES:
            self._flush()

    def close(self) -> None:
        """Write the last batch and the footer."""
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(_batch(self._rows, self._schema))
        self._rows, self._nbytes = [], 0


class WebdatasetWriter:
    """Writes `<id>.json`, `<id>.0.jpg`, ... as a tar, and where each sample begins as `.tar.idx`.

    The index is Energon's: little-endian uint64 offsets, one per sample and one for the end.
    """

    def __init__(self, path: Path, index: Path, special: SpecialTokens) -> None:
        self._file = path.open("wb")
        self._tar = TarWriter(self._file)
        self._index = index.open("wb")
        self._head = {
            "schema": SEQUENCES.metadata[SCHEMA_KEY].decode(),
            "special_tokens": json.loads(special.to_json()),
        }

    def write(self, row: Row) -> None:
        """Append a sample: its members lie side by side, the JSON first."""
        self._mark()
        sequence = row.sequence
        names = [f"{number}.{_extension(image)}" for number, image in enumerate(sequence.images)]
        record = {**self._head, **_record(row, names)}
        content = orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)
        self._tar.add(f"{sequence.id}.json", content)
        for name, image in zip(names, sequence.images, strict=True):
            self._tar.add(f"{sequence.id}.{name}", bytes(image))

    def close(self) -> None:
        """Write the end of the archive."""
        self._mark()
        self._tar.close()
        self._file.close()
        self._index.close()

    def _mark(self) -> None:
        self._index.write(struct.pack("<Q", self._file.tell()))


def open_writers(
    containers: tuple[Container, ...], paths: dict[str, Path], special: SpecialTokens
) -> list[Writer]:
    """One writer per container.

    Args:
        containers: of `SUFFIX`.
        paths: where to write, by suffix; `suffixes_of` says which are needed.
        special: ids of the special tokens.
    """
    writers: list[Writer] = []
    if "arrow" in containers:
        writers.append(ArrowWriter(paths[SUFFIX["arrow"]], special))
    if "webdataset" in containers:
        writers.append(WebdatasetWriter(paths[SUFFIX["webdataset"]], paths[INDEX_SUFFIX], special))
    return writers


def suffixes_of(containers: tuple[Container, ...]) -> list[str]:
    """The files of one shard: its containers, and the tar's index."""
    suffixes = [SUFFIX[container] for container in containers]
    return [*suffixes, INDEX_SUFFIX] if "webdataset" in containers else suffixes


def _record(row: Row, names: list[str]) -> dict[str, Any]:
    """OBELICS' parallel lists, then what the Arrow row holds."""
    sequence = row.sequence
    waiting = iter(names)
    return {
        "id": sequence.id,
        "source": sequence.source,
        "url": sequence.url,
        "texts": row.texts,
        "images": [next(waiting) if text is None else None for text in row.texts],
        "tokens": sequence.tokens,
        "anchors": sequence.anchors,
        "anchor_texts": row.anchor_texts,
        "image_keys": sequence.image_keys,
    }


def _extension(image: bytes | memoryview) -> str:
    head = bytes(image[:12])
    if head.startswith(b"\x89PNG"):
        return "png"
    return "webp" if head[8:] == b"WEBP" else "jpg"


def _batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    sequences = [row.sequence for row in rows]
    spans = [span for sequence in sequences for span in sequence.anchors]
    anchors = [None if span is None else {"start": span[0], "end": span[1]} for span in spans]
    images = [image for sequence in sequences for image in sequence.images]
    keys = [key for sequence in sequences for key in sequence.image_keys]
    offsets = _offsets([len(sequence.images) for sequence in sequences])
    columns = [
        pa.array([sequence.id for sequence in sequences], pa.string()),
        pa.ListArray.from_arrays(
            _offsets([len(sequence.tokens) for sequence in sequences]),
            pa.array(np.concatenate([sequence.tokens for sequence in sequences])),
        ),
        pa.ListArray.from_arrays(offsets, pa.array(images, pa.binary())),
        pa.ListArray.from_arrays(offsets, pa.array(keys, pa.string())),
        pa.ListArray.from_arrays(offsets, pa.array(anchors, schema.field("anchors").type.value_type)),
        pa.array([sequence.source for sequence in sequences], pa.string()),
        pa.array([sequence.url for sequence in sequences], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _offsets(sizes: list[int]) -> pa.Array:
    return pa.array(np.cumsum([0, *sizes]), pa.int32())
