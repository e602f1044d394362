"""Rows of foreign files, one at a time: Parquet by small batches of a row group, JSON by the line.

A row that cannot be handed over is an error as a value; only a file that is torn as a whole raises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lcl_data.archives import Packed, lines
from lcl_data.sources import parse
from schemas.errors import ShardError, SourceError

_BUFFER_NBYTES = 1 << 20
Fields = dict[str, Any] | SourceError


@dataclass(frozen=True, slots=True)
class Found:
    """One upstream row.

    Attributes:
        place: of the row within its file, for the rejects.
        nbytes: it takes, about.
        fields: by name, or why there are none.
    """

    place: str
    nbytes: int
    fields: Fields


def parquet_rows(path: Path, columns: frozenset[str], batch_rows: int) -> Iterator[Found]:
    """Every row of a Parquet file; memory is that of a batch.

    Args:
        path: of the file.
        columns: it must have, besides which it may have others.
        batch_rows: decoded at a time.

    Raises:
        ShardError: the file is torn, no Parquet, or lacks one of the columns.
    """
    try:
        # By default Arrow reads ahead and keeps what it has read, in the end the whole file; with a buffer it
        # reads even a row group by pages.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_NBYTES) as file:
            if missing := columns - set(file.schema_arrow.names):
                raise ShardError(
                    f"{path}: no column {', '.join(sorted(missing))}; is it a file of this format?"
                )
            for place, (fields, nbytes) in enumerate(_batched(file, batch_rows)):
                yield Found(f":{place}", nbytes, fields)
    except (pa.ArrowException, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault, not the file's
        raise ShardError(
            f"{path}: torn or not Parquet ({error}); download it again and repeat the command"
        ) from error


def json_rows(packed: Packed, max_line_nbytes: int) -> Iterator[Found]:
    """Every line of a file of JSON lines, plain or packed.

    Raises:
        ShardError: the file is torn.
    """
    for member, number, line in lines(packed, max_line_nbytes):
        place = f"{f'!{member}' if member else ''}:{number}"
        yield Found(place, len(line or b""), json_fields(line, max_line_nbytes))


def json_fields(line: bytes | None, max_nbytes: int) -> Fields:
    """The fields of a JSON object, or the reason that there are none; `line` is None if it was too long."""
    if line is None:
        return SourceError("line_too_long", f"over {max_nbytes} bytes")
    try:
        fields = parse(line.removeprefix(b"\xef\xbb\xbf"), "line")
    except SourceError as error:
        return error
    return fields if isinstance(fields, dict) else SourceError("not_an_object", type(fields).__name__)


def _batched(file: pq.ParquetFile, batch_rows: int) -> Iterator[tuple[Fields, int]]:
    for batch in file.iter_batches(batch_rows):
        nbytes = batch.nbytes // max(1, batch.num_rows)
        yield from ((fields, nbytes) for fields in _decoded(batch))


def _decoded(batch: pa.RecordBatch) -> list[Fields]:
    try:
        rows: list[Fields] = batch.to_pylist()
        return rows
    except ValueError as error:  # a string that is not UTF-8, a date that Python does not know
        if batch.num_rows == 1:
            return [SourceError("broken_value", str(error))]
    return [row for index in range(batch.num_rows) for row in _decoded(batch.slice(index, 1))]
